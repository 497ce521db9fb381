/**
 * Limits whose units are taken from Redis in batches before they are spent: exact over all nodes, at about local speed.
 *
 * Why nothing is admitted beyond the limit: every admitted unit was counted in Redis before, in the same window, by the same script
 * that decides single requests. What dies with a worker, or is held by another node, was counted and not spent: too little is admitted
 * then, until the window ends, never too much.
 *
 * Token buckets refill while units are held, so a held unit would let a later burst be larger than configured. Units are therefore
 * held for at most H, and rate × H of the burst stays untouched in Redis: what is spent in any time t was taken in t + H, and that is at
 * most (burst + 1 − rate × H) + rate × (t + H) = burst + 1 + rate × t, which is the bucket's own bound.
 *
 * One batch is on its way per key at a time; requests that find nothing wait for it together, in order. Redis fails → what is held is
 * spent, then the policy decides. Units that are idle for IDLE_MS go back to Redis, and so do all at `close`.
 */
import { type BoundLimiter, Decision, type LimitAsk, type LimiterSpec, type LimitKeys, type LimitOverrides } from '../limits/contract.js'
import { ExactLimiter, type LimiterParts } from './exact-limiter.js'
import { type Batch, Lease } from './lease.js'
import { integers, RuleLayout } from './rule-layout.js'
import type { Script } from './script.js'
import { redisDefaults } from './settings.js'

/** A batch is meant to last so long at the present rate: about two calls a second for a busy key. */
const TARGET_MS = 500
/**
 * The same for each worker of the process, if that is more: workers hold leases of their own, and a key's requests are spread over all
 * of them, so with more workers each has to come back less often for the process to keep to 0.01 calls per request at 1000 a second.
 */
const TARGET_MS_PER_WORKER = 125
export const IDLE_MS = 250
const SWEEP_MS = 100
/** Redis is not asked again about a key that it refused, for so long: others may have given units back meanwhile. */
export const REFUSAL_MS = 100
/** Longest time for which units of a token bucket are held with one worker; half of its burst stays usable in any case. */
const BUCKET_HOLD_MS = 200
/** Part of the hold in which a batch is meant to be spent. */
const BUCKET_TARGET = 0.75
/** Near the end of a limit a batch is not cut to less than this part of what was wanted. */
const FLOOR_PART = 8
/** Keys with units at a time, per limiter; requests of further keys are decided one by one. */
export const LEASES_MAX = 100_000
const HEADER = 2
const FIELDS = 5

/** Why a spec cannot be leased, or null. */
export function leaseProblem(spec: LimiterSpec): string | null {
  if (spec.countRefused) return 'counting refused requests needs a call to Redis for each of them: use the exact mode'
  for (const rule of spec.rules) {
    if (rule.algorithm === 'fixed-window' || rule.algorithm === 'sliding-window' || rule.algorithm === 'token-bucket') continue
    return `a ${rule.algorithm} limit cannot be leased: use fixed-window, sliding-window or token-bucket, or the exact mode`
  }
  return null
}

/** Milliseconds for which units of these rules may be held besides their windows; Infinity without a bucket. */
function bucketHoldMs(spec: LimiterSpec, workers: number): number {
  const most = Math.max(BUCKET_HOLD_MS, (workers * TARGET_MS_PER_WORKER) / BUCKET_TARGET)
  return Math.min(
    ...spec.rules.map((rule) =>
      rule.algorithm === 'token-bucket' ? Math.min(most, ((rule.burst / 2) * 1000) / rule.rate) : Number.POSITIVE_INFINITY,
    ),
  )
}

export class LeaseLimiter implements BoundLimiter {
  /** Units are taken one limit at a time. */
  readonly joint = null
  private readonly layout: RuleLayout
  private readonly takeScript: Script
  /** Decides what is not leased, and by the policy. */
  private readonly exact: ExactLimiter
  private readonly holdMs: number
  private readonly targetMs: number
  private readonly leases = new Map<string, Lease>()
  private readonly returning = new Set<Promise<void>>()
  private cancelSweep: (() => void) | null = null

