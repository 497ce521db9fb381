/**
 * Several limiters of the local store decide one request in one step: all their cells are locked, in ascending order, read, and then
 * either charged all or left as they are. Synchronous; allocates nothing.
 */
import { type Decision, JOINT_RULES_MAX, type JointDecider, type LimitAsk } from '../limits/contract.js'
import { LocalLimiter } from './limiter-decide.js'
import type { LimiterParts, Line } from './limiter-line.js'

function limiterOf(ask: LimitAsk): LocalLimiter {
  if (!(ask.limiter instanceof LocalLimiter)) throw new TypeError(`limiter "${ask.limiter.spec.scope}" is not of the local store`)
  return ask.limiter
}

export class LocalJoint implements JointDecider {
  readonly isImmediate = true
  readonly placeOf = null
  /** Cells chosen so far by the decision at hand. */
  private readonly cells = new Int32Array(JOINT_RULES_MAX)

  constructor(private readonly parts: LimiterParts) {}

  /** RangeError if the limiters have more than JOINT_RULES_MAX rules, or one of them is asked twice. */
  decide(asks: readonly LimitAsk[], isPeek: boolean): void {
    let isFine = false
    let rules = 0
    for (let index = 0; index < asks.length; index++) {
      const ask = asks[index] as LimitAsk
      const limiter = limiterOf(ask)
      for (let other = 0; other < index; other++) {
        if ((asks[other] as LimitAsk).limiter === limiter) throw new RangeError(`limiter "${limiter.spec.scope}" is asked twice at once`)
      }
      limiter.prepare(ask.keys, ask.cost, ask.overrides)
      if (limiter.nowMs === this.parts.fineNowMs) isFine = true
      rules += limiter.lines.length
    }
    if (rules > JOINT_RULES_MAX) throw new RangeError(`${rules} rules are to be decided at once; at most ${JOINT_RULES_MAX} are possible`)
    const { locks } = this.parts
    findTwins(asks)
    locks.begin()
    try {
      this.lockAll(asks)
      const nowMs = isFine ? this.parts.fineNowMs() : this.parts.nowMs()
      if (this.decideLocked(asks, nowMs, isPeek)) locks.commit()
      else locks.abort()
    } catch (error) {
      locks.recover()
      throw error
    } finally {
      forgetTwins(asks)
    }
  }

  /** Ascending over all limiters: whoever decides only some of them takes the locks in the same order. */
  private lockAll(asks: readonly LimitAsk[]): void {
    for (let last = 0; ; ) {
      let next = Number.POSITIVE_INFINITY
      for (let index = 0; index < asks.length; index++) {
        const { lines } = limiterOf(asks[index] as LimitAsk)
        for (let place = 0; place < lines.length; place++) {
          const line = lines[place] as Line
          if (line.segment > last && line.segment < next) next = line.segment
          if (line.isLog && line.logSegment > last && line.logSegment < next) next = line.logSegment
        }
      }
      if (next === Number.POSITIVE_INFINITY) return
      this.parts.locks.lock(next)
      last = next
    }
  }

  /** Returns whether there is anything to commit. */
  private decideLocked(asks: readonly LimitAsk[], nowMs: number, isPeek: boolean): boolean {
    let room = this.parts.holds.room
    let refuser = Number.POSITIVE_INFINITY
    let base = 0
    for (let index = 0; index < asks.length; index++) {
      const { out, cost } = asks[index] as LimitAsk
      const limiter = limiterOf(asks[index] as LimitAsk)
      limiter.readAll(nowMs, cost, out, isPeek, this.cells, base)
      base += limiter.lines.length
      if (out.refusedBy < 0 && limiter.concurrencyRules > room) limiter.refuseFull(out, isPeek)
      if (out.refusedBy < 0) room -= limiter.concurrencyRules
      if (!out.allowed && refuser > index) refuser = index
    }
    let isStaged = false
    for (let index = 0; index < asks.length; index++) {
      const { out, cost } = asks[index] as LimitAsk
      const limiter = limiterOf(asks[index] as LimitAsk)
      const isCharged = !isPeek && isChargedIn(out, limiter.spec.countRefused, index, refuser)
      if (limiter.settle(nowMs, cost, out, isCharged, isPeek)) isStaged = true
      if (refuser < asks.length) out.delayMs = 0
    }
    return isStaged
  }
}

/** Whether a limiter is charged in a joint decision whose first refusing one is `refuser` (Infinity = none). */
function isChargedIn(out: Decision, countRefused: boolean, index: number, refuser: number): boolean {
  if (out.basis === 'full') return false
  if (refuser === Number.POSITIVE_INFINITY) return out.refusedBy < 0 || countRefused
  return countRefused && index <= refuser
}

/** Limiters that share their counters may name one cell twice. */
function findTwins(asks: readonly LimitAsk[]): void {
  for (let index = 1; index < asks.length; index++) {
    const limiter = limiterOf(asks[index] as LimitAsk)
    for (let other = 0; other < index; other++) {
      const earlier = asks[other] as LimitAsk
      if (earlier.limiter.spec.scope !== limiter.spec.scope) continue
      for (const line of limiter.lines) {
        for (const before of limiterOf(earlier).lines) {
          if (before.high !== line.high || before.low !== line.low) continue
          line.twin = before
          line.pending = before.pending + earlier.cost
        }
      }
    }
  }
}

function forgetTwins(asks: readonly LimitAsk[]): void {
  for (let index = 1; index < asks.length; index++) {
    const { lines } = limiterOf(asks[index] as LimitAsk)
    for (let place = 0; place < lines.length; place++) {
      const line = lines[place] as Line
      line.twin = null
      line.pending = 0
    }
  }
}
