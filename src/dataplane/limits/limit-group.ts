/**
 * The limits of a request as one decision: what one of them refuses uses up nothing of the others.
 *
 * A group is the limit plugins that stand next to each other in the access phase of a chain. All are asked what they want to know, then:
 *
 *   all local          one atomic step over all of them (`joint`), without waiting
 *   all on one Redis   one script call (in a cluster: if they count under one key, else as several stores)
 *   several stores     1. the local ones look (peek): if one refuses, that is the answer, and nothing was counted anywhere
 *                      2. store after store decides, the local one last, because it does so at once
 *                      3. the first that refuses ends it: what the ones before it counted is given back
 *
 * Then every plugin, in the order of the chain, concludes from its own decision, up to the first that refuses: its answer is sent. A
 * refusal also gives back what earlier groups of the chain counted, those before a plugin that is no limit.
 *
 * Runs on workers. State: spare records, so that local decisions allocate nothing. A record lives from `enter` to `leave` (log); if the
 * request ends while a store is still asked, the late answer is given back. Order of the decisions counts: metrics name the plugins up to
 * the first that refuses.
 */
import {
  type BoundLimiter,
  type Decision,
  JOINT_RULES_MAX,
  type LimitAsk,
  type LimitKeys,
  type LimitOverrides,
} from '../../limits/contract.js'
import type {
  Exchange,
  LimitQuestion,
  PhaseResult,
  PhaseReturn,
  PluginInstance,
  Predicate,
  Reply,
  RequestLimit,
} from '../../plugins/plugin.js'
import { CountedLimiter } from './counted-limiter.js'

/** Records kept for reuse; more are left to the garbage collector after a burst. */
const SPARE_MAX = 1024

/** A request's place in the queue of a limit. */
export interface QueuePlace {
  /** Resolves when the wait is over, or the place was left. */
  readonly over: Promise<void>
  leave(): void
}

export interface LimitMember {
  readonly limit: RequestLimit
  /** `_meta.filter`; null = always. */
  readonly filter: Predicate | null
  /** Changes the reply as the configuration of the plugin says (`_meta.error_response`). */
  reply(reply: Reply): Reply
}

/** Ends the phase of a request that is over; nobody gets it. */
const OVER: Reply = { status: 499 }

class Ask implements LimitAsk {
  overrides: LimitOverrides | undefined = undefined
  keys: LimitKeys = ''
  cost = 1
  /** Another limit refused before this one was asked: it says nothing about the request. */
  isUnasked = false
  readonly limiter: BoundLimiter
  readonly out: Decision

  constructor(
    readonly member: LimitMember,
    limiter: BoundLimiter,
    readonly counted: CountedLimiter | null,
  ) {
    this.limiter = limiter
    this.out = limiter.decision()
  }
}

/** One request at one group. */
class Pass {
  state: 'asked' | 'decided' | 'waiting' | 'over' = 'asked'
  /** What was asked, in the order of the chain. */
  asks: readonly Ask[] = []
  place: QueuePlace | null = null
  /** The first `count` are those of this request; they stay for the next one, which almost always asks the same limiters. */
  private readonly records: Ask[] = []
  private count = 0

  add(member: LimitMember, question: LimitQuestion): void {
    const counted = question.limiter instanceof CountedLimiter ? question.limiter : null
    const limiter = counted?.inner ?? question.limiter
    // A binding has one limiter, or a few (tiers): the record of the last request almost always fits.
    let ask = this.records[this.count]
    if (ask === undefined || ask.limiter !== limiter || ask.counted !== counted || ask.member !== member) {
      ask = new Ask(member, limiter, counted)
      this.records[this.count] = ask
    }
    this.count++
    ask.keys = question.keys
    ask.cost = question.cost
    ask.overrides = question.overrides
    ask.isUnasked = false
    ask.out.isCharged = false
    ask.out.hold = -1
  }

  /** Nothing more is asked. False = nothing was. */
  complete(): boolean {
    const { count, records } = this
    this.asks = count === records.length ? records : records.slice(0, count)
    return count > 0
  }

  clear(): void {
    this.state = 'asked'
    this.place = null
    this.count = 0
  }
}

export class LimitGroup implements PluginInstance {
  readonly alwaysLogs = true
  readonly keepsHeadSafe = true
  readonly logsNoAddress = true
  private readonly spare: Pass[] = []
  /** Groups before this one in the chain. */
  private earlier: readonly LimitGroup[] = []
  /** A later decision may have to undo this one's. */
  private isFollowed = false
  /** All limits of it can be forgotten as soon as they have concluded. */
  private readonly isForgetful: boolean

  /** `slot`: of this group, in the exchange. */
  constructor(
    readonly members: readonly LimitMember[],
    readonly slot: number,
    readonly queue: (ms: number) => QueuePlace,
  ) {
    this.isForgetful = members.every(({ limit }) => limit.forgets !== undefined && leavesNothing(limit.forgets))
  }

