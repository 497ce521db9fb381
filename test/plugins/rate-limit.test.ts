import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Json, LimiterSpec } from '../../src/plugins/plugin.js'
import { rateLimit } from '../../src/plugins/rate-limit.js'
import { FakeLimits } from '../support/link-kit.js'
import { problemsOf } from './configured.js'
import { HeldLimiter, LimitedSite, START_MS } from './limited.js'

const site = (conf: Json, options: ConstructorParameters<typeof LimitedSite>[2] = {}) => new LimitedSite(rateLimit, conf, options)
const one = (limit: object, more: object = {}): Json => ({ limits: [limit], ...more }) as Json

function specOf(conf: Json, prepare = {}): LimiterSpec {
  const seen: LimiterSpec[] = []
  class Recording extends FakeLimits {
    override bind(spec: LimiterSpec) {
      seen.push(spec)
      return super.bind({ ...spec, store: { kind: 'local' } })
    }
  }
  site(conf, { limits: new Recording(), prepare })
  const [spec] = seen
  if (spec === undefined) throw new Error('nothing was bound')
  return spec
}

describe('algorithms', () => {
  test.each([
    [{ algorithm: 'fixed-window', limit: 4, window: 10 }, 4, 10_000, 4],
    [{ algorithm: 'fixed-window', limit: 4, window: 10, start: 'first-hit' }, 4, 10_000, 4],
    [{ algorithm: 'fixed-window', limit: 4, start: 'month' }, 4, 31 * 86_400_000, 4],
    [{ algorithm: 'fixed-window', limit: 4, start: 'year' }, 4, 365 * 86_400_000, 4],
    [{ algorithm: 'sliding-window', limit: 4, window: 10 }, 4, 15_000, 2],
    [{ algorithm: 'sliding-log', limit: 4, window: 10 }, 4, 10_000, 4],
    [{ algorithm: 'token-bucket', rate: 2, burst: 3 }, 4, 1_000, 2],
  ])('%j admits %i, and %i ms later %i', async (limit, first, waitMs, second) => {
    const limited = site(one(limit))
    expect(await limited.admitted(20)).toBe(first)
    limited.nowMs += waitMs
    expect(await limited.admitted(20)).toBe(second)
  })
  test('a leaky bucket delays, in order, and refuses when its queue is full', async () => {
    const limited = site(one({ algorithm: 'leaky-bucket', rate: 10, burst: 3 }))
    expect(await limited.admitted(9)).toBe(4)
    expect(limited.kit.delays.map(Math.round)).toEqual([100, 200, 300])
  })
  test('concurrency counts what is in flight, and gives it back when the request is over', async () => {
    const limited = site(one({ algorithm: 'concurrency', limit: 2 }))
    const open = [limited.open(), limited.open(), limited.open()]
    const replies = await Promise.all(open.map(({ reply }) => reply))
    expect(replies.map((reply) => reply?.status)).toEqual([undefined, undefined, 429])
    const [first, second, third] = open
    if (first === undefined || second === undefined || third === undefined) throw new Error('three were opened')
    limited.finish(third.exchange, replies[2])
    expect(await limited.admitted(1)).toBe(0)
    limited.finish(first.exchange, undefined)
    limited.end(second.exchange)
    expect(await limited.admitted(5)).toBe(5)
  })
  test('several limits are decided together: what one refuses uses up nothing of the others', async () => {
    const limited = site({
      limits: [
        { name: 'short', algorithm: 'fixed-window', limit: 2, window: 1 },
        { name: 'long', algorithm: 'sliding-log', limit: 5, window: 60 },
      ],
    })
    const counts: number[] = []
    for (let second = 0; second < 4; second++) {
      limited.nowMs = START_MS + second * 1000
      counts.push(await limited.admitted(10))
    }
    expect(counts).toEqual([2, 2, 1, 0])
  })
  test('count_rejected: they use up the others too', async () => {
    const limits = [
      { algorithm: 'fixed-window', limit: 2, window: 1 },
      { algorithm: 'fixed-window', limit: 5, window: 60 },
    ]
    const limited = site({ limits, count_rejected: true })
    expect(await limited.admitted(10)).toBe(2)
    limited.nowMs += 1000
    expect(await limited.admitted(10)).toBe(0)
  })
})

