/** Outliers among nodes: the arithmetic of one interval, and the watch over time, on a clock of the test. */
import { describe, expect, test } from 'vitest'
import { ManualClock } from '../../src/base/clock.js'
import { compileOutlierDetection } from '../../src/controlplane/compile-health.js'
import { findOutliers, type NodeInterval } from '../../src/controlplane/health/outlier-statistics.js'
import { OutlierWatch } from '../../src/controlplane/health/outlier-watch.js'
import { NodeJudge } from '../../src/dataplane/balancer/node-judge.js'
import type { OutlierDetectionResource } from '../../src/schema/health.js'
import { createNodesRegion, NodeBoard, NodeCells, Outcome } from '../../src/shared/node-cells.js'
import { NodeHealth, type NodeNews } from '../../src/shared/node-health.js'
import { nodeOf, upstreamOf } from './dataplane/parts.js'

const GROUP = 50

function find(conf: OutlierDetectionResource, nodes: readonly (readonly [ok: number, failed: number, slow?: number])[]): number[] {
  const intervals: NodeInterval[] = nodes.map(([successes, failures, slowCalls = 0]) => ({ successes, failures, slowCalls }))
  return [...findOutliers(compileOutlierDetection(conf), intervals).keys()]
}

describe('of one interval', () => {
  test('success rate: below the mean by more than the factor times the deviation', () => {
    // Rates 100 × 9 and 50: mean 95, deviation 15, threshold 95 - 28.5.
    const good = new Array<[number, number]>(9).fill([100, 0])
    expect(find({}, [...good, [50, 50]])).toEqual([9])
    // With factor 3.1 the threshold is 48.5.
    expect(find({ success_rate_stdev_factor: 3_100 }, [...good, [50, 50]])).toEqual([])
    expect(find({ success_rate_stdev_factor: 0 }, [...good, [0, 100]])).toEqual([])
    // All alike: nobody is an outlier, however bad.
    expect(find({}, new Array<[number, number]>(10).fill([10, 90]))).toEqual([])
  })

  test('success rate: only nodes with enough requests count, and only enough of them', () => {
    const good = new Array<[number, number]>(9).fill([100, 0])
    expect(find({}, [...good, [0, 99]])).toEqual([])
    expect(
      find({}, [
        [100, 0],
        [100, 0],
        [100, 0],
        [0, 100],
      ]),
    ).toEqual([])
    expect(
      find({ success_rate_minimum_hosts: 4, success_rate_stdev_factor: 1_000 }, [
        [100, 0],
        [100, 0],
        [100, 0],
        [0, 100],
      ]),
    ).toEqual([3])
  })

  test('failure percentage and slow calls', () => {
    const conf = { success_rate_stdev_factor: 0, failure_percentage_threshold: 85, failure_percentage_minimum_hosts: 2 }
    expect(
      find(conf, [
        [8, 42],
        [7, 43],
        [0, 49],
      ]),
    ).toEqual([1])
    expect(find(conf, [[50, 0]])).toEqual([])
    const slow = { success_rate_stdev_factor: 0, slow_call_duration: 1, slow_call_percentage: 50 }
    expect(
      find(slow, [
        [20, 0, 9],
        [20, 0, 10],
        [10, 9, 19],
      ]),
    ).toEqual([1])
    expect(find({ ...slow, slow_call_duration: 0 }, [[20, 0, 20]])).toEqual([])
  })
})

function bench(conf: OutlierDetectionResource, count = 4) {
  const clock = new ManualClock()
  const region = createNodesRegion(1)
  const board = new NodeBoard(region, 1)
  const cells = new NodeCells(region, 1, 0)
  const news: NodeNews[] = []
  const tell = (one: NodeNews): void => void news.push(one)
  const upstream = (size: number) =>
    upstreamOf({
      nodes: Array.from({ length: size }, (_, index) => nodeOf({ address: `10.0.0.${index + 1}`, port: 80, slot: index + 1 })),
      outlierDetection: { ...compileOutlierDetection(conf), slot: GROUP },
    })
  const record = upstream(count)
  const judge = NodeJudge.of(record, { cells, health: new NodeHealth(region, cells), tell })
  if (judge === null) throw new Error('nothing judges')
  judge.members = count
  const health = new NodeHealth(region, board)
  const watch = new OutlierWatch({ clock, cells: board, health, tell })
  watch.follow([record])
  /** A try as the node feed reports it. */
  const attempt = (slot: number, outcome: Outcome, latencyMs = 1): void => {
    const node = `10.0.0.${slot}:80`
    cells.begin(slot)
    if (outcome <= Outcome.GatewayError)
      judge.answered(slot, node, outcome === Outcome.Success ? 200 : 503, latencyMs, false, clock.nowMs())
    cells.end(slot, outcome)
    if (outcome !== Outcome.Success) judge.counted(slot, node, clock.nowMs())
  }
  const ejected = (): number[] => [1, 2, 3, 4].filter((slot) => health.isEjected(slot))
  return { clock, board, health, watch, news, attempt, ejected, upstream }
}

