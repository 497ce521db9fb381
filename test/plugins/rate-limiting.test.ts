import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Json, LimiterSpec } from '../../src/plugins/plugin.js'
import { rateLimiting } from '../../src/plugins/rate-limiting.js'
import { FakeLimits } from '../support/link-kit.js'
import { problemsOf } from './configured.js'
import { HeldLimiter, LimitedSite, START_MS } from './limited.js'

const site = (conf: Json, options: ConstructorParameters<typeof LimitedSite>[2] = {}) => new LimitedSite(rateLimiting, conf, options)

/** The spec that a conf becomes. */
function specOf(conf: Json): LimiterSpec {
  const seen: LimiterSpec[] = []
  class Recording extends FakeLimits {
    override bind(spec: LimiterSpec) {
      seen.push(spec)
      return super.bind({ ...spec, store: { kind: 'local' } })
    }
  }
  site(conf, { limits: new Recording() })
  const [spec] = seen
  if (spec === undefined) throw new Error('nothing was bound')
  return spec
}

describe('second … year', () => {
  test('a pair of headers for each window, the tightest in RateLimit-*', async () => {
    const limited = site({ minute: 3, hour: 1000 })
    limited.nowMs = START_MS + 12_400
    const first = await limited.ask({}, { status: 502 })
    expect(first.status).toBe(502)
    expect(first.header('X-RateLimit-Limit-Minute')).toBe('3')
    expect(first.header('X-RateLimit-Remaining-Minute')).toBe('2')
    expect(first.header('X-RateLimit-Limit-Hour')).toBe('1000')
    expect(first.header('X-RateLimit-Remaining-Hour')).toBe('999')
    expect(first.header('RateLimit-Limit')).toBe('3')
    expect(first.header('RateLimit-Remaining')).toBe('2')
    expect(first.header('RateLimit-Reset')).toBe('48')
    expect(first.header('Retry-After')).toBeUndefined()
  })
  test('refusal: 429, JSON with two spaces and the request id, Retry-After = reset; the other window is not charged', async () => {
    const limited = site({ minute: 2, hour: 1000 })
    expect(await limited.admitted(2)).toBe(2)
    const refused = await limited.ask({ requestId: 'abc' })
    expect(refused.status).toBe(429)
    expect(refused.body).toBe('{\n  "message":"API rate limit exceeded",\n  "request_id":"abc"\n}')
    expect(refused.header('Content-Type')).toBe('application/json; charset=utf-8')
    expect(refused.header('Retry-After')).toBe('60')
    expect(refused.header('RateLimit-Reset')).toBe('60')
    expect(refused.header('X-RateLimit-Remaining-Minute')).toBe('0')
    expect(refused.header('X-RateLimit-Remaining-Hour')).toBe('998')
    expect((await limited.ask()).header('X-RateLimit-Remaining-Hour')).toBe('998')
  })
  test('count_rejected: refused requests use up the other windows', async () => {
    const limited = site({ minute: 2, hour: 1000, count_rejected: true })
    await limited.admitted(12)
    expect((await limited.ask()).header('X-RateLimit-Remaining-Hour')).toBe('987')
  })
  test('windows are those of the wall clock: two full ones meet at a boundary', async () => {
    const limited = site({ minute: 5 })
    limited.nowMs = START_MS + 59_999
    expect(await limited.admitted(9)).toBe(5)
    limited.nowMs = START_MS + 60_000
    expect(await limited.admitted(9)).toBe(5)
  })
  test('of windows with equally little left the longest is named', async () => {
    const limited = site({ second: 1, hour: 1 })
    const first = await limited.ask()
    expect([first.header('RateLimit-Limit'), first.header('RateLimit-Reset')]).toEqual(['1', '3600'])
  })
  test('months and years are those of the calendar, their reset counts nominal lengths', async () => {
    const limited = site({ month: 2, year: 3 })
    limited.nowMs = Date.UTC(2026, 0, 31, 23, 59, 59)
    const january = await limited.ask()
    expect(january.header('X-RateLimit-Remaining-Month')).toBe('1')
    expect(january.header('RateLimit-Reset')).toBe('1')
    limited.nowMs = Date.UTC(2026, 1, 1)
    const february = await limited.ask()
    expect(february.header('X-RateLimit-Remaining-Month')).toBe('1')
    expect(february.header('X-RateLimit-Remaining-Year')).toBe('1')
    // Of one each, the year is named: 31 days are over.
    expect(february.header('RateLimit-Reset')).toBe(String(31_536_000 - 31 * 86_400))
    limited.nowMs = Date.UTC(2027, 0, 1)
    expect(await limited.admitted(5)).toBe(2)
  })
  test('hide_client_headers leaves Retry-After; error_code and error_message', async () => {
    const limited = site({ second: 1, hide_client_headers: true, error_code: 420, error_message: 'Enhance "your" calm' })
    expect((await limited.ask()).header('RateLimit-Limit')).toBeUndefined()
    const refused = await limited.ask()
    expect([refused.status, refused.header('X-RateLimit-Limit-Second'), refused.header('Retry-After')]).toEqual([420, undefined, '1'])
    expect(JSON.parse(refused.body).message).toBe('Enhance "your" calm')
    expect(JSON.parse(refused.body).request_id).toMatch(/^[0-9a-f]{32}$/)
  })
  test.each([
    ['text/html', 'text/html; charset=utf-8', '<p>API rate limit exceeded.</p>'],
    ['application/xml', 'application/xml; charset=utf-8', '<requestid>a&lt;b</requestid>'],
    ['text/plain;q=0.9, application/json;q=0.8', 'text/plain; charset=utf-8', 'API rate limit exceeded\nrequest_id: a<b\n'],
    ['text/html;q=0, image/png', 'application/json; charset=utf-8', '"request_id":"a<b"'],
    ['*/*', 'application/json; charset=utf-8', '"message"'],
    ['text/plain;q=0.5, text/html', 'text/html; charset=utf-8', '<h1>Error</h1>'],
  ])('Accept: %s is answered as %s', async (accept, type, part) => {
    const limited = site({ second: 1 })
    await limited.ask()
    const refused = await limited.ask({ headers: { Accept: accept }, requestId: 'a<b' })
    expect(refused.header('Content-Type')).toBe(type)
    expect(refused.body).toContain(part)
  })
  test('a fraction of a request counts as one', async () => {
    expect(await site({ second: 2.5 }).admitted(9)).toBe(3)
  })
  test('algorithm token-bucket: the limit at once, then evenly', async () => {
    const limited = site({ minute: 60, algorithm: 'token-bucket' })
    expect(await limited.admitted(99)).toBe(60)
    const refused = await limited.ask()
    expect([refused.header('Retry-After'), refused.header('X-RateLimit-Limit-Minute')]).toEqual(['1', '60'])
    limited.nowMs += 2000
    expect(await limited.admitted(99)).toBe(2)
  })
})