  /** Something of a decision is needed until the request is over: then it has to be released and logged. */
  get keepsDecisions(): boolean {
    return this.isFollowed || !this.isForgetful
  }

  /** Tells groups of one chain, in its order, about each other. */
  static connect(groups: readonly LimitGroup[]): void {
    for (const [index, group] of groups.entries()) {
      group.earlier = groups.slice(0, index)
      group.isFollowed = index < groups.length - 1
    }
  }

  access(exchange: Exchange): PhaseReturn {
    const pass = this.spare.pop() ?? new Pass()
    const { members } = this
    for (let index = 0; index < members.length; index++) {
      const member = members[index] as LimitMember
      if (member.filter !== null && !member.filter(exchange)) continue
      const question = member.limit.ask(exchange)
      if (question === undefined) continue
      if ('undecidable' in question) {
        if (question.limiter instanceof CountedLimiter) question.limiter.countError()
        if (question.undecidable === null) continue
        this.recycle(pass)
        this.undoEarlier(exchange)
        return member.reply(question.undecidable)
      }
      pass.add(member, question)
    }
    if (!pass.complete()) {
      this.recycle(pass)
      return undefined
    }
    const decided = this.decide(pass)
    if (!this.keepsDecisions && decided === undefined) {
      const result = this.conclude(exchange, pass)
      this.recycle(pass)
      return result
    }
    exchange.setSlot(this.slot, pass)
    if (decided instanceof Promise) return decided.then(() => this.later(exchange, pass))
    return this.conclude(exchange, pass)
  }

  private decide(pass: Pass): void | Promise<void> {
    const { asks } = pass
    const first = asks[0] as Ask
    const { joint } = first.limiter
    if (asks.length === 1) {
      // What may have to be undone is asked for by `joint`, which gives the marks for it.
      if (joint !== null && !joint.isImmediate && this.isFollowed) return joint.decide(asks, false)
      const decided = first.limiter.check(first.keys, first.cost, first.out, first.overrides)
      return decided instanceof Promise ? decided.then(ignore) : undefined
    }
    let rules = 0
    for (let index = 0; index < asks.length; index++) rules += (asks[index] as Ask).out.rules.length
    if (rules > JOINT_RULES_MAX) return decideParts(asks, asks.map(alone), [])
    if (joint === null) return decideByStore(asks)
    for (let index = 1; index < asks.length; index++) {
      if (!isTogether(first, asks[index] as Ask)) return decideByStore(asks)
    }
    return joint.decide(asks, false)
  }

  private later(exchange: Exchange, pass: Pass): PhaseReturn {
    if (pass.state === 'over') {
      releaseHolds(pass.asks)
      return OVER
    }
    return this.conclude(exchange, pass)
  }

  /** Every plugin says what follows, up to the first that refuses. */
  private conclude(exchange: Exchange, pass: Pass): PhaseReturn {
    pass.state = 'decided'
    const { asks } = pass
    let waitMs = 0
    for (let index = 0; index < asks.length; index++) {
      const { counted, member, out, isUnasked } = asks[index] as Ask
      if (isUnasked) continue
      const result = member.limit.conclude(exchange, out)
      counted?.count(out)
      if (result === undefined) continue
      if (typeof result === 'number') waitMs = Math.max(waitMs, result)
      else {
        this.undoEarlier(exchange)
        giveBack(asks, index)
        return member.reply(result)
      }
    }
    return waitMs > 0 ? this.wait(pass, waitMs) : undefined
  }

  /** The limits let it pass, one of them only later. All delays count from the decision, so the longest is all of them. */
  private wait(pass: Pass, ms: number): Promise<PhaseResult> {
    pass.state = 'waiting'
    pass.place = this.queue(ms)
    return pass.place.over.then(() => {
      if (pass.state !== 'waiting') return OVER
      pass.state = 'decided'
      return undefined
    })
  }

  /** A later group refused, or answered: what was counted here is given back. */
  private undoEarlier(exchange: Exchange): void {
    for (const group of this.earlier) {
      const pass = exchange.getSlot(group.slot)
      if (pass instanceof Pass && pass.state === 'decided') giveBack(pass.asks, pass.asks.length)
    }
  }

  /** Ends what the request holds. To be called when nothing is left to be done but to send its last bytes; `log` does it at the latest. */
  release(exchange: Exchange): void {
    const pass = exchange.getSlot(this.slot)
    if (pass instanceof Pass && pass.state === 'decided') releaseHolds(pass.asks)
  }

  log(exchange: Exchange): void {
    const pass = exchange.getSlot(this.slot)
    if (!(pass instanceof Pass)) return
    const { state } = pass
    // Otherwise a store may still write into the record; what it decides then is given back.
    if (state === 'asked') {
      pass.state = 'over'
      return
    }
    exchange.setSlot(this.slot, undefined)
    if (state === 'waiting') {
      pass.state = 'over'
      leaveQueue(pass)
    }
    releaseHolds(pass.asks)
    if (state === 'decided') this.recycle(pass)
  }

