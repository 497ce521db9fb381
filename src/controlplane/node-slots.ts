/**
 * Gives nodes their slots in shared memory (shared/node-cells), in the primary, once their addresses are known.
 *
 * A node has a slot when at least one upstream of the configuration needs to know its state; then all upstreams with this address tell
 * and see the same state. Nodes of an upstream that judges them (health checks, outlier detection) have slots of their own, because what
 * is unhealthy here may be well there. Where nobody needs the state (plain round robin without checks), requests write nothing.
 */

import type { CompiledConfig, CompiledNode, CompiledUpstream } from '../schema/compiled.js'
import type { NodesUpdate } from './dns.js'

/** Where slots come from (shared/node-cells). */
export interface SlotSource {
  slot(key: string, openedMs: number): number
  known(key: string): number
  retain(keys: ReadonlySet<string>, nowMs: number): void
}

/** The part of a configuration that matters here. */
type Upstreams = Pick<CompiledConfig, 'upstreams'>

/** Nodes are known by their address, those of an upstream that judges them also by their host and the key of the upstream. */
export function nodeKey(upstream: CompiledUpstream, node: CompiledNode): string {
  const place = `${node.address}|${node.port}`
  return judgesNodes(upstream) ? `${place}\0${node.host}\0${upstream.key}` : place
}

/** The place and the upstream that a key stands for; null = it is the key of an upstream. The upstream is empty when several share the node. */
export function readNodeKey(key: string): { readonly address: string; readonly port: number; readonly upstream: string } | null {
  const [place = '', , upstream = ''] = key.split('\0')
  if (place === '') return null
  const split = place.lastIndexOf('|')
  return { address: place.slice(0, split), port: Number(place.slice(split + 1)), upstream }
}

function upstreamKey(upstream: CompiledUpstream): string {
  return `\0${upstream.key}`
}

function judgesNodes({ checks, outlierDetection }: CompiledUpstream): boolean {
  return checks !== undefined || outlierDetection !== undefined
}

export class NodeDirectory {
  private isFirst = true
  /** Keys that have slots. */
  private keys: ReadonlySet<string> = new Set()
  /** The upstreams as they were assigned last. */
  private assigned: CompiledUpstream[] = []

  constructor(
    private readonly slots: SlotSource,
    private readonly clock: { nowMs(): number },
    /** Tells whether a balancer, a health check or anything else of this upstream reads the state of its nodes. */
    private readonly needsState: (upstream: CompiledUpstream) => boolean,
  ) {}

  /** The configuration with a slot in every node that has an address and needs one. Nodes that are new after the first call open now. */
  assign<Config extends Upstreams>(config: Config): Config {
    const nowMs = this.clock.nowMs()
    const openedMs = this.isFirst ? 0 : nowMs
    this.isFirst = false
    const keys = new Set<string>()
    for (const upstream of config.upstreams) {
      if (!this.needsState(upstream)) continue
      if (upstream.outlierDetection !== undefined) keys.add(upstreamKey(upstream))
      for (const node of upstream.nodes) if (node.address !== '') keys.add(nodeKey(upstream, node))
    }
    this.slots.retain(keys, nowMs)
    this.keys = keys
    if (keys.size === 0) {
      this.assigned = [...config.upstreams]
      return config
    }
    const upstreams = config.upstreams.map((upstream) => this.withSlots(upstream, openedMs))
    this.assigned = [...upstreams]
    return { ...config, upstreams }
  }

  /**
   * The same after a change of some upstreams of `config`, which has them already; null = there is none any more. Returns those upstreams
   * and all others whose slots are different now.
   */
  assignChanges(config: Upstreams, changed: ReadonlyMap<number, CompiledUpstream | null>): Map<number, CompiledUpstream | null> {
    const before = this.assigned
    const isRead = (upstream: CompiledUpstream | null | undefined): boolean => upstream != null && this.needsState(upstream)
    if ([...changed].some(([index, upstream]) => isRead(upstream) || isRead(before[index]))) {
      const { upstreams } = this.assign(config)
      const result = new Map<number, CompiledUpstream | null>()
      for (const [index, upstream] of upstreams.entries()) {
        if (changed.has(index)) result.set(index, changed.get(index) === null ? null : upstream)
        else if (!haveSameSlots(upstream, before[index])) result.set(index, upstream)
      }
      return result
    }
    const result = new Map<number, CompiledUpstream | null>()
    const openedMs = this.clock.nowMs()
    for (const [index, upstream] of changed) {
      const assigned = upstream === null || this.keys.size === 0 ? upstream : this.withSlots(upstream, openedMs)
      result.set(index, assigned)
      const kept = assigned ?? config.upstreams[index]
      if (kept !== undefined) before[index] = kept
    }
    return result
  }

  /** All upstreams as they are assigned now. */
  current(): Upstreams {
    return { upstreams: this.assigned }
  }

  private withSlots(upstream: CompiledUpstream, openedMs: number): CompiledUpstream {
    const nodes = upstream.nodes.map((node) => {
      const key = nodeKey(upstream, node)
      return this.keys.has(key) ? { ...node, slot: this.slots.slot(key, openedMs) } : node
    })
    const { outlierDetection: outliers } = upstream
    if (outliers === undefined) return { ...upstream, nodes }
    return { ...upstream, nodes, outlierDetection: { ...outliers, slot: this.slots.slot(upstreamKey(upstream), 0) } }
  }

  /** The same for newer addresses of upstreams of `config`, the configuration that was assigned last. */
  assignUpdates(updates: readonly NodesUpdate[], config: Upstreams): NodesUpdate[] {
    return updates.map(({ upstream, nodes }) => {
      const record = config.upstreams[upstream]
      return { upstream, nodes: record === undefined ? nodes : this.assignNodes(record, nodes) }
    })
  }

  private assignNodes(upstream: CompiledUpstream, nodes: readonly CompiledNode[]): CompiledNode[] {
    const nowMs = this.clock.nowMs()
    const needed = this.needsState(upstream)
    return nodes.map((node) => {
      if (node.address === '') return node
      const key = nodeKey(upstream, node)
      const slot = needed ? this.slots.slot(key, nowMs) : this.slots.known(key)
      return slot === 0 ? node : { ...node, slot }
    })
  }
}

function haveSameSlots(upstream: CompiledUpstream, other: CompiledUpstream | undefined): boolean {
  return (
    other !== undefined &&
    upstream.outlierDetection?.slot === other.outlierDetection?.slot &&
    upstream.nodes.every((node, index) => node.slot === other.nodes[index]?.slot)
  )
}

/** True when something picks or judges the nodes of this upstream by their state. */
export function needsNodeState(upstream: CompiledUpstream): boolean {
  const { type, balancing } = upstream
  if (type === 'least_conn' || type === 'ewma' || judgesNodes(upstream)) return true
  return (balancing.hash?.balanceFactor ?? 0) > 0 || balancing.slowStart !== null
}
