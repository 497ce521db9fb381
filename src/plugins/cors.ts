/**
 * cors: answers preflight requests and adds the CORS headers that let browsers read answers from other origins.
 *
 * Runs on workers: rewrite phase (every OPTIONS request is answered 200 here, before authentication) and headerFilter (headers on
 * any answer, the gateway's own included). State: none. Failure: an origin that is not allowed gets no CORS headers, nothing else.
 *
 * On an allowed origin the CORS headers of the upstream are overwritten, and its Access-Control-Allow-Credentials is removed unless
 * `allow_credential` is on: whether credentials may travel is decided in one place.
 */
import {
  definePlugin,
  type Exchange,
  type HeaderList,
  itemProblems,
  type Json,
  type LinkKit,
  type Pattern,
  type PluginInstance,
  type PluginProblem,
  type PrepareKit,
  patternProblem,
  type Reply,
  type Static,
  Type,
} from './plugin.js'

const ORIGINS = '^(\\*|\\*\\*|null|\\w+://[^,\\s]+(,\\w+://[^,\\s]+)*)$'
const HEADER_TEXT = '^[ -~]*$'

const regexes = (description: string) =>
  Type.Optional(Type.Array(Type.String({ minLength: 1, maxLength: 4096 }), { minItems: 1, uniqueItems: true, description }))

const schema = Type.Object({
  allow_origins: Type.String({
    pattern: ORIGINS,
    default: '*',
    description:
      'Origins that may read answers: `*` (any, without credentials), `**` (any, by repeating the Origin of the request), `null`, ' +
      'or `scheme://host[:port]` items separated by commas, without spaces.',
  }),
  allow_methods: Type.String({
    pattern: HEADER_TEXT,
    default: '*',
    description: 'Methods allowed across origins, separated by commas; `*` = any, `**` = all methods by name.',
  }),
  allow_headers: Type.String({
    pattern: HEADER_TEXT,
    default: '*',
    description:
      'Request headers allowed across origins, separated by commas; `*` = any, `**` = those that the preflight request asks for.',
  }),
  expose_headers: Type.Optional(
    Type.String({
      pattern: HEADER_TEXT,
      description: 'Response headers that scripts may read, separated by commas. Unset or empty: not sent.',
    }),
  ),
  max_age: Type.Integer({
    minimum: -1,
    default: 5,
    description: 'Seconds for which a browser may keep the answer to a preflight request; -1 switches that off.',
  }),
  allow_credential: Type.Boolean({
    default: false,
    description: 'Let requests across origins carry cookies and other credentials. No other option may be `*` then.',
  }),
  allow_origins_by_regex: regexes('Regular expressions for origins that may read answers; replaces `allow_origins`.'),
  allow_origins_by_metadata: Type.Optional(
    Type.Array(Type.String({ minLength: 1, maxLength: 4096 }), {
      minItems: 1,
      uniqueItems: true,
      description: 'Keys of `allow_origins` in the metadata of this plugin: the origins named there are allowed too.',
    }),
  ),
  timing_allow_origins: Type.Optional(
    Type.String({ pattern: ORIGINS, description: 'Origins that may read resource timings, written as in `allow_origins`. Unset: none.' }),
  ),
  timing_allow_origins_by_regex: regexes(
    'Regular expressions for origins that may read resource timings; replaces `timing_allow_origins`.',
  ),
})
type Conf = Static<typeof schema>

const metadataSchema = Type.Object({
  allow_origins: Type.Optional(
    Type.Record(Type.String(), Type.String({ pattern: ORIGINS }), {
      description: 'Lists of origins by key, each written as the option `allow_origins`, for use through `allow_origins_by_metadata`.',
    }),
  ),
})

interface Prepared {
  readonly conf: Conf
  /** The lists that allow_origins_by_metadata names. */
  readonly metadataOrigins: string[]
  /** Keys without a list, for a warning. */
  readonly unknownKeys: string[]
}

export const cors = definePlugin<Conf, Prepared>({
  name: 'cors',
  priority: 4000,
  description: 'Cross-origin resource sharing: answers preflight requests and adds the CORS headers.',
  schema,
  metadataSchema,
  check,
  prepare,
  link,
})

function check(conf: Conf): PluginProblem[] {
  const problems = [
    ...itemProblems('allow_origins_by_regex', conf.allow_origins_by_regex, patternProblem),
    ...itemProblems('timing_allow_origins_by_regex', conf.timing_allow_origins_by_regex, patternProblem),
  ]
  if (!conf.allow_credential) return problems
  for (const field of ['allow_origins', 'allow_methods', 'allow_headers', 'expose_headers'] as const) {
    if (conf[field] !== '*') continue
    return [...problems, { path: field, message: "you can not set '*' for other option when 'allow_credential' is true" }]
  }
  return problems
}

function prepare(conf: Conf, kit: PrepareKit): Prepared {
  const lists = metadataLists(kit.metadata)
  const keys = conf.allow_origins_by_metadata ?? []
  return {
    conf,
    metadataOrigins: keys.flatMap((key) => lists.get(key) ?? []),
    unknownKeys: keys.filter((key) => !lists.has(key)),
  }
}

