/** What the bound limiters of one member share, and what a decision at hand knows about one rule. */
import { CellReading } from '../limits/cell.js'
import type { LimitRule } from '../limits/contract.js'
import { Kind, RulePlan } from '../limits/plan.js'
import type { HoldLedger } from './limiter-holds.js'
import type { LimiterLocks } from './limiter-locks.js'
import type { LimiterLog } from './limiter-log.js'
import { type LimiterTable, NO_CELL } from './limiter-table.js'

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
export class Line {
  readonly plan: RulePlan
  readonly cell = new CellReading()
  /** Lanes under which the cell is stored: the key's, or those shared by all keys of the rule. */
  high = 0
  low = 0
  segment = 0
  logSegment = 0
  isShared = false
  isAdmitted = false
  /** Cell chosen by the decision at hand. */
  at = NO_CELL
  /** There was no live cell, and nothing was charged yet. */
  isFresh = false
  touched = 0
  /** A line of an earlier limiter of a joint decision that counts on the same cell, and what is charged there before this one. */
  twin: Line | null = null
  pending = 0

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
