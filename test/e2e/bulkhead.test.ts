/** The bound of an upstream in a running gateway: exact over workers, fair to their queues, and no place is lost. */
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { RawConnection } from '../../src/doctor/raw-connection.js'
import { lengthResponse, type RecordedConnection, type RecordingUpstream } from '../../src/doctor/recording-upstream.js'
import type { Gateway } from '../support/gateway.js'
import { ask, requestText } from '../support/limit-clients.js'
import { eventually } from '../support/redis.js'
import { TestBed } from '../support/test-bed.js'

const WORKERS = 2
const LIMIT = 3
const QUEUE = 8
const bed = new TestBed()
let upstream: RecordingUpstream
let gateway: Gateway
/** Requests that the upstream has and did not answer, oldest first. */
let held: RecordedConnection[]
let most = 0

beforeAll(async () => {
  held = []
  upstream = await bed.upstream({
    answer: (request, connection) => {
      if (!request.target.endsWith('/hold')) return lengthResponse('ok')
      held.push(connection)
      most = Math.max(most, held.length)
      return undefined
    },
  })
  const nodes = { [`127.0.0.1:${upstream.port}`]: 1 }
  const timeout = { connect: 60, send: 60, read: 60 }
  const concurrency = { limit: LIMIT, queue: QUEUE, queue_timeout: 600 }
  const route = (id: string, fields: object) => ({
    id,
    uri: `/${id}/*`,
    upstream: { nodes, timeout, concurrency: { ...concurrency, ...fields } },
  })
  gateway = await bed.gateway({
    workers: WORKERS,
    config: { routes: [route('wide', {}), route('hasty', { limit: 1, queue_timeout: 0.1 }), route('short', { limit: 1, queue: 0 })] },
  })
})
afterAll(() => bed.close())

async function send(target: string, count: number): Promise<{ readonly clients: RawConnection[]; readonly answers: Promise<number>[] }> {
  const clients: RawConnection[] = []
  for (let index = 0; index < count; index++) clients.push(await bed.client({ port: gateway.port }))
  return { clients, answers: clients.map(async (client) => (await client.request(requestText(target), 60_000)).status) }
}

function release(count: number): void {
  for (const { socket } of held.splice(0, count)) socket.write(lengthResponse('held'))
}

test('never more than the limit at the upstream, a bounded queue behind it, 503 with Retry-After beyond', async () => {
  const labels = '{name="/apisix/routes/wide"}'
  const { answers } = await send('/wide/hold', LIMIT + QUEUE)
  await eventually('the places are taken', () => held.length === LIMIT)
  await eventually('all others wait', async () => (await gateway.metric(`gateway_upstream_queue${labels}`)) === QUEUE)
  const refused = await ask(bed, gateway, '/wide/no')
  expect([refused.status, refused.field('retry-after'), refused.body]).toEqual([503, '1', expect.stringContaining('UPSTREAM_BUSY')])
  expect(held).toHaveLength(LIMIT)
  expect(await gateway.metric(`gateway_upstream_concurrency${labels}`)).toBe(LIMIT)
  expect(await gateway.metric(`gateway_upstream_concurrency_limit${labels}`)).toBe(LIMIT)
  expect(await gateway.metric(`gateway_upstream_queue${labels}`)).toBe(QUEUE)
  for (let done = 0; done < LIMIT + QUEUE; done++) {
    await eventually('a request', () => held.length > 0)
    release(1)
  }
  expect(await Promise.all(answers)).toEqual(Array.from({ length: LIMIT + QUEUE }, () => 200))
  expect(most).toBe(LIMIT)
  expect((await ask(bed, gateway, '/wide/after')).status).toBe(200)
}, 60_000)

test('whoever waits too long is told so, and whoever goes away leaves nothing behind', async () => {
  const first = await send('/hasty/hold', 1)
  await eventually('the place is taken', () => held.length === 1)
  expect((await ask(bed, gateway, '/hasty/late')).status).toBe(503)
  const waiting = await send('/hasty/gone', 3)
  for (const client of waiting.clients) client.destroy()
  await Promise.allSettled(waiting.answers)
  release(1)
  expect(await Promise.all(first.answers)).toEqual([200])
  await eventually('a place', async () => (await ask(bed, gateway, '/hasty/after')).status === 200)
}, 60_000)

test('places come back after answers, aborts and failures', async () => {
  for (const end of ['answer', 'abort', 'reset'] as const) {
    const { clients, answers } = await send('/short/hold', 1)
    await eventually('the place is taken', () => held.length === 1)
    expect((await ask(bed, gateway, '/short/no')).status).toBe(503)
    if (end === 'abort') clients[0]?.destroy()
    if (end === 'answer') release(1)
    // On a kept connection the reset is taken for the end of its idle time: the request comes again.
    while (end === 'reset' && (await Promise.race([Promise.all(answers), pause(20)])) === undefined) {
      for (const { socket } of held.splice(0)) socket.destroy()
    }
    const [outcome] = await Promise.allSettled(answers)
    if (end !== 'abort') expect(outcome).toMatchObject({ value: end === 'reset' ? 502 : 200 })
    held.length = 0
    await eventually('the place is free', async () => (await ask(bed, gateway, '/short/yes')).status === 200)
  }
}, 60_000)

test('an adaptive limit grows with its success, falls when answers take much longer, and is kept over a reload', async () => {
  let delayMs = 20
  const single = await bed.upstream({
    answer: (_, { socket }) => {
      setTimeout(() => socket.write(lengthResponse('ok')), delayMs)
      return undefined
    },
  })
  const concurrency = { limit: 10, queue: 200, queue_timeout: 600, adaptive: { min: 2, max: 100, tolerance: 1.5 } }
  const config = {
    routes: [
      {
        id: 'a',
        uri: '/a',
        upstream: { nodes: { [`127.0.0.1:${single.port}`]: 1 }, timeout: { connect: 60, send: 60, read: 60 }, concurrency },
      },
    ],
  }
  const adaptive = await bed.gateway({ workers: WORKERS, config })
  const limit = () => adaptive.metric('gateway_upstream_concurrency_limit{name="/apisix/routes/a"}')
  let isOver = false
  const clients = Array.from({ length: 40 }, async () => {
    const client = await bed.client({ port: adaptive.port })
    while (!isOver) expect((await client.request(requestText('/a'), 60_000)).status).toBe(200)
    client.destroy()
  })
  // Long enough that what is usual has been learned.
  await eventually('growth', async () => (await limit()) > 15)
  delayMs = 400
  let most = 0
  await eventually('the fall', async () => {
    const now = await limit()
    most = Math.max(most, now)
    return now < most
  })
  delayMs = 0
  isOver = true
  await Promise.all(clients)
  const learned = await limit()
  expect((await adaptive.reload(config)).lastError).toBeNull()
  expect(await limit()).toBe(learned)
}, 60_000)
