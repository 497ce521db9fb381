/**
 * Cells of circuit breakers: a slot per breaker, found by the hash of its name and kept as long as the process lives, so that reloads
 * change no state. Written by all workers, and by the primary (manual changes, news from other gateways).
 *
 *   96 words per slot (six cache lines)
 *   0, 1    state (64 bits: one compare-and-swap per transition)
 *             low  bits 0–1 state (`breakerStates`)   2 held open by hand   3–8 times opened in a row   9–19 successes of probes
 *                  20–31 generation: changes with every transition, never 0 after the first
 *             high in ticks of 10 ms: open = until when; else = since when
 *   2, 3    key (64-bit hash of the name; 0 = free slot)
 *   4       failures in a row
 *   5       requests seen while ramping
 *   6–8     requests, failures, slow calls as they stood when the breaker closed: what came before is not looked at
 *   16–18   requests, failures, slow calls so far, modulo 2^32       19  bucket in which they were last counted
 *   24–63   ring of 10: [bucket, requests, failures, slow calls] as they stood when that bucket began
 *   64–95   permits of probes: bits 20–31 generation, 0–19 when it was taken, ticks of 100 ms; 0 = free
 *
 * The words of the window are explained in shared/breaker-window. A permit of a thread that died, or of a request that never ended, expires.
 */
import { createHash } from 'node:crypto'
import {
  ADMITTED,
  type BreakerEvent,
  type BreakerReason,
  type BreakerSettings,
  type BreakerState,
  breakerStates,
  Outcome,
  PERMITS_MAX,
  REFUSED,
} from '../breakers/contract.js'
import { BreakerWindow } from './breaker-window.js'
import { assertRegionSize } from './region.js'

/** A power of two. */
export const BREAKER_SLOTS = 32_768
const SLOT_WORDS = 96
export const BREAKERS_BYTES = BREAKER_SLOTS * SLOT_WORDS * Int32Array.BYTES_PER_ELEMENT
/** Slots looked at for a name before the table counts as full. */
const PROBES_MAX = 64

const STATE = 0
const MOMENT = 1
const KEY_DOUBLE = 1
const IN_A_ROW = 4
const RAMP = 5
const PERMITS = 64

export const TICK_MS = 10
const PERMIT_TICK_MS = 100
const PERMIT_TICKS = 2 ** 20
const PERMIT_SKEW_TICKS = 100
/** A request that began before the breaker closed says nothing about it since. Longer requests than this are not told apart. */
const STALE_TICKS = 360_000
/** Admitted share at the beginning of the ramp. */
export const RAMP_START = 0.1
const OPEN_COUNT_MAX = 63

const closed = 0
const open = 1
const halfOpen = 2
const ramping = 3
const STATE_MASK = 3
const HELD = 4
/** Nothing to look at: closed, and not held. */
const BUSY_MASK = 7

const openCountOf = (low: number): number => (low >>> 3) & OPEN_COUNT_MAX
const successesOf = (low: number): number => (low >>> 9) & 0x7ff
const generationOf = (low: number): number => low >>> 20

function lowOf(state: number, isHeld: boolean, openCount: number, successes: number, generation: number): number {
  return state | (isHeld ? HELD : 0) | (openCount << 3) | (successes << 9) | (generation << 20) | 0
}

/** What follows when a breaker closes. While it ramps it remembers how often it was opened. */
function closedBy(low: number, rampMs: number): number {
  return rampMs > 0 ? lowOf(ramping, false, openCountOf(low), 0, nextGeneration(low)) : lowOf(closed, false, 0, 0, nextGeneration(low))
}

function nextGeneration(low: number): number {
  return (generationOf(low) + 1) & 0xfff || 1
}

function tickOf(ms: number): number {
  return Math.floor(ms / TICK_MS) | 0
}

/** What a breaker is doing, for people. */
export interface BreakerView {
  readonly state: BreakerState
  readonly isHeldOpen: boolean
  readonly openCount: number
  /** Milliseconds until an open breaker lets probes through; 0 in other states. */
  readonly openMs: number
  readonly failuresInARow: number
  readonly probes: number
}

/** Told of every transition, by the thread that made it. `name` is left to the caller. */
export type TransitionListener = (slot: number, event: Omit<BreakerEvent, 'name'>) => void

/** One thread's view of all breakers. */
export class BreakerCells {
  private readonly words: Int32Array
  private readonly doubles: BigUint64Array
  private readonly window: BreakerWindow

  constructor(
    region: SharedArrayBuffer,
    private readonly onTransition: TransitionListener,
  ) {
    assertRegionSize('breakers', region, BREAKERS_BYTES)
    this.words = new Int32Array(region)
    this.doubles = new BigUint64Array(region)
    this.window = new BreakerWindow(this.words)
  }

