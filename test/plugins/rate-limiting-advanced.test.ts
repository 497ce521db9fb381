import { describe, expect, test } from 'vitest'
import type { Json, LimiterSpec } from '../../src/plugins/plugin.js'
import { createRateLimitingAdvanced, rateLimitingAdvanced } from '../../src/plugins/rate-limiting-advanced.js'
import { FakeLimits } from '../support/link-kit.js'
import { problemsOf } from './configured.js'
import { LimitedSite, START_MS } from './limited.js'

const plugin = createRateLimitingAdvanced(() => 0.999)
const site = (conf: Json, options: ConstructorParameters<typeof LimitedSite>[2] = {}) => new LimitedSite(plugin, conf, options)

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

describe('windows', () => {
  test('limits and windows are sorted together by window; odd lengths are named by their seconds', async () => {
    const limited = site({ limit: [100, 3], window_size: [3600, 30], window_type: 'fixed' })
    limited.nowMs = START_MS + 10_000
    const first = await limited.ask()
    expect(first.header('X-RateLimit-Limit-30')).toBe('3')
    expect(first.header('X-RateLimit-Remaining-30')).toBe('2')
    expect(first.header('X-RateLimit-Limit-Hour')).toBe('100')
    expect(first.header('X-RateLimit-Remaining-Hour')).toBe('99')
    expect([first.header('RateLimit-Limit'), first.header('RateLimit-Remaining'), first.header('RateLimit-Reset')]).toEqual([
      '3',
      '2',
      '20',
    ])
    expect(await limited.admitted(9)).toBe(2)
    const refused = await limited.ask()
    expect([refused.status, refused.header('Retry-After'), refused.header('X-RateLimit-Remaining-Hour')]).toEqual([429, '20', '97'])
    expect(JSON.parse(refused.body)).toMatchObject({ message: 'API rate limit exceeded' })
  })
  test('a fixed window forgets, a sliding one remembers', async () => {
    const conf = { limit: [10], window_size: [60], disable_penalty: true }
    const fixed = site({ ...conf, window_type: 'fixed' })
    const sliding = site(conf)
    for (const limited of [fixed, sliding]) {
      expect(await limited.admitted(20)).toBe(10)
      limited.nowMs = START_MS + 90_000
    }
    expect(await fixed.admitted(20)).toBe(10)
    // Half of the 10 still counts.
    expect(await sliding.admitted(20)).toBe(5)
  })
  test('penalty (default): refused requests count, so that who goes on stays refused', async () => {
    const limited = site({ limit: [10], window_size: [60] })
    expect(await limited.admitted(100)).toBe(10)
    limited.nowMs = START_MS + 90_000
    expect(await limited.admitted(1)).toBe(0)
    limited.nowMs = START_MS + 180_000
    expect(await limited.admitted(1)).toBe(1)
  })
  test('retry_after_jitter_max adds up to its seconds', async () => {
    const conf = { limit: [1], window_size: [60], window_type: 'fixed', hide_client_headers: true }
    for (const [max, seconds] of [
      [0, '60'],
      [5, '65'],
    ] as const) {
      const limited = site({ ...conf, retry_after_jitter_max: max })
      await limited.ask()
      const refused = await limited.ask()
      expect([refused.header('Retry-After'), refused.header('RateLimit-Limit')]).toEqual([seconds, undefined])
    }
  })
  test('Retry-After of a sliding window names the moment at which a request fits again', async () => {
    const limited = site({ limit: [10], window_size: [60], disable_penalty: true })
    await limited.admitted(10)
    limited.nowMs = START_MS + 60_000
    const refused = await limited.ask()
    const seconds = Number(refused.header('Retry-After'))
    limited.nowMs += seconds * 1000 - 1000
    expect(await limited.admitted(1)).toBe(0)
    limited.nowMs += 1000
    expect(await limited.admitted(1)).toBe(1)
  })
})

describe('who is counted', () => {
  const fixed = { limit: [2], window_size: [60], window_type: 'fixed' }
  test('compound identifiers must all agree', async () => {
    const limited = site({ ...fixed, compound_identifier: ['consumer', 'ip'] })
    expect(await limited.admitted(3, { consumerName: 'a', clientAddress: '10.0.0.1' })).toBe(2)
    expect(await limited.admitted(3, { consumerName: 'a', clientAddress: '10.0.0.2' })).toBe(2)
    expect(await limited.admitted(3, { consumerName: 'b', clientAddress: '10.0.0.1' })).toBe(2)
    expect(await limited.admitted(3, { consumerName: 'a', clientAddress: '10.0.0.1' })).toBe(0)
  })
  test('consumer-group', async () => {
    const limited = site({ ...fixed, identifier: 'consumer-group' })
    expect(await limited.admitted(3, { consumerGroupId: 'gold', consumerName: 'a' })).toBe(2)
    expect(await limited.admitted(3, { consumerGroupId: 'gold', consumerName: 'b' })).toBe(0)
    expect(await limited.admitted(3)).toBe(2)
  })
  test('a namespace is shared by confs of different resources', async () => {
    const shared = { ...fixed, namespace: 'one' }
    const first = site(shared, { prepare: { owner: 'routes/1' } })
    const second = site(shared, { prepare: { owner: 'routes/2' }, limits: first.limits })
    const alone = site(fixed, { prepare: { owner: 'routes/3' }, limits: first.limits })
    expect([await first.admitted(3), await second.admitted(3), await alone.admitted(3)]).toEqual([2, 0, 2])
  })
})

