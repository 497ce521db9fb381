/** Several limits of one request on a real Redis: one call, all or nothing, and decisions that are undone. */
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { RedisStore } from '../../src/cluster/redis-store.js'
import type { BoundLimiter, LimitAsk, LimiterSpec, LimitRule, StoreSpec } from '../../src/limits/contract.js'
import { createLimiterRegion } from '../../src/shared/limiter-layout.js'
import { LocalLimiterStore } from '../../src/shared/limiter-store.js'
import { RedisServer, redisMissing } from '../support/redis.js'

const SEED = 20_261_123
const HOUR_MS = 3_600_000
const limit = fc.integer({ min: 1, max: 6 })

/** So slow that nothing leaves them while a test runs. */
const slowRule: fc.Arbitrary<LimitRule> = fc.oneof(
  fc.record({
    algorithm: fc.constant('fixed-window' as const),
    limit,
    windowMs: fc.constant(1000 * HOUR_MS),
    start: fc.constant('first-hit' as const),
  }),
  fc.record({ algorithm: fc.constant('sliding-window' as const), limit, windowMs: fc.constant(1000 * HOUR_MS) }),
  fc.record({ algorithm: fc.constant('sliding-log' as const), limit, windowMs: fc.constant(HOUR_MS) }),
  fc.record({ algorithm: fc.constantFrom('token-bucket' as const, 'leaky-bucket' as const), rate: fc.constant(0.0001), burst: limit }),
  fc.record({ algorithm: fc.constant('concurrency' as const), limit, ttlMs: fc.constant(HOUR_MS) }),
)
const specList = fc.array(fc.record({ rules: fc.array(slowRule, { minLength: 1, maxLength: 3 }), dryRun: fc.boolean() }), {
  minLength: 2,
  maxLength: 4,
})
const requests = fc.array(
  fc.record({ costs: fc.array(fc.constantFrom(1, 1, 2, 3), { minLength: 4, maxLength: 4 }), isUndone: fc.boolean() }),
  {
    minLength: 4,
    maxLength: 10,
  },
)