  /** The slot of this name: the same one in all threads. -1 when there is no room for another name. */
  slotOf(name: string): number {
    const key = createHash('sha256').update(name).digest().readBigUInt64LE(0) || 1n
    const home = Number(key & BigInt(BREAKER_SLOTS - 1))
    for (let probe = 0; probe < PROBES_MAX; probe++) {
      const slot = (home + probe) & (BREAKER_SLOTS - 1)
      const at = (slot * SLOT_WORDS) / 2 + KEY_DOUBLE
      const seen = Atomics.compareExchange(this.doubles, at, 0n, key)
      if (seen === 0n || seen === key) return slot
    }
    return -1
  }

  /** Closed, and not held open: `admit` would say ADMITTED. One atomic load. */
  isClosed(slot: number): boolean {
    return (Atomics.load(this.words, slot * SLOT_WORDS + STATE) & BUSY_MASK) === 0
  }

  /** ADMITTED, REFUSED, or a ticket. */
  admit(slot: number, settings: BreakerSettings, nowMs: number): number {
    for (;;) {
      const seen = this.load(slot)
      const low = lowPart(seen)
      if ((low & HELD) !== 0) return REFUSED
      switch (low & STATE_MASK) {
        case closed:
          return ADMITTED
        case open:
          if (ticksLeft(seen, nowMs) > 0) return REFUSED
          this.move(slot, seen, lowOf(halfOpen, false, openCountOf(low), 0, nextGeneration(low)), tickOf(nowMs), 'open-time-over', 0)
          break
        case halfOpen: {
          const ticket = this.takePermit(slot, settings, low, nowMs)
          if (ticket !== 0) return ticket
          break
        }
        default: {
          const share = rampShare(seen, settings, nowMs)
          if (share >= 1) {
            this.move(slot, seen, lowOf(closed, false, 0, 0, nextGeneration(low)), highPart(seen), 'ramp-over', 0)
            break
          }
          const turn = Atomics.add(this.words, slot * SLOT_WORDS + RAMP, 1) >>> 0
          return Math.floor((turn + 1) * share) > Math.floor(turn * share) ? ADMITTED : REFUSED
        }
      }
    }
  }

  /** A ticket, REFUSED, or 0 when the state changed meanwhile. */
  private takePermit(slot: number, { permits, permitExpiryMs }: BreakerSettings, low: number, nowMs: number): number {
    const { words } = this
    const base = slot * SLOT_WORDS
    const generation = generationOf(low)
    const tick = Math.floor(nowMs / PERMIT_TICK_MS) % PERMIT_TICKS
    const mine = (generation << 20) | tick | 0
    const isSame = (): boolean => generationOf(Atomics.load(words, base + STATE)) === generation
    for (let index = 0; index < permits && index < PERMITS_MAX; index++) {
      const at = base + PERMITS + index
      const seen = Atomics.load(words, at)
      if (seen !== 0 && generationOf(seen) === generation && !isExpired(seen, tick, permitExpiryMs)) continue
      // What is seen may belong to a later generation than ours.
      if (!isSame()) return 0
      if (Atomics.compareExchange(words, at, seen, mine) !== seen) {
        // Another thread was faster; what it took may be given back before the others are looked at, so this one counts as taken.
        continue
      }
      if (isSame()) return (mine >>> 0) * PERMITS_MAX + index + 1
      Atomics.compareExchange(words, at, mine, 0)
      return 0
    }
    return isSame() ? REFUSED : 0
  }

  settle(slot: number, settings: BreakerSettings, ticket: number, outcome: number, nowMs: number): void {
    const index = (ticket - 1) % PERMITS_MAX
    const permit = ((ticket - 1 - index) / PERMITS_MAX) | 0
    const at = slot * SLOT_WORDS + PERMITS + index
    // Expired and given to another request: that one's outcome counts.
    if (Atomics.load(this.words, at) !== permit) return
    // First what it says, then its place: nobody slips in between a failure and its consequence.
    if (outcome !== Outcome.none) this.judge(slot, settings, generationOf(permit), outcome, nowMs)
    Atomics.compareExchange(this.words, at, permit, 0)
  }

