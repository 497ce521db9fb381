/**
 * proxy-rewrite: changes path, query, method, host and headers of the request before it goes upstream.
 *
 * Runs on workers in the rewrite phase. No state. Templates that do not resolve give empty text; a `regex_uri` that does not match
 * leaves the path as it is. Nothing here can fail at run time: patterns and header names are checked when the configuration loads.
 */
import {
  aroundMatch,
  definePlugin,
  type Exchange,
  encodePath,
  encodeQuery,
  fieldNameProblem,
  fieldValue,
  type LinkKit,
  type Pattern,
  type PluginProblem,
  patternProblem,
  type RegExpLikeMatch,
  removeDotSegments,
  type Static,
  splitTarget,
  type Template,
  Type,
  templateProblem,
} from './plugin.js'

const scalar = Type.Union([Type.String(), Type.Number()])
const fieldValues = Type.Union([scalar, Type.Array(scalar, { minItems: 1 })])
const methods = 'GET POST PUT HEAD DELETE OPTIONS MKCOL COPY MOVE PROPFIND LOCK UNLOCK PATCH TRACE'.split(' ')

const schema = Type.Object({
  uri: Type.Optional(
    Type.String({
      description:
        'New path, written decoded, with variables (`/v2$uri`). What follows a `?` becomes the query, and the query of the client is appended to it. Wins over `regex_uri`.',
      minLength: 1,
      maxLength: 4096,
      pattern: '^/.*',
    }),
  ),
  regex_uri: Type.Optional(
    Type.Array(Type.String({ maxLength: 4096 }), {
      description:
        'Pairs of pattern and template. The first pattern that matches the decoded path has its match replaced; `$1` to `$9` are captures. No match leaves the path unchanged.',
      minItems: 2,
    }),
  ),
  host: Type.Optional(
    Type.String({
      description: 'Host sent to the upstream, with an optional port. Overrides `pass_host` of the upstream.',
      pattern: '^[0-9a-zA-Z-.]+(:\\d{1,5})?$',
    }),
  ),
  method: Type.Optional(
    Type.Union(
      methods.map((method) => Type.Literal(method)),
      { description: 'Method sent to the upstream.' },
    ),
  ),
  headers: Type.Optional(
    Type.Object(
      {
        add: Type.Optional(
          Type.Record(Type.String(), fieldValues, { description: 'Header lines to append; a list gives several lines. Applied first.' }),
        ),
        set: Type.Optional(Type.Record(Type.String(), fieldValues, { description: 'Headers to replace or create. Applied after `add`.' })),
        remove: Type.Optional(Type.Array(Type.String(), { description: 'Names of headers to remove. Applied last.' })),
      },
      {
        description:
          'Changes of request headers. Values may hold variables and captures of `regex_uri`. A flat map of names and values is the older form of `set`.',
        additionalProperties: fieldValues,
      },
    ),
  ),
  use_real_request_uri_unsafe: Type.Boolean({
    description: 'Work on the target exactly as the client sent it and send the result without encoding it again.',
    default: false,
  }),
})

type Conf = Static<typeof schema>
type Fields = { readonly name: string; readonly values: string[] }[]

interface Prepared {
  readonly uri: string | null
  readonly regexUri: string[]
  readonly host: string
  readonly method: string
  readonly add: Fields
  readonly set: Fields
  readonly remove: string[]
  readonly raw: boolean
}

export const proxyRewrite = definePlugin<Conf, Prepared>({
  name: 'proxy-rewrite',
  priority: 1008,
  description: 'Changes path, query, method, host and headers of requests before they are sent to the upstream.',
  schema,
  check,
  prepare: (conf) => {
    const headers = headerChanges(conf.headers)
    return {
      uri: conf.uri ?? null,
      regexUri: conf.uri === undefined ? (conf.regex_uri ?? []) : [],
      host: conf.host ?? '',
      method: conf.method ?? '',
      add: fields(headers.add),
      set: fields(headers.set),
      remove: headers.remove.map((name) => name.toLowerCase()),
      raw: conf.use_real_request_uri_unsafe,
    }
  },
  link: (prepared, kit) => {
    const target = linkTarget(prepared, kit)
    const changeHeaders = linkHeaders(prepared, kit)
    return {
      rewrite(exchange) {
        const captures = target === null ? null : target(exchange)
        if (prepared.host !== '') exchange.upstreamHost = prepared.host
        if (prepared.method !== '') exchange.upstreamMethod = prepared.method
        if (changeHeaders !== null) changeHeaders(exchange, captures)
      },
    }
  },
})

