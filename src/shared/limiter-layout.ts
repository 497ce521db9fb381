/**
 * Map of the limiter region: one Int32 array, all offsets in words. Written by all workers and the primary ("members"), under the locks
 * described in shared/limiter-locks.
 *
 *   header      64 words     line 0: version, members, segments, log segments, two lanes of the hash seed; never changed
 *                            line 1: statistics, by atomic add (`Stat`)
 *   journals    544 × members        one per member, written by it alone: see shared/limiter-locks
 *   ledgers     4 × 65,536 × members what each member holds in flight: [cell, cost, next + 1, journal]; cost 0 = free
 *   segments    1024 × segments      4 KiB each, on a page boundary:
 *                 line 0   word 0 lock   words 1–13: for each of 63 home buckets, 6 bits: how far its keys ever lay
 *                 line 1–63   a bucket of 3 cells: [key high, key low, expiry, a, b] × 3, 1 unused      key low 0 = never used
 *   log         36,880 × log segments   times of sliding logs: lock line, 1024 × [key high, key low, expiry, unused], 1024 × 32 times
 *   overflow    1024         one more segment, for keys that find no place in theirs
 *
 * A key lives in one segment, in the first bucket from its home (going round) that had room: with its lock held everything
 * about it is in that page, and usually in two cache lines. 189 cells in 4,096 bytes are 21.7 bytes per cell; filled to
 * two thirds, 32 bytes per live key. There are no tombstones and no sweeps: a cell whose expiry has passed is free for the next key
 * that looks for one.
 */
import { allocateRegion } from './region.js'

export const WORD_BYTES = Int32Array.BYTES_PER_ELEMENT
export const HEADER_WORDS = 64
export const JOURNAL_WORDS = 544
export const HOLDS_PER_MEMBER = 65_536
export const HOLD_WORDS = 4
export const SEGMENT_WORDS = 1024
export const BUCKET_WORDS = 16
export const BUCKETS_PER_SEGMENT = 63
export const CELLS_PER_BUCKET = 3
export const CELL_WORDS = 5
export const CELLS_PER_SEGMENT = BUCKETS_PER_SEGMENT * CELLS_PER_BUCKET
export const LOG_CHUNKS = 1024
export const LOG_CHUNK_ENTRIES = 32
export const LOG_HEAD_WORDS = 4
export const LOG_SEGMENT_WORDS = BUCKET_WORDS + LOG_CHUNKS * (LOG_HEAD_WORDS + LOG_CHUNK_ENTRIES)
export const LOG_SEGMENT_ENTRIES = LOG_CHUNKS * LOG_CHUNK_ENTRIES

const VERSION = 2

/** Words of the header. */
export const Head = { version: 0, members: 1, segments: 2, logSegments: 3, seedHigh: 4, seedLow: 5 } as const
/** Counts since the start, modulo 2^32. */
export const Stat = { shared: 16, full: 17, recoveredHolds: 18, recoveredLocks: 19, lockWaits: 20 } as const

export interface LimiterSizes {
  /** Threads that use the table: workers and the primary. */
  readonly members: number
  /** Cells at least; one per key and rule. Plan half as much again as live keys. */
  readonly cells: number
  /** Times in sliding logs at least, over all keys. */
  readonly logEntries: number
  /** Two random 32-bit numbers. */
  readonly seed: readonly [number, number]
}

export interface LimiterLayout {
  readonly members: number
  readonly segments: number
  readonly logSegments: number
  readonly journals: number
  readonly ledgers: number
  readonly cells: number
  readonly log: number
  readonly overflow: number
  readonly end: number
}

function layoutOf(members: number, segments: number, logSegments: number): LimiterLayout {
  const journals = HEADER_WORDS
  const ledgers = journals + JOURNAL_WORDS * members
  const ledgersEnd = ledgers + HOLDS_PER_MEMBER * HOLD_WORDS * members
  const cells = Math.ceil(ledgersEnd / SEGMENT_WORDS) * SEGMENT_WORDS
  const log = cells + segments * SEGMENT_WORDS
  const overflow = log + logSegments * LOG_SEGMENT_WORDS
  return { members, segments, logSegments, journals, ledgers, cells, log, overflow, end: overflow + SEGMENT_WORDS }
}

/** Makes the region. Pages that no key touches take no memory. RangeError on sizes that are not positive whole numbers, or too large. */
export function createLimiterRegion(sizes: LimiterSizes): SharedArrayBuffer {
  for (const [name, value] of Object.entries({ members: sizes.members, cells: sizes.cells, logEntries: sizes.logEntries })) {
    if (!Number.isSafeInteger(value) || value < 1) throw new RangeError(`limiter ${name} is ${value}; it must be a whole number above 0`)
  }
  const layout = layoutOf(sizes.members, Math.ceil(sizes.cells / CELLS_PER_SEGMENT), Math.ceil(sizes.logEntries / LOG_SEGMENT_ENTRIES))
  if (layout.end >= 2 ** 30) {
    throw new RangeError(
      `a limiter table of ${sizes.cells} cells and ${sizes.logEntries} log entries needs ${layout.end * WORD_BYTES} bytes; at most 4 GiB are possible`,
    )
  }
  const region = allocateRegion('limiter', layout.end * WORD_BYTES)
  const words = new Int32Array(region)
  words[Head.version] = VERSION
  words[Head.members] = layout.members
  words[Head.segments] = layout.segments
  words[Head.logSegments] = layout.logSegments
  words[Head.seedHigh] = sizes.seed[0]
  words[Head.seedLow] = sizes.seed[1]
  return region
}

/** Layout of a region that `createLimiterRegion` made. */
export function readLimiterLayout(words: Int32Array): LimiterLayout {
  const word = (index: number): number => words[index] ?? 0
  const layout = layoutOf(word(Head.members), word(Head.segments), word(Head.logSegments))
  if (word(Head.version) !== VERSION || layout.end !== words.length) {
    throw new RangeError(
      `limiter region of ${words.length} words and version ${word(Head.version)}; expected ${layout.end} words and version ${VERSION}`,
    )
  }
  return layout
}
