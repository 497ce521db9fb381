/** Compiles routes into the router's shared tables. The layout is drawn in shared/router-tables. */
import { randomInt } from 'node:crypto'
import type { CompiledRoute, RouterOptions } from '../schema/compiled.js'
import { readHostPattern, readUriPattern, type UriSegment } from '../schema/uri-pattern.js'
import { anyMethod, CandidateFlag, HostFlag, methodBits, type RouterTables, Space, shareInt32 } from '../shared/router-tables.js'
import { Int32List, TableBuilder } from './table-builder.js'

interface Candidate {
  readonly route: number
  readonly priority: number
  /** Length of the pattern as written. */
  readonly length: number
  readonly methods: number
  readonly flags: number
  readonly hosts: number
  readonly names: number
  /** Place among all candidates of all routes, smaller first; only in mode `priority`, else 0. */
  rank: number
}

/** A host bucket, or a node of the trie. Maps are made on first use: most of 100,000 nodes have few. */
class Node {
  exact: Map<string, Candidate[]> | null = null
  children: Map<string, number> | null = null
  prefixes: Map<string, Candidate[]> | null = null
  /** Patterns that end at this trie node. */
  readonly own: Candidate[] = []
  readonly tail: Candidate[] = []
  param = -1
}

/**
 * Routes must have been validated: a pattern or method that the router cannot read throws Error naming the route.
 * 100,000 routes take well under a second.
 */
export function compileRouterTables(routes: readonly CompiledRoute[], options: RouterOptions): RouterTables {
  return new RouterCompiler(routes, options).compile()
}

class RouterCompiler {
  private readonly builder = new TableBuilder(randomInt(2 ** 31))
  private readonly nodes: Node[] = [new Node()]
  private readonly candidates = new Int32List()
  /** All candidates, in mode `priority`. */
  private readonly ranked: Candidate[] = []
  /** Host buckets by space and text. */
  private readonly hosts = new Map<number, Map<string, number>>()
  private hostsWithPort = false
  private maxExactLength = 0
  private maxPrefixLength = 0

  constructor(
    private readonly routes: readonly CompiledRoute[],
    private readonly options: RouterOptions,
  ) {}

  compile(): RouterTables {
    for (let index = 0; index < this.routes.length; index++) this.addRoute(this.routes[index] as CompiledRoute, index)
    this.ranked.sort(byRank)
    for (const [rank, candidate] of this.ranked.entries()) candidate.rank = rank
    const nodes = new Int32List()
    for (let index = 0; index < this.nodes.length; index++) this.writeNode(index, nodes)
    const { suffixes, suffixesWithPort, maxSuffixLength } = this.writeHosts()
    return {
      mode: this.options.mode,
      seed: this.builder.seed,
      routeCount: this.routes.length,
      maxExactLength: this.maxExactLength,
      maxPrefixLength: this.maxPrefixLength,
      maxSuffixLength,
      hostsWithPort: this.hostsWithPort,
      suffixes,
      suffixesWithPort,
      nodes: shareInt32(nodes.view()),
      candidates: shareInt32(this.candidates.view()),
      ...this.builder.finish(),
    }
  }

  private addRoute(route: CompiledRoute, index: number): void {
    const byPriority = this.options.mode === 'priority'
    const hostFirst = byPriority || this.options.mode === 'radixtree_host_uri'
    const methods = this.methodMask(route)
    const conditions = route.remoteAddrs.length > 0 || route.vars !== null ? CandidateFlag.conditions : 0
    const hosts = !hostFirst && route.hosts.length > 0 ? this.writeHostList(route.hosts) : -1
    const flags = conditions | (hosts >= 0 ? CandidateFlag.hosts : 0)
    const buckets = hostFirst && route.hosts.length > 0 ? route.hosts.map((host) => this.hostBucket(host)) : [0]
    for (const uri of route.uris) {
      const pattern = readUriPattern(uri, this.options.mode)
      const base = { route: index, priority: route.priority, length: uri.length, methods, flags, hosts, names: -1, rank: 0 }
      if (byPriority) this.ranked.push(base)
      if (pattern.kind === 'segments') this.addSegments(pattern.segments, base)
      else for (const bucket of buckets) this.addPath(this.nodes[bucket] as Node, pattern.kind, pattern.path, base)
    }
  }

  private methodMask(route: CompiledRoute): number {
    if (route.methods.length === 0) return anyMethod
    let mask = 0
    for (const method of route.methods) {
      const bit = Object.hasOwn(methodBits, method) ? methodBits[method] : undefined
      if (bit === undefined) throw new Error(`route ${route.id}: method ${JSON.stringify(method)} cannot be routed`)
      mask |= bit
    }
    return mask
  }

  private hostBucket(host: string): number {
    const { text, isSuffix, withPort } = readHostPattern(host)
    if (withPort) this.hostsWithPort = true
    const space = withPort ? (isSuffix ? Space.hostSuffixWithPort : Space.hostExactWithPort) : isSuffix ? Space.hostSuffix : Space.hostExact
    const buckets = getOrMake(this.hosts, space, () => new Map<string, number>())
    return getOrMake(buckets, text, () => this.nodes.push(new Node()) - 1)
  }

