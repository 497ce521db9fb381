/**
 * Times of sliding logs. The cell of a key counts: `a` = sequence number behind the newest entry, `b` = that of the oldest; entry n lies
 * in chunk n >>> 5 of its key, at place n & 31. Chunks are found by hash like cells, in the log segment of the key, at most PROBES
 * from home; a chunk whose newest entry has left its window is free for anybody.
 *
 * Only the cell says which entries exist: entries and chunks are written before the commit and mean nothing until it. Clearing a clock
 * that was set back moves entries from the future to the present, each by one store, any number of which may have happened.
 *
 * Bound: log segments × 32,768 entries. A key that finds no chunk is refused and counted as `full`.
 */
import { type CellReading, isLive, tickAfter } from '../limits/cell.js'
import { CLOCK_SKEW_MS } from '../limits/contract.js'
import { mix } from '../limits/hash.js'
import type { RulePlan } from '../limits/plan.js'
import { logTime } from '../limits/rule.js'
import { BUCKET_WORDS, type LimiterLayout, LOG_CHUNK_ENTRIES, LOG_CHUNKS, LOG_HEAD_WORDS, LOG_SEGMENT_WORDS } from './limiter-layout.js'

const PROBES = 128
const CHUNK_SHIFT = 5
const HEADS = BUCKET_WORDS
const ENTRIES = HEADS + LOG_CHUNKS * LOG_HEAD_WORDS
const NONE = -1

export class LimiterLog {
  private readonly scale: number

  constructor(
    private readonly words: Int32Array,
    private readonly layout: LimiterLayout,
  ) {
    this.scale = layout.logSegments / 2 ** 32
  }

  /** Address (and lock) of the log segment of a key. */
  segmentFor(high: number): number {
    return this.layout.log + Math.floor((mix(high) >>> 0) * this.scale) * LOG_SEGMENT_WORDS
  }

  /**
   * Moves `b` past what has left the window; fills `used`, `endMs` (time of the newest) and `startMs` (moment at which `cost` fits).
   * The segment is locked.
   */
  read(segment: number, high: number, low: number, plan: RulePlan, cell: CellReading, nowMs: number, cost: number): void {
    const now = Math.floor(nowMs)
    this.dropOld(segment, high, low, plan, cell, now)
    cell.used = (cell.a - cell.b) >>> 0
    if (cell.used === 0) return
    cell.endMs = this.entryMs(segment, high, low, (cell.a - 1) | 0, now)
    if (cell.endMs > now + CLOCK_SKEW_MS) {
      this.bringBack(segment, high, low, cell, now)
      cell.endMs = now
      cell.isRepaired = true
      cell.expiry = tickAfter(now + plan.windowMs)
    }
    const excess = cell.used + cost - plan.limit
    if (excess > 0 && excess <= cell.used) {
      cell.startMs = this.entryMs(segment, high, low, (cell.b + excess - 1) | 0, now) + plan.windowMs
    }
  }

  private dropOld(segment: number, high: number, low: number, plan: RulePlan, cell: CellReading, now: number): void {
    while (cell.a !== cell.b) {
      const inChunk = Math.min((cell.a - cell.b) >>> 0, LOG_CHUNK_ENTRIES - (cell.b & (LOG_CHUNK_ENTRIES - 1)))
      const chunk = this.findChunk(segment, high, chunkLane(low, cell.b), now)
      if (chunk === NONE) {
        cell.b = (cell.b + inChunk) | 0
        continue
      }
      for (let index = 0; index < inChunk; index++) {
        if (now - this.timeAt(segment, chunk, cell.b, now) < plan.windowMs) return
        cell.b = (cell.b + 1) | 0
      }
    }
  }

  /** Makes room for entries up to `cost` behind the newest; false if there is none. Claims hold even if the request is then refused. */
  reserve(segment: number, high: number, low: number, plan: RulePlan, cell: CellReading, nowMs: number, cost: number): boolean {
    const now = Math.floor(nowMs)
    const expiry = tickAfter(logTime(cell, nowMs) + plan.windowMs)
    for (let done = 0; done < cost; ) {
      const sequence = (cell.a + done) | 0
      const lane = chunkLane(low, sequence)
      const chunk = this.findChunk(segment, high, lane, now)
      const place = chunk === NONE ? this.findFree(segment, high, lane, now) : chunk
      if (place === NONE) return false
      const head = segment + HEADS + place * LOG_HEAD_WORDS
      this.words[head] = high
      this.words[head + 1] = lane
      this.words[head + 2] = expiry
      done += LOG_CHUNK_ENTRIES - (sequence & (LOG_CHUNK_ENTRIES - 1))
    }
    return true
  }

