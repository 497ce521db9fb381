/** An upstream as one worker uses it: its nodes with their pools of connections, and the balancer that picks among them. */
import { recentMs } from '../base/clock.js'
import { type Failure, failures } from '../base/errors.js'
import type { CompiledDeadline, CompiledNode, CompiledUpstream } from '../schema/compiled.js'
import type { NodeCells } from '../shared/node-cells.js'
import type { NodeHealth, NodeNews } from '../shared/node-health.js'
import type { Rotors } from '../shared/rotors.js'
import type { UpstreamCells } from '../shared/upstream-cells.js'
import { createBalancer } from './balancer/balancer.js'
import { type BalancedTier, NodeGroup } from './balancer/node-group.js'
import { NodeJudge } from './balancer/node-judge.js'
import { SlowStart } from './balancer/slow-start.js'
import { divideByLabels, Subsets } from './balancer/subsets.js'
import { Tier } from './balancer/tier.js'
import type { Bulkhead } from './concurrency/bulkhead.js'
import type { Bulkheads } from './concurrency/bulkheads.js'
import type { Exchange } from './exchange.js'
import { HedgeDelay } from './retries/hedge-delay.js'
import { RetryBudget } from './retries/retry-budget.js'
import { defaultRetryPolicy, RetryPolicy } from './retries/retry-policy.js'
import type { NodePool } from './upstream/pool.js'
import type { PoolRegistry } from './upstream/pool-registry.js'

export interface UpstreamEnvironment {
  readonly pools: PoolRegistry
  readonly rotors: Rotors
  readonly nodes: NodeCells
  readonly nodeHealth: NodeHealth
  /** A judgement about a node changed. */
  nodeNews(news: NodeNews): void
  readonly upstreams: UpstreamCells
  readonly bulkheads: Bulkheads
}

export class LinkedUpstream {
  /** Learns about nodes from tries; null = nobody wants to know. */
  readonly judge: NodeJudge | null
  private all: NodeGroup<NodePool> = new NodeGroup([])
  private subsets: Subsets<NodeGroup<NodePool>> | null = null
  private nodeCount = 0
  readonly retry: RetryPolicy
  readonly budget: RetryBudget
  /** Null = requests are not bounded. */
  readonly bulkhead: Bulkhead<Exchange> | null
  readonly deadline: CompiledDeadline | null
  /** Null = no hedging. */
  readonly hedge: HedgeDelay | null
  /** Its tries or its requests have a limit, or are told of one. */
  readonly isTimed: boolean

  constructor(
    readonly record: CompiledUpstream,
    nodes: readonly CompiledNode[],
    private readonly environment: UpstreamEnvironment,
  ) {
    const { nodes: cells, nodeHealth: health } = environment
    this.judge = NodeJudge.of(record, { cells, health, tell: (news) => environment.nodeNews(news) })
    const { resilience, rotor } = record
    this.retry = resilience?.retry === undefined ? defaultRetryPolicy : new RetryPolicy(resilience.retry)
    this.budget = new RetryBudget(environment.upstreams, rotor, resilience?.budget)
    const concurrency = resilience?.concurrency
    this.bulkhead = concurrency === undefined ? null : environment.bulkheads.get(rotor, concurrency)
    this.deadline = resilience?.deadline ?? null
    this.hedge = resilience?.hedge === undefined ? null : new HedgeDelay(resilience.hedge)
    this.isTimed = this.deadline !== null || record.timeout.perTryMs !== undefined || record.timeout.totalMs !== undefined
    this.setNodes(nodes)
  }

  setNodes(nodes: readonly CompiledNode[]): void {
    // A name that could not be resolved yet has no address; weight 0 means drained.
    const usable = nodes.filter((node) => node.weight > 0 && node.address !== '')
    const { subset } = this.record.balancing
    this.all = this.group(usable)
    this.subsets =
      subset === null
        ? null
        : new Subsets(subset, new Map([...divideByLabels(usable, subset)].map(([key, members]) => [key, this.group(members)])))
    this.nodeCount = usable.length
    if (this.judge !== null) this.judge.members = usable.length
  }

  get retries(): number {
    return this.record.retries >= 0 ? this.record.retries : Math.max(0, this.nodeCount - 1)
  }

  /**
   * The node for the next try, or null when the upstream has none for this request; its slot is left in `exchange.pickedSlot`.
   *
   * Usable nodes that this exchange did not try come first, then usable ones that it did try (with a single node an explicit `retries`
   * comes back to it). When none is usable, `all_unhealthy` decides: as if all were, or none.
   */
  pick(exchange: Exchange, tried: readonly NodePool[] | null): NodePool | null {
    return (
      this.pickFrom(exchange, tried, false) ??
      (tried === null ? null : this.pickFrom(exchange, null, false)) ??
      (this.record.balancing.allUnhealthy === 'fail' ? null : (this.pickFrom(exchange, tried, true) ?? this.pickFrom(exchange, null, true)))
    )
  }

  /** Why `pick` found nothing: there are nodes for this request, and only their health speaks against them; or there are none. */
  noNodeFailure(exchange: Exchange): Failure {
    return this.pickFrom(exchange, null, true) === null ? failures.NO_NODES : failures.UPSTREAM_UNHEALTHY
  }

  private pickFrom(exchange: Exchange, tried: readonly NodePool[] | null, ignoresHealth: boolean): NodePool | null {
    if (this.subsets === null) return pickFromGroup(this.all, exchange, tried, ignoresHealth)
    const subset = this.subsets.groupFor(exchange)
    const picked = subset === undefined ? null : pickFromGroup(subset, exchange, tried, ignoresHealth)
    if (picked !== null || this.record.balancing.subset?.fallback === 'none') return picked
    return pickFromGroup(this.all, exchange, tried, ignoresHealth)
  }

  private group(nodes: readonly CompiledNode[]): NodeGroup<NodePool> {
    const priorities = [...new Set(nodes.map((node) => node.priority))].sort((a, b) => b - a)
    return new NodeGroup(priorities.map((priority) => this.tier(nodes.filter((node) => node.priority === priority))))
  }

  private tier(nodes: readonly CompiledNode[]): BalancedTier<NodePool> {
    const { record, environment } = this
    const { slowStart } = record.balancing
    const members = nodes.map((node) => {
      const target = environment.pools.get(node, record)
      return { target, address: target.address, weight: node.weight, slot: node.slot ?? 0 }
    })
    const tier = new Tier(members, environment.nodes, slowStart === null ? null : new SlowStart(slowStart, recentMs))
    const tools = { next: () => environment.rotors.next(record.rotor), nowMs: recentMs }
    return { tier, balancer: createBalancer(record.type, record.balancing, tier, tools) }
  }
}

function pickFromGroup(
  group: NodeGroup<NodePool>,
  exchange: Exchange,
  tried: readonly NodePool[] | null,
  ignoresHealth: boolean,
): NodePool | null {
  const picked = group.pick(exchange, tried, ignoresHealth)
  if (picked !== null) exchange.pickedSlot = group.pickedSlot
  return picked
}
