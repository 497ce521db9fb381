/** Limits of several gateways that share one Redis, and what they do when it is away. */
import { afterEach, describe, expect, test } from 'vitest'
import { lengthResponse } from '../../src/doctor/recording-upstream.js'
import type { Gateway } from '../support/gateway.js'
import { ask, hammer, requestText } from '../support/limit-clients.js'
import { eventually, RedisClusterServers, RedisSentinelServers, RedisServer, redisMissing } from '../support/redis.js'
import { TestBed } from '../support/test-bed.js'

const bed = new TestBed()
afterEach(() => bed.close())

const day = 86_400
const byAddress = { key: 'remote_addr', rejected_code: 429 }
const quiet = { log: { level: 'info' } }

function route(id: string, port: number, plugins: object): object {
  return { id, uri: `/${id}*`, plugins, upstream: { nodes: { [`127.0.0.1:${port}`]: 1 }, retries: 0 } }
}

async function gateways(count: number, config: object, workers = 2): Promise<Gateway[]> {
  return Promise.all(Array.from({ length: count }, () => bed.gateway({ config, workers })))
}

async function redis(): Promise<RedisServer> {
  const server = await RedisServer.start()
  bed.later(() => server.close())
  return server
}

/** Longer than a call takes on a machine that is busy with other things: no deadline decides unless a test wants it. */
const PATIENT_MS = 60_000
const policyOf = (server: RedisServer, redis_timeout = PATIENT_MS) => ({
  policy: 'redis',
  redis_host: '127.0.0.1',
  redis_port: server.port,
  redis_timeout,
})

test('local counts in each gateway for itself: three of them admit three times the limit, and the check says so', async () => {
  const { port } = await bed.upstream()
  const plugins = { 'limit-count': { ...byAddress, count: 40, time_window: day } }
  const three = await gateways(3, { sluice: { ...quiet, gateway_nodes: 3 }, routes: [route('a', port, plugins)] })
  const statuses = await hammer(bed, three, '/a', 360, { clients: 8 })
  expect([statuses.get(200), statuses.get(429)]).toEqual([120, 240])
  for (const gateway of three) expect(gateway.stderr).toContain('together they admit up to 3 times the limit')
  // The counters of one that dies are gone with it; those of the others stay.
  const [first, ...others] = three
  await first?.process.kill()
  const [fresh] = await gateways(1, { sluice: quiet, routes: [route('a', port, plugins)] })
  if (fresh === undefined) throw new Error('a gateway was asked for')
  const later = await hammer(bed, [fresh, ...others], '/a', 180, { clients: 8 })
  expect([later.get(200), later.get(429)]).toEqual([40, 140])
})

async function sum(numbers: readonly Promise<number>[]): Promise<number> {
  return (await Promise.all(numbers)).reduce((total, number) => total + number, 0)
}

/** Whole units that the limits of a route have counted for this machine, limit after limit, by the names of the plugins. */
async function usedUp(gateway: Gateway | undefined, id: string): Promise<number[]> {
  const response = await fetch(`${gateway?.metricsUrl}/v1/limits?key=127.0.0.1&route=${id}`)
  const { limits } = (await response.json()) as { limits: { plugin: string; rules?: { used: number }[] }[] }
  const sorted = limits.sort((one, other) => one.plugin.localeCompare(other.plugin))
  // Buckets leak a little while the test runs.
  return sorted.map(({ rules }) => Math.max(0, Math.round(rules?.[0]?.used ?? Number.NaN)))
}

