/** Rules for routes and services that a schema cannot say: what excludes what, patterns, expressions, references. */
import { addressProblem } from '../base/address-set.js'
import type { Json } from '../schema/compiled.js'
import { expressionProblem } from '../schema/expression.js'
import type { RouteResource, ServiceResource } from '../schema/route.js'
import { uriPatternProblem, uriPatternWarning } from '../schema/uri-pattern.js'
import type { DocumentPath, IssueList } from './load-issue.js'
import { suggest } from './suggest.js'
import { checkUpstream } from './validate-upstreams.js'

/** Ids that exist, by kind, whatever the state of the resource behind them. */
export interface KnownIds {
  readonly upstreams: IdSet
  readonly services: IdSet
  readonly plugin_configs: IdSet
}

export interface IdSet extends Iterable<string> {
  has(id: string): boolean
}

export interface RouteChecks {
  readonly ids: KnownIds
  /** Router with `:name` segments. */
  readonly parameters: boolean
  readonly issues: IssueList
}

export function checkRoute(route: RouteResource, path: DocumentPath, checks: RouteChecks): void {
  const { issues } = checks
  checkUris(route, path, checks)
  if (route.host !== undefined && route.hosts !== undefined) issues.error(path, 'only one of host or hosts is allowed', 'host or hosts')
  checkAddresses(route, path, issues)
  if (route.vars !== undefined) {
    const problem = expressionProblem(route.vars as Json)
    if (problem !== null) issues.error([...path, 'vars'], problem, 'an expression such as [["arg_name", "==", "json"]]')
  }
  for (const name of ['filter_func', 'script', 'script_id'] as const) {
    if (route[name] !== undefined)
      issues.error([...path, name], `route option ${name} (Lua) is not supported`, `no ${name}`, { atKey: true })
  }
  checkTarget(route, path, checks)
  checkReference(route.service_id, 'service', 'services', [...path, 'service_id'], checks)
  checkReference(route.plugin_config_id, 'plugin config', 'plugin_configs', [...path, 'plugin_config_id'], checks)
  const purposes = [route.plugins, route.upstream, route.upstream_id, route.service_id, route.plugin_config_id]
  if (purposes.every((purpose) => purpose === undefined)) {
    issues.error(path, 'the route has nothing to do', 'at least one of plugins, upstream, upstream_id, service_id, plugin_config_id')
  }
}

export function checkService(service: ServiceResource, path: DocumentPath, checks: RouteChecks): void {
  checkTarget(service, path, checks)
  if (service.script !== undefined)
    checks.issues.error([...path, 'script'], 'service option script (Lua) is not supported', 'no script', { atKey: true })
}

function checkUris(route: RouteResource, path: DocumentPath, checks: RouteChecks): void {
  const { issues } = checks
  if (route.uri !== undefined && route.uris !== undefined) issues.error(path, 'only one of uri or uris is allowed', 'uri or uris')
  if (route.uri === undefined && route.uris === undefined) issues.error(path, 'property "uri" is required', 'uri or uris')
  if (route.uri !== undefined) checkUri(route.uri, [...path, 'uri'], checks)
  for (const [index, uri] of (route.uris ?? []).entries()) checkUri(uri, [...path, 'uris', index], checks)
}

function checkUri(uri: string, path: DocumentPath, checks: RouteChecks): void {
  const mode = checks.parameters ? 'radixtree_uri_with_parameter' : 'radixtree_host_uri'
  const problem = uriPatternProblem(uri, mode)
  if (problem !== null) {
    checks.issues.error(path, problem, 'a path such as /a, /a/* or /a/:name')
    return
  }
  const warning = uriPatternWarning(uri, mode)
  if (warning !== null) checks.issues.warn(path, warning, '')
}

function checkAddresses(route: RouteResource, path: DocumentPath, issues: IssueList): void {
  if (route.remote_addr !== undefined && route.remote_addrs !== undefined) {
    issues.error(path, 'only one of remote_addr or remote_addrs is allowed', 'remote_addr or remote_addrs')
  }
  if (route.remote_addr !== undefined) checkAddress(route.remote_addr, [...path, 'remote_addr'], issues)
  for (const [index, address] of (route.remote_addrs ?? []).entries()) checkAddress(address, [...path, 'remote_addrs', index], issues)
}

export function checkAddress(address: string, path: DocumentPath, issues: IssueList): void {
  const problem = addressProblem(address)
  if (problem === null) return
  // The text says itself what would be right.
  const [message = problem, expected = ''] = problem.split('; expected ')
  issues.error(path, message, expected)
}

/** Upstream, upstream_id and WebSocket of a route or service. */
function checkTarget(resource: RouteResource | ServiceResource, path: DocumentPath, checks: RouteChecks): void {
  const { issues } = checks
  if (resource.upstream !== undefined) checkUpstream(resource.upstream, [...path, 'upstream'], issues)
  if (resource.upstream !== undefined && resource.upstream_id !== undefined) {
    issues.warn([...path, 'upstream'], 'upstream has no effect beside upstream_id', 'upstream or upstream_id', { atKey: true })
  }
  checkReference(resource.upstream_id, 'upstream', 'upstreams', [...path, 'upstream_id'], checks)
  if (resource.enable_websocket === true) issues.error([...path, 'enable_websocket'], 'enable_websocket is not supported yet', 'false')
}

function checkReference(
  id: string | number | undefined,
  word: string,
  kind: keyof KnownIds,
  path: DocumentPath,
  checks: RouteChecks,
): void {
  if (id === undefined) return
  const known = checks.ids[kind]
  if (known.has(String(id))) return
  const message = `failed to fetch ${word} info by ${word} id [${id}]`
  checks.issues.error(path, message, `the id of an entry of ${kind}`, { suggestion: suggest(String(id), known) })
}
