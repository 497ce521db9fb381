/**
 * What all workers know together about an upstream, in the slot of its rotor (shared/rotors): the budget of its retries.
 *
 *   128 bytes per slot, two lines; a slot that nothing uses is never touched
 *   int32[0…11]   requests  ring of seconds: second modulo 12                  workers, by compare-exchange
 *   int32[16…27]  retries   the same                                           workers, by compare-exchange
 *   int32[12…15, 28…31] unused
 *
 *   a cell of a ring: bits 24–31 turn of the ring (second / 12, modulo 256), bits 0–23 count of that second
 *
 * A cell with another turn counts as zero, so that nothing has to be cleared, and the turn changes together with the count.
 * Times are monotonic milliseconds (base/clock), comparable between threads.
 */
import { allocateRegion, assertRegionSize, CACHE_LINE_BYTES, INT32_PER_LINE } from './region.js'
import { ROTOR_SLOTS } from './rotors.js'

const LINES_PER_SLOT = 2
const CELLS_PER_SLOT = LINES_PER_SLOT * INT32_PER_LINE
const UPSTREAMS_BYTES = ROTOR_SLOTS * LINES_PER_SLOT * CACHE_LINE_BYTES

const REQUESTS = 0
const RETRIES = INT32_PER_LINE

/** Seconds that a budget looks back, the present one included. Few: what was saved up in good times must not come at once when they end. */
export const BUDGET_WINDOW_S = 2
/** More than the window, so that a second that begins never overwrites one that counts. */
const RING = 12
const COUNT_MAX = 0xffffff

export function createUpstreamsRegion(): SharedArrayBuffer {
  return allocateRegion('upstreams', UPSTREAMS_BYTES)
}

export class UpstreamCells {
  private readonly cells: Int32Array

  constructor(region: SharedArrayBuffer) {
    assertRegionSize('upstreams', region, UPSTREAMS_BYTES)
    this.cells = new Int32Array(region)
  }

  /** Counts requests that began around `atMs`. What is older than the window is not counted any more. */
  addRequests(slot: number, count: number, atMs: number, nowMs: number): void {
    const second = Math.floor(atMs / 1000)
    if (Math.floor(nowMs / 1000) - second >= BUDGET_WINDOW_S) return
    this.add(slot * CELLS_PER_SLOT + REQUESTS, second, count)
  }

  /**
   * Takes a retry out of the budget: true while the retries of the window, this one included, are at most `percent` of its requests, or
   * `least`. Counted first and taken back when it is too many: two threads may then both be refused the last one, but never both get it.
   */
  takeRetry(slot: number, percent: number, least: number, nowMs: number): boolean {
    const base = slot * CELLS_PER_SLOT
    const second = Math.floor(nowMs / 1000)
    this.add(base + RETRIES, second, 1)
    const retries = this.sum(base + RETRIES, second)
    if (retries <= least || retries * 100 <= this.sum(base + REQUESTS, second) * percent) return true
    this.add(base + RETRIES, second, -1)
    return false
  }

  /** Counts a retry that nobody was asked about: later ones find so much less. */
  addRetry(slot: number, nowMs: number): void {
    this.add(slot * CELLS_PER_SLOT + RETRIES, Math.floor(nowMs / 1000), 1)
  }

  /** Requests and retries of the window. */
  traffic(slot: number, nowMs: number): { readonly requests: number; readonly retries: number } {
    const base = slot * CELLS_PER_SLOT
    const second = Math.floor(nowMs / 1000)
    return { requests: this.sum(base + REQUESTS, second), retries: this.sum(base + RETRIES, second) }
  }

  private add(ring: number, second: number, amount: number): void {
    const { cells } = this
    const at = ring + (second % RING)
    const turn = turnOf(second)
    for (;;) {
      const old = Atomics.load(cells, at)
      const count = old >>> 24 === turn ? old & COUNT_MAX : 0
      const next = (turn << 24) | Math.max(0, Math.min(COUNT_MAX, count + amount))
      if (Atomics.compareExchange(cells, at, old, next) === old) return
    }
  }

  private sum(ring: number, second: number): number {
    let sum = 0
    for (let back = 0; back < BUDGET_WINDOW_S && back <= second; back++) {
      const cell = Atomics.load(this.cells, ring + ((second - back) % RING))
      if (cell >>> 24 === turnOf(second - back)) sum += cell & COUNT_MAX
    }
    return sum
  }
}

function turnOf(second: number): number {
  return Math.floor(second / RING) & 0xff
}
