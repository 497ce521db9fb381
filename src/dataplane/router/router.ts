/**
 * Finds the route of a request, directly on the shared tables: nothing is built per worker, nothing is allocated per request except
 * the captured parameters of a route that has some. The order in which candidates are tried is that of APISIX; a naive model of it is in test/support/reference-router.
 */
import type { AddressSet } from '../../base/address-set.js'
import type { Exchange, Predicate } from '../../plugins/plugin.js'
import type { Block } from '../../shared/blocks.js'
import {
  CandidateFlag,
  candidateWidth,
  firstPlace,
  HostFlag,
  hashFinish,
  hashStart,
  hashStep,
  pageShift,
  RouterBlocks,
  type RouterShape,
  type RouterTables,
  Space,
  slotWidth,
} from '../../shared/router-tables.js'
import { charsOf, endsPlausibly, equals, methodBit, placeOfNode } from './table-fields.js'

/** Conditions of a route beyond path, host and method. */
export interface RouteConditions {
  readonly remote: AddressSet | null
  readonly vars: Predicate | null
}

/** An exchange before its route is known: the router leaves captured parameters in it, where `vars` and plugins find them. */
export type Routable = Exchange & { uriParams: ReadonlyMap<string, string> | null }

/** Depth of `:name` segments; validation keeps patterns (4096 characters) below it. */
const maxCaptures = 2100

/** What one match after the other is worked out in. */
class Scratch {
  readonly captureStarts = new Int32Array(maxCaptures)
  readonly captureEnds = new Int32Array(maxCaptures)
  /** Hash of the first n characters of the path, by n. */
  prefixHashes = new Int32Array(0)
  /** Hash of the last n characters of the host, by n. */
  suffixHashes = new Int32Array(0)
}

export class Router {
  readonly tables: RouterBlocks
  private readonly shape: RouterShape
  private readonly shards: readonly Block[]
  private readonly pages: readonly Block[]
  private readonly shardShift: number
  private readonly scratch: Scratch
  private readonly prefixHashes: Int32Array
  private readonly suffixHashes: Int32Array
  /** Where `find` found the entry. */
  private found: Block
  private exactHash = 0
  private bit = 0
  private hostHeader = ''
  /** Mode `priority`: no match ends the search, it goes on among candidates of a better rank than the best so far. */
  private readonly byRank: boolean
  private best = -1
  private bestPriority = 0
  private bestLength = 0
  private bestOrder = 0

  /** Values captured by the last match, or null if its pattern captures nothing. */
  params: ReadonlyMap<string, string> | null = null

  /**
   * `conditions` is asked when a request gets as far as the conditions of a route; it should keep its answers. `before`: a router that
   * this one takes the place of, which is not used at the same time.
   */
  constructor(
    tables: RouterTables | RouterBlocks,
    private readonly conditions: (routeIndex: number) => RouteConditions | null,
    before: Router | null = null,
  ) {
    this.tables = tables instanceof RouterBlocks ? tables : RouterBlocks.of(tables)
    const { shape, shards, pages } = this.tables
    this.shape = shape
    this.shards = shards.blocks
    this.pages = pages.blocks
    this.shardShift = shape.shardShift
    this.found = shards.blocks[0] as Block
    this.byRank = shape.mode === 'priority'
    this.scratch = before?.scratch ?? new Scratch()
    const { scratch } = this
    if (scratch.prefixHashes.length <= shape.maxPrefixLength) scratch.prefixHashes = new Int32Array(shape.maxPrefixLength + 1)
    if (scratch.suffixHashes.length <= shape.maxSuffixLength) scratch.suffixHashes = new Int32Array(shape.maxSuffixLength + 1)
    this.prefixHashes = scratch.prefixHashes
    this.suffixHashes = scratch.suffixHashes
  }

  /** Index of the route, or -1. */
  match(exchange: Routable): number {
    this.params = null
    exchange.uriParams = null
    this.bit = methodBit(exchange.method)
    this.hostHeader = this.shape.hostsWithPort ? exchange.hostHeader.toLowerCase() : ''
    if (this.shape.mode === 'radixtree_uri_with_parameter') return this.matchSegments(0, exchange, 1, 0)
    this.hashPath(exchange.path)
    this.best = -1
    if (this.shape.mode !== 'radixtree_uri') {
      const route = this.matchHosts(exchange)
      if (route >= 0) return route
    }
    const route = this.matchNode(0, exchange)
    return this.byRank ? this.best : route
  }

  /** Exact hosts, then wildcards from the longest; of each kind those with a port first. */
  private matchHosts(exchange: Routable): number {
    const { shape } = this
    let route = -1
    if (shape.hostsWithPort) route = this.matchExactHost(Space.hostExactWithPort, this.hostHeader, exchange)
    if (route < 0) route = this.matchExactHost(Space.hostExact, exchange.host, exchange)
    if (route < 0 && shape.suffixesWithPort.length > 0) {
      route = this.matchSuffixes(Space.hostSuffixWithPort, shape.suffixesWithPort, this.hostHeader, exchange)
    }
    if (route < 0 && shape.suffixes.length > 0) route = this.matchSuffixes(Space.hostSuffix, shape.suffixes, exchange.host, exchange)
    return route
  }

