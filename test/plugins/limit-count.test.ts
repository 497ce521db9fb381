// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these are templates of ours, not of JavaScript
import { describe, expect, test } from 'vitest'
import { limitCount } from '../../src/plugins/limit-count.js'
import type { BoundLimiter, Decision, Json, LimiterSpec, LinkKit, PluginInstance, Reply } from '../../src/plugins/plugin.js'
import { type FakeExchange, type FakeRequest, fakeExchange } from '../support/fake-exchange.js'
import { FakeLimits, linkKit, linkPlugin, prepareKit } from '../support/link-kit.js'
import { configure, problemsOf } from './configured.js'

const redis = { policy: 'redis', redis_host: '127.0.0.1' }

/** Sends one request through the plugin; the upstream answers 200. */
async function send(instance: PluginInstance, request: FakeRequest = {}): Promise<{ reply: Reply | undefined; exchange: FakeExchange }> {
  const exchange = fakeExchange(request)
  const reply = (await instance.access?.(exchange)) ?? undefined
  exchange.respond(reply === undefined ? {} : { status: reply.status, source: 'gateway' })
  instance.headerFilter?.(exchange)
  instance.log?.(exchange)
  return { reply, exchange }
}

async function statuses(instance: PluginInstance, requests: readonly FakeRequest[]): Promise<number[]> {
  const found: number[] = []
  for (const request of requests) found.push((await send(instance, request)).reply?.status ?? 200)
  return found
}

function quota({ exchange }: { exchange: FakeExchange }, prefix = 'x-'): (string | undefined)[] {
  const { headers } = exchange.response
  return ['limit', 'remaining', 'reset'].map((name) => headers.get(`${prefix}ratelimit-${name}`))
}

describe('fixed windows', () => {
  test('exactly count requests pass; the window begins with the first and ends by itself', async () => {
    const limits = new FakeLimits()
    const instance = configure(limitCount, { count: 2, time_window: 60 }, { kit: linkKit(null, limits) })
    limits.nowMs += 12_345
    expect(quota(await send(instance))).toEqual(['2', '1', '60'])
    limits.nowMs += 2_876
    expect(quota(await send(instance))).toEqual(['2', '0', '57.12'])
    const refused = await send(instance)
    expect(refused.reply).toEqual({ status: 503, headers: [['Retry-After', '58']] })
    expect(quota(refused)).toEqual(['2', '0', '57.12'])
    limits.nowMs += 57_123
    expect((await send(instance)).reply?.status).toBe(503)
    limits.nowMs += 1
    expect(quota(await send(instance))).toEqual(['2', '1', '60'])
  })

  test('a refusal says what is configured, and without headers only when to come again', async () => {
    const instance = configure(limitCount, {
      count: 1,
      time_window: 10,
      rejected_code: 429,
      rejected_msg: 'no "more"',
      show_limit_quota_header: false,
    })
    await send(instance)
    const { reply, exchange } = await send(instance)
    expect(reply).toEqual({ status: 429, body: '{"error_msg":"no \\"more\\""}\n', headers: [['Retry-After', '10']] })
    expect(exchange.response.headers.count).toBe(0)
  })

  test('names of headers come from the metadata', async () => {
    const metadata = { limit_header: 'X-Lim', remaining_header: 'X-Rem', reset_header: 'X-Res' }
    const { exchange } = await send(configure(limitCount, { count: 5, time_window: 1 }, { metadata }))
    expect([...exchange.response.headers.names].slice(0, 3)).toEqual(['X-Lim', 'X-Rem', 'X-Res'])
  })
})

