/**
 * response-rewrite: changes status, headers and body of answers.
 *
 * Runs on workers in headerFilter, on answers of the upstream and of the gateway (401, 404, …). No state. Filters collect the body up
 * to 64 MiB (502 beyond) and inflate it when it comes in gzip, deflate or br; a body in another coding is left as it is. A body whose
 * coding is broken fails the answer.
 */
import { isUtf8 } from 'node:buffer'
import { promisify } from 'node:util'
import { brotliDecompress, gunzip, inflate } from 'node:zlib'
import {
  definePlugin,
  type Exchange,
  expressionProblem,
  fieldNameProblem,
  fieldValue,
  type Json,
  type LinkKit,
  type Pattern,
  type PluginProblem,
  patternProblem,
  type ResponseView,
  type Static,
  type Template,
  Type,
  templateProblem,
} from './plugin.js'

/** Bytes of a body that filters may work on, as received and as inflated. */
const maxFilteredBytes = 64 * 1024 * 1024

const scalar = Type.Union([Type.String(), Type.Number()])

const schema = Type.Object({
  status_code: Type.Optional(Type.Integer({ description: 'Status to answer with.', minimum: 200, maximum: 598 })),
  body: Type.Optional(Type.String({ description: 'Body to answer with. Not together with `filters`.' })),
  body_base64: Type.Boolean({ description: '`body` is Base64 and decoded before it is sent.', default: false }),
  headers: Type.Optional(
    Type.Object(
      {
        add: Type.Optional(
          Type.Array(Type.String({ pattern: '^[^:]+:' }), { description: 'Lines `Name: value` to append. Applied first.', minItems: 1 }),
        ),
        set: Type.Optional(Type.Record(Type.String(), scalar, { description: 'Headers to replace or create. Applied after `add`.' })),
        remove: Type.Optional(Type.Array(Type.String(), { description: 'Names of headers to remove. Applied last.', minItems: 1 })),
      },
      {
        description: 'Changes of response headers. Values may hold variables. A flat map of names and values is the older form of `set`.',
        additionalProperties: scalar,
      },
    ),
  ),
  vars: Type.Optional(
    Type.Array(Type.Unknown(), {
      description:
        'Expression in the language of `vars`, evaluated on the answer (`["status", "==", 200]`): the plugin acts only if it holds.',
    }),
  ),
  filters: Type.Optional(
    Type.Array(
      Type.Object({
        regex: Type.String({ description: 'Pattern to find in the body.', minLength: 1 }),
        scope: Type.Union([Type.Literal('once'), Type.Literal('global')], {
          description: 'Replace the first match or all of them.',
          default: 'once',
        }),
        replace: Type.String({ description: 'What to put in place of a match; `$1` to `$9` are captures, `$0` the match.' }),
        options: Type.String({
          description:
            'Options of the pattern: `i` ignores case, `s` lets `.` match line ends, `m` anchors at lines; `j` and `o` change nothing.',
          default: 'jo',
          pattern: '^[joism]*$',
        }),
      }),
      { description: 'Changes of the body by patterns, applied in order. Not together with `body`.', minItems: 1 },
    ),
  ),
})

type Conf = Static<typeof schema>
type Field = readonly [name: string, value: string]

interface Filter {
  readonly pattern: string
  readonly ignoreCase: boolean
  readonly all: boolean
  readonly replace: string
}

interface Prepared {
  readonly status: number
  /** Base64, or null. */
  readonly body: string | null
  readonly add: readonly Field[]
  readonly set: readonly Field[]
  readonly remove: string[]
  readonly vars: Json
  readonly filters: Filter[]
}

export const responseRewrite = definePlugin<Conf, Prepared>({
  name: 'response-rewrite',
  priority: 899,
  description: 'Changes status, headers and body of answers, those of the gateway itself included.',
  schema,
  check,
  prepare: (conf) => ({
    status: conf.status_code ?? 0,
    body: conf.body === undefined ? null : Buffer.from(conf.body, conf.body_base64 ? 'base64' : 'utf8').toString('base64'),
    ...headerChanges(conf.headers),
    vars: (conf.vars ?? null) as Json,
    filters: (conf.filters ?? []).map(({ regex, scope, replace, options }) => ({
      pattern: withOptions(regex, options),
      ignoreCase: options.includes('i'),
      all: scope === 'global',
      replace,
    })),
  }),
  link: (prepared, kit) => {
    const { status } = prepared
    const applies = prepared.vars === null ? null : kit.expression(prepared.vars)
    const changeHeaders = linkHeaders(prepared, kit)
    const body = prepared.body === null ? null : Buffer.from(prepared.body, 'base64')
    const filterBody = prepared.filters.length === 0 ? null : linkFilters(prepared.filters, kit)
    return {
      headerFilter(exchange) {
        if (applies !== null && !applies(exchange)) return
        const { response } = exchange
        if (status !== 0) response.status = status
        if (body !== null) response.replaceBody(body)
        else if (filterBody !== null) arrangeFilters(response, filterBody)
        changeHeaders(exchange)
      },
    }
  },
})

