/**
 * `GET /v1/limits?key=…`: the live state of a key in every limit of the configuration that may count it. Looks without charging.
 *
 * Runs in the primary. Local counters are read in the shared table; those in Redis are asked for, all at once, and the deadline of each
 * bounds the answer. Units that a node holds as a lease are counted as used.
 */
import { UsageError } from '../base/errors.js'
import type { BoundLimiter, Decision, LimiterSpec, LimiterStore, LimitRule } from '../limits/contract.js'
import type { DeclaredLimiter, OverriddenRule } from '../limits/declared.js'
import { routeScope } from '../plugins/plugin.js'
import type { CompiledRoute, Json } from '../schema/compiled.js'

/** Limits in one answer; a longer list is cut and says so. */
const ANSWERS_MAX = 200

export interface LimitQuery {
  /** As the plugin resolves it: an address, a consumer, the value of a template. */
  readonly key: string
  /** Only the limits that this route has; null = all. */
  readonly route: string | null
}

export interface LookupSources {
  readonly limiters: readonly DeclaredLimiter[]
  readonly routes: readonly CompiledRoute[]
  readonly local: LimiterStore
  readonly redis: () => Promise<LimiterStore>
}

interface Found {
  readonly limiter: DeclaredLimiter
  readonly spec: LimiterSpec
  /** Route in whose scope it counts; empty = that of its owner. */
  readonly route: string
}

/** Throws UsageError for a query that makes no sense. */
export async function lookUpLimits(query: LimitQuery, sources: LookupSources): Promise<Json> {
  if (query.key === '') throw new UsageError('parameter "key" must be given: the value that the limit counts by, for example an address')
  const { route } = query
  if (route !== null && !sources.routes.some((one) => one.id === route)) throw new UsageError(`there is no route "${route}"`)
  const found = scopes(route, sources)
  const limits = await Promise.all(found.slice(0, ANSWERS_MAX).map((one) => describe(one, query.key, sources)))
  return { key: query.key, limits, omitted: Math.max(0, found.length - ANSWERS_MAX) }
}

function scopes(route: string | null, { limiters, routes }: LookupSources): Found[] {
  const found: Found[] = []
  const uses = (one: CompiledRoute, limiter: DeclaredLimiter): boolean =>
    one.plugins.some((plugin) => plugin.name === limiter.plugin && plugin.owner === limiter.owner)
  for (const limiter of limiters) {
    const users = (): CompiledRoute[] => routes.filter((one) => (route === null || one.id === route) && uses(one, limiter))
    if (limiter.perRoute) for (const { id } of users()) found.push({ limiter, spec: routeScope(limiter.spec, id), route: id })
    else if (route === null || isEverywhere(limiter.owner) || users().length > 0) found.push({ limiter, spec: limiter.spec, route: '' })
  }
  return found
}

/** Its plugins run on every route: those of consumers wherever they authenticate themselves. */
function isEverywhere(owner: string): boolean {
  return ['global_rules/', 'consumers/', 'consumer_groups/'].some((kind) => owner.startsWith(kind))
}

async function describe({ limiter, spec, route }: Found, key: string, sources: LookupSources): Promise<Json> {
  const { plugin, owner } = limiter
  const about = { plugin, owner, ...(route === '' ? {} : { route }), scope: spec.scope, ...storeOf(spec) }
  try {
    const store = spec.store.kind === 'local' ? sources.local : await sources.redis()
    const bound = store.bind(spec)
    const decision = await peek(bound, key, limiter.oneKey)
    if (decision.basis === 'allowed' || decision.basis === 'refused') return { ...about, error: 'Redis did not answer' }
    const rules = spec.rules.map((rule, index) => describeRule(rule, decision, index, limiter.overridden?.[index]))
    const isKnown = limiter.overridden?.some((one) => one.limit || one.window) !== true
    return { ...about, would_admit: isKnown ? decision.allowed && decision.refusedBy < 0 : null, decided_by: decision.basis, rules }
  } catch (error) {
    return { ...about, error: error instanceof Error ? error.message : String(error) }
  }
}

async function peek(bound: BoundLimiter, key: string, oneKey: boolean): Promise<Decision> {
  const { rules } = bound.spec
  // Two forms of keys lead to different names in a cluster; a plugin with one rule uses the short one.
  return bound.peek(oneKey || rules.length === 1 ? key : rules.map(() => key), 1, bound.decision())
}

/** Leases count in Redis, ahead of what was admitted. */
function storeOf({ store }: LimiterSpec): { readonly [name: string]: Json } {
  return store.kind !== 'local' && store.mode === 'lease' ? { store: 'lease', server: store.kind } : { store: store.kind }
}

/** What each request brings along is null, and so is what follows from it: another window is another counter. */
function describeRule(rule: LimitRule, decision: Decision, index: number, overridden: OverriddenRule | undefined): Json {
  const outcome = decision.rules[index]
  if (outcome === undefined) return null
  if (overridden?.window === true || overridden?.limit === true) {
    const isCounted = !overridden.window
    return {
      algorithm: rule.algorithm,
      window_s: isCounted && 'windowMs' in rule ? rule.windowMs / 1000 : null,
      limit: overridden.limit ? null : outcome.limit,
      used: isCounted ? Math.round(outcome.used * 1000) / 1000 : null,
      remaining: null,
      reset_s: isCounted ? Math.ceil(outcome.resetMs) / 1000 : null,
      retry_after_s: null,
    }
  }
  const { limit, used, resetMs, retryAfterMs } = outcome
  return {
    algorithm: rule.algorithm,
    ...('windowMs' in rule ? { window_s: rule.windowMs / 1000 } : {}),
    ...('rate' in rule ? { rate_per_s: rule.rate } : {}),
    limit,
    used: Math.round(used * 1000) / 1000,
    remaining: Math.max(0, Math.floor(limit - used)),
    reset_s: Math.ceil(resetMs) / 1000,
    retry_after_s: retryAfterMs < 0 ? null : Math.ceil(retryAfterMs) / 1000,
  }
}
