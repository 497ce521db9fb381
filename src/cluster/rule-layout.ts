/**
 * The rules of a spec as the scripts want them: names of keys, arguments, and outcomes read back.
 *
 * What stands in braces decides on which master of a cluster a counter lies, and one script call reaches one master:
 *
 *   `<prefix>{<key>}/<scope>:<code>:<window>`    all limits that count a request under one key lie together, different clients spread
 *   `<prefix>{<scope>:<key>}:<code>:<window>`    all requests have one key (`isOneForAll`): the limits spread
 *   `<prefix>{<scope>}:<key>:<code>:<window>`    a key per rule: all counters of the scope lie on one master
 */
import { createHash } from 'node:crypto'
import {
  type Decision,
  LIMIT_MAX,
  type LimiterSpec,
  type LimitKeys,
  type LimitOverrides,
  type LimitRule,
  WINDOW_MAX_MS,
} from '../limits/contract.js'
import { RedisFailure } from './errors.js'
import type { Code } from './script.js'

/** Longer keys (a client chooses them) are replaced by their digest. */
const KEY_LENGTH_MAX = 128
const MICROSECONDS = 1000

export interface RuleCall {
  readonly keys: [string, ...string[]]
  /** Four per rule. */
  readonly args: (string | number)[]
}

function codeOf(rule: LimitRule): Code {
  switch (rule.algorithm) {
    case 'fixed-window':
      return ({ clock: 'fc', 'first-hit': 'ff', month: 'fm', year: 'fy' } as const)[rule.start]
    case 'sliding-window':
      return 'sw'
    case 'sliding-log':
      return 'sl'
    case 'token-bucket':
      return 'tb'
    case 'leaky-bucket':
      return 'lb'
    case 'concurrency':
      return 'cc'
  }
}

/** Window in milliseconds; 0 where the rule has none or the calendar says it. */
function windowOf(rule: LimitRule): number {
  if (!('windowMs' in rule)) return 0
  return rule.algorithm === 'fixed-window' && (rule.start === 'month' || rule.start === 'year') ? 0 : rule.windowMs
}

function limitOf(rule: LimitRule): number {
  return 'burst' in rule ? rule.burst : rule.limit
}

/** Never empty: Redis would not take it for a tag. */
function escapeTag(text: string): string {
  if (text === '') return '%'
  return text.replace(/[{}%:]/g, (character) => `%${character.charCodeAt(0).toString(16)}`)
}

function boundedKey(key: string): string {
  return key.length <= KEY_LENGTH_MAX ? key : `sha256-${createHash('sha256').update(key).digest('base64url')}`
}

interface RulePlan {
  readonly code: Code
  readonly limit: number
  readonly windowMs: number
  /** Third argument when no window is overridden: microseconds, or units per second. */
  readonly span: number
  readonly extra: string | number
  /** Tells apart rules of one spec that would share a key. */
  readonly ordinal: string
}

export class RuleLayout {
  private readonly plans: readonly RulePlan[]
  private readonly scope: string
  readonly codes: readonly Code[]

  /** `reserves`: units of each bucket that stay untouched, by index of the rule (leases). */
  constructor(
    readonly spec: LimiterSpec,
    private readonly prefix: string,
    reserves: readonly number[] = [],
  ) {
    this.scope = escapeTag(boundedKey(spec.scope))
    this.codes = spec.rules.map(codeOf)
    const seen = new Map<string, number>()
    this.plans = spec.rules.map((rule, index) => {
      const code = codeOf(rule)
      const windowMs = windowOf(rule)
      const name = `${code}:${windowMs}`
      const ordinal = seen.get(name) ?? 0
      seen.set(name, ordinal + 1)
      return {
        code,
        limit: limitOf(rule),
        windowMs,
        span: 'rate' in rule ? rule.rate : ('ttlMs' in rule ? rule.ttlMs : windowMs) * MICROSECONDS,
        extra: rule.algorithm === 'sliding-window' ? (rule.boundary === 'estimate-within' ? 'within' : 'below') : (reserves[index] ?? 0),
        ordinal: ordinal === 0 ? '' : `:${ordinal}`,
      }
    })
  }

  /** Window that applies to a rule, microseconds; 0 = none, or of the calendar. */
  windowUs(index: number, overrides: LimitOverrides | undefined): number {
    return (overrides?.windowsMs?.[index] ?? this.plans[index]?.windowMs ?? 0) * MICROSECONDS
  }

