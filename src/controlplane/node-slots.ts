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
    if (keys.size === 0) return config
    const upstreams = config.upstreams.map((upstream) => {
      const nodes = upstream.nodes.map((node) => {
        const key = nodeKey(upstream, node)
        return keys.has(key) ? { ...node, slot: this.slots.slot(key, openedMs) } : node
      })
      const { outlierDetection: outliers } = upstream
      if (outliers === undefined) return { ...upstream, nodes }
      return { ...upstream, nodes, outlierDetection: { ...outliers, slot: this.slots.slot(upstreamKey(upstream), 0) } }
    })
    return { ...config, upstreams }
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

/** True when something picks or judges the nodes of this upstream by their state. */
export function needsNodeState(upstream: CompiledUpstream): boolean {
  const { type, balancing } = upstream
  if (type === 'least_conn' || type === 'ewma' || judgesNodes(upstream)) return true
  return (balancing.hash?.balanceFactor ?? 0) > 0 || balancing.slowStart !== null
}
