/**
 * Kong's rate limits: several windows decided together, headers for each of them, refusals in Kong's shape.
 *
 * Runs on workers: access (decide), headerFilter (rate headers), log (records back). State: the counters of the store.
 */

import { type Decision, type Exchange, kongError, type LinkKit, type PluginInstance, RETRY_SOON, type Reply } from '../plugin.js'
import { gatePhases, isUnknown, LimitGate } from './gate.js'
import type { KeyOf } from './identity.js'
import { type Period, PeriodHeaders, type ResetOf } from './kong-periods.js'
import { bindScoped, type ScopedSpec } from './scope.js'

export interface PeriodLimit {
  readonly scoped: ScopedSpec
  /** In the order of the rules. */
  readonly periods: readonly Period[]
  readonly hideHeaders: boolean
  readonly code: number
  readonly message: string
}

export interface PeriodTimes {
  readonly resetOf: ResetOf
  /** Whole seconds for Retry-After. */
  retryAfter(exchange: Exchange, decision: Decision, headers: PeriodHeaders): number
}

export function linkPeriods(limit: PeriodLimit, times: PeriodTimes, keyOf: KeyOf, kit: LinkKit): PluginInstance {
  const slot = kit.slot()
  const periodHeaders = new PeriodHeaders(limit.periods, times.resetOf)
  const conclude = (exchange: Exchange, decision: Decision): Reply | undefined => {
    if (decision.allowed) return undefined
    if (isUnknown(decision)) return kongError(exchange, 500, 'An unexpected error occurred', [RETRY_SOON])
    const seconds = String(times.retryAfter(exchange, decision, periodHeaders))
    return kongError(exchange, limit.code, limit.message, [['Retry-After', seconds]])
  }
  const gate = new LimitGate({
    limiter: bindScoped(limit.scoped, kit),
    slot,
    conclude,
    writeHeaders: limit.hideHeaders ? null : (exchange, decision) => periodHeaders.write(exchange, decision),
  })
  return gatePhases(gate, (exchange) => gate.ask(keyOf(exchange), 1), !limit.hideHeaders)
}
