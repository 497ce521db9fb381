/** Places of an upstream, the queue before them, and the limit that finds itself. The tests own the time. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { ManualClock } from '../../../src/base/clock.js'
import { Bulkhead } from '../../../src/dataplane/concurrency/bulkhead.js'
import { afterWindow, type GradientState } from '../../../src/dataplane/concurrency/gradient.js'
import type { CompiledConcurrency } from '../../../src/schema/compiled.js'
import { ConcurrencyCells, createConcurrencyRegion, Held } from '../../../src/shared/concurrency-cells.js'

const SLOT = 3

/** Bulkheads of two workers for one upstream, and who was let in. */
function workers(conf: Partial<CompiledConcurrency>) {
  const region = createConcurrencyRegion(2)
  const clock = new ManualClock()
  const admitted: string[] = []
  const settings: CompiledConcurrency = { limit: 2, queue: 10, queueTimeoutMs: 1000, adaptive: null, ...conf }
  const [first, second] = [0, 1].map((worker) => {
    const cells = new ConcurrencyCells(region, 2, worker)
    return new Bulkhead<string>(settings, SLOT, 2, cells, clock, (guest) => void admitted.push(guest))
  })
  if (first === undefined || second === undefined) throw new Error('unreachable')
  const cells = new ConcurrencyCells(region, 2, 0)
  const counts = (): number[] => [cells.count(SLOT, Held.Place), cells.count(SLOT, Held.Waiting)]
  return { first, second, clock, admitted, counts, cells }
}

describe('places', () => {
  test('over all workers; then the queue, over all workers; then nothing', () => {
    const { first, second, counts } = workers({ limit: 2, queue: 2 })
    expect([first.enter('a'), second.enter('b')]).toEqual(['in', 'in'])
    expect([first.enter('c'), second.enter('d')]).toEqual(['waits', 'waits'])
    expect([first.enter('e'), second.enter('f')]).toEqual(['full', 'full'])
    expect(counts()).toEqual([2, 2])
  })

  test('who waits longest comes in first, in a later turn, and nobody overtakes', async () => {
    const { first, admitted, counts } = workers({ limit: 1 })
    first.enter('a')
    for (const guest of ['b', 'c']) first.enter(guest)
    first.leave()
    expect(admitted).toEqual([])
    expect(first.enter('d')).toBe('waits')
    await nextTurn()
    expect(admitted).toEqual(['b'])
    first.leave()
    await nextTurn()
    expect(admitted).toEqual(['b', 'c'])
    expect(counts()).toEqual([1, 1])
  })

  test('who gives up is not let in and makes room in the queue', async () => {
    const { first, admitted, counts, clock } = workers({ limit: 1, queue: 1 })
    first.enter('a')
    first.enter('b')
    first.giveUp('b')
    first.giveUp('b')
    expect(counts()).toEqual([1, 0])
    expect(clock.pending).toBe(0)
    expect(first.enter('c')).toBe('waits')
    first.leave()
    await nextTurn()
    expect(admitted).toEqual(['c'])
  })

  test('a worker with its share leaves a free place to those of the other, who look for it', async () => {
    const { first, second, admitted, clock } = workers({ limit: 4 })
    for (const guest of ['a', 'b', 'c', 'd']) first.enter(guest)
    first.enter('own')
    second.enter('other')
    first.leave()
    await nextTurn()
    expect(admitted).toEqual([])
    clock.advance(2)
    expect(admitted).toHaveLength(1)
    // Below its share it keeps what it frees.
    first.leave()
    first.leave()
    first.leave()
    await nextTurn()
    clock.advance(2)
    expect([...admitted].sort()).toEqual(['other', 'own'])
    expect(clock.pending).toBe(0)
  })

  test('with fewer places than workers nobody keeps them', async () => {
    const { first, second, admitted, clock } = workers({ limit: 1 })
    first.enter('a')
    second.enter('other')
    first.enter('own')
    first.leave()
    await nextTurn()
    expect(admitted).toEqual([])
    clock.advance(2)
    expect(admitted).toHaveLength(1)
  })
})

describe('adaptive limit', () => {
  const options = { min: 5, max: 100, tolerance: 1.5 }
  const begin: GradientState = { limit: 20, longTermMs: 0, windows: 0 }
  const run = (state: GradientState, windows: number, meanMs: number, busy?: number): GradientState => {
    let next = state
    for (let window = 0; window < windows; window++) next = afterWindow(next, meanMs, busy ?? next.limit, options)
    return next
  }

  test('grows while latency stays, up to its maximum; only when the places are used', () => {
    expect(run(begin, 1, 10).limit).toBeCloseTo(20.8)
    expect(run(begin, 500, 10).limit).toBe(100)
    expect(run(begin, 500, 10, 3).limit).toBe(20)
  })

  test('falls when latency rises above the tolerance, down to its minimum, and comes back', () => {
    const calm = run(begin, 50, 10)
    expect(run(calm, 1, 14).limit).toBeGreaterThan(calm.limit)
    const slow = run(calm, 10, 100)
    expect(slow.limit).toBeLessThan(calm.limit * 0.5)
    expect(run(calm, 40, 1000).limit).toBeLessThan(12)
    expect(run(slow, 100, 10).limit).toBeGreaterThan(calm.limit)
  })

  test('latencies of all workers make one window, which one of them ends', () => {
    const { first, second, cells } = workers({ limit: 20, adaptive: { min: 5, max: 100, tolerance: 1.5 } })
    for (let guest = 0; guest < 20; guest++) (guest % 2 === 0 ? first : second).enter(`${guest}`)
    for (let sample = 0; sample < 20; sample++) (sample % 2 === 0 ? first : second).took(10, 1_000)
    expect(cells.limit(SLOT, 20)).toBe(20)
    first.took(10, 1_250)
    expect(cells.limit(SLOT, 20)).toBeCloseTo(20.8, 1)
    second.took(10, 1_251)
    expect(cells.limit(SLOT, 20)).toBeCloseTo(20.8, 1)
    expect(first.enter('more')).toBe('waits')
  })
})