function check(conf: Conf): PluginProblem[] {
  const problems: PluginProblem[] = []
  const { uri, regex_uri: pairs, host, method, headers, use_real_request_uri_unsafe: raw } = conf
  if (uri === undefined && pairs === undefined && host === undefined && method === undefined && headers === undefined && !raw)
    problems.push({ path: '', message: 'nothing to rewrite; expected at least one of uri, regex_uri, host, method, headers' })
  if (uri !== undefined) pushProblem(problems, 'uri', templateProblem(uri))
  if (pairs !== undefined) problems.push(...pairProblems(pairs))
  if (headers !== undefined) problems.push(...headerProblems(headers))
  return problems
}

function pairProblems(pairs: readonly string[]): PluginProblem[] {
  if (pairs.length % 2 !== 0)
    return [{ path: 'regex_uri', message: `has ${pairs.length} items; expected pairs of a pattern and a template` }]
  return pairs.flatMap((pattern, index) => {
    const problem = index % 2 === 0 ? patternProblem(pattern) : templateProblem(pattern)
    return problem === null ? [] : [{ path: `regex_uri.${index}`, message: problem }]
  })
}

function headerProblems(headers: NonNullable<Conf['headers']>): PluginProblem[] {
  const isStructured = headers.add !== undefined || headers.set !== undefined || headers.remove !== undefined
  const flat = Object.keys(headers).filter((name) => name !== 'add' && name !== 'set' && name !== 'remove')
  if (isStructured && flat.length > 0)
    return [{ path: `headers.${flat[0]}`, message: 'stands beside add, set or remove; expected one form: put it under set' }]
  const problems: PluginProblem[] = []
  const prefix = isStructured ? 'headers.set' : 'headers'
  const changes = headerChanges(headers)
  for (const field of fields(changes.set)) pushFieldProblems(problems, `${prefix}.${field.name}`, field)
  for (const field of fields(changes.add)) {
    const { name } = field
    pushFieldProblems(problems, `headers.add.${name}`, field)
    if (name.toLowerCase() === 'host')
      problems.push({ path: `headers.add.${name}`, message: 'a request has one Host; expected set or host' })
  }
  for (const [index, name] of changes.remove.entries()) {
    if (name.toLowerCase() === 'host') problems.push({ path: `headers.remove.${index}`, message: 'a request must have a Host' })
    pushProblem(problems, `headers.remove.${index}`, fieldNameProblem(name))
  }
  return problems
}

function pushFieldProblems(problems: PluginProblem[], path: string, field: Fields[number]): void {
  pushProblem(problems, path, fieldNameProblem(field.name))
  for (const value of field.values) pushProblem(problems, path, templateProblem(value))
}

function pushProblem(problems: PluginProblem[], path: string, message: string | null): void {
  if (message !== null) problems.push({ path, message })
}

type FieldMap = { readonly [name: string]: Static<typeof fieldValues> }

/** Both forms of `headers` as one. */
function headerChanges(headers: Conf['headers']): { add: FieldMap; set: FieldMap; remove: readonly string[] } {
  if (headers === undefined) return { add: {}, set: {}, remove: [] }
  const { add, set, remove, ...flat } = headers
  if (add === undefined && set === undefined && remove === undefined) return { add: {}, set: flat, remove: [] }
  return { add: add ?? {}, set: set ?? {}, remove: remove ?? [] }
}

function fields(map: FieldMap): Fields {
  return Object.entries(map).map(([name, value]) => ({ name, values: (Array.isArray(value) ? value : [value]).map(String) }))
}

type ChangeTarget = (exchange: Exchange) => RegExpLikeMatch | null

