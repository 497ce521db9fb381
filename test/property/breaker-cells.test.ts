/** The cells of circuit breakers against a model that is written without cells: one thread, an injected clock that also steps. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ADMITTED, type BreakerEvent, type BreakerSettings, Outcome, REFUSED } from '../../src/breakers/contract.js'
import { BREAKERS_BYTES, BreakerCells, RAMP_START, TICK_MS } from '../../src/shared/breaker-cells.js'
import { breakerSettings } from '../support/breaker-settings.js'

const region = new SharedArrayBuffer(BREAKERS_BYTES)
let names = 0

/** The rules, as docs/circuit-breaking.md tells them. */
class Model {
  state: 'closed' | 'open' | 'half-open' | 'ramping' = 'closed'
  private untilMs = 0
  private sinceMs = 0
  private openCount = 0
  private inARow = 0
  private good = 0
  private rampTurn = 0
  private everChanged = false
  private log: { readonly bucket: number; readonly outcome: number }[] = []
  private permits: (number | null)[] = []

  constructor(private readonly settings: BreakerSettings) {}

  admit(now: number): number | 'ticket' {
    if (this.state === 'open') {
      if (now < this.untilMs) return REFUSED
      this.state = 'half-open'
      this.good = 0
      this.permits = Array.from({ length: this.settings.permits }, () => null)
    }
    if (this.state === 'half-open') {
      const tick = Math.floor(now / 100)
      const free = this.permits.findIndex((taken) => taken === null || (tick - taken) * 100 >= this.settings.permitExpiryMs)
      if (free < 0) return REFUSED
      this.permits[free] = tick
      return 'ticket'
    }
    if (this.state === 'ramping') {
      const age = Math.floor(now / TICK_MS) * TICK_MS - this.sinceMs
      if (age >= this.settings.rampMs) {
        this.state = 'closed'
        this.openCount = 0
        return ADMITTED
      }
      const share = RAMP_START + (1 - RAMP_START) * (age / this.settings.rampMs)
      const turn = this.rampTurn++
      return Math.floor((turn + 1) * share) > Math.floor(turn * share) ? ADMITTED : REFUSED
    }
    return ADMITTED
  }

  record(outcome: number, now: number, ageMs: number): void {
    if (outcome === Outcome.none || this.state === 'open' || this.state === 'half-open') return
    if (outcome !== Outcome.ok && this.everChanged && Math.floor((now - ageMs) / TICK_MS) * TICK_MS < this.sinceMs) return
    const { settings } = this
    const bucket = Math.floor((now * 10) / settings.windowMs)
    this.log.push({ bucket, outcome })
    this.inARow = (outcome & Outcome.failed) !== 0 ? this.inARow + 1 : 0
    const window = this.log.filter((one) => one.bucket > bucket - 10)
    const count = (kind: number) => window.filter((one) => (one.outcome & kind) !== 0).length
    const isRow = settings.consecutiveFailures > 0 && this.inARow >= settings.consecutiveFailures
    const enough = window.length >= settings.minimumRequests
    const isError = settings.errorRatio > 0 && enough && count(Outcome.failed) >= settings.errorRatio * window.length
    const isSlow = settings.slowRatio > 0 && enough && count(Outcome.slow) >= settings.slowRatio * window.length
    if (isRow || isError || isSlow) this.trip(now)
  }

  settle(index: number, outcome: number, now: number): void {
    if (this.state === 'half-open' && outcome !== Outcome.none) {
      if ((outcome & Outcome.failed) !== 0 || ((outcome & Outcome.slow) !== 0 && this.settings.slowRatio > 0)) this.trip(now)
      else if (++this.good >= this.settings.successes) this.close(now)
    }
    this.permits[index] = null
  }

  private trip(now: number): void {
    this.state = 'open'
    this.everChanged = true
    this.openCount++
    const openMs = Math.min(this.settings.openMs * 2 ** (this.openCount - 1), this.settings.openMaxMs)
    this.untilMs = Math.ceil((now + openMs) / TICK_MS) * TICK_MS
  }

  private close(now: number): void {
    this.sinceMs = Math.floor(now / TICK_MS) * TICK_MS
    this.log = []
    this.inARow = 0
    this.rampTurn = 0
    if (this.settings.rampMs > 0) this.state = 'ramping'
    else {
      this.state = 'closed'
      this.openCount = 0
    }
  }
}

