/** What every balancer must do, whatever it picks by; then what each of them is for. */

import { crc32 } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { crc32 as ours } from '../../../src/base/crc32.js'
import type { BalancerType, CompiledBalancing } from '../../../src/schema/compiled.js'
import { NodeStatus, Outcome } from '../../../src/shared/node-cells.js'
import { balancerBench, hashDefaults } from '../../support/balancers.js'

const kinds: [string, BalancerType, Partial<CompiledBalancing>][] = [
  ['roundrobin', 'roundrobin', {}],
  ['random', 'random', {}],
  ['least_conn', 'least_conn', {}],
  ['ewma', 'ewma', {}],
  ['chash', 'chash', {}],
  ['chash, maglev', 'chash', { hash: { ...hashDefaults, algorithm: 'maglev' } }],
  ['chash, bounded', 'chash', { hash: { ...hashDefaults, balanceFactor: 125 } }],
]

describe.each(kinds)('%s', (_, type, balancing) => {
  const ones = (count: number) => new Array<number>(count).fill(1)

  test.each([1, 2, 3, 10, 100])('of %i equal nodes every one is picked', (size) => {
    const counts = balancerBench({ type, balancing, weights: ones(size) }).counts(size * 300)
    expect(Math.min(...counts)).toBeGreaterThan(100)
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(size * 300)
  })

  test('a node that is down is not picked, and comes back', () => {
    const bench = balancerBench({ type, balancing, weights: ones(5) })
    bench.board.close(3, NodeStatus.ActiveDown)
    bench.board.close(4, NodeStatus.Ejected)
    const [a = 0, b = 0, c = 0, d = 0, e = 0] = bench.counts(1500)
    expect([c, d]).toEqual([0, 0])
    expect(Math.min(a, b, e)).toBeGreaterThan(250)
    bench.board.open(3, NodeStatus.ActiveDown, bench.nowMs)
    expect(bench.counts(1500)[2]).toBeGreaterThan(150)
  })

  test('the last node that is up is found among a hundred', () => {
    const bench = balancerBench({ type, balancing, weights: ones(100) })
    for (let slot = 1; slot <= 100; slot++) if (slot !== 42) bench.board.close(slot, NodeStatus.PassiveDown)
    expect(bench.counts(100)[41]).toBe(100)
  })

  test('when all are down there is none, unless health is ignored', () => {
    const bench = balancerBench({ type, balancing, weights: ones(4) })
    for (let slot = 1; slot <= 4; slot++) bench.board.close(slot, NodeStatus.Disabled)
    expect(bench.pick('x')).toBe(-1)
    bench.tier.ignoresHealth = true
    expect(Math.min(...bench.counts(1000))).toBeGreaterThan(100)
  })

  test.each([true, false])('what was tried is not picked again (observed: %s)', (observed) => {
    const bench = balancerBench({ type, balancing, observed, weights: ones(4) })
    for (let round = 0; round < 50; round++) {
      const tried: string[] = []
      while (tried.length < 4) {
        bench.tier.tried = tried
        const picked = bench.pick(`k${round}`)
        expect(picked).toBeGreaterThanOrEqual(0)
        expect(tried).not.toContain(bench.tier.targets[picked])
        tried.push(bench.tier.targets[picked] ?? '')
      }
      bench.tier.tried = tried
      expect(bench.pick(`k${round}`)).toBe(-1)
      bench.tier.tried = null
    }
  })

  test('weights decide the share', () => {
    const bench = balancerBench({ type, balancing, weights: [1, 4], addresses: ['10.1.0.1:80', '10.1.0.2:80'] })
    if (type === 'least_conn' || type === 'ewma') {
      // Their shares follow what is in flight: both have as much for their weight.
      for (let request = 0; request < 100; request++) {
        const picked = bench.pick()
        if (request < 20) for (const slot of [1, 2]) bench.cells.observe(slot, 10, bench.nowMs, 10_000)
        bench.cells.begin(picked + 1)
      }
      expect(Math.abs(bench.cells.inFlight(1) - 20)).toBeLessThanOrEqual(1)
      return
    }
    const share = (bench.counts(10_000)[0] ?? 0) / 10_000
    expect(share).toBeGreaterThan(0.15)
    expect(share).toBeLessThan(0.25)
  })
})

