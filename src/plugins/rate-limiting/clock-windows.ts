/** rate-limiting with second … year: Kong's fixed windows on the wall clock, or a token bucket in their place. */
import type { Exchange, LimitRule } from '../plugin.js'
import { wholeSeconds } from './gate.js'
import type { PeriodTimes } from './period-limit.js'

export const periodNames = ['second', 'minute', 'hour', 'day', 'month', 'year'] as const
export type PeriodName = (typeof periodNames)[number]

export const periodSeconds: { readonly [name in PeriodName]: number } = {
  second: 1,
  minute: 60,
  hour: 3_600,
  day: 86_400,
  month: 2_592_000,
  year: 31_536_000,
}

/** Windows on the wall clock in UTC; months and years are those of the calendar. A fraction of a request counts as one. */
export function windowRule(name: PeriodName, limit: number): LimitRule {
  const start = name === 'month' || name === 'year' ? name : 'clock'
  return { algorithm: 'fixed-window', limit: Math.ceil(limit), windowMs: periodSeconds[name] * 1000, start }
}

/** The limit of a period as the size of a bucket that fills evenly over the period. */
export function bucketRule(name: PeriodName, limit: number): LimitRule {
  const size = Math.ceil(limit)
  return { algorithm: 'token-bucket', rate: size / periodSeconds[name], burst: size - 1 }
}

/** Kong names the reset of months and years by their nominal length, from the first of the month or year. */
function calendarReset(name: PeriodName, nowMs: number): number {
  const now = new Date(nowMs)
  const start = name === 'month' ? Date.UTC(now.getUTCFullYear(), now.getUTCMonth()) : Date.UTC(now.getUTCFullYear(), 0)
  return Math.max(1, periodSeconds[name] - Math.floor((nowMs - start) / 1000))
}

export function clockTimes(names: readonly PeriodName[]): PeriodTimes {
  return {
    resetOf(exchange: Exchange, decision, index) {
      const name = names[index]
      if (name === 'month' || name === 'year') return calendarReset(name, exchange.startedAtMs)
      return wholeSeconds(decision.rules[index]?.resetMs ?? 0)
    },
    retryAfter: (exchange, decision, headers) => headers.resetSeconds(exchange, decision),
  }
}

/** A bucket has no window that ends: its reset is the moment at which it is full, and it knows when the next request fits. */
export const bucketTimes: PeriodTimes = {
  resetOf: (_exchange, decision, index) => wholeSeconds(decision.rules[index]?.resetMs ?? 0),
  retryAfter: (_exchange, decision) => wholeSeconds(decision.rules[Math.max(0, decision.refusedBy)]?.retryAfterMs ?? 0),
}
