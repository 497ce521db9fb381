/**
 * What all workers know together about an upstream, in the slot of its rotor (shared/rotors): the budget of its retries.
 *
 *   128 bytes per slot, two lines; a slot that nothing uses is never touched
 *   int32[0…3]    requests  ring of twentieths of a second: number modulo 4    workers, by compare-exchange
 *   int32[16…27]  retries   ring of quarters of a second: number modulo 12     workers, by compare-exchange
 *   int32[28]     balance   credit for retries, in ten-thousandths of one; below 0 = debt    workers, by compare-exchange
 *   int32[4…15, 29…31] unused
 *
 *   a cell of a ring: bits 20–31 turn of the ring (step / cells, modulo 4096), bits 0–19 count of that step
 *
 * Each request brings some credit, each retry costs CREDIT_UNIT of it. Credit that is not used within about a tenth of a second is
 * lost, down to a good one: what is saved up in good times must not come at once when they end. Nobody is asked to take away what is
 * too much: whoever reads the balance looks at no more of it than recent requests brought.
 *
 * A cell with another turn counts as zero, so that nothing has to be cleared, and the turn changes together with the count.
 * Times are monotonic milliseconds (base/clock), comparable between threads.
 */
import { allocateRegion, assertRegionSize, CACHE_LINE_BYTES, INT32_PER_LINE } from './region.js'
import { ROTOR_SLOTS } from './rotors.js'

const LINES_PER_SLOT = 2
const CELLS_PER_SLOT = LINES_PER_SLOT * INT32_PER_LINE
const UPSTREAMS_BYTES = ROTOR_SLOTS * LINES_PER_SLOT * CACHE_LINE_BYTES

/** `window`: steps that are looked at, the present one included; less than `cells`, so that a step that begins never overwrites one that counts. */
interface Ring {
  readonly first: number
  readonly cells: number
  readonly stepMs: number
  readonly window: number
}

const REQUESTS: Ring = { first: 0, cells: 4, stepMs: 50, window: 2 }
/** Seconds in which the least retries are counted. */
export const LEAST_WINDOW_S = 2
/** Its window is a step longer: no two seconds see more than one window allows. */
const RETRIES: Ring = { first: INT32_PER_LINE, cells: 12, stepMs: 250, window: LEAST_WINDOW_S * 4 + 1 }
const BALANCE = 28

const TURN_SHIFT = 20
const TURN_MASK = 0xfff
const COUNT_MAX = (1 << TURN_SHIFT) - 1

/** Cost of a retry. */
export const CREDIT_UNIT = 10_000
const BALANCE_MAX = 1_000_000_000
/** Retries that may be owed. */
const DEBT_MAX = 1_000

export function createUpstreamsRegion(): SharedArrayBuffer {
  return allocateRegion('upstreams', UPSTREAMS_BYTES)
}

export class UpstreamCells {
  private readonly cells: Int32Array

  constructor(region: SharedArrayBuffer) {
    assertRegionSize('upstreams', region, UPSTREAMS_BYTES)
    this.cells = new Int32Array(region)
  }

  /** Counts requests that began around `atMs`: the most credit that is kept depends on them. */
  addRequests(slot: number, count: number, atMs: number, nowMs: number): void {
    const step = Math.floor(atMs / REQUESTS.stepMs)
    if (Math.floor(nowMs / REQUESTS.stepMs) - step >= REQUESTS.window) return
    this.add(slot * CELLS_PER_SLOT, REQUESTS, step, count)
  }

  /**
   * The most of the balance that counts, when each request brings `credit`: what the latest brought, but at least enough for a retry, and what the
   * next request brings on top of almost one.
   */
  most(slot: number, credit: number, nowMs: number): number {
    if (credit === 0) return 0
    const recent = this.sum(slot * CELLS_PER_SLOT, REQUESTS, nowMs)
    return Math.min(BALANCE_MAX, Math.max(CREDIT_UNIT + credit, credit * recent))
  }

  balance(slot: number): number {
    return Atomics.load(this.cells, slot * CELLS_PER_SLOT + BALANCE)
  }

  /** A request brings its credit, up to a balance of `most`: what is above what counts is ignored, so this bound may be generous. */
  deposit(slot: number, credit: number, most: number): void {
    const at = slot * CELLS_PER_SLOT + BALANCE
    for (;;) {
      const old = Atomics.load(this.cells, at)
      if (old >= most) return
      if (Atomics.compareExchange(this.cells, at, old, Math.min(most, old + credit)) === old) return
    }
  }

  /**
   * Takes a retry out of the budget: true while there is credit for it, or while those of the last two seconds, this one included, are at most
   * `least`; then it is owed. Counted first and taken back when it is too many: two threads may then both be refused the last of the least,
   * but never both get it.
   */
  takeRetry(slot: number, credit: number, least: number, nowMs: number): boolean {
    const base = slot * CELLS_PER_SLOT
    const step = Math.floor(nowMs / RETRIES.stepMs)
    this.add(base, RETRIES, step, 1)
    const isLeast = this.sum(base, RETRIES, nowMs) <= least
    if (this.withdraw(slot, credit, isLeast ? Math.min(least, DEBT_MAX) : 0, isLeast, nowMs)) return true
    this.add(base, RETRIES, step, -1)
    return false
  }

  /** Counts a retry that nobody was asked about: later ones find so much less. */
  addRetry(slot: number, credit: number, nowMs: number): void {
    this.add(slot * CELLS_PER_SLOT, RETRIES, Math.floor(nowMs / RETRIES.stepMs), 1)
    this.withdraw(slot, credit, DEBT_MAX, true, nowMs)
  }

  /** Retries of the last two seconds. */
  retries(slot: number, nowMs: number): number {
    return this.sum(slot * CELLS_PER_SLOT, RETRIES, nowMs)
  }

  /** Pays for a retry, in any case or only from credit. `debt`: retries that may be owed afterwards. */
  private withdraw(slot: number, credit: number, debt: number, inAnyCase: boolean, nowMs: number): boolean {
    const at = slot * CELLS_PER_SLOT + BALANCE
    const most = this.most(slot, credit, nowMs)
    for (;;) {
      const old = Atomics.load(this.cells, at)
      const usable = Math.min(old, most)
      if (!inAnyCase && usable < CREDIT_UNIT) return false
      const next = Math.min(usable, Math.max(usable - CREDIT_UNIT, -debt * CREDIT_UNIT))
      if (Atomics.compareExchange(this.cells, at, old, next) === old) return true
    }
  }

  private add(base: number, ring: Ring, step: number, amount: number): void {
    const { cells } = this
    const at = base + ring.first + (step % ring.cells)
    const turn = turnOf(ring, step)
    for (;;) {
      const old = Atomics.load(cells, at)
      const count = old >>> TURN_SHIFT === turn ? old & COUNT_MAX : 0
      const next = (turn << TURN_SHIFT) | Math.max(0, Math.min(COUNT_MAX, count + amount))
      if (Atomics.compareExchange(cells, at, old, next) === old) return
    }
  }

  private sum(base: number, ring: Ring, nowMs: number): number {
    const step = Math.floor(nowMs / ring.stepMs)
    let sum = 0
    for (let back = 0; back < ring.window && back <= step; back++) {
      const cell = Atomics.load(this.cells, base + ring.first + ((step - back) % ring.cells))
      if (cell >>> TURN_SHIFT === turnOf(ring, step - back)) sum += cell & COUNT_MAX
    }
    return sum
  }
}

function turnOf({ cells }: Ring, step: number): number {
  return Math.floor(step / cells) & TURN_MASK
}
