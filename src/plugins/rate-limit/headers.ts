/** Rate headers of rate-limit: the X-RateLimit family, and RateLimit with RateLimit-Policy of the IETF draft. */
import { type Decision, type Exchange, type LimitRule, NumberFields } from '../plugin.js'
import { isUnknown } from '../rate-limiting/gate.js'

export interface NamedRules {
  readonly names: readonly string[]
  readonly rules: readonly LimitRule[]
}

export type HeaderFamily = 'x-ratelimit' | 'ietf' | 'both' | 'none'

export function headerWriter(family: HeaderFamily, limits: NamedRules): ((exchange: Exchange, decision: Decision) => void) | null {
  if (family === 'none') return null
  const policy = family === 'x-ratelimit' ? '' : limits.rules.map((rule, index) => policyOf(limits.names[index] ?? '', rule)).join(', ')
  const tightest = new NumberFields(['X-RateLimit-Limit', 'X-RateLimit-Remaining', 'X-RateLimit-Reset'])
  return (exchange, decision) => {
    if (isUnknown(decision)) return
    if (family !== 'ietf') writeTightest(exchange, decision, tightest)
    if (policy === '') return
    exchange.response.headers.set('RateLimit-Policy', policy)
    exchange.response.headers.set(
      'RateLimit',
      limits.rules.map((rule, index) => stateOf(limits.names[index] ?? '', rule, decision, index)).join(', '),
    )
  }
}

/** The refusing limit, else the one with the least left; of equals the one that takes longest to recover. */
function writeTightest(exchange: Exchange, decision: Decision, fields: NumberFields): void {
  const { rules } = decision
  let tightest = rules[Math.max(0, decision.refusedBy)]
  if (decision.refusedBy < 0) {
    for (const outcome of rules) {
      if (tightest === undefined || outcome.remaining < tightest.remaining) tightest = outcome
      else if (outcome.remaining === tightest.remaining && outcome.resetMs > tightest.resetMs) tightest = outcome
    }
  }
  if (tightest === undefined) return
  fields.numbers[0] = tightest.limit
  fields.numbers[1] = tightest.remaining
  fields.numbers[2] = Math.ceil(tightest.resetMs / 1000)
  exchange.response.headers.setNumbers(fields)
}

/** `"name";q=100;w=60`: the quota and the seconds for which it lasts. */
function policyOf(name: string, rule: LimitRule): string {
  if (rule.algorithm === 'concurrency') return `"${name}";q=${rule.limit};qu="concurrent-requests"`
  if ('rate' in rule) return `"${name}";q=${rule.burst + 1};w=${Math.max(1, Math.ceil((rule.burst + 1) / rule.rate))}`
  return `"${name}";q=${rule.limit};w=${Math.max(1, Math.ceil(windowSeconds(rule)))}`
}

/** Months and years by their nominal length: the header has room for one number. */
export function windowSeconds(rule: Exclude<LimitRule, { readonly algorithm: 'concurrency' | 'token-bucket' | 'leaky-bucket' }>): number {
  if (rule.algorithm === 'fixed-window' && rule.start === 'month') return 2_592_000
  if (rule.algorithm === 'fixed-window' && rule.start === 'year') return 31_536_000
  return rule.windowMs / 1000
}

/** `"name";r=99;t=12`: what is left, and the seconds until the quota is whole again. */
function stateOf(name: string, rule: LimitRule, decision: Decision, index: number): string {
  const outcome = decision.rules[index]
  const remaining = `"${name}";r=${outcome?.remaining ?? 0}`
  return rule.algorithm === 'concurrency' ? remaining : `${remaining};t=${Math.ceil((outcome?.resetMs ?? 0) / 1000)}`
}
