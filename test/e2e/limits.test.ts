/** Limits of one gateway through sockets: exact with every number of workers, over reloads and the loss of a worker. */
import { afterEach, describe, expect, test } from 'vitest'
import { lengthResponse } from '../../src/doctor/recording-upstream.js'
import { ADMIN_KEY, type Gateway } from '../support/gateway.js'
import { logged } from '../support/gateway-life.js'
import { http2Caller } from '../support/http-clients.js'
import { type Answer, ask, hammer, requestText } from '../support/limit-clients.js'
import { ownPort } from '../support/ports.js'
import { eventually } from '../support/redis.js'
import { TestBed } from '../support/test-bed.js'

const bed = new TestBed()
afterEach(() => bed.close())

const quiet = { log: { level: 'info' } }
const day = 86_400

interface RouteOptions {
  readonly plugins?: object
  readonly port: number
}

function route(id: string, { plugins = {}, port }: RouteOptions): object {
  return { id, uri: `/${id}*`, plugins, upstream: { nodes: { [`127.0.0.1:${port}`]: 1 }, retries: 0 } }
}

const byAddress = { key: 'remote_addr', rejected_code: 429 }

describe.each([1, 2, 4])('with %i workers', (workers) => {
  test('exactly N of many concurrent requests are admitted, whatever counts them', async () => {
    const { port } = await bed.upstream()
    const gateway = await bed.gateway({
      workers,
      config: {
        sluice: quiet,
        routes: [
          route('fixed', { port, plugins: { 'limit-count': { ...byAddress, count: 100, time_window: day } } }),
          route('sliding', { port, plugins: { 'limit-count': { ...byAddress, count: 100, time_window: day, window_type: 'sliding' } } }),
          route('bucket', { port, plugins: { 'limit-req': { ...byAddress, rate: 0.001, burst: 99, nodelay: true } } }),
          route('rules', {
            port,
            plugins: {
              'limit-count': {
                rejected_code: 429,
                rules: [
                  { count: 60, time_window: day, key: '$remote_addr' },
                  { count: 45, time_window: day, key: '$http_x_user' },
                ],
              },
            },
          }),
          route('several', {
            port,
            plugins: {
              'limit-count': { ...byAddress, count: 70, time_window: day },
              'limit-req': { ...byAddress, rate: 0.001, burst: 1000, nodelay: true },
              'limit-conn': { ...byAddress, conn: 100, burst: 0, default_conn_delay: 0.1 },
            },
          }),
        ],
      },
    })
    const admitted = async (target: string, headers?: Record<string, string>): Promise<(number | undefined)[]> => {
      const statuses = await hammer(bed, [gateway], target, 300, headers === undefined ? {} : { headers })
      return [statuses.get(200), statuses.get(429), statuses.size]
    }
    expect(await admitted('/fixed')).toEqual([100, 200, 2])
    expect(await admitted('/sliding')).toEqual([100, 200, 2])
    expect(await admitted('/bucket')).toEqual([100, 200, 2])
    // refused requests of one rule use up nothing of the other: 45 of the 60 are gone, 15 are left for another user
    expect(await admitted('/rules', { 'X-User': 'a' })).toEqual([45, 255, 2])
    expect(await admitted('/rules', { 'X-User': 'b' })).toEqual([15, 285, 2])
    expect(await admitted('/several')).toEqual([70, 230, 2])
    const decided = (result: string) =>
      gateway.metric(`gateway_rate_limit_requests_total{plugin="limit-count",route="fixed",result="${result}"}`)
    await expect.poll(() => Promise.all([decided('allowed'), decided('limited')])).toEqual([100, 200])
  })

  test('places at a time: given back by answers, aborts, failures and timeouts alike', async () => {
    const held: ((how: 'answer' | 'reset') => void)[] = []
    let isResetting = false
    const upstream = await bed.upstream({
      answer: (_, { socket }) => {
        // A request that was reset on a kept connection is sent once more.
        if (isResetting) socket.resetAndDestroy()
        else held.push((how) => (how === 'answer' ? socket.write(lengthResponse('ok')) : socket.resetAndDestroy()))
        return undefined
      },
    })
    const limit = { 'limit-conn': { ...byAddress, conn: 5, burst: 0, default_conn_delay: 0.1 } }
    const gateway = await bed.gateway({
      workers,
      config: {
        sluice: quiet,
        routes: [
          { ...route('a', { port: upstream.port, plugins: limit }), timeout: { connect: 60, send: 60, read: 60 } },
          { ...route('b', { port: upstream.port, plugins: limit }), timeout: { connect: 60, send: 60, read: 0.5 } },
        ],
      },
    })
    for (const ending of ['answer', 'abort', 'reset', 'timeout', 'answer'] as const) {
      const id = ending === 'timeout' ? 'b' : 'a'
      const clients = await Promise.all(Array.from({ length: 12 }, () => bed.client({ port: gateway.port })))
      const refused = new Set<number>()
      const admitted: number[] = []
      // the seven refusals come at once, the five others wait for their answer or its deadline
      const answers = clients.map((client, index) =>
        client.request(requestText(`/${id}`)).then(
          ({ status }) => (status === 429 ? void refused.add(index) : void admitted.push(status)),
          () => undefined,
        ),
      )
      // On a slow machine some may come so late that a place is free again.
      if (ending !== 'timeout') await eventually('seven refusals and five requests upstream', () => refused.size === 7 && held.length === 5)
      if (ending === 'abort') for (const [index, client] of clients.entries()) if (!refused.has(index)) client.reset()
      isResetting = ending === 'reset'
      if (ending === 'answer' || ending === 'reset') for (const end of held) end(ending)
      await Promise.all(answers)
      const expected = { answer: 200, abort: null, reset: 502, timeout: 504 }[ending]
      expect([ending, new Set(admitted)]).toEqual([ending, new Set(expected === null ? [] : [expected])])
      if (ending === 'timeout') expect(admitted.length + refused.size).toBe(12)
      else expect(admitted).toHaveLength(expected === null ? 0 : 5)
      held.length = 0
      isResetting = false
      await eventually('all places free', async () => (await inFlight(gateway, id)) === 0)
    }
  })
})

