import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { CLOCK_SKEW_MS, type LimitRule } from '../../src/limits/contract.js'
import { modelOf } from '../support/limit-models.js'
import { localStore, START_MS, specOf } from '../support/limits.js'

/** Printed by fast-check with a counterexample. */
const SEED = 20_260_102

const limit = fc.integer({ min: 0, max: 12 })
const rate = fc.constantFrom(0.5, 1, 2, 4, 5, 10, 20, 50, 100, 200, 1000)
const burst = fc.integer({ min: 0, max: 8 })

type TimedRule = Exclude<LimitRule, { algorithm: 'concurrency' }>

const rules: Record<string, fc.Arbitrary<TimedRule>> = {
  'fixed window by the clock': fc.record({
    algorithm: fc.constant('fixed-window' as const),
    limit,
    windowMs: fc.integer({ min: 1, max: 5000 }),
    start: fc.constant('clock' as const),
  }),
  'fixed window from the first hit': fc.record({
    algorithm: fc.constant('fixed-window' as const),
    limit,
    windowMs: fc.integer({ min: 1, max: 5000 }),
    start: fc.constant('first-hit' as const),
  }),
  'sliding window': fc.record({
    algorithm: fc.constant('sliding-window' as const),
    limit,
    windowMs: fc.integer({ min: 1, max: 40 }).map((grains) => grains * 100),
    boundary: fc.constantFrom('estimate-below' as const, 'estimate-within' as const),
  }),
  'sliding log': fc.record({
    algorithm: fc.constant('sliding-log' as const),
    limit: fc.integer({ min: 0, max: 80 }),
    windowMs: fc.integer({ min: 1, max: 5000 }),
  }),
  'token bucket': fc.record({ algorithm: fc.constant('token-bucket' as const), rate, burst }),
  'leaky bucket': fc.record({ algorithm: fc.constant('leaky-bucket' as const), rate, burst }),
}

const steps = fc.array(
  fc.record({
    waitMs: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 50 }), fc.integer({ min: 0, max: 6000 })),
    cost: fc.oneof({ weight: 3, arbitrary: fc.constant(1) }, fc.integer({ min: 1, max: 9 })),
    key: fc.integer({ min: 0, max: 2 }),
  }),
  { minLength: 20, maxLength: 150 },
)
/** Also around the moments at which the 32-bit milliseconds and the 32-bit ticks of cells wrap. */
const starts = fc.constantFrom(
  START_MS,
  Math.ceil(START_MS / 2 ** 32) * 2 ** 32 - 3000,
  Math.ceil(START_MS / 2 ** 31) * 2 ** 31 - 3000,
  5 * 2 ** 32 * 100 - 3000,
)

describe('the engine does what the simple model does', () => {
  test.each(Object.entries(rules))('%s', (_, ruleOf) => {
    fc.assert(
      fc.property(ruleOf, steps, starts, (rule, todo, startMs) => {
        const { store, time } = localStore()
        const limiter = store.bind(specOf([rule]))
        const models = [modelOf(rule), modelOf(rule), modelOf(rule)]
        const out = limiter.decision()
        time.nowMs = startMs
        for (const { waitMs, cost, key } of todo) {
          time.nowMs += waitMs
          const model = models[key]
          if (model === undefined) throw new Error('three keys')
          const expected = model.admits(time.nowMs, cost)
          expect(limiter.peek(`key${key}`, cost, out)).toMatchObject({ allowed: expected })
          limiter.check(`key${key}`, cost, out)
          if (expected) model.charge(time.nowMs, cost)
          expect({ allowed: out.allowed, basis: out.basis, remaining: out.rules[0]?.remaining }).toEqual({
            allowed: expected,
            basis: 'exact',
            remaining: expected ? model.remaining(time.nowMs) : 0,
          })
        }
      }),
      { seed: SEED, numRuns: 150 },
    )
  })

  test('a refused request is told the first moment at which it would be admitted', () => {
    fc.assert(
      fc.property(fc.oneof(...Object.values(rules)), steps, (rule, todo) => {
        const { store, time } = localStore()
        const limiter = store.bind(specOf([rule]))
        const out = limiter.decision()
        const later = limiter.decision()
        for (const { waitMs, cost } of todo) {
          time.nowMs += waitMs
          limiter.check('key', cost, out)
          if (out.allowed) continue
          const retry = out.rules[0]?.retryAfterMs ?? 0
          const refusedAt = time.nowMs
          if (retry < 0) {
            const most = 'limit' in rule ? rule.limit : rule.burst + 1
            expect(cost).toBeGreaterThan(most)
            continue
          }
          time.nowMs = refusedAt + Math.ceil(retry)
          expect(limiter.peek('key', cost, later)).toMatchObject({ allowed: true })
          time.nowMs = refusedAt + Math.ceil(retry) - 1
          expect(limiter.peek('key', cost, later)).toMatchObject({ allowed: false })
          time.nowMs = refusedAt
        }
      }),
      { seed: SEED, numRuns: 300 },
    )
  })
})

