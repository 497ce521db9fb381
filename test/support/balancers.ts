/** Balancers over nodes whose state, time and chance the test owns. */
import { type Balancer, createBalancer } from '../../src/dataplane/balancer/balancer.js'
import { SlowStart } from '../../src/dataplane/balancer/slow-start.js'
import { Tier } from '../../src/dataplane/balancer/tier.js'
import type { BalancerType, CompiledBalancing } from '../../src/schema/compiled.js'
import { createNodesRegion, NodeBoard, NodeCells } from '../../src/shared/node-cells.js'
import { FakeExchange } from './fake-exchange.js'

export interface BenchOptions {
  readonly type: BalancerType
  readonly balancing?: Partial<CompiledBalancing>
  /** One per node. */
  readonly weights: readonly number[]
  /** Default: `10.0.0.<n>:80`. */
  readonly addresses?: readonly string[]
  /** Nodes have slots, so that balancers see their state. Default true. */
  readonly observed?: boolean
  readonly seed?: number
}

export interface BalancerBench {
  readonly tier: Tier<string>
  readonly balancer: Balancer
  /** As a worker. The slot of node i is i + 1. */
  readonly cells: NodeCells
  readonly board: NodeBoard
  /** Milliseconds; the test moves it. */
  nowMs: number
  /** A pick for a request that is hashed by this key. Index of the node. */
  pick(key?: string): number
  /** Times that each node was picked, in `count` picks. */
  counts(count: number): number[]
}

/** Numbers from 0 to below 1 that are the same in every run (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

export const balancingDefaults: CompiledBalancing = {
  hash: null,
  slowStart: null,
  ewmaDecayMs: 10_000,
  allUnhealthy: 'fail_open',
  subset: null,
}

/** Hashing by the query parameter `key`, which `pick` sets. */
export const hashDefaults = { on: 'vars', key: 'arg_key', algorithm: 'ketama', balanceFactor: 0 } as const

export function balancerBench(options: BenchOptions): BalancerBench {
  const { weights, type, observed = true } = options
  const region = createNodesRegion(1)
  const cells = new NodeCells(region, 1, 0)
  const balancing = { ...balancingDefaults, hash: type === 'chash' ? hashDefaults : null, ...options.balancing }
  const members = weights.map((weight, index) => ({
    target: `node ${index}`,
    address: options.addresses?.[index] ?? `10.0.0.${index}:80`,
    weight,
    slot: observed ? index + 1 : 0,
  }))
  const slowStart = balancing.slowStart === null ? null : new SlowStart(balancing.slowStart, () => bench.nowMs)
  const tier = new Tier(members, cells, slowStart, seededRandom(options.seed ?? 1))
  let turn = 0
  const balancer = createBalancer(type, balancing, tier, { next: () => turn++, nowMs: () => bench.nowMs })
  const exchange = new FakeExchange({})
  const bench: BalancerBench = {
    tier,
    balancer,
    cells,
    board: new NodeBoard(region, 1),
    nowMs: 1_000_000,
    pick(key = '') {
      exchange.upstreamQuery = `key=${key}`
      return balancer.pick(exchange)
    },
    counts(count) {
      const counts = weights.map(() => 0)
      for (let index = 0; index < count; index++) {
        const picked = bench.pick(`k${index}`)
        counts[picked] = (counts[picked] ?? 0) + 1
      }
      return counts
    },
  }
  return bench
}
