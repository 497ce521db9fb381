/**
 * Requests under way and waiting per upstream, counted by all workers together, and the state of adaptive limits.
 *
 *   one line of 64 bytes per slot (that of the upstream's rotor, shared/rotors); behind them one column per worker, two int32 per slot
 *
 *   line                                                                    writer
 *   int32[0]  places     requests that have a place                         workers, by compare-exchange; primary, for a dead worker
 *   int32[1]  waiting    requests that wait for one                         the same
 *   int32[2]  limit      adaptive limit, 1/256; 0 = not begun               workers, by compare-exchange
 *   int32[3]  samples    latencies of the present window                    workers, by atomic add; who ends the window takes them out
 *   int32[4]  sum        of these, tenths of milliseconds                   the same
 *   int32[5]  windowEnd  ms modulo 2^32; 0 = no window yet                  whose compare-exchange succeeds: he ends the window
 *   int32[6]  longTerm   long-term latency, hundredths of milliseconds      who ends the window
 *   int32[7]  windows    windows that it is made of                         who ends the window
 *   int32[8…15] unused
 *
 *   column of worker i
 *   int32[2 × slot], int32[2 × slot + 1]   its own share of `places` and `waiting`     worker i; the primary, after that worker has ended
 *
 * Times are monotonic milliseconds (base/clock), comparable between threads.
 */
import { allocateRegion, assertRegionSize, CACHE_LINE_BYTES, INT32_PER_LINE } from './region.js'
import { ROTOR_SLOTS } from './rotors.js'

const LINES_BYTES = ROTOR_SLOTS * CACHE_LINE_BYTES
const COLUMN_CELLS = 2
const COLUMN_BYTES = ROTOR_SLOTS * COLUMN_CELLS * Int32Array.BYTES_PER_ELEMENT

/** What is counted, by word of the line and of the column. */
export enum Held {
  Place = 0,
  Waiting = 1,
}

const LIMIT = 2
const SAMPLES = 3
const SUM = 4
const WINDOW_END = 5
const LONG_TERM = 6
const WINDOWS = 7

const LIMIT_UNIT = 256
const SAMPLE_UNIT_MS = 0.1
const LONG_TERM_UNIT_MS = 0.01

function regionBytes(workers: number): number {
  return LINES_BYTES + workers * COLUMN_BYTES
}

export function createConcurrencyRegion(workers: number): SharedArrayBuffer {
  return allocateRegion('concurrency', regionBytes(workers))
}

/** A window of latencies that has ended, and what was known before it. */
export interface LatencyWindow {
  readonly samples: number
  readonly meanMs: number
  readonly longTermMs: number
  readonly windows: number
}

/** What one worker reads and writes. */
export class ConcurrencyCells {
  private readonly cells: Int32Array
  private readonly column: Int32Array

  constructor(region: SharedArrayBuffer, workers: number, worker: number) {
    assertRegionSize('concurrency', region, regionBytes(workers))
    this.cells = new Int32Array(region, 0, ROTOR_SLOTS * INT32_PER_LINE)
    this.column = new Int32Array(region, LINES_BYTES + worker * COLUMN_BYTES, ROTOR_SLOTS * COLUMN_CELLS)
  }

  /** Takes one of `limit`; false = there is none left. Never more than `limit` are out, over all workers. */
  take(slot: number, what: Held, limit: number): boolean {
    const at = slot * INT32_PER_LINE + what
    for (;;) {
      const old = Atomics.load(this.cells, at)
      if (old >= limit) return false
      if (Atomics.compareExchange(this.cells, at, old, old + 1) === old) break
    }
    const own = slot * COLUMN_CELLS + what
    this.column[own] = (this.column[own] as number) + 1
    return true
  }

  give(slot: number, what: Held): void {
    const own = slot * COLUMN_CELLS + what
    this.column[own] = (this.column[own] as number) - 1
    Atomics.sub(this.cells, slot * INT32_PER_LINE + what, 1)
  }

  /** Of all workers. */
  count(slot: number, what: Held): number {
    return Atomics.load(this.cells, slot * INT32_PER_LINE + what)
  }