describe('least_conn', () => {
  test('takes the least loaded, by weight', () => {
    const bench = balancerBench({ type: 'least_conn', weights: [1, 1, 2] })
    for (const slot of [1, 2, 3]) bench.cells.observe(slot, 10, bench.nowMs, 10_000)
    for (const [slot, inFlight] of [
      [1, 3],
      [2, 1],
      [3, 4],
    ] as const) {
      for (let count = 0; count < inFlight; count++) bench.cells.begin(slot)
    }
    expect(bench.pick()).toBe(1)
    bench.cells.begin(2)
    // 4/1, 3/1, 5/2
    expect(bench.pick()).toBe(2)
  })

  test('ties fall by chance', () => {
    const counts = balancerBench({ type: 'least_conn', weights: [1, 1, 1] }).counts(3000)
    expect(Math.min(...counts)).toBeGreaterThan(800)
  })

  test('a newcomer that does not answer yet gets its turns, not a rush', () => {
    const bench = balancerBench({ type: 'least_conn', weights: new Array<number>(10).fill(1) })
    for (let slot = 1; slot <= 9; slot++) {
      bench.cells.observe(slot, 10, bench.nowMs, 10_000)
      for (let count = 0; count < 20; count++) bench.cells.begin(slot)
    }
    for (let request = 0; request < 100; request++) bench.cells.begin(bench.pick() + 1)
    expect(bench.cells.inFlight(10)).toBeGreaterThan(0)
    expect(bench.cells.inFlight(10)).toBeLessThanOrEqual(12)
  })
})

describe('ewma', () => {
  test('avoids the slow node, and tries it again as its slowness ages', () => {
    const bench = balancerBench({ type: 'ewma', weights: [1, 1, 1, 1] })
    for (const slot of [1, 2, 3, 4]) bench.cells.observe(slot, slot === 4 ? 100 : 10, bench.nowMs, 10_000)
    expect(bench.counts(1000)[3]).toBe(0)
    bench.nowMs += 25_000
    for (const slot of [1, 2, 3]) bench.cells.observe(slot, 10, bench.nowMs, 10_000)
    expect(bench.counts(1000)[3]).toBeGreaterThan(100)
  })

  test('slowness does not age while requests wait', () => {
    const bench = balancerBench({ type: 'ewma', weights: [1, 1] })
    bench.cells.observe(1, 10, bench.nowMs, 10_000)
    bench.cells.observe(2, 100, bench.nowMs, 10_000)
    bench.cells.begin(2)
    bench.nowMs += 120_000
    bench.cells.observe(1, 10, bench.nowMs, 10_000)
    expect(bench.counts(200)).toEqual([200, 0])
  })

  test('a newcomer counts as an average node', () => {
    const bench = balancerBench({ type: 'ewma', weights: new Array<number>(10).fill(1) })
    for (let slot = 1; slot <= 9; slot++) bench.cells.observe(slot, 5 + slot, bench.nowMs, 10_000)
    const newcomer = bench.counts(10_000)[9] ?? 0
    expect(newcomer).toBeGreaterThan(500)
    expect(newcomer).toBeLessThan(1500)
  })

  test('a node that fails at once is not the fastest', () => {
    const bench = balancerBench({ type: 'ewma', weights: [1, 1, 1] })
    for (const slot of [1, 2]) bench.cells.observe(slot, 20, bench.nowMs, 10_000)
    let failed = 0
    for (let request = 0; request < 1000; request++) {
      if (bench.pick() !== 2) continue
      failed++
      bench.cells.begin(3)
      bench.cells.penalise(3, 0.2, bench.nowMs)
      bench.cells.end(3, Outcome.ConnectError)
    }
    expect(failed).toBeLessThan(5)
  })
})

