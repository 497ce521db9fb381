/**
 * The order of candidates, written as naively as the rules read: for every request, all (route, pattern, host) triples that match are
 * collected and sorted by what the rules compare. Slow, and independent of tables, hashes and tries.
 */
import { AddressSet } from '../../src/base/address-set.js'
import type { CompiledRoute, RouterMode } from '../../src/schema/compiled.js'

export interface ReferenceRequest {
  readonly method: string
  readonly host: string
  readonly hostHeader: string
  readonly path: string
  readonly clientAddress: string
}

interface Hit {
  /** Compared from the left; smaller is tried first. */
  readonly rank: readonly number[]
  readonly route: number
}

const known = ['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS', 'CONNECT', 'TRACE', 'PURGE']

export function referenceMatch(
  routes: readonly CompiledRoute[],
  mode: RouterMode,
  request: ReferenceRequest,
  vars: (route: number) => boolean,
): number {
  const hits: Hit[] = []
  for (const [index, route] of routes.entries()) {
    if (route.methods.length > 0 && !(known.includes(request.method) && route.methods.includes(request.method))) continue
    if (route.remoteAddrs.length > 0 && !AddressSet.of(route.remoteAddrs).has(request.clientAddress)) continue
    if (!vars(index)) continue
    const hosts = route.hosts.length === 0 ? [null] : route.hosts
    for (const host of hosts) {
      const hostRank = rankHost(host, request)
      if (hostRank === null) continue
      for (const uri of route.uris) {
        const pathRank = mode === 'radixtree_uri_with_parameter' ? rankSegments(uri, request.path) : rankPath(uri, request.path)
        if (pathRank === null) continue
        const tie = [-route.priority, -uri.length, index]
        if (mode === 'priority') hits.push({ rank: tie, route: index })
        else hits.push({ rank: mode === 'radixtree_host_uri' ? [...hostRank, ...pathRank, ...tie] : [...pathRank, ...tie], route: index })
      }
    }
  }
  hits.sort((a, b) => compare(a.rank, b.rank))
  return hits[0]?.route ?? -1
}

function compare(a: readonly number[], b: readonly number[]): number {
  for (let index = 0; index < Math.max(a.length, b.length); index++) {
    const difference = (a[index] ?? 0) - (b[index] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}

/** Exact before wildcard, with a port before without, longer wildcards before shorter, no host last. */
function rankHost(pattern: string | null, request: ReferenceRequest): number[] | null {
  if (pattern === null) return [9, 0]
  const withPort = /[^[:]:\d+$/.test(pattern)
  const value = withPort ? request.hostHeader.toLowerCase() : request.host
  if (!pattern.startsWith('*')) return value === pattern ? [withPort ? 0 : 1, 0] : null
  const suffix = pattern.slice(1)
  return value.endsWith(suffix) ? [withPort ? 2 : 3, -suffix.length] : null
}

function rankPath(uri: string, path: string): number[] | null {
  const star = uri.indexOf('*')
  if (star < 0) return uri === path ? [0, 0] : null
  return path.startsWith(uri.slice(0, star)) ? [1, -star] : null
}

/** Per depth: static 0, prefix of a segment 1 (longer first), `:name` 2, `*tail` 3. */
function rankSegments(uri: string, path: string): number[] | null {
  const wanted = uri.slice(1).split('/')
  const found = path.slice(1).split('/')
  const rank: number[] = []
  for (const [depth, segment] of wanted.entries()) {
    const value = found[depth]
    if (value === undefined) return null
    if (segment.startsWith('*')) return padded([...rank, 3, 0])
    if (segment.startsWith(':')) {
      if (value === '') return null
      rank.push(2, 0)
    } else if (segment.endsWith('*')) {
      return value.startsWith(segment.slice(0, -1)) ? padded([...rank, 1, -(segment.length - 1)]) : null
    } else {
      if (value !== segment) return null
      rank.push(0, 0)
    }
  }
  return wanted.length === found.length ? padded(rank) : null
}

function padded(rank: number[]): number[] {
  while (rank.length < 24) rank.push(0)
  return rank
}
