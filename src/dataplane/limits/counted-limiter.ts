/** A limiter with the counters of its plugin and route: the form in which every plugin gets its limiter. */
import type { BoundLimiter, Decision, JointDecider, LimitAsk, LimiterSpec, LimitKeys, LimitOverrides } from '../../limits/contract.js'
import type { Counter, WorkerMetrics } from '../../shared/metrics-slab.js'

/** Values of the label `result`. */
export const limitResults = {
  allowed: 'allowed',
  limited: 'limited',
  /** Would have been refused, but the limiter only watches. */
  dryRun: 'dry_run',
  /** The store failed, or the request gave no number to decide by: the policy for that case decided. */
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

  countError(): void {
    this.error.add(1)
  }

  count(decision: Decision): void {
    const { basis } = decision
    if (basis === 'allowed' || basis === 'refused') this.error.add(1)
    else if (!decision.allowed) this.limited.add(1)
    else if (decision.refusedBy >= 0) this.dryRun.add(1)
    else this.allowed.add(1)
  }
}

/** Hands on what it is asked. Who asks counts the decision that came out, because only he knows what became of it (see LimitGroup). */
export class CountedLimiter implements BoundLimiter {
  constructor(
    readonly inner: BoundLimiter,
    private readonly counters: LimitCounters,
  ) {}

  get spec(): LimiterSpec {
    return this.inner.spec
  }

  get joint(): JointDecider | null {
    return this.inner.joint
  }

  count(decision: Decision): void {
    this.counters.count(decision)
  }

  /** A request about which nothing could be decided. */
  countError(): void {
    this.counters.countError()
  }

  decision(): Decision {
    return this.inner.decision()
  }

  check(keys: LimitKeys, cost: number, out: Decision, overrides?: LimitOverrides): Decision | Promise<Decision> {
    return this.inner.check(keys, cost, out, overrides)
  }

  peek(keys: LimitKeys, cost: number, out: Decision, overrides?: LimitOverrides): Decision | Promise<Decision> {
    return this.inner.peek(keys, cost, out, overrides)
  }

  release(hold: number): void {
    this.inner.release(hold)
  }

  giveBack(ask: LimitAsk): void {
    this.inner.giveBack(ask)
  }
}
