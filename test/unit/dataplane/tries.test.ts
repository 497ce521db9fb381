/** What of a request left before its connection ended decides whether it may be sent again. Against a real server on loopback. */
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { ManualClock } from '../../../src/base/clock.js'
import { NodeFeed } from '../../../src/dataplane/balancer/node-feed.js'
import type { Exchange } from '../../../src/dataplane/exchange.js'
import { LinkedUpstream } from '../../../src/dataplane/linked-upstream.js'
import { RequestBody } from '../../../src/dataplane/request-body.js'
import { Tries } from '../../../src/dataplane/tries.js'
import { PoolRegistry } from '../../../src/dataplane/upstream/pool-registry.js'
import { createNodesRegion, NodeCells } from '../../../src/shared/node-cells.js'
import { NodeHealth } from '../../../src/shared/node-health.js'
import { ROTORS_BYTES, Rotors } from '../../../src/shared/rotors.js'
import { createUpstreamsRegion, UpstreamCells } from '../../../src/shared/upstream-cells.js'
import { bulkheadsOf, exchangeOf, nodeOf, routeWith, silentTally, upstreamOf } from './parts.js'

const cleanups: (() => void)[] = []
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup()
})

const count = { add: () => {} }
const answer = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'

/** Tries to one node that answers each request in `answers`, which a test may change; `ended` resolves with status or failure. */
async function oneNode() {
  const arrived: string[] = []
  const sockets: Socket[] = []
  const server = createServer((socket) => {
    sockets.push(socket)
    const number = sockets.length
    socket.on('error', () => {})
    socket.on('data', (data) => {
      arrived.push(`${number} ${data.toString('latin1').split(' HTTP')[0]}`)
      socket.write(answer)
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const region = createNodesRegion(1)
  const cells = new NodeCells(region, 1, 0)
  const waiting = new Map<Exchange, (ending: string) => void>()
  const feed = new NodeFeed(cells)
  const tries = new Tries(
    new RequestBody({ maxBufferedBytes: 65536, bodyTimeoutMs: 60_000 }, feed),
    feed,
    { retries: count, overBudget: count, hedges: count },
    new ManualClock(),
    {
      answer: () => {},
      answerFailure: (exchange, failure) => waiting.get(exchange)?.(failure.code),
      abortClient: (exchange) => waiting.get(exchange)?.('cut off'),
    },
  )
  const pools = new PoolRegistry(
    {
      connected: (connection) => tries.connected(connection),
      whole: (exchange, head) => {
        if (tries.answered(exchange, head, true, 0)) waiting.get(exchange)?.(String(head.status))
      },
      head: () => {},
      body: () => {},
      failed: (exchange, connection, failure, answered) => tries.failed(exchange, connection, failure, answered),
      drained: () => {},
      turnEnded: () => {},
    },
    16384,
    silentTally(),
  )
  cleanups.push(() => pools.destroy())
  const upstream = new LinkedUpstream(upstreamOf({ retries: 0 }), [nodeOf({ port: (server.address() as AddressInfo).port })], {
    pools,
    rotors: new Rotors(new SharedArrayBuffer(ROTORS_BYTES)),
    nodes: cells,
    nodeHealth: new NodeHealth(region, cells),
    nodeNews: () => {},
    upstreams: new UpstreamCells(createUpstreamsRegion()),
    bulkheads: bulkheadsOf(),
  })
  const route = routeWith([])
  const begin = (method: string, target: string): { readonly exchange: Exchange; readonly ended: Promise<string> } => {
    const exchange = exchangeOf({ method, target })
    const ended = new Promise<string>((resolve) => waiting.set(exchange, resolve))
    tries.begin(exchange, route, upstream)
    return { exchange, ended }
  }
  return { arrived, begin, tries }
}

const stray = Buffer.from(answer)

test('what had not left yet is sent again, a POST too, once and on another connection', async () => {
  const { arrived, begin } = await oneNode()
  expect(await begin('GET', '/warm').ended).toBe('200')
  const { exchange, ended } = begin('POST', '/order')
  expect(exchange.connection?.isReused).toBe(true)
  exchange.connection?.onBytes(stray, stray.length)
  expect(await ended).toBe('200')
  expect(arrived).toEqual(['1 GET /warm', '2 POST /order'])
})

test('what has left is not, unless it may be repeated', async () => {
  const { arrived, begin } = await oneNode()
  expect(await begin('GET', '/warm').ended).toBe('200')
  for (const [method, ending] of [
    ['POST', 'UPSTREAM_RESET'],
    ['GET', '200'],
  ] as const) {
    const { exchange, ended } = begin(method, '/sent')
    exchange.connection?.flush()
    exchange.connection?.onEnd()
    expect(await ended).toBe(ending)
    if (method === 'POST') expect(await begin('GET', '/warm').ended).toBe('200')
  }
  expect(arrived.filter((line) => line.endsWith('POST /sent')).length).toBeLessThanOrEqual(1)
  expect(arrived).toContain('3 GET /sent')
})

test('what is cancelled in its turn never leaves', async () => {
  const { arrived, begin, tries } = await oneNode()
  expect(await begin('GET', '/warm').ended).toBe('200')
  tries.cancel(begin('GET', '/given-up').exchange)
  expect(await begin('GET', '/next').ended).toBe('200')
  expect(arrived).toEqual(['1 GET /warm', '2 GET /next'])
})
