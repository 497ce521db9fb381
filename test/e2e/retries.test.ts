/** Retries, their budget and deadlines in a running gateway, counted at the upstream. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { fieldOf, type RawConnection, textOf } from '../../src/doctor/raw-connection.js'
import { lengthResponse, type RecordedConnection, type RecordingUpstream } from '../../src/doctor/recording-upstream.js'
import { valuesOf } from '../../src/doctor/strict-fields.js'
import type { StrictRequest } from '../../src/doctor/strict-request.js'
import type { Gateway } from '../support/gateway.js'
import { hammer, requestText } from '../support/limit-clients.js'
import { ownPort } from '../support/ports.js'
import { eventually } from '../support/redis.js'
import { TestBed } from '../support/test-bed.js'

const WORKERS = 2
const bed = new TestBed()
const perTest = new TestBed()
/** Two nodes of the same upstream. */
let nodes: readonly [RecordingUpstream, RecordingUpstream]
let gateway: Gateway

beforeAll(async () => {
  nodes = [await bed.upstream(), await bed.upstream()]
  const dead = await ownPort()
  const both = { [`127.0.0.1:${nodes[0].port}`]: 1, [`127.0.0.1:${nodes[1].port}`]: 1 }
  const free = { percent: 1000 }
  const plenty = { min_per_second: 1000 }
  const patient = { connect: 60, send: 60, read: 60 }
  const routes = {
    plain: { nodes: both },
    status: { nodes: both, retry_on: [503], retry_budget: free },
    'status-many': { nodes: both, retries: 5, retry_on: [503], retry_budget: free, retry_backoff: { base: 0.001 } },
    'status-post': { nodes: both, retry_on: [503], retry_non_idempotent: true, retry_budget: free },
    'reset-only': { nodes: both, retry_on: ['reset'], retry_budget: free, timeout: patient },
    'reset-hasty': { nodes: both, retry_on: ['reset'], retry_budget: free, timeout: { ...patient, read: 0.3 } },
    none: { nodes: both, retry_on: [], retry_budget: free },
    storm: { nodes: both, retries: 3, retry_on: ['reset', 500], retry_budget: { percent: 20, min_per_second: 0 } },
    'connect-storm': { nodes: { ...both, [`127.0.0.1:${dead}`]: 1 }, retries: 2, retry_budget: { percent: 0, min_per_second: 0 } },
    hedge: { type: 'ewma', nodes: both, retry_budget: free, timeout: patient, hedge: { delay: 0.05 } },
    'hedge-hasty': { nodes: both, retry_budget: free, timeout: { ...patient, read: 0.3 }, hedge: { delay: 0.05 } },
    'hedge-poor': {
      nodes: both,
      retry_budget: { percent: 0, min_per_second: 0 },
      timeout: { ...patient, read: 0.3 },
      hedge: { delay: 0.05 },
    },
    // Many tries: on a slow machine a node that answers may be late more than once.
    'per-try': { nodes: both, retries: 20, retry_budget: plenty, timeout: { ...patient, per_try: 0.5 }, deadline: {} },
    'per-try-two': { nodes: both, retries: 1, retry_budget: plenty, timeout: { ...patient, per_try: 0.3 }, deadline: {} },
    total: { nodes: both, retry_budget: free, timeout: { ...patient, total: 0.8 }, deadline: { header: 'X-Left' } },
    client: { nodes: both, timeout: patient, deadline: { header: 'X-Left', from_client: true } },
    stranger: { nodes: both, timeout: { ...patient, total: 60 }, deadline: { header: 'X-Left' } },
  }
  gateway = await bed.gateway({
    workers: WORKERS,
    config: {
      routes: [
        ...Object.entries(routes).map(([id, upstream]) => ({ id, uri: `/${id}`, upstream })),
        { id: 'own', uri: '/own', retry_on: [404], upstream: routes.status },
      ],
      sluice: { log: { level: 'error' } },
    },
  })
})
afterAll(() => bed.close())
afterEach(async () => {
  await perTest.close()
  for (const node of nodes) {
    for (const { socket } of node.connections) socket.destroy()
    await node.until(() => node.connections.every((connection) => connection.closed), 'the end of all connections')
    node.connections.length = 0
    node.answer = () => lengthResponse('ok')
  }
})

