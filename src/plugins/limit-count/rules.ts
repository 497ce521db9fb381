/** What one request means for the rules of limit-count: keys, and counts and windows that come from the request. */
import {
  addressKey,
  type Exchange,
  LIMIT_MAX,
  type LimitKeys,
  type LimitOverrides,
  type LinkKit,
  type Template,
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

export interface RequestRules {
  readonly keys: LimitKeys
  readonly overrides?: LimitOverrides
}

export interface RuleReader {
  /** Null when nothing can be counted. What is returned is valid until the next call. */
  read(exchange: Exchange): RequestRules | null
}

interface LinkedRule {
  readonly key: (exchange: Exchange) => string | undefined
  /** Null = as configured. */
  readonly count: Template | null
  readonly window: Template | null
}

/** A rule that is left out counts under this key, without a limit: the number of rules of a limiter is fixed. */
const leftOutKey = '\u0000'

export function linkRules(rules: readonly PreparedRule[], isList: boolean, kit: LinkKit): RuleReader {
  const linked = rules.map((rule) => linkRule(rule, kit))
  const [only] = linked
  if (only !== undefined && !isList) return only.count === null && only.window === null ? new FixedRule(only) : new ChangingRule(only)
  return new RuleList(linked)
}

function linkRule(rule: PreparedRule, kit: LinkKit): LinkedRule {
  const { key } = rule
  const template = (value: number | string) => (typeof value === 'string' ? kit.template(value) : null)
  return {
    key: rule.type === 'constant' ? () => key : rule.type === 'var' ? kit.variable(key) : kit.keyTemplate(key),
    count: template(rule.count),
    window: template(rule.window),
  }
}

/** One rule, all of it configured: the same record for every request. */
class FixedRule implements RuleReader {
  private readonly request = { keys: '' }

  constructor(private readonly rule: LinkedRule) {}

  read(exchange: Exchange): RequestRules {
    this.request.keys = valueKey(this.rule.key(exchange)) ?? addressKey(exchange.clientAddress)
    return this.request
  }
}

class ChangingRule implements RuleReader {
  constructor(private readonly rule: LinkedRule) {}

  read(exchange: Exchange): RequestRules | null {
    const limit = wholeNumber(this.rule.count, exchange, LIMIT_MAX - 1)
    const window = wholeNumber(this.rule.window, exchange, WINDOW_MAX_MS / 1000)
    if (limit === null || window === null) return null
    return {
      keys: valueKey(this.rule.key(exchange)) ?? addressKey(exchange.clientAddress),
      overrides: { limits: [limit], windowsMs: [window === undefined ? undefined : window * 1000] },
    }
  }
}

class RuleList implements RuleReader {
  constructor(private readonly rules: readonly LinkedRule[]) {}

  read(exchange: Exchange): RequestRules | null {
    const keys: string[] = []
    const limits: (number | undefined)[] = []
    const windowsMs: (number | undefined)[] = []
    let counted = 0
    for (const rule of this.rules) {
      const key = valueKey(rule.key(exchange))
      const limit = wholeNumber(rule.count, exchange, LIMIT_MAX - 1)
      const window = wholeNumber(rule.window, exchange, WINDOW_MAX_MS / 1000)
      const isLeftOut = key === undefined || limit === null || window === null
      if (!isLeftOut) counted++
      keys.push(isLeftOut ? leftOutKey : key)
      limits.push(isLeftOut ? LIMIT_MAX : limit)
      windowsMs.push(isLeftOut || window === undefined ? undefined : window * 1000)
    }
    return counted === 0 ? null : { keys, overrides: { limits, windowsMs } }
  }
}

/** Undefined = as configured, null = the request gives no whole number from 1 to `most`. */
function wholeNumber(template: Template | null, exchange: Exchange, most: number): number | null | undefined {
  if (template === null) return undefined
  const text = template(exchange)
  if (!/^\d{1,10}$/.test(text)) return null
  const value = Number(text)
  return value >= 1 && value <= most ? value : null
}
