/**
 * The routes as the router's tables need them, kept in the primary: routes come and go, and only the blocks of the tables that are
 * different are written anew. The layout of the tables is drawn in shared/router-tables.
 */
import { randomInt } from 'node:crypto'
import type { CompiledRoute, RouterOptions } from '../schema/compiled.js'
import { readHostPattern, readUriPattern, type UriSegment } from '../schema/uri-pattern.js'
import type { BlockChanges } from '../shared/blocks.js'
import {
  CandidateFlag,
  HostFlag,
  hashFinish,
  hashStart,
  hashStep,
  nodesPerPage,
  type RouterChanges,
  type RouterShape,
  type RouterTables,
  Space,
} from '../shared/router-tables.js'
import { RouterBlockWriter } from './router-blocks.js'
import { byRank, type Candidate, getOrMake, hostKey, type Key, Lengths, methodMask, Node, nobody, withdraw } from './router-nodes.js'

/** Keys of a shard when the tables are divided; divided anew when there are so many times more. */
const KEYS_PER_SHARD = 24
const GROWTH_MAX = 4

export class RouterIndex {
  private readonly seed = randomInt(2 ** 31)
  private readonly nodes: (Node | null)[] = [new Node()]
  private readonly freeNodes: number[] = []
  /** Host buckets by space and text. */
  private readonly hosts = new Map<number, Map<string, Key>>()
  private readonly suffixes = new Map<number, Lengths>()
  private hostsWithPort = false
  private maxExactLength = 0
  private maxPrefixLength = 0
  private maxSuffixLength = 0
  /** Null until the tables are written for the first time. */
  private shards: Key[][] | null = null
  private shardShift = 31
  private keyCount = 0
  private readonly dirtyShards = new Set<number>()
  private readonly dirtyPages = new Set<number>()

  constructor(private readonly options: RouterOptions) {}

  /**
   * These routes, in this order. They must have been validated: a pattern or method that the router cannot read throws Error naming
   * the route.
   */
  static of(routes: readonly CompiledRoute[], options: RouterOptions): RouterIndex {
    const index = new RouterIndex(options)
    for (let place = 0; place < routes.length; place++) index.add(routes[place] as CompiledRoute, place, place)
    return index
  }

  /** `place`: the number that the router gives back. `order`: decides between routes that are equal otherwise, smaller first. */
  add(route: CompiledRoute, place: number, order: number): void {
    this.patterns(route, place, order, (bucket, pattern, candidate) => {
      if (pattern.kind === 'segments') this.addSegments(pattern.segments, candidate)
      else this.addPath(this.bucketFor(bucket), pattern.kind, pattern.path, candidate)
    })
  }

  /** Takes out what `add` put in for this place; `route` must be the same. */
  remove(route: CompiledRoute, place: number): void {
    this.patterns(route, place, 0, (bucket, pattern) => {
      if (pattern.kind === 'segments') this.removeSegments(0, pattern.segments, 0, place)
      else if (bucket === null) this.removePath(0, pattern.kind, pattern.path, place)
      else this.removeFromHost(bucket, pattern.kind, pattern.path, place)
    })
  }

  /** All tables, divided as suits them. */
  tables(): RouterTables {
    this.divide()
    const { shards } = this
    const shardWriter = new RouterBlockWriter()
    for (const keys of shards ?? []) shardWriter.shard(keys)
    const pageWriter = new RouterBlockWriter()
    for (let page = 0; page < this.pageCount; page++) pageWriter.page(this.pageNodes(page))
    this.dirtyShards.clear()
    this.dirtyPages.clear()
    return { ...this.shape(), shards: shardWriter.blocks.finish(), pages: pageWriter.blocks.finish() }
  }

