/**
 * The units of one key that one worker has taken from Redis and not spent yet. No I/O; time is passed in.
 *
 * A batch is valid until the first of its windows ends, or (token bucket) for a short hold, counted from the moment at which it was
 * *asked for*: Redis took it later than that, so this clock never believes a batch longer than Redis does, whatever the clocks show.
 */
import type { Decision, LimitKeys, LimitOverrides } from '../limits/contract.js'
import type { RuleCall } from './rule-layout.js'

/** A request that waits for the next batch. */
export interface Waiter {
  readonly keys: LimitKeys
  readonly cost: number
  readonly out: Decision
  readonly overrides: LimitOverrides | undefined
  readonly resolve: (decision: Decision | Promise<Decision>) => void
}

export interface Batch {
  units: number
  readonly validUntilMs: number
  /** Start of each rule's window, as Redis said it; what giving back names it by. */
  readonly starts: readonly number[]
}

/** What Redis last said about a key. */
export interface LastReply {
  readonly askedMs: number
  readonly refusedBy: number
  /** Four per rule: remaining, used in thousandths, reset and retry-after in microseconds. */
  readonly rules: readonly number[]
}

/** Least and most by which the size of a batch changes at once. */
const GROWTH = 4
export const BATCH_MAX = 100_000

export class Lease {
  last: LastReply | null = null
  usedMs: number
  /** Until then a request of at least `refusedCost` is refused without asking. */
  refusedUntilMs = 0
  refusedCost = 0
  isAsking = false
  waiters: Waiter[] = []
  private batches: Batch[] = []
  /** The batch from which was spent last, if it was one. */
  private lastBatch: Batch | null = null
  private size = 1
  private spentSince = 0
  private sizedMs: number

  constructor(
    readonly call: RuleCall,
    nowMs: number,
    /** False: for one request only, takes no more than that needs. */
    readonly isKept: boolean,
  ) {
    this.usedMs = nowMs
    this.sizedMs = nowMs
  }

  /** Units that may be spent now. */
  units(nowMs: number): number {
    let sum = 0
    for (const batch of this.batches) if (batch.validUntilMs > nowMs) sum += batch.units
    return sum
  }

  /** Spends all of `cost` or nothing. The batch that ends first is spent first. */
  spend(cost: number, nowMs: number): boolean {
    const first = this.batches[0]
    // Almost always: one batch, and enough in it.
    if (first !== undefined && first.validUntilMs > nowMs && first.units > cost) {
      first.units -= cost
      this.lastBatch = first
    } else {
      if (this.units(nowMs) < cost) return false
      this.spendFromSeveral(cost, nowMs)
    }
    this.spentSince += cost
    this.usedMs = nowMs
    return true
  }

  /** As `spend`, from a batch that arrived this moment: like the answer to a single request it counts however late it came. */
  spendFresh(batch: Batch, cost: number, nowMs: number): boolean {
    if (batch.units < cost) return this.spend(cost, nowMs)
    batch.units -= cost
    this.lastBatch = batch
    this.spentSince += cost
    this.usedMs = nowMs
    return true
  }

  /** Names the batch of the last `spend`; 0 = it took from several. */
  get lastMark(): number {
    return this.lastBatch?.validUntilMs ?? 0
  }

  /** Puts units back into the batch that `mark` names; false if it is over or gone: they are lost then. */
  unspend(cost: number, mark: number, nowMs: number): boolean {
    if (mark <= nowMs) return false
    const batch = this.batches.find((one) => one.validUntilMs === mark)
    if (batch !== undefined) {
      batch.units += cost
      return true
    }
    // The last unit of it was taken, so it is no longer in the list.
    if (this.lastBatch?.validUntilMs !== mark || this.lastBatch.units !== 0) return false
    this.lastBatch.units = cost
    this.add(this.lastBatch)
    return true
  }

  add(batch: Batch): void {
    this.batches.push(batch)
    this.batches.sort((a, b) => a.validUntilMs - b.validUntilMs)
  }

  /** Takes out batches that are no longer valid. */
  removeEnded(nowMs: number): Batch[] {
    if (this.batches.every((batch) => batch.validUntilMs > nowMs)) return []
    const ended = this.batches.filter((batch) => batch.validUntilMs <= nowMs)
    this.batches = this.batches.filter((batch) => batch.validUntilMs > nowMs)
    return ended
  }

  /** Takes out everything. */
  removeAll(): Batch[] {
    this.lastBatch = null
    const all = this.batches
    this.batches = []
    return all
  }

  /** True when so little is left that the next batch should be on its way. */
  isLow(nowMs: number): boolean {
    return this.size >= GROWTH && this.units(nowMs) * GROWTH <= this.size
  }

  /** Size of the next batch: what this worker spends in `targetMs` at the rate seen since the last one, changed step by step. */
  nextSize(targetMs: number, nowMs: number): number {
    const elapsedMs = Math.max(0.1, nowMs - this.sizedMs)
    const desired = (this.spentSince / elapsedMs) * targetMs
    const bounded = Math.min(this.size * GROWTH, Math.max(this.size / GROWTH, desired))
    this.size = Math.min(BATCH_MAX, Math.max(1, Math.floor(bounded)))
    this.spentSince = 0
    this.sizedMs = nowMs
    return this.size
  }

  private spendFromSeveral(cost: number, nowMs: number): void {
    const [only] = this.batches
    this.lastBatch = this.batches.length === 1 && only !== undefined ? only : null
    let left = cost
    for (const batch of this.batches) {
      if (batch.validUntilMs <= nowMs) continue
      const part = Math.min(left, batch.units)
      batch.units -= part
      left -= part
    }
    this.batches = this.batches.filter((batch) => batch.units > 0)
  }
}
