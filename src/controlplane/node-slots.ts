/**
 * Gives nodes their slots in shared memory (shared/node-cells), in the primary, once their addresses are known.
 *
 * A node has a slot when at least one upstream of the configuration needs to know its state; then all upstreams with this address tell
 * and see the same state. Where nobody needs it (plain round robin without health checks), requests write nothing.
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

export function nodeKey(node: CompiledNode): string {
  return `${node.address}|${node.port}`
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
      for (const node of upstream.nodes) if (node.address !== '') keys.add(nodeKey(node))
    }
    this.slots.retain(keys, nowMs)
    if (keys.size === 0) return config
    const give = (node: CompiledNode): CompiledNode => {
      const key = nodeKey(node)
      return keys.has(key) ? { ...node, slot: this.slots.slot(key, openedMs) } : node
    }
    return { ...config, upstreams: config.upstreams.map((upstream) => ({ ...upstream, nodes: upstream.nodes.map(give) })) }
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
      const slot = needed ? this.slots.slot(nodeKey(node), nowMs) : this.slots.known(nodeKey(node))
      return slot === 0 ? node : { ...node, slot }
    })
  }
}

/** True when something picks or judges the nodes of this upstream by their state. */
export function needsNodeState({ type, balancing }: CompiledUpstream): boolean {
  return type === 'least_conn' || type === 'ewma' || (balancing.hash?.balanceFactor ?? 0) > 0 || balancing.slowStart !== null
}