const client = (): Promise<RawConnection> => perTest.client({ port: gateway.port })
const get = (target: string, headers?: Record<string, string>): string => requestText(target, headers)
const post = (target: string): string => `POST ${target} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello`
const tries = (): StrictRequest[] => nodes.flatMap((node) => node.requests)

/** The first `count` requests that reach either node are answered with this, the later ones with `ok`. */
function answerFirst(count: number, answer: (connection: RecordedConnection) => Buffer | string | undefined): void {
  let left = count
  for (const node of nodes) node.answer = (_, connection) => (left-- > 0 ? answer(connection) : lengthResponse('ok'))
}

const status = (text: string, fields: readonly string[] = [], body = 'no') => lengthResponse(body, fields, text)

describe('retry_on', () => {
  test('a status is passed on unless it is named; a named one is tried again on the other node', async () => {
    answerFirst(1, () => status('503 Service Unavailable'))
    expect((await (await client()).request(get('/plain'))).status).toBe(503)
    answerFirst(1, () => status('503 Service Unavailable'))
    const answer = await (await client()).request(get('/status'))
    expect([answer.status, textOf(answer)]).toEqual([200, 'ok'])
    expect(tries()).toHaveLength(3)
    answerFirst(1, () => status('502 Bad Gateway'))
    expect((await (await client()).request(get('/status'))).status).toBe(502)
  })

  test('the last answer goes to the client when no tries are left', async () => {
    answerFirst(100, () => status('503 Service Unavailable', ['X-Last: yes'], 'busy'))
    const answer = await (await client()).request(get('/status-many'))
    expect([answer.status, fieldOf(answer, 'x-last'), textOf(answer)]).toEqual([503, 'yes', 'busy'])
    expect(tries()).toHaveLength(6)
  })

  test('the connection of an answer that was tried again is kept, also when its body comes later', async () => {
    const body = 'x'.repeat(30_000)
    answerFirst(3, ({ socket }) => {
      socket.write(`HTTP/1.1 503 Service Unavailable\r\nContent-Length: ${body.length}\r\n\r\n`)
      setTimeout(() => socket.write(body), 20)
      return undefined
    })
    const one = await client()
    for (let index = 0; index < 12; index++) expect((await one.request(get('/status'))).status).toBe(index === 0 ? 503 : 200)
    // One connection of each node can serve all requests of one client, one more those that overlapped with a late body.
    expect(nodes.flatMap((node) => node.connections).length).toBeLessThanOrEqual(4)
    expect(nodes.flatMap((node) => node.connections).some((connection) => connection.requests.length > 3)).toBe(true)
  })

  test('a body that is too long to be thrown away, or never ends, costs the connection', async () => {
    answerFirst(1, ({ socket }) => {
      socket.write('HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n')
      return undefined
    })
    expect((await (await client()).request(get('/status'))).status).toBe(200)
    const odd = nodes.flatMap((node) => node.connections).find((connection) => connection.requests.length === 1)
    await nodes[0].until(
      () => nodes.flatMap((node) => node.connections).some((connection) => connection.ended || connection.closed),
      'its end',
    )
    expect(odd).toBeDefined()
  })

  test('POST: its bytes are sent once, unless the upstream may get them twice', async () => {
    answerFirst(1, () => status('503 Service Unavailable'))
    expect((await (await client()).request(post('/status'))).status).toBe(503)
    answerFirst(1, ({ socket }) => void socket.resetAndDestroy())
    expect((await (await client()).request(post('/plain'))).status).toBe(502)
    expect(tries()).toHaveLength(2)
    answerFirst(1, () => status('503 Service Unavailable'))
    expect((await (await client()).request(post('/status-post'))).status).toBe(200)
    expect(tries().map((request) => Buffer.concat(request.body).toString())).toEqual(['hello', 'hello', 'hello', 'hello'])
  })

  test('a reset is tried again where it is named, a timeout is not, and the route has the last word', async () => {
    answerFirst(1, ({ socket }) => void socket.resetAndDestroy())
    expect((await (await client()).request(get('/reset-only'))).status).toBe(200)
    answerFirst(1, () => undefined)
    const late = await (await client()).request(get('/reset-hasty'))
    expect([late.status, textOf(late)]).toEqual([504, expect.stringContaining('UPSTREAM_READ_TIMEOUT')])
    answerFirst(1, ({ socket }) => void socket.resetAndDestroy())
    expect((await (await client()).request(get('/none'))).status).toBe(502)
    answerFirst(1, () => status('404 Not Found'))
    expect((await (await client()).request(get('/own'))).status).toBe(200)
    answerFirst(1, () => status('503 Service Unavailable'))
    expect((await (await client()).request(get('/own'))).status).toBe(503)
  })

  test('Retry-After up to the cap is waited for; a longer one goes to the client', async () => {
    answerFirst(1, () => status('503 Service Unavailable', ['Retry-After: 1']))
    const started = performance.now()
    expect((await (await client()).request(get('/status'))).status).toBe(200)
    expect(performance.now() - started).toBeGreaterThan(900)
    answerFirst(1, () => status('503 Service Unavailable', ['Retry-After: 2']))
    const answer = await (await client()).request(get('/status'))
    expect([answer.status, fieldOf(answer, 'retry-after')]).toEqual([503, '2'])
  })
})

