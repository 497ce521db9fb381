/** What the operator asks for by signal. One place installs the handlers and knows which signal means what. */

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

/** Starts listening; the returned function stops it. */
export function installSignals(actions: SignalActions, source: SignalSource = process): () => void {
  let ending = false
  const end = (signal: NodeJS.Signals) => {
    if (ending) return actions.endNow(signal)
    ending = true
    actions.drain(signal)
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
