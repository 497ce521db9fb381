/** rate-limiting, rate-limiting-advanced, sliding-window-rate-limit and rate-limit in running gateways, over sockets. */
import { afterEach, describe, expect, test } from 'vitest'
import { lengthResponse } from '../../src/doctor/recording-upstream.js'
import { type Answer, ask, hammer } from '../support/limit-clients.js'
import { ownPort } from '../support/ports.js'
import { eventually, RedisServer, redisMissing } from '../support/redis.js'
import { TestBed } from '../support/test-bed.js'

const bed = new TestBed()
afterEach(() => bed.close())

const quiet = { log: { level: 'error' } }
/** Windows so long that a test does not see their end, but on the one day of the year on which nobody runs it. */
const year = 31_536_000

function route(id: string, port: number, plugins: object): object {
  return { id, uri: `/${id}*`, plugins, upstream: { nodes: { [`127.0.0.1:${port}`]: 1 }, retries: 0 } }
}

/** The header X-User decides in all of them: clients of a test share one address. */
const limitsOf50: { readonly [route: string]: object } = {
  windows: { 'rate-limiting': { month: 50, year: 60, limit_by: 'header', header_name: 'X-User' } },
  even: { 'rate-limiting': { year: 50, algorithm: 'token-bucket' } },
  burst: { 'rate-limiting': { rate: 0.001, burst: 49, key_type: 'var', key: 'http_x_user' } },
  window: { 'rate-limiting': { rate: 30, burst: 20, window_size: year, key_type: 'header', header_name: 'X-User' } },
  advanced: { 'rate-limiting-advanced': { limit: [50, 70], window_size: [year, 2 * 1_000_000], window_type: 'fixed', identifier: 'ip' } },
  penalty: { 'rate-limiting-advanced': { limit: [50], window_size: [year], identifier: 'header', header_name: 'X-User' } },
  sliding: { 'sliding-window-rate-limit': { rate: 50, window_size: year } },
  log: { 'rate-limit': { algorithm: 'sliding-log', limits: [{ limit: 50, window: 86_400 }], key: '$http_x_user' } },
  costly: { 'rate-limit': { limits: [{ limit: 150, window: year }], cost: '$arg_cost' } },
  several: {
    'rate-limit': {
      limits: [
        { algorithm: 'fixed-window', limit: 50, start: 'year' },
        { algorithm: 'token-bucket', rate: 0.001, burst: 80 },
        { algorithm: 'concurrency', limit: 1000, key: 'all' },
      ],
    },
  },
  tiers: {
    'rate-limit': {
      limits: [{ limit: 0, window: year }],
      tiers: { select: '$http_x_plan', table: { gold: { limits: [{ limit: 50, window: year }] } } },
    },
  },
}

describe.each([1, 2, 4])('with %i workers', (workers) => {
  test('exactly N of many concurrent requests are admitted', async () => {
    const { port } = await bed.upstream()
    const routes = Object.entries(limitsOf50).map(([id, plugins]) => route(id, port, plugins))
    const gateway = await bed.gateway({ workers, config: { sluice: quiet, routes } })
    for (const id of Object.keys(limitsOf50)) {
      const statuses = await hammer(bed, [gateway], `/${id}?cost=3`, 120, { headers: { 'X-User': 'ann', 'X-Plan': 'gold' } })
      expect([id, statuses.get(200), statuses.get(429), statuses.size]).toEqual([id, 50, 70, 2])
    }
  })
})

test('rate headers stand on good and bad answers of the upstream, on errors of the gateway and on refusals', async () => {
  const upstream = await bed.upstream({
    answer: ({ target }) => lengthResponse('x', ['RateLimit-Limit: 9999'], target.includes('missing') ? '404 Not Found' : '200 OK'),
  })
  const deadPort = await ownPort()
  const windows = { 'rate-limiting': { day: 3, year: 1000 } }
  const gateway = await bed.gateway({
    workers: 2,
    config: {
      sluice: quiet,
      routes: [
        route('a', upstream.port, windows),
        route('dead', deadPort, windows),
        route('ietf', upstream.port, { 'rate-limit': { limits: [{ limit: 3, window: 86_400 }], headers: 'ietf' } }),
        route('hidden', upstream.port, { 'rate-limiting': { year: 1, hide_client_headers: true } }),
      ],
    },
  })
  const names = [
    'x-ratelimit-limit-day',
    'x-ratelimit-remaining-day',
    'x-ratelimit-remaining-year',
    'ratelimit-limit',
    'ratelimit-remaining',
  ]
  const shown = (answer: Answer) => [answer.status, ...names.map((name) => answer.field(name))]
  expect(shown(await ask(bed, gateway, '/a'))).toEqual([200, '3', '2', '999', '3', '2'])
  expect(shown(await ask(bed, gateway, '/a/missing'))).toEqual([404, '3', '1', '998', '3', '1'])
  expect(shown(await ask(bed, gateway, '/dead'))).toEqual([502, '3', '2', '999', '3', '2'])
  await ask(bed, gateway, '/a')
  const refused = await ask(bed, gateway, '/a', { Accept: 'text/plain' })
  expect(shown(refused)).toEqual([429, '3', '0', '997', '3', '0'])
  expect(refused.field('content-type')).toBe('text/plain; charset=utf-8')
  expect(refused.body).toMatch(/^API rate limit exceeded\nrequest_id: [0-9a-f]{32}\n$/)
  const seconds = Number(refused.field('retry-after'))
  expect(seconds).toBeGreaterThanOrEqual(1)
  expect(seconds).toBeLessThanOrEqual(86_400)
  expect(refused.field('ratelimit-reset')).toBe(String(seconds))

  const ietf = await ask(bed, gateway, '/ietf')
  expect(ietf.field('ratelimit-policy')).toBe('"default";q=3;w=86400')
  expect(ietf.field('ratelimit')).toMatch(/^"default";r=2;t=\d+$/)

  await ask(bed, gateway, '/hidden')
  const hidden = await ask(bed, gateway, '/hidden')
  expect([hidden.status, hidden.field('ratelimit-limit'), hidden.field('retry-after') === undefined]).toEqual([429, undefined, false])
})

