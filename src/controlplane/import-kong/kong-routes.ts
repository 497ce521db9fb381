/**
 * Routes of a Kong file in our words. Kong tries routes in the order of "traditional_compatible": how many kinds of criteria a route
 * names, plain hosts before wildcards, number of headers, regular expressions before prefixes, `regex_priority`, longer path. Here that
 * order becomes the priority of each route in router mode `priority`. Paths of a route that rank differently become routes of their own.
 */
import type { DocumentPath, IssueList } from '../load-issue.js'
import type { Entity, Owned } from './entity-kinds.js'
import type { KongRoute, KongService } from './kong-schema.js'
import { literalPattern, resourceName } from './kong-text.js'
import type { Origins } from './origins.js'

type Fields = { [name: string]: unknown }

/** One route of ours before its rank is known. */
export interface Split {
  readonly route: Owned<KongRoute, KongService>
  readonly fields: Fields & { plugins: Fields }
  /** Compared from the left; larger is tried first. */
  readonly rank: readonly number[]
}

interface PathOf {
  /** Without the leading `~` of a regular expression. */
  readonly text: string
  readonly isRegex: boolean
  readonly at: DocumentPath
}

const defaultProtocols = ['http', 'https']
const httpsRequired = {
  body: '{"message":"Please use HTTPS protocol"}',
  headers: { 'Content-Type': 'application/json; charset=utf-8' },
} as const

