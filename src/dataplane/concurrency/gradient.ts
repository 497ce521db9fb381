/**
 * An adaptive limit of concurrency, after Gradient2 of Netflix's concurrency-limits: while latency is what it was over the long term, the
 * limit grows by a little headroom; when it rises above the tolerance, requests queue somewhere behind, and the limit falls with it.
 */
export interface GradientOptions {
  readonly min: number
  readonly max: number
  /** How much latency may rise above the long term before the limit falls: 1.5 = by half. */
  readonly tolerance: number
}

export interface GradientState {
  readonly limit: number
  readonly longTermMs: number
  /** Windows that the long term is made of. */
  readonly windows: number
}

/** Requests by which the limit tries to grow. */
const HEADROOM = 4
/** Share of the new estimate in the next limit. */
const SMOOTHING = 0.2
/** Windows that the long term looks back; the first ones are a plain mean. */
const LONG_TERM_WINDOWS = 600
const WARM_UP_WINDOWS = 10

/** The state after a window with this mean latency. `busy`: requests under way and waiting; below half of the limit, it says nothing about it. */
export function afterWindow(state: GradientState, meanMs: number, busy: number, options: GradientOptions): GradientState {
  const { limit, windows } = state
  const short = Math.max(0.01, meanMs)
  const weight = windows < WARM_UP_WINDOWS ? 1 / (windows + 1) : 2 / (LONG_TERM_WINDOWS + 1)
  let longTermMs = state.longTermMs + (short - state.longTermMs) * weight
  // Back to normal after a bad time that has become the long term.
  if (longTermMs > 2 * short) longTermMs *= 0.95
  const next = { longTermMs, windows: Math.min(windows + 1, LONG_TERM_WINDOWS) }
  if (busy < limit / 2) return { ...next, limit }
  const gradient = Math.max(0.5, Math.min(1, (options.tolerance * longTermMs) / short))
  const estimate = limit * (1 - SMOOTHING) + (limit * gradient + HEADROOM) * SMOOTHING
  return { ...next, limit: Math.max(options.min, Math.min(options.max, estimate)) }
}
