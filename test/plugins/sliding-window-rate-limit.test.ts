import { describe, expect, test } from 'vitest'
import type { Json } from '../../src/plugins/plugin.js'
import { slidingWindowRateLimit } from '../../src/plugins/sliding-window-rate-limit.js'
import { problemsOf } from './configured.js'
import { HeldLimiter, LimitedSite, START_MS } from './limited.js'

const site = (conf: Json) => new LimitedSite(slidingWindowRateLimit, conf)

/** A key with so many requests in the window before. */
async function siteWithPrevious(previous: number): Promise<LimitedSite> {
  const limited = site({ rate: 10 })
  expect(await limited.admitted(previous)).toBe(previous)
  return limited
}

describe('the window', () => {
  test('rate 10: previous 10, elapsed 30 s, current 4 is an estimate of 9 and passes; 5 is 10 and does not', async () => {
    const limited = await siteWithPrevious(10)
    limited.nowMs = START_MS + 90_000
    expect(await limited.admitted(4)).toBe(4)
    const fifth = await limited.ask()
    expect([fifth.isRefused, fifth.header('X-RateLimit-Remaining')]).toEqual([false, '0'])
    expect((await limited.ask()).isRefused).toBe(true)
  })
  test('at the boundary the window before counts whole', async () => {
    const limited = await siteWithPrevious(10)
    limited.nowMs = START_MS + 60_000
    expect((await limited.ask()).isRefused).toBe(true)
  })
  test('59.9 s later an estimate of 0.0167 passes', async () => {
    const limited = await siteWithPrevious(10)
    limited.nowMs = START_MS + 119_900
    const answer = await limited.ask()
    expect([answer.isRefused, answer.header('X-RateLimit-Remaining')]).toEqual([false, '8'])
  })
  test('refused requests are not counted', async () => {
    const limited = site({ rate: 3 })
    expect(await limited.admitted(50)).toBe(3)
    limited.nowMs = START_MS + 90_000
    // 3 × 1/2 = 1.5: two more fit below 3; had the refused ones counted, none would.
    expect(await limited.admitted(50)).toBe(2)
  })
  test('after two windows nothing is left', async () => {
    const limited = await siteWithPrevious(10)
    limited.nowMs = START_MS + 120_000
    expect(await limited.admitted(50)).toBe(10)
  })
  test('burst is added to the rate, and window_size is the length', async () => {
    const limited = site({ rate: 3, burst: 2, window_size: 10 })
    expect(await limited.admitted(50)).toBe(5)
    limited.nowMs = START_MS + 20_000
    expect(await limited.admitted(50)).toBe(5)
  })
})

describe('answers', () => {
  test('accepted: limit, what is left, and the end of the window', async () => {
    const limited = site({ rate: 10, burst: 5 })
    limited.nowMs = START_MS + 12_345
    const first = await limited.ask({}, { status: 404 })
    expect(first.status).toBe(404)
    expect(first.header('X-RateLimit-Limit')).toBe('15')
    expect(first.header('X-RateLimit-Remaining')).toBe('14')
    expect(first.header('X-RateLimit-Reset')).toBe('48')
    expect(first.header('Retry-After')).toBeUndefined()
  })
  test.each([
    [0, 60],
    [30_000, 30],
    [59_900, 1],
    [59_999, 1],
  ])('refused %i ms into the window: 429, come back in %i s', async (elapsed, seconds) => {
    const limited = site({ rate: 1 })
    limited.nowMs = START_MS + elapsed
    await limited.ask()
    const refused = await limited.ask()
    expect(refused.status).toBe(429)
    expect(JSON.parse(refused.body)).toEqual({ error: 'Rate limit exceeded', retry_after: seconds })
    expect(refused.header('Content-Type')).toBe('application/json')
    expect(refused.header('Retry-After')).toBe(String(seconds))
    expect(refused.header('X-RateLimit-Limit')).toBe('1')
    expect(refused.header('X-RateLimit-Remaining')).toBe('0')
    expect(refused.header('X-RateLimit-Reset')).toBe(String(seconds))
  })
  test('show_limit_quota_header: false leaves Retry-After', async () => {
    const limited = site({ rate: 1, show_limit_quota_header: false, rejected_code: 503 })
    expect((await limited.ask()).header('X-RateLimit-Limit')).toBeUndefined()
    const refused = await limited.ask()
    expect([refused.status, refused.header('X-RateLimit-Limit'), refused.header('Retry-After')]).toEqual([503, undefined, '60'])
  })
})

