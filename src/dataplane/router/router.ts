/**
 * Finds the route of a request, directly on the shared tables: nothing is built per worker, nothing is allocated per request except
 * the captured parameters of a route that has some. The order in which candidates are tried is that of APISIX; a naive model of it is in test/support/reference-router.
 */
import type { AddressSet } from '../../base/address-set.js'
import type { Exchange, Predicate } from '../../plugins/plugin.js'
import {
  CandidateFlag,
  candidateWidth,
  entryWidth,
  HostFlag,
  hashFinish,
  hashStart,
  hashStep,
  nodeWidth,
  otherMethod,
  type RouterTables,
  type RouterViews,
  Space,
  slotWidth,
  viewRouterTables,
} from '../../shared/router-tables.js'

/** Conditions of a route beyond path, host and method. */
export interface RouteConditions {
  readonly remote: AddressSet | null
  readonly vars: Predicate | null
}

/** An exchange before its route is known: the router leaves captured parameters in it, where `vars` and plugins find them. */
export type Routable = Exchange & { uriParams: ReadonlyMap<string, string> | null }

/** Depth of `:name` segments; validation keeps patterns (4096 characters) below it. */
const maxCaptures = 2100

export class Router {
  private readonly views: RouterViews
  private readonly slotMask: number
  /** Hash of the first n characters of the path, by n. */
  private readonly prefixHashes: Int32Array
  /** Hash of the last n characters of the host, by n. */
  private readonly suffixHashes: Int32Array
  private readonly captureStarts = new Int32Array(maxCaptures)
  private readonly captureEnds = new Int32Array(maxCaptures)
  private readonly linked = new Map<number, RouteConditions | null>()
  private exactHash = 0
  private bit = 0
  private hostHeader = ''
  /** Mode `priority`: no match ends the search, it goes on among candidates of a better rank than the best so far. */
  private readonly byRank: boolean
  private best = -1
  private bestRank = 0

  /** Values captured by the last match, or null if its pattern captures nothing. */
  params: ReadonlyMap<string, string> | null = null

  /** `conditions` is asked once per route, when a request first gets as far as that route's conditions. */
  constructor(
    private readonly tables: RouterTables,
    private readonly conditions: (routeIndex: number) => RouteConditions | null,
  ) {
    this.views = viewRouterTables(tables)
    this.byRank = tables.mode === 'priority'
    this.slotMask = this.views.slots.length / slotWidth - 1
    this.prefixHashes = new Int32Array(tables.maxPrefixLength + 1)
    this.suffixHashes = new Int32Array(tables.maxSuffixLength + 1)
  }

  /** Index of the route, or -1. */
  match(exchange: Routable): number {
    this.params = null
    exchange.uriParams = null
    this.bit = methodBit(exchange.method)
    this.hostHeader = this.tables.hostsWithPort ? exchange.hostHeader.toLowerCase() : ''
    if (this.tables.mode === 'radixtree_uri_with_parameter') return this.matchSegments(0, exchange, 1, 0)
    this.hashPath(exchange.path)
    this.best = -1
    this.bestRank = 0x7fffffff
    if (this.tables.mode !== 'radixtree_uri') {
      const route = this.matchHosts(exchange)
      if (route >= 0) return route
    }
    const route = this.matchNode(0, exchange)
    return this.byRank ? this.best : route
  }

  /** Exact hosts, then wildcards from the longest; of each kind those with a port first. */
  private matchHosts(exchange: Routable): number {
    const { tables } = this
    let route = -1
    if (tables.hostsWithPort) route = this.matchExactHost(Space.hostExactWithPort, this.hostHeader, exchange)
    if (route < 0) route = this.matchExactHost(Space.hostExact, exchange.host, exchange)
    if (route < 0 && tables.suffixesWithPort[1] > 0) {
      route = this.matchSuffixes(Space.hostSuffixWithPort, tables.suffixesWithPort, this.hostHeader, exchange)
    }
    if (route < 0 && tables.suffixes[1] > 0) route = this.matchSuffixes(Space.hostSuffix, tables.suffixes, exchange.host, exchange)
    return route
  }

  private matchExactHost(space: number, host: string, exchange: Routable): number {
    if (host.length > this.tables.maxSuffixLength) return -1
    let hash = hashStart(this.tables.seed)
    for (let index = host.length - 1; index >= 0; index--) hash = hashStep(hash, host.charCodeAt(index))
    const entry = this.find(space, hash, host, 0, host.length)
    return entry < 0 ? -1 : this.matchNode(this.views.entries[entry + 4] as number, exchange)
  }

