/** Whole gateways, two workers each, that share one limit through Redis: exactly N in total; and with `local`, N each. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Gateway } from '../support/gateway.js'
import { eventually, RedisServer, redisMissing } from '../support/redis.js'
import { TestBed } from '../support/test-bed.js'

const LIMIT = 120
const REQUESTS_EACH = 100
const LANES = 8

describe.skipIf(redisMissing !== null)('gateways', () => {
  const bed = new TestBed()
  let server: RedisServer

  beforeEach(async () => {
    server = await RedisServer.start()
    bed.later(() => server.close())
  })
  afterEach(() => bed.close())

  /** One route for all paths, or several by path. */
  async function gateways(count: number, rateLimit: object | [string, object][]): Promise<Gateway[]> {
    const upstream = await bed.upstream()
    const limits = [{ limit: LIMIT, window: 3600 }]
    const byPath = Array.isArray(rateLimit) ? rateLimit : [['/*', rateLimit] as const]
    const routes = byPath.map(([uri, options], index) => ({
      id: `r${index}`,
      uri,
      plugins: { 'rate-limit': { algorithm: 'fixed-window', key: '$http_x_client', limits, ...options } },
      upstream: { nodes: { [`127.0.0.1:${upstream.port}`]: 1 } },
    }))
    return Promise.all(Array.from({ length: count }, () => bed.gateway({ workers: 2, config: { routes } })))
  }

  /** Statuses of that many requests, LANES at a time, each on a connection of its own: both workers get some. */
  async function statuses(gateway: Gateway, client: string, requests = REQUESTS_EACH, path = '/'): Promise<Record<number, number>> {
    const found: Record<number, number> = {}
    let begun = 0
    const lane = async (): Promise<void> => {
      while (begun++ < requests) {
        const response = await fetch(`${gateway.url}${path}`, { headers: { 'x-client': client, connection: 'close' } })
        await response.arrayBuffer()
        found[response.status] = (found[response.status] ?? 0) + 1
      }
    }
    await Promise.all(Array.from({ length: LANES }, lane))
    return found
  }

  async function admitted(all: readonly Gateway[], client: string): Promise<number[]> {
    const found = await Promise.all(all.map((gateway) => statuses(gateway, client)))
    for (const counts of found) expect((counts[200] ?? 0) + (counts[429] ?? 0)).toBe(REQUESTS_EACH)
    return found.map((counts) => counts[200] ?? 0)
  }

  const total = (counts: readonly number[]): number => counts.reduce((sum, count) => sum + count, 0)
  const redis = () => ({ address: `127.0.0.1:${server.port}`, timeout_ms: 60_000 })

  test('three gateways, exact: N together', async () => {
    const all = await gateways(3, { store: 'redis', redis: redis() })
    expect(total(await admitted(all, 'a'))).toBe(LIMIT)
    expect(total(await admitted(all, 'b'))).toBe(LIMIT)
  })

  test('two gateways, lease: N together, once what was idle has come back', async () => {
    const all = await gateways(2, { store: 'lease', redis: redis() })
    let count = total(await admitted(all, 'a'))
    expect(count).toBeLessThanOrEqual(LIMIT)
    const [first] = all
    await eventually('the last units', async () => {
      if (first !== undefined) count += (await statuses(first, 'a', 4))[200] ?? 0
      return count >= LIMIT
    })
    expect(total(await admitted(all, 'a'))).toBe(0)
    expect(count).toBe(LIMIT)
  })

  test('two gateways, local: N each', async () => {
    const all = await gateways(2, { store: 'local', limits: [{ limit: 40, window: 3600 }] })
    expect(await admitted(all, 'a')).toEqual([40, 40])
  })

  test('the three answers to a dead Redis', async () => {
    const policies = ['refuse', 'allow', 'local']
    const [gateway] = await gateways(
      1,
      policies.map((policy) => [`/${policy}`, { store: 'redis', redis: redis(), on_store_error: policy }]),
    )
    if (gateway === undefined) throw new Error('no gateway')
    const ask = (client: string, requests: number) =>
      Promise.all(policies.map((policy) => statuses(gateway, client, requests, `/${policy}`)))
    expect(await ask('before', 10)).toEqual([{ 200: 10 }, { 200: 10 }, { 200: 10 }])
    await server.kill()
    // The one live node counts by itself, exactly over its two workers.
    expect(await ask('after', 150)).toEqual([{ 503: 150 }, { 200: 150 }, { 200: LIMIT, 429: 150 - LIMIT }])
    await server.restart()
    await eventually('decisions by Redis', async () => {
      await ask('probe', 4)
      return (await server.client.keys('*probe*')).length === 3
    })
  })
})