  /** The limit that applies to a rule, as `RuleOutcome.limit` says it. */
  limit(index: number, overrides: LimitOverrides | undefined): number {
    const plan = this.plans[index]
    if (plan === undefined) return 0
    const limit = overrides?.limits?.[index] ?? plan.limit
    return plan.code === 'tb' || plan.code === 'lb' ? limit + 1 : limit
  }

  /** Keys and arguments of one request. Throws RangeError for what no rule allows. */
  call(keys: LimitKeys, cost: number, overrides: LimitOverrides | undefined): RuleCall {
    const { plans } = this
    if (!Number.isInteger(cost) || cost < 1 || cost > LIMIT_MAX)
      throw new RangeError(`cost ${cost}: it must be an integer from 1 to ${LIMIT_MAX}`)
    if (typeof keys !== 'string' && keys.length !== plans.length) {
      throw new RangeError(`${keys.length} keys for ${plans.length} rules: give one key, or one for each rule`)
    }
    const tag = this.tag(keys)
    const names: string[] = []
    const args: (string | number)[] = []
    for (const [index, plan] of plans.entries()) {
      const windowMs = overrides?.windowsMs?.[index]
      if (windowMs !== undefined) assertWindow(plan, windowMs)
      const limit = overrides?.limits?.[index] ?? plan.limit
      if (!Number.isInteger(limit) || limit < 0 || limit > LIMIT_MAX)
        throw new RangeError(`limit ${limit}: it must be an integer from 0 to ${LIMIT_MAX}`)
      names.push(`${this.keyOf(keys, index, tag)}:${plan.code}:${windowMs ?? plan.windowMs}${plan.ordinal}`)
      args.push(plan.code, limit, windowMs === undefined ? plan.span : windowMs * MICROSECONDS, plan.extra)
    }
    const [first, ...others] = names
    if (first === undefined) throw new RangeError('a limit without rules')
    return { keys: [first, ...others], args }
  }

  /** Fills the outcome of one rule from `at` on: remaining, used in thousandths, reset and retry-after in microseconds. */
  outcome(out: Decision, index: number, reply: readonly number[], at: number, overrides: LimitOverrides | undefined): void {
    const outcome = out.rules[index]
    if (outcome === undefined) return
    const retry = reply[at + 3] ?? 0
    outcome.limit = this.limit(index, overrides)
    outcome.remaining = reply[at] ?? 0
    outcome.used = (reply[at + 1] ?? 0) / 1000
    outcome.resetMs = (reply[at + 2] ?? 0) / MICROSECONDS
    outcome.retryAfterMs = retry < 0 ? -1 : retry / MICROSECONDS
  }

  /** Calls with the same tag reach the same master. */
  tag(keys: LimitKeys): string {
    const key = this.commonKey(keys)
    if (key === null) return this.scope
    return this.spec.isOneForAll === true ? `${this.scope}:${escapeTag(boundedKey(key))}` : escapeTag(boundedKey(key))
  }

  private keyOf(keys: LimitKeys, index: number, tag: string): string {
    if (this.commonKey(keys) === null) return `${this.prefix}{${tag}}:${boundedKey(keys[index] ?? '')}`
    return this.spec.isOneForAll === true ? `${this.prefix}{${tag}}` : `${this.prefix}{${tag}}/${this.scope}`
  }

  /** Null = each rule has its own, even if they are equal now and then: a counter must not change its name. */
  private commonKey(keys: LimitKeys): string | null {
    return typeof keys === 'string' ? keys : this.plans.length === 1 ? (keys[0] ?? '') : null
  }
}

function assertWindow(plan: RulePlan, windowMs: number): void {
  if (plan.windowMs === 0) throw new RangeError(`a window of ${windowMs} ms for a rule without a configurable window (${plan.code})`)
  if (!Number.isInteger(windowMs) || windowMs < 1 || windowMs > WINDOW_MAX_MS) {
    throw new RangeError(`window ${windowMs} ms: it must be an integer from 1 to ${WINDOW_MAX_MS}`)
  }
}

/** The integers of a reply. Throws RedisFailure when it is not a list of them: whatever answers there, it is not our script. */
export function integers(reply: unknown, atLeast: number): number[] {
  if (!Array.isArray(reply) || reply.length < atLeast) throw new RedisFailure('reply', 'a limit script answered in an unknown form')
  return reply.map((value: unknown) => (typeof value === 'number' ? value : Number(value)))
}
