/** Consistent hashing: the placement of APISIX, and how few keys move when nodes come, go or change their weight. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { crc32 } from '../../src/base/crc32.js'
import { KetamaRing } from '../../src/dataplane/balancer/ketama.js'
import { MaglevTable } from '../../src/dataplane/balancer/maglev.js'
import { Tier } from '../../src/dataplane/balancer/tier.js'
import { createNodesRegion, NodeCells } from '../../src/shared/node-cells.js'

const SEED = 20266
const cells = new NodeCells(createNodesRegion(1), 1, 0)

interface Place {
  readonly address: string
  readonly weight: number
}

/** Address of the node of each key. */
function placement(kind: 'ketama' | 'maglev', nodes: readonly Place[], keys: readonly string[]): string[] {
  const tier = new Tier(
    nodes.map((node) => ({ ...node, target: node.address, slot: 0 })),
    cells,
    null,
  )
  const places = kind === 'ketama' ? new KetamaRing(tier) : new MaglevTable(tier)
  return keys.map((key) => nodes[places.first(crc32(key))]?.address ?? '')
}

const keys = Array.from({ length: 20_000 }, (_, index) => `${index}-${(index * 2654435761) >>> 0}`)

/** Share of the keys whose node is another one. */
function moved(before: readonly string[], after: readonly string[]): number {
  return before.filter((address, index) => address !== after[index]).length / before.length
}

describe('ketama', () => {
  // The counts that lua-resty-balancer's own tests expect (t/chash.t, "find" and "next").
  test('places 100,000 keys as lua-resty-balancer does', () => {
    const nodes = [
      { address: 'server1', weight: 10 },
      { address: 'server2', weight: 2 },
      { address: 'server3', weight: 1 },
    ]
    const numbers = Array.from({ length: 100_000 }, (_, index) => String(index + 1))
    const counts: Record<string, number> = {}
    for (const address of placement('ketama', nodes, numbers)) counts[address] = (counts[address] ?? 0) + 1
    expect(counts).toEqual({ server1: 77075, server2: 14743, server3: 8182 })
  })

  test('a key of its test suite, and the point a hundred places on', () => {
    const tier = new Tier(
      ['server1', 'server2', 'server3'].map((address, index) => ({ address, target: address, weight: [2, 2, 1][index] ?? 1, slot: 0 })),
      cells,
      null,
    )
    const ring = new KetamaRing(tier)
    expect(ring.first(crc32('foo'))).toBe(0)
    let owner = -1
    for (let step = 0; step < 100; step++) owner = ring.next()
    expect(owner).toBe(1)
  })

  test('weights beyond its resolution keep their proportion', () => {
    const nodes = [
      { address: 'a:1', weight: 1_000_000 },
      { address: 'b:1', weight: 333_333 },
    ]
    const share = placement('ketama', nodes, keys).filter((address) => address === 'b:1').length / keys.length
    expect(share).toBeCloseTo(0.25, 1)
  })
})

describe.each(['ketama', 'maglev'] as const)('%s', (kind) => {
  const addresses = fc.uniqueArray(
    fc.tuple(fc.ipV4(), fc.integer({ min: 1, max: 65_535 })).map(([ip, port]) => `${ip}:${port}`),
    {
      minLength: 5,
      maxLength: 40,
    },
  )

  test(`one node of N less moves 1/N of the keys, and no more than 1 % besides (seed ${SEED})`, () => {
    fc.assert(
      fc.property(addresses, (list) => {
        const nodes = list.map((address) => ({ address, weight: 1 }))
        const before = placement(kind, nodes, keys)
        // Which node goes is chance; the mean over several is what a fleet sees.
        const gone = nodes.slice(0, 5)
        let sum = 0
        for (const node of gone) {
          const after = placement(
            kind,
            nodes.filter((other) => other !== node),
            keys,
          )
          const own = before.filter((address) => address === node.address).length / keys.length
          const share = moved(before, after)
          sum += share - own
          expect(share).toBeGreaterThanOrEqual(own)
          // Only a table of fixed size moves keys of nodes that stay.
          if (kind === 'ketama') expect(share).toBe(own)
          else expect(share).toBeLessThanOrEqual(1 / nodes.length + 0.01)
        }
        expect(sum / gone.length).toBeLessThanOrEqual(0.01)
      }),
      { seed: SEED, numRuns: 6 },
    )
  })

  test(`over all nodes, a node's share is 1/N (seed ${SEED})`, () => {
    fc.assert(
      fc.property(addresses, (list) => {
        const counts = new Map<string, number>()
        for (const address of placement(
          kind,
          list.map((address) => ({ address, weight: 3 })),
          keys,
        ))
          counts.set(address, (counts.get(address) ?? 0) + 1)
        const fair = keys.length / list.length
        const worst = Math.max(...list.map((address) => Math.abs((counts.get(address) ?? 0) - fair) / fair))
        expect(worst).toBeLessThan(kind === 'maglev' ? 0.2 : 0.5)
      }),
      { seed: SEED, numRuns: 15 },
    )
  })

  test('the order of the nodes decides nothing', () => {
    const nodes = Array.from({ length: 12 }, (_, index) => ({ address: `10.0.0.${index}:80`, weight: 1 + (index % 3) }))
    expect(placement(kind, [...nodes].reverse(), keys)).toEqual(placement(kind, nodes, keys))
  })
})