/** Compiles what writes upstreamPath and upstreamQuery; it returns the captures for the header templates. */
function linkTarget(prepared: Prepared, kit: LinkKit): ChangeTarget | null {
  const { uri, regexUri, raw } = prepared
  const read = raw ? (exchange: Exchange) => exchange.rawTarget : (exchange: Exchange) => exchange.path
  const write: WriteTarget = raw ? writeRaw : writeEncoded
  if (uri !== null) {
    const target = linkTemplate(uri, kit, raw)
    return (exchange) => {
      write(exchange, target.path(exchange, null), target.query === null ? null : target.query(exchange, null))
      return null
    }
  }
  if (regexUri.length > 0) return linkRegex(linkPairs(regexUri, kit, raw), read, write)
  if (!raw) return null
  return (exchange) => {
    writeRaw(exchange, exchange.rawTarget)
    return null
  }
}

interface TargetTemplate {
  readonly path: Template
  readonly query: Template | null
}

function linkTemplate(text: string, kit: LinkKit, raw: boolean): TargetTemplate {
  const { path, query } = raw ? { path: text, query: null } : splitTarget(text)
  const options = { captures: true }
  return { path: kit.template(path, options), query: query === null ? null : kit.template(query, options) }
}

interface Pair extends TargetTemplate {
  readonly pattern: Pattern
}

function linkPairs(regexUri: readonly string[], kit: LinkKit, raw: boolean): Pair[] {
  const pairs: Pair[] = []
  for (let index = 0; index + 1 < regexUri.length; index += 2) {
    const [pattern, template] = regexUri.slice(index, index + 2)
    if (pattern === undefined || template === undefined) continue
    pairs.push({ pattern: kit.pattern(pattern), ...linkTemplate(template, kit, raw) })
  }
  return pairs
}

function linkRegex(pairs: readonly Pair[], read: (exchange: Exchange) => string, write: WriteTarget): ChangeTarget {
  return (exchange) => {
    const input = read(exchange)
    for (const pair of pairs) {
      const captures = pair.pattern.exec(input)
      if (captures === null) continue
      // A match inside the path replaces only itself; what stands around it stays.
      const { before, after } = captures[0] === input ? { before: '', after: '' } : aroundMatch(pair.pattern, input)
      const path = before + pair.path(exchange, captures)
      if (pair.query === null) write(exchange, path + after, null)
      else write(exchange, path, pair.query(exchange, captures) + after)
      return captures
    }
    return null
  }
}

/** `query` null = the new target has none of its own. */
type WriteTarget = (exchange: Exchange, path: string, query: string | null) => void

function writeEncoded(exchange: Exchange, path: string, query: string | null): void {
  const encoded = removeDotSegments(encodePath(path))
  exchange.upstreamPath = encoded.startsWith('/') ? encoded : `/${encoded}`
  if (query === null) return
  const own = encodeQuery(query)
  exchange.upstreamQuery = exchange.upstreamQuery === '' ? own : `${own}&${exchange.upstreamQuery}`
}

/** The whole target as it is; only what cannot stand on a request line is encoded. */
function writeRaw(exchange: Exchange, target: string): void {
  const safe = encodeQuery(target)
  const mark = safe.indexOf('?')
  const path = mark < 0 ? safe : safe.slice(0, mark)
  exchange.upstreamPath = path.startsWith('/') ? path : `/${path}`
  exchange.upstreamQuery = mark < 0 ? '' : safe.slice(mark + 1)
}

type ChangeHeaders = (exchange: Exchange, captures: RegExpLikeMatch | null) => void

function linkHeaders(prepared: Prepared, kit: LinkKit): ChangeHeaders | null {
  const compile = (list: Fields) =>
    list.map(({ name, values }) => ({
      name,
      key: name.toLowerCase(),
      values: values.map((value) => kit.template(value, { captures: true })),
    }))
  const add = compile(prepared.add)
  const set = compile(prepared.set)
  const { remove } = prepared
  if (add.length === 0 && set.length === 0 && remove.length === 0) return null
  return (exchange, captures) => {
    const headers = exchange.requestHeaders
    for (const field of add) for (const value of field.values) headers.add(field.name, fieldValue(value(exchange, captures)))
    for (const field of set) {
      if (field.key === 'host') {
        exchange.upstreamHost = fieldValue(field.values[0]?.(exchange, captures) ?? '')
        continue
      }
      for (const [index, value] of field.values.entries()) {
        const text = fieldValue(value(exchange, captures))
        if (index === 0) headers.set(field.name, text)
        else headers.add(field.name, text)
      }
    }
    for (const key of remove) headers.remove(key)
  }
}