function metadataLists(metadata: Json): ReadonlyMap<string, string> {
  const lists = new Map<string, string>()
  if (typeof metadata !== 'object' || metadata === null || Array.isArray(metadata)) return lists
  const origins = metadata['allow_origins']
  if (typeof origins !== 'object' || origins === null || Array.isArray(origins)) return lists
  for (const [key, list] of Object.entries(origins)) if (typeof list === 'string') lists.set(key, list)
  return lists
}

function link(prepared: Prepared, kit: LinkKit): PluginInstance {
  const { conf } = prepared
  if (prepared.unknownKeys.length > 0) {
    kit.log('warn', `cors: plugin_metadata has no allow_origins named ${prepared.unknownKeys.join(', ')}: no origin is allowed by them`)
  }
  const slot = kit.slot()
  const allow = allowedOrigin(conf, prepared.metadataOrigins, kit)
  const timing = timingOrigin(conf, kit)
  const answerVaries = conf.allow_origins !== '*' || conf.allow_origins_by_regex !== undefined || timing.varies
  const write = headerWriter(conf)
  return {
    rewrite(exchange: Exchange): Reply | undefined {
      // Kept, because later plugins may change what the upstream gets to see as Origin.
      exchange.setSlot(slot, exchange.requestHeaders.get('origin') ?? '')
      return exchange.method === 'OPTIONS' ? PREFLIGHT : undefined
    },
    headerFilter(exchange: Exchange): void {
      const kept = exchange.getSlot(slot)
      const origin = typeof kept === 'string' ? kept : (exchange.requestHeaders.get('origin') ?? '')
      const headers = exchange.response.headers
      if (answerVaries) addVaryOrigin(headers)
      const allowed = allow(origin)
      if (allowed !== '') write(headers, allowed, exchange.requestHeaders)
      const mayTime = timing.origin(origin)
      if (mayTime !== '') headers.set('Timing-Allow-Origin', mayTime)
    },
  }
}

const PREFLIGHT: Reply = { status: 200 }

/** What to send as allowed origin for a request's Origin (empty = it had none); empty = not allowed. */
type OriginRule = (origin: string) => string

function allowedOrigin(conf: Conf, metadataOrigins: readonly string[], kit: LinkKit): OriginRule {
  const first = conf.allow_origins_by_regex === undefined ? originList(conf.allow_origins) : originRegexes(conf.allow_origins_by_regex, kit)
  const others = metadataOrigins.map(originList)
  if (others.length === 0) return first
  return (origin) => {
    const allowed = first(origin)
    if (allowed !== '' || origin === '') return allowed
    return others.some((rule) => rule(origin) !== '') ? origin : ''
  }
}

function timingOrigin(conf: Conf, kit: LinkKit): { readonly origin: OriginRule; readonly varies: boolean } {
  if (conf.timing_allow_origins_by_regex !== undefined) {
    return { origin: originRegexes(conf.timing_allow_origins_by_regex, kit), varies: true }
  }
  const origins = conf.timing_allow_origins
  return origins === undefined ? { origin: () => '', varies: false } : { origin: originList(origins), varies: origins !== '*' }
}

function originList(origins: string): OriginRule {
  if (origins === '*') return () => '*'
  if (origins === '**') return (origin) => (origin === '' ? '*' : origin)
  // Browsers send scheme and host in lower case.
  const listed = new Set(origins.toLowerCase().split(','))
  return (origin) => (listed.has(origin.toLowerCase()) ? origin : '')
}

function originRegexes(sources: readonly string[], kit: LinkKit): OriginRule {
  const patterns: Pattern[] = sources.map((source) => kit.pattern(source))
  return (origin) => (origin !== '' && patterns.some((pattern) => pattern.test(origin)) ? origin : '')
}

function headerWriter(conf: Conf): (headers: HeaderList, allowed: string, request: HeaderList) => void {
  const methods = conf.allow_methods === '**' ? 'GET,POST,PUT,DELETE,PATCH,HEAD,OPTIONS,CONNECT,TRACE' : conf.allow_methods
  const maxAge = String(conf.max_age)
  const exposed = conf.expose_headers ?? ''
  return (headers, allowed, request) => {
    headers.set('Access-Control-Allow-Origin', allowed)
    headers.set('Access-Control-Allow-Methods', methods)
    headers.set('Access-Control-Max-Age', maxAge)
    if (exposed !== '') headers.set('Access-Control-Expose-Headers', exposed)
    const allowHeaders = conf.allow_headers === '**' ? request.get('access-control-request-headers') : conf.allow_headers
    if (allowHeaders === undefined) headers.remove('access-control-allow-headers')
    else headers.set('Access-Control-Allow-Headers', allowHeaders)
    if (conf.allow_credential) headers.set('Access-Control-Allow-Credentials', 'true')
    else headers.remove('access-control-allow-credentials')
  }
}

/** Adds a line of its own, as the upstream may have varied on other fields, unless Origin (or everything) is named already. */
function addVaryOrigin(headers: HeaderList): void {
  for (let index = 0; index < headers.count; index++) {
    if (headers.keys[index] === 'vary' && /(?:^|,)\s*(?:origin|\*)\s*(?:,|$)/i.test(headers.values[index] ?? '')) return
  }
  headers.add('Vary', 'Origin')
}
