/**
 * The way of a request past a limiter: ask, keep the answer for the header filter, give everything back when the request is over.
 *
 * Runs on workers. State: spare records, so that a decision of the local store allocates nothing. A request may end while the store is
 * still being asked (the client left, its body was too large): what the late answer holds is released then.
 */
import type { BoundLimiter, Decision, Exchange, LimitKeys, PhaseReturn, PluginInstance } from '../plugin.js'

/** Records kept for reuse; more are left to the garbage collector after a burst. */
const SPARE_MAX = 1024

/** One request at one limiter. */
class Pass {
  state: 'asked' | 'decided' | 'over' = 'asked'

  constructor(
    readonly gate: LimitGate,
    readonly decision: Decision,
  ) {}
}

export interface GateOptions {
  readonly limiter: BoundLimiter
  /** Of this plugin binding; gates of one binding that exclude each other share it. */
  readonly slot: number
  /** What follows from a decision: a reply, a wait, or nothing. */
  conclude(exchange: Exchange, decision: Decision): PhaseReturn
  /** Writes rate headers; null = none. Not called when the store failed. */
  readonly writeHeaders: ((exchange: Exchange, decision: Decision) => void) | null
}

export class LimitGate {
  private readonly spare: Pass[] = []

  constructor(private readonly options: GateOptions) {}

  /** Decides on the request; to be returned from `access`. */
  enter(exchange: Exchange, keys: LimitKeys, cost: number): PhaseReturn {
    const { limiter, slot } = this.options
    const pass = this.spare.pop() ?? new Pass(this, limiter.decision())
    pass.state = 'asked'
    exchange.setSlot(slot, pass)
    const decided = limiter.check(keys, cost, pass.decision)
    if (decided instanceof Promise) return decided.then(() => this.later(exchange, pass))
    pass.state = 'decided'
    return this.options.conclude(exchange, pass.decision)
  }

  private later(exchange: Exchange, pass: Pass): PhaseReturn {
    if (pass.state === 'over') {
      this.options.limiter.release(pass.decision.hold)
      return undefined
    }
    pass.state = 'decided'
    return this.options.conclude(exchange, pass.decision)
  }

  filter(exchange: Exchange, pass: Pass): void {
    if (pass.state === 'decided' && !isUnknown(pass.decision)) this.options.writeHeaders?.(exchange, pass.decision)
  }

  leave(pass: Pass): void {
    const wasDecided = pass.state === 'decided'
    pass.state = 'over'
    // Otherwise the store may still write into the record.
    if (!wasDecided) return
    this.options.limiter.release(pass.decision.hold)
    if (this.spare.length < SPARE_MAX) this.spare.push(pass)
  }
}

/** The phases behind `access` of a binding whose gates use this slot. */
export function gatePhases(slot: number, hasHeaders: boolean): Pick<PluginInstance, 'headerFilter' | 'log' | 'alwaysLogs'> {
  const log = (exchange: Exchange): void => {
    const pass = exchange.getSlot(slot)
    if (pass instanceof Pass) pass.gate.leave(pass)
  }
  if (!hasHeaders) return { log, alwaysLogs: true }
  const headerFilter = (exchange: Exchange): void => {
    const pass = exchange.getSlot(slot)
    if (pass instanceof Pass) pass.gate.filter(exchange, pass)
  }
  return { headerFilter, log, alwaysLogs: true }
}

/** The store failed and the failure policy decided: there are no numbers. */
export function isUnknown(decision: Decision): boolean {
  return decision.basis === 'allowed' || decision.basis === 'refused'
}

/** Whole seconds, at least 1, from milliseconds: what Retry-After and its relatives carry. */
export function wholeSeconds(ms: number): number {
  return Math.max(1, Math.ceil(ms / 1000))
}