const settingsOf = fc.record({
  consecutiveFailures: fc.constantFrom(0, 1, 3),
  errorRatio: fc.constantFrom(0, 0.3, 0.5, 1),
  slowRatio: fc.constantFrom(0, 0.5),
  minimumRequests: fc.integer({ min: 1, max: 6 }),
  windowMs: fc.constantFrom(1000, 3000),
  openMs: fc.constantFrom(100, 500),
  permits: fc.integer({ min: 1, max: 4 }),
  permitExpiryMs: fc.constantFrom(1000, 60_000),
  successes: fc.integer({ min: 1, max: 5 }),
  rampMs: fc.constantFrom(0, 400),
})
type Step = { readonly wait: number; readonly what: 'begin' | 'end' | 'once'; readonly outcome: number; readonly pick: number }
const steps = fc.array(
  fc.record<Step>({
    wait: fc.constantFrom(0, 0, 1, 7, 40, 130, 600, 1500, 70_000),
    what: fc.constantFrom('begin', 'end', 'once', 'once'),
    outcome: fc.constantFrom(Outcome.none, Outcome.ok, Outcome.ok, Outcome.failed, Outcome.failed, Outcome.slow, Outcome.failedAndSlow),
    pick: fc.nat(20),
  }),
  { minLength: 20, maxLength: 120 },
)

/** Moments at which the 32-bit ticks of the cells wrap, and an ordinary one. */
const starts = [10_000, 2 ** 31 * TICK_MS - 2_000, 2 ** 32 * TICK_MS - 2_000, 2 ** 20 * 100 - 3_000]

describe('against the model', () => {
  test.each(starts)('begun at %i ms', (start) => {
    let trips = 0
    fc.assert(
      fc.property(settingsOf, steps, (partial, list) => {
        const settings = breakerSettings({ ...partial, openMaxMs: 2000 })
        const events: Omit<BreakerEvent, 'name'>[] = []
        const cells = new BreakerCells(region, (_, event) => events.push(event))
        const slot = cells.slotOf(`model ${names++}`)
        const model = new Model(settings)
        let now = start
        /** Beginnings of requests that go on. */
        const running: number[] = []
        const end = (beganMs: number, outcome: number): void => {
          cells.record(slot, settings, outcome, now, now - beganMs)
          model.record(outcome, now, now - beganMs)
        }
        for (const { wait, what, outcome, pick } of list) {
          now += wait
          if (what === 'end') {
            const [began] = running.splice(running.length === 0 ? 0 : pick % running.length, 1)
            if (began !== undefined) end(began, outcome)
            continue
          }
          const ticket = cells.admit(slot, settings, now)
          const expected = model.admit(now)
          expect(ticket > 0 ? 'ticket' : ticket).toBe(expected)
          if (ticket === REFUSED) continue
          if (ticket > 0) {
            // A probe ends at once, or never.
            if (what === 'once') {
              const index = (ticket - 1) % 32
              cells.settle(slot, settings, ticket, outcome, now)
              model.settle(index, outcome, now)
            }
          } else if (what === 'once') end(now, outcome)
          else running.push(now)
          expect(cells.view(slot, settings, now).state).toBe(model.state)
        }
        trips += events.filter(({ to }) => to === 'open').length
      }),
      { numRuns: 150, seed: 20260102 },
    )
    // The property is about something.
    expect(trips).toBeGreaterThan(100)
  })
})