async function inFlight(gateway: Gateway, id = 'a'): Promise<number> {
  const response = await fetch(`${gateway.metricsUrl}/v1/limits?key=127.0.0.1&route=${id}`)
  const state = (await response.json()) as { limits: { rules: { used: number }[] }[] }
  return state.limits[0]?.rules[0]?.used ?? -1
}

test('a queue lets requests through at its rate, and counts who waits', async () => {
  const upstream = await bed.upstream()
  const { port } = upstream
  const queueing = (id: string, rate: number) => route(id, { port, plugins: { 'limit-req': { ...byAddress, rate, burst: 2 } } })
  const gateway = await bed.gateway({ config: { sluice: quiet, routes: [queueing('a', 2), queueing('slow', 0.002)] }, workers: 2 })
  const queued = () => gateway.metric('gateway_rate_limit_queued_requests')
  const startMs = performance.now()
  const answers = Array.from({ length: 3 }, async () => {
    const { status } = await ask(bed, gateway, '/a')
    return { status, afterMs: performance.now() - startMs }
  })
  const done = (await Promise.all(answers)).sort((a, b) => a.afterMs - b.afterMs)
  expect(done.map(({ status }) => status)).toEqual([200, 200, 200])
  expect(done[1]?.afterMs).toBeGreaterThan(450)
  expect(done[2]?.afterMs).toBeGreaterThan(950)
  await expect.poll(queued).toBe(0)
  // One goes through, two wait, there is no place for a fourth. Who leaves the end of the queue leaves his place to the next.
  const enter = async (waiting: number) => {
    const client = await bed.client({ port: gateway.port })
    await client.send(requestText('/slow'))
    await expect.poll(queued).toBe(waiting)
    return client
  }
  expect((await ask(bed, gateway, '/slow')).status).toBe(200)
  await enter(1)
  for (let round = 0; round < 3; round++) {
    const last = await enter(2)
    expect((await ask(bed, gateway, '/slow')).status).toBe(429)
    expect(await inFlight(gateway, 'slow')).toBeGreaterThan(2)
    last.reset()
    await expect.poll(queued).toBe(1)
    await expect.poll(() => inFlight(gateway, 'slow')).toBeLessThanOrEqual(2)
  }
  expect(upstream.requests.filter(({ target }) => target === '/slow')).toHaveLength(1)
})

