/** Several limiters decided together, and decisions undone: against a second store in which only what should count is decided. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { BoundLimiter, Decision, LimitAsk, LimiterSpec, LimitRule } from '../../src/limits/contract.js'
import { localStore, START_MS, specOf, type TestStore } from '../support/limits.js'

const SEED = 20_261_123
const limit = fc.integer({ min: 0, max: 8 })
const windowMs = fc.integer({ min: 1, max: 40 }).map((grains) => grains * 100)
const bucket = { rate: fc.constantFrom(1, 5, 20, 100), burst: fc.integer({ min: 0, max: 6 }) }

const window: fc.Arbitrary<LimitRule> = fc.oneof(
  fc.record({
    algorithm: fc.constant('fixed-window' as const),
    limit,
    windowMs,
    start: fc.constantFrom('clock' as const, 'first-hit' as const),
  }),
  fc.record({
    algorithm: fc.constant('sliding-window' as const),
    limit,
    windowMs,
    boundary: fc.constantFrom('estimate-below' as const, 'estimate-within' as const),
  }),
  fc.record({ algorithm: fc.constant('sliding-log' as const), limit, windowMs }),
)
const tokens: fc.Arbitrary<LimitRule> = fc.record({ algorithm: fc.constant('token-bucket' as const), ...bucket })
const anyRule: fc.Arbitrary<LimitRule> = fc.oneof(
  { weight: 3, arbitrary: window },
  tokens,
  fc.record({ algorithm: fc.constant('leaky-bucket' as const), ...bucket }),
  fc.record({ algorithm: fc.constant('concurrency' as const), limit, ttlMs: fc.constant(1000) }),
)

interface SpecPart {
  readonly rules: LimitRule[]
  readonly kind: 'plain' | 'dry' | 'counting'
}
const parts: fc.Arbitrary<SpecPart[]> = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        rules: fc.array(anyRule, { minLength: 1, maxLength: 3 }),
        kind: fc.constantFrom('plain' as const, 'dry' as const),
      }),
    },
    fc.record({ rules: fc.array(window, { minLength: 1, maxLength: 2 }), kind: fc.constant('counting' as const) }),
  ),
  { minLength: 2, maxLength: 5 },
)
const steps = fc.array(
  fc.record({
    waitMs: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 300 }), fc.integer({ min: 0, max: 5000 })),
    costs: fc.array(fc.constantFrom(1, 1, 1, 2, 5), { minLength: 5, maxLength: 5 }),
    key: fc.integer({ min: 0, max: 1 }),
  }),
  { minLength: 10, maxLength: 60 },
)

const sizes = { cells: 4000, logEntries: 4000 }

function specsOf(list: readonly SpecPart[]): LimiterSpec[] {
  return list.map(({ rules, kind }, index) =>
    specOf(rules, { scope: `s${index}`, dryRun: kind === 'dry', countRefused: kind === 'counting' }),
  )
}

function askOf(limiter: BoundLimiter, keys: string, cost: number): LimitAsk {
  return { limiter, keys, cost, overrides: undefined, out: limiter.decision() }
}

/** What a limiter says about a key, without charging. */
function stateOf({ store }: TestStore, spec: LimiterSpec, key: string): object[] {
  const limiter = store.bind(spec)
  const { rules } = limiter.peek(key, 1, limiter.decision())
  return rules.map(({ limit, used, remaining, resetMs }) => ({ limit, used, remaining, resetMs }))
}

function present(decision: Decision): object {
  const { allowed, refusedBy, delayMs } = decision
  return { allowed, refusedBy, delayMs }
}

