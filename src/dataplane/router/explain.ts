/**
 * Explains a routing decision: which route a request would get, and why the others would not (`GET /v1/explain`).
 *
 * The decision is the real router's. The reasons come from checking each route by itself, one rule after the other.
 */
import { AddressSet } from '../../base/address-set.js'
import { CanonicalPath, canonicalPath } from '../../base/path.js'
import type { CompiledRoute, Json, RouterOptions } from '../../schema/compiled.js'
import { parseExpression } from '../../schema/expression.js'
import { matchHostPattern, matchUriPattern, readHostPattern, readUriPattern } from '../../schema/uri-pattern.js'
import type { RouterBlocks, RouterTables } from '../../shared/router-tables.js'
import { compileExpression } from '../vars/expression.js'
import { HypotheticalExchange } from './hypothetical-exchange.js'
import { type RouteConditions, Router } from './router.js'

export interface ExplainRequest {
  readonly method: string
  /** As in the Host field. */
  readonly host: string
  /** Request target: path and query. */
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  /** Client address [127.0.0.1]. */
  readonly remoteAddress?: string
  readonly scheme?: 'http' | 'https'
}

export interface ExplainedCandidate {
  readonly route: string
  readonly uri: string
  readonly result: 'matched' | 'rejected'
  readonly reason: string
}

export interface Explanation {
  readonly matched: {
    readonly id: string
    readonly name: string
    readonly uri: string
    readonly params: Readonly<Record<string, string>>
  } | null
  /** The canonical path, or why it would be answered with 400. */
  readonly path: { readonly match: string; readonly forward: string } | { readonly refused: string }
  /** The match, then routes whose path fits, then others; at most `maxCandidates`. */
  readonly candidates: readonly ExplainedCandidate[]
  /** Routes in the table, and how many of them are not in `candidates`. */
  readonly routes: number
  readonly omitted: number
}

const maxCandidates = 50

/** `places`: the routes by the numbers that the tables have for them. */
export function explain(
  tables: RouterTables | RouterBlocks,
  places: readonly (CompiledRoute | null)[],
  options: RouterOptions,
  request: ExplainRequest,
): Explanation {
  const routes = places.filter((route) => route !== null)
  const mark = request.path.indexOf('?')
  const rawPath = mark < 0 ? request.path : request.path.slice(0, mark)
  const canonical = new CanonicalPath()
  if (!canonicalPath(rawPath, options.path, canonical)) {
    return { matched: null, path: { refused: canonical.problem }, candidates: [], routes: routes.length, omitted: routes.length }
  }
  const exchange = new HypotheticalExchange({
    method: request.method.toUpperCase(),
    host: request.host,
    headers: { Host: request.host, ...request.headers },
    remoteAddress: request.remoteAddress ?? '127.0.0.1',
    scheme: request.scheme ?? 'http',
    path: canonical.match,
    wirePath: canonical.forward,
    query: mark < 0 ? '' : request.path.slice(mark + 1),
  })
  const index = new Router(tables, (route) => conditionsOf(places[route])).match(exchange)
  const winner = places[index] ?? undefined
  const params = Object.fromEntries(exchange.uriParams ?? [])
  const near: ExplainedCandidate[] = []
  const far: ExplainedCandidate[] = []
  for (const route of routes) {
    if (route === winner || near.length >= maxCandidates) continue
    const { isNear, ...candidate } = judge(route, winner, options, exchange)
    if (isNear) near.push(candidate)
    else if (far.length < maxCandidates) far.push(candidate)
  }
  const first: ExplainedCandidate[] = []
  const uri = winner === undefined ? '' : (matchingUri(winner, options, exchange)?.uri ?? '')
  if (winner !== undefined) first.push({ route: winner.id, uri, result: 'matched', reason: 'first route whose conditions all hold' })
  const candidates = [...first, ...near, ...far].slice(0, maxCandidates)
  return {
    matched: winner === undefined ? null : { id: winner.id, name: winner.name, uri, params },
    path: { match: canonical.match, forward: canonical.forward },
    candidates,
    routes: routes.length,
    omitted: routes.length - candidates.length,
  }
}

