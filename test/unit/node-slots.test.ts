/** Which nodes get a place in shared memory, and that it stays theirs. */
import { describe, expect, test } from 'vitest'
import { compileChecks, compileOutlierDetection } from '../../src/controlplane/compile-health.js'
import { NodeDirectory, needsNodeState, readNodeKey } from '../../src/controlplane/node-slots.js'
import type { CompiledUpstream } from '../../src/schema/compiled.js'
import { createNodesRegion, NodeBoard, NodeSlots } from '../../src/shared/node-cells.js'
import { balancingOf, nodeOf, upstreamOf } from './dataplane/parts.js'

function config(...upstreams: CompiledUpstream[]): { readonly upstreams: CompiledUpstream[] } {
  return { upstreams }
}

const at = (address: string) => nodeOf({ address, host: address })

function directory() {
  const board = new NodeBoard(createNodesRegion(1), 1)
  const clock = { now: 5000, nowMs: () => clock.now }
  const slots = new NodeSlots(board, () => expect.unreachable())
  return { board, clock, slots, nodes: new NodeDirectory(slots, clock, needsNodeState) }
}

const slotsOf = ({ upstreams }: { readonly upstreams: readonly CompiledUpstream[] }): number[][] =>
  upstreams.map(({ nodes }) => nodes.map((node) => node.slot ?? 0))

describe('slots of a configuration', () => {
  test('go to nodes that something reads the state of, in all upstreams that have them', () => {
    const { nodes } = directory()
    const assigned = nodes.assign(
      config(
        upstreamOf({ nodes: [at('a'), at('b')] }),
        upstreamOf({ type: 'least_conn', nodes: [at('b'), at('c'), at('')] }),
        upstreamOf({ type: 'ewma', nodes: [{ ...at('b'), port: 81 }] }),
      ),
    )
    expect(slotsOf(assigned)).toEqual([[0, 1], [1, 2, 0], [3]])
  })

  test('are as before over a reload; what is new opens then, what was there at the start did so long ago', () => {
    const { nodes, board, clock } = directory()
    const [first] = slotsOf(nodes.assign(config(upstreamOf({ type: 'ewma', nodes: [at('a'), at('b')] }))))
    clock.now = 9000
    const [second] = slotsOf(nodes.assign(config(upstreamOf({ type: 'ewma', nodes: [at('b'), at('x')] }))))
    expect(second).toEqual([first?.[1], 3])
    expect([board.openForMs(2, 9500), board.openForMs(3, 9500)]).toEqual([Number.POSITIVE_INFINITY, 500])
  })

  test('are given to new addresses of a name as well', () => {
    const { nodes, board, clock } = directory()
    const upstreams = [upstreamOf({ type: 'least_conn', nodes: [at('a')] }), upstreamOf({ nodes: [at('a')] })]
    nodes.assign(config(...upstreams))
    clock.now = 7000
    const updates = nodes.assignUpdates(
      [
        { upstream: 0, nodes: [at('a'), at('n')] },
        { upstream: 1, nodes: [at('n'), at('m')] },
      ],
      config(...upstreams),
    )
    expect(updates.map((update) => update.nodes.map((node) => node.slot ?? 0))).toEqual([
      [1, 2],
      [2, 0],
    ])
    expect(board.openForMs(2, 7250)).toBe(250)
  })

  test('are apart for upstreams that judge their nodes, and kept over reloads by upstream, address, port and host', () => {
    const { nodes, slots } = directory()
    const outlierDetection = compileOutlierDetection({})
    const checks = compileChecks({ nodes: {}, checks: { active: {} } }, {})
    const list = [at('a'), { ...at('a'), host: 'name' }]
    const shared = upstreamOf({ key: 'upstreams/0', type: 'ewma', nodes: [at('a')] })
    const judging = [
      upstreamOf({ key: 'upstreams/1', nodes: list, outlierDetection }),
      upstreamOf({ key: 'upstreams/2', nodes: list, checks }),
    ]
    const first = nodes.assign(config(shared, ...judging))
    const all = slotsOf(first)
    const group = first.upstreams[1]?.outlierDetection?.slot ?? 0
    expect(new Set([...all.flat(), group]).size).toBe(6)
    expect(group).toBeGreaterThan(0)
    const again = nodes.assign(config(...[...judging].reverse()))
    expect([...slotsOf(again)].reverse()).toEqual(all.slice(1))
    expect(again.upstreams[1]?.outlierDetection?.slot).toBe(group)
    expect(slots.entries().map(([key]) => readNodeKey(key))).toContainEqual({ address: 'a', port: 80, upstream: 'upstreams/2' })
    expect(slots.entries().filter(([key]) => readNodeKey(key) === null)).toHaveLength(1)
  })

  test('are not needed by plain round robin', () => {
    const { nodes, slots } = directory()
    const plain = config(upstreamOf({ nodes: [at('a')] }), upstreamOf({ type: 'random', nodes: [at('b')] }))
    expect(nodes.assign(plain)).toBe(plain)
    expect(slots.size).toBe(0)
    const slow = { slowStart: { windowMs: 1000, aggression: 1, minWeight: 0.1 } }
    expect(needsNodeState(upstreamOf({ balancing: balancingOf(slow) }))).toBe(true)
  })
})
