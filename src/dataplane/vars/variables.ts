/**
 * Variables: `remote_addr`, `arg_x`, `http_x`, … as closures over the exchange, made once when a route is linked.
 *
 * An accessor does no more per request than its variable needs. Unset variables and unknown names give undefined.
 */
import { hostname } from 'node:os'
import { cookieValue, decodedPath, queryValue, queryValues } from '../../base/request-values.js'
import type { Accessor, Exchange } from '../../plugins/plugin.js'
import { matchHostPattern, matchUriPattern, readHostPattern, readUriPattern } from '../../schema/uri-pattern.js'
import { variableProblem } from '../../schema/variable-name.js'

const hostName = hostname()

function orUnset(value: string): string | undefined {
  return value === '' ? undefined : value
}

/** `uri` follows rewriting, as in nginx. */
function uri(exchange: Exchange): string {
  return exchange.upstreamPath === '' ? exchange.path : decodedPath(exchange.upstreamPath)
}

function requestUri(exchange: Exchange): string {
  const path = exchange.upstreamPath === '' ? exchange.path : exchange.upstreamPath
  return exchange.upstreamQuery === '' ? path : `${path}?${exchange.upstreamQuery}`
}

/** Splits `address:port`; IPv6 addresses are in brackets there. */
function nodePart(exchange: Exchange, part: 'address' | 'port'): string | undefined {
  const node = exchange.upstreamAddress
  const colon = node.lastIndexOf(':')
  if (colon < 0) return part === 'address' ? orUnset(node) : undefined
  return part === 'address' ? node.slice(0, colon).replace(/^\[|\]$/g, '') : node.slice(colon + 1)
}

/** The pattern of the route that this path matches; of several the longest. */
function matchedUri(exchange: Exchange): string | undefined {
  const uris = exchange.route?.uris
  if (uris === undefined || uris.length < 2) return uris?.[0]
  // Values were captured exactly if the pattern that matched has names; in other modes a name is ordinary text.
  const mode = exchange.uriParams === null ? 'radixtree_uri' : 'radixtree_uri_with_parameter'
  let found: string | undefined
  for (const uri of uris) {
    if (uri === exchange.path) return uri
    if (matchUriPattern(readUriPattern(uri, mode), exchange.path) === null) continue
    if (found === undefined || uri.length > found.length) found = uri
  }
  return found
}

/** The host of the route that this request's host matches: exact, else the longest wildcard. */
function matchedHost(exchange: Exchange): string | undefined {
  let found: string | undefined
  for (const host of exchange.route?.hosts ?? []) {
    const pattern = readHostPattern(host)
    if (!matchHostPattern(pattern, exchange.host, exchange.hostHeader.toLowerCase())) continue
    if (!pattern.isSuffix) return host
    if (found === undefined || host.length > found.length) found = host
  }
  return found
}

