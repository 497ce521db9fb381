import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { LATENCY_BUCKETS } from '../../src/base/latency-buckets.js'
import { ConcurrencyCells, Held, retireConcurrency } from '../../src/shared/concurrency-cells.js'
import { EpochBoard } from '../../src/shared/epochs.js'
import { isUsable } from '../../src/shared/health-state.js'
import { MetricsDirectory } from '../../src/shared/metrics-directory.js'
import { INGRESS_CELL } from '../../src/shared/metrics-slab.js'
import { NodeBoard, NodeStatus } from '../../src/shared/node-cells.js'
import { NodeHealth } from '../../src/shared/node-health.js'
import { createRegions } from '../../src/shared/regions.js'
import { ROTOR_CELLS } from '../../src/shared/rotors.js'
import { CREDIT_UNIT, UpstreamCells } from '../../src/shared/upstream-cells.js'
import { ROUND_AMOUNT } from './jobs.js'
import { compileRacer, Racers } from './threads.js'

let racer: Awaited<ReturnType<typeof compileRacer>>
beforeAll(async () => {
  racer = await compileRacer()
})
afterAll(() => racer.remove())

describe('rotors under contention', () => {
  const THREADS = 4
  const SLOT = 3

  /** All threads draw from one slot that has already had `turned` picks; their draws, sorted. */
  async function race(picks: number, turned = 0): Promise<{ readonly all: Float64Array; readonly each: Float64Array[] }> {
    const regions = createRegions(THREADS)
    const wrapsHigh = turned > 2 ** 30 ? 1 : 0
    const wrapsLow = turned > 3 * 2 ** 30 ? 1 : 0
    new Uint32Array(regions.rotors).set([turned, wrapsLow, wrapsHigh], SLOT * ROTOR_CELLS)
    const each: Float64Array[] = []
    const racers = new Racers(racer.file, regions, (_, report) => {
      if (report.type === 'drawn') each.push(report.numbers)
    })
    for (let index = 0; index < THREADS; index++) await racers.add(index, { kind: 'rotor', slot: SLOT, picks })
    racers.go()
    await racers.finished()
    const all = new Float64Array(THREADS * picks)
    each.forEach((numbers, index) => void all.set(numbers, index * picks))
    return { all: all.sort(), each }
  }

  test.each([
    ['8:2', [8, 2]],
    ['1:1:1', [1, 1, 1]],
    ['7:2:1', [7, 2, 1]],
  ])('weights %s are exact over all threads together', async (_, weights) => {
    const cycle = weights.flatMap((weight, node) => new Array<number>(weight).fill(node))
    const { all } = await race(30_000)
    const counts = weights.map(() => 0)
    for (const drawn of all) {
      const node = cycle[drawn % cycle.length] ?? 0
      counts[node] = (counts[node] ?? 0) + 1
    }
    expect(counts).toEqual(weights.map((weight) => (all.length * weight) / cycle.length))
  })

  test.each([0, 2 ** 30, 2 ** 31, 3 * 2 ** 30, 2 ** 32])('no number is drawn twice or left out around pick %d', async (mark) => {
    const first = Math.max(0, mark - 40_000)
    const { all, each } = await race(20_000, first)
    expect(all.every((drawn, index) => drawn === first + index)).toBe(true)
    // Each thread sees its own draws rise: no thread ever read a wrap count of another time.
    expect(each.every((numbers) => numbers.every((drawn, index) => index === 0 || drawn > (numbers[index - 1] ?? 0)))).toBe(true)
  })
})

