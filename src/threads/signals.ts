/** What the operator asks for by signal. One place installs the handlers and knows which signal means what. */
import { systemClock } from '../base/clock.js'

export interface SignalActions {
  /** SIGHUP. */
  reload(): void
  /** First SIGTERM or SIGINT. */
  drain(signal: NodeJS.Signals): void
  /** Second SIGTERM or SIGINT: end at once. */
  endNow(signal: NodeJS.Signals): void
  /** SIGUSR1. Taking it also keeps Node from opening its debugger port on it. */
  reopenLogs(): void
}

/** The part of `process` that is used here. */
export interface SignalSource {
  on(signal: NodeJS.Signals, handler: (signal: NodeJS.Signals) => void): unknown
  off(signal: NodeJS.Signals, handler: (signal: NodeJS.Signals) => void): unknown
}

/** The same signal so soon again is the same request to end: `timeout`, terminals and service managers signal process and group. */
const SAME_SIGNAL_MS = 250

/** Starts listening; the returned function stops it. */
export function installSignals(
  actions: SignalActions,
  source: SignalSource = process,
  clock: { nowMs(): number } = systemClock,
): () => void {
  let first: { readonly signal: NodeJS.Signals; readonly atMs: number } | null = null
  const end = (signal: NodeJS.Signals) => {
    const now = clock.nowMs()
    if (first === null) {
      first = { signal, atMs: now }
      actions.drain(signal)
    } else if (signal !== first.signal || now - first.atMs >= SAME_SIGNAL_MS) actions.endNow(signal)
  }
  const handlers: [NodeJS.Signals, (signal: NodeJS.Signals) => void][] = [
    ['SIGHUP', () => actions.reload()],
    ['SIGUSR1', () => actions.reopenLogs()],
    ['SIGTERM', end],
    ['SIGINT', end],
  ]
  for (const [signal, handler] of handlers) source.on(signal, handler)
  return () => {
    for (const [signal, handler] of handlers) source.off(signal, handler)
  }
}
