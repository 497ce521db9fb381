/**
 * Limits decided by Redis, request by request: one script call for all rules, one round trip.
 *
 * Redis fails → the policy of the spec decides (fallback.ts). A hold whose release did not reach Redis is tried again until its time
 * to live is over, so that an outage does not leave slots taken.
 */
import type { Clock } from '../base/clock.js'
import {
  type BoundLimiter,
  Decision,
  type JointDecider,
  type LimitAsk,
  type LimiterSpec,
  type LimitKeys,
  type LimitOverrides,
} from '../limits/contract.js'
import type { RedisClient } from './client.js'
import type { ClusterCounters } from './counters.js'
import { RedisFailure } from './errors.js'
import { decideWithout, type Fallback } from './fallback.js'
import type { HoldBook } from './holds.js'
import { integers, type RuleCall, RuleLayout } from './rule-layout.js'
import type { Code, Script, Scripts } from './script.js'
import { redisDefaults } from './settings.js'

/** What limiters of both modes are made of. */
export interface LimiterParts {
  readonly client: () => RedisClient
  readonly scripts: Scripts
  readonly clock: Clock
  readonly counters: ClusterCounters
  readonly holds: HoldBook
  /** Null unless the policy is `local`. */
  readonly fallback: Fallback | null
  readonly onFailure: 'refuse' | 'allow' | 'local'
  /** Worker threads of this process. */
  readonly workers: number
}

const HEADER = 2
const FIELDS = 4
/** Of decide-all.lua. */
const JOINT_HEADER = 3
const JOINT_FIELDS = 5

/** One limit's part of a call of decide-all.lua. */
export interface JointPart {
  readonly ask: LimitAsk
  readonly limiter: ExactLimiter
  readonly call: RuleCall
  readonly holdName: string
}

export class ExactLimiter implements BoundLimiter {
  private readonly layout: RuleLayout
  private readonly mode: 'charge' | 'charge-refused'
  private readonly script: Script
  /** Indexes of concurrency rules. */
  private readonly holding: readonly number[]

  constructor(
    readonly spec: LimiterSpec,
    private readonly parts: LimiterParts,
    readonly joint: JointDecider | null = null,
  ) {
    this.layout = new RuleLayout(spec, redisDefaults.keyPrefix)
    this.script = parts.scripts.decide.of(this.layout.codes)
    this.mode = spec.countRefused ? 'charge-refused' : 'charge'
    this.holding = spec.rules.flatMap((rule, index) => (rule.algorithm === 'concurrency' ? [index] : []))
  }

  decision(): Decision {
    return new Decision(this.spec.rules.length)
  }

  check(keys: LimitKeys, cost: number, out: Decision, overrides?: LimitOverrides): Promise<Decision> {
    const call = this.layout.call(keys, cost, overrides)
    const holdName = this.holding.length === 0 ? '' : this.parts.holds.name()
    const args = ['', cost, this.mode, holdName, ...call.args]
    this.parts.counters.called()
    return this.parts
      .client()
      .run(this.script, call.keys, args)
      .then((reply) => this.fill(out, reply, overrides, holdName === '' ? -1 : this.openHold(reply, call, holdName, cost)))
      .catch((error: unknown) => {
        if (holdName !== '' && isUnsure(error)) this.parts.holds.end(this.noteHold(call, holdName, cost))
        return this.withoutRedis(error, keys, cost, out, overrides)
      })
  }

  peek(keys: LimitKeys, cost: number, out: Decision, overrides?: LimitOverrides): Promise<Decision> {
    const call = this.layout.call(keys, cost, overrides)
    this.parts.counters.called()
    return this.parts
      .client()
      .run(this.script, call.keys, ['', cost, 'peek', '', ...call.args])
      .then((reply) => this.fill(out, reply, overrides, -1))
      .catch((error: unknown) => {
        if (!(error instanceof RedisFailure)) throw error
        const { fallback, onFailure } = this.parts
        return fallback === null ? decideWithout(out, onFailure === 'allow') : fallback.peek(keys, cost, out, overrides)
      })
  }

  release(hold: number): void {
    this.parts.holds.end(hold)
  }

  /** This limit's part of a joint call. RangeError as `check`. */
  part(ask: LimitAsk, isPeek: boolean): JointPart {
    const call = this.layout.call(ask.keys, ask.cost, ask.overrides)
    return { ask, limiter: this, call, holdName: this.holding.length === 0 || isPeek ? '' : this.parts.holds.name() }
  }

  /** What decide-all.lua wants to know about a part, before its rules. */
  partHeader({ ask, call, holdName }: JointPart): (string | number)[] {
    return [ask.cost, this.spec.countRefused ? 1 : 0, this.spec.dryRun ? 1 : 0, holdName, call.keys.length]
  }

  get codes(): readonly Code[] {
    return this.layout.codes
  }

  /** Asks with the same tag reach the same master of a cluster. */
  tagOf(ask: LimitAsk): string {
    return this.layout.tag(ask.keys)
  }