  private writeHostList(hosts: readonly string[]): number {
    const offset = this.builder.lists.length
    this.builder.lists.push(hosts.length)
    for (const host of hosts) {
      const { text, isSuffix, withPort } = readHostPattern(host)
      if (withPort) this.hostsWithPort = true
      this.builder.lists.push((isSuffix ? HostFlag.suffix : 0) | (withPort ? HostFlag.withPort : 0), this.builder.intern(text), text.length)
    }
    return offset
  }

  private addPath(node: Node, kind: 'exact' | 'prefix', path: string, candidate: Candidate): void {
    if (kind === 'exact') {
      this.maxExactLength = Math.max(this.maxExactLength, path.length)
      node.exact ??= new Map()
      insert(getOrMake(node.exact, path, newList), candidate)
    } else {
      this.maxPrefixLength = Math.max(this.maxPrefixLength, path.length)
      node.prefixes ??= new Map()
      insert(getOrMake(node.prefixes, path, newList), candidate)
    }
  }

  private addSegments(segments: readonly UriSegment[], base: Candidate): void {
    const captured = segments.flatMap((segment) => (segment.kind === 'param' || segment.kind === 'tail' ? [segment.name] : []))
    let candidate = base
    if (captured.length > 0) {
      const names = this.builder.lists.length
      this.builder.lists.push(captured.length)
      for (const name of captured) this.builder.lists.push(this.builder.intern(name), name.length)
      candidate = { ...base, names, flags: base.flags | CandidateFlag.params }
    }
    let node = this.nodes[0] as Node
    for (const segment of segments) {
      if (segment.kind === 'tail') {
        insert(node.tail, candidate)
        return
      }
      if (segment.kind === 'prefix') {
        this.addPath(node, 'prefix', segment.text, candidate)
        return
      }
      let child: number
      if (segment.kind === 'param') {
        if (node.param < 0) node.param = this.nodes.push(new Node()) - 1
        child = node.param
      } else {
        this.maxExactLength = Math.max(this.maxExactLength, segment.text.length)
        node.children ??= new Map()
        child = getOrMake(node.children, segment.text, () => this.nodes.push(new Node()) - 1)
      }
      node = this.nodes[child] as Node
    }
    insert(node.own, candidate)
  }

  private writeNode(index: number, out: Int32List): void {
    const node = this.nodes[index] as Node
    for (const [path, list] of node.exact ?? []) this.builder.addKey(index * 2, path, 'forward', this.writeCandidates(list), list.length)
    for (const [text, child] of node.children ?? []) this.builder.addKey(index * 2, text, 'forward', child, 0)
    for (const [path, list] of node.prefixes ?? []) {
      this.builder.addKey(index * 2 + 1, path, 'forward', this.writeCandidates(list), list.length)
    }
    const lengths = node.prefixes === null ? [0, 0] : this.builder.addLengths(node.prefixes.keys(), 'last')
    const own = this.writeCandidates(node.own)
    const tail = this.writeCandidates(node.tail)
    out.push(lengths[0] as number, lengths[1] as number, own, node.own.length, node.param, tail, node.tail.length, 0)
  }

  /** Priority first, then the longer pattern, then the order of the file (sorting is stable). Returns the first's index. */
  private writeCandidates(list: Candidate[]): number {
    if (list.length > 1) list.sort(byRank)
    const first = this.candidates.length / 6
    for (const { route, methods, flags, hosts, names, rank } of list) this.candidates.push(route, methods, flags, hosts, names, rank)
    return first
  }

  private writeHosts(): Pick<RouterTables, 'suffixes' | 'suffixesWithPort' | 'maxSuffixLength'> {
    let maxSuffixLength = 0
    for (const [space, buckets] of this.hosts) {
      for (const [text, node] of buckets) {
        this.builder.addKey(space, text, 'backward', node, 0)
        maxSuffixLength = Math.max(maxSuffixLength, text.length)
      }
    }
    return {
      suffixes: this.builder.addLengths(this.hosts.get(Space.hostSuffix)?.keys() ?? [], 'first'),
      suffixesWithPort: this.builder.addLengths(this.hosts.get(Space.hostSuffixWithPort)?.keys() ?? [], 'first'),
      maxSuffixLength,
    }
  }
}

function byRank(a: Candidate, b: Candidate): number {
  return b.priority - a.priority || b.length - a.length || a.route - b.route
}

function newList(): Candidate[] {
  return []
}

/** A route that names the same pattern twice is one candidate. */
function insert(list: Candidate[], candidate: Candidate): void {
  const last = list.at(-1)
  if (last === undefined || last.route !== candidate.route) list.push(candidate)
  else if (candidate.length > last.length) list[list.length - 1] = candidate
}

function getOrMake<Key, Value>(map: Map<Key, Value>, key: Key, make: () => Value): Value {
  let value = map.get(key)
  if (value === undefined) {
    value = make()
    map.set(key, value)
  }
  return value
}