  /** What is different since the last call of this or of `tables`. */
  changes(): RouterChanges {
    if (this.keyCount > (this.shards?.length ?? 0) * KEYS_PER_SHARD * GROWTH_MAX) {
      this.divide()
      for (const shard of (this.shards ?? []).keys()) this.dirtyShards.add(shard)
    }
    const writer = new RouterBlockWriter()
    const write = (count: number, dirty: Set<number>, one: (index: number) => void): BlockChanges => {
      const changed = [...dirty].map((index) => {
        one(index)
        return { index, buffer: writer.blocks.take() }
      })
      dirty.clear()
      return { count, changed }
    }
    return {
      ...this.shape(),
      shards: write(this.shards?.length ?? 0, this.dirtyShards, (index) => writer.shard(this.shards?.[index] ?? [])),
      pages: write(this.pageCount, this.dirtyPages, (index) => writer.page(this.pageNodes(index))),
    }
  }

  private shape(): RouterShape {
    return {
      mode: this.options.mode,
      seed: this.seed,
      maxExactLength: this.maxExactLength,
      maxPrefixLength: this.maxPrefixLength,
      maxSuffixLength: this.maxSuffixLength,
      hostsWithPort: this.hostsWithPort,
      suffixes: this.suffixes.get(Space.hostSuffix)?.list() ?? [],
      suffixesWithPort: this.suffixes.get(Space.hostSuffixWithPort)?.list() ?? [],
      shardShift: this.shardShift,
    }
  }

  private get pageCount(): number {
    return Math.ceil(this.nodes.length / nodesPerPage)
  }

  private pageNodes(page: number): (Node | null)[] {
    return this.nodes.slice(page * nodesPerPage, (page + 1) * nodesPerPage)
  }

  /** Puts all keys into shards. */
  private divide(): void {
    const keys: Key[] = []
    for (const node of this.nodes) {
      for (const map of [node?.exact, node?.children, node?.prefixes]) for (const key of map?.values() ?? []) keys.push(key)
    }
    for (const map of this.hosts.values()) for (const key of map.values()) keys.push(key)
    if (this.shards === null) this.sortAll(keys)
    let bits = 1
    while (bits < 20 && keys.length > KEYS_PER_SHARD << bits) bits++
    this.shardShift = 32 - bits
    this.shards = Array.from({ length: 1 << bits }, () => [])
    for (const key of keys) this.shards[key.hash >>> this.shardShift]?.push(key)
    this.keyCount = keys.length
  }

  /** Until now candidates were only appended. */
  private sortAll(keys: readonly Key[]): void {
    for (const { candidates } of keys) if (candidates !== null && candidates.length > 1) candidates.sort(byRank)
    for (const node of this.nodes) {
      if (node !== null && node.own.length > 1) node.own.sort(byRank)
      if (node !== null && node.tail.length > 1) node.tail.sort(byRank)
    }
  }

  /** Calls `use` for every pattern of a route in every host bucket: null = the one of all hosts. */
  private patterns(
    route: CompiledRoute,
    place: number,
    order: number,
    use: (bucket: string | null, pattern: ReturnType<typeof readUriPattern>, candidate: Candidate) => void,
  ): void {
    const { mode } = this.options
    const hostFirst = mode === 'priority' || mode === 'radixtree_host_uri'
    const conditions = route.remoteAddrs.length > 0 || route.vars !== null ? CandidateFlag.conditions : 0
    const hosts = !hostFirst && route.hosts.length > 0 ? route.hosts.map((host) => this.hostText(host)) : null
    const buckets = hostFirst && route.hosts.length > 0 ? route.hosts : [null]
    const methods = methodMask(route)
    for (const uri of route.uris) {
      const pattern = readUriPattern(uri, mode)
      const names = pattern.kind === 'segments' ? capturedNames(pattern.segments) : null
      const flags = conditions | (hosts === null ? 0 : CandidateFlag.hosts) | (names === null ? 0 : CandidateFlag.params)
      const { priority } = route
      const candidate: Candidate = {
        route: place,
        order,
        priority,
        length: uri.length,
        methods,
        flags,
        hosts,
        names,
      }
      for (const bucket of buckets) use(bucket, pattern, candidate)
    }
  }