  private matchExactHost(space: number, host: string, exchange: Routable): number {
    if (host.length > this.shape.maxSuffixLength) return -1
    let hash = hashStart(this.shape.seed)
    for (let index = host.length - 1; index >= 0; index--) hash = hashStep(hash, host.charCodeAt(index))
    const entry = this.find(space, hash, host, 0, host.length)
    return entry < 0 ? -1 : this.matchNode(this.found.words[entry + 3] as number, exchange)
  }

  private matchSuffixes(space: number, lengths: readonly number[], host: string, exchange: Routable): number {
    const { suffixHashes } = this
    let hash = hashStart(this.shape.seed)
    suffixHashes[0] = hash
    const longest = Math.min(host.length, this.shape.maxSuffixLength)
    for (let length = 1; length <= longest; length++) {
      hash = hashStep(hash, host.charCodeAt(host.length - length))
      suffixHashes[length] = hash
    }
    for (let index = 0; index < lengths.length; index += 2) {
      const length = lengths[index] as number
      if (length > host.length) continue
      const start = host.length - length
      const entry = this.find(space, suffixHashes[length] as number, host, start, length)
      if (entry < 0) continue
      const route = this.matchNode(this.found.words[entry + 3] as number, exchange)
      if (route >= 0) return route
    }
    return -1
  }

  private hashPath(path: string): void {
    const { prefixHashes } = this
    const { maxExactLength, maxPrefixLength } = this.shape
    let hash = hashStart(this.shape.seed)
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
    const path = exchange.path
    if (path.length <= this.shape.maxExactLength) {
      const entry = this.find(node * 2, this.exactHash, path, 0, path.length)
      if (entry >= 0) {
        const route = this.tryFound(entry, exchange, 0)
        if (route >= 0) return route
      }
    }
    const page = this.pages[node >> pageShift] as Block
    const { words } = page
    const at = placeOfNode(page, node)
    const count = words[at + 1] as number
    const lengths = page.base + (words[at] as number)
    for (let index = 0; index < count; index++) {
      const length = words[lengths + index * 2] as number
      if (length > path.length || !endsPlausibly(path, length, words[lengths + index * 2 + 1] as number)) continue
      const entry = this.find(node * 2 + 1, this.prefixHashes[length] as number, path, 0, length)
      if (entry < 0) continue
      const route = this.tryFound(entry, exchange, 0)
      if (route >= 0) return route
    }
    return -1
  }

  /**
   * Walks the trie from `node` with the segment that starts at `start` (one past the end: no segment left). At each depth a static
   * segment beats a prefix of it, that a `:name`, and that a `*tail`; a branch that fails is left again.
   */
  private matchSegments(node: number, exchange: Routable, start: number, captured: number): number {
    const page = this.pages[node >> pageShift] as Block
    const { words } = page
    const path = exchange.path
    const at = placeOfNode(page, node)
    if (start > path.length) return this.tryCandidates(page, words[at + 2] as number, words[at + 3] as number, exchange, captured)
    let end = path.indexOf('/', start)
    if (end < 0) end = path.length
    if (end - start <= this.shape.maxExactLength) {
      let hash = hashStart(this.shape.seed)
      for (let index = start; index < end; index++) hash = hashStep(hash, path.charCodeAt(index))
      const entry = this.find(node * 2, hash, path, start, end - start)
      if (entry >= 0) {
        const route = this.matchSegments(this.found.words[entry + 3] as number, exchange, end + 1, captured)
        if (route >= 0) return route
      }
    }
    if ((words[at + 1] as number) > 0) {
      const route = this.matchSegmentPrefixes(page, at, node, exchange, start, end, captured)
      if (route >= 0) return route
    }
    const child = words[at + 4] as number
    if (child >= 0 && end > start) {
      this.capture(captured, start, end)
      const route = this.matchSegments(child, exchange, end + 1, captured + 1)
      if (route >= 0) return route
    }
    if (words[at + 6] === 0) return -1
    this.capture(captured, start, path.length)
    return this.tryCandidates(page, words[at + 5] as number, words[at + 6] as number, exchange, captured + 1)
  }

  private matchSegmentPrefixes(
    page: Block,
    at: number,
    node: number,
    exchange: Routable,
    start: number,
    end: number,
    captured: number,
  ): number {
    const { words } = page
    const { prefixHashes } = this
    const path = exchange.path
    let hash = hashStart(this.shape.seed)
    prefixHashes[0] = hash
    const longest = Math.min(end - start, this.shape.maxPrefixLength)
    for (let length = 1; length <= longest; length++) {
      hash = hashStep(hash, path.charCodeAt(start + length - 1))
      prefixHashes[length] = hash
    }
    const lengths = page.base + (words[at] as number)
    const count = words[at + 1] as number
    for (let index = 0; index < count; index++) {
      const length = words[lengths + index * 2] as number
      if (length > longest) continue
      const entry = this.find(node * 2 + 1, prefixHashes[length] as number, path, start, length)
      if (entry < 0) continue
      const route = this.tryFound(entry, exchange, captured)
      if (route >= 0) return route
    }
    return -1
  }