describe('budget', () => {
  test('amplification: whatever a storm of failures is made of, the upstream gets at most 1.2 times the requests', async () => {
    const REQUESTS = 600
    let turn = 0
    for (const node of nodes) {
      node.answer = (_, { socket }) => {
        if (turn++ % 2 === 0) return status('500 Internal Server Error')
        socket.resetAndDestroy()
        return undefined
      }
    }
    const statuses = await hammer(perTest, [gateway], '/storm', REQUESTS, { clients: 12 })
    expect([...statuses.values()].reduce((sum, count) => sum + count, 0)).toBe(REQUESTS)
    expect([...statuses.keys()].sort()).toEqual([500, 502])
    const sent = tries().length
    expect(sent).toBeLessThanOrEqual(REQUESTS * 1.2)
    expect(sent).toBeGreaterThan(REQUESTS)
    expect(await gateway.metric('gateway_upstream_retries_refused_total')).toBeGreaterThan(0)
  })

  test('what was never sent needs no budget: a dead node costs no request', async () => {
    expect(await hammer(perTest, [gateway], '/connect-storm', 60, { clients: 4 })).toEqual(new Map([[200, 60]]))
  })
})

describe('hedging', () => {
  /** Every request of the route is in the books once, and nothing is in flight. */
  async function settled(): Promise<void> {
    await eventually('nothing in flight', async () => {
      const response = await fetch(`${gateway.metricsUrl}/v1/nodes`)
      const known = ((await response.json()) as { nodes: { in_flight: number }[] }).nodes
      return known.length > 0 && known.every((node) => node.in_flight === 0)
    })
  }

  test('the second node is asked when the first is late; its answer counts, the first is given up, and all is counted once', async () => {
    const served = (): Promise<number> => gateway.metric('apisix_http_requests_total')
    const hedges = (): Promise<number> => gateway.metric('gateway_upstream_hedges_total')
    const before = [await served(), await hedges()]
    const late = 4
    const one = await client()
    for (let round = 0; round < late; round++) {
      answerFirst(1, () => undefined)
      const answer = await one.request(get('/hedge'))
      expect([answer.status, textOf(answer)]).toEqual([200, 'ok'])
    }
    expect(tries()).toHaveLength(2 * late)
    await nodes[0].until(
      () => nodes.flatMap((node) => node.connections).filter(({ closed, ended }) => closed || ended).length >= late,
      'the end of the late tries',
    )
    await settled()
    await eventually('the counts', async () => (await hedges()) === (before[1] ?? 0) + late)
    // Its own counter is read with the others: requests are counted once each.
    expect((await served()) - (before[0] ?? 0)).toBe(late)
  })

  test('an answer in parts by the second try, a first try that breaks while it runs, a client that goes', async () => {
    let turn = 0
    for (const node of nodes) {
      node.answer = (_, { socket }) => {
        if (turn++ === 0) return undefined
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf')
        setTimeout(() => socket.write('half'), 20)
        return undefined
      }
    }
    expect(textOf(await (await client()).request(get('/hedge')))).toBe('halfhalf')
    let first: RecordedConnection | null = null
    for (const node of nodes) {
      node.answer = (_, connection) => {
        if (first === null) first = connection
        else {
          first.socket.resetAndDestroy()
          setTimeout(() => connection.socket.write(lengthResponse('second')), 50)
        }
        return undefined
      }
    }
    expect(textOf(await (await client()).request(get('/hedge')))).toBe('second')
    const before = tries().length
    answerFirst(2, () => undefined)
    const gone = await client()
    gone.send(get('/hedge'))
    await nodes[0].until(() => tries().length === before + 2 || nodes[1].requests.length > 0, 'both tries')
    await eventually('both tries', () => tries().length === before + 2)
    gone.destroy()
    await settled()
  })

  test('when neither answers the client gets one 504; POST and an empty budget are not hedged', async () => {
    answerFirst(9, () => undefined)
    expect((await (await client()).request(get('/hedge-poor'))).status).toBe(504)
    expect(tries()).toHaveLength(1)
    expect((await (await client()).request(post('/hedge-hasty'))).status).toBe(504)
    expect(tries()).toHaveLength(2)
    await settled()
  })
})

