/**
 * Token bucket and leaky bucket, both as GCRA: the state is one moment, at which the bucket is full (or the queue empty) again. It is also
 * the expiry of the cell: a bucket that is full and one that was never used are the same.
 *
 *   debt      = max(0, that moment − now)          in units of the plan, whole numbers: no rounding adds up
 *   admitted  = debt + (cost − 1) × interval ≤ burst × interval
 *   charge    : moment = now + debt + cost × interval
 */
import { type CellReading, TICK_MS } from './cell.js'
import { CLOCK_SKEW_MS, type RuleOutcome } from './contract.js'
import { mix } from './hash.js'
import { Kind, type RulePlan, type Verdict } from './plan.js'

export function readBucket(plan: RulePlan, cell: CellReading, nowMs: number, isFresh: boolean): void {
  cell.used = 0
  const nowTick = Math.floor(nowMs / TICK_MS)
  cell.startMs = nowTick
  cell.endMs = Math.floor((nowMs - nowTick * TICK_MS) * plan.unitsPerMs)
  if (isFresh) return
  const debt = ((cell.expiry - nowTick) | 0) * plan.unitsPerTick - (cell.a >>> 0) - cell.endMs
  if (debt <= 0) return
  const most = plan.tolerance + plan.interval
  if (debt > most + CLOCK_SKEW_MS * plan.unitsPerMs) {
    // The clock was set back, or the burst was lowered: nobody owes more than a full bucket.
    cell.used = most
    cell.isRepaired = true
    setMoment(plan, cell, most)
    return
  }
  cell.used = debt
}

/** Writes "full again in `debt` units from now" into the words. */
function setMoment(plan: RulePlan, cell: CellReading, debt: number): void {
  const tick = plan.unitsPerTick
  const moment = cell.endMs + debt
  let ticks = Math.ceil(moment / tick)
  // The division may round down to a whole number.
  if (ticks * tick < moment) ticks++
  cell.expiry = (cell.startMs + ticks) | 0
  cell.a = (ticks * tick - moment) | 0
  cell.b = 0
}

export function bucketAdmits(plan: RulePlan, cell: CellReading, cost: number): boolean {
  return cell.used + (cost - 1) * plan.interval <= plan.tolerance
}

export function chargeBucket(plan: RulePlan, cell: CellReading, cost: number): void {
  setMoment(plan, cell, cell.used + cost * plan.interval)
}

/** Names the moment that is written. */
export function bucketMark(cell: CellReading): number {
  return mix(cell.expiry ^ mix(cell.a))
}

/** After `readBucket`. Tokens always go back; a place in a queue only while nobody stands behind it, because those have their times. */
export function undoBucket(plan: RulePlan, cell: CellReading, cost: number, mark: number): boolean {
  if (cell.used <= 0 || (plan.kind === Kind.leakyBucket && bucketMark(cell) !== mark)) return false
  setMoment(plan, cell, Math.max(0, cell.used - cost * plan.interval))
  return true
}

/** Milliseconds that an admitted request stands in the queue. */
export function bucketDelay(plan: RulePlan, cell: CellReading): number {
  return plan.kind === Kind.leakyBucket ? cell.used / plan.unitsPerMs : 0
}

export function reportBucket(plan: RulePlan, cell: CellReading, cost: number, verdict: Verdict, out: RuleOutcome): void {
  const debt = verdict.isCharged ? cell.used + cost * plan.interval : cell.used
  out.limit = plan.limit
  out.used = debt / plan.interval
  out.remaining = Math.max(0, Math.floor((plan.tolerance + plan.interval - debt) / plan.interval))
  out.resetMs = debt / plan.unitsPerMs
  if (verdict.isAdmitted) out.retryAfterMs = 0
  else out.retryAfterMs = cost > plan.limit ? -1 : Math.max(0, (cell.used + (cost - 1) * plan.interval - plan.tolerance) / plan.unitsPerMs)
}
