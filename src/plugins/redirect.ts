/**
 * redirect: answers with a Location instead of asking the upstream.
 *
 * Runs on workers in the rewrite phase. No state. A `regex_uri` that does not match, and a request that already came by HTTPS, go on
 * to the upstream. The Location never holds control bytes, blanks or non-ASCII, whatever the variables bring.
 */
import {
  aroundMatch,
  definePlugin,
  type Exchange,
  encodePath,
  encodeQuery,
  type Json,
  type LinkKit,
  type PluginProblem,
  type PrepareKit,
  patternProblem,
  type Reply,
  type Static,
  Type,
  templateProblem,
} from './plugin.js'

const schema = Type.Object({
  uri: Type.Optional(
    Type.String({ description: 'Location to answer with; may hold variables: `https://$host/new$uri`.', minLength: 1, maxLength: 4096 }),
  ),
  regex_uri: Type.Optional(
    Type.Array(Type.String({ minLength: 1, maxLength: 4096 }), {
      description: 'A pattern and a template with `$1` to `$9`. The match in the decoded path is replaced; no match means no redirect.',
      minItems: 2,
      maxItems: 2,
    }),
  ),
  http_to_https: Type.Boolean({
    description:
      'Redirect plain HTTP to the same address by HTTPS: 301 for GET and HEAD, 308 otherwise. `X-Forwarded-Proto` counts as the scheme if present.',
    default: false,
  }),
  ret_code: Type.Integer({ description: 'Status of the answer; not for `http_to_https`.', default: 302, minimum: 200, maximum: 999 }),
  encode_uri: Type.Boolean({ description: 'Percent-encode the part of the Location before its query.', default: false }),
  append_query_string: Type.Boolean({
    description: 'Append the query of the request to the Location, with `?` or `&` as needed. Not with `http_to_https`.',
    default: false,
  }),
})

type Conf = Static<typeof schema>

interface Prepared {
  readonly uri: string | null
  readonly pattern: string | null
  /** Only http_to_https: `:port`, or empty for 443 and when no port is known. */
  readonly httpsPort: string
  readonly toHttps: boolean
  readonly status: number
  readonly encode: boolean
  readonly appendQuery: boolean
}

export const redirect = definePlugin<Conf, Prepared>({
  name: 'redirect',
  priority: 900,
  description: 'Redirects clients: to another address, by a pattern on the path, or from HTTP to HTTPS.',
  schema,
  check,
  prepare: (conf, kit) => ({
    uri: conf.uri ?? conf.regex_uri?.[1] ?? null,
    pattern: conf.regex_uri?.[0] ?? null,
    httpsPort: conf.http_to_https ? httpsPort(kit) : '',
    toHttps: conf.http_to_https,
    status: conf.ret_code,
    encode: conf.encode_uri,
    appendQuery: conf.append_query_string,
  }),
  link: (prepared, kit) => ({ rewrite: prepared.toHttps ? linkToHttps(prepared, kit) : linkRedirect(prepared, kit) }),
})

function check(conf: Conf): PluginProblem[] {
  const problems: PluginProblem[] = []
  const chosen = [conf.uri !== undefined, conf.regex_uri !== undefined, conf.http_to_https].filter(Boolean).length
  if (chosen !== 1)
    problems.push({ path: '', message: `${chosen} of uri, regex_uri and http_to_https are configured; expected exactly one` })
  if (conf.http_to_https && conf.append_query_string)
    problems.push({
      path: 'append_query_string',
      message: 'only one of `http_to_https` and `append_query_string` can be configured; http_to_https keeps the query anyway',
    })
  const pattern = conf.regex_uri?.[0]
  const problem = pattern === undefined ? null : patternProblem(pattern)
  if (problem !== null) problems.push({ path: 'regex_uri.0', message: problem })
  for (const [path, template] of [
    ['uri', conf.uri],
    ['regex_uri.1', conf.regex_uri?.[1]],
  ] as const) {
    const message = template === undefined ? null : templateProblem(template)
    if (message !== null) problems.push({ path, message })
  }
  return problems
}

/** `plugin_attr.redirect.https_port`, else a port on which the gateway listens with TLS, else none; 443 goes without saying. */
function httpsPort(kit: PrepareKit): string {
  const configured = field(kit.attributes, 'https_port')
  const port = typeof configured === 'number' ? configured : kit.tlsPorts[0]
  return port === undefined || port === 443 || port <= 0 || port > 65535 ? '' : `:${port}`
}

function field(value: Json, name: string): Json | undefined {
  return value !== null && typeof value === 'object' && !Array.isArray(value) ? value[name] : undefined
}

function linkToHttps(prepared: Prepared, kit: LinkKit): (exchange: Exchange) => Reply | undefined {
  const requestUri = kit.variable('request_uri')
  return (exchange) => {
    const forwarded = exchange.requestHeaders.get('x-forwarded-proto')
    const scheme = forwarded === undefined ? exchange.scheme : (forwarded.split(',', 1)[0] ?? '').trim().toLowerCase()
    if (scheme !== 'http') return undefined
    const keepsMethod = exchange.method !== 'GET' && exchange.method !== 'HEAD'
    const location = `https://${exchange.host}${prepared.httpsPort}${requestUri(exchange) ?? '/'}`
    return answer(keepsMethod ? 308 : 301, finish(location, prepared, exchange))
  }
}

function linkRedirect(prepared: Prepared, kit: LinkKit): (exchange: Exchange) => Reply | undefined {
  const template = kit.template(prepared.uri ?? '', { captures: prepared.pattern !== null })
  if (prepared.pattern === null) return (exchange) => answer(prepared.status, finish(template(exchange), prepared, exchange))
  const pattern = kit.pattern(prepared.pattern)
  return (exchange) => {
    const captures = pattern.exec(exchange.path)
    if (captures === null) return undefined
    const { before, after } = captures[0] === exchange.path ? { before: '', after: '' } : aroundMatch(pattern, exchange.path)
    return answer(prepared.status, finish(before + template(exchange, captures) + after, prepared, exchange))
  }
}

function finish(location: string, prepared: Prepared, exchange: Exchange): string {
  const mark = location.indexOf('?')
  const path = mark < 0 ? location : location.slice(0, mark)
  const query = mark < 0 ? '' : location.slice(mark)
  const target = (prepared.encode ? encodePath(path) : encodeQuery(path)) + encodeQuery(query)
  if (!prepared.appendQuery || exchange.query === '') return target
  return `${target}${mark < 0 ? '?' : '&'}${exchange.query}`
}

function answer(status: number, location: string): Reply {
  return { status, body: '', headers: [['Location', location]] }
}
