/**
 * The `local` store: limits of one process, exact over all its threads, in shared memory.
 *
 * Every worker, and the primary, opens the same region as a member of its own. Counters belong to no thread: they survive the
 * replacement of a worker and every reload. When a thread has ended, the primary calls `recoverMember`, before a replacement starts:
 * what the thread was doing is finished or undone, and what it held in flight is returned.
 */
import { tickOf } from '../limits/cell.js'
import type { LimiterSpec, LimiterStore } from '../limits/contract.js'
import { specProblem } from '../limits/problem.js'
import { LocalLimiter } from './limiter-decide.js'
import { HoldLedger } from './limiter-holds.js'
import { LocalJoint } from './limiter-joint.js'
import { HOLD_WORDS, HOLDS_PER_MEMBER, type LimiterLayout, readLimiterLayout, Stat } from './limiter-layout.js'
import type { LimiterParts } from './limiter-line.js'
import { LimiterLocks, segmentOf } from './limiter-locks.js'
import { LimiterLog } from './limiter-log.js'
import { type LimiterStats, LimiterTable } from './limiter-table.js'

/** Segments that `fill` looks at: an estimate within about 1 %, in some hundred microseconds. */
const FILL_SAMPLES = 256

export class LocalLimiterStore implements LimiterStore {
  private readonly words: Int32Array
  private readonly layout: LimiterLayout
  private readonly parts: LimiterParts
  private readonly joint: LocalJoint

  /**
   * `member`: one per thread, never two threads at a time. `nowMs`: wall clock; `fineNowMs`: the same with fractions, without which a
   * bucket without burst lets at most one request per millisecond pass. RangeError if the region or member is not right.
   */
  constructor(region: SharedArrayBuffer, member: number, nowMs: () => number, fineNowMs: () => number = nowMs) {
    this.words = new Int32Array(region)
    this.layout = readLimiterLayout(this.words)
    const locks = new LimiterLocks(this.words, this.layout, member)
    this.parts = {
      table: new LimiterTable(this.words, this.layout),
      locks,
      log: new LimiterLog(this.words, this.layout),
      holds: new HoldLedger(this.words, locks.ledger),
      nowMs,
      fineNowMs,
      release: (hold) => this.release(hold),
    }
    this.joint = new LocalJoint(this.parts)
  }

  /** What it binds decides at once, never by a promise. */
  bind(spec: LimiterSpec): LocalLimiter {
    const problem = specProblem(spec)
    if (problem !== null) throw new RangeError(`limiter "${spec.scope}": ${problem}`)
    return new LocalLimiter(spec, this.parts, this.joint)
  }

  /** Ends a hold with all its rules; a hold that does not exist is ignored. */
  private release(first: number): void {
    const { holds, locks } = this.parts
    for (let hold = first; holds.cost(hold) > 0; ) {
      const next = holds.next(hold)
      const cell = holds.cell(hold)
      const segment = segmentOf(this.layout, cell)
      locks.lockOnly(segment)
      // Nothing in flight is the same as never used: the cell becomes free.
      const left = Math.max(0, ((this.words[cell + 3] as number) >>> 0) - holds.cost(hold))
      locks.commitRelease(segment, cell, left, holds.addressOf(hold))
      holds.recycle(hold)
      hold = next
    }
  }

  private returnUnits(cell: number, cost: number): void {
    const { words } = this
    const { locks } = this.parts
    locks.begin()
    locks.lock(segmentOf(this.layout, cell))
    const left = Math.max(0, ((words[cell + 3] as number) >>> 0) - cost)
    // Nothing in flight is the same as never used: the cell becomes free.
    const isUsed = left > 0
    locks.stage(cell, isUsed ? (words[cell] as number) : 0, isUsed ? (words[cell + 1] as number) : 0, words[cell + 2] as number, left, 0)
    locks.commit()
  }

  /** For the primary, when the thread of a member has ended. Returns the number of holds that were returned. */
  recoverMember(member: number): number {
    const dead = new LimiterLocks(this.words, this.layout, member)
    dead.recover()
    let returned = 0
    for (let hold = 0; hold < HOLDS_PER_MEMBER; hold++) {
      const at = dead.ledger + hold * HOLD_WORDS
      const cell = this.words[at] as number
      // Entries are used from the first on; what was never used names no cell.
      if (cell === 0) break
      const cost = this.words[at + 1] as number
      if (cost > 0) {
        this.returnUnits(cell, cost)
        returned++
      }
      this.words[at] = 0
      this.words[at + 1] = 0
      this.words[at + 2] = 0
    }
    Atomics.add(this.words, Stat.recoveredHolds, returned)
    return returned
  }

  stats(): LimiterStats {
    return this.parts.table.stats()
  }

  /** Share of cells in use, 0 to 1, by sampling. */
  fill(): number {
    return this.parts.table.fill(tickOf(this.parts.nowMs()), FILL_SAMPLES)
  }
}