describe('limit_by', () => {
  const twoOf = async (conf: object, ...requests: Parameters<LimitedSite['admitted']>[1][]) => {
    const limited = site({ second: 2, ...conf }, { service: 'users' })
    const passed: number[] = []
    for (const request of requests) passed.push(await limited.admitted(3, request))
    return passed
  }
  const a = '10.0.0.1'
  const b = '2001:db8::1'

  test('consumer (default): consumer, else credential, else address', async () => {
    const passed = await twoOf(
      {},
      { consumerName: 'ann', clientAddress: a },
      { consumerName: 'ann', clientAddress: b },
      { headers: { 'X-Credential-Identifier': 'c1' }, clientAddress: a },
      { clientAddress: a },
      { clientAddress: b },
    )
    expect(passed).toEqual([2, 0, 2, 2, 2])
  })
  test('credential, else address', async () => {
    const credential = { 'X-Credential-Identifier': 'c1' }
    expect(
      await twoOf({ limit_by: 'credential' }, { headers: credential }, { headers: credential, clientAddress: b }, { consumerName: 'x' }),
    ).toEqual([2, 0, 2])
  })
  test('ip', async () => {
    expect(await twoOf({ limit_by: 'ip' }, { clientAddress: a }, { clientAddress: a, consumerName: 'x' }, { clientAddress: b })).toEqual([
      2, 0, 2,
    ])
  })
  test('service', async () => {
    expect(await twoOf({ limit_by: 'service' }, { clientAddress: a }, { clientAddress: b })).toEqual([2, 0])
  })
  test('header, else address', async () => {
    const conf = { limit_by: 'header', header_name: 'X-Tenant' }
    expect(await twoOf(conf, { headers: { 'x-tenant': a } }, { headers: { 'x-tenant': 'u' } }, { clientAddress: a })).toEqual([2, 2, 2])
  })
  test('path only for exactly this path, else address', async () => {
    const conf = { limit_by: 'path', path: '/login' }
    expect(
      await twoOf(
        conf,
        { target: '/login?x=1', clientAddress: a },
        { target: '/login', clientAddress: b },
        { target: '/login/x', clientAddress: b },
      ),
    ).toEqual([2, 0, 2])
  })
})

