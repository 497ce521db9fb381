/** The simple model against which the scripts are tested: the same rules on plain objects, for one key, at given times. */
import { CellReading, isLive, tickOf } from '../../src/limits/cell.js'
import { Decision, type LimiterSpec } from '../../src/limits/contract.js'
import { Kind, RulePlan } from '../../src/limits/plan.js'
import { chargeRule, readRule, reportRule, ruleAdmits, ruleDelay } from '../../src/limits/rule.js'

interface Cell {
  readonly plan: RulePlan
  stored: { expiry: number; a: number; b: number } | null
}

/** All but sliding logs and concurrency, whose state is not in words. */
export class ModelLimiter {
  private readonly cells: Cell[]

  constructor(private readonly spec: LimiterSpec) {
    this.cells = spec.rules.map((rule, index) => ({ plan: new RulePlan(rule, index), stored: null }))
  }

  check(nowMs: number, cost: number): Decision {
    const out = new Decision(this.spec.rules.length)
    const readings = this.cells.map(({ plan, stored }) => {
      const reading = new CellReading()
      const isFresh = stored === null || !isLive(stored.expiry, tickOf(nowMs))
      if (!isFresh) Object.assign(reading, stored)
      readRule(plan, reading, nowMs, isFresh)
      return { plan, reading, admits: ruleAdmits(plan, reading, cost) }
    })
    out.refusedBy = readings.findIndex(({ admits }) => !admits)
    out.allowed = out.refusedBy < 0
    const isCharged = out.allowed || this.spec.countRefused
    for (const [index, { plan, reading, admits }] of readings.entries()) {
      const outcome = out.rules[index]
      const cell = this.cells[index]
      if (outcome === undefined || cell === undefined) continue
      if (out.allowed && plan.kind === Kind.leakyBucket) out.delayMs = Math.max(out.delayMs, ruleDelay(plan, reading))
      reportRule(plan, reading, nowMs, cost, { isAdmitted: admits, isCharged }, outcome)
      if (!isCharged) continue
      chargeRule(plan, reading, nowMs, cost)
      cell.stored = { expiry: reading.expiry, a: reading.a, b: reading.b }
    }
    return out
  }
}

/** Exact log: the times of admitted units. */
export class ModelLog {
  private times: number[] = []

  constructor(
    private readonly limit: number,
    private readonly windowMs: number,
    private readonly countRefused: boolean,
  ) {}

  check(nowMs: number, cost: number): { readonly allowed: boolean; readonly used: number } {
    this.times = this.times.filter((time) => time > nowMs - this.windowMs)
    const allowed = this.times.length + cost <= this.limit
    if (allowed || this.countRefused) for (let unit = 0; unit < cost; unit++) this.times.push(nowMs)
    this.times = this.times.slice(-Math.max(1, this.limit))
    return { allowed, used: this.times.length }
  }
}