  /** Writes the entries of a request for which `reserve` made room. They exist once the cell says so. */
  append(segment: number, high: number, low: number, cell: CellReading, nowMs: number, cost: number): void {
    const now = Math.floor(nowMs)
    const time = logTime(cell, nowMs)
    let chunk = NONE
    for (let done = 0; done < cost; done++) {
      const sequence = (cell.a + done) | 0
      if (done === 0 || (sequence & (LOG_CHUNK_ENTRIES - 1)) === 0) chunk = this.findChunk(segment, high, chunkLane(low, sequence), now)
      if (chunk === NONE) throw new RangeError(`sliding log entry ${sequence} has no chunk; reserve must come before append`)
      this.words[entryAddress(segment, chunk, sequence)] = time | 0
    }
  }

  /**
   * Takes `units` entries of the time `mark` out again and puts the new end into `cell`; false if there are none. Later entries move
   * up, each by one store: the count in the cell goes down only with the commit, so whatever of it has happened admits nothing extra.
   */
  remove(segment: number, high: number, low: number, cell: CellReading, mark: number, units: number, nowMs: number): boolean {
    const now = Math.floor(nowMs)
    const count = (cell.a - cell.b) >>> 0
    let last = count - 1
    while (last >= 0 && this.entryMs(segment, high, low, (cell.b + last) | 0, now) > mark) last--
    let found = 0
    while (found < units && last - found >= 0 && this.entryMs(segment, high, low, (cell.b + last - found) | 0, now) === mark) found++
    if (found === 0) return false
    for (let index = last + 1; index < count; index++) {
      const from = (cell.b + index) | 0
      const to = (from - found) | 0
      const source = this.findChunk(segment, high, chunkLane(low, from), now)
      const target = this.findChunk(segment, high, chunkLane(low, to), now)
      if (source === NONE || target === NONE) return false
      this.words[entryAddress(segment, target, to)] = this.words[entryAddress(segment, source, from)] as number
      // What moved in lives as long as it would have where it was.
      this.words[segment + HEADS + target * LOG_HEAD_WORDS + 2] = this.words[segment + HEADS + source * LOG_HEAD_WORDS + 2] as number
    }
    cell.a = (cell.a - found) | 0
    return true
  }

  private bringBack(segment: number, high: number, low: number, cell: CellReading, now: number): void {
    for (let index = 0; index < cell.used; index++) {
      const sequence = (cell.b + index) | 0
      const chunk = this.findChunk(segment, high, chunkLane(low, sequence), now)
      if (chunk !== NONE && this.timeAt(segment, chunk, sequence, now) > now) this.words[entryAddress(segment, chunk, sequence)] = now | 0
    }
  }

  private entryMs(segment: number, high: number, low: number, sequence: number, now: number): number {
    const chunk = this.findChunk(segment, high, chunkLane(low, sequence), now)
    return chunk === NONE ? now : this.timeAt(segment, chunk, sequence, now)
  }

  /** Entries are 32-bit; all that exist lie within 2^31 ms of now. */
  private timeAt(segment: number, chunk: number, sequence: number, now: number): number {
    return now - (((now | 0) - (this.words[entryAddress(segment, chunk, sequence)] as number)) | 0)
  }

  private findChunk(segment: number, high: number, lane: number, now: number): number {
    const nowTick = Math.floor(now / 100) | 0
    for (let probe = 0; probe < PROBES; probe++) {
      const chunk = (lane + probe) & (LOG_CHUNKS - 1)
      const head = segment + HEADS + chunk * LOG_HEAD_WORDS
      if (this.words[head + 1] === lane && this.words[head] === high) return isLive(this.words[head + 2] as number, nowTick) ? chunk : NONE
      // Chunks are never emptied, so nothing lies behind one that was never used.
      if (this.words[head + 1] === 0) return NONE
    }
    return NONE
  }

  private findFree(segment: number, high: number, lane: number, now: number): number {
    const nowTick = Math.floor(now / 100) | 0
    let free = NONE
    for (let probe = 0; probe < PROBES; probe++) {
      const chunk = (lane + probe) & (LOG_CHUNKS - 1)
      const head = segment + HEADS + chunk * LOG_HEAD_WORDS
      // Its own chunk of an earlier time comes first: one lane must not name two chunks.
      if (this.words[head + 1] === lane && this.words[head] === high) return chunk
      if (free === NONE && !isLive(this.words[head + 2] as number, nowTick)) free = chunk
      if (this.words[head + 1] === 0) return free === NONE ? chunk : free
    }
    return free
  }
}

function entryAddress(segment: number, chunk: number, sequence: number): number {
  return segment + ENTRIES + chunk * LOG_CHUNK_ENTRIES + (sequence & (LOG_CHUNK_ENTRIES - 1))
}

/** Low lane of the chunk that an entry lies in; never 0, which marks chunks that were never used. */
function chunkLane(low: number, sequence: number): number {
  const lane = mix(low + Math.imul(sequence >>> CHUNK_SHIFT, 0x9e3779b1))
  return lane === 0 ? 1 : lane
}
