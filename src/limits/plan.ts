/** A rule as numbers: what the deciding functions read. One object per rule, made when a spec is bound; refilled for overrides. */

import { TICK_MS } from './cell.js'
import { CLOCK_SKEW_MS, type LimitRule, WINDOW_MAX_MS } from './contract.js'
import { mix } from './hash.js'

export const Kind = {
  fixedClock: 0,
  fixedFirstHit: 1,
  fixedMonth: 2,
  fixedYear: 3,
  slidingBelow: 4,
  slidingWithin: 5,
  log: 6,
  tokenBucket: 7,
  leakyBucket: 8,
  concurrency: 9,
} as const
export type Kind = (typeof Kind)[keyof typeof Kind]

/** Units in which buckets count time: 1/40 ns, in which decimal rates divide evenly, while 2^53 of them suffice; else 1 µs. */
const FINE_UNITS_PER_MS = 40_000_000
const FINE_RANGE_MS = 200_000_000
const COARSE_UNITS_PER_MS = 1_000

export function kindOf(rule: LimitRule): Kind {
  switch (rule.algorithm) {
    case 'fixed-window':
      return { clock: Kind.fixedClock, 'first-hit': Kind.fixedFirstHit, month: Kind.fixedMonth, year: Kind.fixedYear }[rule.start]
    case 'sliding-window':
      return rule.boundary === 'estimate-within' ? Kind.slidingWithin : Kind.slidingBelow
    case 'sliding-log':
      return Kind.log
    case 'token-bucket':
      return Kind.tokenBucket
    case 'leaky-bucket':
      return Kind.leakyBucket
    case 'concurrency':
      return Kind.concurrency
  }
}

/** What was decided about a request: by this rule, and by all of them. */
export interface Verdict {
  readonly isAdmitted: boolean
  readonly isCharged: boolean
}

export class RulePlan {
  readonly kind: Kind
  /** Units per window or in flight; for buckets burst + 1. */
  limit = 0
  windowMs = 0
  /** Tells the counters of one scope and key apart. */
  salt = 0
  /** Buckets: units per millisecond, per tick, per token, and the debt beyond which a request of cost 1 is refused. */
  unitsPerMs = 0
  unitsPerTick = 0
  interval = 0
  tolerance = 0
  /** Windows that follow the clock: the last one asked for, as it stands in cells. A division less for each request in it. */
  windowFrom = 0
  windowTo = 0
  windowTick = 0

  /** `occurrence`: how many earlier rules of the spec have the same identity; equal rules must not share a counter. */
  constructor(
    private readonly rule: LimitRule,
    private readonly occurrence: number,
  ) {
    this.kind = kindOf(rule)
    this.configure(undefined, undefined)
  }

  /** Applies overrides; undefined = as configured. The caller has checked the values. */
  configure(limit: number | undefined, windowMs: number | undefined): void {
    const rule = this.rule
    if (rule.algorithm === 'token-bucket' || rule.algorithm === 'leaky-bucket') {
      this.configureBucket(rule.rate, limit ?? rule.burst)
    } else {
      this.limit = limit ?? rule.limit
      if (rule.algorithm !== 'concurrency') this.windowMs = windowMs ?? rule.windowMs
      this.windowTo = 0
    }
    const isCalendar = this.kind === Kind.fixedMonth || this.kind === Kind.fixedYear
    const shape = isCalendar ? 0 : this.windowMs
    // The two sliding readings share their counters, and a bucket keeps its counter when rate or burst change.
    const family = this.kind === Kind.slidingWithin ? Kind.slidingBelow : this.kind
    const bits = mix((shape | 0) ^ mix(Math.floor(shape / 2 ** 32) + family * 31 + this.occurrence * 1009 + 1))
    this.salt = mix(bits ^ this.unitsPerMs)
  }

  private configureBucket(rate: number, burst: number): void {
    const rangeMs = ((burst + 2) * 1000) / rate
    this.unitsPerMs = rangeMs <= FINE_RANGE_MS ? FINE_UNITS_PER_MS : COARSE_UNITS_PER_MS
    this.unitsPerTick = this.unitsPerMs * TICK_MS
    this.limit = burst + 1
    // Rounded up: the rate is never above the configured one, and below it by at most 1 in 40,000 (at 1,000,000 per second).
    this.interval = Math.ceil((1000 * this.unitsPerMs) / rate)
    this.tolerance = burst * this.interval
    this.windowMs = 0
  }
}

/** What binds rules to cells is bounded by the horizon of the cells: two windows and the skew fit by far. */
export const LONGEST_LIFE_MS = 2 * WINDOW_MAX_MS + CLOCK_SKEW_MS
