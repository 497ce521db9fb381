/** What tries say about the health of a node, from the data path to the shared state. */
import { describe, expect, test } from 'vitest'
import { nowMs } from '../../../src/base/clock.js'
import { type Failure, failures } from '../../../src/base/errors.js'
import { compileChecks, compileOutlierDetection } from '../../../src/controlplane/compile-health.js'
import { NodeFeed } from '../../../src/dataplane/balancer/node-feed.js'
import { Standstill } from '../../../src/dataplane/balancer/standstill.js'
import { LinkedUpstream } from '../../../src/dataplane/linked-upstream.js'
import { PoolRegistry } from '../../../src/dataplane/upstream/pool-registry.js'
import type { CompiledUpstream } from '../../../src/schema/compiled.js'
import type { ChecksResource } from '../../../src/schema/health.js'
import { healthCounters } from '../../../src/shared/health-state.js'
import { createNodesRegion, NodeCells } from '../../../src/shared/node-cells.js'
import { NodeHealth, type NodeNews } from '../../../src/shared/node-health.js'
import { ROTORS_BYTES, Rotors } from '../../../src/shared/rotors.js'
import { createUpstreamsRegion, UpstreamCells } from '../../../src/shared/upstream-cells.js'
import { bulkheadsOf, exchangeOf, nodeOf, silentEvents, silentTally, upstreamOf } from './parts.js'

const SLOT = 1

function bench(fields: Partial<CompiledUpstream>) {
  const region = createNodesRegion(1)
  const nodes = new NodeCells(region, 1, 0)
  const health = new NodeHealth(region, nodes)
  const news: NodeNews[] = []
  const record = upstreamOf({ ...fields, nodes: [nodeOf({ address: '10.0.0.1', slot: SLOT })] })
  const upstream = new LinkedUpstream(record, record.nodes, {
    pools: new PoolRegistry(silentEvents, 16384, silentTally()),
    rotors: new Rotors(new SharedArrayBuffer(ROTORS_BYTES)),
    nodes,
    nodeHealth: health,
    nodeNews: (one) => news.push(one),
    upstreams: new UpstreamCells(createUpstreamsRegion()),
    bulkheads: bulkheadsOf(),
  })
  const feed = new NodeFeed(nodes)
  const exchange = exchangeOf()
  exchange.upstream = upstream
  exchange.upstreamAddress = '10.0.0.1:80'
  const begin = (agoMs = 0): void => {
    exchange.pickedSlot = SLOT
    feed.begin(exchange, nowMs() - agoMs)
  }
  const answer = (status: number, agoMs = 0): void => {
    begin(agoMs)
    feed.answered(exchange, status)
    feed.completed(exchange)
  }
  const fail = (failure: Failure): void => {
    begin()
    feed.failed(exchange, failure)
  }
  return { upstream, feed, exchange, health, news, begin, answer, fail, counters: () => healthCounters(health.health(SLOT)) }
}

const withPassive = (passive: ChecksResource['passive']) =>
  bench({ checks: compileChecks({ nodes: {}, checks: { active: {}, ...(passive !== undefined && { passive }) } }, {}) })

describe('passive checks', () => {
  test('statuses count by the lists, failures of connections and timeouts apart', () => {
    const { answer, fail, counters } = withPassive({})
    answer(404)
    answer(502)
    expect(counters()).toEqual({ success: 0, httpFailure: 0, tcpFailure: 0, timeoutFailure: 0 })
    answer(500)
    answer(429)
    fail(failures.UPSTREAM_BAD_RESPONSE)
    fail(failures.UPSTREAM_RESET)
    fail(failures.UPSTREAM_CONNECT_TIMEOUT)
    fail(failures.UPSTREAM_READ_TIMEOUT)
    expect(counters()).toEqual({ success: 0, httpFailure: 3, tcpFailure: 1, timeoutFailure: 2 })
    answer(200)
    expect(counters()).toEqual({ success: 1, httpFailure: 0, tcpFailure: 0, timeoutFailure: 0 })
  })

  test('what is decided is told once, with the reason', () => {
    const { fail, news } = withPassive({})
    for (const failure of [failures.UPSTREAM_CONNECT_FAILED, failures.UPSTREAM_TLS_FAILED, failures.UPSTREAM_RESET]) fail(failure)
    expect(news).toEqual([{ upstream: 'upstreams/1', node: '10.0.0.1:80', change: 'unhealthy', reason: 'traffic: connection failed' }])
  })

  test('with type tcp every answer is a success; a limit of 0 does not count', () => {
    const { answer, fail, counters } = withPassive({ type: 'tcp', unhealthy: { tcp_failures: 3, timeouts: 0 } })
    fail(failures.UPSTREAM_RESET)
    fail(failures.UPSTREAM_READ_TIMEOUT)
    expect(counters()).toMatchObject({ tcpFailure: 1, timeoutFailure: 0 })
    answer(503)
    expect(counters()).toMatchObject({ success: 1, tcpFailure: 0 })
  })

  test('upstreams that are not judged by their traffic have no judge', () => {
    expect([withPassive(undefined).upstream.judge, bench({}).upstream.judge]).toEqual([null, null])
  })
})

describe('slow calls', () => {
  const slow = () =>
    bench({ outlierDetection: { ...compileOutlierDetection({ slow_call_duration: 0.1, consecutive_slow_calls: 3 }), slot: 9 } })

  test('are counted once each, while they last or when they end', () => {
    const { begin, feed, exchange, answer, health, news } = slow()
    begin(150)
    feed.unanswered(exchange, nowMs())
    expect([health.slowCalls(SLOT), exchange.slowAfterMs]).toEqual([1, 0])
    feed.answered(exchange, 200)
    feed.completed(exchange)
    answer(200, 150)
    expect([health.slowCalls(SLOT), health.isEjected(SLOT)]).toEqual([2, false])
    const start = nowMs()
    exchange.pickedSlot = SLOT
    feed.begin(exchange, start)
    feed.unanswered(exchange, start + 50)
    expect(health.slowCalls(SLOT)).toBe(2)
    feed.unanswered(exchange, start + 100)
    expect([health.isEjected(SLOT), news.map(({ change }) => change)]).toEqual([true, ['ejected']])
  })

  test('do not count while the client still sends its request, or while this thread stood still', () => {
    const { begin, feed, exchange, health } = slow()
    begin(150)
    exchange.bodyComplete = false
    feed.unanswered(exchange, nowMs())
    exchange.bodyComplete = true
    const start = nowMs()
    feed.swept(start)
    feed.begin(exchange, start)
    // No sweep came for a second.
    feed.unanswered(exchange, start + 1000)
    expect(health.slowCalls(SLOT)).toBe(0)
    for (let ms = 1000; ms <= 1100; ms += 50) feed.swept(start + ms)
    feed.unanswered(exchange, start + 1100)
    expect(health.slowCalls(SLOT)).toBe(1)
  })
})

test('a standstill is what lies beyond the time in which the next sweep was due, and adds up', () => {
  const standstill = new Standstill()
  expect(standstill.totalMs(1000)).toBe(0)
  standstill.swept(1000)
  expect([standstill.totalMs(1050), standstill.totalMs(1075), standstill.totalMs(1275)]).toEqual([0, 0, 200])
  standstill.swept(1275)
  standstill.swept(1325)
  expect(standstill.totalMs(1325)).toBe(200)
  standstill.swept(1500)
  expect(standstill.totalMs(1500)).toBe(300)
})
