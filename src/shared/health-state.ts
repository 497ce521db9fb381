/**
 * The state machine of the health checks: what one observation makes of a node. Pure; state and counters are one number, so that threads
 * change them together, by one compare-exchange.
 *
 *   healthy ──failure──► mostly_healthy ──limit of failures──► unhealthy
 *      ▲ ▲                    │                                    │
 *      │ └─limit of successes─┘                                    │success
 *      └──────limit of successes────── mostly_unhealthy ◄──────────┘
 *                                            └──limit of failures──► unhealthy
 *
 * After lua-resty-healthcheck, which APISIX and Kong use: a success forgets all failures and a failure all successes; failures of
 * different kinds are counted apart; what confirms `healthy` or `unhealthy` is not counted. `healthy` and `mostly_healthy` are usable.
 * Because a success and a failure forget each other, the counter of successes has its place where that of HTTP failures is.
 *
 *   bits 0…7 HTTP failures, or successes · 8…15 TCP failures · 16…23 timeouts · 24…25 state · 26 successes are counted
 */

export enum HealthState {
  Healthy = 0,
  MostlyHealthy = 1,
  MostlyUnhealthy = 2,
  Unhealthy = 3,
}

/** What was observed. */
export enum HealthEvent {
  /** Nothing that counts. */
  None = 0,
  Success = 1,
  HttpFailure = 2,
  TcpFailure = 3,
  Timeout = 4,
}

export interface HealthCounters {
  readonly success: number
  readonly httpFailure: number
  readonly tcpFailure: number
  readonly timeoutFailure: number
}

/** Of a node about which nothing has been observed. */
export const HEALTH_INITIAL = 0
/** Highest limit; counters stop above it. */
export const HEALTH_LIMIT_MAX = 254

const COUNTER_MASK = 0xff
const COUNTERS_MASK = 0xff_ff_ff
const STATE_SHIFT = 24
const SUCCESS_FLAG = 1 << 26

export const healthNames = ['healthy', 'mostly_healthy', 'mostly_unhealthy', 'unhealthy'] as const

export function healthState(word: number): HealthState {
  return (word >>> STATE_SHIFT) & 3
}

/** Whether requests may go to the node. */
export function isUsable(word: number): boolean {
  return healthState(word) <= HealthState.MostlyHealthy
}

export function healthCounters(word: number): HealthCounters {
  const countsSuccesses = (word & SUCCESS_FLAG) !== 0
  const first = word & COUNTER_MASK
  return {
    success: countsSuccesses ? first : 0,
    httpFailure: countsSuccesses ? 0 : first,
    tcpFailure: (word >>> 8) & COUNTER_MASK,
    timeoutFailure: (word >>> 16) & COUNTER_MASK,
  }
}

/** State and counters after `event`. `limit`: how many of its kind in a row decide, 0 = it does not count. Allocates nothing. */
export function observeHealth(word: number, event: HealthEvent, limit: number): number {
  if (limit === 0 || event === HealthEvent.None) return word
  const state = healthState(word)
  const countsSuccesses = (word & SUCCESS_FLAG) !== 0
  if (event === HealthEvent.Success) {
    if (state === HealthState.Healthy) return word
    const count = Math.min(COUNTER_MASK, (countsSuccesses ? word & COUNTER_MASK : 0) + 1)
    const next = count >= limit ? HealthState.Healthy : state === HealthState.Unhealthy ? HealthState.MostlyUnhealthy : state
    return (next << STATE_SHIFT) | SUCCESS_FLAG | count
  }
  if (state === HealthState.Unhealthy) return word
  const shift = (event - HealthEvent.HttpFailure) * 8
  const failures = countsSuccesses ? 0 : word & COUNTERS_MASK
  const count = Math.min(COUNTER_MASK, ((failures >>> shift) & COUNTER_MASK) + 1)
  const next = count >= limit ? HealthState.Unhealthy : state === HealthState.Healthy ? HealthState.MostlyHealthy : state
  return (next << STATE_SHIFT) | (failures & ~(COUNTER_MASK << shift)) | (count << shift)
}