describe.skipIf(redisMissing !== null)('limits that are decided together on Redis', () => {
  let server: RedisServer
  let store: RedisStore
  let calls = 0
  let scopes = 0

  beforeAll(async () => {
    server = await RedisServer.start()
    const count = (): void => undefined
    const counters = { failed: count, decidedByPolicy: count, leased: count, spent: count, returned: count, lost: count }
    store = new RedisStore({
      workers: 1,
      clock: systemClock,
      nodeId: 'n',
      workerId: 'n/0',
      local: new LocalLimiterStore(createLimiterRegion({ members: 1, cells: 100, logEntries: 100, seed: [1, 2] }), 0, () =>
        systemClock.wallMs(),
      ),
      counters: { ...counters, called: () => void calls++ },
      log: () => undefined,
    })
  })
  afterAll(async () => {
    await store?.close()
    await server?.close()
  })

  function storeSpec(mode: 'exact' | 'lease' = 'exact', port = server.port): StoreSpec {
    const connection = {
      nodes: [{ host: server.host, port }],
      username: null,
      password: null,
      database: 0,
      tls: null,
      timeoutMs: 60_000,
      sentinel: null,
    }
    return { kind: 'redis', mode, connection, onFailure: 'refuse' }
  }
  function bind(rules: readonly LimitRule[], more: Partial<LimiterSpec> = {}): BoundLimiter {
    return store.bind({ scope: `j${scopes++}`, rules, countRefused: false, dryRun: false, store: storeSpec(), ...more })
  }
  const askOf = (limiter: BoundLimiter, cost: number): LimitAsk => ({
    limiter,
    keys: 'k',
    cost,
    overrides: undefined,
    out: limiter.decision(),
  })
  /** Whole units: buckets leak a little while the test runs. */
  async function used(limiters: readonly BoundLimiter[]): Promise<number[][]> {
    const decisions = await Promise.all(limiters.map((limiter) => limiter.peek('k', 1, limiter.decision())))
    return decisions.map(({ rules }) => rules.map((outcome) => Math.max(0, Math.ceil(outcome.used - 0.01))))
  }

  test('all are charged or none; what is undone was never charged', async () => {
    await fc.assert(
      fc.asyncProperty(specList, requests, async (specs, sent) => {
        const limiters = specs.map(({ rules, dryRun }) => bind(rules, { dryRun }))
        for (const { costs, isUndone } of sent) {
          const before = await used(limiters)
          const asks = limiters.map((limiter, index) => askOf(limiter, costs[index] ?? 1))
          await limiters[0]?.joint?.decide(asks, false)
          const isAdmitted = asks.every(({ out }) => out.allowed)
          const expected = before.map((counts, index) => {
            const charges = isAdmitted && (asks[index]?.out.refusedBy ?? 0) < 0
            expect(asks[index]?.out.isCharged).toBe(charges)
            return counts.map((value) => (charges ? value + (costs[index] ?? 1) : value))
          })
          expect(await used(limiters)).toEqual(expected)
          if (!isUndone) continue
          for (const ask of asks) ask.limiter.giveBack(ask)
          // The first time the script is sent again as a text, behind the question.
          await expect.poll(() => used(limiters)).toEqual(before)
        }
      }),
      { seed: SEED, numRuns: 40 },
    )
  })

  test('limits that share a counter see what those before them are about to charge', async () => {
    const rules: LimitRule[] = [{ algorithm: 'sliding-log', limit: 5, windowMs: HOUR_MS }]
    const limiters = [bind(rules, { scope: 'twins' }), bind(rules, { scope: 'twins' })]
    const passed: boolean[] = []
    for (let sent = 0; sent < 3; sent++) {
      const asks = limiters.map((limiter) => askOf(limiter, 1))
      await limiters[0]?.joint?.decide(asks, false)
      passed.push(asks.every(({ out }) => out.allowed))
    }
    expect(passed).toEqual([true, true, false])
    expect(await used(limiters)).toEqual([[4], [4]])
  })

  test('take one call', async () => {
    const window: LimitRule = { algorithm: 'fixed-window', limit: 5, windowMs: HOUR_MS, start: 'clock' }
    const limiters = [bind([window, window]), bind([window]), bind([window])]
    expect(new Set(limiters.map(({ joint }) => joint)).size).toBe(1)
    const before = calls
    await limiters[0]?.joint?.decide(
      limiters.map((limiter) => askOf(limiter, 1)),
      false,
    )
    expect(calls - before).toBe(1)
  })

  test('a place in a queue is given back only while nobody stands behind it', async () => {
    const queue = bind([{ algorithm: 'leaky-bucket', rate: 0.001, burst: 5 }])
    const asks = [askOf(queue, 1), askOf(queue, 1), askOf(queue, 1)]
    for (const ask of asks) await queue.joint?.decide([ask], false)
    if (asks[1] !== undefined) queue.giveBack(asks[1])
    await used([queue])
    expect(await used([queue])).toEqual([[3]])
    if (asks[2] !== undefined) queue.giveBack(asks[2])
    await expect.poll(() => used([queue])).toEqual([[2]])
  })

  test('a leased unit goes back into the batch that it was taken from', async () => {
    const lease = bind([{ algorithm: 'fixed-window', limit: 3, windowMs: HOUR_MS, start: 'first-hit' }], { store: storeSpec('lease') })
    for (let sent = 0; sent < 10; sent++) {
      const ask = askOf(lease, 1)
      await lease.check(ask.keys, 1, ask.out)
      expect(ask.out.allowed).toBe(true)
      lease.giveBack(ask)
    }
    const passed: boolean[] = []
    for (let sent = 0; sent < 4; sent++) passed.push((await lease.check('k', 1, lease.decision())).allowed)
    expect(passed).toEqual([true, true, true, false])
  })

  test('when the server does not answer, each is decided by its own policy', async () => {
    const gone = await RedisServer.start()
    const { port } = gone
    await gone.close()
    const window: LimitRule = { algorithm: 'fixed-window', limit: 1, windowMs: HOUR_MS, start: 'clock' }
    const failing = (onFailure: 'refuse' | 'allow' | 'local') => ({ ...storeSpec('exact', port), onFailure }) as StoreSpec
    const allowing = bind([window], { store: failing('allow') })
    const local = bind([window], { store: failing('local') })
    const refusing = bind([window], { store: failing('refuse') })
    const decide = async (limiters: readonly BoundLimiter[]): Promise<string[]> => {
      const asks = limiters.map((limiter) => askOf(limiter, 1))
      await limiters[0]?.joint?.decide(asks, false)
      for (const ask of asks) if (asks.some(({ out }) => !out.allowed)) ask.limiter.giveBack(ask)
      return asks.map(({ out }) => `${out.basis} ${out.allowed}`)
    }
    expect(await decide([allowing, local, refusing])).toEqual(['allowed true', 'local true', 'refused false'])
    expect(await decide([allowing, local])).toEqual(['allowed true', 'local true'])
    expect(await decide([allowing, local])).toEqual(['allowed true', 'local false'])
  })
})