describe('keys and costs', () => {
  test('a template, and the address where it is empty', async () => {
    const limited = site(one({ limit: 2, window: 60 }, { key: '$http_x_tenant$arg_user' }))
    expect(await limited.admitted(3, { headers: { 'X-Tenant': 'a' } })).toBe(2)
    expect(await limited.admitted(3, { target: '/?user=a' })).toBe(0)
    expect(await limited.admitted(3, { headers: { 'X-Tenant': '127.0.0.1' } })).toBe(2)
    expect(await limited.admitted(3)).toBe(2)
  })
  test('each limit may have its own key', async () => {
    const limits = [
      { limit: 2, window: 60 },
      { limit: 3, window: 60, key: 'all' },
    ]
    const limited = site({ limits })
    expect(await limited.admitted(9, { clientAddress: '10.0.0.1' })).toBe(2)
    expect(await limited.admitted(9, { clientAddress: '10.0.0.2' })).toBe(1)
  })
  test.each([
    ['4', 2],
    ['3.2', 2],
    ['0', 8],
    ['-5', 8],
    ['x', 8],
    ['', 8],
    ['9', 0],
    ['1e99', 0],
  ])('a cost of "%s" admits %i of 8 units', async (cost, admitted) => {
    const limited = site(one({ algorithm: 'fixed-window', limit: 8, window: 60 }, { cost: '$arg_cost' }))
    expect(await limited.admitted(20, { target: `/?cost=${cost}` })).toBe(admitted)
  })
  test('a fixed cost', async () => {
    expect(await site(one({ limit: 8, window: 60 }, { cost: 3 })).admitted(20)).toBe(2)
  })
  test('confs with the same share count together', async () => {
    const conf = one({ limit: 2, window: 60 }, { share: 'both' })
    const first = site(conf, { prepare: { owner: 'routes/1' } })
    const second = site(conf, { prepare: { owner: 'routes/2' }, limits: first.limits })
    const alone = site(one({ limit: 2, window: 60 }), { prepare: { owner: 'routes/3' }, limits: first.limits })
    expect([await first.admitted(3), await second.admitted(3), await alone.admitted(3)]).toEqual([2, 0, 2])
  })
})

describe('tiers', () => {
  const tiers = {
    select: '$consumer_group_id',
    table: { gold: { limits: [{ limit: 5, window: 60 }] }, staff: { unlimited: true } },
  }
  const byHeader = { ...tiers, select: '$http_x_plan' }
  test('by header; other values have the limits outside; unlimited has none', async () => {
    const limited = site(one({ limit: 2, window: 60 }, { tiers: byHeader, key: '$http_x_user' }))
    const asked = (plan: string, user: string) => limited.admitted(9, { headers: { 'X-Plan': plan, 'X-User': user } })
    expect([await asked('gold', 'a'), await asked('silver', 'b'), await asked('staff', 'c'), await asked('', 'd')]).toEqual([5, 2, 9, 2])
  })
  test('by consumer group, each tier with its own headers', async () => {
    const limited = site(one({ limit: 2, window: 60 }, { tiers }))
    const gold = await limited.ask({ consumerGroupId: 'gold' })
    expect(gold.header('X-RateLimit-Limit')).toBe('5')
    const staff = await limited.ask({ consumerGroupId: 'staff' })
    expect(staff.header('X-RateLimit-Limit')).toBeUndefined()
  })
  test('equal windows count on when a client changes its tier', async () => {
    const limited = site(one({ limit: 2, window: 60 }, { tiers: byHeader }))
    expect(await limited.admitted(9)).toBe(2)
    expect(await limited.admitted(9, { headers: { 'X-Plan': 'gold' } })).toBe(3)
  })
  test('in flight in one tier and another', async () => {
    const table = { gold: { limits: [{ algorithm: 'concurrency', limit: 2 }] } }
    const limited = site({ algorithm: 'concurrency', limits: [{ limit: 1 }], tiers: { select: '$http_x_plan', table }, key: 'all' })
    const plain = limited.open()
    expect(await plain.reply).toBeUndefined()
    const gold = limited.open({ headers: { 'X-Plan': 'gold' } })
    expect(await gold.reply).toBeUndefined()
    expect((await limited.open({ headers: { 'X-Plan': 'gold' } }).reply)?.status).toBe(429)
    limited.end(plain.exchange)
    limited.end(gold.exchange)
    expect(await limited.admitted(3)).toBe(3)
  })
})