describe.skipIf(redisMissing !== null)('gateways that share a Redis', () => {
  test.each([2, 3])('%i of them admit exactly N together', async (count) => {
    const { port } = await bed.upstream()
    const policy = policyOf(await redis())
    const all = await gateways(count, {
      sluice: quiet,
      routes: [
        route('fixed', port, { 'limit-count': { ...byAddress, ...policy, count: 100, time_window: day } }),
        route('sliding', port, { 'limit-count': { ...byAddress, ...policy, count: 100, time_window: day, window_type: 'sliding' } }),
        route('lease', port, { 'limit-count': { ...byAddress, ...policy, count: 100, time_window: day, sync_interval: 0.5 } }),
        route('bucket', port, { 'limit-req': { ...byAddress, ...policy, rate: 0.001, burst: 99, nodelay: true } }),
        route('several', port, {
          'limit-count': { ...byAddress, ...policy, count: 70, time_window: day },
          'limit-conn': { ...byAddress, ...policy, conn: 1000, burst: 0, default_conn_delay: 0.1 },
        }),
      ],
    })
    for (const [target, limit] of [
      ['/fixed', 100],
      ['/sliding', 100],
      ['/bucket', 100],
      ['/several', 70],
    ] as const) {
      const statuses = await hammer(bed, all, target, 300, { clients: 8 })
      expect([target, statuses.get(200), statuses.get(429)]).toEqual([target, limit, 300 - limit])
    }
    // What a gateway has taken and not spent comes back after a moment; nothing beyond the limit ever passes.
    let admitted = 0
    await eventually('all of the leased limit', async () => {
      admitted += (await hammer(bed, all, '/lease', 60, { clients: 4 })).get(200) ?? 0
      return admitted >= 100
    })
    expect((await hammer(bed, all, '/lease', 60, { clients: 4 })).get(200)).toBeUndefined()
    expect(admitted).toBe(100)
  })

  test('places at a time are shared, and come back from a gateway that dies', async () => {
    const upstream = await bed.upstream({ answer: (request) => (request.target === '/a/hold' ? undefined : lengthResponse('ok')) })
    const policy = policyOf(await redis())
    const plugins = { 'limit-conn': { ...byAddress, ...policy, conn: 6, burst: 0, default_conn_delay: 0.1, key_ttl: 2 } }
    const [first, second] = await gateways(2, { sluice: quiet, routes: [route('a', upstream.port, plugins)] }, 1)
    if (first === undefined || second === undefined) throw new Error('two gateways were asked for')
    const clients = await Promise.all(
      [first, second].flatMap((gateway) => Array.from({ length: 8 }, () => bed.client({ port: gateway.port }))),
    )
    const refused = { count: 0 }
    for (const client of clients) {
      void client.request(requestText('/a/hold')).then(
        ({ status }) => {
          if (status === 429) refused.count++
        },
        () => undefined,
      )
    }
    await eventually('ten refusals and six requests upstream', () => refused.count === 10 && upstream.requests.length === 6)
    expect((await ask(bed, second, '/a')).status).toBe(429)
    await first.process.kill()
    for (const client of clients) client.destroy()
    await eventually('all places free', async () => (await hammer(bed, [second], '/a', 6, { clients: 1 })).get(200) === 6)
  })

  test('a cluster and a sentinel serve as well', async () => {
    const { port } = await bed.upstream()
    const cluster = await RedisClusterServers.start()
    bed.later(() => cluster.close())
    const sentinel = await RedisSentinelServers.start()
    bed.later(() => sentinel.close())
    const onCluster = {
      policy: 'redis-cluster',
      redis_cluster_nodes: cluster.nodes.map((node) => `${node.host}:${node.port}`),
      redis_cluster_name: 'c',
      redis_timeout: PATIENT_MS,
    }
    const all = await gateways(2, {
      sluice: quiet,
      routes: [
        route('cluster', port, { 'limit-count': { ...byAddress, ...onCluster, count: 50, time_window: day } }),
        route('joint', port, {
          'limit-count': { ...byAddress, ...onCluster, count: 45, time_window: day },
          'limit-req': { ...byAddress, ...onCluster, rate: 0.001, burst: 39, nodelay: true },
          'limit-conn': { ...byAddress, ...onCluster, conn: 1000, burst: 0, default_conn_delay: 0.1 },
        }),
        route('apart', port, {
          'limit-count': { ...byAddress, ...onCluster, count: 45, time_window: day },
          'limit-req': { ...byAddress, ...onCluster, key: 'host', rate: 0.001, burst: 39, nodelay: true },
        }),
        route('sentinel', port, {
          'limit-count': {
            ...byAddress,
            count: 50,
            time_window: day,
            policy: 'redis-sentinel',
            redis_sentinels: [sentinel.sentinel.address],
            redis_master_name: RedisSentinelServers.masterName,
            redis_timeout: PATIENT_MS,
          },
        }),
      ],
    })
    for (const target of ['/cluster', '/sentinel']) {
      const statuses = await hammer(bed, all, target, 150, { clients: 6 })
      expect([target, statuses.get(200), statuses.get(429)]).toEqual([target, 50, 100])
    }
    const calls = () => sum(all.map((gateway) => gateway.metric('gateway_rate_limit_store_calls_total')))
    const since = async (before: number, count: number): Promise<number> => {
      await expect.poll(calls).toBeGreaterThanOrEqual(before + count)
      return (await calls()) - before
    }
    // One key: all limits of a request in one call. 39 + 1 pass; what is refused uses up nothing of the count of 45.
    const beforeJoint = await calls()
    const joint = await hammer(bed, all, '/joint', 150, { clients: 6 })
    expect([joint.get(200), joint.get(429)]).toEqual([40, 110])
    // Each that was admitted also gives back its place in flight.
    expect(await since(beforeJoint, 190)).toBe(190)
    await expect.poll(() => usedUp(all[0], 'joint')).toEqual([0, 40, 40])
    // Two keys lie on two masters: a call for each, and what the first counted for a refused request is given back.
    const beforeApart = await calls()
    const apart = await hammer(bed, all, '/apart', 120, { clients: 1 })
    expect([apart.get(200), apart.get(429)]).toEqual([40, 80])
    await expect.poll(() => usedUp(all[0], 'apart')).toEqual([40, 0])
    expect(await since(beforeApart, 240)).toBeGreaterThanOrEqual(240)
    // The master behind the sentinel dies while requests come: none is admitted twice, and nobody has to help the gateways.
    expect(await sentinel.master.client.call('WAIT', 1, 60_000)).toBe(1)
    const seen: number[] = []
    let isOver = false
    const load = all.map(async (gateway) => {
      const client = await bed.client({ port: gateway.port })
      while (!isOver) seen.push((await client.request(requestText('/sentinel'), 60_000)).status)
    })
    await eventually('refusals by the old master', () => seen.length > 20)
    await sentinel.master.kill()
    await sentinel.failOver()
    await sentinel.promoted(sentinel.replica)
    const failures = () => seen.filter((status) => status === 500).length
    await eventually('refusals by the new master', () => failures() > 0 && seen.slice(-50).every((status) => status === 429))
    isOver = true
    await Promise.all(load)
    expect(new Set(seen)).toEqual(new Set([429, 500]))
  })

  test('limits of one request on two servers: the smaller one decides, and the other has counted only what passed', async () => {
    const { port } = await bed.upstream()
    const [first, second] = [await redis(), await redis()]
    const [gateway] = await gateways(1, {
      sluice: quiet,
      routes: [
        route('a', port, {
          'limit-count': { ...byAddress, ...policyOf(first), count: 1000, time_window: day },
          'limit-req': { ...byAddress, ...policyOf(second), rate: 0.001, burst: 29, nodelay: true },
        }),
      ],
    })
    const statuses = await hammer(bed, gateway === undefined ? [] : [gateway], '/a', 120)
    expect([statuses.get(200), statuses.get(429)]).toEqual([30, 90])
    await expect.poll(() => usedUp(gateway, 'a')).toEqual([30, 30])
    expect([(await first.client.keys('*')).length, (await second.client.keys('*')).length]).toEqual([1, 1])
    // One of the two is away: refused, and nothing stays counted by the other.
    await second.kill()
    expect((await hammer(bed, gateway === undefined ? [] : [gateway], '/a', 40)).get(500)).toBe(40)
    await second.restart()
    await expect.poll(() => usedUp(gateway, 'a')).toEqual([30, 0])
  })

  test('the Redis of --redis serves limits that name none, and its counters outlive the gateway', async () => {
    const { port } = await bed.upstream()
    const server = await redis()
    const config = {
      sluice: quiet,
      routes: ['a', 'warm'].map((id) => route(id, port, { 'limit-count': { ...byAddress, policy: 'redis', count: 5, time_window: day } })),
    }
    const args = ['--redis', `redis://127.0.0.1:${server.port}/2`]
    // The deadline of a URL is one second: enough for a call, maybe not for the first connection on a slow machine.
    const start = async () => {
      const gateway = await bed.gateway({ config, args })
      await eventually('the connection', async () => [200, 429].includes((await ask(bed, gateway, '/warm')).status))
      return gateway
    }
    const first = await start()
    expect((await hammer(bed, [first], '/a', 4)).get(200)).toBe(4)
    await first.process.stop()
    const second = await start()
    expect((await hammer(bed, [second], '/a', 4)).get(200)).toBe(1)
    const look = await fetch(`${second.metricsUrl}/v1/limits?key=127.0.0.1&route=a`)
    expect(await look.json()).toMatchObject({ limits: [{ store: 'redis', would_admit: false, rules: [{ limit: 5, used: 5 }] }] })
  })
})