/** The routes that `route` becomes; none with an issue when it says something that has no counterpart. */
export function splitRoute(route: Owned<KongRoute, KongService>, version: number, origins: Origins, issues: IssueList): Split[] {
  if (!checkRoute(route, issues)) return []
  const paths = (route.value.paths ?? []).map((text, index) => readPath(text, version, [...route.path, 'paths', index]))
  for (const { text, at } of paths) {
    if (/^\/\/|[^:]\/\//.test(text)) issues.error(at, `should not have consecutive slashes: ${JSON.stringify(text)}`, 'single slashes')
  }
  const prefixes = paths.filter((path) => !path.isRegex)
  const regexes = paths.filter((path) => path.isRegex)
  const groups: PathOf[][] = [...regexes.map((path) => [path]), ...(prefixes.length > 0 ? [prefixes] : [])]
  if (groups.length === 0) groups.push([])
  return groups.map((group, index) => splitOf(route, group, index, origins))
}

/** Sets `priority` of all routes: equal ranks get equal ones, the router then goes by the length of the prefix. */
export function rankRoutes(splits: readonly Split[]): void {
  const ordered = [...splits].sort((a, b) => compare(a.rank, b.rank))
  let priority = 0
  for (const [index, split] of ordered.entries()) {
    const previous = ordered[index - 1]
    if (previous !== undefined && compare(previous.rank, split.rank) !== 0) priority++
    split.fields['priority'] = priority
  }
}

function compare(a: readonly number[], b: readonly number[]): number {
  for (const [index, value] of a.entries()) {
    const difference = value - (b[index] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}

function checkRoute({ value, path, name, owner }: Owned<KongRoute, KongService>, issues: IssueList): boolean {
  const before = issues.errors.length
  for (const [index, protocol] of (value.protocols ?? defaultProtocols).entries()) {
    if (!defaultProtocols.includes(protocol)) {
      issues.error([...path, 'protocols', index], `protocol ${JSON.stringify(protocol)} is not supported`, 'http and https')
    }
  }
  for (const field of ['sources', 'destinations'] as const) {
    if (value[field] !== undefined)
      issues.error([...path, field], `${field} belong to stream routes, which are not supported`, `no ${field}`)
  }
  const criteria = [value.methods, value.hosts, value.paths, value.snis].some((list) => list !== undefined && list.length > 0)
  if (!criteria && Object.keys(value.headers ?? {}).length === 0) {
    issues.error(path, "must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'http'", 'at least one of them')
  }
  if (value.snis !== undefined && value.snis.length > 0) issues.error([...path, 'snis'], 'routing by snis is not supported yet', 'hosts')
  if (value.path_handling === 'v1') {
    issues.warn([...path, 'path_handling'], 'path_handling v1 is honoured only by the old router of Kong; v0 is used', 'v0')
  }
  for (const field of ['request_buffering', 'response_buffering'] as const) {
    if (value[field] === true) issues.warn([...path, field], 'bodies are streamed, not buffered', 'false')
  }
  if (owner === null && value.preserve_host === true) {
    issues.warn([...path, 'preserve_host'], `has no effect: route ${name} has no service`, 'a service')
  }
  return issues.errors.length === before
}

/** Files before 3.0 mark no regular expressions: a path with characters beyond these is one. */
function readPath(text: string, version: number, at: DocumentPath): PathOf {
  if (text.startsWith('~')) return { text: text.slice(1), isRegex: true, at }
  return { text, isRegex: version < 3 && !/^[a-zA-Z0-9._~/%-]*$/.test(text), at }
}

function splitOf(route: Owned<KongRoute, KongService>, paths: readonly PathOf[], index: number, origins: Origins): Split {
  const { value, owner } = route
  const regex = paths[0]?.isRegex === true ? paths[0] : null
  const id = resourceName(index === 0 ? route.name : `${route.name}.path${index + 1}`)
  const vars: unknown[] = []
  const { exact, others } = splitHosts(value.hosts ?? [])
  if (others.length > 0) {
    // A wildcard at the right end has no counterpart among our hosts.
    const all = [...exact.map(hostRegex), ...others.map(hostRegex)]
    vars.push(['http_host', '~*', `^(?:${all.join('|')})(?::\\d+)?$`])
  }
  for (const [name, values] of Object.entries(value.headers ?? {})) vars.push(headerCondition(name, values))
  if (regex !== null) vars.push(['uri', '~~', `^(?:${regex.text})`])
  if (value.protocols !== undefined && !value.protocols.includes('https')) vars.push(['scheme', '==', 'http'])
  const fields: Split['fields'] = {
    id,
    name: route.name.slice(0, 256),
    ...(regex !== null || paths.length === 0 ? { uri: '/*' } : { uris: paths.map(({ text }) => `${text}*`) }),
    ...(value.methods !== undefined && value.methods.length > 0 && { methods: value.methods }),
    ...(others.length === 0 && exact.length > 0 && { hosts: exact }),
    ...(vars.length > 0 && { vars }),
    plugins: origins.none({ ...httpsOnly(value), ...pathRewrite(value, owner, paths) }),
  }
  origins.of(route.path, fields)
  origins.field(fields, 'vars', route.path)
  origins.field(fields, 'uri', [...route.path, 'paths'])
  origins.field(fields, 'uris', [...route.path, 'paths'])
  return { route, fields, rank: rankOf(value, regex) }
}

function rankOf(value: KongRoute, regex: PathOf | null): number[] {
  const headers = Object.keys(value.headers ?? {}).length
  const kinds = [value.methods?.length, value.hosts?.length, value.paths?.length, value.snis?.length, headers]
  const hosts = value.hosts ?? []
  const isPlain = hosts.length > 0 && hosts.every((host) => !host.includes('*'))
  return [
    kinds.filter((count) => count !== undefined && count > 0).length,
    isPlain ? 1 : 0,
    headers,
    regex === null ? 0 : 1,
    regex === null ? 0 : (value.regex_priority ?? 0),
    // Prefixes are compared by the router: several of them stand in one route.
    regex === null ? 0 : regex.text.length,
  ]
}

function splitHosts(hosts: readonly string[]): { exact: string[]; others: string[] } {
  const others = hosts.filter((host) => host.endsWith('*'))
  return { exact: hosts.filter((host) => !host.endsWith('*')).map((host) => host.toLowerCase()), others }
}

function hostRegex(host: string): string {
  return host.split('*').map(literalPattern).join('[^:]+')
}

function headerCondition(name: string, values: readonly string[]): unknown[] {
  const variable = `http_${name.toLowerCase().replaceAll('-', '_')}`
  const patterns = values.map((value) => (value.startsWith('~*') ? `(?:${value.slice(2)})` : `^${literalPattern(value)}$`))
  return [variable, '~*', patterns.join('|')]
}

/** A request without TLS on a route for https is told to come back with it. */
function httpsOnly(value: KongRoute): Fields {
  if (value.protocols === undefined || value.protocols.includes('http')) return {}
  const status = value.https_redirect_status_code ?? 426
  const answer = status === 426 ? httpsRequired : { headers: { Location: 'https://$host$request_uri' } }
  return { 'fault-injection': { abort: { http_status: status, ...answer, vars: [[['scheme', '==', 'http']]] } } }
}

/**
 * The path that the service sees: its own path, then what lies behind the matched prefix (or the whole path without `strip_path`), with
 * one slash between them where one of them has one (`path_handling` v0).
 */
function pathRewrite(value: KongRoute, service: Entity<KongService> | null, paths: readonly PathOf[]): Fields {
  if (service === null) return {}
  const base = servicePath(service.value)
  const strips = value.strip_path !== false && paths.length > 0
  if (!strips) return base === '/' ? {} : rewrite([['^/(.*)$', `${withSlash(base)}$1`]])
  // The longest prefix first: it is the one that the router matched.
  const pairs = [...paths].sort((a, b) => b.text.length - a.text.length).flatMap((path) => stripped(path, base))
  return rewrite(pairs)
}

function stripped(path: PathOf, base: string): [string, string][] {
  const matched = path.isRegex ? `(?:${withoutCaptures(path.text)})` : literalPattern(path.text)
  const stem = base.replace(/\/$/, '')
  if (path.text.endsWith('/') && !path.isRegex) return [[`^${matched}(.*)$`, `${withSlash(base)}$1`]]
  return [
    [`^${matched}/(.*)$`, `${stem}/$1`],
    [`^${matched}$`, base],
    [`^${matched}(.+)$`, `${withSlash(base)}$1`],
  ]
}

/** Capturing groups would shift the numbers of ours. */
function withoutCaptures(regex: string): string {
  return regex.replace(/\\.|\[(?:\\.|[^\]])*\]|\((?:\?P?<\w+>)?(?!\?)/g, (part) => (part.startsWith('(') ? '(?:' : part))
}

function withSlash(base: string): string {
  return base.endsWith('/') ? base : `${base}/`
}

function rewrite(pairs: readonly (readonly [string, string])[]): Fields {
  return { 'proxy-rewrite': { regex_uri: pairs.flat() } }
}

export function servicePath(service: KongService): string {
  if (service.url === undefined) return service.path ?? '/'
  try {
    return new URL(service.url).pathname
  } catch {
    return '/'
  }
}