describe('answers', () => {
  const limits = [
    { name: 'minute', algorithm: 'fixed-window', limit: 2, window: 60 },
    { name: 'rate', algorithm: 'token-bucket', rate: 2, burst: 9 },
    { algorithm: 'concurrency', limit: 7 },
  ]
  test('X-RateLimit of the tightest; the refusal names the limit', async () => {
    const limited = site({ limits })
    const first = await limited.ask({}, { status: 500 })
    expect([
      first.status,
      first.header('X-RateLimit-Limit'),
      first.header('X-RateLimit-Remaining'),
      first.header('X-RateLimit-Reset'),
    ]).toEqual([500, '2', '1', '60'])
    expect(first.header('RateLimit')).toBeUndefined()
    await limited.ask()
    const refused = await limited.ask({ requestId: 'abc' })
    expect(refused.status).toBe(429)
    expect(JSON.parse(refused.body)).toEqual({ error_msg: 'rate limit exceeded', limit: 'minute', retry_after: 60, request_id: 'abc' })
    expect([refused.header('Retry-After'), refused.header('X-RateLimit-Remaining'), refused.header('X-RateLimit-Limit')]).toEqual([
      '60',
      '0',
      '2',
    ])
  })
  test('the IETF draft names all limits', async () => {
    const limited = site({ limits, headers: 'ietf' })
    const first = await limited.ask()
    expect(first.header('RateLimit-Policy')).toBe('"minute";q=2;w=60, "rate";q=10;w=5, "limit-3";q=7;qu="concurrent-requests"')
    expect(first.header('RateLimit')).toBe('"minute";r=1;t=60, "rate";r=9;t=1, "limit-3";r=6')
    expect(first.header('X-RateLimit-Limit')).toBeUndefined()
  })
  test('both, or none; Retry-After in any case', async () => {
    const both = await site({ limits, headers: 'both' }).ask()
    expect([both.header('X-RateLimit-Limit'), both.header('RateLimit')?.length]).toEqual(['2', 48])
    const limited = site({ limits, headers: 'none' })
    await limited.admitted(2)
    const refused = await limited.ask()
    expect([refused.header('X-RateLimit-Limit'), refused.header('RateLimit'), refused.header('Retry-After')]).toEqual([
      undefined,
      undefined,
      '60',
    ])
  })
  test('code, body and type of refusals', async () => {
    const limited = site(
      one({ limit: 0, window: 60 }, { rejected_code: 420, rejected_body: 'slow down, $remote_addr', rejected_content_type: 'text/plain' }),
    )
    const refused = await limited.ask()
    expect([refused.status, refused.body, refused.header('Content-Type')]).toEqual([420, 'slow down, 127.0.0.1', 'text/plain'])
  })
  test('dry run: counts and logs, refuses and delays nothing, sends no headers', async () => {
    const limited = site(one({ algorithm: 'leaky-bucket', rate: 1, burst: 1 }, { dry_run: true }))
    expect(await limited.admitted(5)).toBe(5)
    expect(limited.kit.delays).toEqual([])
    expect(limited.kit.logged).toHaveLength(3)
    expect(limited.kit.logged[0]).toBe('info: rate-limit: dry run, limit "default" would have refused a request of route 1')
    expect((await limited.ask()).header('X-RateLimit-Limit')).toBeUndefined()
  })
  test('the store failed: 503, or through without headers', async () => {
    for (const [policy, status] of [
      ['refuse', 503],
      ['allow', 200],
    ] as const) {
      const held = new HeldLimiter()
      const conf = one({ limit: 1, window: 60 }, { store: 'redis', redis: { address: 'r.test:6379' }, on_store_error: policy })
      const limited = site(conf, { limits: held })
      const answer = limited.ask()
      held.answer((decision) => {
        decision.allowed = policy === 'allow'
        decision.basis = policy === 'allow' ? 'allowed' : 'refused'
      })
      const { status: got, header } = await answer
      expect([got, header('X-RateLimit-Limit')]).toEqual([status, undefined])
    }
  })
  test('a place in flight that is given after the client left goes back', async () => {
    const held = new HeldLimiter()
    const limited = site(one({ algorithm: 'concurrency', limit: 1 }), { limits: held })
    const gone = limited.open()
    limited.end(gone.exchange)
    held.answer((decision) => {
      decision.hold = 5
    })
    expect(await gone.reply).toEqual({ status: 499 })
    expect(held.released).toEqual([5])
  })
})

