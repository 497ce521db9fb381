/**
 * Decides a spec on the limiter region: hash → lock (ascending) → find and read all cells → admit → report → charge all or none → commit.
 * Runs on any member. Synchronous, and allocates nothing per decision unless overrides are given.
 */
import { tickOf } from '../limits/cell.js'
import {
  type BoundLimiter,
  Decision,
  type JointDecider,
  LIMIT_MAX,
  type LimitAsk,
  type LimiterSpec,
  type LimitKeys,
  type LimitOverrides,
  type RuleOutcome,
} from '../limits/contract.js'
import { hashText, KeyHash, mix } from '../limits/hash.js'
import { Kind } from '../limits/plan.js'
import { ruleProblem } from '../limits/problem.js'
import { chargeMark, chargeRule, readRule, reportRule, ruleAdmits, ruleDelay, undoRule } from '../limits/rule.js'
import { Head, Stat } from './limiter-layout.js'
import { type LimiterParts, Line } from './limiter-line.js'
import { SingleDecider } from './limiter-single.js'
import { NO_CELL, ruleLane } from './limiter-table.js'

/** Rate per second up to which buckets are decided by whole milliseconds. */
const COARSE_RATE_MAX = 100

function isFull(out: Decision): boolean {
  return out.basis === 'full'
}

export class LocalLimiter implements BoundLimiter {
  readonly lines: readonly Line[]
  /** Cells chosen so far by the decision at hand; NO_CELL where there is none. */
  private readonly cells: Int32Array
  private readonly hash = new KeyHash()
  private readonly seedHigh: number
  private readonly seedLow: number
  readonly concurrencyRules: number
  private readonly verdict = { isAdmitted: false, isCharged: false }
  /** Decides on one key, where there is one rule. */
  private readonly single: SingleDecider | null
  readonly nowMs: () => number
  private isOverridden = false

  constructor(
    readonly spec: LimiterSpec,
    private readonly parts: LimiterParts,
    readonly joint: JointDecider | null = null,
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
    this.admitQuestion(cost, overrides)
    if (this.single !== null && typeof keys === 'string' && this.single.decide(keys, cost, out, isPeek)) return out
    this.address(keys)
    const { locks } = this.parts
    locks.begin()
    try {
      this.lockAll()
      // Read behind the locks: a thread that slept for one decides by the time at which it decides.
      const nowMs = this.nowMs()
      this.readAll(nowMs, cost, out, isPeek, this.cells, 0)
      if (out.refusedBy < 0 && this.concurrencyRules > this.parts.holds.room) this.refuseFull(out, isPeek)
      const isCharged = !isPeek && !isFull(out) && (out.refusedBy < 0 || this.spec.countRefused)
      if (this.settle(nowMs, cost, out, isCharged, isPeek)) locks.commit()
      else locks.abort()
    } catch (error) {
      locks.recover()
      throw error
    }
    return out
  }

  /** Checks what is asked, applies overrides, finds the segments. */
  prepare(keys: LimitKeys, cost: number, overrides: LimitOverrides | undefined): void {
    this.admitQuestion(cost, overrides)
    this.address(keys)
  }

  private admitQuestion(cost: number, overrides: LimitOverrides | undefined): void {
    if (!Number.isInteger(cost) || cost < 1 || cost > LIMIT_MAX) {
      throw new RangeError(`cost is ${cost}; it must be a whole number from 1 to ${LIMIT_MAX}`)
    }
    if (overrides !== undefined || this.isOverridden) this.override(overrides)
  }

  giveBack(ask: LimitAsk): void {
    const { out, cost } = ask
    this.release(out.hold)
    out.hold = -1
    if (!out.isCharged) return
    out.isCharged = false
    this.prepare(ask.keys, cost, ask.overrides)
    const { locks } = this.parts
    locks.begin()
    try {
      this.lockAll()
      if (this.undo(this.nowMs(), cost, out)) locks.commit()
      else locks.abort()
    } catch (error) {
      locks.recover()
      throw error
    }
  }