  private recycle(pass: Pass): void {
    pass.clear()
    if (this.spare.length < SPARE_MAX) this.spare.push(pass)
  }
}

/** A plugin that limits as one with an ordinary access phase: for those that run another plugin's phases themselves. */
export function limitAlone(instance: PluginInstance, slot: number, queue: (ms: number) => QueuePlace): PluginInstance {
  const { limit } = instance
  if (limit === undefined) return instance
  const group = new LimitGroup([{ limit, filter: null, reply: (reply) => reply }], slot, queue)
  const { limit: _replaced, ...rest } = instance
  return {
    ...rest,
    access: (exchange) => group.access(exchange),
    log(exchange) {
      instance.log?.(exchange)
      group.log(exchange)
    },
    alwaysLogs: true,
  }
}

/** It decides at once, and what it decides holds nothing and delays nobody. */
function leavesNothing({ joint, spec }: BoundLimiter): boolean {
  return joint?.isImmediate === true && spec.rules.every(({ algorithm }) => algorithm !== 'concurrency' && algorithm !== 'leaky-bucket')
}

function ignore(): void {}

/** A place in a queue is given back if nobody stands behind it; what windows counted stays, as for any request that was let in. */
function leaveQueue(pass: Pass): void {
  pass.place?.leave()
  for (const ask of pass.asks) {
    if (ask.out.delayMs > 0 && ask.limiter.spec.rules.every(({ algorithm }) => algorithm === 'leaky-bucket')) ask.limiter.giveBack(ask)
  }
}

function releaseHolds(asks: readonly Ask[]): void {
  for (let index = 0; index < asks.length; index++) {
    const { limiter, out } = asks[index] as Ask
    if (out.hold < 0) continue
    limiter.release(out.hold)
    out.hold = -1
  }
}

/** Undoes what limiters charged, but those that count refused requests and were asked before `refuser` or are it. */
function giveBack(asks: readonly Ask[], refuser = asks.findIndex(({ isUnasked, out }) => !isUnasked && !out.allowed)): void {
  for (let index = 0; index < asks.length; index++) {
    const ask = asks[index] as Ask
    // Usually it is the refusal itself, which charged nothing.
    if ((!ask.out.isCharged && ask.out.hold < 0) || (ask.limiter.spec.countRefused && index <= refuser)) continue
    ask.limiter.giveBack(ask)
  }
}

/** One step can decide both. */
function isTogether(one: Ask, other: Ask): boolean {
  const { joint } = one.limiter
  if (joint === null || other.limiter.joint !== joint) return false
  return joint.placeOf === null || joint.placeOf(one) === joint.placeOf(other)
}

/** Limits in remote stores, by the step that decides them, in the order of the chain. */
function remoteParts(asks: readonly Ask[]): Ask[][] {
  const parts: Ask[][] = []
  for (const ask of asks) {
    const { joint } = ask.limiter
    if (joint?.isImmediate === true) continue
    const same = joint === null ? undefined : parts.find(([one]) => one !== undefined && isTogether(one, ask))
    if (same === undefined) parts.push([ask])
    else same.push(ask)
  }
  return parts
}

function alone(ask: Ask): Ask[] {
  return [ask]
}

async function decideByStore(asks: readonly Ask[]): Promise<void> {
  const local = asks.filter(({ limiter }) => limiter.joint?.isImmediate === true)
  const joint = local[0]?.limiter.joint ?? null
  const parts = remoteParts(asks)
  if (joint === null) return decideParts(asks, parts, [])
  await joint.decide(local, true)
  if (local.every(({ out }) => out.allowed)) return decideParts(asks, [...parts, local], [])
  if (local.every(({ limiter }) => !limiter.spec.countRefused)) {
    noteUnasked(asks, local)
    return
  }
  await joint.decide(local, false)
  // Room came up between the two.
  if (local.every(({ out }) => out.allowed)) return decideParts(asks, parts, local)
  noteUnasked(asks, local)
}

/** Part after part, until one refuses. `done`: those that have decided, and admitted. */
async function decideParts(asks: readonly Ask[], parts: readonly (readonly Ask[])[], done: readonly Ask[]): Promise<void> {
  const decided = [...done]
  for (const part of parts) {
    const [one] = part
    if (one === undefined) continue
    const { joint } = one.limiter
    if (joint === null) await one.limiter.check(one.keys, one.cost, one.out, one.overrides)
    else await joint.decide(part, false)
    decided.push(...part)
    if (part.every(({ out }) => out.allowed)) continue
    noteUnasked(asks, decided)
    giveBack(asks)
    return
  }
}

function noteUnasked(asks: readonly Ask[], decided: readonly Ask[]): void {
  for (const ask of asks) ask.isUnasked = !decided.includes(ask)
}
