/** Weighted round robin: exact over every cycle wherever it begins, and spread inside of it. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { RoundRobin } from '../../src/dataplane/balancer/round-robin.js'

const SEED = 20265

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b)
}

const weights = fc
  .array(fc.integer({ min: 0, max: 60 }), { minLength: 1, maxLength: 8 })
  .filter((list) => list.some((weight) => weight > 0))

test(`any cycle of consecutive picks is in proportion (seed ${SEED})`, () => {
  fc.assert(
    fc.property(weights, fc.integer({ min: 0, max: 2 ** 40 }), (list, start) => {
      const rotation = new RoundRobin(list)
      const divisor = list.reduce(gcd, 0)
      expect(rotation.cycle).toBe(list.reduce((sum, weight) => sum + weight, 0) / divisor)
      const counts = list.map(() => 0)
      for (let turn = start; turn < start + rotation.cycle; turn++) {
        const picked = rotation.pick(turn)
        counts[picked] = (counts[picked] ?? 0) + 1
      }
      expect(counts).toEqual(list.map((weight) => weight / divisor))
    }),
    { seed: SEED, numRuns: 500 },
  )
})

test(`turns of a node are spread over the cycle (seed ${SEED})`, () => {
  // A node picked in blocks would be ahead by up to a quarter of the cycle: 120 picks here.
  let worst = 0
  fc.assert(
    fc.property(weights, (list) => {
      const rotation = new RoundRobin(list)
      const total = list.reduce((sum, weight) => sum + weight, 0)
      const counts = list.map(() => 0)
      for (let turn = 0; turn < rotation.cycle; turn++) {
        const picked = rotation.pick(turn)
        counts[picked] = (counts[picked] ?? 0) + 1
        for (const [index, weight] of list.entries())
          worst = Math.max(worst, Math.abs((counts[index] ?? 0) - ((turn + 1) * weight) / total))
      }
    }),
    { seed: SEED, numRuns: 1000 },
  )
  expect(worst).toBeLessThan(8)
})

test('equal weights take strict turns', () => {
  const rotation = new RoundRobin([7, 7, 7])
  const picks = Array.from({ length: 6 }, (_, turn) => rotation.pick(turn))
  expect(new Set(picks.slice(0, 3)).size).toBe(3)
  expect(picks.slice(3)).toEqual(picks.slice(0, 3))
})

describe('cycles too long to be written out', () => {
  test('one beyond 65,536 is exact', () => {
    const rotation = new RoundRobin([99_991, 1, 49_999])
    const counts = [0, 0, 0]
    for (let turn = 5; turn < rotation.cycle + 5; turn++) counts[rotation.pick(turn)] = (counts[rotation.pick(turn)] ?? 0) + 1
    expect(counts).toEqual([99_991, 1, 49_999])
  })

  test.each([
    ['2^26', 2 ** 26 + 1],
    ['2^32', 2 ** 32 + 15],
    ['2^40', 2 ** 40 + 15],
  ])('beyond %s: samples are in proportion and the light node keeps its place', (_, cycle) => {
    const light = Math.floor(cycle / 10)
    const rotation = new RoundRobin([light, cycle - light])
    expect(rotation.cycle).toBe(cycle)
    let picked = 0
    for (let turn = 0; turn < 10_000; turn++) if (rotation.pick(turn) === 0) picked++
    expect(Math.abs(picked - 1000)).toBeLessThan(50)
    expect(rotation.pick(cycle + 17)).toBe(rotation.pick(17))
  })

  test('many heavy nodes: their sum is beyond 32 bits', () => {
    const list = Array.from({ length: 6000 }, (_, index) => 1_000_000 - (index % 2))
    const rotation = new RoundRobin(list)
    const counts = list.map(() => 0)
    for (let turn = 0; turn < 60_000; turn++) {
      const picked = rotation.pick(turn)
      counts[picked] = (counts[picked] ?? 0) + 1
    }
    expect(Math.min(...counts)).toBeGreaterThanOrEqual(7)
    expect(Math.max(...counts)).toBeLessThanOrEqual(13)
  })
})

test('weights that are all 0 are refused', () => {
  expect(() => new RoundRobin([0, 0])).toThrow('all weights are 0')
})
