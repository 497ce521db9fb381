/** What the shared state of a node is told of a try: one begin, one end, and a latency that is the node's own. */
import { beforeEach, describe, expect, test } from 'vitest'
import { nowMs } from '../../../src/base/clock.js'
import { failures } from '../../../src/base/errors.js'
import { NodeFeed } from '../../../src/dataplane/balancer/node-feed.js'
import type { Exchange } from '../../../src/dataplane/exchange.js'
import { createNodesRegion, NodeCells } from '../../../src/shared/node-cells.js'
import { exchangeOf } from './parts.js'

const SLOT = 5
let cells: NodeCells
let feed: NodeFeed
let exchange: Exchange

beforeEach(() => {
  cells = new NodeCells(createNodesRegion(1), 1, 0)
  feed = new NodeFeed(cells)
  exchange = exchangeOf()
  exchange.pickedSlot = SLOT
})

/** A try that was sent `agoMs` ago. */
function begin(agoMs = 0): void {
  feed.begin(exchange, nowMs() - agoMs)
}

const counts = (): number[] => [cells.inFlight(SLOT), cells.successes(SLOT), cells.failures(SLOT)]

test('a try ends once, however often it is told so', () => {
  begin()
  expect(counts()).toEqual([1, 0, 0])
  feed.answered(exchange, 200)
  feed.completed(exchange)
  feed.completed(exchange)
  feed.failed(exchange, failures.UPSTREAM_RESET)
  feed.dropped(exchange)
  expect(counts()).toEqual([0, 1, 0])
})

test('a node without a slot is left alone', () => {
  exchange.pickedSlot = 0
  begin()
  feed.answered(exchange, 200)
  feed.completed(exchange)
  expect([cells.inFlight(0), cells.successes(0), cells.latencyUs(0)]).toEqual([0, 0, 0])
})

describe('how it ended', () => {
  test.each([
    [200, [0, 1, 0], 0, 0],
    [404, [0, 1, 0], 0, 0],
    [500, [0, 0, 1], 1, 0],
    [503, [0, 0, 1], 1, 1],
  ])('status %i', (status, expected, consecutive, gateway) => {
    begin()
    feed.answered(exchange, status)
    feed.completed(exchange)
    expect([counts(), cells.consecutiveFailures(SLOT), cells.consecutiveGatewayFailures(SLOT)]).toEqual([expected, consecutive, gateway])
  })

  test('a body that breaks off is a failure, also behind a good head', () => {
    begin()
    feed.answered(exchange, 200)
    feed.failed(exchange, failures.UPSTREAM_RESET)
    expect(counts()).toEqual([0, 0, 1])
  })

  test('a client that leaves says nothing, unless the head was there', () => {
    begin()
    feed.dropped(exchange)
    expect(counts()).toEqual([0, 0, 0])
    begin()
    feed.answered(exchange, 200)
    feed.dropped(exchange)
    expect(counts()).toEqual([0, 1, 0])
  })
})

describe('latency', () => {
  test('is that to the head', () => {
    begin(200)
    feed.answered(exchange, 200)
    expect(cells.latencyUs(SLOT)).toBeGreaterThanOrEqual(200_000)
  })

  test('of an error does not pull the average down', () => {
    cells.observe(SLOT, 500, 1, 1)
    begin()
    feed.answered(exchange, 503)
    expect(cells.latencyUs(SLOT)).toBe(500_000)
  })

  test('a wait that was given up counts for so long as it was, but not while the client was still sending', () => {
    begin(300)
    exchange.bodyComplete = false
    feed.dropped(exchange)
    expect(cells.latencyUs(SLOT)).toBe(0)
    exchange.bodyComplete = true
    begin(300)
    feed.dropped(exchange)
    // The clock that is read last may be a little behind.
    expect(cells.latencyUs(SLOT)).toBeGreaterThanOrEqual(290_000)
  })

  test('of a failed try doubles', () => {
    for (const expected of [50_000, 100_000, 200_000]) {
      begin()
      feed.failed(exchange, failures.UPSTREAM_CONNECT_FAILED)
      expect(cells.latencyUs(SLOT)).toBeGreaterThanOrEqual(expected)
    }
  })
})

test("the time in which this thread stood still is not the node's", () => {
  const start = nowMs() - 10_000
  feed.swept(start)
  feed.begin(exchange, start + 10)
  exchange.upstreamStartMs = start + 10
  // Nothing was looked at for almost ten seconds: the answer may have waited all the time.
  feed.answered(exchange, 200)
  expect(cells.latencyUs(SLOT)).toBeLessThanOrEqual(75_000)
  feed.time(exchange, nowMs())
  expect(exchange.upstreamResponseMs).toBeGreaterThan(9_900)
  expect(exchange.upstreamResponseMs - exchange.upstreamStandstillMs).toBeLessThanOrEqual(75)
})
