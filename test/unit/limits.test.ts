import { describe, expect, test } from 'vitest'
import { fineWallClock } from '../../src/base/clock.js'
import { HORIZON_TICKS, isLive } from '../../src/limits/cell.js'
import { Decision, LIMIT_MAX, type LimitRule, LOG_LIMIT_MAX, WINDOW_MAX_MS } from '../../src/limits/contract.js'
import { hashText, KeyHash } from '../../src/limits/hash.js'
import { specProblem } from '../../src/limits/problem.js'
import { createLimiterRegion } from '../../src/shared/limiter-layout.js'
import { LocalLimiterStore } from '../../src/shared/limiter-store.js'
import { localStore, START_MS, specOf } from '../support/limits.js'

/** Admits what it can of `times` requests. */
function admittedOf(limiter: { check(keys: string, cost: number, out: Decision): Decision }, times: number, key = 'key'): number {
  const out = new Decision(1)
  let admitted = 0
  for (let time = 0; time < times; time++) if (limiter.check(key, 1, out).allowed) admitted++
  return admitted
}

describe('sliding window, the vectors of the reference plugin (rate 10, window 60 s)', () => {
  /** State: 10 in the window before, `current` in this one, `elapsedMs` into it. Returns the verdict on one more. */
  function verdict(previous: number, current: number, elapsedMs: number) {
    const { store, time } = localStore()
    const limiter = store.bind(specOf([{ algorithm: 'sliding-window', limit: 10, windowMs: 60_000 }]))
    time.nowMs = START_MS + 59_999
    expect(admittedOf(limiter, previous)).toBe(previous)
    // Counts of this window are made at its very end, where the window before weighs next to nothing, then looked at earlier.
    time.nowMs = START_MS + 60_000 + 59_999
    expect(admittedOf(limiter, current)).toBe(current)
    time.nowMs = START_MS + 60_000 + elapsedMs
    return limiter.check('key', 1, limiter.decision())
  }

  test.each([
    [10, 4, 30_000, true, 9],
    [10, 5, 30_000, false, 10],
    [10, 0, 0, false, 10],
    [10, 0, 59_900, true, 1 / 60],
  ])('previous %d, current %d, elapsed %d ms: admitted %s at an estimate of %d', (previous, current, elapsedMs, allowed, estimate) => {
    const out = verdict(previous, current, elapsedMs)
    expect(out.allowed).toBe(allowed)
    expect(out.rules[0]?.used).toBeCloseTo(allowed ? estimate + 1 : estimate, 9)
    expect(out.rules[0]?.remaining).toBe(allowed ? Math.max(0, Math.floor(10 - estimate - 1)) : 0)
    expect(out.rules[0]?.resetMs).toBe(60_000 - elapsedMs)
  })

  test('refusals never raise the count, keys are independent, two windows later nothing is left', () => {
    const { store, time } = localStore()
    const limiter = store.bind(specOf([{ algorithm: 'sliding-window', limit: 10, windowMs: 60_000 }]))
    expect(admittedOf(limiter, 1000)).toBe(10)
    expect(limiter.peek('key', 1, new Decision(1)).rules[0]?.used).toBe(10)
    expect(admittedOf(limiter, 10, 'another key')).toBe(10)
    time.nowMs += 120_000
    expect(limiter.peek('key', 1, new Decision(1)).rules[0]).toMatchObject({ used: 0, remaining: 10 })
  })

  test('estimate-within: the window before counts as at most the limit, and cost has to fit whole', () => {
    const { store, time } = localStore()
    const limiter = store.bind(specOf([{ algorithm: 'sliding-window', limit: 10, windowMs: 60_000, boundary: 'estimate-within' }]))
    expect(admittedOf(limiter, 20)).toBe(10)
    time.nowMs += 60_000 + 6_000
    // 10 × 54 / 60 = 9: one more fits; at 9.5 it would not.
    expect(admittedOf(limiter, 5)).toBe(1)
    time.nowMs += 3_000
    expect(admittedOf(limiter, 5)).toBe(0)
  })
})