  /** Length of this limit's part of the reply. */
  get replyLength(): number {
    return JOINT_HEADER + JOINT_FIELDS * this.spec.rules.length
  }

  /** Fills in the answer from `at` of the reply on. */
  fillPart(part: JointPart, reply: readonly number[], at: number): void {
    const { ask, call, holdName } = part
    const { out } = ask
    const refusedBy = reply[at] ?? 0
    out.refusedBy = refusedBy
    out.allowed = refusedBy < 0 || this.spec.dryRun
    out.delayMs = this.spec.dryRun ? 0 : (reply[at + 1] ?? 0) / 1000
    out.isCharged = reply[at + 2] === 1
    out.basis = 'exact'
    out.hold = holdName !== '' && out.isCharged ? this.noteHold(call, holdName, ask.cost) : -1
    for (const [index, outcome] of out.rules.entries()) {
      const from = at + JOINT_HEADER + JOINT_FIELDS * index
      this.layout.outcome(out, index, reply, from, ask.overrides)
      outcome.mark = reply[from + 4] ?? 0
    }
  }

  /** Decides a part of a joint call that failed. */
  partWithoutRedis(part: JointPart, error: unknown): Decision | Promise<Decision> {
    const { ask, call, holdName } = part
    if (holdName !== '' && isUnsure(error)) this.parts.holds.end(this.noteHold(call, holdName, ask.cost))
    return this.withoutRedis(error, ask.keys, ask.cost, ask.out, ask.overrides)
  }

  giveBack(ask: LimitAsk): void {
    const { out, cost } = ask
    this.parts.holds.end(out.hold)
    out.hold = -1
    if (!out.isCharged) return
    if (out.basis === 'local') {
      this.parts.fallback?.giveBack(ask)
      return
    }
    out.isCharged = false
    const call = this.layout.call(ask.keys, cost, ask.overrides)
    const args: (string | number)[] = [cost]
    for (const [index, code] of this.layout.codes.entries()) {
      args.push(code, call.args[index * 4 + 2] ?? 0, out.rules[index]?.mark ?? 0)
    }
    const { client, counters, scripts } = this.parts
    counters.called()
    client()
      .run(scripts.undo, call.keys, args)
      .catch((error: unknown) => {
        // What could not be given back counts until its window ends.
        if (!(error instanceof RedisFailure)) throw error
        counters.failed(error.reason)
      })
  }

  private fill(out: Decision, reply: unknown, overrides: LimitOverrides | undefined, hold: number): Decision {
    const numbers = integers(reply, HEADER + FIELDS * this.spec.rules.length)
    const refusedBy = numbers[0] ?? -1
    out.refusedBy = refusedBy
    out.allowed = refusedBy < 0 || this.spec.dryRun
    out.delayMs = this.spec.dryRun ? 0 : (numbers[1] ?? 0) / 1000
    out.hold = hold
    out.basis = 'exact'
    // This script gives no marks: what is to be undone is asked for by `joint`.
    out.isCharged = false
    for (let index = 0; index < this.spec.rules.length; index++) {
      this.layout.outcome(out, index, numbers, HEADER + FIELDS * index, overrides)
    }
    return out
  }

  private openHold(reply: unknown, call: RuleCall, name: string, cost: number): number {
    const [refusedBy = -1] = integers(reply, 1)
    return refusedBy >= 0 ? -1 : this.noteHold(call, name, cost)
  }

  private noteHold(call: RuleCall, name: string, cost: number): number {
    return this.parts.holds.open({ client: this.parts.client, keys: this.heldKeys(call), name, cost, ttlMs: this.holdTtlMs() })
  }

  private heldKeys(call: RuleCall): string[] {
    return this.holding.flatMap((index) => call.keys[index] ?? [])
  }

  private holdTtlMs(): number {
    return Math.max(...this.spec.rules.map((rule) => (rule.algorithm === 'concurrency' ? rule.ttlMs : 0)))
  }

  /** Decides by the policy of the spec, because of this error. Throws what is not a failure of Redis. */
  withoutRedis(
    error: unknown,
    keys: LimitKeys,
    cost: number,
    out: Decision,
    overrides: LimitOverrides | undefined,
  ): Decision | Promise<Decision> {
    if (!(error instanceof RedisFailure)) throw error
    const { counters, fallback, onFailure, holds } = this.parts
    counters.failed(error.reason)
    counters.decidedByPolicy(onFailure)
    if (fallback === null) return decideWithout(out, onFailure === 'allow' || this.spec.dryRun)
    const decided = fallback.check(keys, cost, out, overrides)
    const adopt = (decision: Decision): Decision => {
      if (decision.hold >= 0) decision.hold = holds.adopt(fallback, decision.hold)
      return decision
    }
    return decided instanceof Promise ? decided.then(adopt) : adopt(decided)
  }
}

/** The call may have been executed all the same: a hold that it took is ended, which does no harm if there is none. */
function isUnsure(error: unknown): boolean {
  return error instanceof RedisFailure && (error.reason === 'deadline' || error.reason === 'connection')
}
