import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  FINE_CELLS,
  fineCell,
  fineCellBoundUs,
  LATENCY_BUCKETS,
  latencyBounds,
  latencyBoundsMs,
  latencyBucket,
} from '../../src/base/latency-buckets.js'
import { MetricsDirectory } from '../../src/shared/metrics-directory.js'
import {
  CONSUMERS_PER_ROUTE_MAX,
  EGRESS_CELL,
  INGRESS_CELL,
  LATENCY_BLOCK,
  ROUTE_CELLS,
  type RouteSeriesLabels,
  WorkerMetrics,
} from '../../src/shared/metrics-slab.js'
import { createRegions } from '../../src/shared/regions.js'

const bounds = latencyBounds(latencyBoundsMs)
const labels: RouteSeriesLabels = { route: 'r1', matchedUri: '/a/*', matchedHost: '', service: 's', consumer: '', node: '127.0.0.1' }

function setup(workers = 1) {
  const regions = createRegions(workers)
  const directory = new MetricsDirectory(regions.metrics)
  const start = (index: number) => {
    const slab = regions.metrics[index]
    if (slab === undefined) throw new Error('no such slab')
    return new WorkerMetrics(slab, (slot, declared) => directory.declare(index, slot, declared))
  }
  const cellsOf = (...wanted: string[]) => {
    const found = directory.series().find((series) => wanted.every((label, index) => series.labels[index] === label))
    return found === undefined ? undefined : [...found.cells]
  }
  return { directory, start, cellsOf }
}

describe('latency buckets', () => {
  test('an upper bound belongs to its bucket', () => {
    latencyBoundsMs.forEach((bound, index) => {
      expect(latencyBucket(bound, bounds)).toBe(index)
      expect(latencyBucket(bound + 0.001, bounds)).toBe(index + 1)
    })
    expect(latencyBucket(0, bounds)).toBe(0)
    expect(latencyBucket(1e9, bounds)).toBe(LATENCY_BUCKETS - 1)
  })

  test('fewer bounds leave the last cells empty', () => {
    const few = latencyBounds([5, 10.5])
    expect([0, 5, 5.1, 10.5, 11, 1e9].map((ms) => latencyBucket(ms, few))).toEqual([0, 0, 1, 1, 2, 2])
  })

  test('log-linear cells hold what lies between their bounds (property, seed 41)', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 80_000, noNaN: true }), (ms) => {
        const cell = fineCell(ms)
        const us = Math.ceil(ms * 1000)
        expect(us).toBeLessThanOrEqual(fineCellBoundUs(cell))
        if (cell > 0) expect(us).toBeGreaterThan(fineCellBoundUs(cell - 1))
        expect(cell).toBeLessThan(FINE_CELLS)
      }),
      { seed: 41, numRuns: 2000 },
    )
  })

  test('powers of two are exact bounds, and bounds rise', () => {
    for (let power = 0; power <= 26; power++) expect(fineCellBoundUs(fineCell(2 ** power / 1000))).toBe(2 ** power)
    for (let cell = 1; cell < FINE_CELLS; cell++) expect(fineCellBoundUs(cell)).toBeGreaterThan(fineCellBoundUs(cell - 1))
  })
})

