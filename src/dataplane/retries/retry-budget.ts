/**
 * The retry budget of an upstream as one worker keeps it: retries of all workers together stay below a share of the requests, so that
 * an upstream in trouble is not hit with several times its load (after Finagle's retry budget and Envoy's).
 *
 * Requests are counted in a plain field and told to the shared cells in bundles: what is not told yet only makes the budget smaller.
 */
import type { CompiledRetryBudget } from '../../schema/compiled.js'
import { BUDGET_WINDOW_S, type UpstreamCells } from '../../shared/upstream-cells.js'

const defaults: CompiledRetryBudget = { percent: 20, minPerSecond: 3 }
/** Requests, and time, after which they are told at the latest. */
const BUNDLE = 64
const BUNDLE_MS = 250

export class RetryBudget {
  private readonly percent: number
  private readonly least: number
  private count = 0
  private sinceMs = 0

  constructor(
    private readonly cells: UpstreamCells,
    private readonly slot: number,
    budget: CompiledRetryBudget = defaults,
  ) {
    this.percent = budget.percent
    this.least = budget.minPerSecond * BUDGET_WINDOW_S
  }

  /** A request begins. */
  counted(nowMs: number): void {
    if (this.count === 0) this.sinceMs = nowMs
    if (++this.count >= BUNDLE || nowMs - this.sinceMs >= BUNDLE_MS) this.tell(nowMs)
  }

  /** Takes a retry, or a hedge, out of the budget; false = there is none left. */
  take(nowMs: number): boolean {
    if (this.count > 0) this.tell(nowMs)
    return this.cells.takeRetry(this.slot, this.percent, this.least, nowMs)
  }

  /** Counts a try that is repeated in any case. */
  spend(nowMs: number): void {
    this.cells.addRetry(this.slot, nowMs)
  }

  private tell(nowMs: number): void {
    this.cells.addRequests(this.slot, this.count, this.sinceMs, nowMs)
    this.count = 0
  }
}
