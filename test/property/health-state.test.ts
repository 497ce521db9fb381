/** The state machine of the health checks against a model written from its description, sentence by sentence. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  HEALTH_INITIAL,
  HealthEvent,
  healthCounters,
  healthNames,
  healthState,
  isUsable,
  observeHealth,
} from '../../src/shared/health-state.js'

type Kind = 'success' | 'http' | 'tcp' | 'timeout'
const events = { success: HealthEvent.Success, http: HealthEvent.HttpFailure, tcp: HealthEvent.TcpFailure, timeout: HealthEvent.Timeout }

/** Four states, four counters, limits by source. */
class Model {
  state: (typeof healthNames)[number] = 'healthy'
  readonly counters = { success: 0, http: 0, tcp: 0, timeout: 0 }

  observe(kind: Kind, limit: number): void {
    if (limit === 0) return
    const direction = kind === 'success' ? 'healthy' : 'unhealthy'
    if (this.state === direction) return
    this.counters[kind] = Math.min(255, this.counters[kind] + 1)
    if (kind === 'success') Object.assign(this.counters, { http: 0, tcp: 0, timeout: 0 })
    else this.counters.success = 0
    if (this.counters[kind] >= limit) this.state = direction
    else if (this.state === 'unhealthy') this.state = 'mostly_unhealthy'
    else if (this.state === 'healthy') this.state = 'mostly_healthy'
  }
}

function read(word: number): object {
  const { success, httpFailure, tcpFailure, timeoutFailure } = healthCounters(word)
  return { state: healthNames[healthState(word)], counters: { success, http: httpFailure, tcp: tcpFailure, timeout: timeoutFailure } }
}

/** The state behind a list of observations with the default limits of active checks. */
function stateAfter(...kinds: readonly Kind[]): number {
  const limits = { success: 2, http: 5, tcp: 2, timeout: 3 }
  return kinds.reduce((word, kind) => observeHealth(word, events[kind], limits[kind]), HEALTH_INITIAL)
}

describe('state machine of the health checks', () => {
  test('is the model, for any observations of two sources with limits of their own', () => {
    const limit = fc.oneof(fc.integer({ min: 0, max: 6 }), fc.constantFrom(254, 100))
    const limits = fc.record({ success: limit, http: limit, tcp: limit, timeout: limit })
    const kind = fc.constantFrom<Kind>('success', 'http', 'tcp', 'timeout')
    const runs = fc.array(fc.record({ kind, isActive: fc.boolean(), times: fc.constantFrom(1, 1, 1, 1, 1, 2, 3, 7, 260) }), {
      maxLength: 40,
    })
    fc.assert(
      fc.property(limits, limits, runs, (active, passive, list) => {
        const model = new Model()
        let word = HEALTH_INITIAL
        for (const { kind, isActive, times } of list) {
          for (let time = 0; time < times; time++) {
            const most = (isActive ? active : passive)[kind]
            model.observe(kind, most)
            word = observeHealth(word, events[kind], most)
            const usable = model.state === 'healthy' || model.state === 'mostly_healthy'
            if (
              JSON.stringify(read(word)) === JSON.stringify({ state: model.state, counters: model.counters }) &&
              isUsable(word) === usable
            )
              continue
            expect([read(word), isUsable(word)]).toEqual([{ state: model.state, counters: model.counters }, usable])
          }
        }
      }),
      { seed: 20_261_123, numRuns: 300 },
    )
  })

  test('failures of different kinds are counted apart', () => {
    expect(read(stateAfter('http', 'http', 'http', 'http', 'tcp'))).toEqual({
      state: 'mostly_healthy',
      counters: { success: 0, http: 4, tcp: 1, timeout: 0 },
    })
    expect(isUsable(stateAfter('http', 'http', 'http', 'http', 'tcp', 'http'))).toBe(false)
    expect(isUsable(stateAfter('http', 'tcp', 'timeout', 'timeout'))).toBe(true)
  })

  test('one success forgets all failures, one failure all successes', () => {
    expect(read(stateAfter('http', 'tcp', 'success'))).toEqual({
      state: 'mostly_healthy',
      counters: { success: 1, http: 0, tcp: 0, timeout: 0 },
    })
    expect(read(stateAfter('tcp', 'tcp', 'success', 'timeout'))).toEqual({
      state: 'mostly_unhealthy',
      counters: { success: 0, http: 0, tcp: 0, timeout: 1 },
    })
    expect(read(stateAfter('tcp', 'tcp', 'success', 'success'))).toEqual({
      state: 'healthy',
      counters: { success: 2, http: 0, tcp: 0, timeout: 0 },
    })
    expect(read(stateAfter('tcp', 'tcp', 'success', 'success', 'http'))).toEqual({
      state: 'mostly_healthy',
      counters: { success: 0, http: 1, tcp: 0, timeout: 0 },
    })
  })

  test('what confirms a state is not counted; nothing else is an observation', () => {
    expect(stateAfter('success', 'success')).toBe(HEALTH_INITIAL)
    expect(stateAfter('tcp', 'tcp', 'tcp', 'http')).toBe(stateAfter('tcp', 'tcp'))
    expect(observeHealth(stateAfter('tcp'), HealthEvent.None, 5)).toBe(stateAfter('tcp'))
  })
})
