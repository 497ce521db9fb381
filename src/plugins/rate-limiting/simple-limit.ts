/**
 * Limits that answer `{"error":"Rate limit exceeded","retry_after":N}`: sliding-window-rate-limit, and rate-limiting with rate and burst.
 *
 * Runs on workers: access (decide), headerFilter (X-RateLimit-*), log (records back). State: the counters of the store.
 */
import {
  type Decision,
  type Exchange,
  type LimitRule,
  type LinkKit,
  NumberFields,
  type PluginInstance,
  RETRY_SOON,
  type Reply,
} from '../plugin.js'
import { gatePhases, isUnknown, LimitGate, wholeSeconds } from './gate.js'
import { chosenKey, type KeyChoice } from './identity.js'
import { bindScoped, type ScopedSpec } from './scope.js'

export interface SimpleLimit {
  readonly scoped: ScopedSpec
  readonly key: KeyChoice
  /** What `X-RateLimit-Limit` shows. */
  readonly shownLimit: number
  readonly showHeaders: boolean
  readonly code: number
  readonly message: string
}

const STORE_FAILED: Reply = { status: 500, body: '{"error":"Failed to check the rate limit"}\n', headers: [RETRY_SOON] }

/**
 * The rule of windows: `rate` and `burst` together in `windowSeconds`, estimated over this window and the one before.
 * Without a burst, `rate` is the limit.
 */
export function slidingRule(rate: number, burst: number, windowSeconds: number): LimitRule {
  return { algorithm: 'sliding-window', limit: rate + burst, windowMs: windowSeconds * 1000, boundary: 'estimate-below' }
}

export function linkSimple(limit: SimpleLimit, kit: LinkKit): PluginInstance {
  const keyOf = chosenKey(limit.key, kit)
  const slot = kit.slot()
  const isWindow = limit.scoped.spec.rules[0]?.algorithm === 'sliding-window'
  const refusals = new Refusals(limit, isWindow)
  const gate = new LimitGate({
    limiter: bindScoped(limit.scoped, kit),
    slot,
    conclude(_exchange, decision) {
      if (decision.allowed) return undefined
      return isUnknown(decision) ? STORE_FAILED : refusals.reply(decision)
    },
    writeHeaders: limit.showHeaders ? headerWriter(limit, isWindow) : null,
  })
  return gatePhases(gate, (exchange) => gate.ask(keyOf(exchange), 1), limit.showHeaders)
}

function headerWriter(limit: SimpleLimit, isWindow: boolean): (exchange: Exchange, decision: Decision) => void {
  const fields = new NumberFields(['X-RateLimit-Limit', 'X-RateLimit-Remaining', ...(isWindow ? ['X-RateLimit-Reset'] : [])])
  return (exchange, decision) => {
    const outcome = decision.rules[0]
    if (outcome === undefined) return
    fields.numbers[0] = limit.shownLimit
    fields.numbers[1] = outcome.remaining
    if (isWindow) fields.numbers[2] = wholeSeconds(outcome.resetMs)
    exchange.response.headers.setNumbers(fields)
  }
}

/** Refusals differ in their seconds only; the last one made is kept, because refusals come in crowds. */
class Refusals {
  private seconds = 0
  private last: Reply = { status: 429 }

  constructor(
    private readonly limit: SimpleLimit,
    private readonly isWindow: boolean,
  ) {}

  reply(decision: Decision): Reply {
    const outcome = decision.rules[0]
    // Clients are sent to the end of the window, as the plugin that this one replaces did; a bucket knows when its next slot is free.
    const seconds = wholeSeconds((this.isWindow ? outcome?.resetMs : outcome?.retryAfterMs) ?? 0)
    if (seconds === this.seconds) return this.last
    this.seconds = seconds
    this.last = {
      status: this.limit.code,
      body: `{"error":${JSON.stringify(this.limit.message)},"retry_after":${seconds}}\n`,
      headers: [
        ['Content-Type', 'application/json'],
        ['Retry-After', String(seconds)],
      ],
    }
    return this.last
  }
}
