/**
 * Several limits that count on one Redis decide one request in one script call. In a cluster one call reaches one master only: there
 * those decide together that count the request under the same key (rule-layout.ts).
 *
 * Redis fails → each limit is decided by its own policy, in their order, up to the first that refuses; the caller gives back what the
 * others took in this gateway.
 */
import type { JointDecider, LimitAsk } from '../limits/contract.js'
import type { RedisClient } from './client.js'
import type { ClusterCounters } from './counters.js'
import { RedisFailure } from './errors.js'
import { ExactLimiter, type JointPart } from './exact-limiter.js'
import { integers } from './rule-layout.js'
import type { Code, RuleScript, Script } from './script.js'

export interface RedisJointOptions {
  readonly client: () => RedisClient
  readonly script: RuleScript
  readonly counters: ClusterCounters
  readonly isCluster: boolean
}

export class RedisJoint implements JointDecider {
  readonly isImmediate = false
  readonly placeOf: ((ask: LimitAsk) => string) | null

  constructor(private readonly options: RedisJointOptions) {
    this.placeOf = options.isCluster ? tagOf : null
  }

  async decide(asks: readonly LimitAsk[], isPeek: boolean): Promise<void> {
    const parts = asks.map((ask) => exact(ask).part(ask, isPeek))
    const [first, ...others] = parts.flatMap(({ call }) => call.keys)
    if (first === undefined) return
    const args = [
      '',
      isPeek ? 'peek' : 'charge',
      parts.length,
      ...parts.flatMap((part) => part.limiter.partHeader(part)),
      ...parts.flatMap(({ call }) => call.args),
    ]
    const { client, counters, script } = this.options
    counters.called()
    try {
      fillAll(parts, await client().run(scriptFor(parts, script), [first, ...others], args))
    } catch (error) {
      if (!(error instanceof RedisFailure)) throw error
      for (const part of parts) {
        const { allowed } = await part.limiter.partWithoutRedis(part, error)
        if (!allowed) return
      }
    }
  }
}

function exact({ limiter }: LimitAsk): ExactLimiter {
  if (limiter instanceof ExactLimiter) return limiter
  throw new TypeError(`limiter "${limiter.spec.scope}" does not count in Redis exactly`)
}

function tagOf(ask: LimitAsk): string {
  return exact(ask).tagOf(ask)
}

function scriptFor(parts: readonly JointPart[], script: RuleScript): Script {
  const codes: Code[] = []
  for (const { limiter } of parts) codes.push(...limiter.codes)
  return script.of(codes)
}

function fillAll(parts: readonly JointPart[], reply: unknown): void {
  const length = parts.reduce((sum, { limiter }) => sum + limiter.replyLength, 0)
  const numbers = integers(reply, length)
  let at = 0
  for (const part of parts) {
    part.limiter.fillPart(part, numbers, at)
    at += part.limiter.replyLength
  }
}