describe('stores', () => {
  const limit = { limit: 1, window: 60 }
  const connection = {
    nodes: [{ host: 'r.test', port: 1 }],
    username: null,
    password: null,
    database: 0,
    tls: null,
    timeoutMs: 500,
    sentinel: null,
  }
  const redis = { address: 'r.test:1', database: 0, timeout_ms: 500, tls: false, tls_verify: true }
  test('each of them', () => {
    expect(specOf(one(limit)).store).toEqual({ kind: 'local' })
    expect(specOf(one(limit, { store: 'redis', redis })).store).toEqual({ kind: 'redis', mode: 'exact', onFailure: 'local', connection })
    expect(specOf(one(limit, { store: 'lease', redis, on_store_error: 'allow' })).store).toEqual({
      kind: 'redis',
      mode: 'lease',
      onFailure: 'allow',
      connection,
    })
    expect(specOf(one(limit, { store: 'redis-cluster', redis: { cluster: ['r.test:1'] } })).store).toMatchObject({ kind: 'redis-cluster' })
    expect(specOf(one(limit, { store: 'lease', redis: { cluster: ['r.test:1'], tls: true } })).store).toMatchObject({
      kind: 'redis-cluster',
      mode: 'lease',
      connection: { tls: { verify: true, serverName: null } },
    })
    expect(specOf(one(limit, { store: 'redis-sentinel', redis: { sentinels: ['[::1]:1'], master_name: 'm' } })).store).toMatchObject({
      kind: 'redis-sentinel',
      connection: { nodes: [{ host: '::1', port: 1 }], sentinel: { masterName: 'm' } },
    })
    expect(specOf(one(limit, { store: 'lease' }), { redis: { kind: 'redis', connection } }).store).toEqual({
      kind: 'redis',
      mode: 'lease',
      onFailure: 'local',
      connection,
    })
  })
  test.each([
    [{ store: 'redis' }, /needs redis\.address/],
    [{ store: 'redis', redis: {} }, /exactly one of/],
    [{ store: 'redis', redis: { ...redis, cluster: ['a:1'] } }, /exactly one of/],
    [{ store: 'redis-cluster', redis }, /of the kind redis/],
    [{ store: 'redis', redis: { address: 'nowhere' } }, /host:port/],
    [{ store: 'redis-sentinel', redis: { sentinels: ['a:1'] } }, /name of the master/],
    [{ store: 'redis-cluster', redis: { cluster: ['a:1'], database: 1 } }, /only database 0/],
  ])('%j is refused', (more, message) => {
    expect(() => specOf(one(limit, more))).toThrow(message)
  })
})