function check(conf: Conf): PluginProblem[] {
  const problems: PluginProblem[] = []
  if (conf.body !== undefined && conf.filters !== undefined)
    problems.push({ path: 'filters', message: 'body and filters are both configured; expected at most one of them' })
  if (conf.body_base64 && !isBase64(conf.body ?? ''))
    problems.push({ path: 'body', message: 'invalid base64 content; expected Base64 text, because body_base64 is true' })
  if (conf.vars !== undefined) {
    const problem = expressionProblem(conf.vars as Json)
    if (problem !== null) problems.push({ path: 'vars', message: problem })
  }
  for (const [index, { regex, options }] of (conf.filters ?? []).entries()) {
    const problem = patternProblem(withOptions(regex, options))
    if (problem !== null) problems.push({ path: `filters.${index}.regex`, message: problem })
  }
  problems.push(...headerProblems(conf.headers ?? {}))
  return problems
}

function isBase64(text: string): boolean {
  return text !== '' && text.length % 4 === 0 && /^[A-Za-z0-9+/]+={0,2}$/.test(text)
}

function withOptions(regex: string, options: string): string {
  const inline = (options.includes('s') ? 's' : '') + (options.includes('m') ? 'm' : '')
  return inline === '' ? regex : `(?${inline})${regex}`
}

function headerProblems(headers: NonNullable<Conf['headers']>): PluginProblem[] {
  const flat = Object.keys(headers).filter((name) => name !== 'add' && name !== 'set' && name !== 'remove')
  const isStructured = flat.length < Object.keys(headers).length
  if (isStructured && flat.length > 0)
    return [{ path: `headers.${flat[0]}`, message: 'stands beside add, set or remove; expected one form: put it under set' }]
  const changes = headerChanges(headers)
  const prefix = isStructured ? 'headers.set' : 'headers'
  return [
    ...changes.add.map(([name, value], index) => ({ path: `headers.add.${index}`, name, value })),
    ...changes.set.map(([name, value]) => ({ path: `${prefix}.${name}`, name, value })),
    ...changes.remove.map((name, index) => ({ path: `headers.remove.${index}`, name, value: '' })),
  ].flatMap(({ path, name, value }) => {
    const message = fieldNameProblem(name) ?? templateProblem(value)
    return message === null ? [] : [{ path, message }]
  })
}

/** Both forms of `headers` as one. */
function headerChanges(headers: Conf['headers'] = {}): Pick<Prepared, 'add' | 'set' | 'remove'> {
  const { add, set, remove, ...flat } = headers
  const isStructured = add !== undefined || set !== undefined || remove !== undefined
  return {
    add: (add ?? []).map((line): Field => {
      const colon = line.indexOf(':')
      return [line.slice(0, colon).trim(), line.slice(colon + 1).trim()]
    }),
    set: Object.entries(isStructured ? (set ?? {}) : flat).map(([name, value]): Field => [name, String(value)]),
    remove: (remove ?? []).map((name) => name.toLowerCase()),
  }
}

function linkHeaders({ add, set, remove }: Prepared, kit: LinkKit): (exchange: Exchange) => void {
  const compile = (list: readonly Field[]) => list.map(([name, value]): readonly [string, Template] => [name, kit.template(value)])
  const added = compile(add)
  const replaced = compile(set)
  return (exchange) => {
    const { headers } = exchange.response
    for (const [name, value] of added) headers.add(name, fieldValue(value(exchange)))
    for (const [name, value] of replaced) headers.set(name, fieldValue(value(exchange)))
    for (const key of remove) headers.remove(key)
  }
}

type FilterBody = (body: Buffer) => Buffer

function linkFilters(filters: readonly Filter[], kit: LinkKit): FilterBody {
  const compiled = filters.map(({ pattern, ignoreCase, all, replace }) => ({ pattern: kit.pattern(pattern, { ignoreCase }), all, replace }))
  return (body) => {
    // Bytes that are not UTF-8 must come out as they went in: Latin-1 maps each byte to one character and back.
    const encoding = isUtf8(body) ? 'utf8' : 'latin1'
    let text = body.toString(encoding)
    for (const filter of compiled) text = replaceIn(text, filter, encoding)
    return Buffer.from(text, encoding)
  }
}

function replaceIn(text: string, filter: { pattern: Pattern; all: boolean; replace: string }, encoding: 'utf8' | 'latin1'): string {
  const replacement = encoding === 'utf8' ? filter.replace : Buffer.from(filter.replace, 'utf8').toString('latin1')
  return filter.pattern.replace(text, replacement, filter.all)
}

const decoders: { readonly [coding: string]: (body: Buffer) => Promise<Buffer> } = {
  gzip: (body) => promisify(gunzip)(body, { maxOutputLength: maxFilteredBytes }),
  deflate: (body) => promisify(inflate)(body, { maxOutputLength: maxFilteredBytes }),
  br: (body) => promisify(brotliDecompress)(body, { maxOutputLength: maxFilteredBytes }),
}

function arrangeFilters(response: ResponseView, filterBody: FilterBody): void {
  const coding = (response.headers.get('content-encoding') ?? '').trim().toLowerCase()
  if (coding === '' || coding === 'identity') {
    response.collectBody(maxFilteredBytes, filterBody)
    return
  }
  const decode = decoders[coding === 'x-gzip' ? 'gzip' : coding]
  if (decode === undefined) return
  response.collectBody(maxFilteredBytes, (body) => (body.length === 0 ? body : decode(body).then(filterBody)))
}
