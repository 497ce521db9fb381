/**
 * What a rule keeps per key: three 32-bit words, and how time is written into them. No memory is touched here.
 *
 *   expiry  the moment after which the words mean nothing, in ticks of 100 ms since the epoch, modulo 2^32, rounded up
 *   a, b    what the algorithm makes of them:
 *             fixed-window    a = count                       b = end of the window, ms modulo 2^32
 *             sliding-window  a = count of this window        b = count of the one before     (expiry = end + window)
 *             sliding-log     a = sequence behind the newest  b = sequence of the oldest
 *             buckets         a = expiry − exact moment at which the bucket is full again, in units of the plan     b = 0
 *             concurrency     a = in flight                   b = 0
 */

export const TICK_MS = 100
/** A live cell's expiry lies at most so many ticks ahead (3.4 years): more means that the tick has wrapped and the cell is long dead. */
export const HORIZON_TICKS = 2 ** 30

/** Tick that `ms` lies in. */
export function tickOf(ms: number): number {
  return Math.floor(ms / TICK_MS) | 0
}

/** First tick that begins at or after `ms`. */
export function tickAfter(ms: number): number {
  return Math.ceil(ms / TICK_MS) | 0
}

export function isLive(expiry: number, nowTick: number): boolean {
  const left = (expiry - nowTick) | 0
  return left > 0 && left <= HORIZON_TICKS
}

/** Milliseconds since the epoch of the beginning of a tick near `nowMs`. */
export function tickToMs(tick: number, nowMs: number): number {
  const nowTick = Math.floor(nowMs / TICK_MS)
  return (nowTick + ((tick - nowTick) | 0)) * TICK_MS
}

/** The one moment at or up to 100 ms before `ms` whose low 32 bits are `low`; `ms` itself if there is none (a foreign cell). */
export function exactMs(ms: number, low: number): number {
  const back = ((ms | 0) - low) >>> 0
  return back <= TICK_MS ? ms - back : ms
}

/** Reading of one cell during a decision: filled by `readRule`, changed by `chargeRule`. Reused: deciding allocates nothing. */
export class CellReading {
  /** Words of the cell; all 0 if there was no live cell. */
  expiry = 0
  a = 0
  b = 0
  /** The clock was set back: the words were brought back to the present and must be written even if nothing is charged. */
  isRepaired = false
  /** Units used before this request: count, estimate, debt (bucket units), or in flight. */
  used = 0
  /** Windows: end of the current window. Log: time of the newest entry. Buckets: units of the present tick that are over. */
  endMs = 0
  /** Windows: beginning of the current window. Log: moment at which this request fits. Buckets: the present tick, whole. */
  startMs = 0
}