describe('chash', () => {
  test('the same key goes to the same node; a node that is down gives its keys to others and gets them back', () => {
    const bench = balancerBench({ type: 'chash', weights: [1, 1, 1, 1] })
    const keys = Array.from({ length: 2000 }, (_, index) => `user-${index}`)
    const before = keys.map((key) => bench.pick(key))
    expect(keys.map((key) => bench.pick(key))).toEqual(before)
    bench.board.close(2, NodeStatus.ActiveDown)
    const during = keys.map((key) => bench.pick(key))
    expect(during.filter((node, index) => node !== before[index])).toHaveLength(before.filter((node) => node === 1).length)
    expect(new Set(during.filter((_, index) => before[index] === 1))).toEqual(new Set([0, 2, 3]))
    bench.board.open(2, NodeStatus.ActiveDown, bench.nowMs)
    expect(keys.map((key) => bench.pick(key))).toEqual(before)
  })

  test('a request without the value is hashed by the address of its client', () => {
    const hash = { ...hashDefaults, on: 'header', key: 'X-Session' } as const
    const byHeader = balancerBench({ type: 'chash', balancing: { hash }, weights: [1, 1, 1, 1] })
    expect(new Set(Array.from({ length: 20 }, () => byHeader.pick())).size).toBe(1)
  })

  test('bounded loads: no node has more than its bound of what is in flight', () => {
    const balancing = { hash: { ...hashDefaults, balanceFactor: 150 } }
    const bench = balancerBench({ type: 'chash', balancing, weights: [1, 1, 1, 1, 1] })
    // Everybody asks for the same.
    for (let request = 0; request < 200; request++) bench.cells.begin(bench.pick('hot') + 1)
    const loads = [1, 2, 3, 4, 5].map((slot) => bench.cells.inFlight(slot))
    expect(loads.reduce((sum, load) => sum + load, 0)).toBe(200)
    expect(Math.max(...loads)).toBeLessThanOrEqual(60)
    expect(loads.filter((load) => load === 60).length).toBeGreaterThanOrEqual(2)
  })

  test('CRC-32 is that of zlib, for any text', () => {
    for (const text of ['', 'a', '123456789', 'naïve', '日本', '👍 x', '\ud800', 'x\udc00y', '10.0.0.1\u000080']) {
      expect([text, ours(text)]).toEqual([text, crc32(Buffer.from(text))])
    }
  })
})

describe('slow start', () => {
  const slowStart = { windowMs: 10_000, aggression: 1, minWeight: 0.1 }
  const shares = (type: BalancerType, aggression: number, ageMs: number): number => {
    const bench = balancerBench({ type, weights: [1, 1, 1, 1], balancing: { slowStart: { ...slowStart, aggression } } })
    bench.board.reset(4, bench.nowMs - ageMs)
    const counts = bench.counts(8000)
    return ((counts[3] ?? 0) / ((counts[0] ?? 0) + (counts[1] ?? 0) + (counts[2] ?? 0))) * 3
  }

  test.each(['roundrobin', 'random'] as const)('%s: the share grows over the window', (type) => {
    expect(shares(type, 1, 0)).toBeCloseTo(0.1, 1)
    expect(shares(type, 1, 5000)).toBeCloseTo(0.5, 1)
    expect(shares(type, 2, 2500)).toBeCloseTo(0.5, 1)
    expect(shares(type, 1, 10_000)).toBeCloseTo(1, 1)
  })

  test('least_conn: fewer requests in flight while it starts', () => {
    const bench = balancerBench({ type: 'least_conn', weights: [1, 1], balancing: { slowStart } })
    bench.board.reset(2, bench.nowMs - 5000)
    for (const slot of [1, 2]) bench.cells.observe(slot, 10, bench.nowMs, 10_000)
    for (let request = 0; request < 90; request++) bench.cells.begin(bench.pick() + 1)
    expect(Math.abs(bench.cells.inFlight(2) - 30)).toBeLessThanOrEqual(1)
  })
})

test('round robin passes the turns of a node that is down on in proportion', () => {
  const bench = balancerBench({ type: 'roundrobin', weights: [3, 2, 5] })
  bench.board.close(3, NodeStatus.ActiveDown)
  expect(bench.counts(500)).toEqual([300, 200, 0])
})