test('sliding windows: the one before counts by what overlaps, and at most as the limit', async () => {
  const limits = new FakeLimits()
  limits.nowMs = 1_700_000_040_000 // a whole minute
  const instance = configure(limitCount, { count: 4, time_window: 60, window_type: 'sliding' }, { kit: linkKit(null, limits) })
  expect(await statuses(instance, [{}, {}, {}, {}, {}])).toEqual([200, 200, 200, 200, 503])
  limits.nowMs += 60_000
  // 4 × 60/60 = 4: nothing fits at the edge
  expect(await statuses(instance, [{}])).toEqual([503])
  limits.nowMs += 15_000
  // 4 × 45/60 = 3: one fits
  expect(await statuses(instance, [{}, {}])).toEqual([200, 503])
  limits.nowMs += 45_000 + 60_000
  expect(await statuses(instance, [{}, {}, {}, {}, {}])).toEqual([200, 200, 200, 200, 503])
})

describe('keys', () => {
  const one = { count: 1, time_window: 60 }

  test('addresses count for themselves, IPv6 too', async () => {
    const instance = configure(limitCount, one)
    const [a, b, c] = ['2001:db8::1', '2001:db8::2', '10.0.0.1'].map((clientAddress) => ({ clientAddress }))
    expect(await statuses(instance, [a ?? {}, b ?? {}, c ?? {}, a ?? {}, b ?? {}, c ?? {}])).toEqual([200, 200, 200, 503, 503, 503])
  })

  test.each<[string, Json]>([
    ['a variable', { key: 'http_x_id', key_type: 'var' }],
    ['a combination', { key: '$http_x_id', key_type: 'var_combination' }],
    ['the consumer, when there is none', { key: 'consumer_name' }],
  ])('%s without a value is counted by the address', async (_, key) => {
    const limits = new FakeLimits()
    const instance = configure(limitCount, { ...one, ...(key as object) }, { kit: linkKit(null, limits) })
    expect(await statuses(instance, [{ clientAddress: '10.0.0.1' }, { clientAddress: '10.0.0.2' }])).toEqual([200, 200])
    expect(await statuses(instance, [{ clientAddress: '10.0.0.1', headers: { 'X-Id': '' } }])).toEqual([503])
  })

  test('consumers count for themselves wherever they come from', async () => {
    const instance = configure(limitCount, { ...one, key: 'consumer_name' })
    const from = (consumerName: string, clientAddress: string) => ({ consumerName, clientAddress })
    expect(await statuses(instance, [from('a', '1.1.1.1'), from('a', '2.2.2.2'), from('b', '1.1.1.1')])).toEqual([200, 503, 200])
  })

  test('a combination with one value of two is a key', async () => {
    const instance = configure(limitCount, { ...one, key: '$remote_addr $http_x_id', key_type: 'var_combination' })
    const headers = { 'X-Id': 'i' }
    expect(await statuses(instance, [{}, { headers }, {}, { headers }])).toEqual([200, 200, 503, 503])
  })

  test('a constant is one counter for all', async () => {
    const instance = configure(limitCount, { ...one, key: 'remote_addr', key_type: 'constant' })
    expect(await statuses(instance, [{ clientAddress: '10.0.0.1' }, { clientAddress: '10.0.0.2' }])).toEqual([200, 503])
  })
})

test('what a client writes does not use up the limit of an address, in whatever spelling', async () => {
  for (const key of ['http_x_user', 'arg_user']) {
    const instance = configure(limitCount, { count: 1, time_window: 60, key })
    const victim = { clientAddress: '192.0.2.7' }
    for (const claim of ['192.0.2.7', '%00192.0.2.7']) {
      const request: FakeRequest = key === 'arg_user' ? { target: `/?user=${claim}` } : { headers: { 'X-User': claim } }
      await send(instance, { clientAddress: '203.0.113.9', ...request })
    }
    expect(await statuses(instance, [victim, victim]), key).toEqual([200, 503])
  }
})

