/** When a try is repeated, how long is waited for, and how many retries there may be. The tests own time and chance. */
import { describe, expect, test } from 'vitest'
import { failures } from '../../../src/base/errors.js'
import { HedgeDelay } from '../../../src/dataplane/retries/hedge-delay.js'
import { RetryBudget } from '../../../src/dataplane/retries/retry-budget.js'
import { defaultRetryPolicy, RetryPolicy, retryAfterMs } from '../../../src/dataplane/retries/retry-policy.js'
import { createUpstreamsRegion, UpstreamCells } from '../../../src/shared/upstream-cells.js'

const nothing = {
  connectFailure: false,
  reset: false,
  timeout: false,
  statuses: [],
  nonIdempotent: false,
  backoffBaseMs: 0,
  backoffMaxMs: 0,
  retryAfterMaxMs: 0,
}
const { UPSTREAM_CONNECT_FAILED, UPSTREAM_CONNECT_TIMEOUT, UPSTREAM_RESET, UPSTREAM_READ_TIMEOUT, UPSTREAM_TRY_TIMEOUT } = failures

describe('policy', () => {
  test('each cause has its failures; a connection that is not there in time is both', () => {
    const repeated = (fields: object): string[] =>
      [UPSTREAM_CONNECT_FAILED, UPSTREAM_CONNECT_TIMEOUT, UPSTREAM_RESET, UPSTREAM_READ_TIMEOUT, UPSTREAM_TRY_TIMEOUT]
        .filter((failure) => new RetryPolicy({ ...nothing, ...fields }).repeats(failure))
        .map(({ code }) => code.slice('UPSTREAM_'.length))
    expect(repeated({})).toEqual([])
    expect(repeated({ connectFailure: true })).toEqual(['CONNECT_FAILED', 'CONNECT_TIMEOUT'])
    expect(repeated({ reset: true })).toEqual(['RESET'])
    expect(repeated({ timeout: true })).toEqual(['CONNECT_TIMEOUT', 'READ_TIMEOUT', 'TRY_TIMEOUT'])
    expect([defaultRetryPolicy.statuses, defaultRetryPolicy.nonIdempotent]).toEqual([null, false])
  })

  test('backoff: random from 0 to (2^n - 1) × base, up to a maximum', () => {
    const policy = new RetryPolicy({ ...nothing, backoffBaseMs: 25, backoffMaxMs: 250 })
    expect([1, 2, 3, 4, 40].map((retry) => policy.backoffMs(retry, 1))).toEqual([25, 75, 175, 250, 250])
    expect(policy.backoffMs(3, 0.5)).toBe(87.5)
    expect(policy.backoffMs(3, 0)).toBe(0)
    expect(defaultRetryPolicy.backoffMs(3, 1)).toBe(0)
  })

  test('Retry-After: seconds and dates; anything else says nothing', () => {
    const now = Date.UTC(2026, 0, 1, 0, 0, 0)
    expect(retryAfterMs('3', now)).toBe(3000)
    expect(retryAfterMs('Thu, 01 Jan 2026 00:00:07 GMT', now)).toBe(7000)
    expect(retryAfterMs('Thu, 01 Jan 2025 00:00:07 GMT', now)).toBe(0)
    for (const odd of [undefined, '', '-1', '1.5', 'soon', '2026-01-01', '99999999999']) expect(retryAfterMs(odd, now)).toBeNull()
  })
})

describe('delay of a hedge', () => {
  test('fixed, or a percentile of what was seen, which follows a change', () => {
    expect(new HedgeDelay({ delayMs: 30, percentile: 0 }).delayMs).toBe(30)
    const learned = new HedgeDelay({ delayMs: 2, percentile: 95 })
    for (let sample = 0; sample < 99; sample++) learned.took(10)
    expect(learned.delayMs).toBeNull()
    for (let sample = 0; sample < 901; sample++) learned.took(sample % 20 === 0 ? 500 : 10)
    expect(learned.delayMs).toBeGreaterThanOrEqual(10)
    expect(learned.delayMs).toBeLessThan(12)
    for (let sample = 0; sample < 20_000; sample++) learned.took(100)
    expect(learned.delayMs).toBeGreaterThanOrEqual(100)
    for (let sample = 0; sample < 20_000; sample++) learned.took(0.1)
    expect(learned.delayMs).toBe(2)
  })
})

