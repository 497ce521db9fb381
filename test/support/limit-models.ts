/**
 * What every algorithm means, said as simply as possible: whole histories in arrays, no cells, no ticks, no rounding. Beside these the
 * engine is tested. Times in whole milliseconds.
 */
import type { LimitRule } from '../../src/limits/contract.js'

export interface LimitModel {
  admits(nowMs: number, cost: number): boolean
  charge(nowMs: number, cost: number): void
  /** Whole units left. */
  remaining(nowMs: number): number
}

interface Unit {
  readonly atMs: number
  readonly cost: number
}

const sum = (units: readonly Unit[]): number => units.reduce((total, unit) => total + unit.cost, 0)

function windowStartOf(rule: Extract<LimitRule, { algorithm: 'fixed-window' }>, ms: number): number {
  const date = new Date(ms)
  if (rule.start === 'month') return Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), 1)
  if (rule.start === 'year') return Date.UTC(date.getUTCFullYear(), 0, 1)
  return Math.floor(ms / rule.windowMs) * rule.windowMs
}

/** The model of a rule with one key. Buckets need an interval (1000 / rate) of whole milliseconds. */
export function modelOf(rule: LimitRule): LimitModel {
  const units: Unit[] = []
  const charge = (atMs: number, cost: number) => void units.push({ atMs, cost })
  switch (rule.algorithm) {
    case 'fixed-window': {
      let firstMs = Number.NEGATIVE_INFINITY
      const used = (nowMs: number) =>
        rule.start === 'first-hit'
          ? nowMs < firstMs + rule.windowMs
            ? sum(units.filter((unit) => unit.atMs >= firstMs))
            : 0
          : sum(units.filter((unit) => windowStartOf(rule, unit.atMs) === windowStartOf(rule, nowMs)))
      return {
        admits: (nowMs, cost) => used(nowMs) + cost <= rule.limit,
        charge: (nowMs, cost) => {
          if (nowMs >= firstMs + rule.windowMs) firstMs = nowMs
          charge(nowMs, cost)
        },
        remaining: (nowMs) => Math.max(0, rule.limit - used(nowMs)),
      }
    }
    case 'sliding-window': {
      const width = rule.windowMs
      const isWithin = rule.boundary === 'estimate-within'
      const inWindow = (index: number) => sum(units.filter((unit) => Math.floor(unit.atMs / width) === index))
      const estimate = (nowMs: number) => {
        const index = Math.floor(nowMs / width)
        const previous = isWithin ? Math.min(rule.limit, inWindow(index - 1)) : inWindow(index - 1)
        return (previous * (width - (nowMs % width))) / width + inWindow(index)
      }
      return {
        admits: (nowMs, cost) => (isWithin ? estimate(nowMs) + cost <= rule.limit : estimate(nowMs) + cost - 1 < rule.limit),
        charge,
        remaining: (nowMs) => Math.max(0, Math.floor(rule.limit - estimate(nowMs))),
      }
    }
    case 'sliding-log': {
      const used = (nowMs: number) => sum(units.filter((unit) => nowMs - unit.atMs < rule.windowMs))
      return {
        admits: (nowMs, cost) => used(nowMs) + cost <= rule.limit,
        charge,
        remaining: (nowMs) => Math.max(0, rule.limit - used(nowMs)),
      }
    }
    case 'token-bucket':
    case 'leaky-bucket': {
      const interval = 1000 / rule.rate
      let fullAtMs = 0
      const debt = (nowMs: number) => Math.max(0, fullAtMs - nowMs)
      return {
        admits: (nowMs, cost) => debt(nowMs) + (cost - 1) * interval <= rule.burst * interval,
        charge: (nowMs, cost) => {
          fullAtMs = nowMs + debt(nowMs) + cost * interval
        },
        remaining: (nowMs) => Math.max(0, Math.floor(((rule.burst + 1) * interval - debt(nowMs)) / interval)),
      }
    }
    case 'concurrency':
      return {
        admits: (_, cost) => sum(units) + cost <= rule.limit,
        charge,
        remaining: () => Math.max(0, rule.limit - sum(units)),
      }
  }
}