describe('rate and burst', () => {
  test('200/50, offered 1000 a second for 10 s: 51 at once and 200 a second', async () => {
    const limited = site({ rate: 200, burst: 50, key_type: 'consumer_name' })
    let passed = 0
    for (let ms = 0; ms < 10_000; ms++) {
      limited.nowMs = START_MS + ms
      passed += await limited.admitted(1, { consumerName: 'ann' })
    }
    expect(Math.abs(passed - 2051)).toBeLessThanOrEqual(1)
  })
  test('idle for a second, then 60 at once: 51 pass', async () => {
    const limited = site({ rate: 200, burst: 50 })
    await limited.admitted(60)
    limited.nowMs += 1000
    expect(await limited.admitted(60)).toBe(51)
  })
  test('headers and refusals', async () => {
    const limited = site({ rate: 0.5, burst: 2, key_type: 'var', key: 'remote_addr' })
    const first = await limited.ask()
    expect([first.header('X-RateLimit-Limit'), first.header('X-RateLimit-Remaining')]).toEqual(['0.5', '2'])
    await limited.admitted(2)
    const refused = await limited.ask()
    expect(refused.status).toBe(429)
    expect(refused.body).toBe('{"error":"Rate limit exceeded","retry_after":2}\n')
    expect(refused.header('Retry-After')).toBe('2')
    expect(refused.header('X-RateLimit-Remaining')).toBe('0')
    expect(refused.header('X-RateLimit-Reset')).toBeUndefined()
  })
  test('key types; two consumers are independent; without one: the address', async () => {
    const passed = async (conf: object, ...requests: Parameters<LimitedSite['admitted']>[1][]) => {
      const limited = site({ rate: 1, burst: 1, ...conf })
      const counts: number[] = []
      for (const request of requests) counts.push(await limited.admitted(3, request))
      return counts
    }
    const other = '10.0.0.2'
    expect(await passed({ key_type: 'consumer_name' }, { consumerName: 'a' }, { consumerName: 'b' }, {}, { clientAddress: other })).toEqual(
      [2, 2, 2, 2],
    )
    expect(await passed({ key_type: 'header', header_name: 'X-K' }, { headers: { 'X-K': 'a' } }, {}, { headers: { 'X-K': 'a' } })).toEqual([
      2, 2, 0,
    ])
    expect(await passed({ key_type: 'var', key: '$arg_k' }, { target: '/?k=1' }, { target: '/?k=2' }, {}, {})).toEqual([2, 2, 2, 0])
    expect(await passed({ key_type: 'var_combination', key: '$arg_k $arg_l' }, { target: '/?k=1' }, { target: '/?l=1' }, {})).toEqual([
      2, 2, 2,
    ])
    expect(await passed({ key_type: 'constant', key: 'all' }, {}, { clientAddress: other })).toEqual([2, 0])
    expect(await passed({}, {}, { clientAddress: other })).toEqual([2, 2])
  })
  test('with window_size: a sliding window', async () => {
    const limited = site({ rate: 10, burst: 5, window_size: 60 })
    expect(await limited.admitted(30)).toBe(15)
    const refused = await limited.ask()
    expect([refused.header('X-RateLimit-Limit'), refused.header('X-RateLimit-Reset'), refused.header('Retry-After')]).toEqual([
      '15',
      '60',
      '60',
    ])
    limited.nowMs = START_MS + 60_000
    expect((await limited.ask()).isRefused).toBe(true)
  })
  test('never more than burst + 1 + rate × t in any span, whatever arrives', async () => {
    const arrivals = fc.array(fc.tuple(fc.nat({ max: 400 }), fc.integer({ min: 1, max: 8 })), { minLength: 1, maxLength: 60 })
    const property = fc.asyncProperty(fc.integer({ min: 1, max: 50 }), fc.nat({ max: 20 }), arrivals, async (rate, burst, steps) => {
      const limited = site({ rate, burst })
      const passed: [number, number][] = []
      for (const [pause, count] of steps) {
        limited.nowMs += pause
        passed.push([limited.nowMs, await limited.admitted(count)])
      }
      for (let from = 0; from < passed.length; from++) {
        let sum = 0
        for (const [at, count] of passed.slice(from)) {
          sum += count
          expect(sum).toBeLessThanOrEqual(burst + 1 + (rate * (at - (passed[from]?.[0] ?? 0))) / 1000 + 1e-6)
        }
      }
    })
    await fc.assert(property, { seed: 20_260_102, numRuns: 60 })
  })
})

