/** Which clients the sweep of the data path gives up while an answer is on its way. */
import { expect, test } from 'vitest'
import { nowMs, systemClock } from '../../../src/base/clock.js'
import { NodeFeed } from '../../../src/dataplane/balancer/node-feed.js'
import { type Exchange, Stage } from '../../../src/dataplane/exchange.js'
import { type ProxyAccounts, RequestProxy } from '../../../src/dataplane/proxy.js'
import { ResponseWriter } from '../../../src/dataplane/response/writer.js'
import { createNodesRegion, NodeCells } from '../../../src/shared/node-cells.js'
import { RecordingClient } from './parts.js'

const SEND_MS = 1000
const counter = { add: () => {} }
const accounts = {
  needsAddress: false,
  requestStarted: () => {},
  finished: () => {},
  retries: counter,
  overBudget: counter,
  hedges: counter,
  pluginErrors: counter,
  pluginFailed: () => {},
} as object as ProxyAccounts

class SlowClient extends RecordingClient {
  takes = true
  isTaking(): boolean {
    return this.takes
  }
}

/** An exchange whose client has not taken all of its answer when the time for that is over. */
function overdue(proxy: RequestProxy, client: RecordingClient): Exchange {
  const exchange = proxy.begin(client)
  exchange.stage = Stage.Responding
  exchange.isClientFull = true
  exchange.deadlineMs = nowMs() - 1
  return exchange
}

test('one that takes something goes on, one that takes nothing is cut off, and so is one that cannot tell', () => {
  const limits = { maxBodyBytes: 0, maxBufferedBytes: 0, bodyTimeoutMs: 0, sendTimeoutMs: SEND_MS }
  const feed = new NodeFeed(new NodeCells(createNodesRegion(1), 1, 0))
  const proxy = new RequestProxy(new ResponseWriter(SEND_MS), limits, accounts, feed, systemClock)
  const [slow, untold] = [new SlowClient(), new RecordingClient()]
  const exchange = overdue(proxy, slow)
  overdue(proxy, untold)
  proxy.sweep(nowMs())
  expect([slow.isClosedBehind, untold.isClosedBehind, proxy.inFlight]).toEqual([false, true, 1])
  expect(exchange.deadlineMs).toBeGreaterThan(nowMs())
  slow.takes = false
  proxy.sweep(exchange.deadlineMs)
  expect([slow.isClosedBehind, proxy.inFlight]).toEqual([true, 0])
})