  private judge(slot: number, settings: BreakerSettings, generation: number, outcome: number, nowMs: number): void {
    const hasFailed = (outcome & Outcome.failed) !== 0 || ((outcome & Outcome.slow) !== 0 && settings.slowRatio > 0)
    for (;;) {
      const seen = this.load(slot)
      const low = lowPart(seen)
      if ((low & STATE_MASK) !== halfOpen || generationOf(low) !== generation) return
      if (hasFailed) {
        if (this.trip(slot, seen, settings, nowMs, 'probe-failed')) return
        continue
      }
      const successes = successesOf(low) + 1
      if (successes >= settings.successes) {
        this.forgetCounts(slot)
        if (this.move(slot, seen, closedBy(low, settings.rampMs), tickOf(nowMs), 'probes-succeeded', 0)) return
      } else {
        const next = lowOf(halfOpen, false, openCountOf(low), successes, generation)
        if (this.swap(slot, seen, next, highPart(seen))) return
      }
    }
  }

  record(slot: number, settings: BreakerSettings, outcome: number, nowMs: number, ageMs: number): void {
    if (outcome === Outcome.none) return
    const base = slot * SLOT_WORDS
    const low = Atomics.load(this.words, base + STATE)
    const state = low & STATE_MASK
    if ((low & HELD) !== 0 || state === open || state === halfOpen) return
    if (outcome !== Outcome.ok && this.isStale(slot, low, nowMs - ageMs)) return
    let reason: BreakerReason | null = null
    if ((outcome & Outcome.failed) !== 0) {
      const inARow = Atomics.add(this.words, base + IN_A_ROW, 1) + 1
      if (settings.consecutiveFailures > 0 && inARow >= settings.consecutiveFailures) reason = 'consecutive-failures'
    } else if (outcome !== Outcome.slowSoFar && Atomics.load(this.words, base + IN_A_ROW) !== 0)
      Atomics.store(this.words, base + IN_A_ROW, 0)
    if (settings.errorRatio > 0 || settings.slowRatio > 0) {
      const bucket = this.window.count(base, settings.windowMs, outcome, nowMs)
      reason ??= this.window.reason(base, settings, bucket, nowMs, this.closedForMs(slot, nowMs))
    }
    if (reason === null) return
    const seen = this.load(slot)
    // Only if nothing has changed since: another thread's trip is enough.
    if (generationOf(lowPart(seen)) === generationOf(low)) this.trip(slot, seen, settings, nowMs, reason)
  }

  /** The request began before the present state did. */
  private isStale(slot: number, low: number, beganMs: number): boolean {
    if (generationOf(low) === 0) return false
    const early = (Atomics.load(this.words, slot * SLOT_WORDS + MOMENT) - tickOf(beganMs)) | 0
    return early > 0 && early < STALE_TICKS
  }

  /** Time since the last transition; infinite before the first. */
  private closedForMs(slot: number, nowMs: number): number {
    const base = slot * SLOT_WORDS
    if (generationOf(Atomics.load(this.words, base + STATE)) === 0) return Number.POSITIVE_INFINITY
    const ticks = (tickOf(nowMs) - Atomics.load(this.words, base + MOMENT)) | 0
    return ticks < 0 ? Number.POSITIVE_INFINITY : ticks * TICK_MS
  }

  private trip(slot: number, seen: bigint, settings: BreakerSettings, nowMs: number, reason: BreakerReason): boolean {
    const low = lowPart(seen)
    const count = Math.min(OPEN_COUNT_MAX, openCountOf(low) + 1)
    const openMs = Math.min(settings.openMs * 2 ** (count - 1), settings.openMaxMs)
    return this.open(slot, seen, count, openMs, nowMs, reason, false)
  }

  private open(slot: number, seen: bigint, count: number, openMs: number, nowMs: number, reason: BreakerReason, isHeld: boolean): boolean {
    const until = Math.ceil((nowMs + openMs) / TICK_MS) | 0
    return this.move(slot, seen, lowOf(open, isHeld, count, 0, nextGeneration(lowPart(seen))), until, reason, openMs)
  }

  /** What was counted until now is not looked at any more, whatever becomes of the attempt to close. */
  private forgetCounts(slot: number): void {
    const base = slot * SLOT_WORDS
    this.window.mark(base)
    Atomics.store(this.words, base + IN_A_ROW, 0)
    Atomics.store(this.words, base + RAMP, 0)
  }

  /** Opens it by hand until `close`, or for `openMs` as another gateway did. False when it is so already. */
  openNow(slot: number, openMs: number, openCount: number, isHeld: boolean, nowMs: number, reason: BreakerReason): boolean {
    for (;;) {
      const seen = this.load(slot)
      const low = lowPart(seen)
      if ((low & HELD) !== 0) return false
      if (!isHeld && (low & STATE_MASK) === open && ticksLeft(seen, nowMs) * TICK_MS >= openMs) return false
      if (this.open(slot, seen, Math.max(1, Math.min(OPEN_COUNT_MAX, openCount)), openMs, nowMs, reason, isHeld)) return true
    }
  }