  private hostText(host: string): { flags: number; text: string } {
    const { text, isSuffix, withPort } = readHostPattern(host)
    if (withPort) this.hostsWithPort = true
    return { flags: (isSuffix ? HostFlag.suffix : 0) | (withPort ? HostFlag.withPort : 0), text }
  }

  /** Number of the host bucket, which is made if need be. */
  private bucketFor(host: string | null): number {
    if (host === null) return 0
    const { space, text } = hostKey(host)
    if (space === Space.hostExactWithPort || space === Space.hostSuffixWithPort) this.hostsWithPort = true
    const buckets = getOrMake(this.hosts, space, () => new Map<string, Key>())
    const known = buckets.get(text)
    if (known !== undefined) return known.node
    const key = this.key(space, text, 'backward', null, this.makeNode())
    buckets.set(text, key)
    this.maxSuffixLength = Math.max(this.maxSuffixLength, text.length)
    getOrMake(this.suffixes, space, () => new Lengths('first')).add(text)
    return key.node
  }

  private makeNode(): number {
    const node = this.freeNodes.pop() ?? this.nodes.length
    this.nodes[node] = new Node()
    this.touchNode(node)
    return node
  }

  private freeNode(node: number): void {
    this.nodes[node] = null
    this.freeNodes.push(node)
    this.touchNode(node)
  }

  private touchNode(node: number): void {
    if (this.shards !== null) this.dirtyPages.add(Math.floor(node / nodesPerPage))
  }

  private touchKey(key: Key): void {
    if (this.shards !== null) this.dirtyShards.add(key.hash >>> this.shardShift)
  }

  /** A key that is new. Hosts are hashed from their end, so that one pass over a request's host serves all suffixes. */
  private key(space: number, text: string, direction: 'forward' | 'backward', candidates: Candidate[] | null, node: number): Key {
    let hash = hashStart(this.seed)
    if (direction === 'forward') for (let index = 0; index < text.length; index++) hash = hashStep(hash, text.charCodeAt(index))
    else for (let index = text.length - 1; index >= 0; index--) hash = hashStep(hash, text.charCodeAt(index))
    const key: Key = { space, text, hash: hashFinish(hash, space), candidates, node }
    if (this.shards !== null) {
      this.shards[key.hash >>> this.shardShift]?.push(key)
      this.keyCount++
      this.touchKey(key)
    }
    return key
  }

  private dropKey(key: Key): void {
    const shard = this.shards?.[key.hash >>> this.shardShift]
    shard?.splice(shard.indexOf(key), 1)
    this.keyCount--
    this.touchKey(key)
  }

  private addPath(index: number, kind: 'exact' | 'prefix', path: string, candidate: Candidate): void {
    const node = this.nodes[index] as Node
    let keys = kind === 'exact' ? node.exact : node.prefixes
    if (keys === null) {
      keys = new Map()
      if (kind === 'exact') node.exact = keys
      else node.prefixes = keys
    }
    let key = keys.get(path)
    if (key === undefined) {
      key = this.key(index * 2 + (kind === 'exact' ? 0 : 1), path, 'forward', [candidate], -1)
      keys.set(path, key)
      if (kind === 'exact') this.maxExactLength = Math.max(this.maxExactLength, path.length)
      else {
        this.maxPrefixLength = Math.max(this.maxPrefixLength, path.length)
        node.lengths ??= new Lengths('last')
        node.lengths.add(path)
        this.touchNode(index)
      }
    } else {
      this.touchKey(key)
      if (key.candidates !== null) this.insert(key.candidates, candidate)
    }
  }

  private removePath(index: number, kind: 'exact' | 'prefix', path: string, place: number): void {
    const node = this.nodes[index] as Node
    const keys = kind === 'exact' ? node.exact : node.prefixes
    const key = keys?.get(path)
    if (keys === null || key === undefined || key.candidates === null) return
    withdraw(key.candidates, place)
    if (key.candidates.length > 0) {
      this.touchKey(key)
      return
    }
    keys.delete(path)
    this.dropKey(key)
    if (kind === 'exact') return
    node.lengths?.remove(path)
    this.touchNode(index)
  }

