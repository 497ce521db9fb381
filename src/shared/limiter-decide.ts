/**
 * Decides a spec on the limiter region: hash → lock (ascending) → find and read all cells → admit → report → charge all or none → commit.
 * Runs on any member. Synchronous, and allocates nothing per decision unless overrides are given.
 */
import { CellReading, tickOf } from '../limits/cell.js'
import {
  type BoundLimiter,
  Decision,
  LIMIT_MAX,
  type LimiterSpec,
  type LimitKeys,
  type LimitOverrides,
  type LimitRule,
  type RuleOutcome,
} from '../limits/contract.js'
import { hashText, KeyHash, mix } from '../limits/hash.js'
import { Kind, RulePlan } from '../limits/plan.js'
import { ruleProblem } from '../limits/problem.js'
import { chargeRule, readRule, reportRule, ruleAdmits, ruleDelay } from '../limits/rule.js'
import type { HoldLedger } from './limiter-holds.js'
import { Head, Stat } from './limiter-layout.js'
import type { LimiterLocks } from './limiter-locks.js'
import type { LimiterLog } from './limiter-log.js'
import { SingleDecider } from './limiter-single.js'
import { type LimiterTable, NO_CELL, ruleLane } from './limiter-table.js'

/** Rate per second up to which buckets are decided by whole milliseconds. */
const COARSE_RATE_MAX = 100

/** What the bound limiters of one member work with. */
export interface LimiterParts {
  readonly table: LimiterTable
  readonly locks: LimiterLocks
  readonly log: LimiterLog
  readonly holds: HoldLedger
  /** Wall clock, milliseconds since the epoch. */
  readonly nowMs: () => number
  /** The same with fractions, for fast buckets. */
  readonly fineNowMs: () => number
  readonly release: (hold: number) => void
}

/** One rule of a spec with what the decision at hand knows about it. */
class Line {
  readonly plan: RulePlan
  readonly cell = new CellReading()
  /** Lanes under which the cell is stored: the key's, or those shared by all keys of the rule. */
  high = 0
  low = 0
  segment = 0
  logSegment = 0
  isShared = false
  isAdmitted = false
  touched = 0

  constructor(
    readonly rule: LimitRule,
    occurrence: number,
  ) {
    this.plan = new RulePlan(rule, occurrence)
  }

  get isLog(): boolean {
    return this.plan.kind === Kind.log
  }
}

export class LocalLimiter implements BoundLimiter {
  private readonly lines: readonly Line[]
  /** Cells chosen so far by the decision at hand; NO_CELL where there is none. */
  private readonly cells: Int32Array
  private readonly hash = new KeyHash()
  private readonly seedHigh: number
  private readonly seedLow: number
  private readonly concurrencyRules: number
  private readonly verdict = { isAdmitted: false, isCharged: false }
  /** Decides on one key, where there is one rule. */
  private readonly single: SingleDecider | null
  private readonly nowMs: () => number
  private isOverridden = false

  constructor(
    readonly spec: LimiterSpec,
    private readonly parts: LimiterParts,
  ) {
    const identities = new Map<string, number>()
    this.lines = spec.rules.map((rule) => {
      const identity = JSON.stringify([rule.algorithm, 'windowMs' in rule ? rule.windowMs : 0, 'start' in rule ? rule.start : ''])
      const occurrence = identities.get(identity) ?? 0
      identities.set(identity, occurrence + 1)
      return new Line(rule, occurrence)
    })
    this.cells = new Int32Array(this.lines.length)
    this.concurrencyRules = spec.rules.filter((rule) => rule.algorithm === 'concurrency').length
    // Below, a millisecond is at most a tenth of an interval, and the plain clock costs less.
    const isFast = spec.rules.some(
      (rule) => (rule.algorithm === 'token-bucket' || rule.algorithm === 'leaky-bucket') && rule.rate > COARSE_RATE_MAX,
    )
    this.nowMs = isFast ? parts.fineNowMs : parts.nowMs
    const { words } = parts.table
    hashText(spec.scope, words[Head.seedHigh] ?? 0, words[Head.seedLow] ?? 0, this.hash)
    this.seedHigh = this.hash.high
    this.seedLow = this.hash.low
    const [first] = this.lines
    this.single =
      first === undefined || this.lines.length > 1 || first.isLog
        ? null
        : new SingleDecider(spec, first.plan, parts, this.seedHigh, this.seedLow, this.nowMs)
  }

