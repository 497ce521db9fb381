/**
 * The only reader of time and the only maker of timers. Everything else is handed a Clock, so that tests own the time.
 *
 * Monotonic time counts from the start of the machine, not of the thread: `performance.now()` alone starts at zero in every
 * worker thread, and could not be compared across threads (heartbeats are).
 */
// Not the global of this name, which is an accessor: reading it costs as much as reading the time.
import { performance } from 'node:perf_hooks'

export interface Clock {
  /** Monotonic milliseconds with fraction; comparable between threads of this process. */
  nowMs(): number
  /** Milliseconds since the Unix epoch. May jump. */
  wallMs(): number
  /** Runs `callback` once after `delayMs`; returns what cancels it. The timer does not keep the process alive. */
  after(delayMs: number, callback: () => void): () => void
}

const [originSeconds, originNanoseconds] = process.hrtime()
const threadOffsetMs = originSeconds * 1000 + originNanoseconds / 1e6 - performance.now()

/** Longest delay that Node's timers take; a longer one would fire at once. */
const TIMER_DELAY_MAX_MS = 2 ** 31 - 1

/** One number in place: a variable would be a new object with every reading. */
const lastRead = Float64Array.of(performance.now() + threadOffsetMs)

/** Monotonic milliseconds with fraction; comparable between threads of this process. */
export function nowMs(): number {
  const now = performance.now() + threadOffsetMs
  lastRead[0] = now
  return now
}

/**
 * The time that `nowMs` gave last in this thread: free of charge, and good enough for deadlines. It lags by no more than the pause
 * since the last request or sweep.
 */
export function recentMs(): number {
  return lastRead[0] as number
}

/** Milliseconds since the Unix epoch. May jump. */
export function wallMs(): number {
  return Date.now()
}

/**
 * Makes a wall clock with fractions of milliseconds: always within the millisecond that `coarse` shows, so that it follows its jumps at
 * once, and moved on by `steady` inside of it. Rates above 1,000 per second need more than whole milliseconds.
 */
export function fineWallClock(coarse: () => number = wallMs, steady: () => number = () => performance.now()): () => number {
  const lastOfMs = 1 - 2 ** -10
  let offset = coarse() - steady()
  return () => {
    const ms = coarse()
    const time = steady() + offset
    if (time >= ms && time < ms + 1) return time
    const nearest = time < ms ? ms : ms + lastOfMs
    offset += nearest - time
    return nearest
  }
}

export const systemClock: Clock = {
  nowMs,
  wallMs,
  after(delayMs, callback) {
    const timer = setTimeout(callback, Math.min(delayMs, TIMER_DELAY_MAX_MS))
    timer.unref()
    return () => clearTimeout(timer)
  },
}

/** A clock that stands still until it is told to advance. For tests. */
export class ManualClock implements Clock {
  private now: number
  private wall: number
  private readonly timers = new Set<{ readonly dueMs: number; readonly callback: () => void }>()

  constructor(startMs = 1_000, wallStartMs = Date.UTC(2026, 0, 2, 3, 4, 5)) {
    this.now = startMs
    this.wall = wallStartMs
  }

  nowMs(): number {
    return this.now
  }

  wallMs(): number {
    return this.wall
  }

  after(delayMs: number, callback: () => void): () => void {
    const timer = { dueMs: this.now + Math.max(0, delayMs), callback }
    this.timers.add(timer)
    return () => void this.timers.delete(timer)
  }

  /** Number of timers that are waiting. */
  get pending(): number {
    return this.timers.size
  }

  /** Moves both times forward and runs what falls due, in order of due time, also timers made by those that run. */
  advance(byMs: number): void {
    const end = this.now + byMs
    for (;;) {
      const next = this.earliest(end)
      if (next === undefined) break
      this.timers.delete(next)
      this.moveTo(Math.max(this.now, next.dueMs))
      next.callback()
    }
    this.moveTo(end)
  }

  private earliest(endMs: number): { readonly dueMs: number; readonly callback: () => void } | undefined {
    let found: { readonly dueMs: number; readonly callback: () => void } | undefined
    for (const timer of this.timers) if (timer.dueMs <= endMs && (found === undefined || timer.dueMs < found.dueMs)) found = timer
    return found
  }

  private moveTo(ms: number): void {
    this.wall += ms - this.now
    this.now = ms
  }
}