test('places in flight are given back by answers and by clients that leave', async () => {
  const held: (() => void)[] = []
  const upstream = await bed.upstream({
    answer: ({ target }, { socket }) => {
      if (!target.includes('hold')) return lengthResponse('ok')
      held.push(() => socket.write(lengthResponse('late')))
      return undefined
    },
  })
  const limits = { 'rate-limit': { limits: [{ algorithm: 'concurrency', limit: 2 }] } }
  const gateway = await bed.gateway({ workers: 2, config: { sluice: quiet, routes: [route('a', upstream.port, limits)] } })
  const clients = [await bed.client({ port: gateway.port }), await bed.client({ port: gateway.port })] as const
  const answers = clients.map((client) => client.request('GET /a/hold HTTP/1.1\r\nHost: a.test\r\n\r\n').catch(() => null))
  await upstream.until(() => held.length === 2, 'two requests that are held')
  expect((await ask(bed, gateway, '/a')).status).toBe(429)
  held[0]?.()
  await Promise.race(answers)
  const admitted = async () => (await hammer(bed, [gateway], '/a', 10, { clients: 1 })).get(200)
  await eventually('one place free', async () => (await admitted()) === 10)
  for (const client of clients) client.reset()
  await Promise.allSettled(answers)
  const together = async () => (await hammer(bed, [gateway], '/a', 20, { clients: 2 })).get(200)
  await eventually('both places free', async () => (await together()) === 20)
})

test('a global rule and a route with the same plugin count side by side', async () => {
  const { port } = await bed.upstream()
  const plugin = (limit: number, name: string) => ({ 'rate-limit': { limits: [{ name, limit, window: year }], headers: 'none' } })
  const gateway = await bed.gateway({
    config: {
      sluice: quiet,
      global_rules: [{ id: 'all', plugins: plugin(3, 'global') }],
      routes: [route('a', port, plugin(2, 'route')), route('b', port, {})],
    },
  })
  const outcome = async (target: string) => {
    const { status, body } = await ask(bed, gateway, target)
    return status === 429 ? JSON.parse(body).limit : status
  }
  expect([await outcome('/a'), await outcome('/a')]).toEqual([200, 200])
  // What the route refuses uses up nothing of the global rule.
  expect([await outcome('/a'), await outcome('/a')]).toEqual(['route', 'route'])
  expect([await outcome('/b'), await outcome('/b'), await outcome('/a')]).toEqual([200, 'global', 'global'])
})

describe.skipIf(redisMissing !== null)('with Redis', () => {
  test('two gateways share their limits; a Redis that is gone lets pass, refuses, or counts here, as configured', async () => {
    const server = await RedisServer.start()
    bed.later(() => server.close())
    const { port } = await bed.upstream()
    const redis = { host: '127.0.0.1', port: server.port, timeout: 20_000 }
    const day = { day: 50, year: 1000, policy: 'redis', redis }
    const advanced = { limit: [50], window_size: [year], strategy: 'redis', redis }
    const routes = [
      route('tolerant', port, { 'rate-limiting': day }),
      route('strict', port, { 'rate-limiting': { ...day, fault_tolerant: false } }),
      route('lease', port, { 'rate-limiting': { ...day, sync_rate: 10 } }),
      route('rate', port, { 'rate-limiting': { rate: 0.001, burst: 49, policy: 'redis', redis } }),
      route('advanced', port, { 'rate-limiting-advanced': { ...advanced, sync_rate: 0 } }),
      route('sliding', port, {
        'sliding-window-rate-limit': {
          rate: 50,
          window_size: year,
          policy: 'redis',
          redis_host: '127.0.0.1',
          redis_port: server.port,
          redis_timeout: 20_000,
        },
      }),
    ]
    const config = { sluice: quiet, routes }
    const gateways = [await bed.gateway({ config, workers: 2 }), await bed.gateway({ config, workers: 2 })]
    for (const id of ['tolerant', 'strict', 'rate', 'advanced', 'sliding']) {
      const statuses = await hammer(bed, gateways, `/${id}`, 120, { clients: 8 })
      expect([id, statuses.get(200), statuses.get(429), statuses.size]).toEqual([id, 50, 70, 2])
    }
    // Units that one gateway holds are not lost, but they may be idle with it at this moment: never too many.
    const leased = await hammer(bed, gateways, '/lease', 120, { clients: 8 })
    expect(leased.get(200)).toBeLessThanOrEqual(50)
    const [gateway] = gateways
    if (gateway === undefined) throw new Error('two were started')

    const state = await fetch(`${gateway.metricsUrl}/v1/limits?key=127.0.0.1&route=tolerant`)
    expect(((await state.json()) as { limits: unknown[] }).limits).toMatchObject([
      { store: 'redis', would_admit: false, rules: [{ used: 50 }, { used: 50 }] },
    ])

    await server.close()
    const tolerant = await ask(bed, gateway, '/tolerant')
    expect([tolerant.status, tolerant.field('ratelimit-limit')]).toEqual([200, undefined])
    const strict = await ask(bed, gateway, '/strict')
    expect([strict.status, JSON.parse(strict.body).message]).toEqual([500, 'An unexpected error occurred'])
    expect((await ask(bed, gateway, '/advanced')).status).toBe(200)
    expect((await ask(bed, gateway, '/sliding')).status).toBe(500)
  })
})