describe.skipIf(redisMissing !== null)('Redis that is away', () => {
  interface Outage {
    readonly begin: (server: RedisServer) => unknown
    readonly end: (server: RedisServer) => unknown
    /** Calls get no answer; else they fail at once. */
    readonly waits: boolean
  }
  const outages: readonly [string, Outage][] = [
    ['killed and restarted', { begin: (server) => server.kill(), end: (server) => server.restart(), waits: false }],
    ['paused and resumed', { begin: (server) => server.pause(), end: (server) => server.resume(), waits: true }],
  ]

  test.each(outages)(
    '%s: refused or let through as configured, nothing else is held up, and it recovers',
    async (_, { waits, ...outage }) => {
      const { port } = await bed.upstream()
      const server = await redis()
      // A paused Redis says nothing: each call of these routes ends with its deadline.
      const policy = policyOf(server, 1500)
      const count = { ...byAddress, ...policy, count: 1000, time_window: day }
      const req = { ...byAddress, ...policy, rate: 1000, burst: 1000, nodelay: true }
      const conn = { ...byAddress, ...policy, conn: 1000, burst: 0, default_conn_delay: 0.1 }
      const lax = { allow_degradation: true }
      const [gateway] = await gateways(1, {
        sluice: quiet,
        routes: [
          route('count', port, { 'limit-count': count }),
          route('laxcount', port, { 'limit-count': { ...count, ...lax } }),
          route('req', port, { 'limit-req': req }),
          route('laxreq', port, { 'limit-req': { ...req, ...lax } }),
          route('conn', port, { 'limit-conn': conn }),
          route('laxconn', port, { 'limit-conn': { ...conn, ...lax } }),
          route('free', port, {}),
          route('patient', port, { 'limit-count': { ...count, ...policyOf(server) } }),
        ],
      })
      if (gateway === undefined) throw new Error('a gateway was asked for')
      const statusesOf = async () => {
        const targets = ['/count', '/laxcount', '/req', '/laxreq', '/conn', '/laxconn']
        return Promise.all(targets.map(async (target) => (await ask(bed, gateway, target)).status))
      }
      const allServe = async () => (await statusesOf()).every((status) => status === 200)
      await eventually('the connections', allServe)
      expect((await ask(bed, gateway, '/patient')).status).toBe(200)
      await outage.begin(server)
      expect(await statusesOf()).toEqual([500, 200, 500, 200, 500, 200])
      const refused = await ask(bed, gateway, '/count')
      expect([refused.body, refused.field('x-ratelimit-limit')]).toEqual(['{"error_msg":"failed to limit count"}\n', undefined])
      expect((await ask(bed, gateway, '/laxcount')).field('x-ratelimit-limit')).toBeUndefined()
      // while requests wait for a Redis that says nothing, others are answered as ever
      const answered: number[] = []
      const waiting = Array.from({ length: 8 }, () => ask(bed, gateway, '/patient').then(({ status }) => answered.push(status)))
      const refusals = hammer(bed, [gateway], '/count', 200, { clients: 16 })
      for (let sent = 0; sent < 50; sent++) expect((await ask(bed, gateway, '/free')).status).toBe(200)
      expect((await refusals).get(500)).toBe(200)
      if (waits) expect(answered).toEqual([])
      const errors = () => gateway.metric('gateway_rate_limit_requests_total{plugin="limit-count",route="count",result="error"}')
      await expect.poll(errors).toBeGreaterThan(200)
      await expect.poll(() => gateway.metric('gateway_rate_limit_store_errors_total')).toBeGreaterThan(200)
      await outage.end(server)
      await Promise.all(waiting)
      expect(new Set(answered)).toEqual(new Set([waits ? 200 : 500]))
      await eventually('the recovery', allServe)
      await eventually('a quota again', async () => (await ask(bed, gateway, '/laxcount')).field('x-ratelimit-limit') === '1000')
    },
  )
})
