/** Limits of a configuration as the primary knows them: to look counters up, and to say which of them a reload resets. */
import type { LimiterSpec } from './contract.js'

/** What of a rule comes from each request (`LimitOverrides`). */
export interface OverriddenRule {
  readonly limit: boolean
  readonly window: boolean
}

export interface DeclaredLimiter {
  readonly plugin: string
  /** Resource that configures the plugin: `routes/1`. */
  readonly owner: string
  readonly spec: LimiterSpec
  /** Counts in the scope of each route for itself (see `routeScope` in plugins/plugin). */
  readonly perRoute: boolean
  /** All rules count under one key; else each rule of several has its own. They are different names in a cluster. */
  readonly oneKey: boolean
  /** One per rule; absent = nothing comes from the request. */
  readonly overridden?: readonly OverriddenRule[]
}

export interface LimiterChanges {
  /** Limiters of both configurations whose counters go on. */
  readonly kept: number
  /** Limiters of both configurations whose counters begin anew, with the reason. */
  readonly reset: readonly { readonly limiter: DeclaredLimiter; readonly reason: string }[]
}

function place({ owner, plugin }: DeclaredLimiter): string {
  return `${owner} ${plugin}`
}

/** Names a counter of one rule: limits, rates and bursts may change without resetting it. */
function identities({ spec }: DeclaredLimiter): string[] {
  return spec.rules.map((rule) => `${rule.algorithm} ${'windowMs' in rule ? rule.windowMs : ''} ${'start' in rule ? rule.start : ''}`)
}

function resetReason(before: DeclaredLimiter, after: DeclaredLimiter): string | null {
  if (before.spec.store.kind !== after.spec.store.kind)
    return `its counters moved from ${before.spec.store.kind} to ${after.spec.store.kind}`
  if (before.spec.scope !== after.spec.scope) return 'its configuration changed what is counted'
  const known = new Set(identities(before))
  return identities(after).every((identity) => known.has(identity)) ? null : 'its algorithm or window changed'
}

/** Compares the limiters of two configurations, by the place where they are configured. */
export function compareLimiters(before: readonly DeclaredLimiter[], after: readonly DeclaredLimiter[]): LimiterChanges {
  const earlier = new Map<string, DeclaredLimiter[]>()
  for (const limiter of before) {
    const list = earlier.get(place(limiter))
    if (list === undefined) earlier.set(place(limiter), [limiter])
    else list.push(limiter)
  }
  let kept = 0
  const reset: { limiter: DeclaredLimiter; reason: string }[] = []
  for (const limiter of after) {
    const same = earlier.get(place(limiter))?.shift()
    if (same === undefined) continue
    const reason = resetReason(same, limiter)
    if (reason === null) kept++
    else reset.push({ limiter, reason })
  }
  return { kept, reset }
}
