/** Settings of circuit breakers for tests: nothing opens them unless the test says what. */
import type { BreakerSettings } from '../../src/breakers/contract.js'

export function breakerSettings(settings: Partial<BreakerSettings> = {}): BreakerSettings {
  return {
    consecutiveFailures: 0,
    errorRatio: 0,
    slowRatio: 0,
    slowMs: 1000,
    minimumRequests: 1,
    windowMs: 10_000,
    openMs: 1000,
    openMaxMs: 8000,
    permits: 2,
    permitExpiryMs: 60_000,
    successes: 2,
    rampMs: 0,
    ...settings,
  }
}
