/**
 * What the threads hold in flight: one ledger per member in the limiter region, so that the holds of a dead worker can be returned.
 *
 * An entry is [cell, cost, next + 1, journal]: a decision with several concurrency rules chains one entry per rule, and a transaction all
 * that it makes (shared/limiter-locks). The entry is written before the commit that makes it valid, and cleared together with the cell
 * that it ends in (shared/limiter-locks). A cell with holds never expires, so its
 * address stays true.
 */
import { HOLD_WORDS, HOLDS_PER_MEMBER } from './limiter-layout.js'

export class HoldLedger {
  /** Free entries below `fresh`; a stack. */
  private readonly free: number[] = []
  private fresh = 0

  constructor(
    private readonly words: Int32Array,
    private readonly ledger: number,
  ) {}

  /** Notes a hold in front of the chain `next` (−1 = none) and returns its index; −1 if the ledger is full. */
  note(cell: number, cost: number, next: number): number {
    const hold = this.take()
    if (hold < 0) return -1
    const at = this.addressOf(hold)
    this.words[at] = cell
    this.words[at + 2] = next + 1
    this.words[at + 1] = cost
    return hold
  }

  /** Index of an entry that nobody uses; −1 if the ledger is full. It is the caller's to write. */
  take(): number {
    return this.free.pop() ?? (this.fresh < HOLDS_PER_MEMBER ? this.fresh++ : -1)
  }

  /** First word of an entry. */
  addressOf(hold: number): number {
    return this.ledger + hold * HOLD_WORDS
  }

  /** Entries that can still be noted. */
  get room(): number {
    return HOLDS_PER_MEMBER - this.fresh + this.free.length
  }

  cell(hold: number): number {
    return this.words[this.ledger + hold * HOLD_WORDS] as number
  }

  /** 0 if there is no such hold. */
  cost(hold: number): number {
    if (!Number.isInteger(hold) || hold < 0 || hold >= HOLDS_PER_MEMBER) return 0
    return this.words[this.ledger + hold * HOLD_WORDS + 1] as number
  }

  next(hold: number): number {
    return (this.words[this.ledger + hold * HOLD_WORDS + 2] as number) - 1
  }

  /** Makes a cleared entry usable again. */
  recycle(hold: number): void {
    this.free.push(hold)
  }
}
