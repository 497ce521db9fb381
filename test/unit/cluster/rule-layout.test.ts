import slotOf from 'cluster-key-slot'
import { describe, expect, test } from 'vitest'
import { dividedSpec } from '../../../src/cluster/fallback.js'
import { leaseProblem } from '../../../src/cluster/lease-limiter.js'
import { settingsOf } from '../../../src/cluster/redis-store.js'
import { RuleLayout } from '../../../src/cluster/rule-layout.js'
import { settingsKey, settingsName } from '../../../src/cluster/settings.js'
import { type LimiterSpec, type LimitRule, WINDOW_MAX_MS } from '../../../src/limits/contract.js'

const minute: LimitRule = { algorithm: 'fixed-window', limit: 10, windowMs: 60_000, start: 'clock' }
const bucket: LimitRule = { algorithm: 'token-bucket', rate: 90, burst: 29 }

const connection = {
  nodes: [{ host: 'r.test', port: 6379 }],
  username: 'u',
  password: 'secret',
  database: 0,
  tls: null,
  timeoutMs: 500,
  sentinel: null,
}

function spec(change: Partial<LimiterSpec>): LimiterSpec {
  const store = { kind: 'redis', mode: 'exact', onFailure: 'refuse', connection } as const
  return { scope: 's', rules: [minute], countRefused: false, dryRun: false, store, ...change }
}

function keysOf(scope: string, keys: string | string[], rules: LimitRule[] = [minute, bucket]): string[] {
  return new RuleLayout(spec({ scope, rules }), 'sluice:').call(keys, 1, undefined).keys
}

function oneForAll(scope: string, key: string): string[] {
  return new RuleLayout(spec({ scope, rules: [minute, bucket], isOneForAll: true }), 'sluice:').call(key, 1, undefined).keys
}

describe('keys', () => {
  test.each([
    ['route/1', 'a'],
    ['{}', '}{'],
    ['a}b', 'c}d'],
    ['a', 'x'.repeat(10_000)],
  ])('scope %s: all rules of a request lie in one slot', (scope, key) => {
    for (const keys of [key, [key, 'other']]) {
      const names = keysOf(scope, keys)
      expect(new Set(names.map((name) => slotOf(name))).size).toBe(1)
      expect(Math.max(...names.map(({ length }) => length))).toBeLessThan(500)
    }
  })

  test('clients spread over slots', () => {
    const slots = new Set(Array.from({ length: 100 }, (_, index) => slotOf(keysOf('s', `client-${index}`)[0] ?? '')))
    expect(slots.size).toBeGreaterThan(90)
  })

  test('different scopes, keys, algorithms and windows never share a key', () => {
    const names = [
      keysOf('a:b', 'c'),
      keysOf('a', 'b:c'),
      keysOf('a%3ab', 'c'),
      keysOf('a', 'b', [minute, { ...minute, windowMs: 1000 }, { ...minute, start: 'first-hit' }, minute]),
      keysOf('a', 'b', [
        { ...minute, start: 'month' },
        { ...minute, start: 'year' },
        { algorithm: 'sliding-window', limit: 1, windowMs: 60_000 },
      ]),
      keysOf('a', ['b', 'b']),
      keysOf('a', 'x'.repeat(129)),
      keysOf('a', 'x'.repeat(130)),
      keysOf('b', 'a'),
      keysOf('b', ''),
      keysOf('', 'b'),
      oneForAll('a', 'b'),
      oneForAll('b', 'a'),
      keysOf('b', ['/a', 'a']),
    ].flat()
    expect(new Set(names).size).toBe(names.length)
  })

  test('limits of one client lie together, limits of everybody apart', () => {
    const scopes = Array.from({ length: 50 }, (_, index) => `routes/${index}`)
    for (const key of ['203.0.113.7', '', 'x'.repeat(500)]) {
      expect(new Set(scopes.map((scope) => slotOf(keysOf(scope, key)[0] ?? ''))).size).toBe(1)
    }
    // A list with one key is the key.
    expect(keysOf('s', ['k'], [minute])).toEqual(keysOf('s', 'k', [minute]))
    expect(new Set(scopes.map((scope) => slotOf(oneForAll(scope, 'all')[0] ?? ''))).size).toBeGreaterThan(45)
    expect(new Set(oneForAll('s', 'all').map((name) => slotOf(name))).size).toBe(1)
  })

  test('a changed limit keeps its key', () => {
    expect(
      keysOf('s', 'k', [
        { ...minute, limit: 99 },
        { ...bucket, rate: 1, burst: 1 },
      ]),
    ).toEqual(keysOf('s', 'k'))
  })

  test.each([
    [0, 'k', undefined],
    [1.5, 'k', undefined],
    [1, ['k'], undefined],
    [1, 'k', { limits: [-1] }],
    [1, 'k', { windowsMs: [undefined, 1000] }],
    [1, 'k', { windowsMs: [0] }],
  ])('cost %s, keys %s, overrides %o are refused', (cost, keys, overrides) => {
    const layout = new RuleLayout(spec({ rules: [minute, bucket] }), 'sluice:')
    expect(() => layout.call(keys, cost, overrides)).toThrow(RangeError)
  })
})

describe('specs', () => {
  test('limits are divided by the nodes, to no less than 1, and a bucket stays one that drains', () => {
    const rules: LimitRule[] = [
      minute,
      bucket,
      { ...minute, limit: 2 },
      { algorithm: 'token-bucket', rate: 10 / WINDOW_MAX_MS, burst: 0 },
      { ...minute, limit: 0 },
    ]
    const divided = dividedSpec(spec({ rules }), 3)
    expect(divided.rules).toMatchObject([{ limit: 3 }, { rate: 30, burst: 9 }, { limit: 1 }, { burst: 0 }, { limit: 0 }])
    const slow = divided.rules[3]
    expect(slow !== undefined && 'rate' in slow && 1000 / slow.rate <= WINDOW_MAX_MS).toBe(true)
    expect(divided.store).toEqual({ kind: 'local' })
    expect(divided.scope).not.toBe('s')
  })

  test('what cannot be leased is named', () => {
    expect(leaseProblem(spec({ rules: [minute, bucket] }))).toBeNull()
    expect(leaseProblem(spec({ rules: [minute, { algorithm: 'concurrency', limit: 1, ttlMs: 1000 }] }))).toMatch('concurrency')
    expect(leaseProblem(spec({ countRefused: true }))).toMatch('refused requests')
  })

  test('what Redis cannot do is named', () => {
    const cluster = { kind: 'redis-cluster', mode: 'exact', onFailure: 'allow', connection: { ...connection, database: 2 } } as const
    expect(() => settingsOf(cluster)).toThrow('redis_database 2')
    const sentinel = { masterName: 'm', role: 'slave', username: null, password: null } as const
    expect(() => settingsOf({ ...cluster, kind: 'redis-sentinel', connection: { ...connection, sentinel } })).toThrow('redis_role slave')
    expect(() => settingsOf({ ...cluster, connection: { ...connection, nodes: [] } })).toThrow('no address')
  })

  test('settings are told apart by every part, and named without secrets', () => {
    const base = settingsOf({ kind: 'redis', mode: 'exact', onFailure: 'allow', connection })
    const other = settingsOf({ kind: 'redis', mode: 'lease', onFailure: 'refuse', connection: { ...connection, password: 'other' } })
    expect(settingsKey(base)).not.toBe(settingsKey(other))
    expect(settingsKey(base)).toBe(settingsKey({ ...base }))
    expect(settingsKey(base) + settingsName(base)).not.toContain('secret')
    expect(settingsName(base)).toBe('redis r.test:6379/0')
  })
})