describe('token bucket, the vectors of {rate 200, burst 50}', () => {
  const rule: LimitRule = { algorithm: 'token-bucket', rate: 200, burst: 50 }

  test('offered 1000 per second for 10 s: 51 at once and 2000', () => {
    const { store, time } = localStore()
    const limiter = store.bind(specOf([rule]))
    let admitted = 0
    for (let ms = 0; ms < 10_000; ms++) {
      time.nowMs = START_MS + ms
      admitted += admittedOf(limiter, 1)
    }
    expect(admitted).toBeGreaterThanOrEqual(2050)
    expect(admitted).toBeLessThanOrEqual(2052)
  })

  test('idle for 1 s, then 60 at once: 51; consumers are independent', () => {
    const { store, time } = localStore()
    const limiter = store.bind(specOf([rule]))
    expect(admittedOf(limiter, 60)).toBe(51)
    time.nowMs += 1000
    expect(admittedOf(limiter, 60)).toBe(51)
    expect(admittedOf(limiter, 60, 'second consumer')).toBe(51)
  })

  test.each([3, 7, 0.7, 999_999, 1 / 3])('a rate of %d per second is not exceeded and not missed over a long time', (rate) => {
    const { store, time } = localStore()
    const limiter = store.bind(specOf([{ algorithm: 'token-bucket', rate, burst: 0 }]))
    const spanMs = 40_000 / rate
    let admitted = 0
    const steps = 20_000
    for (let step = 0; step < steps; step++) {
      time.nowMs = START_MS + (spanMs * step) / steps
      admitted += admittedOf(limiter, 1)
    }
    expect(admitted).toBeLessThanOrEqual(41)
    expect(admitted).toBeGreaterThanOrEqual(30)
  })

  test('rates above one per millisecond need, and get, the clock with fractions', () => {
    let us = 0
    const coarse = () => START_MS + Math.floor(us / 1000)
    const fine = fineWallClock(coarse, () => us / 1000)
    const admittedBy = (fineNowMs: () => number) => {
      const region = createLimiterRegion({ members: 1, cells: 1, logEntries: 1, seed: [1, 2] })
      const limiter = new LocalLimiterStore(region, 0, coarse, fineNowMs).bind(
        specOf([{ algorithm: 'token-bucket', rate: 10_000, burst: 0 }]),
      )
      let admitted = 0
      for (us = 0; us < 1_000_000; us += 10) admitted += admittedOf(limiter, 1)
      return admitted
    }
    expect(admittedBy(coarse)).toBe(1000)
    expect(admittedBy(fine)).toBeGreaterThan(9_000)
    expect(admittedBy(fine)).toBeLessThanOrEqual(10_001)
  })

  test('leaky bucket: the same admissions, each waits its turn', () => {
    const { store } = localStore()
    const limiter = store.bind(specOf([{ algorithm: 'leaky-bucket', rate: 4, burst: 3 }]))
    const out = limiter.decision()
    const delays = [0, 1, 2, 3].map(() => limiter.check('key', 1, out).delayMs)
    expect(delays).toEqual([0, 250, 500, 750])
    expect(limiter.check('key', 1, out)).toMatchObject({ allowed: false, delayMs: 0 })
    expect(out.rules[0]?.retryAfterMs).toBe(250)
  })
})

describe('calendar windows', () => {
  test.each([
    ['month' as const, Date.UTC(2028, 1, 29, 23, 59, 59, 999), Date.UTC(2028, 2, 1)],
    ['year' as const, Date.UTC(2027, 11, 31, 23, 59, 59, 999), Date.UTC(2028, 0, 1)],
  ])('%s ends with its last millisecond', (start, lastMs, nextMs) => {
    const { store, time } = localStore()
    const limiter = store.bind(specOf([{ algorithm: 'fixed-window', limit: 2, windowMs: 1, start }]))
    time.nowMs = lastMs - 86_400_000 * 20
    expect(admittedOf(limiter, 2)).toBe(2)
    time.nowMs = lastMs
    expect(limiter.check('key', 1, new Decision(1))).toMatchObject({ allowed: false })
    const out = limiter.peek('key', 1, new Decision(1))
    expect(out.rules[0]?.resetMs).toBe(nextMs - lastMs)
    time.nowMs = nextMs
    expect(admittedOf(limiter, 3)).toBe(2)
  })
})

