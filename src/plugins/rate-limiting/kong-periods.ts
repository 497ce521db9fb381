/** The rate headers of Kong: a pair for each window, and the tightest window in `RateLimit-*`. */
import { type Decision, type Exchange, NumberFields } from '../plugin.js'

export interface Period {
  /** As in header names: `Minute`. */
  readonly name: string
  /** Nominal length; a month has 30 days and a year 365. */
  readonly seconds: number
}

const names: ReadonlyMap<number, string> = new Map([
  [1, 'Second'],
  [60, 'Minute'],
  [3_600, 'Hour'],
  [86_400, 'Day'],
  [2_592_000, 'Month'],
  [31_536_000, 'Year'],
])

/** The name of a window in headers; odd lengths are named by their seconds. */
export function periodOf(seconds: number): Period {
  return { name: names.get(seconds) ?? String(seconds), seconds }
}

/** Whole seconds, at least 1, until the window of the rule with this index ends. */
export type ResetOf = (exchange: Exchange, decision: Decision, index: number) => number

export class PeriodHeaders {
  /** Limit and remaining of each window, then those of the tightest. */
  private readonly fields: NumberFields

  /** `periods`: in the order of the rules. */
  constructor(
    private readonly periods: readonly Period[],
    private readonly resetOf: ResetOf,
  ) {
    this.fields = new NumberFields([
      ...periods.flatMap(({ name }) => [`X-RateLimit-Limit-${name}`, `X-RateLimit-Remaining-${name}`]),
      'RateLimit-Limit',
      'RateLimit-Remaining',
      'RateLimit-Reset',
    ])
  }

  /** Index of the window with the least left; of equals the longest. */
  tightest(decision: Decision): number {
    let best = 0
    let least = Number.POSITIVE_INFINITY
    let longest = 0
    for (let index = 0; index < this.periods.length; index++) {
      const remaining = decision.rules[index]?.remaining ?? 0
      const seconds = this.periods[index]?.seconds ?? 0
      if (remaining > least || (remaining === least && seconds <= longest)) continue
      best = index
      least = remaining
      longest = seconds
    }
    return best
  }

  resetSeconds(exchange: Exchange, decision: Decision): number {
    return this.resetOf(exchange, decision, this.tightest(decision))
  }

  write(exchange: Exchange, decision: Decision): void {
    const { fields, periods } = this
    for (let index = 0; index < periods.length; index++) {
      const outcome = decision.rules[index]
      fields.numbers[2 * index] = outcome?.limit ?? 0
      fields.numbers[2 * index + 1] = outcome?.remaining ?? 0
    }
    const tightest = this.tightest(decision)
    const outcome = decision.rules[tightest]
    if (outcome === undefined) return
    const at = 2 * periods.length
    fields.numbers[at] = outcome.limit
    fields.numbers[at + 1] = outcome.remaining
    fields.numbers[at + 2] = this.resetOf(exchange, decision, tightest)
    exchange.response.headers.setNumbers(fields)
  }
}