  /** Takes back what `out` says was charged; true if there is anything to commit. */
  private undo(nowMs: number, cost: number, out: Decision): boolean {
    const { table, log, locks } = this.parts
    let isStaged = false
    for (let index = 0; index < this.lines.length; index++) {
      const line = this.lines[index] as Line
      const { plan, cell } = line
      if (plan.kind === Kind.concurrency) continue
      const at = table.find(line.segment, line.high, line.low, tickOf(nowMs), this.cells, index)
      this.cells[index] = NO_CELL
      if (at === NO_CELL || table.isFresh) continue
      this.cells[index] = at
      cell.expiry = table.words[at + 2] as number
      cell.a = table.words[at + 3] as number
      cell.b = table.words[at + 4] as number
      readRule(plan, cell, nowMs, false)
      const { mark } = out.rules[index] as RuleOutcome
      if (line.isLog) {
        log.read(line.logSegment, line.high, line.low, plan, cell, nowMs, cost)
        if (!log.remove(line.logSegment, line.high, line.low, cell, mark, cost, nowMs)) continue
      } else if (!undoRule(plan, cell, cost, mark)) continue
      locks.stage(at, line.high, line.low, cell.expiry, cell.a, cell.b)
      isStaged = true
    }
    return isStaged
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

  /** Reads every rule and fills `out` with what this limiter alone would decide. Cells are noted in `cells` from `base` on. */
  readAll(nowMs: number, cost: number, out: Decision, isPeek: boolean, cells: Int32Array, base: number): void {
    const { lines } = this
    out.basis = 'exact'
    out.hold = -1
    out.delayMs = 0
    let refusedBy = -1
    for (let index = 0; index < lines.length; index++) {
      const line = lines[index] as Line
      line.isAdmitted = this.read(line, cells, base + index, nowMs, cost, out, isPeek)
      if (!line.isAdmitted && refusedBy < 0) refusedBy = index
      if (line.isAdmitted && line.plan.kind === Kind.leakyBucket) out.delayMs = Math.max(out.delayMs, ruleDelay(line.plan, line.cell))
    }
    if (isFull(out) && !isPeek) this.parts.table.count(Stat.full)
    out.refusedBy = refusedBy
    out.allowed = refusedBy < 0 || this.spec.dryRun
    if (refusedBy >= 0 || this.spec.dryRun) out.delayMs = 0
  }

  /** There is no room for what this decision would hold. */
  refuseFull(out: Decision, isPeek: boolean): void {
    out.basis = 'full'
    out.refusedBy = 0
    out.allowed = this.spec.dryRun
    out.delayMs = 0
    if (!isPeek) this.parts.table.count(Stat.full)
  }

  /** Finds and reads the cell of one rule; true if the rule admits the request. */
  private read(line: Line, cells: Int32Array, place: number, nowMs: number, cost: number, out: Decision, isPeek: boolean): boolean {
    const { table, log } = this.parts
    const { plan, cell } = line
    if (line.twin !== null) return this.readTwin(line, line.twin, cells, place, nowMs, cost, out, isPeek)
    const nowTick = tickOf(nowMs)
    let at = table.find(line.segment, line.high, line.low, nowTick, cells, place)
    if (at === NO_CELL && !line.isLog) at = this.findShared(line, cells, place, nowTick, out, isPeek)
    cells[place] = at
    line.at = at
    const isFresh = at === NO_CELL || table.isFresh
    line.isFresh = isFresh
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

  /** As `read`, of a cell that an earlier limiter of a joint decision has read, and may charge, before this one. */
  private readTwin(line: Line, twin: Line, cells: Int32Array, place: number, nowMs: number, cost: number, out: Decision, isPeek: boolean) {
    const { log } = this.parts
    const { plan, cell } = line
    line.high = twin.high
    line.low = twin.low
    line.segment = twin.segment
    cells[place] = twin.at
    line.at = twin.at
    if (twin.at === NO_CELL) {
      readRule(plan, cell, nowMs, true)
      out.basis = 'full'
      return false
    }
    this.copyTwin(line, twin, nowMs, cost)
    const all = cost + line.pending
    const isAdmitted = ruleAdmits(plan, cell, all)
    if (!line.isLog || isPeek || !(isAdmitted || this.spec.countRefused)) return isAdmitted
    if (log.reserve(line.logSegment, line.high, line.low, plan, cell, nowMs, Math.min(all, plan.limit))) return isAdmitted
    out.basis = 'full'
    return false
  }

  private copyTwin(line: Line, twin: Line, nowMs: number, cost: number): void {
    const { plan, cell } = line
    line.isFresh = twin.isFresh
    cell.expiry = twin.isFresh ? 0 : twin.cell.expiry
    cell.a = twin.isFresh ? 0 : twin.cell.a
    cell.b = twin.isFresh ? 0 : twin.cell.b
    readRule(plan, cell, nowMs, twin.isFresh)
    if (line.isLog) this.parts.log.read(line.logSegment, line.high, line.low, plan, cell, nowMs, cost)
  }

  /** The cell that all keys of this rule share when they find no place of their own. */
  private findShared(line: Line, cells: Int32Array, place: number, nowTick: number, out: Decision, isPeek: boolean): number {
    const { table, locks } = this.parts
    const { overflow } = table.layout
    locks.lock(overflow)
    line.high = mix(this.seedHigh)
    line.low = ruleLane(this.seedLow, line.plan.salt)
    line.segment = overflow
    if (out.basis === 'exact') out.basis = 'shared'
    if (!isPeek) table.count(Stat.shared)
    return table.find(overflow, line.high, line.low, nowTick, cells, place)
  }

  /** Reports every rule, and notes the new words where something is charged or was put right. */
  settle(nowMs: number, cost: number, out: Decision, isCharged: boolean, isPeek: boolean): boolean {
    const { lines, verdict } = this
    const { locks, log, holds } = this.parts
    let isStaged = false
    out.isCharged = isCharged && out.basis === 'exact'
    for (let index = 0; index < lines.length; index++) {
      const line = lines[index] as Line
      const { plan, cell, at } = line
      if (line.twin !== null && at !== NO_CELL) this.copyTwin(line, line.twin, nowMs, cost)
      const outcome = out.rules[index] as RuleOutcome
      verdict.isAdmitted = line.isAdmitted
      verdict.isCharged = isCharged
      reportRule(plan, cell, nowMs, cost, verdict, outcome)
      if (at === NO_CELL || isPeek || !(isCharged || cell.isRepaired)) continue
      if (isCharged) {
        // A log keeps no more than its newest `limit` units.
        const units = line.isLog ? Math.min(cost, plan.limit) : cost
        if (line.isLog) log.append(line.logSegment, line.high, line.low, cell, nowMs, units)
        chargeRule(plan, cell, nowMs, units)
        outcome.mark = chargeMark(plan, cell, nowMs)
        line.isFresh = false
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
