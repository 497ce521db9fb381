/**
 * Finds the cells of keys in the limiter region. The caller holds the lock of the segment (shared/limiter-locks).
 *
 * Rules of the table:
 *  - A key lies in its segment, in its home bucket or some buckets farther. The header of the segment says, per home, how far its keys
 *    ever went, so that looking for a key that is not there reads only as far.
 *  - A new key takes the first free cell on that way. Free is what was never used or has expired: nothing has to be swept.
 *  - A key that finds none (its segment is full of live keys) shares one cell of the overflow segment with all such keys of its rule: it
 *    may be refused earlier than alone, never later. If that has no room either, the request is refused. Both are counted.
 *  - A live key is never thrown out for another.
 *  - Keys are told apart by 64 bits of their seeded hash.
 */
import { isLive } from '../limits/cell.js'
import { mix } from '../limits/hash.js'
import {
  BUCKET_WORDS,
  BUCKETS_PER_SEGMENT,
  CELL_WORDS,
  CELLS_PER_BUCKET,
  CELLS_PER_SEGMENT,
  type LimiterLayout,
  SEGMENT_WORDS,
  Stat,
} from './limiter-layout.js'

/** Per home bucket: how far from it, going round, its keys lie. */
const REACH_BITS = 6
const REACH_MASK = 2 ** REACH_BITS - 1
const HOMES_PER_WORD = 5

/** `find`: the key has no cell and there is no room for one. */
export const NO_CELL = -1

export class LimiterTable {
  private readonly segmentScale: number
  /** Set by `find`: the cell did not hold this key alive; its words do not count. */
  isFresh = false

  constructor(
    readonly words: Int32Array,
    readonly layout: LimiterLayout,
  ) {
    this.segmentScale = layout.segments / 2 ** 32
  }

  /** Address (and lock) of the segment of a key. */
  segmentFor(high: number): number {
    return this.layout.cells + Math.floor((high >>> 0) * this.segmentScale) * SEGMENT_WORDS
  }

  /**
   * Reads from both lines of memory that a decision needs, before the lock is taken: the processor fetches them at the same time, where
   * taking the lock first would make one wait for the other. The result means nothing.
   */
  touch(segment: number, low: number): number {
    const bucket = bucketAt(segment, Math.floor((low >>> 0) * (BUCKETS_PER_SEGMENT / 2 ** 32)))
    return (this.words[bucket] as number) ^ (this.words[segment] as number)
  }

  /** Address of the home bucket of a key. */
  homeFor(segment: number, low: number): number {
    return segment + BUCKET_WORDS * (1 + Math.floor((low >>> 0) * (BUCKETS_PER_SEGMENT / 2 ** 32)))
  }

  /** The cell that a key has, alive or not, in its home bucket, or NO_CELL. The segment is locked. */
  inHome(home: number, high: number, low: number): number {
    const { words } = this
    if (words[home + 1] === low && words[home] === high) return home
    if (words[home + CELL_WORDS + 1] === low && words[home + CELL_WORDS] === high) return home + CELL_WORDS
    if (words[home + 2 * CELL_WORDS + 1] === low && words[home + 2 * CELL_WORDS] === high) return home + 2 * CELL_WORDS
    return NO_CELL
  }

