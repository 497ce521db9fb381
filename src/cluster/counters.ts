/** What the Redis stores count. Handed in by whoever wires them to metrics; called often, so implementations must be cheap. */
import type { RedisFailureReason } from './errors.js'

export interface ClusterCounters {
  /** One call to Redis, for a decision, a batch, or a release. */
  called(): void
  /** One request could not be decided by Redis. */
  failed(reason: RedisFailureReason): void
  /** One request was decided by the failure policy. */
  decidedByPolicy(policy: 'refuse' | 'allow' | 'local'): void
  /** Units taken from Redis in batches. */
  leased(units: number): void
  /** Units of batches that were spent on requests. */
  spent(units: number): void
  /** Units given back to Redis. */
  returned(units: number): void
  /** Units that were neither spent nor given back: their window ended, or Redis did not answer. */
  lost(units: number): void
}
