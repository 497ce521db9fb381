/**
 * Round-robin rotors: counters that all workers turn together, so that a weighted cycle is exact over the whole process.
 *
 *   16 bytes per slot, 262,144 slots
 *   uint32[0]  turns       picks so far, modulo 2^32; every pick is one atomic add
 *   uint32[1]  wrapsLow    wraps of `turns`; read while turns < 2^31, counted when turns passes 3/4 of its range
 *   uint32[2]  wrapsHigh   wraps of `turns` + 1; read while turns ≥ 2^31, counted when turns passes 1/4 of its range
 *   uint32[3]  unused      (a power of two keeps a slot inside one cache line)
 *
 * Why not one uint32: 2^32 is not a multiple of most cycle lengths, so at the wrap `turns % cycle` would skip a part of a cycle.
 * A plain high word does not help: between the add that wraps and the add that carries, other threads would read the old high
 * word. Hence two high words, each of which changes in the middle of the half in which nobody reads it: a thread would have to
 * sleep through a thousand million picks between two instructions to read a wrong one.
 * BigUint64 would be one word, but allocates a BigInt per pick.
 */
import { assertRegionSize } from './region.js'

export const ROTOR_SLOTS = 262_144
export const ROTOR_CELLS = 4
export const ROTORS_BYTES = ROTOR_SLOTS * ROTOR_CELLS * Uint32Array.BYTES_PER_ELEMENT

const TURNS = 0
const WRAPS_LOW = 1
const WRAPS_HIGH = 2

const QUARTER = 2 ** 30
const HALF = 2 ** 31
const FULL = 2 ** 32

/** The worker's side. */
export class Rotors {
  private readonly cells: Uint32Array

  constructor(region: SharedArrayBuffer) {
    assertRegionSize('rotors', region, ROTORS_BYTES)
    this.cells = new Uint32Array(region)
  }

  /**
   * Draws the next number of a slot: 0, 1, 2, … without gap or repetition over all threads (exact up to 2^53 picks).
   * The position in a cycle is the result modulo the length of the cycle. `slot` must be below ROTOR_SLOTS.
   */
  next(slot: number): number {
    const cells = this.cells
    const base = slot * ROTOR_CELLS
    const turns = Atomics.add(cells, base + TURNS, 1)
    if (turns < HALF) {
      if (turns === QUARTER) Atomics.add(cells, base + WRAPS_HIGH, 1)
      return Atomics.load(cells, base + WRAPS_LOW) * FULL + turns
    }
    if (turns === HALF + QUARTER) Atomics.add(cells, base + WRAPS_LOW, 1)
    return (Atomics.load(cells, base + WRAPS_HIGH) - 1) * FULL + turns
  }
}

/**
 * The primary's side: gives every key (an upstream) its slot, the same one across reloads, so that a reload does not restart cycles.
 *
 * When all slots are given away, further keys share slots by hash: their picks stay fair in the long run but are no longer exact per
 * cycle, which `onShared` is told once per key.
 */
export class RotorAllocator {
  private readonly slots = new Map<string, number>()
  private used = 0

  constructor(
    private readonly onShared: (key: string, slot: number) => void,
    private readonly capacity = ROTOR_SLOTS,
  ) {
    if (!Number.isInteger(capacity) || capacity < 1 || capacity > ROTOR_SLOTS) {
      throw new RangeError(`rotor capacity is ${capacity}; it must be an integer from 1 to ${ROTOR_SLOTS}`)
    }
  }

  slot(key: string): number {
    const known = this.slots.get(key)
    if (known !== undefined) return known
    if (this.used < this.capacity) return this.assign(key, this.used++)
    const shared = this.assign(key, hash(key) % this.capacity)
    this.onShared(key, shared)
    return shared
  }

  private assign(key: string, slot: number): number {
    this.slots.set(key, slot)
    return slot
  }
}

/** FNV-1a over UTF-16 code units, 32 bits. */
function hash(text: string): number {
  let state = 0x811c9dc5
  for (let index = 0; index < text.length; index++) state = Math.imul(state ^ text.charCodeAt(index), 0x01000193)
  return state >>> 0
}
