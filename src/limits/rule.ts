/**
 * One rule on one cell, in four steps, each a pure function of (plan, words, now, cost): read → admits → report → charge. The caller
 * reads all cells of a request, charges all of them or none, and owns memory and locks. The sliding log reads its entries elsewhere
 * (shared/limiter-log) and only counts here.
 */

import { bucketAdmits, bucketDelay, bucketMark, chargeBucket, readBucket, reportBucket, undoBucket } from './bucket.js'
import { type CellReading, tickAfter, tickOf } from './cell.js'
import type { RuleOutcome } from './contract.js'
import { Kind, type RulePlan, type Verdict } from './plan.js'
import {
  chargeFixed,
  chargeSliding,
  readFixed,
  readSliding,
  reportFixed,
  reportSliding,
  slidingAdmits,
  undoFixed,
  undoSliding,
} from './window.js'

/** Expiry of a cell with holds, in ticks from now: never reused while something is in flight. 1.7 years, renewed with every hold. */
const PINNED_TICKS = 2 ** 29

/** Brings the words to `nowMs` and fills `used`, `startMs`, `endMs`, `isRepaired`. `isFresh`: no live cell, words are 0. */
export function readRule(plan: RulePlan, cell: CellReading, nowMs: number, isFresh: boolean): void {
  cell.isRepaired = false
  switch (plan.kind) {
    case Kind.slidingBelow:
    case Kind.slidingWithin:
      readSliding(plan, cell, nowMs, isFresh)
      break
    case Kind.tokenBucket:
    case Kind.leakyBucket:
      readBucket(plan, cell, nowMs, isFresh)
      break
    case Kind.log:
      cell.used = (cell.a - cell.b) >>> 0
      break
    case Kind.concurrency:
      cell.used = cell.a >>> 0
      break
    default:
      readFixed(plan, cell, nowMs, isFresh)
  }
}

export function ruleAdmits(plan: RulePlan, cell: CellReading, cost: number): boolean {
  switch (plan.kind) {
    case Kind.slidingBelow:
    case Kind.slidingWithin:
      return slidingAdmits(plan, cell, cost)
    case Kind.tokenBucket:
    case Kind.leakyBucket:
      return bucketAdmits(plan, cell, cost)
    default:
      return cell.used + cost <= plan.limit
  }
}

/** Delay of an admitted request in milliseconds. Call before `chargeRule`. */
export function ruleDelay(plan: RulePlan, cell: CellReading): number {
  return bucketDelay(plan, cell)
}

/** Fills `out` for this request. Call before `chargeRule`. */
export function reportRule(plan: RulePlan, cell: CellReading, nowMs: number, cost: number, verdict: Verdict, out: RuleOutcome): void {
  switch (plan.kind) {
    case Kind.slidingBelow:
    case Kind.slidingWithin:
      reportSliding(plan, cell, nowMs, cost, verdict, out)
      break
    case Kind.tokenBucket:
    case Kind.leakyBucket:
      reportBucket(plan, cell, cost, verdict, out)
      break
    case Kind.log:
    case Kind.concurrency:
      out.limit = plan.limit
      out.used = verdict.isCharged ? cell.used + cost : cell.used
      out.remaining = Math.max(0, plan.limit - out.used)
      reportTimes(plan, cell, nowMs, cost, verdict.isCharged, out)
      break
    default:
      reportFixed(plan, cell, nowMs, cost, verdict.isCharged, out)
  }
  if (verdict.isAdmitted) out.retryAfterMs = 0
  else out.remaining = 0
}

function reportTimes(plan: RulePlan, cell: CellReading, nowMs: number, cost: number, isCharged: boolean, out: RuleOutcome): void {
  if (plan.kind === Kind.concurrency) {
    out.resetMs = 0
    out.retryAfterMs = -1
    return
  }
  const now = Math.floor(nowMs)
  out.resetMs = isCharged ? plan.windowMs : cell.used === 0 ? 0 : Math.max(0, cell.endMs + plan.windowMs - now)
  out.retryAfterMs = cost > plan.limit ? -1 : Math.max(0, cell.startMs - now)
}

/**
 * Time that a new entry of a log gets: times never fall within a log, so a caller whose clock is a little behind writes the time of the
 * newest.
 */
export function logTime(cell: CellReading, nowMs: number): number {
  return cell.used > 0 ? Math.max(Math.floor(nowMs), cell.endMs) : Math.floor(nowMs)
}

/** Puts the words after this request into `cell`. The sliding log's entries are written by its store before this. */
export function chargeRule(plan: RulePlan, cell: CellReading, nowMs: number, cost: number): void {
  switch (plan.kind) {
    case Kind.slidingBelow:
    case Kind.slidingWithin:
      chargeSliding(cell, cost)
      break
    case Kind.tokenBucket:
    case Kind.leakyBucket:
      chargeBucket(plan, cell, cost)
      break
    case Kind.log:
      cell.a = (cell.a + cost) | 0
      // Only with countRefused are there more: the newest `limit` units decide, older ones need not be kept.
      if (cell.used + cost > plan.limit) cell.b = (cell.a - plan.limit) | 0
      cell.expiry = tickAfter(logTime(cell, nowMs) + plan.windowMs)
      break
    case Kind.concurrency:
      cell.a = (cell.a + cost) | 0
      cell.expiry = (tickOf(nowMs) + PINNED_TICKS) | 0
      break
    default:
      chargeFixed(cell, cost)
  }
}

/** Names what `chargeRule` has just charged: a window by its end, a log entry by its time, a bucket by its moment. */
export function chargeMark(plan: RulePlan, cell: CellReading, nowMs: number): number {
  switch (plan.kind) {
    case Kind.tokenBucket:
    case Kind.leakyBucket:
      return bucketMark(cell)
    case Kind.log:
      return logTime(cell, nowMs)
    case Kind.concurrency:
      return 0
    default:
      return cell.endMs
  }
}

/**
 * Takes back a charge that `mark` names, after `readRule`; false if there is nothing to take back any more. Logs are undone by their
 * store, holds by releasing them.
 */
export function undoRule(plan: RulePlan, cell: CellReading, cost: number, mark: number): boolean {
  switch (plan.kind) {
    case Kind.slidingBelow:
    case Kind.slidingWithin:
      return undoSliding(plan, cell, cost, mark)
    case Kind.tokenBucket:
    case Kind.leakyBucket:
      return undoBucket(plan, cell, cost, mark)
    case Kind.log:
    case Kind.concurrency:
      return false
    default:
      return undoFixed(cell, cost, mark)
  }
}
