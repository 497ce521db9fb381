/**
 * The way of a request past a limiter: ask, conclude, keep the answer for the header filter.
 *
 * Runs on workers. The gateway owns the record of the decision and releases what it holds.
 */
import {
  type BoundLimiter,
  Decision,
  type Exchange,
  type LimitKeys,
  type LimitQuestion,
  type PluginInstance,
  type Reply,
} from '../plugin.js'

export interface GateOptions {
  readonly limiter: BoundLimiter
  /** Of this plugin binding; gates of one binding that exclude each other share it. */
  readonly slot: number
  /** What follows from a decision: a reply, milliseconds to wait, or nothing. */
  conclude(exchange: Exchange, decision: Decision): Reply | number | undefined
  /** Writes rate headers; null = none. Not called when the store failed. */
  readonly writeHeaders: ((exchange: Exchange, decision: Decision) => void) | null
}

export class LimitGate {
  private readonly question: { readonly limiter: BoundLimiter; keys: LimitKeys; cost: number }

  constructor(private readonly options: GateOptions) {
    this.question = { limiter: options.limiter, keys: '', cost: 1 }
  }

  ask(keys: LimitKeys, cost: number): LimitQuestion {
    const { question } = this
    question.keys = keys
    question.cost = cost
    return question
  }

  conclude(exchange: Exchange, decision: Decision): Reply | number | undefined {
    const { conclude, slot, writeHeaders } = this.options
    if (writeHeaders !== null && !isUnknown(decision)) exchange.setSlot(slot, decision)
    return conclude(exchange, decision)
  }

  filter(exchange: Exchange): void {
    const decision = exchange.getSlot(this.options.slot)
    if (decision instanceof Decision) this.options.writeHeaders?.(exchange, decision)
  }
}

/** A plugin with one gate. */
export function gatePhases(gate: LimitGate, ask: (exchange: Exchange) => LimitQuestion, hasHeaders: boolean): PluginInstance {
  const limit = { ask, conclude: (exchange: Exchange, decision: Decision) => gate.conclude(exchange, decision) }
  return hasHeaders ? { limit, headerFilter: (exchange) => gate.filter(exchange) } : { limit }
}

/** The store failed and the failure policy decided: there are no numbers. */
export function isUnknown(decision: Decision): boolean {
  return decision.basis === 'allowed' || decision.basis === 'refused'
}

/** Whole seconds, at least 1, from milliseconds: what Retry-After and its relatives carry. */
export function wholeSeconds(ms: number): number {
  return Math.max(1, Math.ceil(ms / 1000))
}