describe('Redis', () => {
  const nested = {
    host: 'r.test',
    port: 6380,
    password: null,
    username: null,
    timeout: 100,
    database: 2,
    ssl: true,
    ssl_verify: true,
    server_name: 'x',
  }
  const connection = {
    nodes: [{ host: 'r.test', port: 6380 }],
    username: null,
    password: null,
    database: 2,
    tls: { verify: true, serverName: 'x' },
    timeoutMs: 100,
    sentinel: null,
  }

  test('the nested and the flat spelling mean the same', () => {
    const flat = {
      redis_host: 'r.test',
      redis_port: 6380,
      redis_timeout: 100,
      redis_database: 2,
      redis_ssl: true,
      redis_ssl_verify: true,
      redis_server_name: 'x',
      redis_password: null,
    }
    for (const conf of [
      { minute: 1, policy: 'redis', redis: nested },
      { minute: 1, policy: 'redis', ...flat },
      { minute: 1, policy: 'redis', redis: nested, ...flat },
    ]) {
      expect(specOf(conf).store).toEqual({ kind: 'redis', mode: 'exact', onFailure: 'allow', connection })
    }
  })
  test('sync_rate takes batches; fault_tolerant: false refuses; the rate shape has a cluster', () => {
    expect(specOf({ minute: 1, policy: 'redis', redis: nested, sync_rate: 10 }).store).toMatchObject({ mode: 'lease' })
    expect(specOf({ minute: 1, policy: 'redis', redis: nested, sync_rate: -1, fault_tolerant: false }).store).toMatchObject({
      mode: 'exact',
      onFailure: 'refuse',
    })
    expect(specOf({ rate: 1, policy: 'redis-cluster', redis_cluster_nodes: ['[::1]:7000', 'b.test:7001'] }).store).toMatchObject({
      kind: 'redis-cluster',
      connection: {
        nodes: [
          { host: '::1', port: 7000 },
          { host: 'b.test', port: 7001 },
        ],
        timeoutMs: 2000,
      },
    })
  })
  test('without a server: the one of the process, else an error', () => {
    const redis = { kind: 'redis' as const, connection: { ...connection, timeoutMs: 7 } }
    const limits = new HeldLimiter()
    expect(() => site({ minute: 1, policy: 'redis' }, { limits, prepare: { redis } })).not.toThrow()
    expect(() => site({ minute: 1, policy: 'redis' })).toThrow(/redis\.host/)
  })
  test('it does not answer: passes without headers, or 500', async () => {
    for (const [isTolerant, status] of [
      [true, 200],
      [false, 500],
    ] as const) {
      const limits = new HeldLimiter()
      const limited = site({ minute: 1, policy: 'redis', redis: nested, fault_tolerant: isTolerant }, { limits })
      const answer = limited.ask()
      limits.answer((decision) => {
        decision.allowed = isTolerant
        decision.basis = isTolerant ? 'allowed' : 'refused'
      })
      const got = await answer
      expect([got.status, got.header('RateLimit-Limit'), got.header('Retry-After')]).toEqual([
        status,
        undefined,
        isTolerant ? undefined : '1',
      ])
      if (!isTolerant) expect(JSON.parse(got.body)).toMatchObject({ message: 'An unexpected error occurred' })
    }
  })
  test('a request that ends while Redis is asked: the late answer harms nobody', async () => {
    const limits = new HeldLimiter()
    const limited = site({ minute: 1, policy: 'redis', redis: nested }, { limits })
    const gone = limited.open()
    limited.end(gone.exchange)
    const second = limited.ask()
    limits.answer((decision) => {
      decision.allowed = false
      decision.refusedBy = 0
      decision.hold = 7
    })
    limits.answer((decision) => {
      decision.allowed = true
      decision.refusedBy = -1
    })
    expect(await gone.reply).toEqual({ status: 499 })
    expect((await second).status).toBe(200)
    expect(limits.released).toEqual([7])
  })
})

