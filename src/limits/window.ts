/** Fixed windows (aligned, calendar, from the first hit) and the sliding window counter, on the words of one cell. */
import { type CellReading, exactMs, tickAfter, tickToMs } from './cell.js'
import { CLOCK_SKEW_MS, type RuleOutcome } from './contract.js'
import { Kind, type RulePlan, type Verdict } from './plan.js'

const COUNT_MAX = 2 ** 32 - 1

function calendarStart(kind: Kind, ms: number, step: number): number {
  const date = new Date(ms)
  return kind === Kind.fixedMonth ? Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + step) : Date.UTC(date.getUTCFullYear() + step, 0)
}

/** Exact for times below 2^52; the remainder of large numbers would be a call out of compiled code. */
function alignedStart(ms: number, width: number): number {
  return Math.floor(ms / width) * width
}

/** Makes the window around `now` the one that the plan remembers. Cells of it live `lifeMs` from its beginning. */
function enterWindow(plan: RulePlan, now: number, lifeMs: number): void {
  plan.windowFrom = alignedStart(now, plan.windowMs)
  plan.windowTo = plan.windowFrom + plan.windowMs
  plan.windowTick = tickAfter(plan.windowFrom + lifeMs)
}

function windowStart(plan: RulePlan, nowMs: number): number {
  if (plan.kind === Kind.fixedFirstHit) return nowMs
  if (plan.kind === Kind.fixedMonth || plan.kind === Kind.fixedYear) return calendarStart(plan.kind, nowMs, 0)
  return alignedStart(nowMs, plan.windowMs)
}

function windowEnd(plan: RulePlan, startMs: number): number {
  if (plan.kind === Kind.fixedMonth || plan.kind === Kind.fixedYear) return calendarStart(plan.kind, startMs, 1)
  return startMs + plan.windowMs
}

/** `isFresh`: there is no live cell. Fractions of milliseconds are cut. Leaves the words of the current window, but for its count. */
export function readFixed(plan: RulePlan, cell: CellReading, nowMs: number, isFresh: boolean): void {
  const now = Math.floor(nowMs)
  if (plan.kind === Kind.fixedClock && readThisWindow(plan, cell, now, isFresh)) return
  const start = windowStart(plan, now)
  cell.startMs = start
  cell.endMs = windowEnd(plan, start)
  cell.used = 0
  const storedEnd = isFresh ? 0 : exactMs(tickToMs(cell.expiry, now), cell.b)
  if (storedEnd > now) {
    cell.used = cell.a >>> 0
    if (storedEnd === cell.endMs) return
    const storedStart = plan.kind === Kind.fixedFirstHit ? storedEnd - plan.windowMs : windowStart(plan, storedEnd - 1)
    if (storedStart - now <= CLOCK_SKEW_MS) {
      cell.startMs = storedStart
      cell.endMs = storedEnd
      return
    }
    // The clock was set back: the stored window becomes the current one.
    cell.isRepaired = true
  }
  cell.expiry = tickAfter(cell.endMs)
  cell.b = cell.endMs | 0
}

/** The usual case: the cell is new, or of the window around `now`. False: nothing is done. */
function readThisWindow(plan: RulePlan, cell: CellReading, now: number, isFresh: boolean): boolean {
  if (now >= plan.windowTo || now < plan.windowFrom) enterWindow(plan, now, plan.windowMs)
  const low = plan.windowTo | 0
  if (isFresh) {
    cell.used = 0
    cell.expiry = plan.windowTick
    cell.b = low
  } else if (cell.expiry === plan.windowTick && cell.b === low) cell.used = cell.a >>> 0
  else return false
  cell.startMs = plan.windowFrom
  cell.endMs = plan.windowTo
  return true
}

export function chargeFixed(cell: CellReading, cost: number): void {
  cell.a = Math.min(COUNT_MAX, cell.used + cost) | 0
}

/** After `readFixed`. `endMs`: end of the window in which it was charged. */
export function undoFixed(cell: CellReading, cost: number, endMs: number): boolean {
  if (cell.used <= 0 || cell.endMs !== endMs) return false
  cell.a = Math.max(0, cell.used - cost) | 0
  return true
}

export function reportFixed(plan: RulePlan, cell: CellReading, nowMs: number, cost: number, isCharged: boolean, out: RuleOutcome): void {
  const used = isCharged ? Math.min(COUNT_MAX, cell.used + cost) : cell.used
  out.limit = plan.limit
  out.used = used
  out.remaining = Math.max(0, plan.limit - used)
  out.resetMs = cell.endMs - Math.floor(nowMs)
  out.retryAfterMs = cost > plan.limit ? -1 : out.resetMs
}