test("a place in flight is free for the client's next request, on whatever connection it comes", async () => {
  const answers: Readonly<Record<string, string | Buffer>> = {
    '/a/short': lengthResponse('ok'),
    '/a/empty': lengthResponse(''),
    '/a/chunked': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n',
    '/a/none': 'HTTP/1.1 204 No Content\r\n\r\n',
    '/a/large': lengthResponse('x'.repeat(300_000)),
  }
  const upstream = await bed.upstream({ answer: ({ target }) => answers[target] })
  const limit = { 'limit-conn': { ...byAddress, conn: 1, burst: 0, default_conn_delay: 0.1 } }
  const listeners = ['127.0.0.1:0', { listen: '127.0.0.1:0', kind: 'node', http2: true }]
  const gateway = await bed.gateway({
    workers: 2,
    listen: null,
    config: { sluice: { ...quiet, listeners }, routes: [route('a', { port: upstream.port, plugins: limit })] },
  })
  const [fast = 0, strict = 0] = gateway.process.urls.map((url) => Number(new URL(url).port))
  const clients = await Promise.all([fast, fast, strict, strict].map((port) => bed.client({ port })))
  const overHttp2 = http2Caller(bed, strict)
  const callers = [
    ...clients.map((client) => async (target: string) => (await client.request(requestText(target))).status),
    async (target: string) => (await overHttp2({ target })).status,
  ]
  const refused: string[] = []
  for (let round = 0; round < 20; round++) {
    for (const [index, target] of Object.keys(answers).entries()) {
      // Now the same connection as before, now another: of another worker, or another protocol.
      const caller = (round + (round % 2) * index) % callers.length
      const status = await callers[caller]?.(target)
      if (status !== 200 && status !== 204) refused.push(`${target} by caller ${caller}: ${status}`)
    }
  }
  expect(refused).toEqual([])
  expect(upstream.requests).toHaveLength(100)
})

test('the quota stands on every answer: of the upstream, good or bad, of the gateway, and on refusals', async () => {
  const upstream = await bed.upstream({
    answer: (request) => lengthResponse('x', ['X-RateLimit-Limit: 9999'], request.target.includes('missing') ? '404 Not Found' : '200 OK'),
  })
  const plugins = { 'limit-count': { ...byAddress, count: 3, time_window: day, rejected_msg: 'enough' } }
  const deadPort = await ownPort()
  const gateway = await bed.gateway({
    config: { sluice: quiet, routes: [route('a', { port: upstream.port, plugins }), route('dead', { port: deadPort, plugins })] },
  })
  const quota = (answer: Answer) => [answer.status, ...['limit', 'remaining'].map((name) => answer.field(`x-ratelimit-${name}`))]
  expect(quota(await ask(bed, gateway, '/a'))).toEqual([200, '3', '2'])
  expect(quota(await ask(bed, gateway, '/a/missing'))).toEqual([404, '3', '1'])
  expect(quota(await ask(bed, gateway, '/dead'))).toEqual([502, '3', '2'])
  await ask(bed, gateway, '/a')
  const refused = await ask(bed, gateway, '/a')
  expect([...quota(refused), refused.body]).toEqual([429, '3', '0', '{"error_msg":"enough"}\n'])
  const reset = Number(refused.field('x-ratelimit-reset'))
  expect(reset).toBeGreaterThan(day - 20)
  expect(Number(refused.field('retry-after'))).toBe(Math.ceil(reset))
})