describe('configuration', () => {
  const problems = (conf: Json) => problemsOf(rateLimiting, conf)

  test('what the reference gateway writes out loads: nulls are unset', () => {
    const redis = {
      host: '127.0.0.1',
      port: 6379,
      password: null,
      username: null,
      database: 0,
      ssl: false,
      ssl_verify: false,
      server_name: null,
      timeout: 2000,
    }
    const conf = {
      second: null,
      minute: 100,
      hour: 1000,
      day: null,
      month: null,
      year: null,
      policy: 'redis',
      limit_by: 'consumer',
      header_name: null,
      path: null,
      fault_tolerant: true,
      hide_client_headers: false,
      error_code: 429,
      error_message: 'API rate limit exceeded',
      sync_rate: -1,
      redis,
    }
    expect(problems(conf)).toEqual([])
    expect(specOf(conf).rules).toMatchObject([
      { limit: 100, windowMs: 60_000, start: 'clock' },
      { limit: 1000, windowMs: 3_600_000, start: 'clock' },
    ])
  })
  test('a longer window may not have the lower limit', () => {
    expect(problems({ minute: 100, hour: 10 })).toEqual(['hour: The limit for hour(10.0) cannot be lower than the limit for minute(100.0)'])
    expect(problems({ second: 3, minute: 3, year: 3 })).toEqual([])
  })
  test('both shapes, or neither, are refused', () => {
    expect(problems({ minute: 1, rate: 1 })[0]).toMatch(/rate and minute belong to different shapes/)
    expect(problems({ rate: 1, limit_by: 'ip' })[0]).toMatch(/different shapes/)
    expect(problems({})[0]).toMatch(/at least one of these fields must be non-empty: second, minute/)
    expect(problems({ limit_by: 'ip' })[0]).toMatch(/at least one/)
    expect(problems({ minute: 0 })[0]).toMatch(/^minute/)
    expect(problems({ burst: 1 })[0]).toMatch(/rate, which is not set/)
  })
  test('the reading of rate without window_size is said', () => {
    expect(problems({ rate: 200, burst: 50, key_type: 'consumer_name' })).toEqual([
      'rate: read as 200 requests per second and 50 more at once; with window_size it would be 250 requests per window',
    ])
    expect(problems({ rate: 200, burst: 50, window_size: 60 })).toEqual([])
  })
  test.each<[Json, RegExp]>([
    [{ minute: 1, policy: 'cluster' }, /^policy: .*database/],
    [{ minute: 1, limit_by: 'header' }, /^header_name: limit_by header needs/],
    [{ minute: 1, limit_by: 'path' }, /^path: limit_by path needs/],
    [{ minute: 1, header_name: 'a b' }, /^header_name/],
    [{ minute: 1, policy: 'redis', sync_rate: 0.01 }, /^sync_rate: .*0\.02/],
    [{ minute: 1, policy: 'redis', sync_rate: 0 }, /^sync_rate/],
    [{ minute: 1, sync_rate: 5 }, /^sync_rate: .*local/],
    [{ minute: 1, algorithm: 'token-bucket', count_rejected: true }, /^count_rejected/],
    [{ minute: 1, policy: 'redis', sync_rate: 5, count_rejected: true }, /^count_rejected/],
    [{ rate: 1.5, window_size: 60 }, /^rate: .*whole number/],
    [{ rate: 1, window_size: 60, key_type: 'var' }, /^key: key_type var needs a key/],
    [{ rate: 1, window_size: 60, key: 'x' }, /^key: key has no meaning/],
    [{ rate: 1, window_size: 60, key_type: 'header' }, /^header_name: .*counts client addresses/],
  ])('%j', (conf, problem) => {
    expect(problems(conf)).toHaveLength(1)
    expect(problems(conf)[0]).toMatch(problem)
  })
})