describe('rules', () => {
  function breaker(partial: Partial<BreakerSettings>) {
    const settings = breakerSettings(partial)
    const events: string[] = []
    const cells = new BreakerCells(region, (_, { from, to, reason }) => events.push(`${from} ${to} ${reason}`))
    const slot = cells.slotOf(`rules ${names++}`)
    return {
      events,
      admit: (now: number) => cells.admit(slot, settings, now),
      record: (outcome: number, now: number, age = 0) => cells.record(slot, settings, outcome, now, age),
      settle: (ticket: number, outcome: number, now: number) => cells.settle(slot, settings, ticket, outcome, now),
      view: (now: number) => cells.view(slot, settings, now),
      openNow: (openMs: number, isHeld: boolean, now: number) => cells.openNow(slot, openMs, 1, isHeld, now, 'manual'),
      closeNow: (now: number, isHeldToo: boolean) => cells.closeNow(slot, now, 'manual', { isHeldToo, rampMs: 0 }),
    }
  }

  test('open times double while probes fail, up to the longest, and begin anew behind a recovery', () => {
    const one = breaker({ consecutiveFailures: 1, openMs: 1000, openMaxMs: 3000, successes: 1 })
    let now = 1000
    one.record(Outcome.failed, now)
    for (const openMs of [1000, 2000, 3000, 3000]) {
      expect(one.view(now)).toMatchObject({ state: 'open', openMs })
      expect(one.admit(now + openMs - 10)).toBe(REFUSED)
      now += openMs
      one.settle(one.admit(now), Outcome.failed, now)
    }
    now += 3000
    one.settle(one.admit(now), Outcome.ok, now)
    one.record(Outcome.failed, now)
    expect(one.view(now)).toMatchObject({ state: 'open', openMs: 1000, openCount: 1 })
  })

  test('failures of requests that began before it closed do not open it again', () => {
    const one = breaker({ consecutiveFailures: 1, openMs: 1000, successes: 1 })
    one.record(Outcome.failed, 1000)
    one.settle(one.admit(2000), Outcome.ok, 2100)
    one.record(Outcome.failed, 5000, 4500)
    expect(one.view(5000).state).toBe('closed')
    one.record(Outcome.failed, 5000, 2900)
    expect(one.view(5000).state).toBe('open')
  })

  test('a probe of an earlier half-open time says nothing about a later one', () => {
    const one = breaker({ consecutiveFailures: 1, openMs: 1000, openMaxMs: 1000, permits: 2, successes: 2 })
    one.record(Outcome.failed, 1000)
    const [early, failing] = [one.admit(2000), one.admit(2000)]
    one.settle(failing, Outcome.failed, 2000)
    const [first, second] = [one.admit(3000), one.admit(3000)]
    expect([first > 0, second > 0, one.admit(3000)]).toEqual([true, true, REFUSED])
    one.settle(early, Outcome.failed, 3000)
    expect(one.view(3000)).toMatchObject({ state: 'half-open', probes: 2 })
    expect(one.admit(3000)).toBe(REFUSED)
  })

  test('a probe that ends without a verdict gives its place back; one that never ends expires', () => {
    const one = breaker({ consecutiveFailures: 1, openMs: 1000, permits: 1, permitExpiryMs: 5000, successes: 1 })
    one.record(Outcome.failed, 1000)
    one.settle(one.admit(2000), Outcome.none, 2000)
    const lost = one.admit(2000)
    expect(one.admit(6900)).toBe(REFUSED)
    const next = one.admit(7000)
    expect(next).toBeGreaterThan(0)
    // Whoever comes back after all changes nothing: the place is another's.
    one.settle(lost, Outcome.failed, 7000)
    expect(one.view(7000)).toMatchObject({ state: 'half-open', probes: 1 })
    one.settle(next, Outcome.ok, 7000)
    expect(one.view(7000).state).toBe('closed')
  })

  test('the ramp admits a growing share', () => {
    const one = breaker({ consecutiveFailures: 1, openMs: 1000, successes: 1, rampMs: 10_000 })
    one.record(Outcome.failed, 1000)
    one.settle(one.admit(2000), Outcome.ok, 2000)
    const admitted = (at: number) => Array.from({ length: 100 }, () => one.admit(at)).filter((ticket) => ticket === ADMITTED).length
    expect([2000, 7000, 11_000].map(admitted)).toEqual([10, 55, 91])
    expect(admitted(12_000)).toBe(100)
    expect(one.events.at(-1)).toBe('ramping closed ramp-over')
  })

  test('held open by hand until it is closed by hand', () => {
    const one = breaker({ consecutiveFailures: 1 })
    one.openNow(0, true, 1000)
    one.record(Outcome.failed, 1000)
    expect([one.admit(1000), one.admit(1e9)]).toEqual([REFUSED, REFUSED])
    expect(one.closeNow(1e9, false)).toBe(false)
    expect(one.closeNow(1e9, true)).toBe(true)
    expect([one.admit(1e9), one.closeNow(1e9, true)]).toEqual([ADMITTED, false])
    expect(one.events).toEqual(['closed open manual', 'open closed manual'])
  })

  test('another length of the window begins a new one; a clock that steps back by a moment does not', () => {
    const cells = new BreakerCells(region, () => undefined)
    const slot = cells.slotOf(`rules ${names++}`)
    const ratio = { errorRatio: 0.5, minimumRequests: 4 }
    const long = breakerSettings({ ...ratio, windowMs: 100_000 })
    for (const now of [50_000, 49_999, 50_000]) cells.record(slot, long, Outcome.failed, now, 0)
    const short = breakerSettings({ ...ratio, windowMs: 1000 })
    cells.record(slot, short, Outcome.failed, 50_001, 0)
    expect(cells.view(slot, short, 50_001).state).toBe('closed')
    for (const now of [50_100, 50_099, 50_100]) cells.record(slot, short, Outcome.failed, now, 0)
    expect(cells.view(slot, short, 50_100).state).toBe('open')
  })
})