describe('counts and windows from the request', () => {
  const conf = { count: '${http_x_count ?? 2}', time_window: '${http_x_window ?? 60}' }
  const asking = (headers: { [name: string]: string }) => ({ headers })

  test('the default, then another count of the same counter, another window is another counter', async () => {
    const instance = configure(limitCount, conf)
    expect(await statuses(instance, [{}, {}, {}, asking({ 'X-Count': '4' })])).toEqual([200, 200, 503, 200])
    expect(await statuses(instance, [asking({ 'X-Window': '30' }), asking({ 'X-Window': '30' })])).toEqual([200, 200])
    expect(quota(await send(instance, asking({ 'X-Count': '9' })))).toEqual(['9', '5', '60'])
  })

  test.each(['0', '-1', '1.5', 'many', '99999999999', '1e3'])('%j is no count: 500, or no limit', async (value) => {
    const strict = await send(configure(limitCount, conf), asking({ 'X-Count': value }))
    expect(strict.reply).toEqual({ status: 500, body: '{"error_msg":"failed to limit count"}\n' })
    const lax = await send(configure(limitCount, { ...conf, allow_degradation: true }), asking({ 'X-Count': value }))
    expect([lax.reply, lax.exchange.response.headers.count]).toEqual([undefined, 0])
  })
})

describe('rules', () => {
  const conf = {
    rejected_code: 429,
    rules: [
      { count: 2, time_window: 60, key: '$http_x_user', header_prefix: 'User' },
      { count: 3, time_window: 60, key: '$remote_addr' },
    ],
  }
  const user = (name: string) => ({ headers: { 'X-User': name } })

  test('are decided together: a refused request uses up none', async () => {
    const instance = configure(limitCount, conf)
    expect(await statuses(instance, [user('a'), user('a'), user('a'), user('a'), user('b'), user('b')])).toEqual([
      200, 200, 429, 429, 200, 429,
    ])
  })

  test('have headers of their own', async () => {
    const sent = await send(configure(limitCount, conf), user('a'))
    expect([quota(sent, 'x-user-'), quota(sent, 'x-2-'), quota(sent)]).toEqual([
      ['2', '1', '60'],
      ['3', '2', '60'],
      [undefined, undefined, undefined],
    ])
  })

  test('a rule without a key is left out, also from the headers', async () => {
    const instance = configure(limitCount, conf)
    expect(await statuses(instance, [{}, {}])).toEqual([200, 200])
    const third = await send(instance)
    expect([quota(third, 'x-user-'), quota(third, 'x-2-')]).toEqual([
      [undefined, undefined, undefined],
      ['3', '0', '60'],
    ])
    expect(await statuses(instance, [{}, user('a')])).toEqual([429, 429])
  })

  test('none that applies is an error, or no limit', async () => {
    const rules = [{ count: 1, time_window: 60, key: '$http_x_user' }]
    expect((await send(configure(limitCount, { rules }))).reply?.status).toBe(500)
    expect((await send(configure(limitCount, { rules, allow_degradation: true }))).reply).toBeUndefined()
  })
})

describe('whose counters', () => {
  function specOf(conf: object, owner = 'routes/1'): LimiterSpec {
    const found: LimiterSpec[] = []
    const kit = prepareKit({ owner })
    linkPlugin(limitCount, conf as Json, linkKit(), {
      ...kit,
      limiter: (spec) => {
        found.push(spec)
        return spec
      },
    })
    const [spec] = found
    if (spec === undefined) throw new Error('no limiter was announced')
    return spec
  }
  const conf = { count: 1, time_window: 60 }

  test('the same place and meaning is the same scope; a change that counts nothing else keeps it', () => {
    const { scope } = specOf(conf)
    expect(specOf({ time_window: 60, count: 1, rejected_msg: 'x', show_limit_quota_header: false }).scope).toBe(scope)
    expect(
      new Set([scope, specOf({ ...conf, count: 2 }).scope, specOf({ ...conf, key: 'host' }).scope, specOf(conf, 'routes/2').scope]).size,
    ).toBe(4)
  })

  test('a group is one scope everywhere, and its confs must be equal', () => {
    const grouped = { ...conf, group: 'g' }
    expect(specOf(grouped, 'routes/1').scope).toBe(specOf(grouped, 'services/9').scope)
    const kit = prepareKit()
    linkPlugin(limitCount, grouped, linkKit(), kit)
    linkPlugin(limitCount, grouped, linkKit(), kit)
    expect(() => linkPlugin(limitCount, { ...grouped, rejected_code: 429 }, linkKit(), kit)).toThrow(/^group conf mismatched/)
  })

  test('a plugin_config counts per route', async () => {
    const limits = new FakeLimits()
    const onRoute = (id: string) =>
      linkPlugin(
        limitCount,
        conf,
        linkKit({ id, name: '', serviceId: '', serviceName: '', labels: {} }, limits),
        prepareKit({ owner: 'plugin_configs/1' }),
      )
    expect(await statuses(onRoute('a'), [{}, {}])).toEqual([200, 503])
    expect(await statuses(onRoute('b'), [{}])).toEqual([200])
    expect(await statuses(onRoute('a'), [{}])).toEqual([503])
  })

  test('lease instead of a call per request with sync_interval', () => {
    expect(specOf({ ...conf, ...redis }).store).toMatchObject({ kind: 'redis', mode: 'exact', onFailure: 'refuse' })
    expect(specOf({ ...conf, ...redis, sync_interval: 0.5, allow_degradation: true }).store).toMatchObject({
      mode: 'lease',
      onFailure: 'allow',
    })
  })
})

