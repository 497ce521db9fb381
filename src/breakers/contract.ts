/**
 * What a circuit breaker is to plugins and to the stores that keep its state. Types and plain values only.
 *
 *              trigger                     open time over
 *   closed ───────────────▶ open ───────────────────────▶ half-open
 *     ▲                      ▲                               │  │
 *     │ ramp over            └───────── a failure ───────────┘  │
 *   ramping ◀────────────────── enough successes ───────────────┘
 *
 * Times are milliseconds; "now" is the monotonic time of base/clock, the same in all threads of the process.
 */

export type BreakerState = 'closed' | 'open' | 'half-open' | 'ramping'

/** By the number that stands in the cell. */
export const breakerStates = ['closed', 'open', 'half-open', 'ramping'] as const satisfies readonly BreakerState[]

/** Why a breaker changed: the event log, the metric and the webhook say it. */
export type BreakerReason =
  | 'consecutive-failures'
  | 'error-ratio'
  | 'slow-ratio'
  | 'open-time-over'
  | 'probe-failed'
  | 'probes-succeeded'
  | 'ramp-over'
  | 'manual'
  | 'other-gateway'

/** How one request ended for the breaker; bits: 1 failed, 2 slow, 4 not ended, 8 counted before. */
export const Outcome = {
  /** It says nothing about the upstream: refused here, or the client left. */
  none: -1,
  ok: 0,
  failed: 1,
  slow: 2,
  failedAndSlow: 3,
  /** Slow already, though it has not ended: says nothing of failures in a row. */
  slowSoFar: 6,
  /** The end of a request that was counted as `slowSoFar`: it is not counted as a request again. */
  laterOk: 8,
  laterFailed: 9,
} as const

/** Permits of a half-open breaker. */
export const PERMITS_MAX = 32
/** Longest time until a permit that nobody gave back is free again. */
export const PERMIT_EXPIRY_MAX_MS = 3_600_000
/** Longest open time and window. */
export const BREAKER_TIME_MAX_MS = 86_400_000
/** Successes that may be asked for: the cell has 10 bits. */
export const SUCCESSES_MAX = 1000

/** When a breaker opens and how it comes back. Plain JSON: `prepare` may return it. */
export interface BreakerSettings {
  /** Failures in a row, over all threads, that open it; 0 = no trigger. */
  readonly consecutiveFailures: number
  /** Share of failures in the window that opens it, above 0 to 1; 0 = no trigger. */
  readonly errorRatio: number
  /** Share of slow calls in the window that opens it; 0 = no trigger. Then a slow probe fails, too. */
  readonly slowRatio: number
  /** From so many milliseconds on a call is slow. */
  readonly slowMs: number
  /** Requests in the window below which no ratio is looked at. */
  readonly minimumRequests: number
  readonly windowMs: number
  /** First open time. */
  readonly openMs: number
  /** Open times double each time that it opens without having been closed in between, up to this; equal to `openMs` = fixed. */
  readonly openMaxMs: number
  /** Probes at a time while half-open. */
  readonly permits: number
  /** A permit that nobody gave back is free again after this. */
  readonly permitExpiryMs: number
  /** Successful probes in a row that close it. */
  readonly successes: number
  /** After closing, the admitted share grows from a tenth to all within this time; 0 = all at once. */
  readonly rampMs: number
}

/** One kind of breaker of one plugin configuration. */
export interface BreakerSpec {
  /** Part of the names of its breakers: `route`, `upstream`, `consumer`, `node`. */
  readonly scope: string
  readonly settings: BreakerSettings
  /** Other gateways learn of changes, and tell theirs, by way of Redis. */
  readonly isShared: boolean
}

/** `admit`: the request goes on, and needs no more than `record`. */
export const ADMITTED = 0
/** `admit`: the breaker refuses. */
export const REFUSED = -1

/** One breaker, bound for one worker. */
export interface BoundBreaker {
  readonly name: string
  /** ADMITTED, REFUSED, or the ticket of a probe (above 0), which must be given to `settle` exactly once. */
  admit(): number
  /** A request without a ticket ended with this Outcome. `ageMs`: how long ago it began; only looked at unless it is `ok`. */
  record(outcome: number, ageMs: number): void
  /** A probe ended. */
  settle(ticket: number, outcome: number): void
  /** Until a refused request may be tried again; 0 = unknown. */
  retryAfterMs(): number
  /** A request was refused (or would have been, in a dry run): counted in the metrics. */
  countRefusal(isDryRun: boolean): void
}

/** The breakers of one spec, by what they protect. */
export interface BreakerSet {
  /** The breaker for this key: a route id, an upstream key, `address:port`. Null when the table is full: such keys have no breaker. */
  get(key: string): BoundBreaker | null
}

/** A breaker that exists, for whoever lists them. */
export interface DeclaredBreaker {
  readonly slot: number
  readonly name: string
  readonly plugin: string
  readonly settings: BreakerSettings
  readonly isShared: boolean
}

/** A change of state, as it is told to the primary. */
export interface BreakerEvent {
  readonly name: string
  readonly from: BreakerState
  readonly to: BreakerState
  readonly reason: BreakerReason
  /** How long it stays open; 0 in other states. */
  readonly openMs: number
  /** Opened so many times without having been closed in between. */
  readonly openCount: number
}

/** The breakers of `api-breaker`: counts by host and path, as the reference gateway has them. */
export interface PathBreakerSettings {
  readonly failures: number
  readonly successes: number
  readonly maxBreakerSec: number
}

export interface PathBreakers {
  /** True while the path is broken; counted in the metrics. */
  isOpen(host: string, path: string): boolean
  /** An unhealthy status. Seconds of the break that it began; 0 = none. */
  failed(host: string, path: string): number
  /** A healthy status. True when it ended everything that was counted against the path. */
  succeeded(host: string, path: string): boolean
}