describe('options of a spec', () => {
  const minute: LimitRule = { algorithm: 'fixed-window', limit: 3, windowMs: 60_000, start: 'clock' }
  const hour: LimitRule = { algorithm: 'fixed-window', limit: 5, windowMs: 3_600_000, start: 'clock' }

  test('countRefused charges every rule for refused requests', () => {
    const { store } = localStore()
    const limiter = store.bind(specOf([minute, hour], { countRefused: true }))
    const out = limiter.decision()
    for (let request = 0; request < 10; request++) limiter.check('key', 1, out)
    expect(out).toMatchObject({ allowed: false, refusedBy: 0 })
    expect(out.rules.map((rule) => rule.used)).toEqual([10, 10])
  })

  test('countRefused in a sliding log: who never stops is never admitted, in bounded memory', () => {
    const { store, time } = localStore({ logEntries: 1 })
    const limiter = store.bind(specOf([{ algorithm: 'sliding-log', limit: 40, windowMs: 1000 }], { countRefused: true }))
    expect(admittedOf(limiter, 40)).toBe(40)
    let admitted = 0
    for (let step = 0; step < 100_000; step++) {
      time.nowMs += step % 100 === 0 ? 500 : 0
      admitted += admittedOf(limiter, 1)
    }
    expect(admitted).toBe(0)
    expect(store.stats().fullDecisions).toBe(0)
    time.nowMs += 1000
    expect(admittedOf(limiter, 100)).toBe(40)
  })

  test('dryRun refuses nothing, says what would have been refused, and charges only what would have passed', () => {
    const { store } = localStore()
    const limiter = store.bind(specOf([minute], { dryRun: true }))
    const out = limiter.decision()
    const seen = Array.from({ length: 5 }, () => {
      limiter.check('key', 1, out)
      return [out.allowed, out.refusedBy, out.rules[0]?.used]
    })
    expect(seen).toEqual([
      [true, -1, 1],
      [true, -1, 2],
      [true, -1, 3],
      [true, 0, 3],
      [true, 0, 3],
    ])
  })

  test('overrides replace limit and window for one request; another window is another counter', () => {
    const { store } = localStore()
    const limiter = store.bind(specOf([minute]))
    const out = limiter.decision()
    const check = (limits?: number[], windowsMs?: number[]) =>
      limiter.check('key', 1, out, { ...(limits && { limits }), ...(windowsMs && { windowsMs }) }).allowed
    expect([check([1]), check([1]), check([2]), check([2])]).toEqual([true, false, true, false])
    expect([check([1], [1000]), check([1], [1000])]).toEqual([true, false])
    expect(limiter.check('key', 1, out).rules[0]).toMatchObject({ used: 3, limit: 3 })
    expect(() => check([-1])).toThrow('override of rule 0 (fixed-window): limit is -1; it must be a whole number from 0 to')
    // A refused override changes nothing, also where an earlier rule had taken its own.
    expect(limiter.peek('key', 1, out).rules[0]).toMatchObject({ used: 3, limit: 3 })
    const both = store.bind(specOf([minute, hour]))
    const outcome = both.decision()
    expect(() => both.check('key', 1, outcome, { limits: [9, -1] })).toThrow('override of rule 1')
    expect(both.peek('key', 1, outcome).rules.map((rule) => rule.limit)).toEqual([3, 5])
  })

  test('equal rules of one spec count for themselves; the same spec bound twice counts once', () => {
    const { store } = localStore()
    const twice = store.bind(specOf([minute, minute]))
    expect(twice.check('key', 1, twice.decision()).rules.map((rule) => rule.used)).toEqual([1, 1])
    const again = store.bind(specOf([minute, { ...minute, limit: 9 }]))
    expect(again.check('key', 1, again.decision()).rules.map((rule) => rule.used)).toEqual([2, 2])
    const elsewhere = store.bind(specOf([minute], { scope: 'other' }))
    expect(elsewhere.check('key', 1, elsewhere.decision()).rules[0]?.used).toBe(1)
  })

  test('a cost above the limit is refused for ever', () => {
    const { store } = localStore()
    const limiter = store.bind(specOf([minute]))
    expect(limiter.check('key', 4, limiter.decision()).rules[0]).toMatchObject({ retryAfterMs: -1, used: 0 })
    expect(limiter.check('key', 3, limiter.decision())).toMatchObject({ allowed: true })
  })

  test('wrong costs and key counts are named', () => {
    const { store } = localStore()
    const limiter = store.bind(specOf([minute, hour]))
    for (const cost of [0, -1, 1.5, Number.NaN, LIMIT_MAX + 1])
      expect(() => limiter.check('key', cost, limiter.decision())).toThrow(`cost is ${cost};`)
    expect(() => limiter.check(['one'], 1, limiter.decision())).toThrow('there are 1 keys for 2 rules')
  })
})

