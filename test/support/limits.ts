/** A local limiter store on a region of its own, with a clock that the test moves. */
import type { LimiterSpec, LimitRule } from '../../src/limits/contract.js'
import { createLimiterRegion } from '../../src/shared/limiter-layout.js'
import { LocalLimiterStore } from '../../src/shared/limiter-store.js'

/** Begin of a minute, hour and day. */
export const START_MS = Date.UTC(2026, 0, 2)

export interface TestTime {
  nowMs: number
}

export interface TestStore {
  readonly store: LocalLimiterStore
  readonly region: SharedArrayBuffer
  readonly time: TestTime
}

export function localStore(options: { cells?: number; logEntries?: number; members?: number; seed?: [number, number] } = {}): TestStore {
  const { cells = 1000, logEntries = 1000, members = 2, seed = [7, 9] } = options
  const region = createLimiterRegion({ cells, logEntries, members, seed })
  const time = { nowMs: START_MS }
  return { store: new LocalLimiterStore(region, 0, () => time.nowMs), region, time }
}

export function specOf(rules: readonly LimitRule[], more: Partial<LimiterSpec> = {}): LimiterSpec {
  return { scope: 'test', rules, countRefused: false, dryRun: false, store: { kind: 'local' }, ...more }
}