describe('over time', () => {
  test('failures in a row eject at once; the node returns when its time is over, and longer each time', () => {
    const { attempt, ejected, clock, news } = bench({ consecutive_5xx: 3, base_ejection_time: 2, interval: 10 })
    attempt(1, Outcome.ServerError)
    attempt(1, Outcome.ConnectError)
    attempt(1, Outcome.Success)
    attempt(1, Outcome.GatewayError)
    attempt(1, Outcome.ServerError)
    expect(ejected()).toEqual([])
    attempt(1, Outcome.ConnectError)
    expect(ejected()).toEqual([1])
    clock.advance(1800)
    expect(ejected()).toEqual([1])
    clock.advance(400)
    expect(ejected()).toEqual([])
    for (let time = 0; time < 3; time++) attempt(1, Outcome.GatewayError)
    clock.advance(3800)
    expect(ejected()).toEqual([1])
    clock.advance(400)
    expect(ejected()).toEqual([])
    expect(news.map(({ change, reason }) => `${change}: ${reason}`)).toEqual([
      'ejected: 3 failures in a row; for 2 s',
      'returned: its time is over',
      'ejected: 3 failures in a row; for 4 s',
      'returned: its time is over',
    ])
  })

  test('gateway failures in a row, apart from other errors', () => {
    const { attempt, ejected } = bench({ consecutive_5xx: 0, consecutive_gateway_failure: 2 })
    attempt(1, Outcome.GatewayError)
    attempt(1, Outcome.ServerError)
    attempt(1, Outcome.GatewayError)
    expect(ejected()).toEqual([])
    attempt(1, Outcome.ConnectError)
    expect(ejected()).toEqual([1])
  })

  test('slow calls in a row, and what a whole interval shows', () => {
    const { attempt, ejected, clock, news } = bench({
      slow_call_duration: 0.5,
      consecutive_slow_calls: 3,
      slow_call_request_volume: 10,
      interval: 5,
      max_ejection_percent: 50,
    })
    for (const latency of [500, 600, 499, 700, 800]) attempt(1, Outcome.Success, latency)
    expect(ejected()).toEqual([])
    attempt(1, Outcome.Success, 900)
    expect(ejected()).toEqual([1])
    for (let time = 0; time < 10; time++) attempt(2, Outcome.Success, time % 2 === 0 ? 600 : 10)
    expect(ejected()).toEqual([1])
    clock.advance(5100)
    expect(ejected()).toEqual([1, 2])
    expect(news.at(-1)?.reason).toBe('50.0 % of 10 requests were slow; for 30 s')
  })

  test('an interval that went well forgives; one with another ejection does not', () => {
    const { attempt, clock, health } = bench({ consecutive_5xx: 1, base_ejection_time: 1, interval: 5 })
    attempt(1, Outcome.ServerError)
    clock.advance(1200)
    attempt(1, Outcome.ServerError)
    clock.advance(2200)
    expect(health.ejections(1)).toBe(2)
    // The node came back within the interval that ends now: it says too little.
    clock.advance(2000)
    expect(health.ejections(1)).toBe(2)
    clock.advance(5000)
    expect(health.ejections(1)).toBe(1)
    clock.advance(5000)
    expect(health.ejections(1)).toBe(0)
  })

  test('a reload keeps an ejection and its end; a node that goes frees its place, also when an old request ejects it again', () => {
    const { attempt, ejected, clock, watch, health, upstream } = bench({
      consecutive_5xx: 1,
      base_ejection_time: 3,
      max_ejection_percent: 50,
    })
    attempt(4, Outcome.ServerError)
    attempt(3, Outcome.ServerError)
    clock.advance(1000)
    watch.follow([upstream(3)])
    expect([ejected(), health.ejectedCount(GROUP)]).toEqual([[3], 1])
    attempt(4, Outcome.ServerError)
    clock.advance(200)
    expect([ejected(), health.ejectedCount(GROUP)]).toEqual([[3], 1])
    clock.advance(2000)
    expect([ejected(), health.ejectedCount(GROUP)]).toEqual([[], 0])
    watch.follow([])
    clock.advance(70_000)
    expect(clock.pending).toBe(0)
  })
})