describe('a store that fails', () => {
  function failing(basis: Decision['basis']): LinkKit {
    const kit = linkKit()
    return {
      ...kit,
      limiter(spec): BoundLimiter {
        const inner = kit.limits.bind(spec)
        return {
          spec,
          joint: null,
          giveBack: () => undefined,
          decision: () => inner.decision(),
          release: () => undefined,
          peek: (_keys, _cost, out) => out,
          check: async (_keys, _cost, out) => Object.assign(out, { basis, allowed: basis === 'allowed' }),
        }
      },
    }
  }

  test('500, without a quota', async () => {
    const sent = await send(configure(limitCount, { count: 1, time_window: 1, ...redis }, { kit: failing('refused') }))
    expect(sent.reply).toEqual({ status: 500, body: '{"error_msg":"failed to limit count"}\n', headers: [['Retry-After', '1']] })
    expect(quota(sent)).toEqual([undefined, undefined, undefined])
  })

  test('or no limit', async () => {
    const conf = { count: 1, time_window: 1, ...redis, allow_degradation: true }
    const sent = await send(configure(limitCount, conf, { kit: failing('allowed') }))
    expect([sent.reply, ...quota(sent)]).toEqual([undefined, undefined, undefined, undefined])
  })
})

test('two limits on one request: both count, the later one shows its quota', async () => {
  const kit = linkKit()
  const outer = configure(limitCount, { count: 3, time_window: 60 }, { kit })
  const inner = configure(limitCount, { count: 1, time_window: 60 }, { kit })
  const exchange = fakeExchange()
  expect([outer.access?.(exchange), inner.access?.(exchange)]).toEqual([undefined, undefined])
  exchange.respond({ status: 404, headers: { 'X-RateLimit-Limit': 'of the upstream' } })
  outer.headerFilter?.(exchange)
  inner.headerFilter?.(exchange)
  expect(exchange.response.headers.getAll('x-ratelimit-limit')).toEqual(['1'])
})