/** Leaves the words of the current window: a = this one, b = the one before. */
export function readSliding(plan: RulePlan, cell: CellReading, nowMs: number, isFresh: boolean): void {
  const now = Math.floor(nowMs)
  const width = plan.windowMs
  if (now >= plan.windowTo || now < plan.windowFrom) enterWindow(plan, now, 2 * width)
  cell.startMs = plan.windowFrom
  cell.endMs = plan.windowTo
  if (isFresh) {
    cell.used = 0
    cell.expiry = plan.windowTick
    return
  }
  if (cell.expiry === plan.windowTick) {
    cell.used = estimate(plan, cell, now)
    return
  }
  const storedEnd = tickToMs(cell.expiry, now) - width
  if (storedEnd < cell.endMs) {
    cell.b = storedEnd === cell.startMs ? cell.a : 0
    cell.a = 0
    cell.expiry = plan.windowTick
  } else if (storedEnd > cell.endMs) {
    if (storedEnd - width - now <= CLOCK_SKEW_MS) {
      cell.startMs = storedEnd - width
      cell.endMs = storedEnd
    } else {
      cell.isRepaired = true
      cell.expiry = plan.windowTick
    }
  }
  cell.used = estimate(plan, cell, now)
}

function previousOf(plan: RulePlan, cell: CellReading): number {
  const previous = cell.b >>> 0
  return plan.kind === Kind.slidingWithin ? Math.min(previous, plan.limit) : previous
}

function estimate(plan: RulePlan, cell: CellReading, now: number): number {
  if (cell.b === 0) return cell.a >>> 0
  const elapsed = Math.max(0, now - cell.startMs)
  return (previousOf(plan, cell) * (plan.windowMs - elapsed)) / plan.windowMs + (cell.a >>> 0)
}

export function slidingAdmits(plan: RulePlan, cell: CellReading, cost: number): boolean {
  return plan.kind === Kind.slidingWithin ? cell.used + cost <= plan.limit : cell.used + cost - 1 < plan.limit
}

export function chargeSliding(cell: CellReading, cost: number): void {
  cell.a = Math.min(COUNT_MAX, (cell.a >>> 0) + cost) | 0
}

/** After `readSliding`. `endMs`: end of the window in which it was charged; it may have become the previous one. */
export function undoSliding(plan: RulePlan, cell: CellReading, cost: number, endMs: number): boolean {
  if (cell.endMs === endMs) cell.a = Math.max(0, (cell.a >>> 0) - cost) | 0
  else if (cell.endMs === endMs + plan.windowMs) cell.b = Math.max(0, (cell.b >>> 0) - cost) | 0
  else return false
  return true
}

/** Call before `chargeSliding`: it needs the counts without this request. */
export function reportSliding(plan: RulePlan, cell: CellReading, nowMs: number, cost: number, verdict: Verdict, out: RuleOutcome): void {
  out.limit = plan.limit
  out.used = verdict.isCharged ? cell.used + cost : cell.used
  out.remaining = Math.max(0, Math.floor(plan.limit - out.used))
  out.resetMs = cell.endMs - Math.floor(nowMs)
  out.retryAfterMs = verdict.isAdmitted ? 0 : slidingRetry(plan, cell, Math.floor(nowMs), cost)
}

/** Milliseconds until this cost is admitted if nothing else arrives; −1 = never. */
function slidingRetry(plan: RulePlan, cell: CellReading, now: number, cost: number): number {
  if (cost > plan.limit) return -1
  const elapsed = Math.max(0, now - cell.startMs)
  const current = cell.a >>> 0
  const skew = Math.max(0, cell.startMs - now)
  const inThis = firstFit(plan, previousOf(plan, cell), current, cost)
  if (inThis < plan.windowMs) return skew + Math.max(0, inThis - elapsed)
  const previous = plan.kind === Kind.slidingWithin ? Math.min(current, plan.limit) : current
  return skew + plan.windowMs - elapsed + firstFit(plan, previous, 0, cost)
}

/** First whole millisecond of a window with these counts in which `cost` fits; the window's length if there is none. */
function firstFit(plan: RulePlan, previous: number, current: number, cost: number): number {
  const width = plan.windowMs
  const isWithin = plan.kind === Kind.slidingWithin
  const room = plan.limit - current - cost + (isWithin ? 0 : 1)
  if (room < 0 || (room === 0 && !isWithin)) return width
  if (previous === 0) return 0
  // previous × (width − elapsed) / width has to be ≤ room, or below room.
  const exact = width - (room * width) / previous
  return Math.min(width, Math.max(0, isWithin ? Math.ceil(exact) : Math.floor(exact) + 1))
}