  private capture(index: number, start: number, end: number): void {
    this.scratch.captureStarts[index] = start
    this.scratch.captureEnds[index] = end
  }

  /** Index of the key's entry in the words of `this.found`, or -1. */
  private find(space: number, hash: number, text: string, start: number, length: number): number {
    const mixed = hashFinish(hash, space)
    const shard = this.shards[mixed >>> this.shardShift] as Block
    const { words, base } = shard
    const mask = words[base + 1] as number
    const slots = base + firstPlace
    for (let slot = mixed & mask; ; slot = (slot + 1) & mask) {
      const place = words[slots + slot * slotWidth + 1] as number
      if (place === 0) return -1
      if (words[slots + slot * slotWidth] !== mixed) continue
      const entry = base + place
      if (words[entry] === space && words[entry + 2] === length && equals(shard, words[entry + 1] as number, text, start, length)) {
        this.found = shard
        return entry
      }
    }
  }

  private tryFound(entry: number, exchange: Routable, captured: number): number {
    const { found } = this
    return this.tryCandidates(found, found.words[entry + 3] as number, found.words[entry + 4] as number, exchange, captured)
  }

  /** The first of `count` candidates from this place of the block that accepts the request: its route, or -1. */
  private tryCandidates(block: Block, first: number, count: number, exchange: Routable, captured: number): number {
    const { words } = block
    for (let at = block.base + first; count > 0; at += candidateWidth, count--) {
      if (this.byRank && !this.isBetter(words, at)) return -1
      if (((words[at + 1] as number) & this.bit) === 0) continue
      const flags = words[at + 2] as number
      const route = words[at] as number
      if (flags === 0) return this.byRank ? this.improve(route, words, at) : route
      if ((flags & CandidateFlag.hosts) !== 0 && !this.acceptsHost(block, words[at + 3] as number, exchange)) continue
      if ((flags & CandidateFlag.params) !== 0) this.readParams(block, words[at + 4] as number, exchange, captured)
      // After the parameters: `vars` may look at them.
      if ((flags & CandidateFlag.conditions) !== 0 && !this.acceptsConditions(route, exchange)) {
        this.params = null
        exchange.uriParams = null
        continue
      }
      return this.byRank ? this.improve(route, words, at) : route
    }
    return -1
  }

  /** Whether the candidate comes before the best route so far. */
  private isBetter(words: Int32Array, at: number): boolean {
    if (this.best < 0) return true
    const priority = words[at + 5] as number
    if (priority !== this.bestPriority) return priority > this.bestPriority
    const length = words[at + 6] as number
    if (length !== this.bestLength) return length > this.bestLength
    return (words[at + 7] as number) < this.bestOrder
  }

  /** Notes the best route so far; -1 = search on. */
  private improve(route: number, words: Int32Array, at: number): number {
    this.best = route
    this.bestPriority = words[at + 5] as number
    this.bestLength = words[at + 6] as number
    this.bestOrder = words[at + 7] as number
    return -1
  }

  private acceptsHost(block: Block, place: number, exchange: Routable): boolean {
    const { words } = block
    const offset = block.base + place
    const count = words[offset] as number
    for (let index = 0, at = offset + 1; index < count; index++, at += 3) {
      const flags = words[at] as number
      const length = words[at + 2] as number
      const host = (flags & HostFlag.withPort) !== 0 ? this.hostHeader : exchange.host
      if (length > host.length || ((flags & HostFlag.suffix) === 0 && length !== host.length)) continue
      if (equals(block, words[at + 1] as number, host, host.length - length, length)) return true
    }
    return false
  }

  private acceptsConditions(route: number, exchange: Routable): boolean {
    const conditions = this.conditions(route)
    if (conditions === null) return true
    if (conditions.remote !== null && !conditions.remote.has(exchange.clientAddress)) return false
    return conditions.vars === null || conditions.vars(exchange)
  }

  private readParams(block: Block, place: number, exchange: Routable, captured: number): void {
    const { words, halves } = block
    const { captureStarts, captureEnds } = this.scratch
    const offset = block.base + place
    const params = new Map<string, string>()
    const count = Math.min(words[offset] as number, captured)
    for (let index = 0, at = offset + 1; index < count; index++, at += 2) {
      const start = charsOf(block) + (words[at] as number)
      const name = String.fromCharCode(...halves.subarray(start, start + (words[at + 1] as number)))
      params.set(name, exchange.path.slice(captureStarts[index], captureEnds[index]))
    }
    this.params = params
    exchange.uriParams = params
  }
}