describe('configuration', () => {
  test.each<[object, RegExp]>([
    [{ limits: [] }, /^limits/],
    [one({ limit: 1 }) as object, /^limits\.0: a sliding-window limit needs window$/],
    [one({ algorithm: 'fixed-window', limit: 1 }) as object, /needs window/],
    [
      one({ algorithm: 'fixed-window', limit: 1, start: 'month', window: 3 }) as object,
      /^limits\.0\.window: window has no meaning for a window of start month/,
    ],
    [one({ algorithm: 'token-bucket', burst: 1 }) as object, /needs rate/],
    [one({ algorithm: 'token-bucket', rate: 1, limit: 1 }) as object, /^limits\.0\.limit: limit has no meaning/],
    [one({ algorithm: 'concurrency', limit: 1, window: 1 }) as object, /^limits\.0\.window/],
    [one({ limit: 1, window: 1, key: '$graphql_name' }) as object, /^limits\.0\.key/],
    [{ ...(one({ limit: 1, window: 1 }) as object), key: '$graphql_name' }, /^key/],
    [{ ...(one({ limit: 1, window: 1 }) as object), redis: {} }, /^redis: .*store local/],
    [{ ...(one({ algorithm: 'token-bucket', rate: 1 }) as object), count_rejected: true }, /^limits\.0: count_rejected/],
    [{ ...(one({ algorithm: 'leaky-bucket', rate: 1 }) as object), store: 'lease' }, /^limits\.0: store lease/],
    [
      {
        limits: [
          { name: 'a', limit: 1, window: 1 },
          { name: 'a', limit: 1, window: 2 },
        ],
      },
      /^limits\.1\.name: two limits/,
    ],
    [{ ...(one({ limit: 1, window: 1 }) as object), tiers: { select: '$host', table: { a: {} } } }, /^tiers\.table\.a: expected either/],
    [
      { ...(one({ limit: 1, window: 1 }) as object), tiers: { select: '$host', table: { a: { limits: [{ limit: 1 }] } } } },
      /^tiers\.table\.a\.limits\.0: .*needs window/,
    ],
  ])('%j', (conf, problem) => {
    const problems = problemsOf(rateLimit, conf as Json)
    expect(problems).toHaveLength(1)
    expect(problems[0]).toMatch(problem)
  })
  test('what no store can do is refused when the configuration is prepared', () => {
    expect(() => site(one({ limit: 1, window: 0.05 }))).toThrow(/multiple|from 100/)
    expect(() => site(one({ algorithm: 'sliding-log', limit: 100_000, window: 1 }))).toThrow(/10000/)
  })
})

test('a sliding log never admits more than its limit in any span of its window, whatever arrives', async () => {
  const arrivals = fc.array(fc.tuple(fc.nat({ max: 3000 }), fc.integer({ min: 1, max: 6 })), { minLength: 1, maxLength: 50 })
  const property = fc.asyncProperty(fc.integer({ min: 1, max: 12 }), arrivals, async (limit, steps) => {
    const limited = site(one({ algorithm: 'sliding-log', limit, window: 5 }))
    const passed: number[] = []
    for (const [pause, count] of steps) {
      limited.nowMs += pause
      const admitted = await limited.admitted(count)
      for (let index = 0; index < admitted; index++) passed.push(limited.nowMs)
      const live = passed.filter((at) => at > limited.nowMs - 5000).length
      expect(live).toBeLessThanOrEqual(limit)
      // Nothing is refused without need either.
      expect(admitted === count || live === limit).toBe(true)
    }
  })
  await fc.assert(property, { seed: 20_260_103, numRuns: 60 })
})