describe('stores', () => {
  const conf = { limit: [2], window_size: [60], strategy: 'redis' }
  const redis = { host: 'r.test', connect_timeout: 100, send_timeout: 300, read_timeout: 200 }

  test('sync_rate says how', () => {
    expect(specOf({ ...conf, redis, sync_rate: 0 }).store).toMatchObject({
      kind: 'redis',
      mode: 'exact',
      onFailure: 'local',
      connection: { timeoutMs: 300 },
    })
    expect(specOf({ ...conf, redis, sync_rate: 5, disable_penalty: true }).store).toMatchObject({ mode: 'lease' })
    expect(specOf({ ...conf, redis, sync_rate: 5 }).store).toMatchObject({ mode: 'exact' })
    expect(specOf({ ...conf, redis, sync_rate: -1 }).store).toEqual({ kind: 'local' })
  })
  test('cluster and sentinels', () => {
    const sentinel = {
      sentinel_master: 'm',
      sentinel_nodes: [{ host: 's.test', port: 26379 }],
      sentinel_role: 'master',
      sentinel_password: 'p',
    }
    expect(specOf({ ...conf, sync_rate: 0, redis: { cluster_nodes: [{ ip: 'c.test', port: 7000 }] } }).store).toMatchObject({
      kind: 'redis-cluster',
      connection: { nodes: [{ host: 'c.test', port: 7000 }] },
    })
    expect(specOf({ ...conf, sync_rate: 0, redis: sentinel }).store).toMatchObject({
      kind: 'redis-sentinel',
      connection: {
        nodes: [{ host: 's.test', port: 26379 }],
        sentinel: { masterName: 'm', role: 'master', username: null, password: 'p' },
      },
    })
    expect(() => specOf({ ...conf, sync_rate: 0, redis: { ...sentinel, sentinel_role: 'any' } })).toThrow(/only the master/)
    expect(() => specOf({ ...conf, sync_rate: 0, redis: { ...sentinel, host: 'x' } })).toThrow(/exclude each other/)
    expect(() => specOf({ ...conf, sync_rate: 0, redis: { ...sentinel, sentinel_master: null } })).toThrow(/name of the master/)
  })
})

describe('configuration', () => {
  const fine = { limit: [1], window_size: [60] }
  test('nulls are unset', () => {
    const nulls = {
      strategy: null,
      sync_rate: null,
      namespace: null,
      redis: null,
      consumer_groups: null,
      identifier: null,
      throttling: null,
    }
    expect(problemsOf(rateLimitingAdvanced, { ...fine, ...nulls })).toEqual([])
  })
  test.each<[object, RegExp]>([
    [{ limit: [1, 2] }, /^window_size: You must provide the same number of windows and limits$/],
    [{ window_size: [60.05] }, /multiple of 0\.1/],
    [{ limit: [1, 2], window_size: [60, 60] }, /two windows of 60 seconds/],
    [{ strategy: 'cluster' }, /^strategy: .*database/],
    [{ strategy: 'redis' }, /^sync_rate: sync_rate is required/],
    [{ strategy: 'redis', sync_rate: 0.019 }, /^sync_rate: .*0\.02/],
    [{ sync_rate: 1 }, /^sync_rate: .*local/],
    [{ enforce_consumer_groups: true }, /^enforce_consumer_groups: .*not supported/],
    [{ consumer_groups: ['gold'] }, /^consumer_groups: .*not supported/],
    [{ throttling: { enabled: true } }, /^throttling\.enabled: .*not supported/],
    [{ identifier: 'header' }, /^header_name: identifier header needs/],
    [{ compound_identifier: ['ip', 'path'] }, /^path: identifier path needs/],
  ])('%j', (change, problem) => {
    const problems = problemsOf(rateLimitingAdvanced, { ...fine, ...change })
    expect(problems).toHaveLength(1)
    expect(problems[0]).toMatch(problem)
  })
})
