/**
 * Cells of `api-breaker`: what was counted for a host and path. Fixed memory, whatever paths clients make up.
 *
 *   line 0            word 0, 1  two lanes of the hash seed        word 2  1 as soon as anything was ever counted
 *   sets              64 words each: word 0 lock (member + 1), 16…31 keys of 8 entries (low, high), 32…47 their states (64 bits)
 *
 *   state, 64 bits, changed by one compare-and-swap:
 *     0–9    H    healthy answers since the last failure
 *     10–19  r    failures modulo the configured number
 *     20–25  k    times that number was reached, saturating; failures counted so far = k × failures + r
 *     26–60  L    moment of the last trip: 1 + monotonic ms modulo 2^35 - 1; 0 = none
 *     61–63  g    generation: changes when the entry is given to another key, so that a late swap for the old key fails
 *
 * A key lives in one set. It is entered under the lock of its set, by its first failure; counting needs no lock. A full set gives up an
 * entry without failures, else the one that tripped least recently. Writers and readers: all workers; the primary frees the locks of
 * a worker that died. A thread that dies between two steps leaves an entry that is whole: counted, or not counted.
 */
import type { PathBreakerSettings } from '../breakers/contract.js'
import { hashText, KeyHash } from '../limits/hash.js'
import { allocateRegion, assertRegionSize, INT32_PER_LINE } from './region.js'

/** A power of two. */
export const PATH_BREAKER_SETS = 8192
const WAYS = 8
const SET_WORDS = 64
const KEYS = INT32_PER_LINE
const STATES = KEYS + 2 * WAYS
const USED = 2
export const PATH_BREAKERS_BYTES = (INT32_PER_LINE + PATH_BREAKER_SETS * SET_WORDS) * Int32Array.BYTES_PER_ELEMENT

/** Bounds of what is configured: the bits above. */
export const PATH_COUNT_MAX = 1000
const COUNT_BITS = 10n
const COUNT_MASK = 1023
const TIMES_MAX = 63
const MOMENT_MODULUS = 2 ** 35 - 1
const MOMENT_SHIFT = 26n
const MOMENT_MASK = 2n ** 35n - 1n
const GENERATION_SHIFT = 61n
const EMPTY_MASK = (1n << GENERATION_SHIFT) - 1n
/** Its owner holds a lock for some hundred instructions, unless it was put off its core, or died: then the failure stays uncounted. */
const SPINS = 500
const NAPS = 100
const NAP_MS = 1

export function createPathBreakersRegion(seed: readonly [number, number]): SharedArrayBuffer {
  const region = allocateRegion('path breakers', PATH_BREAKERS_BYTES)
  const words = new Int32Array(region)
  words[0] = seed[0]
  words[1] = seed[1]
  return region
}

/** What a state word says. Reused: looking allocates no object. */
class Reading {
  healthy = 0
  rest = 0
  times = 0
  moment = 0

  read(state: bigint): void {
    const low = Number(BigInt.asUintN(26, state))
    this.healthy = low & COUNT_MASK
    this.rest = (low >>> 10) & COUNT_MASK
    this.times = low >>> 20
    this.moment = Number((state >> MOMENT_SHIFT) & MOMENT_MASK)
  }

  /** The word with the generation of `state`. */
  write(state: bigint): bigint {
    const low = BigInt(this.healthy) | (BigInt(this.rest) << COUNT_BITS) | (BigInt(this.times) << 20n)
    return (state & ~EMPTY_MASK) | (BigInt(this.moment) << MOMENT_SHIFT) | low
  }

  get hasFailures(): boolean {
    return this.times > 0 || this.rest > 0
  }
}

/** One thread's view. `nowMs` is monotonic. */
export class PathBreakerTable {
  private readonly words: Int32Array
  private readonly doubles: BigUint64Array
  private readonly hash = new KeyHash()
  private readonly reading = new Reading()
  private readonly seedHigh: number
  private readonly seedLow: number

  /** `member`: the index of the worker, or the number of workers for the primary. */
  constructor(
    region: SharedArrayBuffer,
    private readonly member: number,
  ) {
    assertRegionSize('path breakers', region, PATH_BREAKERS_BYTES)
    this.words = new Int32Array(region)
    this.doubles = new BigUint64Array(region)
    this.seedHigh = this.words[0] as number
    this.seedLow = this.words[1] as number
  }

  /** True while the path is broken. */
  isOpen(host: string, path: string, settings: PathBreakerSettings, nowMs: number): boolean {
    if (Atomics.load(this.words, USED) === 0) return false
    const at = this.find(host, path)
    if (at < 0) return false
    const { reading } = this
    reading.read(Atomics.load(this.doubles, at))
    return reading.hasFailures && isBroken(reading, settings, nowMs)
  }

  /** An unhealthy status. Seconds of the break that it began; 0 = none. */
  failed(host: string, path: string, settings: PathBreakerSettings, nowMs: number): number {
    const { doubles, reading } = this
    let at = this.find(host, path)
    for (;;) {
      if (at < 0) at = this.enter()
      if (at < 0) return 0
      const seen = Atomics.load(doubles, at)
      // The entry may have been given to another key since it was found.
      if (!this.isOurs(at)) {
        at = this.find(host, path)
        continue
      }
      reading.read(seen)
      reading.healthy = 0
      reading.rest++
      const isTrip = reading.rest >= settings.failures
      if (isTrip) {
        reading.rest = 0
        reading.times = Math.min(TIMES_MAX, reading.times + 1)
        reading.moment = momentOf(nowMs)
      }
      if (Atomics.compareExchange(doubles, at, seen, reading.write(seen)) === seen) return isTrip ? breakSeconds(reading, settings) : 0
    }
  }

