/**
 * The common case of shared/limiter-decide in one piece: one rule (no sliding log), one key. The same steps on the same cells under the
 * same lock, without lists, staging and a second lock; whatever is not common (no place in the table, no room for a hold) is left
 * untouched to the general way.
 */
import { CellReading, isLive, tickOf } from '../limits/cell.js'
import type { Decision, LimiterSpec, RuleOutcome } from '../limits/contract.js'
import { hashText, KeyHash } from '../limits/hash.js'
import { Kind, type RulePlan } from '../limits/plan.js'
import { chargeMark, chargeRule, readRule, reportRule, ruleAdmits, ruleDelay } from '../limits/rule.js'
import type { LimiterParts } from './limiter-line.js'
import { NO_CELL, ruleLane } from './limiter-table.js'

const noneTaken = new Int32Array(0)

export class SingleDecider {
  private readonly words: Int32Array
  private readonly hash = new KeyHash()
  private readonly cell = new CellReading()
  private readonly verdict = { isAdmitted: false, isCharged: false }
  private readonly isConcurrency: boolean
  /** Keeps the reading ahead of `touch` from being dropped as useless. */
  touched = 0

  constructor(
    private readonly spec: LimiterSpec,
    private readonly plan: RulePlan,
    private readonly parts: LimiterParts,
    private readonly seedHigh: number,
    private readonly seedLow: number,
    private readonly nowMs: () => number,
  ) {
    this.words = parts.table.words
    this.isConcurrency = plan.kind === Kind.concurrency
  }

  /** False: nothing was done, this decision needs the general way. `cost` is checked. */
  decide(key: string, cost: number, out: Decision, isPeek: boolean): boolean {
    const { hash, plan } = this
    const { table, locks } = this.parts
    hashText(key, this.seedHigh, this.seedLow, hash)
    const high = hash.high
    const low = ruleLane(hash.low, plan.salt)
    const segment = table.segmentFor(high)
    const home = table.homeFor(segment, low)
    // Both lines of memory at once: see LimiterTable.touch.
    this.touched = (this.words[home] as number) ^ (this.words[segment] as number)
    locks.lockOnly(segment)
    try {
      return this.decideLocked(segment, home, high, low, cost, out, isPeek)
    } catch (error) {
      locks.recover()
      throw error
    }
  }

  private decideLocked(segment: number, home: number, high: number, low: number, cost: number, out: Decision, isPeek: boolean): boolean {
    const { cell, plan, spec, verdict, words } = this
    const { holds, locks, table } = this.parts
    // Read behind the lock: a thread that slept for it decides by the time at which it decides.
    const nowMs = this.nowMs()
    const nowTick = tickOf(nowMs)
    let at = table.inHome(home, high, low)
    let isFresh = false
    if (at !== NO_CELL) isFresh = !isLive(words[at + 2] as number, nowTick)
    else {
      at = table.find(segment, high, low, nowTick, noneTaken, 0)
      isFresh = table.isFresh
    }
    if (at === NO_CELL || (this.isConcurrency && holds.room === 0)) {
      locks.unlockOnly(segment)
      return false
    }
    cell.expiry = isFresh ? 0 : (words[at + 2] as number)
    cell.a = isFresh ? 0 : (words[at + 3] as number)
    cell.b = isFresh ? 0 : (words[at + 4] as number)
    readRule(plan, cell, nowMs, isFresh)
    const isAdmitted = ruleAdmits(plan, cell, cost)
    const isCharged = !isPeek && (isAdmitted || spec.countRefused)
    out.basis = 'exact'
    out.hold = -1
    out.refusedBy = isAdmitted ? -1 : 0
    out.allowed = isAdmitted || spec.dryRun
    out.delayMs = isAdmitted && plan.kind === Kind.leakyBucket && !spec.dryRun ? ruleDelay(plan, cell) : 0
    verdict.isAdmitted = isAdmitted
    verdict.isCharged = isCharged
    out.isCharged = isCharged
    const outcome = out.rules[0] as RuleOutcome
    reportRule(plan, cell, nowMs, cost, verdict, outcome)
    if (isCharged) {
      chargeRule(plan, cell, nowMs, cost)
      outcome.mark = chargeMark(plan, cell, nowMs)
      if (this.isConcurrency) {
        out.hold = holds.take()
        locks.commitHold(segment, at, high, low, cell, holds.addressOf(out.hold), cost)
        return true
      }
      locks.commitOnly(segment, at, high, low, cell)
    } else if (cell.isRepaired && !isPeek) locks.commitOnly(segment, at, high, low, cell)
    else locks.unlockOnly(segment)
    return true
  }
}