describe('what no store can do is refused by name', () => {
  const window = { algorithm: 'fixed-window', limit: 1, windowMs: 1000, start: 'clock' } as const
  test.each<[LimitRule, string]>([
    [{ ...window, limit: 1.5 }, 'limit is 1.5; it must be a whole number'],
    [{ ...window, windowMs: 0 }, 'windowMs is 0'],
    [{ ...window, windowMs: WINDOW_MAX_MS + 1 }, `windowMs is ${WINDOW_MAX_MS + 1}`],
    [{ algorithm: 'sliding-window', limit: 1, windowMs: 1050 }, 'must be a multiple of 100 ms'],
    [{ algorithm: 'sliding-log', limit: LOG_LIMIT_MAX + 1, windowMs: 1000 }, `limit is ${LOG_LIMIT_MAX + 1}`],
    [{ algorithm: 'token-bucket', rate: 0, burst: 1 }, 'rate is 0; it must be above 0'],
    [{ algorithm: 'leaky-bucket', rate: 0.000_01, burst: 1000 }, 'to drain'],
    [{ algorithm: 'concurrency', limit: 1, ttlMs: 0 }, 'ttlMs is 0'],
  ])('%o', (rule, text) => {
    expect(specProblem(specOf([rule]))).toContain(text)
    expect(() => localStore().store.bind(specOf([rule]))).toThrow(text)
  })

  test('rule counts and countRefused', () => {
    expect(specProblem(specOf([]))).toBe('there are 0 rules; 1 to 16 are possible')
    expect(specProblem(specOf(new Array<LimitRule>(17).fill(window)))).toContain('there are 17 rules')
    expect(specProblem(specOf([{ algorithm: 'token-bucket', rate: 1, burst: 1 }], { countRefused: true }))).toContain('countRefused')
    expect(specProblem(specOf([window], { countRefused: true }))).toBeNull()
  })
})

describe('the parts', () => {
  test('the clock with fractions never leaves the millisecond of the plain one, and follows its jumps at once', () => {
    let coarseMs = 1000
    let steadyMs = 7.25
    const fine = fineWallClock(
      () => coarseMs,
      () => steadyMs,
    )
    const at = (coarse: number, steady: number) => {
      coarseMs = coarse
      steadyMs = steady
      return fine()
    }
    expect([at(1000, 7.25), at(1000, 7.75), at(1001, 8.5)]).toEqual([1000, 1000.5, 1001.25])
    // Runs ahead: held back at the end of the millisecond. Lags: pushed on. Jumps: there at once.
    expect(at(1001, 9.5)).toBe(1001 + 1 - 2 ** -10)
    expect(at(1005, 9.5)).toBe(1005)
    expect(at(-3_600_000, 10)).toBe(-3_600_000 + 1 - 2 ** -10)
    expect(at(3_600_000, 10.5)).toBe(3_600_000)
  })

  test('ticks compare modulo 2^32', () => {
    expect([isLive(5, 4), isLive(4, 4), isLive(3, 4)]).toEqual([true, false, false])
    expect(isLive(-(2 ** 31) + 3, 2 ** 31 - 2)).toBe(true)
    expect(isLive(HORIZON_TICKS + 1, 0)).toBe(false)
  })

  test('hashes of a million similar keys do not collide, and another seed gives others', () => {
    const hash = new KeyHash()
    const seen = new Set<number>()
    for (let index = 0; index < 1_000_000; index++) {
      hashText(`10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`, 1, 2, hash)
      // 53 of the 64 bits: a collision among 10^6 keys has a chance of 1 in 18,000; the seed is fixed.
      seen.add((hash.high >>> 0) * 2 ** 21 + (hash.low >>> 11))
    }
    expect(seen.size).toBe(1_000_000)
    const first = [hash.high, hash.low]
    hashText('10.15.66.63', 1, 3, hash)
    expect([hash.high, hash.low]).not.toEqual(first)
  })
})