test('counters live through reloads, and it is said when one begins anew', async () => {
  const { port } = await bed.upstream()
  const config = (options: object) => ({
    sluice: quiet,
    routes: [route('a', { port, plugins: { 'limit-count': { ...byAddress, count: 5, time_window: day, ...options } } })],
  })
  const gateway = await bed.gateway({ config: config({}), workers: 2 })
  expect((await hammer(bed, [gateway], '/a', 3)).get(200)).toBe(3)
  await gateway.reload(config({ rejected_msg: 'changed, but nothing that counts' }))
  expect(gateway.stderr).toContain('the counters of 1 limit(s) go on')
  const fourth = await ask(bed, gateway, '/a')
  expect([fourth.status, fourth.field('x-ratelimit-remaining')]).toEqual([200, '1'])
  await gateway.reload(config({ key: 'host' }))
  expect(gateway.stderr).toContain('the counters of limit-count in routes/a begin anew')
  expect((await ask(bed, gateway, '/a')).field('x-ratelimit-remaining')).toBe('4')
})

test('a worker that fails keeps no places and loses no counts', async () => {
  const upstream = await bed.upstream({ answer: (request) => (request.target === '/a/hold' ? undefined : lengthResponse('ok')) })
  const gateway = await bed.gateway({
    workers: 2,
    admin: true,
    env: { SLUICE_FAULTS: '1' },
    config: {
      sluice: quiet,
      routes: [
        route('a', {
          port: upstream.port,
          plugins: {
            'limit-conn': { ...byAddress, conn: 16, burst: 0, default_conn_delay: 0.1 },
            'limit-count': { ...byAddress, count: 100, time_window: day },
          },
        }),
      ],
    },
  })
  const clients = await Promise.all(Array.from({ length: 16 }, () => bed.client({ port: gateway.port })))
  const answers = clients.map((client) => client.request(requestText('/a/hold')).catch(() => null))
  await upstream.until(() => upstream.requests.length === 16, 'sixteen requests that are held')
  expect((await ask(bed, gateway, '/a')).status).toBe(429)
  for (const worker of [0, 1]) {
    await fetch(`${gateway.adminUrl}/v1/faults`, {
      method: 'POST',
      headers: { 'X-API-KEY': ADMIN_KEY, 'Content-Type': 'application/json' },
      body: JSON.stringify({ worker, kind: 'throw' }),
    })
    await logged(gateway, `worker ${worker} was replaced in`)
  }
  await Promise.all(answers)
  await eventually('all places free', async () => (await inFlight(gateway)) === 0)
  const after = await ask(bed, gateway, '/a')
  expect([after.status, after.field('x-ratelimit-remaining')]).toEqual([200, '83'])
})

test('the state of a key can be looked up, and looking changes nothing', async () => {
  const { port } = await bed.upstream()
  const plugins = { 'limit-count': { ...byAddress, count: 2, time_window: day } }
  const gateway = await bed.gateway({
    config: {
      sluice: quiet,
      plugin_configs: [{ id: 'shared', plugins: { 'limit-req': { ...byAddress, rate: 1, burst: 3, nodelay: true } } }],
      routes: [route('a', { port, plugins }), { ...route('b', { port }), plugin_config_id: 'shared' }],
    },
  })
  await ask(bed, gateway, '/a')
  await ask(bed, gateway, '/b')
  const look = async (query: string) => {
    const response = await fetch(`${gateway.metricsUrl}/v1/limits?${query}`)
    return [response.status, (await response.json()) as { limits: Record<string, unknown>[] }] as const
  }
  for (let round = 0; round < 3; round++) {
    const [status, state] = await look('key=127.0.0.1')
    expect(status).toBe(200)
    expect(state.limits).toMatchObject([
      { plugin: 'limit-count', owner: 'routes/a', store: 'local', would_admit: true, rules: [{ limit: 2, used: 1, remaining: 1 }] },
      { plugin: 'limit-req', owner: 'plugin_configs/shared', route: 'b', rules: [{ algorithm: 'leaky-bucket', limit: 4 }] },
    ])
  }
  expect((await look('key=10.9.9.9&route=a'))[1].limits).toMatchObject([{ rules: [{ used: 0, remaining: 2 }] }])
  expect((await look('key='))[0]).toBe(400)
  expect((await look('key=x&route=none'))[0]).toBe(400)
})