describe('limiters that are decided together', () => {
  test('are charged all if none refuses, and none if one does', () => {
    fc.assert(
      fc.property(parts, steps, (list, requests) => {
        const together = localStore(sizes)
        const shadow = localStore(sizes)
        const specs = specsOf(list)
        const limiters = specs.map((spec) => together.store.bind(spec))
        const shadows = specs.map((spec) => shadow.store.bind(spec))
        const open: (() => void)[] = []
        for (const { waitMs, costs, key } of requests) {
          together.time.nowMs += waitMs
          shadow.time.nowMs += waitMs
          const name = `k${key}`
          const alone = shadows.map((limiter, index) => limiter.peek(name, costs[index] ?? 1, limiter.decision()))
          const refuser = alone.findIndex(({ allowed }) => !allowed)
          const asks = limiters.map((limiter, index) => askOf(limiter, name, costs[index] ?? 1))
          limiters[0]?.joint?.decide(asks, false)
          for (const [index, spec] of specs.entries()) {
            const own = shadows[index] as (typeof shadows)[0]
            const { out } = asks[index] as LimitAsk
            expect(out.refusedBy).toBe(alone[index]?.refusedBy)
            const charges = refuser < 0 ? out.refusedBy < 0 || spec.countRefused : spec.countRefused && index <= refuser
            expect(out.isCharged).toBe(charges)
            if (charges) {
              const expected = own.check(name, costs[index] ?? 1, own.decision())
              if (refuser < 0) expect(present(out)).toEqual(present(expected))
              const { hold } = expected
              const mine = limiters[index] as (typeof limiters)[0]
              if (hold >= 0) open.push(() => [own.release(hold), mine.release(out.hold)])
            } else expect(out.hold).toBe(-1)
            expect(stateOf(together, spec, name)).toEqual(stateOf(shadow, spec, name))
          }
          // Some requests end sooner, some later.
          if (open.length > 3) open.shift()?.()
        }
      }),
      { seed: SEED, numRuns: 150 },
    )
  })

  test('that share their counters see what those before them are about to charge', () => {
    const shared: fc.Arbitrary<LimitRule> = fc.oneof(window, tokens)
    fc.assert(
      fc.property(shared, fc.integer({ min: 2, max: 4 }), steps, (rule, count, requests) => {
        const together = localStore(sizes)
        const shadow = localStore(sizes)
        const spec = specOf([rule])
        const limiters = Array.from({ length: count }, () => together.store.bind(spec))
        const once = shadow.store.bind(spec)
        for (const { waitMs, costs, key } of requests) {
          together.time.nowMs += waitMs
          shadow.time.nowMs += waitMs
          const asks = limiters.map((limiter, index) => askOf(limiter, `k${key}`, costs[index] ?? 1))
          limiters[0]?.joint?.decide(asks, false)
          const sum = asks.reduce((total, { cost }) => total + cost, 0)
          const expected = once.check(`k${key}`, sum, once.decision())
          expect(asks.every(({ out }) => out.allowed)).toBe(expected.allowed)
          expect(stateOf(together, spec, `k${key}`)).toEqual(stateOf(shadow, spec, `k${key}`))
        }
      }),
      { seed: SEED, numRuns: 150 },
    )
  })

  test('hold and release one by one', () => {
    const { store } = localStore()
    const rule: LimitRule = { algorithm: 'concurrency', limit: 2, ttlMs: 1000 }
    const limiters = ['a', 'b'].map((scope) => store.bind(specOf([rule, rule], { scope })))
    const asks = limiters.map((limiter) => askOf(limiter, 'k', 1))
    limiters[0]?.joint?.decide(asks, false)
    const used = () => limiters.map((limiter) => limiter.peek('k', 1, limiter.decision()).rules.map((outcome) => outcome.used))
    expect(used()).toEqual([
      [1, 1],
      [1, 1],
    ])
    limiters[1]?.release(asks[1]?.out.hold ?? -1)
    expect(used()).toEqual([
      [1, 1],
      [0, 0],
    ])
    limiters[0]?.release(asks[0]?.out.hold ?? -1)
    expect(used()).toEqual([
      [0, 0],
      [0, 0],
    ])
  })

  test('are refused by name when they are too many, or one is asked twice', () => {
    const { store } = localStore()
    const rule: LimitRule = { algorithm: 'fixed-window', limit: 2, windowMs: 1000, start: 'clock' }
    const many = Array.from({ length: 5 }, (_, index) =>
      store.bind(
        specOf(
          Array.from({ length: 16 }, () => rule),
          { scope: `${index}` },
        ),
      ),
    )
    const [first] = many
    if (first === undefined) throw new Error('there are five')
    expect(() =>
      first.joint?.decide(
        many.map((limiter) => askOf(limiter, 'k', 1)),
        false,
      ),
    ).toThrow(/80 rules .* at most 64/)
    expect(() => first.joint?.decide([askOf(first, 'k', 1), askOf(first, 'k', 1)], false)).toThrow(/asked twice/)
    expect(first.check('k', 1, first.decision()).rules[0]).toMatchObject({ used: 1 })
  })
})