  /**
   * The cell of a key in a locked segment, or a free one for it, or NO_CELL. `taken` lists the cells that the same request has
   * chosen before (`takenCount` of them) and that are not written yet.
   */
  find(segment: number, high: number, low: number, nowTick: number, taken: Int32Array, takenCount: number): number {
    const { words } = this
    const home = Math.floor((low >>> 0) * (BUCKETS_PER_SEGMENT / 2 ** 32))
    // home / 5, for homes below 64.
    const group = (home * 13) >>> 6
    const reachWord = segment + 1 + group
    const reachShift = (home - group * HOMES_PER_WORD) * REACH_BITS
    const reach = ((words[reachWord] as number) >>> reachShift) & REACH_MASK
    let free = NO_CELL
    let freeReach = 0
    for (let far = 0; far <= reach; far++) {
      const bucket = bucketAt(segment, home + far)
      for (let cell = bucket; cell < bucket + CELLS_PER_BUCKET * CELL_WORDS; cell += CELL_WORDS) {
        if (words[cell + 1] === low && words[cell] === high) {
          this.isFresh = !isLive(words[cell + 2] as number, nowTick)
          // An earlier rule of this request may have chosen this key's own dead cell.
          if (!this.isFresh || !includes(taken, takenCount, cell)) return cell
        } else if (free === NO_CELL && this.isFree(cell, nowTick) && !includes(taken, takenCount, cell)) {
          free = cell
          freeReach = far
        }
      }
    }
    for (let far = reach + 1; far < BUCKETS_PER_SEGMENT && free === NO_CELL; far++) {
      const bucket = bucketAt(segment, home + far)
      for (let cell = bucket; cell < bucket + CELLS_PER_BUCKET * CELL_WORDS; cell += CELL_WORDS) {
        if (free === NO_CELL && this.isFree(cell, nowTick) && !includes(taken, takenCount, cell)) {
          free = cell
          freeReach = far
        }
      }
    }
    // Written before the commit: a reach that is too far only costs time.
    if (freeReach > reach) {
      words[reachWord] = ((words[reachWord] as number) & ~(REACH_MASK << reachShift)) | (freeReach << reachShift)
    }
    this.isFresh = true
    return free
  }

  private isFree(cell: number, nowTick: number): boolean {
    return this.words[cell + 1] === 0 || !isLive(this.words[cell + 2] as number, nowTick)
  }

  /** Counts one event. */
  count(stat: number): void {
    Atomics.add(this.words, stat, 1)
  }

  stats(): LimiterStats {
    const read = (stat: number): number => Atomics.load(this.words, stat) >>> 0
    return {
      sharedDecisions: read(Stat.shared),
      fullDecisions: read(Stat.full),
      recoveredHolds: read(Stat.recoveredHolds),
      recoveredLocks: read(Stat.recoveredLocks),
      lockWaits: read(Stat.lockWaits),
      cells: this.layout.segments * CELLS_PER_SEGMENT,
      bytes: this.words.byteLength,
    }
  }

  /** Share of cells that are alive, from `samples` segments spread over the table; reads without locks, so it is an estimate. */
  fill(nowTick: number, samples: number): number {
    const segments = Math.min(samples, this.layout.segments)
    let live = 0
    for (let sample = 0; sample < segments; sample++) {
      const segment = this.layout.cells + Math.floor((sample * this.layout.segments) / segments) * SEGMENT_WORDS
      for (let bucket = 0; bucket < BUCKETS_PER_SEGMENT; bucket++) {
        for (let cell = 0; cell < CELLS_PER_BUCKET; cell++) {
          if (!this.isFree(bucketAt(segment, bucket) + cell * CELL_WORDS, nowTick)) live++
        }
      }
    }
    return live / (segments * CELLS_PER_SEGMENT)
  }
}

/** Counts since the start, modulo 2^32, and sizes. */
export interface LimiterStats {
  /** Rules decided on a cell that several keys share because the table was full. */
  readonly sharedDecisions: number
  /** Requests refused because no cell, log space or hold was left. */
  readonly fullDecisions: number
  /** Units in flight that were returned for dead workers. */
  readonly recoveredHolds: number
  /** Transactions of dead or failed threads that were finished or undone. */
  readonly recoveredLocks: number
  /** Times a thread slept for a lock. */
  readonly lockWaits: number
  readonly cells: number
  readonly bytes: number
}

function bucketAt(segment: number, index: number): number {
  return segment + BUCKET_WORDS * (1 + (index < BUCKETS_PER_SEGMENT ? index : index - BUCKETS_PER_SEGMENT))
}

function includes(list: Int32Array, count: number, value: number): boolean {
  for (let index = 0; index < count; index++) if (list[index] === value) return true
  return false
}

/** Low lane of the cell of a rule: another one per rule, never 0, which marks cells that were never used. */
export function ruleLane(low: number, salt: number): number {
  const lane = mix(low ^ salt)
  return lane === 0 ? 1 : lane
}