  /** A healthy status. True when it ended everything that was counted against the path. */
  succeeded(host: string, path: string, settings: PathBreakerSettings): boolean {
    if (Atomics.load(this.words, USED) === 0) return false
    const { doubles, reading } = this
    const at = this.find(host, path)
    if (at < 0) return false
    for (;;) {
      const seen = Atomics.load(doubles, at)
      reading.read(seen)
      if (!reading.hasFailures || !this.isOurs(at)) return false
      reading.healthy++
      const isOver = reading.healthy >= settings.successes
      const next = isOver ? seen & ~EMPTY_MASK : reading.write(seen)
      if (Atomics.compareExchange(doubles, at, seen, next) === seen) return isOver
    }
  }

  /** The thread of this member has ended: its lock, if it held one, is free again. */
  recoverMember(member: number): void {
    for (let set = 0; set < PATH_BREAKER_SETS; set++) Atomics.compareExchange(this.words, setBase(set), member + 1, 0)
  }

  /** Index of the state of a key in the 64-bit view, or -1. Leaves the hash of the key behind. */
  private find(host: string, path: string): number {
    const { hash, words } = this
    hashText(host, this.seedHigh, this.seedLow, hash)
    hashText(path, hash.high, hash.low, hash)
    // 0 in the low half means: no key.
    if (hash.low === 0) hash.low = 1
    const base = setBase(hash.high & (PATH_BREAKER_SETS - 1))
    for (let way = 0; way < WAYS; way++) {
      const key = base + KEYS + 2 * way
      if (words[key] === hash.low && words[key + 1] === hash.high) return (base + STATES) / 2 + way
    }
    return -1
  }

  /** The entry still belongs to the key whose hash was left behind. Looked at after its state was read. */
  private isOurs(at: number): boolean {
    const key = 2 * at - (STATES - KEYS)
    return Atomics.load(this.words, key) === this.hash.low && Atomics.load(this.words, key + 1) === this.hash.high
  }

  /** Enters the key whose hash was left behind; -1 when its set stays locked. */
  private enter(): number {
    const { words, hash } = this
    const base = setBase(hash.high & (PATH_BREAKER_SETS - 1))
    if (!this.lock(base)) return -1
    Atomics.store(words, USED, 1)
    const way = this.place(base)
    const key = base + KEYS + 2 * way
    const at = (base + STATES) / 2 + way
    if (words[key] !== hash.low || words[key + 1] !== hash.high) {
      // In this order nobody who read the old key can change the state of the new one.
      Atomics.store(words, key, 0)
      this.renew(at)
      Atomics.store(words, key + 1, hash.high)
      Atomics.store(words, key, hash.low)
    }
    Atomics.store(words, base, 0)
    Atomics.notify(words, base)
    return at
  }

  private lock(base: number): boolean {
    const { words } = this
    for (let tries = 0; tries < SPINS + NAPS; tries++) {
      const owner = Atomics.compareExchange(words, base, 0, this.member + 1)
      if (owner === 0) return true
      if (tries >= SPINS) Atomics.wait(words, base, owner, NAP_MS)
    }
    return false
  }

  private renew(at: number): void {
    for (;;) {
      const seen = Atomics.load(this.doubles, at)
      const next = BigInt.asUintN(64, ((seen >> GENERATION_SHIFT) + 1n) << GENERATION_SHIFT)
      if (Atomics.compareExchange(this.doubles, at, seen, next) === seen) return
    }
  }

  /** Where the key is, or the entry that it takes over. */
  private place(base: number): number {
    const { words, hash } = this
    const reading = new Reading()
    let best = 0
    let bestRank = Number.POSITIVE_INFINITY
    for (let way = 0; way < WAYS; way++) {
      const key = base + KEYS + 2 * way
      if (words[key] === hash.low && words[key + 1] === hash.high) return way
      reading.read(Atomics.load(this.doubles, (base + STATES) / 2 + way))
      const rank = words[key] === 0 ? -3 : !reading.hasFailures ? -2 : reading.moment === 0 ? -1 : reading.moment
      if (rank < bestRank) {
        best = way
        bestRank = rank
      }
    }
    return best
  }
}

function setBase(set: number): number {
  return INT32_PER_LINE + set * SET_WORDS
}

function momentOf(nowMs: number): number {
  return 1 + (Math.floor(nowMs) % MOMENT_MODULUS)
}

function breakSeconds({ times }: Reading, { maxBreakerSec }: PathBreakerSettings): number {
  return Math.min(2 ** Math.max(1, times), maxBreakerSec)
}

/** Whole seconds are compared, and inclusively, as the reference does; it forgets the moment after `max_breaker_sec`. */
function isBroken(reading: Reading, settings: PathBreakerSettings, nowMs: number): boolean {
  if (reading.moment === 0) return false
  const now = Math.floor(nowMs)
  let ageMs = (momentOf(nowMs) - reading.moment + MOMENT_MODULUS) % MOMENT_MODULUS
  // Another thread read its clock a moment later than this one.
  if (ageMs > MOMENT_MODULUS / 2) ageMs = 0
  if (ageMs >= settings.maxBreakerSec * 1000) return false
  const trippedSecond = Math.floor((now - ageMs) / 1000)
  return Math.floor(now / 1000) <= trippedSecond + breakSeconds(reading, settings)
}