describe('metrics slab', () => {
  test('counts statuses, latencies by type, and bytes', () => {
    const { start, cellsOf } = setup()
    const series = start(0).routeSeries(labels)
    series.record(200, 1, 12, 9, 100, 2000)
    series.record(200, 1, 3, 5, 10, 20)
    series.record(503, 0, 0.5, -1, 1, 2)
    expect(cellsOf('status', '200', 'upstream', 'r1')).toEqual([2])
    expect(cellsOf('status', '503', 'apisix', 'r1')).toEqual([1])
    const cells = cellsOf('route', 'r1') ?? []
    expect(cells[latencyBucket(12, bounds)]).toBe(1)
    expect(cells[LATENCY_BUCKETS]).toBe(15.5)
    expect(cells[LATENCY_BLOCK + LATENCY_BUCKETS]).toBe(14)
    // The gateway's share is 3 ms, 0 (never negative), and all of what no upstream answered.
    expect(cells[2 * LATENCY_BLOCK + LATENCY_BUCKETS]).toBe(3.5)
    expect(cells[2 * LATENCY_BLOCK + latencyBucket(3, bounds)]).toBe(1)
    expect([cells[INGRESS_CELL], cells[EGRESS_CELL]]).toEqual([111, 2022])
  })

  test('the same labels are the same series, declared once', () => {
    const { directory, start } = setup()
    const metrics = start(0)
    expect(metrics.routeSeries(labels)).toBe(metrics.routeSeries({ ...labels }))
    metrics.counter('upstream_retries', ['a']).add(1)
    metrics.counter('upstream_retries', ['a']).add(2)
    expect(directory.series().map((series) => series.labels[0])).toEqual(['route', 'counter'])
  })

  test('sums workers', () => {
    const { directory, start, cellsOf } = setup(3)
    for (let worker = 0; worker < 3; worker++) {
      const metrics = start(worker)
      metrics.requestStarted()
      metrics.connectionOpened()
      metrics.counter('upstream_retries').add(worker + 1)
      if (worker === 0) metrics.requestEnded(2)
    }
    expect(cellsOf('counter', 'upstream_retries')).toEqual([6])
    expect(directory.fixed()).toMatchObject({ requests: 3, inFlight: 2, connections: 3, connectionsAccepted: 3, durationSumMs: 2 })
    expect(directory.fixed().durations[fineCell(2)]).toBe(1)
  })

  test('a replacement continues: counters never go backwards, gauges forget the dead', () => {
    const { directory, start, cellsOf } = setup(2)
    const first = start(0)
    first.routeSeries(labels).record(200, 1, 1, 1, 5, 5)
    first.counter('upstream_retries', ['x']).add(4)
    first.requestStarted()
    first.requestStarted()
    first.requestEnded(1)
    first.connectionOpened()
    directory.retire(0)
    expect(cellsOf('counter', 'upstream_retries', 'x')).toEqual([4])
    expect(directory.fixed()).toMatchObject({ requests: 2, inFlight: 0, connections: 0, connectionsAccepted: 1 })
    // The replacement declares in another order, so the same cells get another meaning.
    const second = start(0)
    second.counter('upstream_retries', ['x']).add(1)
    second.routeSeries(labels).record(200, 1, 1, 1, 5, 5)
    second.requestStarted()
    expect(cellsOf('counter', 'upstream_retries', 'x')).toEqual([5])
    expect(cellsOf('status', '200')).toEqual([2])
    expect(cellsOf('route', 'r1')?.[INGRESS_CELL]).toBe(10)
    expect(directory.fixed()).toMatchObject({ requests: 3, inFlight: 1 })
    directory.retire(0)
    expect(cellsOf('counter', 'upstream_retries', 'x')).toEqual([5])
  })

  test('many consumers are counted together, and leave room for routes', () => {
    const { directory, start, cellsOf } = setup()
    const metrics = start(0)
    const record = (route: string, consumer: string) => metrics.routeSeries({ ...labels, route, consumer }).record(200, 1, 1, 1, 1, 0)
    const count = CONSUMERS_PER_ROUTE_MAX + 10
    for (let consumer = 0; consumer < count; consumer++) record('r1', `c${consumer}`)
    record('r1', 'c0')
    expect(directory.fixed().consumerOverflows).toBe(10)
    expect(cellsOf('route', 'r1', '/a/*', '', 's', 'c0')?.[INGRESS_CELL]).toBe(2)
    expect(cellsOf('route', 'r1', '/a/*', '', 's', 'overflow')?.[INGRESS_CELL]).toBe(10)
    expect(cellsOf('route', 'r1', '/a/*', '', 's', `c${count - 1}`)).toBeUndefined()
    // Many routes: consumers have half of the room, and routes the rest.
    for (let route = 2; route < 100; route++) for (let consumer = 0; consumer < count; consumer++) record(`r${route}`, `c${consumer}`)
    const { capacity, used } = directory.usage()
    expect(used).toBeGreaterThan(capacity / 4)
    expect(used).toBeLessThan((capacity * 2) / 3)
    record('last', '')
    expect(cellsOf('route', 'last')?.[INGRESS_CELL]).toBe(1)
    expect(directory.fixed().overflows).toBe(0)
  })

  test('a full slab sends everything to the overflow series, and says so', () => {
    const { directory, start, cellsOf } = setup()
    const metrics = start(0)
    const { capacity } = directory.usage()
    const early = metrics.routeSeries(labels)
    const fitting = Math.floor(capacity / ROUTE_CELLS)
    for (let index = 0; index < fitting; index++) metrics.routeSeries({ ...labels, route: `fill-${index}` })
    for (let index = 0; index < ROUTE_CELLS; index++) metrics.counter('refused', [String(index)])
    const late = metrics.routeSeries({ ...labels, route: 'late' })
    expect(metrics.routeSeries({ ...labels, route: 'later' })).toBe(late)
    late.record(200, 1, 1, 1, 7, 7)
    early.record(418, 0, 1, -1, 1, 1)
    metrics.counter('upstream_retries', ['a', 'b']).add(2)
    metrics.counter('upstream_retries', ['c', 'd']).add(3)
    expect(cellsOf('status', '200', 'upstream', 'overflow')).toEqual([1])
    // A status that a known series meets for the first time has no room either.
    expect(cellsOf('status', '418', 'apisix', 'overflow')).toEqual([1])
    expect(cellsOf('route', 'overflow')?.[INGRESS_CELL]).toBe(7)
    expect(cellsOf('route', 'r1')?.[INGRESS_CELL]).toBe(1)
    expect(cellsOf('counter', 'upstream_retries', 'overflow', 'overflow')).toEqual([5])
    expect(cellsOf('route', 'late')).toBeUndefined()
    expect(directory.fixed().overflows).toBeGreaterThanOrEqual(4)
    for (let status = 100; status < 1000; status++) for (const source of [0, 1] as const) late.record(status, source, 1, -1, 0, 0)
  })

  test('declarations that no worker would make are refused', () => {
    const { directory } = setup()
    expect(() => directory.declare(0, 3, ['counter', 'x'])).toThrow('outside the series area')
    expect(() => directory.declare(5, 1000, ['counter', 'x'])).toThrow('worker slot 5')
  })
})