  /** Throws RangeError when the spec cannot be leased. */
  constructor(
    readonly spec: LimiterSpec,
    private readonly parts: LimiterParts,
  ) {
    const problem = leaseProblem(spec)
    if (problem !== null) throw new RangeError(problem)
    this.holdMs = bucketHoldMs(spec, parts.workers)
    this.targetMs = Math.min(Math.max(TARGET_MS, parts.workers * TARGET_MS_PER_WORKER), this.holdMs * BUCKET_TARGET)
    const reserves = spec.rules.map((rule) => (rule.algorithm === 'token-bucket' ? (rule.rate * this.holdMs) / 1000 : 0))
    this.layout = new RuleLayout(spec, redisDefaults.keyPrefix, reserves)
    this.takeScript = parts.scripts.take.of(this.layout.codes)
    this.exact = new ExactLimiter(spec, parts)
  }

  decision(): Decision {
    return new Decision(this.spec.rules.length)
  }

  check(keys: LimitKeys, cost: number, out: Decision, overrides?: LimitOverrides): Decision | Promise<Decision> {
    const now = this.parts.clock.nowMs()
    if (!Number.isInteger(cost) || cost < 1) throw new RangeError(`cost ${cost}: it must be a positive integer`)
    const lease = this.lease(keys, cost, overrides, now)
    if (lease.waiters.length === 0) {
      if (lease.spend(cost, now)) {
        this.parts.counters.spent(cost)
        if (!lease.isAsking && lease.refusedUntilMs <= now && lease.isLow(now)) this.ask(lease, 1)
        return this.admit(out, lease, overrides, now)
      }
      if (lease.refusedUntilMs > now && cost >= lease.refusedCost) return this.refuse(out, lease, overrides, now)
    }
    return new Promise((resolve) => {
      lease.waiters.push({ keys, cost, out, overrides, resolve })
      if (!lease.isAsking) this.ask(lease, cost)
    })
  }

  async peek(keys: LimitKeys, cost: number, out: Decision, overrides?: LimitOverrides): Promise<Decision> {
    const decision = await this.exact.peek(keys, cost, out, overrides)
    const held = this.leases.get(leaseId(keys, overrides))?.units(this.parts.clock.nowMs()) ?? 0
    if (held === 0 || decision.basis !== 'exact') return decision
    for (const outcome of decision.rules) {
      outcome.remaining = Math.min(outcome.limit, outcome.remaining + held)
      outcome.used = Math.max(0, outcome.used - held)
    }
    if (held < cost) return decision
    decision.allowed = true
    decision.refusedBy = -1
    for (const outcome of decision.rules) outcome.retryAfterMs = 0
    return decision
  }

  /** Nothing to release: concurrency limits are not leased. Holds of the local store in an outage cannot arise either. */
  release(_hold: number): void {}

  /** Back into the batch that it was taken from, as long as that is valid. */
  giveBack(ask: LimitAsk): void {
    const { out, cost } = ask
    if (out.basis === 'local') {
      this.exact.giveBack(ask)
      return
    }
    if (!out.isCharged) return
    out.isCharged = false
    const now = this.parts.clock.nowMs()
    const lease = this.leases.get(leaseId(ask.keys, ask.overrides))
    if (lease === undefined || !lease.unspend(cost, out.rules[0]?.mark ?? 0, now)) this.parts.counters.lost(cost)
  }

  /** Units held at this moment, for all keys. */
  get held(): number {
    const now = this.parts.clock.nowMs()
    let sum = 0
    for (const lease of this.leases.values()) sum += lease.units(now)
    return sum
  }

  /** Gives everything back; resolves when Redis has answered or the deadlines are over. */
  async close(): Promise<void> {
    this.cancelSweep?.()
    this.cancelSweep = null
    for (const [id, lease] of this.leases) this.drop(id, lease)
    await Promise.all(this.returning)
  }

