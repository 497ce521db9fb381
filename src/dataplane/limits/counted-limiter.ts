/**
 * A limiter that counts what it decides: the form in which every plugin gets its limiter. Adds no promise and no allocation to a store
 * that decides at once.
 */
import type { BoundLimiter, Decision, LimiterSpec, LimitKeys, LimitOverrides } from '../../limits/contract.js'
import type { Counter, WorkerMetrics } from '../../shared/metrics-slab.js'

/** Values of the label `result`. */
export const limitResults = {
  allowed: 'allowed',
  limited: 'limited',
  /** Would have been refused, but the limiter only watches. */
  dryRun: 'dry_run',
  /** The store failed, and the policy for that case decided. */
  error: 'error',
} as const

/** The counters of one plugin on one route. */
export class LimitCounters {
  private readonly allowed: Counter
  private readonly limited: Counter
  private readonly dryRun: Counter
  private readonly error: Counter

  constructor(metrics: WorkerMetrics, plugin: string, route: string) {
    const counter = (result: string) => metrics.counter('rate_limit_requests', [plugin, route, result])
    this.allowed = counter(limitResults.allowed)
    this.limited = counter(limitResults.limited)
    this.dryRun = counter(limitResults.dryRun)
    this.error = counter(limitResults.error)
  }

  count(decision: Decision): void {
    const { basis } = decision
    if (basis === 'allowed' || basis === 'refused') this.error.add(1)
    else if (!decision.allowed) this.limited.add(1)
    else if (decision.refusedBy >= 0) this.dryRun.add(1)
    else this.allowed.add(1)
  }
}

export class CountedLimiter implements BoundLimiter {
  private readonly counted: (decision: Decision) => Decision

  constructor(
    private readonly inner: BoundLimiter,
    private readonly counters: LimitCounters,
  ) {
    this.counted = (decision) => {
      counters.count(decision)
      return decision
    }
  }

  get spec(): LimiterSpec {
    return this.inner.spec
  }

  decision(): Decision {
    return this.inner.decision()
  }

  check(keys: LimitKeys, cost: number, out: Decision, overrides?: LimitOverrides): Decision | Promise<Decision> {
    const decision = this.inner.check(keys, cost, out, overrides)
    if (decision instanceof Promise) return decision.then(this.counted)
    this.counters.count(decision)
    return decision
  }

  peek(keys: LimitKeys, cost: number, out: Decision, overrides?: LimitOverrides): Decision | Promise<Decision> {
    return this.inner.peek(keys, cost, out, overrides)
  }

  release(hold: number): void {
    this.inner.release(hold)
  }
}