function conditionsOf(route: CompiledRoute | null | undefined): RouteConditions | null {
  if (route === undefined || route === null) return null
  return {
    remote: route.remoteAddrs.length === 0 ? null : AddressSet.of(route.remoteAddrs),
    vars: route.vars === null ? null : compileExpression(route.vars),
  }
}

/** The longest pattern of the route that fits, with what it captures. */
function matchingUri(route: CompiledRoute, options: RouterOptions, exchange: HypotheticalExchange) {
  let found: { uri: string; params: Map<string, string> } | null = null
  for (const uri of route.uris) {
    const params = matchUriPattern(readUriPattern(uri, options.mode), exchange.path)
    if (params === null) continue
    if (uri === exchange.path) return { uri, params }
    if (found === null || uri.length > found.uri.length) found = { uri, params }
  }
  return found
}

/** Why a route that did not win did not. */
function judge(route: CompiledRoute, winner: CompiledRoute | undefined, options: RouterOptions, exchange: HypotheticalExchange) {
  const fitting = matchingUri(route, options, exchange)
  const rejected = (reason: string) => ({
    route: route.id,
    uri: fitting?.uri ?? route.uris.join(', '),
    result: 'rejected' as const,
    reason,
    isNear: fitting !== null,
  })
  if (fitting === null) return rejected(`path ${exchange.path} does not match ${route.uris.join(', ')}`)
  const hostHeader = exchange.hostHeader.toLowerCase()
  if (route.hosts.length > 0 && !route.hosts.some((host) => matchHostPattern(readHostPattern(host), exchange.host, hostHeader))) {
    return rejected(`host ${exchange.hostHeader} not in [${route.hosts.join(', ')}]`)
  }
  if (route.methods.length > 0 && !route.methods.includes(exchange.method)) {
    return rejected(`method ${exchange.method} not in [${route.methods.join(', ')}]`)
  }
  if (route.remoteAddrs.length > 0 && !AddressSet.of(route.remoteAddrs).has(exchange.clientAddress)) {
    return rejected(`remote address ${exchange.clientAddress} not in [${route.remoteAddrs.join(', ')}]`)
  }
  if (route.vars !== null) {
    exchange.uriParams = fitting.params
    const failing = failingCondition(route.vars, exchange)
    if (failing !== null) return rejected(`vars: ${JSON.stringify(failing)} does not hold`)
  }
  return rejected(`route ${winner?.id ?? ''} comes first: ${winner === undefined ? '' : precedence(winner, route, options, exchange)}`)
}

/** The part of an expression that makes it fail, or null. A list of conditions fails by its first failing one, a group as a whole. */
function failingCondition(vars: Json, exchange: HypotheticalExchange): Json | null {
  if (compileExpression(vars)(exchange)) return null
  const { negated, operator } = parseExpression(vars)
  if (!Array.isArray(vars) || negated || operator !== 'AND') return vars
  return vars.find((item) => typeof item !== 'string' && !compileExpression([item])(exchange)) ?? vars
}

/** The rule by which `winner` is tried before `other`, both of which accept the request. */
function precedence(winner: CompiledRoute, other: CompiledRoute, options: RouterOptions, exchange: HypotheticalExchange): string {
  if (options.mode === 'radixtree_host_uri' && winner.hosts.join() !== other.hosts.join()) {
    if (other.hosts.length === 0) return 'it names the host'
  }
  if (options.mode === 'priority' && winner.priority !== other.priority)
    return `priority ${winner.priority} is higher than ${other.priority}`
  const uri = matchingUri(winner, options, exchange)?.uri ?? ''
  const otherUri = matchingUri(other, options, exchange)?.uri ?? ''
  if (uri !== otherUri) return `${uri} is a closer match than ${otherUri}`
  if (winner.priority !== other.priority) return `priority ${winner.priority} is higher than ${other.priority}`
  return 'it has the more specific host or stands earlier in the configuration'
}