  private matchSuffixes(space: number, range: readonly [number, number], host: string, exchange: Routable): number {
    const { suffixHashes, views } = this
    let hash = hashStart(this.tables.seed)
    suffixHashes[0] = hash
    const longest = Math.min(host.length, this.tables.maxSuffixLength)
    for (let length = 1; length <= longest; length++) {
      hash = hashStep(hash, host.charCodeAt(host.length - length))
      suffixHashes[length] = hash
    }
    for (let index = 0; index < range[1]; index++) {
      const length = views.lists[range[0] + index * 2] as number
      if (length > host.length) continue
      const start = host.length - length
      const entry = this.find(space, suffixHashes[length] as number, host, start, length)
      if (entry < 0) continue
      const route = this.matchNode(views.entries[entry + 4] as number, exchange)
      if (route >= 0) return route
    }
    return -1
  }

  private hashPath(path: string): void {
    const { prefixHashes } = this
    const { maxExactLength, maxPrefixLength } = this.tables
    let hash = hashStart(this.tables.seed)
    prefixHashes[0] = hash
    const stored = Math.min(path.length, maxPrefixLength)
    for (let index = 0; index < stored; index++) {
      hash = hashStep(hash, path.charCodeAt(index))
      prefixHashes[index + 1] = hash
    }
    if (path.length > maxExactLength) return
    for (let index = stored; index < path.length; index++) hash = hashStep(hash, path.charCodeAt(index))
    this.exactHash = hash
  }

  /** The exact path, then prefixes from the longest. */
  private matchNode(node: number, exchange: Routable): number {
    const { entries, lists, nodes } = this.views
    const path = exchange.path
    if (path.length <= this.tables.maxExactLength) {
      const entry = this.find(node * 2, this.exactHash, path, 0, path.length)
      if (entry >= 0) {
        const route = this.tryCandidates(entries[entry + 4] as number, entries[entry + 5] as number, exchange, 0)
        if (route >= 0) return route
      }
    }
    const offset = nodes[node * nodeWidth] as number
    const count = nodes[node * nodeWidth + 1] as number
    for (let index = 0; index < count; index++) {
      const length = lists[offset + index * 2] as number
      if (length > path.length || !endsPlausibly(path, length, lists[offset + index * 2 + 1] as number)) continue
      const entry = this.find(node * 2 + 1, this.prefixHashes[length] as number, path, 0, length)
      if (entry < 0) continue
      const route = this.tryCandidates(entries[entry + 4] as number, entries[entry + 5] as number, exchange, 0)
      if (route >= 0) return route
    }
    return -1
  }

  /**
   * Walks the trie from `node` with the segment that starts at `start` (one past the end: no segment left). At each depth a static
   * segment beats a prefix of it, that a `:name`, and that a `*tail`; a branch that fails is left again.
   */
  private matchSegments(node: number, exchange: Routable, start: number, captured: number): number {
    const { entries, nodes } = this.views
    const path = exchange.path
    const at = node * nodeWidth
    if (start > path.length) return this.tryCandidates(nodes[at + 2] as number, nodes[at + 3] as number, exchange, captured)
    let end = path.indexOf('/', start)
    if (end < 0) end = path.length
    if (end - start <= this.tables.maxExactLength) {
      let hash = hashStart(this.tables.seed)
      for (let index = start; index < end; index++) hash = hashStep(hash, path.charCodeAt(index))
      const entry = this.find(node * 2, hash, path, start, end - start)
      if (entry >= 0) {
        const route = this.matchSegments(entries[entry + 4] as number, exchange, end + 1, captured)
        if (route >= 0) return route
      }
    }
    if ((nodes[at + 1] as number) > 0) {
      const route = this.matchSegmentPrefixes(node, exchange, start, end, captured)
      if (route >= 0) return route
    }
    const child = nodes[at + 4] as number
    if (child >= 0 && end > start) {
      this.capture(captured, start, end)
      const route = this.matchSegments(child, exchange, end + 1, captured + 1)
      if (route >= 0) return route
    }
    if (nodes[at + 6] === 0) return -1
    this.capture(captured, start, path.length)
    return this.tryCandidates(nodes[at + 5] as number, nodes[at + 6] as number, exchange, captured + 1)
  }

  private matchSegmentPrefixes(node: number, exchange: Routable, start: number, end: number, captured: number): number {
    const { entries, lists, nodes } = this.views
    const { prefixHashes } = this
    const path = exchange.path
    let hash = hashStart(this.tables.seed)
    prefixHashes[0] = hash
    const longest = Math.min(end - start, this.tables.maxPrefixLength)
    for (let length = 1; length <= longest; length++) {
      hash = hashStep(hash, path.charCodeAt(start + length - 1))
      prefixHashes[length] = hash
    }
    const offset = nodes[node * nodeWidth] as number
    const count = nodes[node * nodeWidth + 1] as number
    for (let index = 0; index < count; index++) {
      const length = lists[offset + index * 2] as number
      if (length > longest) continue
      const entry = this.find(node * 2 + 1, prefixHashes[length] as number, path, start, length)
      if (entry < 0) continue
      const route = this.tryCandidates(entries[entry + 4] as number, entries[entry + 5] as number, exchange, captured)
      if (route >= 0) return route
    }
    return -1
  }

