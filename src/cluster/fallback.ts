/**
 * What happens to a request when Redis gave no answer: refuse, let pass, or decide here.
 *
 * `local` decides in the local store, with every limit divided by the number of living nodes (rounded down, at least 1), so that all
 * nodes together admit about what one limit allows. These counters are their own: they start empty at the beginning of an outage, and
 * are not written to Redis afterwards.
 */
import {
  type BoundLimiter,
  type Decision,
  type LimitAsk,
  type LimiterSpec,
  type LimiterStore,
  type LimitKeys,
  type LimitOverrides,
  type LimitRule,
  WINDOW_MAX_MS,
} from '../limits/contract.js'

/** Limiters for so many node counts are kept; more nodes than this come and go in one outage hardly ever. */
const DIVISIONS_MAX = 64
const LOCAL_SCOPE = '|without-redis'

/** `value` units for one of `nodes` equal parts. */
function part(value: number, nodes: number): number {
  return value === 0 ? 0 : Math.max(1, Math.floor(value / nodes))
}

function divideRule(rule: LimitRule, nodes: number): LimitRule {
  if (!('rate' in rule)) return { ...rule, limit: part(rule.limit, nodes) }
  const burst = part(rule.burst + 1, nodes) - 1
  // Never so slow that a full bucket would drain for longer than the stores can count.
  return { ...rule, rate: Math.max(rule.rate / nodes, ((burst + 1) * 1000) / WINDOW_MAX_MS), burst }
}

/** The spec for one of `nodes` nodes, kept in the local store. */
export function dividedSpec(spec: LimiterSpec, nodes: number): LimiterSpec {
  const rules = spec.rules.map((rule) => divideRule(rule, nodes))
  return { ...spec, scope: `${spec.scope}${LOCAL_SCOPE}`, rules, store: { kind: 'local' } }
}

function dividedOverrides(spec: LimiterSpec, overrides: LimitOverrides | undefined, nodes: number): LimitOverrides | undefined {
  if (overrides?.limits === undefined) return overrides
  const limits = overrides.limits.map((limit, index) => {
    if (limit === undefined) return undefined
    const rule = spec.rules[index]
    return rule !== undefined && 'rate' in rule ? part(limit + 1, nodes) - 1 : part(limit, nodes)
  })
  return { ...overrides, limits }
}

export class Fallback {
  private readonly bound = new Map<number, BoundLimiter>()

  /** Throws RangeError when the local store cannot do the spec: at bind, not in the outage. */
  constructor(
    private readonly spec: LimiterSpec,
    private readonly local: LimiterStore,
    private readonly nodes: () => number,
  ) {
    this.limiter(1)
  }

  check(keys: LimitKeys, cost: number, out: Decision, overrides: LimitOverrides | undefined): Decision | Promise<Decision> {
    const nodes = Math.max(1, this.nodes())
    const decided = this.limiter(nodes).check(keys, cost, out, dividedOverrides(this.spec, overrides, nodes))
    if (!(decided instanceof Promise)) return mark(decided)
    return decided.then(mark)
  }

  peek(keys: LimitKeys, cost: number, out: Decision, overrides: LimitOverrides | undefined): Decision | Promise<Decision> {
    const nodes = Math.max(1, this.nodes())
    const decided = this.limiter(nodes).peek(keys, cost, out, dividedOverrides(this.spec, overrides, nodes))
    if (!(decided instanceof Promise)) return mark(decided)
    return decided.then(mark)
  }

  /** Undoes what `check` charged. */
  giveBack(ask: LimitAsk): void {
    const nodes = Math.max(1, this.nodes())
    const limiter = this.limiter(nodes)
    limiter.giveBack({
      limiter,
      keys: ask.keys,
      cost: ask.cost,
      out: ask.out,
      overrides: dividedOverrides(this.spec, ask.overrides, nodes),
    })
  }

  /** Ends a hold that `check` gave. */
  release(hold: number): void {
    this.limiter(1).release(hold)
  }

  private limiter(nodes: number): BoundLimiter {
    const known = this.bound.get(nodes)
    if (known !== undefined) return known
    if (this.bound.size >= DIVISIONS_MAX) this.bound.clear()
    const limiter = this.local.bind(dividedSpec(this.spec, nodes))
    this.bound.set(nodes, limiter)
    return limiter
  }
}

function mark(decision: Decision): Decision {
  if (decision.basis === 'exact' || decision.basis === 'shared') decision.basis = 'local'
  return decision
}

/** Writes what the policies `allow` and `refuse` decide. */
export function decideWithout(out: Decision, allowed: boolean): Decision {
  out.allowed = allowed
  out.refusedBy = -1
  out.delayMs = 0
  out.hold = -1
  out.basis = allowed ? 'allowed' : 'refused'
  out.isCharged = false
  return out
}