describe('budget', () => {
  const START = 1_000_000
  /** Two workers and their budgets for the upstream in slot 7. */
  function workers(percent: number, minPerSecond: number) {
    const region = createUpstreamsRegion()
    const budget = () => new RetryBudget(new UpstreamCells(region), 7, { percent, minPerSecond })
    return { first: budget(), second: budget(), cells: new UpstreamCells(region) }
  }
  const taken = (budget: RetryBudget, tries: number, now: number): number =>
    Array.from({ length: tries }, () => budget.take(now)).filter(Boolean).length
  /** A request that would be tried again three times; how often it was. */
  function ask(budget: RetryBudget, now: number): number {
    budget.counted(now)
    for (let again = 0; again < 3; again++) if (!budget.take(now)) return again
    return 3
  }

  test('a fifth of the requests, less what is kept back, whichever worker had them', () => {
    const { first, second } = workers(20, 0)
    let got = 0
    for (let request = 0; request < 200; request++) got += ask(request % 3 === 0 ? second : first, START)
    // What one of them has not told yet, the other cannot give.
    expect(got).toBeGreaterThanOrEqual(36)
    expect(got).toBeLessThanOrEqual(38)
  })

  test('with 100 and more percent nothing is kept back', () => {
    const { first } = workers(100, 0)
    for (let request = 0; request < 50; request++) expect(ask(first, START + request * 1000)).toBe(1)
    const { first: free } = workers(1000, 0)
    for (let request = 0; request < 50; request++) expect(ask(free, START + request * 1000)).toBe(3)
  })

  test('the minimum is there without traffic, and does not add up with the share', () => {
    const { first, cells } = workers(20, 3)
    expect(taken(first, 100, START)).toBe(6)
    // What was given is owed: these bring 5.7.
    for (let request = 0; request < 30; request++) first.counted(START)
    expect(taken(first, 100, START)).toBe(0)
    for (let request = 0; request < 20; request++) first.counted(START)
    expect(taken(first, 100, START)).toBe(3)
    expect(cells.retries(7, START)).toBe(9)
    expect(taken(first, 100, START + 2_250)).toBe(6)
  })

  test('what was saved up is lost in a tenth of a second, but for one retry', () => {
    const { first, second } = workers(20, 0)
    for (let request = 0; request < 100; request++) first.counted(START)
    expect(taken(second, 5, START + 90)).toBe(5)
    expect(taken(first, 100, START + 100)).toBe(1)
    expect(taken(second, 100, START + 100)).toBe(0)
  })

  test('amplification stays below 1.2 in a storm of hours, with gaps of any length', () => {
    const { first, second } = workers(20, 0)
    let now = START
    let requests = 0
    let retries = 0
    for (let round = 0; round < 4_000; round++) {
      const budget = round % 3 === 0 ? second : first
      for (let request = 0; request < 1 + (round % 17); request++) {
        requests++
        budget.counted(now)
        for (let again = 0; again < 3 && budget.take(now); again++) retries++
      }
      now += [1, 40, 900, 3_000, 12_000, 700][round % 6] ?? 0
    }
    expect(retries).toBeGreaterThan(requests * 0.1)
    expect(retries).toBeLessThanOrEqual(requests * 0.2)
  })

  test('a storm gets no more than a fifth of its own requests, however good the times before it were', () => {
    for (const perSecond of [40, 200, 1_500]) {
      const { first, second } = workers(20, 3)
      const share = 0.19
      const requests: number[] = []
      const retries: number[] = []
      for (let index = -5 * perSecond; index < 8 * perSecond; index++) {
        const ms = (index * 1000) / perSecond
        const budget = index % 2 === 0 ? first : second
        budget.counted(START + ms)
        if (ms < 0) continue
        requests.push(ms)
        for (let again = 0; again < 3 && budget.take(START + ms); again++) retries.push(ms)
        // At every moment: what was saved up and the least are all that may be on top.
        expect(retries.length).toBeLessThanOrEqual(
          Math.max(6, share * (requests.length + perSecond / 10), 1 + share * (requests.length + 1)),
        )
        if (ms >= 2_000) expect(retries.length).toBeLessThanOrEqual(0.2 * requests.length)
      }
      expect(retries.length).toBeGreaterThan(0.18 * requests.length)
    }
  })

  test('requests are never tried again more often than a fifth of them, from the first one on', () => {
    const { first } = workers(20, 0)
    let requests = 0
    let retries = 0
    for (let ms = 0; ms < 20_000; ms += [1, 3, 250, 2, 40][requests % 5] ?? 1) {
      requests++
      retries += ask(first, START + ms)
      expect(retries).toBeLessThanOrEqual(requests * 0.2)
    }
    expect(retries).toBeGreaterThan(requests * 0.15)
  })

  test('what is repeated in any case leaves so much less', () => {
    const { first, second } = workers(20, 0)
    for (let request = 0; request < 100; request++) first.counted(START)
    for (let stale = 0; stale < 15; stale++) first.spend(START)
    expect(taken(second, 100, START)).toBe(4)
    for (let stale = 0; stale < 15; stale++) second.spend(START)
    for (let request = 0; request < 100; request++) first.counted(START)
    expect(taken(first, 100, START)).toBe(4)
  })

  test('nothing is repeated with nothing allowed; other upstreams are not touched', () => {
    const { first, cells } = workers(0, 0)
    for (let request = 0; request < 100; request++) first.counted(START)
    expect(taken(first, 10, START)).toBe(0)
    expect([cells.balance(7), cells.balance(6), cells.balance(8), cells.retries(7, START)]).toEqual([0, 0, 0, 0])
  })
})