describe('several rules of one request', () => {
  const ruleOf = fc.oneof(...Object.values(rules))

  test('are charged all or none, each as if alone', () => {
    fc.assert(
      fc.property(fc.array(ruleOf, { minLength: 2, maxLength: 6 }), steps, fc.boolean(), (many, todo, ownKeys) => {
        const { store, time } = localStore()
        const limiter = store.bind(specOf(many))
        const out = limiter.decision()
        const models = [0, 1, 2].map(() => many.map((rule) => modelOf(rule)))
        for (const { waitMs, cost, key } of todo) {
          time.nowMs += waitMs
          const row = models[key] ?? []
          const refusedBy = row.findIndex((model) => !model.admits(time.nowMs, cost))
          limiter.check(ownKeys ? many.map((_, index) => `${key}/${index}`) : `key${key}`, cost, out)
          expect({ allowed: out.allowed, refusedBy: out.refusedBy }).toEqual({ allowed: refusedBy < 0, refusedBy })
          if (refusedBy < 0) for (const model of row) model.charge(time.nowMs, cost)
          out.rules.forEach((outcome, index) => {
            const model = row[index]
            if (model?.admits(time.nowMs, cost) === true) expect(outcome.remaining).toBe(model.remaining(time.nowMs))
          })
        }
      }),
      { seed: SEED, numRuns: 150 },
    )
  })
})

describe('clock steps', () => {
  test('back by an hour: nothing extra is admitted, and nobody waits longer than a full window or bucket', () => {
    fc.assert(
      fc.property(fc.oneof(...Object.values(rules)), fc.integer({ min: 3000, max: 7_200_000 }), (rule, stepMs) => {
        const { store, time } = localStore()
        const limiter = store.bind(specOf([rule]))
        const out = limiter.decision()
        time.nowMs = START_MS + 10_000
        while (limiter.check('key', 1, out) && out.allowed) time.nowMs += 0
        const most = 'limit' in rule ? rule.limit : rule.burst + 1
        time.nowMs -= stepMs
        // Twice, because the first decision after the step puts the cell right.
        for (let again = 0; again < 2; again++) expect(limiter.check('key', 1, out)).toMatchObject({ allowed: false })
        if (most === 0) return
        const longestMs =
          'windowMs' in rule ? rule.windowMs * (rule.algorithm === 'sliding-window' ? 2 : 1) : ((rule.burst + 1) * 1000) / rule.rate
        time.nowMs += longestMs + CLOCK_SKEW_MS
        expect(limiter.check('key', 1, out)).toMatchObject({ allowed: true })
      }),
      { seed: SEED, numRuns: 300 },
    )
  })

  test('forth by an hour: at most one extra limit', () => {
    fc.assert(
      fc.property(fc.oneof(...Object.values(rules)), (rule) => {
        const { store, time } = localStore()
        const limiter = store.bind(specOf([rule]))
        const out = limiter.decision()
        const drain = () => {
          let admitted = 0
          while (limiter.check('key', 1, out) && out.allowed) admitted++
          return admitted
        }
        const most = 'limit' in rule ? rule.limit : rule.burst + 1
        expect(drain()).toBe(most)
        time.nowMs += 3_600_000
        expect(drain()).toBe(most)
      }),
      { seed: SEED, numRuns: 100 },
    )
  })

  test('any number of steps, back and forth, also around the wraps: at most one extra limit for each step forth', () => {
    const walk = fc.array(
      fc.oneof(
        { weight: 12, arbitrary: fc.integer({ min: 0, max: 300 }) },
        { weight: 1, arbitrary: fc.constantFrom(-3_600_000, 3_600_000) },
      ),
      { minLength: 50, maxLength: 200 },
    )
    fc.assert(
      fc.property(fc.oneof(...Object.values(rules)), walk, starts, (rule, moves, startMs) => {
        const { store, time } = localStore()
        const limiter = store.bind(specOf([rule]))
        const out = limiter.decision()
        time.nowMs = startMs
        let admitted = 0
        let elapsedMs = 0
        let forth = 0
        for (const ms of moves) {
          time.nowMs += ms
          if (ms === 3_600_000) forth++
          else if (ms >= 0) elapsedMs += ms
          limiter.check('key', 1, out)
          if (out.allowed) admitted++
        }
        const most = 'limit' in rule ? rule.limit : rule.burst + 1
        // By true time: two windows may touch, an estimate may err by one unit a window, buckets refill. A step back shifts by the skew.
        const windows = 'windowMs' in rule ? Math.floor(elapsedMs / rule.windowMs) + 2 : 0
        const own = 'windowMs' in rule ? windows * (most + 1) : most + (elapsedMs * rule.rate) / 1000
        expect(admitted).toBeLessThanOrEqual(own + forth * (most + 1) + 1)
      }),
      { seed: SEED, numRuns: 300 },
    )
  })

  test('callers whose clocks differ by up to two seconds count in the same window', () => {
    fc.assert(
      fc.property(
        fc.oneof(...Object.values(rules)),
        fc.array(fc.integer({ min: 0, max: 2000 }), { minLength: 30, maxLength: 60 }),
        (rule, jitter) => {
          const { store, time } = localStore()
          const limiter = store.bind(specOf([rule]))
          const out = limiter.decision()
          const aheadMs = START_MS + 20_000
          let admitted = 0
          time.nowMs = aheadMs
          // All happen "now" for the caller that is ahead, whose request was the first.
          for (const behind of [0, ...jitter]) {
            time.nowMs = aheadMs - behind
            limiter.check('key', 1, out)
            if (out.allowed) admitted++
          }
          expect(admitted).toBeLessThanOrEqual('limit' in rule ? rule.limit : rule.burst + 1)
        },
      ),
      { seed: SEED, numRuns: 300 },
    )
  })
})