  /** Closes it, by way of the ramp unless `rampMs` is 0; what was counted is forgotten. False when it is closed already. */
  closeNow(
    slot: number,
    nowMs: number,
    reason: BreakerReason,
    { isHeldToo, rampMs }: { readonly isHeldToo: boolean; readonly rampMs: number },
  ): boolean {
    for (;;) {
      const seen = this.load(slot)
      const low = lowPart(seen)
      const isHeld = (low & HELD) !== 0
      if (isHeld ? !isHeldToo : (low & STATE_MASK) === closed || ((low & STATE_MASK) === ramping && rampMs > 0)) return false
      this.forgetCounts(slot)
      if (this.move(slot, seen, closedBy(low, rampMs), tickOf(nowMs), reason, 0)) return true
    }
  }

  /** Milliseconds until probes may pass; 0 when they may, or when nobody knows. */
  retryAfterMs(slot: number, nowMs: number): number {
    const seen = this.load(slot)
    return (lowPart(seen) & (STATE_MASK | HELD)) === open ? Math.max(0, ticksLeft(seen, nowMs) * TICK_MS) : 0
  }

  view(slot: number, settings: BreakerSettings, nowMs: number): BreakerView {
    const seen = this.load(slot)
    const low = lowPart(seen)
    const base = slot * SLOT_WORDS
    const tick = Math.floor(nowMs / PERMIT_TICK_MS) % PERMIT_TICKS
    const state = breakerStates[low & STATE_MASK] ?? 'closed'
    const permits = Array.from({ length: PERMITS_MAX }, (_, index) => Atomics.load(this.words, base + PERMITS + index))
    const isTaken = (permit: number): boolean =>
      permit !== 0 && generationOf(permit) === generationOf(low) && !isExpired(permit, tick, settings.permitExpiryMs)
    return {
      state,
      isHeldOpen: (low & HELD) !== 0,
      openCount: openCountOf(low),
      openMs: state === 'open' ? Math.max(0, ticksLeft(seen, nowMs) * TICK_MS) : 0,
      failuresInARow: Atomics.load(this.words, base + IN_A_ROW),
      probes: state === 'half-open' ? permits.filter(isTaken).length : 0,
    }
  }

  /** One transition, or nothing when another thread was faster. */
  private move(slot: number, seen: bigint, low: number, high: number, reason: BreakerReason, openMs: number): boolean {
    if (!this.swap(slot, seen, low, high)) return false
    const from = breakerStates[lowPart(seen) & STATE_MASK] ?? 'closed'
    const to = breakerStates[low & STATE_MASK] ?? 'closed'
    this.onTransition(slot, { from, to, reason, openMs, openCount: openCountOf(low) })
    return true
  }

  private load(slot: number): bigint {
    return Atomics.load(this.doubles, (slot * SLOT_WORDS) / 2)
  }

  private swap(slot: number, seen: bigint, low: number, high: number): boolean {
    const next = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0)
    return Atomics.compareExchange(this.doubles, (slot * SLOT_WORDS) / 2, seen, next) === seen
  }
}

function lowPart(value: bigint): number {
  return Number(value & 0xffffffffn) | 0
}

function highPart(value: bigint): number {
  return Number(value >> 32n) | 0
}

/** Ticks until an open breaker may be probed. A moment that lies implausibly far off has passed long ago (the ticks have wrapped). */
function ticksLeft(seen: bigint, nowMs: number): number {
  const left = (highPart(seen) - tickOf(nowMs)) | 0
  return left > LEFT_TICKS_MAX ? 0 : left
}

/** Two days: longer than any open time. */
const LEFT_TICKS_MAX = (2 * 86_400_000) / TICK_MS

function rampShare(seen: bigint, { rampMs }: BreakerSettings, nowMs: number): number {
  const age = ((tickOf(nowMs) - highPart(seen)) | 0) * TICK_MS
  // Far behind: the ticks have wrapped since. A little behind: another thread's clock.
  if (age >= rampMs || age < -LEFT_TICKS_MAX * TICK_MS) return 1
  return RAMP_START + (1 - RAMP_START) * (Math.max(0, age) / rampMs)
}

function isExpired(permit: number, tick: number, expiryMs: number): boolean {
  const age = (tick - (permit & (PERMIT_TICKS - 1)) + PERMIT_TICKS) % PERMIT_TICKS
  // A little "in the future": another thread read its clock a moment later.
  return age < PERMIT_TICKS - PERMIT_SKEW_TICKS && age * PERMIT_TICK_MS >= expiryMs
}
