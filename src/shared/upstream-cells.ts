/**
 * What all workers know together about an upstream, in the slot of its rotor (shared/rotors): the budget of its retries.
 *
 *   128 bytes per slot, two lines; a slot that nothing uses is never touched
 *   int32[0…11]   requests  ring of quarters of a second: number modulo 12     workers, by compare-exchange
 *   int32[16…27]  retries   the same                                           workers, by compare-exchange
 *   int32[12…15, 28…31] unused
 *
 *   a cell of a ring: bits 20–31 turn of the ring (quarter / 12, modulo 4096), bits 0–19 count of that quarter
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
/** More than the window, so that a quarter that begins never overwrites one that counts. */
const RING = 12
const STEP_MS = 250
/** The whole window, and the part of a step that the present one is short of: no two seconds then see more than one window allows. */
const WINDOW_STEPS = (BUDGET_WINDOW_S * 1000) / STEP_MS + 1
const TURN_SHIFT = 20
const TURN_MASK = 0xfff
const COUNT_MAX = (1 << TURN_SHIFT) - 1

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
    const step = Math.floor(atMs / STEP_MS)
    if (Math.floor(nowMs / STEP_MS) - step >= WINDOW_STEPS) return
    this.add(slot * CELLS_PER_SLOT + REQUESTS, step, count)
  }

  /**
   * Takes a retry out of the budget: true while the retries of the window, this one included, are at most `percent` of its requests, or
   * `least`. Counted first and taken back when it is too many: two threads may then both be refused the last one, but never both get it.
   */
  takeRetry(slot: number, percent: number, least: number, nowMs: number): boolean {
    const base = slot * CELLS_PER_SLOT
    const step = Math.floor(nowMs / STEP_MS)
    this.add(base + RETRIES, step, 1)
    const retries = this.sum(base + RETRIES, step)
    if (retries <= least || retries * 100 <= this.sum(base + REQUESTS, step) * percent) return true
    this.add(base + RETRIES, step, -1)
    return false
  }

  /** Counts a retry that nobody was asked about: later ones find so much less. */
  addRetry(slot: number, nowMs: number): void {
    this.add(slot * CELLS_PER_SLOT + RETRIES, Math.floor(nowMs / STEP_MS), 1)
  }

  /** Requests and retries of the window. */
  traffic(slot: number, nowMs: number): { readonly requests: number; readonly retries: number } {
    const base = slot * CELLS_PER_SLOT
    const step = Math.floor(nowMs / STEP_MS)
    return { requests: this.sum(base + REQUESTS, step), retries: this.sum(base + RETRIES, step) }
  }

  private add(ring: number, step: number, amount: number): void {
    const { cells } = this
    const at = ring + (step % RING)
    const turn = turnOf(step)
    for (;;) {
      const old = Atomics.load(cells, at)
      const count = old >>> TURN_SHIFT === turn ? old & COUNT_MAX : 0
      const next = (turn << TURN_SHIFT) | Math.max(0, Math.min(COUNT_MAX, count + amount))
      if (Atomics.compareExchange(cells, at, old, next) === old) return
    }
  }

  private sum(ring: number, step: number): number {
    let sum = 0
    for (let back = 0; back < WINDOW_STEPS && back <= step; back++) {
      const cell = Atomics.load(this.cells, ring + ((step - back) % RING))
      if (cell >>> TURN_SHIFT === turnOf(step - back)) sum += cell & COUNT_MAX
    }
    return sum
  }
}

function turnOf(step: number): number {
  return Math.floor(step / RING) & TURN_MASK
}