describe('epochs of real threads', () => {
  test.each([
    ['woken', undefined],
    ['polling', null],
  ])('waiting ends only when every thread has acknowledged, %s', async (_, waiter) => {
    const threads = 3
    const regions = createRegions(threads)
    const board = new EpochBoard(regions.epochs, systemClock, waiter)
    const racers = new Racers(racer.file, regions, () => undefined)
    for (let index = 0; index < threads; index++) {
      board.reserve(index)
      await racers.add(index, { kind: 'epochs' })
    }
    racers.go()
    for (let epoch = 1; epoch <= 200; epoch++) {
      board.publish(epoch)
      racers.tell(epoch)
      expect(await board.waitAll(epoch, 60_000)).toBe(true)
      expect(board.readAll().map((worker) => worker.epoch)).toEqual(new Array(threads).fill(epoch))
    }
    racers.tell(0)
    await racers.finished()
  })
})

describe('metrics slabs read while they are written', () => {
  test('values are never torn and never fall, over the replacement of a worker too', async () => {
    const threads = 3
    const rounds = 200_000
    const regions = createRegions(threads)
    const directory = new MetricsDirectory(regions.metrics)
    const racers = new Racers(racer.file, regions, (index, report) => {
      if (report.type === 'series') directory.declare(index, report.slot, report.labels)
    })
    let replaced: Promise<unknown> | null = null
    for (let index = 0; index < threads; index++) {
      const thread = await racers.add(index, { kind: 'metrics', rounds })
      // The first one is replaced when it has ended, in the same slot and slab.
      if (index === 0) {
        thread.once('exit', () => {
          directory.retire(0)
          replaced = racers.add(0, { kind: 'metrics', rounds })
        })
      }
    }
    let reading = true
    let reads = 0
    let last = 0
    const total = () => directory.series().find((series) => series.labels[1] === 'upstream_retries')?.cells[0] ?? 0
    const read = () => {
      const now = total()
      if (now % ROUND_AMOUNT !== 0) throw new Error(`torn value ${now}`)
      if (now < last) throw new Error(`${now} after ${last}`)
      last = now
      reads++
    }
    const reader = (async () => {
      while (reading) {
        for (let burst = 0; burst < 50; burst++) read()
        await new Promise((resolve) => setImmediate(resolve))
      }
    })()
    racers.go()
    await racers.finished()
    await replaced
    await racers.finished()
    reading = false
    await reader
    read()
    const all = rounds * (threads + 1)
    expect(reads).toBeGreaterThan(50)
    expect(last).toBe(all * ROUND_AMOUNT)
    expect(directory.fixed()).toMatchObject({ requests: all, inFlight: 0 })
    const routes = directory.series().filter((series) => series.labels[0] === 'route')
    expect(routes).toHaveLength(3)
    const sums = routes.map(({ cells }) => ({
      requests: cells.subarray(0, LATENCY_BUCKETS).reduce((sum, count) => sum + count, 0),
      ingress: cells[INGRESS_CELL],
    }))
    expect(sums.reduce((sum, { requests }) => sum + requests, 0)).toBe(all)
    expect(sums.every(({ requests, ingress }) => requests === ingress)).toBe(true)
    const statuses = directory.series().filter((series) => series.labels[0] === 'status')
    expect(statuses.reduce((sum, { cells }) => sum + (cells[0] ?? 0), 0)).toBe(all)
  })
})

describe('places of an upstream under contention', () => {
  test('never more are out than there are, none is lost, and those of dead workers come back', async () => {
    const threads = 4
    const limit = 6
    const regions = createRegions(threads)
    const cells = new ConcurrencyCells(regions.concurrency, threads, 0)
    let most = 0
    let taken = 0
    const racers = new Racers(racer.file, regions, (_, report) => {
      if (report.type !== 'drawn') return
      most = Math.max(most, report.numbers[0] ?? 0)
      taken += report.numbers[1] ?? 0
    })
    for (let index = 0; index < threads; index++) await racers.add(index, { kind: 'places', slot: 9, limit, rounds: 30_000, left: index })
    racers.go()
    await racers.finished()
    expect(taken).toBeGreaterThan(0)
    expect(most).toBeLessThanOrEqual(limit)
    expect(cells.count(9, Held.Place)).toBe(0 + 1 + 2 + 3)
    expect(cells.take(9, Held.Place, limit)).toBe(false)
    for (const worker of [1, 2, 3]) retireConcurrency(regions.concurrency, worker)
    expect(cells.count(9, Held.Place)).toBe(0)
  })
})