  private capture(index: number, start: number, end: number): void {
    this.captureStarts[index] = start
    this.captureEnds[index] = end
  }

  /** Offset in `entries` of the key, or -1. */
  private find(space: number, hash: number, text: string, start: number, length: number): number {
    const { entries, slots } = this.views
    const mixed = hashFinish(hash, space)
    for (let slot = mixed & this.slotMask; ; slot = (slot + 1) & this.slotMask) {
      const index = slots[slot * slotWidth + 1] as number
      if (index === 0) return -1
      if (slots[slot * slotWidth] !== mixed) continue
      const entry = (index - 1) * entryWidth
      if (entries[entry + 1] === space && entries[entry + 3] === length && this.equals(entries[entry + 2] as number, text, start, length)) {
        return entry
      }
    }
  }

  private equals(offset: number, text: string, start: number, length: number): boolean {
    const { chars } = this.views
    for (let index = 0; index < length; index++) if (chars[offset + index] !== text.charCodeAt(start + index)) return false
    return true
  }

  /** The first of `count` candidates that accepts the request: its route, or -1. */
  private tryCandidates(first: number, count: number, exchange: Routable, captured: number): number {
    const { candidates } = this.views
    for (let at = first * candidateWidth; count > 0; at += candidateWidth, count--) {
      if (this.byRank && (candidates[at + 5] as number) >= this.bestRank) return -1
      if (((candidates[at + 1] as number) & this.bit) === 0) continue
      const flags = candidates[at + 2] as number
      const route = candidates[at] as number
      if (flags === 0) return this.byRank ? this.improve(route, at) : route
      if ((flags & CandidateFlag.hosts) !== 0 && !this.acceptsHost(candidates[at + 3] as number, exchange)) continue
      if ((flags & CandidateFlag.params) !== 0) this.readParams(candidates[at + 4] as number, exchange, captured)
      // After the parameters: `vars` may look at them.
      if ((flags & CandidateFlag.conditions) !== 0 && !this.acceptsConditions(route, exchange)) {
        this.params = null
        exchange.uriParams = null
        continue
      }
      return this.byRank ? this.improve(route, at) : route
    }
    return -1
  }

  /** Notes the best route so far; -1 = search on. */
  private improve(route: number, at: number): number {
    this.best = route
    this.bestRank = this.views.candidates[at + 5] as number
    return -1
  }

  private acceptsHost(offset: number, exchange: Routable): boolean {
    const { lists } = this.views
    const count = lists[offset] as number
    for (let index = 0, at = offset + 1; index < count; index++, at += 3) {
      const flags = lists[at] as number
      const length = lists[at + 2] as number
      const host = (flags & HostFlag.withPort) !== 0 ? this.hostHeader : exchange.host
      if (length > host.length || ((flags & HostFlag.suffix) === 0 && length !== host.length)) continue
      if (this.equals(lists[at + 1] as number, host, host.length - length, length)) return true
    }
    return false
  }

  private acceptsConditions(route: number, exchange: Routable): boolean {
    let conditions = this.linked.get(route)
    if (conditions === undefined) {
      conditions = this.conditions(route)
      this.linked.set(route, conditions)
    }
    if (conditions === null) return true
    if (conditions.remote !== null && !conditions.remote.has(exchange.clientAddress)) return false
    return conditions.vars === null || conditions.vars(exchange)
  }

  private readParams(offset: number, exchange: Routable, captured: number): void {
    const { chars, lists } = this.views
    const params = new Map<string, string>()
    const count = Math.min(lists[offset] as number, captured)
    for (let index = 0, at = offset + 1; index < count; index++, at += 2) {
      const start = lists[at] as number
      const name = String.fromCharCode(...chars.subarray(start, start + (lists[at + 1] as number)))
      params.set(name, exchange.path.slice(this.captureStarts[index], this.captureEnds[index]))
    }
    this.params = params
    exchange.uriParams = params
  }
}

/** The character before `length` is one that a prefix of this length ends in. */
function endsPlausibly(path: string, length: number, mask: number): boolean {
  return length === 0 || ((mask >>> (path.charCodeAt(length - 1) & 31)) & 1) === 1
}

function methodBit(method: string): number {
  switch (method) {
    case 'GET':
      return 1
    case 'POST':
      return 2
    case 'PUT':
      return 4
    case 'DELETE':
      return 8
    case 'PATCH':
      return 16
    case 'HEAD':
      return 32
    case 'OPTIONS':
      return 64
    case 'CONNECT':
      return 128
    case 'TRACE':
      return 256
    case 'PURGE':
      return 512
    default:
      return otherMethod
  }
}