describe('a decision that is undone', () => {
  test('was never made: the state is that of a store which did not see it', () => {
    fc.assert(
      fc.property(
        fc.array(window, { minLength: 1, maxLength: 3 }),
        steps,
        fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 60, maxLength: 60 }),
        (rules, requests, fates) => {
          const real = localStore(sizes)
          const shadow = localStore(sizes)
          const spec = specOf(rules.map((rule) => ({ ...rule, limit: 1000 })))
          const limiter = real.store.bind(spec)
          const own = shadow.store.bind(spec)
          const undone: LimitAsk[] = []
          for (const [index, { waitMs, costs, key }] of requests.entries()) {
            real.time.nowMs += waitMs
            shadow.time.nowMs += waitMs
            // A window that begins with its first hit begins with this one in the real store: time stands still between the two.
            const name = `k${key}`
            const [cost = 1] = costs
            own.check(name, cost, own.decision())
            limiter.check(name, cost, limiter.decision())
            if (fates[index] === 0) {
              const ask = askOf(limiter, name, costs[1] ?? 1)
              limiter.check(name, ask.cost, ask.out)
              undone.push(ask)
            }
            if (fates[index] !== 1) for (const ask of undone.splice(0)) limiter.giveBack(ask)
            if (undone.length === 0) expect(stateOf(real, spec, name)).toEqual(stateOf(shadow, spec, name))
          }
        },
      ),
      { seed: SEED, numRuns: 150 },
    )
  })

  test('gives tokens back, and a place in a queue only while nobody stands behind it', () => {
    const { store, time } = localStore()
    time.nowMs = START_MS
    const token = store.bind(specOf([{ algorithm: 'token-bucket', rate: 10, burst: 4 }], { scope: 't' }))
    const asks = [askOf(token, 'k', 2), askOf(token, 'k', 1)]
    for (const ask of asks) token.check(ask.keys, ask.cost, ask.out)
    for (const ask of asks) token.giveBack(ask)
    for (const ask of asks) token.giveBack(ask)
    expect(token.peek('k', 1, token.decision()).rules[0]).toMatchObject({ used: 0, remaining: 5 })

    const queue = store.bind(specOf([{ algorithm: 'leaky-bucket', rate: 10, burst: 4 }], { scope: 'q' }))
    const [first, second, third] = [askOf(queue, 'k', 1), askOf(queue, 'k', 1), askOf(queue, 'k', 1)]
    for (const ask of [first, second, third]) queue.check(ask.keys, ask.cost, ask.out)
    queue.giveBack(second)
    expect(queue.peek('k', 1, queue.decision()).delayMs).toBe(300)
    queue.giveBack(third)
    expect(queue.peek('k', 1, queue.decision()).delayMs).toBe(200)
  })

  test('in a window that is over gives nothing to the next', () => {
    for (const rule of [
      { algorithm: 'fixed-window', limit: 3, windowMs: 1000, start: 'clock' },
      { algorithm: 'fixed-window', limit: 3, windowMs: 1000, start: 'first-hit' },
      { algorithm: 'sliding-log', limit: 3, windowMs: 1000 },
    ] as const) {
      const { store, time } = localStore()
      const limiter = store.bind(specOf([rule]))
      const ask = askOf(limiter, 'k', 2)
      limiter.check('k', 2, ask.out)
      time.nowMs += 1500
      limiter.check('k', 1, limiter.decision())
      limiter.giveBack(ask)
      expect(limiter.peek('k', 1, limiter.decision()).rules[0]?.used).toBe(1)
    }
  })
})