describe('refuses', () => {
  test.each<[string, object, string | RegExp]>([
    ['no count', { time_window: 1 }, 'property "count" is required'],
    ['no window', { count: 1 }, 'property "time_window" is required'],
    ['zero', { count: 0, time_window: 1 }, /^count: /],
    ['half a second', { count: 1, time_window: 0.5 }, /^time_window: /],
    ['equal keys', { rules: [1, 2].map((count) => ({ count, time_window: 1, key: '$host' })) }, "duplicate key '$host' in rules"],
    ['rules and count', { count: 1, rules: [{ count: 1, time_window: 1, key: 'k' }] }, /^count: count and rules exclude each other/],
    ['rules and group', { group: 'g', rules: [{ count: 1, time_window: 1, key: 'k' }] }, /^group: group and rules exclude each other/],
    ['a prefix that is no name', { rules: [{ count: 1, time_window: 1, key: 'k', header_prefix: 'a b' }] }, /^rules.0.header_prefix: /],
    ['a code that is no answer', { count: 1, time_window: 1, rejected_code: 199 }, /^rejected_code: /],
    ['an empty message', { count: 1, time_window: 1, rejected_msg: '' }, /^rejected_msg: /],
    ['a body variable', { count: 1, time_window: 1, key: 'post_arg_x' }, /^key: .*not supported yet/],
    ['sync without Redis', { count: 1, time_window: 1, sync_interval: 0.5 }, 'sync_interval: is only for policies in Redis; expected -1'],
    [
      'sync as long as the window',
      { count: 1, time_window: 1, sync_interval: 1, ...redis },
      'sync_interval: 1 must be smaller than time_window 1',
    ],
    [
      'sync too often',
      { count: 1, time_window: 1, sync_interval: 0.05, ...redis },
      'sync_interval: expected 0.05 to be -1 or at least 0.1',
    ],
    [
      'a replica',
      {
        count: 1,
        time_window: 1,
        policy: 'redis-sentinel',
        redis_sentinels: [{ host: 'ab', port: 1 }],
        redis_master_name: 'm',
        redis_role: 'slave',
      },
      /^redis_role: slave/,
    ],
    [
      'a node that is no address',
      { count: 1, time_window: 1, policy: 'redis-cluster', redis_cluster_nodes: ['host'] },
      /^redis_cluster_nodes.0: "host"/,
    ],
  ])('%s', (_, conf, problem) => {
    expect(problemsOf(limitCount, conf as Json).join('\n')).toMatch(problem instanceof RegExp ? new RegExp(problem, 'm') : problem)
  })

  test.each([
    ['redis', {}, 'redis_host'],
    ['redis-cluster', { redis_cluster_name: 'c' }, 'redis_cluster_nodes'],
    ['redis-cluster', { redis_cluster_nodes: ['127.0.0.1:1'] }, 'redis_cluster_name'],
    ['redis-sentinel', { redis_sentinels: [{ host: '127.0.0.1', port: 1 }] }, 'redis_master_name'],
  ])('policy %s with %j', (policy, options, missing) => {
    expect(() => configure(limitCount, { count: 1, time_window: 1, policy, ...options })).toThrow(`property "${missing}" is required`)
  })
})

test('the Redis of the process is used when the conf names none, and only for its own kind', () => {
  const connection = {
    nodes: [{ host: 'r', port: 1 }],
    username: null,
    password: null,
    database: 0,
    tls: null,
    timeoutMs: 1,
    sentinel: null,
  }
  const kit = prepareKit({ redis: { kind: 'redis', connection } })
  const seen: LimiterSpec[] = []
  const watching = {
    ...kit,
    limiter: (spec: LimiterSpec) => {
      seen.push(spec)
      return spec
    },
  }
  linkPlugin(limitCount, { count: 1, time_window: 1, policy: 'redis' }, linkKit(), watching)
  linkPlugin(limitCount, { count: 1, time_window: 1, ...redis }, linkKit(), watching)
  expect(seen.map(({ store }) => ('connection' in store ? store.connection.nodes : null))).toEqual([
    [{ host: 'r', port: 1 }],
    [{ host: '127.0.0.1', port: 6379 }],
  ])
  expect(() => linkPlugin(limitCount, { count: 1, time_window: 1, policy: 'redis-cluster' }, linkKit(), kit)).toThrow(/redis_cluster_nodes/)
})

test('options that change nothing are warned about', () => {
  const conf = { count: 1, time_window: 1, ...redis, redis_keepalive_pool: 10 }
  expect(problemsOf(limitCount, conf)).toEqual(['redis_keepalive_pool: has no effect: each worker keeps one connection to Redis open'])
  expect(() => configure(limitCount, conf)).not.toThrow()
})