describe('retry budgets under contention', () => {
  test('no credit is lost, and all threads together never get more than their share', async () => {
    const threads = 4
    const requests = 15_000
    const regions = createRegions(threads)
    const cells = new UpstreamCells(regions.upstreams)
    let taken = 0
    const racers = new Racers(racer.file, regions, (_, report) => {
      if (report.type === 'drawn') taken += report.numbers[0] ?? 0
    })
    for (let index = 0; index < threads; index++) await racers.add(index, { kind: 'budget', slot: 9, requests })
    racers.go()
    await racers.finished()
    expect(cells.retries(9, 5_000_000)).toBe(taken)
    expect(cells.most(9, 1900, 5_000_000)).toBe(1900 * threads * requests)
    // All credit was either spent or is there.
    expect(cells.balance(9)).toBe(1900 * threads * requests - CREDIT_UNIT * taken)
    expect(cells.balance(9)).toBeGreaterThanOrEqual(0)
    expect(taken).toBeGreaterThan(0)
  })
})

describe('node cells under contention', () => {
  test('no try and no peak is lost, and what dead workers leave is taken out', async () => {
    const threads = 4
    const rounds = 20_000
    const regions = createRegions(threads)
    const board = new NodeBoard(regions.nodes, threads)
    const racers = new Racers(racer.file, regions, () => undefined)
    for (let index = 0; index < threads; index++) await racers.add(index, { kind: 'tries', slot: 9, rounds, left: index })
    racers.go()
    await racers.finished()
    expect([board.successes(9), board.failures(9)]).toEqual([(threads * rounds) / 2, (threads * rounds) / 2])
    expect(board.inFlight(9)).toBe(0 + 1 + 2 + 3)
    expect(board.latencyUs(9)).toBe((1000 + threads - 1) * 1000)
    for (const [worker, left] of [
      [3, 3],
      [1, 2],
      [0, 2],
      [2, 0],
    ] as const) {
      board.retire(worker)
      expect(board.inFlight(9)).toBe(left)
    }
  })

  test('never more nodes are ejected than may be, none is lost, and every bit is in line with the state behind it', async () => {
    const threads = 4
    const nodes = 20
    const most = 4
    const slots = Array.from({ length: nodes }, (_, index) => index + 1)
    const regions = createRegions(threads)
    const board = new NodeBoard(regions.nodes, threads)
    const health = new NodeHealth(regions.nodes, board)
    const ended: number[] = []
    const racers = new Racers(racer.file, regions, (index) => ended.push(index))
    for (let index = 0; index < threads; index++) await racers.add(index, { kind: 'judge', nodes, rounds: 50_000 })
    racers.go()
    const finished = racers.finished()
    let largest = 0
    let taken = 0
    while (ended.length < threads) {
      // A place is taken before the bit is set and given back after it went: there are never more bits than places.
      largest = Math.max(largest, slots.filter((slot) => health.isEjected(slot)).length, health.ejectedCount(nodes + 1))
      for (const slot of slots) if (health.takeBack(slot, nodes + 1, 1)) taken++
      await new Promise((resolve) => setImmediate(resolve))
    }
    await finished
    expect(largest).toBeLessThanOrEqual(most)
    for (const slot of slots) {
      expect((board.status(slot) & (NodeStatus.ActiveDown | NodeStatus.PassiveDown)) === 0).toBe(isUsable(health.health(slot)))
      if (health.takeBack(slot, nodes + 1, 1)) taken++
    }
    expect(taken).toBeGreaterThan(0)
    expect(health.ejectedCount(nodes + 1)).toBe(0)
  })
})
