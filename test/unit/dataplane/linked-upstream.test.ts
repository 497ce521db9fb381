/** Which nodes a pick may fall on: priorities, what was tried, health, and the rule when nothing is left. */
import { describe, expect, test } from 'vitest'
import { failures } from '../../../src/base/errors.js'
import { LinkedUpstream } from '../../../src/dataplane/linked-upstream.js'
import type { NodePool } from '../../../src/dataplane/upstream/pool.js'
import { PoolRegistry } from '../../../src/dataplane/upstream/pool-registry.js'
import type { CompiledNode, CompiledUpstream } from '../../../src/schema/compiled.js'
import { createNodesRegion, NodeBoard, NodeCells, NodeStatus } from '../../../src/shared/node-cells.js'
import { NodeHealth } from '../../../src/shared/node-health.js'
import { ROTORS_BYTES, Rotors } from '../../../src/shared/rotors.js'
import { createUpstreamsRegion, UpstreamCells } from '../../../src/shared/upstream-cells.js'
import { balancingOf, bulkheadsOf, exchangeOf, nodeOf, silentEvents, silentTally, upstreamOf } from './parts.js'

/** Nodes 10.0.0.1, 10.0.0.2, …; the slot of node n is n. */
function linked(nodes: readonly Partial<CompiledNode>[], fields: Partial<CompiledUpstream> = {}) {
  const region = createNodesRegion(1)
  const list = nodes.map((node, index) => nodeOf({ address: `10.0.0.${index + 1}`, host: `10.0.0.${index + 1}`, slot: index + 1, ...node }))
  const cells = new NodeCells(region, 1, 0)
  const upstream = new LinkedUpstream(upstreamOf(fields), list, {
    pools: new PoolRegistry(silentEvents, 16384, silentTally()),
    rotors: new Rotors(new SharedArrayBuffer(ROTORS_BYTES)),
    nodes: cells,
    nodeHealth: new NodeHealth(region, cells),
    nodeNews: () => {},
    upstreams: new UpstreamCells(createUpstreamsRegion()),
    bulkheads: bulkheadsOf(),
  })
  const exchange = exchangeOf()
  const pick = (tried: readonly NodePool[] | null = null): NodePool | null => upstream.pick(exchange, tried)
  /** Numbers of the nodes that 60 picks fall on. */
  const picked = (tried: readonly NodePool[] | null = null): number[] =>
    [...new Set(Array.from({ length: 60 }, () => Number(pick(tried)?.settings.node.address.slice(7) ?? 0)))].sort()
  return { upstream, exchange, pick, picked, board: new NodeBoard(region, 1) }
}

const three = [{}, {}, {}]

describe('priorities', () => {
  const tiers = [{ priority: 1 }, { priority: 1 }, { priority: 0 }, { priority: -5 }]

  test('the next one is used when all above are down, and not before', () => {
    const { picked, board } = linked(tiers)
    expect(picked()).toEqual([1, 2])
    board.close(1, NodeStatus.ActiveDown)
    expect(picked()).toEqual([2])
    board.close(2, NodeStatus.Ejected)
    expect(picked()).toEqual([3])
    board.close(3, NodeStatus.PassiveDown)
    expect(picked()).toEqual([4])
    board.open(2, NodeStatus.Ejected, 1000)
    expect(picked()).toEqual([2])
  })

  test('a request goes through them as its tries fail', () => {
    const { pick } = linked(tiers)
    const tried: NodePool[] = []
    for (let count = 0; count < 4; count++) {
      const pool = pick(tried.length === 0 ? null : tried)
      if (pool !== null) tried.push(pool)
    }
    expect(new Set(tried.slice(0, 2).map((pool) => pool.settings.node.priority))).toEqual(new Set([1]))
    expect(tried.slice(2).map((pool) => pool.settings.node.priority)).toEqual([0, -5])
  })
})

describe('when nothing is usable', () => {
  test('fail_open: all nodes are used, those that were not tried first', () => {
    const { pick, picked, board } = linked(three)
    for (const slot of [1, 2, 3]) board.close(slot, NodeStatus.ActiveDown)
    expect(picked()).toEqual([1, 2, 3])
    const tried = [pick(), pick()].filter((pool) => pool !== null)
    const other = pick(tried)
    expect(other).not.toBeNull()
    expect(tried).not.toContain(other)
  })

  test('fail: there is none', () => {
    const { upstream, exchange, pick, picked, board } = linked(three, { balancing: balancingOf({ allUnhealthy: 'fail' }) })
    for (const slot of [1, 2, 3]) board.close(slot, NodeStatus.ActiveDown)
    expect(pick()).toBeNull()
    expect(upstream.noNodeFailure(exchange)).toBe(failures.UPSTREAM_UNHEALTHY)
    board.open(2, NodeStatus.ActiveDown, 1000)
    expect(picked()).toEqual([2])
  })

  test('a usable node that was tried comes before one that is down', () => {
    const { pick, board } = linked(three)
    board.close(2, NodeStatus.ActiveDown)
    board.close(3, NodeStatus.ActiveDown)
    const first = pick()
    expect(first === null ? null : pick([first])).toBe(first)
  })

  test('without nodes there is none, whatever the rule', () => {
    const { upstream, exchange, pick } = linked([])
    expect([pick(), upstream.noNodeFailure(exchange)]).toEqual([null, failures.NO_NODES])
    expect(linked([{ weight: 0 }, { address: '' }]).pick()).toBeNull()
  })
})

test('the slot of what was picked is left in the exchange', () => {
  const { exchange, pick } = linked(three)
  const pool = pick()
  expect(exchange.pickedSlot).toBe(Number(pool?.settings.node.address.slice(7)))
})

describe('subsets', () => {
  const nodes = [{ labels: { v: '1', zone: 'a' } }, { labels: { v: '2', zone: 'a' } }, { labels: { v: '2', zone: 'b' } }, {}]
  const subset = (fallback: 'any' | 'none', value: string) =>
    balancingOf({
      subset: {
        match: [
          { label: 'v', value },
          { label: 'zone', value: 'a' },
        ],
        fallback,
      },
    })

  test('only nodes with all values; all nodes when those are down or do not exist', () => {
    const { picked, board } = linked(nodes, { balancing: subset('any', '2') })
    expect(picked()).toEqual([2])
    board.close(2, NodeStatus.ActiveDown)
    expect(picked()).toEqual([1, 3, 4])
    expect(linked(nodes, { balancing: subset('any', '9') }).picked()).toEqual([1, 2, 3, 4])
  })

  test('fallback none: the nodes of the subset or nobody', () => {
    const { picked, board } = linked(nodes, { balancing: subset('none', '1') })
    expect(picked()).toEqual([1])
    board.close(1, NodeStatus.ActiveDown)
    // Health gives way before the choice of the user does.
    expect(picked()).toEqual([1])
    expect(linked(nodes, { balancing: subset('none', '9') }).pick()).toBeNull()
  })

  test('new addresses are divided anew', () => {
    const { upstream, picked } = linked(nodes, { balancing: subset('none', '2') })
    upstream.setNodes([nodeOf({ address: '10.0.0.7', labels: { v: '2', zone: 'a' } }), nodeOf({ address: '10.0.0.8' })])
    expect(picked()).toEqual([7])
  })
})