const fixed: ReadonlyMap<string, Accessor> = new Map<string, Accessor>([
  ['remote_addr', (exchange) => exchange.clientAddress],
  ['remote_port', (exchange) => (exchange.clientPort === 0 ? undefined : String(exchange.clientPort))],
  ['realip_remote_addr', (exchange) => exchange.peerAddress],
  ['host', (exchange) => exchange.host],
  ['http_host', (exchange) => exchange.hostHeader],
  ['hostname', () => hostName],
  ['uri', uri],
  ['document_uri', uri],
  ['request_uri', requestUri],
  ['real_request_uri', (exchange) => exchange.rawTarget],
  ['args', (exchange) => orUnset(exchange.upstreamQuery)],
  ['query_string', (exchange) => orUnset(exchange.upstreamQuery)],
  ['is_args', (exchange) => (exchange.upstreamQuery === '' ? '' : '?')],
  ['request_method', (exchange) => exchange.method],
  ['method', (exchange) => exchange.method],
  ['scheme', (exchange) => exchange.scheme],
  ['https', (exchange) => (exchange.scheme === 'https' ? 'on' : undefined)],
  ['server_addr', (exchange) => orUnset(exchange.serverAddress ?? '')],
  ['server_port', (exchange) => String(exchange.serverPort)],
  ['status', (exchange) => (exchange.response.status === 0 ? undefined : String(exchange.response.status))],
  ['body_bytes_sent', (exchange) => String(exchange.bodyBytesSent)],
  ['request_time', (exchange) => (exchange.elapsedMs() / 1000).toFixed(3)],
  ['msec', (exchange) => (exchange.startedAtMs / 1000).toFixed(3)],
  ['time_iso8601', (exchange) => new Date(exchange.startedAtMs).toISOString()],
  ['upstream_addr', (exchange) => orUnset(exchange.upstreamAddress)],
  ['upstream_status', (exchange) => orUnset(exchange.upstreamStatus)],
  ['upstream_response_time', (exchange) => (exchange.upstreamResponseMs < 0 ? undefined : (exchange.upstreamResponseMs / 1000).toFixed(3))],
  ['upstream_uri', requestUri],
  ['balancer_ip', (exchange) => nodePart(exchange, 'address')],
  ['balancer_port', (exchange) => nodePart(exchange, 'port')],
  ['content_type', headerAccessor('content-type')],
  ['content_length', headerAccessor('content-length')],
  ['consumer_name', (exchange) => orUnset(exchange.consumerName)],
  ['consumer_group_id', (exchange) => orUnset(exchange.consumerGroupId)],
  ['credential_id', (exchange) => orUnset(exchange.credentialId)],
  ['route_id', (exchange) => orUnset(exchange.route?.id ?? '')],
  ['route_name', (exchange) => orUnset(exchange.route?.name ?? '')],
  ['service_id', (exchange) => orUnset(exchange.route?.serviceId ?? '')],
  ['service_name', (exchange) => orUnset(exchange.route?.serviceName ?? '')],
  ['matched_uri', matchedUri],
  ['matched_host', matchedHost],
  ['request_id', (exchange) => orUnset(exchange.requestId)],
  ['apisix_request_id', (exchange) => orUnset(exchange.requestId)],
])

function headerAccessor(key: string): Accessor {
  return (exchange) => joinedHeader(exchange.requestHeaders, key)
}

/** Several lines of one field are one value, joined by a comma as HTTP has it. */
function joinedHeader(headers: Exchange['requestHeaders'], key: string): string | undefined {
  let joined: string | undefined
  for (let index = 0; index < headers.count; index++) {
    if (headers.keys[index] !== key) continue
    joined = joined === undefined ? headers.values[index] : `${joined}, ${headers.values[index]}`
  }
  return joined
}

function headerKey(name: string): string {
  return name.toLowerCase().replaceAll('_', '-')
}

/** Access to a variable. Throws Error for variables that are not supported (those that need the body), naming them. */
export function compileVariable(name: string): Accessor {
  const problem = variableProblem(name)
  if (problem !== null) throw new Error(problem)
  const known = fixed.get(name)
  if (known !== undefined) return known
  if (name.startsWith('arg_')) {
    const parameter = name.slice(4)
    return (exchange) => queryValue(exchange.upstreamQuery, parameter)
  }
  if (name.startsWith('http_')) return headerAccessor(headerKey(name.slice(5)))
  const response = /^(?:sent|upstream)_http_(.+)$/.exec(name)
  if (response !== null) {
    const key = headerKey(response[1] as string)
    return (exchange) => joinedHeader(exchange.response.headers, key)
  }
  if (name.startsWith('cookie_')) {
    const cookie = name.slice(7)
    return (exchange) => {
      const { requestHeaders } = exchange
      for (let index = 0; index < requestHeaders.count; index++) {
        if (requestHeaders.keys[index] !== 'cookie') continue
        const found = cookieValue(requestHeaders.values[index] as string, cookie)
        if (found !== undefined) return found
      }
      return undefined
    }
  }
  if (name.startsWith('uri_param_')) {
    const parameter = name.slice(10)
    return (exchange) => exchange.uriParams?.get(parameter)
  }
  return () => undefined
}

/** All values of a variable that may have several (`arg_x`, `http_x`), for the operator `has`; others have no list: empty. */
export function compileListVariable(name: string): (exchange: Exchange) => readonly string[] {
  const problem = variableProblem(name)
  if (problem !== null) throw new Error(problem)
  if (name.startsWith('arg_')) {
    const parameter = name.slice(4)
    return (exchange) => queryValues(exchange.upstreamQuery, parameter)
  }
  if (name.startsWith('http_')) {
    const key = headerKey(name.slice(5))
    return (exchange) => exchange.requestHeaders.getAll(key)
  }
  return () => []
}
