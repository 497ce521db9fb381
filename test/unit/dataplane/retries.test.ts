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

  test('a fifth of the requests, whichever worker had them', () => {
    const { first, second } = workers(20, 0)
    for (let request = 0; request < 64; request++) first.counted(START)
    for (let request = 0; request < 36; request++) second.counted(START)
    expect(taken(second, 15, START)).toBe(15)
    expect(taken(first, 50, START)).toBe(5)
  })

  test('the minimum is there without traffic, and does not add up with the share', () => {
    const { first } = workers(20, 3)
    expect(taken(first, 100, START)).toBe(6)
    for (let request = 0; request < 30; request++) first.counted(START)
    expect(taken(first, 100, START)).toBe(0)
    for (let request = 0; request < 20; request++) first.counted(START)
    expect(taken(first, 100, START)).toBe(4)
  })

  test('requests and retries count for two seconds: what was saved up does not come at once later', () => {
    const { first } = workers(20, 0)
    for (let request = 0; request < 100; request++) first.counted(START)
    expect(taken(first, 12, START)).toBe(12)
    expect(taken(first, 100, START + 1_000)).toBe(8)
    expect(taken(first, 100, START + 2_250)).toBe(0)
    for (let request = 0; request < 100; request++) first.counted(START + 2_250)
    // The eight of a second ago still count.
    expect(taken(first, 100, START + 2_250)).toBe(12)
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

  test('at most a fifth in any two seconds, also in those in which a storm begins', () => {
    for (const begin of [0, 130, 400, 550, 900]) {
      const { first } = workers(20, 0)
      const retries: number[] = []
      // A request each 10 ms; from `begin` on, behind five good seconds, all of them fail.
      for (let ms = -5_000; ms < 6_000; ms += 10) {
        const now = START + begin + ms
        first.counted(now)
        if (ms >= 0) for (let again = 0; again < 3 && first.take(now); again++) retries.push(ms)
      }
      for (let from = 0; from <= 4_000; from += 50) {
        // A quarter of a second is as finely as it is known: 225 requests are a tenth more than 200.
        expect(retries.filter((ms) => ms >= from && ms < from + 2_000).length).toBeLessThanOrEqual(225 * 0.2)
      }
      expect(retries.length).toBeGreaterThan(600 * 0.15)
    }
  })

  test('what is repeated in any case leaves so much less', () => {
    const { first, second } = workers(20, 0)
    for (let request = 0; request < 100; request++) first.counted(START)
    for (let stale = 0; stale < 15; stale++) second.spend(START)
    expect(taken(first, 100, START)).toBe(5)
  })

  test('what was not told for long is not told any more; other upstreams are not touched', () => {
    const { first, cells } = workers(20, 0)
    for (let request = 0; request < 63; request++) first.counted(START)
    expect(taken(first, 10, START + 15_000)).toBe(0)
    expect(cells.traffic(7, START + 15_000)).toEqual({ requests: 0, retries: 0 })
    expect(cells.traffic(6, START)).toEqual({ requests: 0, retries: 0 })
  })
})