  decision(): Decision {
    return new Decision(this.lines.length)
  }

  check(keys: LimitKeys, cost: number, out: Decision, overrides?: LimitOverrides): Decision {
    return this.decide(keys, cost, out, overrides, false)
  }

  peek(keys: LimitKeys, cost: number, out: Decision, overrides?: LimitOverrides): Decision {
    return this.decide(keys, cost, out, overrides, true)
  }

  release(hold: number): void {
    this.parts.release(hold)
  }

  private decide(keys: LimitKeys, cost: number, out: Decision, overrides: LimitOverrides | undefined, isPeek: boolean): Decision {
    if (!Number.isInteger(cost) || cost < 1 || cost > LIMIT_MAX) {
      throw new RangeError(`cost is ${cost}; it must be a whole number from 1 to ${LIMIT_MAX}`)
    }
    if (overrides !== undefined || this.isOverridden) this.override(overrides)
    if (this.single !== null && typeof keys === 'string' && this.single.decide(keys, cost, out, isPeek)) return out
    this.address(keys)
    const { locks } = this.parts
    locks.begin()
    try {
      this.lockAll()
      // Read behind the locks: a thread that slept for one decides by the time at which it decides.
      const nowMs = this.nowMs()
      const isStaged = this.decideLocked(nowMs, cost, out, isPeek)
      if (isStaged) locks.commit()
      else locks.abort()
    } catch (error) {
      locks.recover()
      throw error
    }
    return out
  }

  private override(overrides: LimitOverrides | undefined): void {
    // True also if a later rule throws: the next decision then puts the earlier ones back.
    this.isOverridden = true
    for (const [index, line] of this.lines.entries()) {
      const limit = overrides?.limits?.[index]
      const windowMs = overrides?.windowsMs?.[index]
      const { rule } = line
      const isBucket = rule.algorithm === 'token-bucket' || rule.algorithm === 'leaky-bucket'
      const changed = {
        ...rule,
        ...(limit === undefined ? {} : isBucket ? { burst: limit } : { limit }),
        ...(windowMs === undefined ? {} : { windowMs }),
      }
      const problem = ruleProblem(changed)
      if (problem !== null) throw new RangeError(`override of rule ${index} (${rule.algorithm}): ${problem}`)
      line.plan.configure(limit, windowMs)
    }
    this.isOverridden = overrides !== undefined
  }

  /** Hashes the keys and finds the segments. */
  private address(keys: LimitKeys): void {
    const { lines, hash } = this
    const { table, log } = this.parts
    if (typeof keys === 'string') hashText(keys, this.seedHigh, this.seedLow, hash)
    else if (keys.length !== lines.length) throw new RangeError(`there are ${keys.length} keys for ${lines.length} rules`)
    for (let index = 0; index < lines.length; index++) {
      const line = lines[index] as Line
      if (typeof keys !== 'string') hashText(keys[index] as string, this.seedHigh, this.seedLow, hash)
      line.high = hash.high
      line.low = ruleLane(hash.low, line.plan.salt)
      line.segment = table.segmentFor(hash.high)
      line.touched = table.touch(line.segment, line.low)
      if (line.isLog) line.logSegment = log.segmentFor(hash.high)
    }
  }

  /** Takes the locks of all segments in ascending order; those of logs lie behind those of cells. */
  private lockAll(): void {
    const { lines } = this
    const { locks } = this.parts
    if (lines.length === 1) {
      const line = lines[0] as Line
      locks.lock(line.segment)
      if (line.isLog) locks.lock(line.logSegment)
      return
    }
    for (let last = 0; ; ) {
      let next = Number.POSITIVE_INFINITY
      for (let index = 0; index < lines.length; index++) {
        const line = lines[index] as Line
        if (line.segment > last && line.segment < next) next = line.segment
        if (line.isLog && line.logSegment > last && line.logSegment < next) next = line.logSegment
      }
      if (next === Number.POSITIVE_INFINITY) return
      locks.lock(next)
      last = next
    }
  }

