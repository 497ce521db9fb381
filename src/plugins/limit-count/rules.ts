/** What one request means for the rules of limit-count: keys, and counts and windows that come from the request. */
import {
  addressKey,
  type BoundLimiter,
  type Exchange,
  LIMIT_MAX,
  type LimitQuestion,
  type LinkKit,
  valueKey,
  WINDOW_MAX_MS,
} from '../plugin.js'

export interface PreparedRule {
  readonly key: string
  readonly type: 'var' | 'var_combination' | 'constant'
  /** A string is a template. */
  readonly count: number | string
  /** Seconds; a string is a template. */
  readonly window: number | string
  /** Of its headers, in a list of rules. */
  readonly prefix: string
}

export interface RuleReader {
  /** Null when nothing can be counted. What is returned is valid until the next call. */
  read(exchange: Exchange): LimitQuestion | null
}

interface LinkedRule {
  readonly key: (exchange: Exchange) => string | undefined
  /** Null = as configured. */
  readonly count: NumberReader | null
  readonly window: NumberReader | null
}

/** Null = the request gives no whole number that is possible. */
type NumberReader = (exchange: Exchange) => number | null

/** A rule that is left out counts under this key, without a limit: the number of rules of a limiter is fixed. */
const leftOutKey = '\u0000'

export function linkRules(rules: readonly PreparedRule[], isList: boolean, limiter: BoundLimiter, kit: LinkKit): RuleReader {
  const linked = rules.map((rule) => linkRule(rule, kit))
  const [only] = linked
  if (only === undefined || isList) return new RuleList(linked, limiter)
  return only.count === null && only.window === null ? new FixedRule(only, limiter) : new ChangingRule(only, limiter)
}

function linkRule(rule: PreparedRule, kit: LinkKit): LinkedRule {
  const { key } = rule
  return {
    key: rule.type === 'constant' ? () => key : rule.type === 'var' ? kit.variable(key) : kit.keyTemplate(key),
    count: typeof rule.count === 'string' ? wholeNumber('count', rule.count, LIMIT_MAX - 1, kit) : null,
    window: typeof rule.window === 'string' ? wholeNumber('time_window', rule.window, WINDOW_MAX_MS / 1000, kit) : null,
  }
}

/** One rule, all of it configured: the same record for every request. */
class FixedRule implements RuleReader {
  private readonly request: { readonly limiter: BoundLimiter; keys: string; readonly cost: number }

  constructor(
    private readonly rule: LinkedRule,
    limiter: BoundLimiter,
  ) {
    this.request = { limiter, keys: '', cost: 1 }
  }

  read(exchange: Exchange): LimitQuestion {
    this.request.keys = valueKey(this.rule.key(exchange)) ?? addressKey(exchange.clientAddress)
    return this.request
  }
}

class ChangingRule implements RuleReader {
  constructor(
    private readonly rule: LinkedRule,
    private readonly limiter: BoundLimiter,
  ) {}

  read(exchange: Exchange): LimitQuestion | null {
    const limit = this.rule.count?.(exchange)
    const window = this.rule.window?.(exchange)
    if (limit === null || window === null) return null
    return {
      limiter: this.limiter,
      cost: 1,
      keys: valueKey(this.rule.key(exchange)) ?? addressKey(exchange.clientAddress),
      overrides: { limits: [limit], windowsMs: [window === undefined ? undefined : window * 1000] },
    }
  }
}

class RuleList implements RuleReader {
  constructor(
    private readonly rules: readonly LinkedRule[],
    private readonly limiter: BoundLimiter,
  ) {}

  read(exchange: Exchange): LimitQuestion | null {
    const keys: string[] = []
    const limits: (number | undefined)[] = []
    const windowsMs: (number | undefined)[] = []
    let counted = 0
    for (const rule of this.rules) {
      const key = valueKey(rule.key(exchange))
      const limit = rule.count?.(exchange)
      const window = rule.window?.(exchange)
      const isLeftOut = key === undefined || limit === null || window === null
      if (!isLeftOut) counted++
      keys.push(isLeftOut ? leftOutKey : key)
      limits.push(isLeftOut ? LIMIT_MAX : limit)
      windowsMs.push(isLeftOut || window === undefined ? undefined : window * 1000)
    }
    return counted === 0 ? null : { limiter: this.limiter, cost: 1, keys, overrides: { limits, windowsMs } }
  }
}

/** A whole number from 1 to `most` that a template gives. The log says that there was none, not what was there: it may be a secret. */
function wholeNumber(name: string, text: string, most: number, kit: LinkKit): NumberReader {
  const template = kit.template(text)
  return (exchange) => {
    const found = template(exchange)
    const value = /^\d{1,10}$/.test(found) ? Number(found) : 0
    if (value >= 1 && value <= most) return value
    const where = kit.route === null ? 'a request without a route' : `a request of route ${kit.route.id}`
    kit.log('warn', `limit-count: ${name} "${text}" gave ${found === '' ? 'nothing' : `no whole number from 1 to ${most}`} for ${where}`)
    return null
  }
}