  /** Of this worker. */
  own(slot: number, what: Held): number {
    return this.column[slot * COLUMN_CELLS + what] as number
  }

  /** The adaptive limit, with fraction; begins at `initial`. */
  limit(slot: number, initial: number): number {
    const at = slot * INT32_PER_LINE + LIMIT
    const known = Atomics.load(this.cells, at)
    if (known !== 0) return known / LIMIT_UNIT
    Atomics.compareExchange(this.cells, at, 0, Math.round(initial * LIMIT_UNIT))
    return Atomics.load(this.cells, at) / LIMIT_UNIT
  }

  setLimit(slot: number, limit: number): void {
    Atomics.store(this.cells, slot * INT32_PER_LINE + LIMIT, Math.round(limit * LIMIT_UNIT))
  }

  /** Adds a latency to the window; returns the window when it has lasted for `windowMs` and has `least` latencies: to one caller only. */
  sample(slot: number, latencyMs: number, nowMs: number, windowMs: number, least: number): LatencyWindow | null {
    const { cells } = this
    const base = slot * INT32_PER_LINE
    Atomics.add(cells, base + SUM, Math.min(1e7, Math.round(latencyMs / SAMPLE_UNIT_MS)))
    const samples = Atomics.add(cells, base + SAMPLES, 1) + 1
    const end = Atomics.load(cells, base + WINDOW_END)
    const next = Math.floor(nowMs + windowMs) | 0 || 1
    if (end === 0) {
      Atomics.compareExchange(cells, base + WINDOW_END, 0, next)
      return null
    }
    if (samples < least || ((Math.floor(nowMs) - end) | 0) < 0) return null
    if (Atomics.compareExchange(cells, base + WINDOW_END, end, next) !== end) return null
    const taken = Atomics.exchange(cells, base + SAMPLES, 0)
    const sum = Atomics.exchange(cells, base + SUM, 0)
    return {
      samples: taken,
      meanMs: (sum * SAMPLE_UNIT_MS) / Math.max(1, taken),
      longTermMs: Atomics.load(cells, base + LONG_TERM) * LONG_TERM_UNIT_MS,
      windows: Atomics.load(cells, base + WINDOWS),
    }
  }

  setLongTerm(slot: number, latencyMs: number, windows: number): void {
    const base = slot * INT32_PER_LINE
    Atomics.store(this.cells, base + LONG_TERM, Math.max(1, Math.min(2 ** 31 - 1, Math.round(latencyMs / LONG_TERM_UNIT_MS))))
    Atomics.store(this.cells, base + WINDOWS, windows)
  }
}

/** Gives back what a worker held that has ended. Nothing must run in the slot of that worker any more. For the primary. */
export function retireConcurrency(region: SharedArrayBuffer, worker: number): void {
  const cells = new Int32Array(region, 0, ROTOR_SLOTS * INT32_PER_LINE)
  const column = new Int32Array(region, LINES_BYTES + worker * COLUMN_BYTES, ROTOR_SLOTS * COLUMN_CELLS)
  for (let own = 0; own < column.length; own++) {
    const left = column[own] as number
    if (left === 0) continue
    Atomics.sub(cells, (own >> 1) * INT32_PER_LINE + (own & 1), left)
    column[own] = 0
  }
}

export interface PlacesView {
  readonly places: number
  readonly waiting: number
  /** Adaptive limit, with fraction; 0 = not begun. */
  readonly learned: number
}

/** Reads what all workers count. For the primary. */
export class ConcurrencyView {
  private readonly cells: Int32Array

  constructor(region: SharedArrayBuffer) {
    this.cells = new Int32Array(region, 0, ROTOR_SLOTS * INT32_PER_LINE)
  }

  of(slot: number): PlacesView {
    const base = slot * INT32_PER_LINE
    return {
      places: Atomics.load(this.cells, base + Held.Place),
      waiting: Atomics.load(this.cells, base + Held.Waiting),
      learned: Atomics.load(this.cells, base + LIMIT) / LIMIT_UNIT,
    }
  }
}