  private lease(keys: LimitKeys, cost: number, overrides: LimitOverrides | undefined, now: number): Lease {
    const id = leaseId(keys, overrides)
    const known = this.leases.get(id)
    if (known !== undefined) return known
    const isKept = this.leases.size < LEASES_MAX
    const lease = new Lease(this.layout.call(keys, cost, overrides), now, isKept)
    if (isKept) {
      this.leases.set(id, lease)
      this.cancelSweep ??= this.parts.clock.after(SWEEP_MS, this.sweep)
    }
    return lease
  }

  /** Takes a batch of at least `need` units and serves those who wait. */
  private ask(lease: Lease, need: number): void {
    const { clock, counters } = this.parts
    const askedMs = clock.nowMs()
    const waiting = lease.waiters.reduce((sum, waiter) => sum + waiter.cost, 0)
    const want = Math.max(need, waiting, lease.isKept ? lease.nextSize(this.targetMs, askedMs) : 0)
    const args = ['', need, want, Math.ceil(want / FLOOR_PART), ...lease.call.args]
    lease.isAsking = true
    counters.called()
    this.parts
      .client()
      .run(this.takeScript, lease.call.keys, args, (reply) => this.takenLate(lease, reply, askedMs))
      .then((reply) => this.taken(lease, need, reply, askedMs))
      .catch((error: unknown) => this.notTaken(lease, error))
  }

  private taken(lease: Lease, need: number, reply: unknown, askedMs: number): void {
    const batch = this.read(lease, reply, askedMs)
    const now = this.parts.clock.nowMs()
    lease.isAsking = false
    if (batch === null) this.refuseWaiters(lease, need, now)
    else this.serve(lease, batch, now)
    const next = lease.waiters[0]
    if (next !== undefined) this.ask(lease, next.cost)
  }

  private serve(lease: Lease, batch: Batch, now: number): void {
    const { counters } = this.parts
    counters.leased(batch.units)
    let served = 0
    for (const waiter of lease.waiters) {
      if (!lease.spendFresh(batch, waiter.cost, now)) break
      served++
      counters.spent(waiter.cost)
    }
    const waiters = lease.waiters.splice(0, served)
    if (batch.units > 0) {
      if (batch.validUntilMs > now && lease.isKept) lease.add(batch)
      else this.returnUnits(lease, [batch], now)
    }
    for (const waiter of waiters) waiter.resolve(this.admit(waiter.out, lease, waiter.overrides, now))
  }

  private refuseWaiters(lease: Lease, need: number, now: number): void {
    const retries = this.spec.rules.map((_, index) => lease.last?.rules[index * FIELDS + 3] ?? 0).filter((retryUs) => retryUs > 0)
    lease.refusedUntilMs = now + Math.min(REFUSAL_MS, ...retries.map((retryUs) => retryUs / 1000))
    lease.refusedCost = need
    const refused = lease.waiters.filter((waiter) => waiter.cost >= need)
    lease.waiters = lease.waiters.filter((waiter) => waiter.cost < need)
    for (const waiter of refused) waiter.resolve(this.refuse(waiter.out, lease, waiter.overrides, now))
  }

  private notTaken(lease: Lease, error: unknown): void {
    lease.isAsking = false
    for (const { keys, cost, out, overrides, resolve } of lease.waiters.splice(0)) {
      resolve(this.exact.withoutRedis(error, keys, cost, out, overrides))
    }
  }

  /** The requests were decided by the policy long ago: what was taken for them goes back. */
  private takenLate(lease: Lease, reply: unknown, askedMs: number): void {
    const batch = this.read(lease, reply, askedMs)
    if (batch === null) return
    this.parts.counters.leased(batch.units)
    this.returnUnits(lease, [batch], this.parts.clock.nowMs())
  }

  /** Notes what Redis said, and returns what it gave; null = nothing. */
  private read(lease: Lease, reply: unknown, askedMs: number): Batch | null {
    const numbers = integers(reply, HEADER + FIELDS * this.spec.rules.length)
    const [units = 0, refusedBy = -1] = numbers
    const rules = numbers.slice(HEADER)
    lease.last = { askedMs, refusedBy, rules }
    if (units === 0) return null
    let validMs = this.holdMs
    const starts: number[] = []
    for (const [index, rule] of this.spec.rules.entries()) {
      if (rule.algorithm !== 'token-bucket') validMs = Math.min(validMs, (rules[index * FIELDS + 2] ?? 0) / 1000)
      starts.push(rules[index * FIELDS + 4] ?? 0)
    }
    return { units, validUntilMs: askedMs + validMs, starts }
  }