describe('keys', () => {
  test('addresses do not affect each other, IPv6 included', async () => {
    const limited = site({ rate: 2 })
    expect(await limited.admitted(5, { clientAddress: '10.0.0.1' })).toBe(2)
    expect(await limited.admitted(5, { clientAddress: '2001:db8::1' })).toBe(2)
    expect(await limited.admitted(5, { clientAddress: '2001:db8::2' })).toBe(2)
  })
  test('consumer_name: consumers, and the address without one', async () => {
    const limited = site({ rate: 2, key_type: 'consumer_name' })
    expect(await limited.admitted(5, { consumerName: 'ann' })).toBe(2)
    expect(await limited.admitted(5, { consumerName: 'bob', clientAddress: '10.0.0.9' })).toBe(2)
    expect(await limited.admitted(5, { consumerName: 'ann', clientAddress: '10.0.0.9' })).toBe(0)
    expect(await limited.admitted(5)).toBe(2)
  })
  test('header: its value, and the address without one; a value never meets an address', async () => {
    const limited = site({ rate: 2, key_type: 'header', header_name: 'X-Tenant' })
    expect(await limited.admitted(5, { headers: { 'x-tenant': 'a' } })).toBe(2)
    expect(await limited.admitted(5, { headers: { 'X-Tenant': '127.0.0.1' } })).toBe(2)
    expect(await limited.admitted(5)).toBe(2)
  })
  test('header without header_name counts addresses, and says so', async () => {
    const conf = { rate: 2, key_type: 'header' }
    expect(problemsOf(slidingWindowRateLimit, conf)).toEqual([
      'header_name: key_type header without header_name counts client addresses; expected the name of a header',
    ])
    const limited = site(conf)
    expect(await limited.admitted(5, { headers: { 'x-tenant': 'a' } })).toBe(2)
    expect(await limited.admitted(5, { headers: { 'x-tenant': 'b' } })).toBe(0)
  })
  test('routes of a plugin_config count for themselves, routes of a service together', async () => {
    const conf = { rate: 2 }
    const first = new LimitedSite(slidingWindowRateLimit, conf, { route: 'a', prepare: { owner: 'plugin_configs/1' } })
    const second = new LimitedSite(slidingWindowRateLimit, conf, {
      route: 'b',
      prepare: { owner: 'plugin_configs/1' },
      limits: first.limits,
    })
    expect([await first.admitted(5), await second.admitted(5)]).toEqual([2, 2])
    const third = new LimitedSite(slidingWindowRateLimit, conf, { route: 'a', prepare: { owner: 'services/1' }, limits: first.limits })
    const fourth = new LimitedSite(slidingWindowRateLimit, conf, { route: 'b', prepare: { owner: 'services/1' }, limits: first.limits })
    expect([await third.admitted(5), await fourth.admitted(5)]).toEqual([2, 0])
  })
})

describe('when Redis does not answer', () => {
  const conf = { rate: 2, policy: 'redis', redis_host: '127.0.0.1' }
  test.each([
    [{}, 500, '{"error":"Failed to check the rate limit"}\n', false],
    [{ allow_degradation: true }, 200, '', true],
  ])('%j: %i', async (more, status, body, isAllowed) => {
    const limits = new HeldLimiter()
    const limited = new LimitedSite(slidingWindowRateLimit, { ...conf, ...more }, { limits })
    const answer = limited.ask()
    limits.answer((decision) => {
      decision.allowed = isAllowed
      decision.basis = isAllowed ? 'allowed' : 'refused'
    })
    const { status: got, body: text, header } = await answer
    expect([got, text, header('X-RateLimit-Limit')]).toEqual([status, body, undefined])
  })
  test('a cluster needs its nodes, a server its host', () => {
    expect(() => site({ rate: 1, policy: 'redis-cluster' })).toThrow(/redis_cluster_nodes/)
    expect(() => site({ rate: 1, policy: 'redis' })).toThrow(/redis\.host/)
    expect(() => site({ rate: 1, policy: 'redis-cluster', redis_cluster_nodes: ['nowhere'] })).toThrow(/host:port/)
  })
})

test('wrong options are refused, null is unset', () => {
  for (const conf of [{}, { rate: 0 }, { rate: 1.5 }, { rate: 1, burst: -1 }, { rate: 1, window_size: 0 }, { rate: 1, key_type: 'var' }]) {
    expect(problemsOf(slidingWindowRateLimit, conf), JSON.stringify(conf)).not.toEqual([])
  }
  expect(
    problemsOf(slidingWindowRateLimit, { rate: 1, burst: null, window_size: null, key_type: null, policy: null, redis_password: null }),
  ).toEqual([])
  expect(problemsOf(slidingWindowRateLimit, { rate: 1, header_name: 'a b' })).not.toEqual([])
})