describe('deadlines', () => {
  const left = (request: StrictRequest | undefined, name: string): number => Number(valuesOf(request?.fields ?? [], name)[0])

  test('per_try: the next node is asked; each try is told its time', async () => {
    answerFirst(1, () => undefined)
    expect((await (await client()).request(get('/per-try'))).status).toBe(200)
    expect(tries().length).toBeGreaterThanOrEqual(2)
    for (const request of tries()) expect(left(request, 'x-request-deadline-ms')).toBeLessThanOrEqual(500)
    answerFirst(99, () => undefined)
    const answer = await (await client()).request(get('/per-try-two'))
    expect([answer.status, textOf(answer)]).toEqual([504, expect.stringContaining('UPSTREAM_TRY_TIMEOUT')])
  })

  test('total: over all tries, and also in the middle of a body', async () => {
    answerFirst(9, () => undefined)
    const answer = await (await client()).request(get('/total'))
    expect([answer.status, textOf(answer)]).toEqual([504, expect.stringContaining('UPSTREAM_DEADLINE')])
    expect(tries()).toHaveLength(1)
    expect(left(tries()[0], 'x-left')).toBeLessThanOrEqual(800)
    answerFirst(99, ({ socket }) => void socket.write('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart'))
    await eventually('an answer that is cut off', async () => {
      const cut = await client()
      await cut.send(get('/total'))
      const whole = await cut.response().catch(() => null)
      // Where even its beginning was late, the client is told so; everywhere else it is cut off in time.
      expect(whole?.status ?? 504).toBe(504)
      return whole === null && (cut.ended || cut.closed)
    })
  })

  test('a client may shorten its deadline where it is believed; elsewhere its field is dropped', async () => {
    answerFirst(9, () => undefined)
    const answer = await (await client()).request(get('/client', { 'X-Left': '500' }))
    expect([answer.status, textOf(answer)]).toEqual([504, expect.stringContaining('CLIENT_DEADLINE')])
    expect(left(tries()[0], 'x-left')).toBeLessThanOrEqual(500)
    answerFirst(0, () => undefined)
    for (const odd of ['soon', '-5', '']) expect((await (await client()).request(get('/client', { 'X-Left': odd }))).status).toBe(200)
    expect((await (await client()).request(get('/stranger', { 'X-Left': '1' }))).status).toBe(200)
    const told = tries().find((request) => request.target === '/stranger')
    expect(left(told, 'x-left')).toBeGreaterThan(1_000)
  })
})
