/** What no store can do: checked when a plugin validates its configuration and again when a store binds a spec. */
import {
  LIMIT_MAX,
  type LimiterSpec,
  type LimitRule,
  LOG_LIMIT_MAX,
  LOG_WINDOW_MAX_MS,
  RATE_MAX,
  RULES_MAX,
  WINDOW_GRAIN_MS,
  WINDOW_MAX_MS,
} from './contract.js'

function whole(name: string, value: number, least: number, most: number): string | null {
  if (Number.isInteger(value) && value >= least && value <= most) return null
  return `${name} is ${value}; it must be a whole number from ${least} to ${most}`
}

function bucketProblem(rate: number, burst: number): string | null {
  if (!(rate > 0 && rate <= RATE_MAX)) return `rate is ${rate}; it must be above 0 and at most ${RATE_MAX} per second`
  const problem = whole('burst', burst, 0, LIMIT_MAX - 1)
  if (problem !== null) return problem
  const drainMs = ((burst + 1) * 1000) / rate
  return drainMs <= WINDOW_MAX_MS
    ? null
    : `burst ${burst} at rate ${rate} takes ${drainMs} ms to drain; at most ${WINDOW_MAX_MS} ms are possible`
}

/** One sentence about the first thing that is wrong with a rule, or null. */
export function ruleProblem(rule: LimitRule): string | null {
  switch (rule.algorithm) {
    case 'fixed-window': {
      const isCalendar = rule.start === 'month' || rule.start === 'year'
      return whole('limit', rule.limit, 0, LIMIT_MAX) ?? (isCalendar ? null : whole('windowMs', rule.windowMs, 1, WINDOW_MAX_MS))
    }
    case 'sliding-window': {
      const problem = whole('limit', rule.limit, 0, LIMIT_MAX) ?? whole('windowMs', rule.windowMs, WINDOW_GRAIN_MS, WINDOW_MAX_MS)
      if (problem !== null || rule.windowMs % WINDOW_GRAIN_MS === 0) return problem
      return `windowMs is ${rule.windowMs}; a sliding window must be a multiple of ${WINDOW_GRAIN_MS} ms`
    }
    case 'sliding-log':
      return whole('limit', rule.limit, 0, LOG_LIMIT_MAX) ?? whole('windowMs', rule.windowMs, 1, LOG_WINDOW_MAX_MS)
    case 'token-bucket':
    case 'leaky-bucket':
      return bucketProblem(rule.rate, rule.burst)
    case 'concurrency':
      return whole('limit', rule.limit, 0, LIMIT_MAX) ?? whole('ttlMs', rule.ttlMs, 1, WINDOW_MAX_MS)
  }
}

/** One sentence about the first thing that is wrong with a spec, or null. */
export function specProblem(spec: LimiterSpec): string | null {
  if (spec.rules.length < 1 || spec.rules.length > RULES_MAX) return `there are ${spec.rules.length} rules; 1 to ${RULES_MAX} are possible`
  for (const [index, rule] of spec.rules.entries()) {
    const problem = ruleProblem(rule)
    if (problem !== null) return `rule ${index} (${rule.algorithm}): ${problem}`
    const countsWindows = rule.algorithm === 'fixed-window' || rule.algorithm === 'sliding-window' || rule.algorithm === 'sliding-log'
    if (spec.countRefused && !countsWindows) {
      return `rule ${index} (${rule.algorithm}): countRefused is only possible with fixed-window, sliding-window and sliding-log`
    }
  }
  return null
}
