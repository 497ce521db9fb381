/** Which tries are repeated, and after how long: the rules of an upstream, or of a route. Linked once per snapshot. */
import { type Failure, failures } from '../../base/errors.js'
import type { CompiledRetry } from '../../schema/compiled.js'

const HTTP_DATE = /^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{2} (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} \d{2}:\d{2}:\d{2} GMT$/

export class RetryPolicy {
  /** Null = no status is repeated. */
  readonly statuses: ReadonlySet<number> | null
  readonly nonIdempotent: boolean
  readonly retryAfterMaxMs: number
  private readonly failures: ReadonlySet<Failure>
  private readonly baseMs: number
  private readonly maxMs: number

  constructor(retry: CompiledRetry) {
    this.statuses = retry.statuses.length === 0 ? null : new Set(retry.statuses)
    this.nonIdempotent = retry.nonIdempotent
    this.retryAfterMaxMs = retry.retryAfterMaxMs
    this.baseMs = retry.backoffBaseMs
    this.maxMs = retry.backoffMaxMs
    this.failures = new Set([
      ...(retry.connectFailure ? [failures.UPSTREAM_CONNECT_FAILED, failures.UPSTREAM_TLS_FAILED, failures.UPSTREAM_CONNECT_TIMEOUT] : []),
      ...(retry.reset ? [failures.UPSTREAM_RESET, failures.UPSTREAM_BAD_RESPONSE] : []),
      ...(retry.timeout
        ? [failures.UPSTREAM_CONNECT_TIMEOUT, failures.UPSTREAM_READ_TIMEOUT, failures.UPSTREAM_SEND_TIMEOUT, failures.UPSTREAM_TRY_TIMEOUT]
        : []),
    ])
  }

  repeats(failure: Failure): boolean {
    return this.failures.has(failure)
  }

  /** Milliseconds before the `retry`-th retry (from 1): Envoy's fully jittered exponential backoff. `random`: from 0 to below 1. */
  backoffMs(retry: number, random: number): number {
    return this.baseMs === 0 ? 0 : random * Math.min(this.maxMs, (2 ** Math.min(retry, 30) - 1) * this.baseMs)
  }
}

export const defaultRetryPolicy = new RetryPolicy({
  connectFailure: true,
  reset: true,
  timeout: true,
  statuses: [],
  nonIdempotent: false,
  backoffBaseMs: 0,
  backoffMaxMs: 0,
  retryAfterMaxMs: 1_000,
})

/** Milliseconds of a `Retry-After` (RFC 9110 §10.2.3): seconds or a date; null = it says nothing. */
export function retryAfterMs(value: string | undefined, wallMs: number): number | null {
  if (value === undefined) return null
  if (/^\d{1,9}$/.test(value)) return Number(value) * 1000
  return HTTP_DATE.test(value) ? Math.max(0, Date.parse(value) - wallMs) : null
}