  /** Returns whether there is anything to commit. */
  private decideLocked(nowMs: number, cost: number, out: Decision, isPeek: boolean): boolean {
    const { lines } = this
    out.basis = 'exact'
    out.hold = -1
    out.delayMs = 0
    let refusedBy = -1
    for (let index = 0; index < lines.length; index++) {
      const line = lines[index] as Line
      line.isAdmitted = this.read(line, index, nowMs, cost, out, isPeek)
      if (!line.isAdmitted && refusedBy < 0) refusedBy = index
      if (line.isAdmitted && line.plan.kind === Kind.leakyBucket) out.delayMs = Math.max(out.delayMs, ruleDelay(line.plan, line.cell))
    }
    if (refusedBy < 0 && this.concurrencyRules > this.parts.holds.room) {
      refusedBy = 0
      out.basis = 'full'
    }
    const isFull = out.basis === 'full'
    if (isFull && !isPeek) this.parts.table.count(Stat.full)
    out.refusedBy = refusedBy
    out.allowed = refusedBy < 0 || this.spec.dryRun
    if (refusedBy >= 0 || this.spec.dryRun) out.delayMs = 0
    const isCharged = !isPeek && !isFull && (refusedBy < 0 || this.spec.countRefused)
    return this.settle(nowMs, cost, out, isCharged, isPeek)
  }

  /** Finds and reads the cell of one rule; true if the rule admits the request. */
  private read(line: Line, index: number, nowMs: number, cost: number, out: Decision, isPeek: boolean): boolean {
    const { table, log } = this.parts
    const { plan, cell } = line
    const nowTick = tickOf(nowMs)
    let at = table.find(line.segment, line.high, line.low, nowTick, this.cells, index)
    if (at === NO_CELL && !line.isLog) at = this.findShared(line, index, nowTick, out, isPeek)
    this.cells[index] = at
    const isFresh = at === NO_CELL || table.isFresh
    const { words } = table
    cell.expiry = isFresh ? 0 : (words[at + 2] as number)
    cell.a = isFresh ? 0 : (words[at + 3] as number)
    cell.b = isFresh ? 0 : (words[at + 4] as number)
    readRule(plan, cell, nowMs, isFresh)
    if (at === NO_CELL) {
      out.basis = 'full'
      return false
    }
    if (!line.isLog) return ruleAdmits(plan, cell, cost)
    log.read(line.logSegment, line.high, line.low, plan, cell, nowMs, cost)
    const isAdmitted = ruleAdmits(plan, cell, cost)
    if (isPeek || !(isAdmitted || this.spec.countRefused)) return isAdmitted
    if (log.reserve(line.logSegment, line.high, line.low, plan, cell, nowMs, Math.min(cost, plan.limit))) return isAdmitted
    out.basis = 'full'
    return false
  }

  /** The cell that all keys of this rule share when they find no place of their own. */
  private findShared(line: Line, index: number, nowTick: number, out: Decision, isPeek: boolean): number {
    const { table, locks } = this.parts
    const { overflow } = table.layout
    locks.lock(overflow)
    line.high = mix(this.seedHigh)
    line.low = ruleLane(this.seedLow, line.plan.salt)
    line.segment = overflow
    if (out.basis === 'exact') out.basis = 'shared'
    if (!isPeek) table.count(Stat.shared)
    return table.find(overflow, line.high, line.low, nowTick, this.cells, index)
  }

  /** Reports every rule, and notes the new words where something is charged or was put right. */
  private settle(nowMs: number, cost: number, out: Decision, isCharged: boolean, isPeek: boolean): boolean {
    const { lines, verdict } = this
    const { locks, log, holds } = this.parts
    let isStaged = false
    for (let index = 0; index < lines.length; index++) {
      const line = lines[index] as Line
      const { plan, cell } = line
      const at = this.cells[index] as number
      verdict.isAdmitted = line.isAdmitted
      verdict.isCharged = isCharged
      reportRule(plan, cell, nowMs, cost, verdict, out.rules[index] as RuleOutcome)
      if (at === NO_CELL || isPeek || !(isCharged || cell.isRepaired)) continue
      if (isCharged) {
        // A log keeps no more than its newest `limit` units.
        const units = line.isLog ? Math.min(cost, plan.limit) : cost
        if (line.isLog) log.append(line.logSegment, line.high, line.low, cell, nowMs, units)
        chargeRule(plan, cell, nowMs, units)
        if (plan.kind === Kind.concurrency) {
          out.hold = holds.note(at, cost, out.hold)
          locks.noteNewHold(out.hold)
        }
      }
      locks.stage(at, line.high, line.low, cell.expiry, cell.a, cell.b)
      isStaged = true
    }
    return isStaged
  }
}