  private removeFromHost(host: string, kind: 'exact' | 'prefix', path: string, place: number): void {
    const { space, text } = hostKey(host)
    const key = this.hosts.get(space)?.get(text)
    if (key === undefined) return
    this.removePath(key.node, kind, path, place)
    if (!(this.nodes[key.node] as Node).isEmpty) return
    this.hosts.get(space)?.delete(text)
    this.suffixes.get(space)?.remove(text)
    this.dropKey(key)
    this.freeNode(key.node)
  }

  private addSegments(segments: readonly UriSegment[], candidate: Candidate): void {
    let index = 0
    for (const segment of segments) {
      const node = this.nodes[index] as Node
      if (segment.kind === 'tail') {
        if (node.tail === nobody) node.tail = []
        this.insert(node.tail, candidate)
        this.touchNode(index)
        return
      }
      if (segment.kind === 'prefix') {
        this.addPath(index, 'prefix', segment.text, candidate)
        return
      }
      index = segment.kind === 'param' ? this.paramChild(node, index) : this.staticChild(node, index, segment.text)
    }
    const node = this.nodes[index] as Node
    if (node.own === nobody) node.own = []
    this.insert(node.own, candidate)
    this.touchNode(index)
  }

  private paramChild(node: Node, index: number): number {
    if (node.param < 0) {
      node.param = this.makeNode()
      this.touchNode(index)
    }
    return node.param
  }

  private staticChild(node: Node, index: number, text: string): number {
    this.maxExactLength = Math.max(this.maxExactLength, text.length)
    node.children ??= new Map()
    let key = node.children.get(text)
    if (key === undefined) {
      key = this.key(index * 2, text, 'forward', null, this.makeNode())
      node.children.set(text, key)
    }
    return key.node
  }

  private removeSegments(index: number, segments: readonly UriSegment[], depth: number, place: number): void {
    const node = this.nodes[index] as Node
    const segment = segments[depth]
    if (segment === undefined || segment.kind === 'tail') {
      const list = segment === undefined ? node.own : node.tail
      if (list.length > 0) withdraw(list, place)
      this.touchNode(index)
      return
    }
    if (segment.kind === 'prefix') {
      this.removePath(index, 'prefix', segment.text, place)
      return
    }
    const key = segment.kind === 'static' ? node.children?.get(segment.text) : undefined
    const child = segment.kind === 'param' ? node.param : (key?.node ?? -1)
    if (child < 0) return
    this.removeSegments(child, segments, depth + 1, place)
    if (!(this.nodes[child] as Node).isEmpty) return
    this.freeNode(child)
    if (segment.kind === 'param') {
      node.param = -1
      this.touchNode(index)
    } else if (key !== undefined) {
      node.children?.delete(key.text)
      this.dropKey(key)
    }
  }

  /** A route that names the same pattern twice is one candidate, with the longer form. */
  private insert(list: Candidate[], candidate: Candidate): void {
    const same = this.shards === null ? list.length - 1 : list.findIndex((other) => other.route === candidate.route)
    const other = list[same]
    if (other !== undefined && other.route === candidate.route) {
      if (candidate.length <= other.length) return
      list.splice(same, 1)
    }
    let place = list.length
    if (this.shards !== null) while (place > 0 && byRank(list[place - 1] as Candidate, candidate) > 0) place--
    if (place === list.length) list.push(candidate)
    else list.splice(place, 0, candidate)
  }
}

/** Null = none. */
function capturedNames(segments: readonly UriSegment[]): string[] | null {
  const names = segments.flatMap((segment) => (segment.kind === 'param' || segment.kind === 'tail' ? [segment.name] : []))
  return names.length === 0 ? null : names
}
