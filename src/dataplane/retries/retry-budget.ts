/**
 * The retry budget of an upstream as one worker keeps it: retries of all workers together stay below a share of the requests, so that
 * an upstream in trouble is not hit with several times its load. A bucket of credit, as Finagle's and gRPC's retry budgets are, that
 * keeps what is unused for a tenth of a second instead of ten.
 *
 * The promise, for any stretch of time, with N requests in it: at most `share` × (N + those of the tenth of a second before) retries, or one
 * and `share` × (N + 1), or the least (`minPerSecond`). A bucket begins empty, so retries never exceed the share of all requests so far. The share is a twentieth
 * less than `percent`: that pays for what a storm finds saved up, so that from about two seconds on `percent` holds for
 * every storm by itself.
 *
 * While the bucket is full a request costs one load. How many requests there are is told to the shared cells in bundles: what is not told yet only
 * makes the bucket smaller.
 */
import type { CompiledRetryBudget } from '../../schema/compiled.js'
import { CREDIT_UNIT, LEAST_WINDOW_S, type UpstreamCells } from '../../shared/upstream-cells.js'

const defaults: CompiledRetryBudget = { percent: 20, minPerSecond: 3 }
const KEPT_BACK = 0.05
/** Requests, and time, after which they are told at the latest. */
const BUNDLE = 64
const BUNDLE_MS = 25

export class RetryBudget {
  /** What a request brings. */
  private readonly credit: number
  private readonly least: number
  /** The most credit that was worth keeping when it was looked up last. */
  private most: number
  private count = 0
  private sinceMs = 0

  constructor(
    private readonly cells: UpstreamCells,
    private readonly slot: number,
    { percent, minPerSecond }: CompiledRetryBudget = defaults,
  ) {
    // With 100 and more, every request may be tried again: nothing to keep back.
    this.credit = Math.round((percent / 100) * (percent < 100 ? 1 - KEPT_BACK : 1) * CREDIT_UNIT)
    this.least = minPerSecond * LEAST_WINDOW_S
    this.most = this.credit === 0 ? 0 : CREDIT_UNIT + this.credit
  }

  /** A request begins. */
  counted(nowMs: number): void {
    const most = this.most + (this.count + 1) * this.credit
    if (this.cells.balance(this.slot) < most) this.cells.deposit(this.slot, this.credit, most)
    if (this.count === 0) this.sinceMs = nowMs
    if (++this.count >= BUNDLE || nowMs - this.sinceMs >= BUNDLE_MS) this.tell(nowMs)
  }

  /** Takes a retry, or a hedge, out of the budget; false = there is none left. */
  take(nowMs: number): boolean {
    if (this.count > 0) this.tell(nowMs)
    return this.cells.takeRetry(this.slot, this.credit, this.least, nowMs)
  }

  /** Counts a try that is repeated in any case. */
  spend(nowMs: number): void {
    if (this.count > 0) this.tell(nowMs)
    this.cells.addRetry(this.slot, this.credit, nowMs)
  }

  private tell(nowMs: number): void {
    this.cells.addRequests(this.slot, this.count, this.sinceMs, nowMs)
    this.count = 0
    this.most = this.cells.most(this.slot, this.credit, nowMs)
  }
}