  private admit(out: Decision, lease: Lease, overrides: LimitOverrides | undefined, now: number): Decision {
    out.allowed = true
    out.refusedBy = -1
    out.isCharged = true
    const [first] = out.rules
    if (first !== undefined) first.mark = lease.lastMark
    return this.report(out, lease, overrides, now)
  }

  private refuse(out: Decision, lease: Lease, overrides: LimitOverrides | undefined, now: number): Decision {
    out.allowed = this.spec.dryRun
    out.isCharged = false
    out.refusedBy = lease.last?.refusedBy ?? 0
    return this.report(out, lease, overrides, now)
  }

  /** What Redis last said, brought to the present, with what is held here counted as left. */
  private report(out: Decision, lease: Lease, overrides: LimitOverrides | undefined, now: number): Decision {
    const { last } = lease
    out.delayMs = 0
    out.hold = -1
    out.basis = 'exact'
    if (last === null) return out
    const held = lease.units(now)
    const agoMs = now - last.askedMs
    for (const [index, outcome] of out.rules.entries()) {
      this.layout.outcome(out, index, last.rules, index * FIELDS, overrides)
      const refuses = out.refusedBy >= 0 && outcome.retryAfterMs !== 0
      outcome.remaining = refuses ? 0 : Math.min(outcome.limit, outcome.remaining + held)
      outcome.used = Math.max(0, outcome.used - held)
      outcome.resetMs = Math.max(0, outcome.resetMs - agoMs)
      if (!refuses) outcome.retryAfterMs = 0
      else if (outcome.retryAfterMs > 0) outcome.retryAfterMs = Math.max(1, outcome.retryAfterMs - agoMs)
    }
    return out
  }

  private readonly sweep = (): void => {
    const now = this.parts.clock.nowMs()
    for (const [id, lease] of this.leases) {
      this.returnUnits(lease, lease.removeEnded(now), now)
      if (!lease.isAsking && now - lease.usedMs >= IDLE_MS && lease.refusedUntilMs <= now) this.drop(id, lease)
    }
    this.cancelSweep = this.leases.size > 0 ? this.parts.clock.after(SWEEP_MS, this.sweep) : null
  }

  private drop(id: string, lease: Lease): void {
    this.leases.delete(id)
    this.returnUnits(lease, lease.removeAll(), this.parts.clock.nowMs())
  }

  /** Each batch goes back at most once. With one rule there is nobody to give it to after its end. */
  private returnUnits(lease: Lease, batches: readonly Batch[], now: number): void {
    for (const batch of batches) {
      if (batch.units === 0) continue
      const isBucketOnly = this.spec.rules.every((rule) => rule.algorithm === 'token-bucket')
      if (isBucketOnly || (batch.validUntilMs <= now && this.spec.rules.length === 1)) this.parts.counters.lost(batch.units)
      else this.sendBack(lease, batch)
    }
  }

  private sendBack(lease: Lease, batch: Batch): void {
    const { counters, scripts } = this.parts
    const args: (string | number)[] = [batch.units]
    for (const [index, code] of this.layout.codes.entries()) {
      args.push(code, Number(lease.call.args[index * 4 + 2]), batch.starts[index] ?? 0)
    }
    counters.called()
    const sent = this.parts
      .client()
      .run(scripts.giveBack, lease.call.keys, args)
      .then(
        (given) => (given === 0 ? counters.lost(batch.units) : counters.returned(batch.units)),
        () => counters.lost(batch.units),
      )
      .finally(() => this.returning.delete(sent))
    this.returning.add(sent)
  }
}

function leaseId(keys: LimitKeys, overrides: LimitOverrides | undefined): string {
  if (typeof keys === 'string' && overrides === undefined) return keys
  return `\0${JSON.stringify([keys, overrides ?? null])}`
}
