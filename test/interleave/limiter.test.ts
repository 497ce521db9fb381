import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { LimiterSpec, LimitRule } from '../../src/limits/contract.js'
import { createLimiterRegion } from '../../src/shared/limiter-layout.js'
import { LocalLimiterStore } from '../../src/shared/limiter-store.js'
import { specOf } from '../support/limits.js'
import type { LimiterThreadStart } from './limiter-thread.js'
import { compileRacer } from './threads.js'

let racer: Awaited<ReturnType<typeof compileRacer>>
beforeAll(async () => {
  racer = await compileRacer('limiter-thread')
})
afterAll(() => racer.remove())

const THREADS = 4
const CLIENTS_PER_THREAD = 4
const NOW_MS = Date.UTC(2026, 0, 2, 3, 4, 5, 678)

interface RaceOptions {
  readonly spec: LimiterSpec
  readonly others?: readonly LimiterSpec[]
  readonly rounds: readonly (readonly string[])[]
  readonly requests: number
  readonly nowMs: number
  readonly release?: boolean
  readonly endless?: boolean
}

/** Four threads of four clients each on one region; the test itself is the fifth member. */
class Race {
  readonly region = createLimiterRegion({ members: THREADS + 1, cells: 2000, logEntries: 200_000, seed: [3, 5] })
  readonly gate = new Int32Array(new SharedArrayBuffer(4))
  readonly admitted: Int32Array
  readonly threads: Worker[] = []
  readonly store = new LocalLimiterStore(this.region, THREADS, () => this.options.nowMs || Date.now())

  constructor(private readonly options: RaceOptions) {
    this.admitted = new Int32Array(new SharedArrayBuffer(4 * options.rounds.length))
  }

  async add(member: number): Promise<Worker> {
    const { spec, others = [], rounds, requests, nowMs, release = false, endless = false } = this.options
    const start: LimiterThreadStart = {
      member,
      region: this.region,
      gate: this.gate.buffer as SharedArrayBuffer,
      spec,
      others,
      rounds,
      clients: CLIENTS_PER_THREAD,
      requests,
      nowMs,
      admitted: this.admitted.buffer as SharedArrayBuffer,
      release,
      endless,
    }
    const thread = new Worker(racer.file, { workerData: start })
    await once(thread, 'message')
    this.threads[member] = thread
    return thread
  }

  async start(): Promise<void> {
    for (let member = 0; member < THREADS; member++) await this.add(member)
    Atomics.store(this.gate, 0, 1)
    Atomics.notify(this.gate, 0)
  }

  async finished(): Promise<void> {
    Atomics.compareExchange(this.gate, 0, 1, this.options.endless === true ? 2 : 1)
    await Promise.all(this.threads.map((thread) => (thread.threadId === -1 ? null : once(thread, 'exit'))))
  }
}

const LIMIT = 100
const rules: readonly (readonly [string, LimitRule])[] = [
  ['fixed-window, clock', { algorithm: 'fixed-window', limit: LIMIT, windowMs: 60_000, start: 'clock' }],
  ['fixed-window, first hit', { algorithm: 'fixed-window', limit: LIMIT, windowMs: 60_000, start: 'first-hit' }],
  ['sliding-window, estimate-below', { algorithm: 'sliding-window', limit: LIMIT, windowMs: 60_000 }],
  ['sliding-window, estimate-within', { algorithm: 'sliding-window', limit: LIMIT, windowMs: 60_000, boundary: 'estimate-within' }],
  ['sliding-log', { algorithm: 'sliding-log', limit: LIMIT, windowMs: 60_000 }],
  ['token-bucket', { algorithm: 'token-bucket', rate: 3, burst: LIMIT - 1 }],
  ['leaky-bucket', { algorithm: 'leaky-bucket', rate: 7, burst: LIMIT - 1 }],
  ['concurrency', { algorithm: 'concurrency', limit: LIMIT, ttlMs: 60_000 }],
]

describe('16 clients on 4 threads', () => {
  test.each(rules)('%s admits exactly its limit, in each of 100 rounds', async (_, rule) => {
    const rounds = Array.from({ length: 100 }, (__, round) => [`key ${round}`])
    const race = new Race({ spec: specOf([rule]), rounds, requests: 20, nowMs: NOW_MS })
    await race.start()
    await race.finished()
    expect([...race.admitted]).toEqual(rounds.map(() => LIMIT))
  })

  test('five rules with different keys admit what the strictest admits, and charge all or none', async () => {
    const spec = specOf(rules.slice(0, 6).map(([, rule], index) => ({ ...rule, ...('limit' in rule ? { limit: LIMIT + index } : {}) })))
    // Neighbouring rounds share all keys but the first: locks of several segments are taken in many different combinations.
    const rounds = Array.from({ length: 60 }, (_, round) =>
      spec.rules.map((__, index) => (index === 0 ? `a${round}` : `b${round}-${index}`)),
    )
    const race = new Race({ spec, rounds, requests: 15, nowMs: NOW_MS })
    await race.start()
    await race.finished()
    expect([...race.admitted]).toEqual(rounds.map(() => LIMIT))
    const limiter = race.store.bind(spec)
    for (const keys of rounds) {
      const used = limiter.peek(keys, 1, limiter.decision()).rules.map((outcome) => outcome.used)
      expect(used).toEqual(spec.rules.map(() => LIMIT))
    }
  })

  test('a token bucket on the real clock admits its burst and its rate, never more', async () => {
    const rate = 20_000
    const burst = 50
    const spec = specOf([{ algorithm: 'token-bucket', rate, burst }])
    const race = new Race({ spec, rounds: [['one key']], requests: 20_000, nowMs: 0 })
    const beganMs = Date.now()
    await race.start()
    await race.finished()
    const tookMs = Date.now() - beganMs + 1
    const [admitted = 0] = race.admitted
    expect(admitted).toBeGreaterThan(burst)
    expect(admitted).toBeLessThanOrEqual(burst + 1 + (rate * tookMs) / 1000)
  })

  test('a limit in flight is never passed while holds come and go, and all of them come back', async () => {
    const spec = specOf([{ algorithm: 'concurrency', limit: 2, ttlMs: 60_000 }])
    const race = new Race({ spec, rounds: [['one key']], requests: 20_000, nowMs: NOW_MS, release: true })
    await race.start()
    await race.finished()
    const limiter = race.store.bind(spec)
    expect(limiter.peek('one key', 1, limiter.decision()).rules[0]).toMatchObject({ used: 0, remaining: 2 })
    expect(race.admitted[0]).toBeGreaterThan(0)
  })
})

describe('threads that die in the middle', () => {
  test('leave no lock, no half-charged request and no hold behind', async () => {
    const HUGE = 1_000_000_000
    const spec = specOf([
      { algorithm: 'fixed-window', limit: HUGE, windowMs: 60_000, start: 'clock' },
      { algorithm: 'fixed-window', limit: HUGE, windowMs: 3_600_000, start: 'clock' },
      { algorithm: 'sliding-window', limit: HUGE, windowMs: 60_000 },
      { algorithm: 'concurrency', limit: HUGE, ttlMs: 60_000 },
    ])
    const keys = ['a', 'b', 'c', 'd']
    const race = new Race({ spec, rounds: [keys], requests: 50, nowMs: NOW_MS, release: true, endless: true })
    await race.start()
    const limiter = race.store.bind(spec)
    const out = limiter.decision()
    // Until one has fallen into the middle of a request: else this test would be about nothing.
    const KILLS_MIN = 16
    let kills = 0
    for (; kills < KILLS_MIN || (race.store.stats().recoveredLocks === 0 && kills < 1000); kills++) {
      const member = kills % THREADS
      const before = race.admitted[0] ?? 0
      await race.threads[member]?.terminate()
      race.store.recoverMember(member)
      await race.add(member)
      // The others have gone on, and this thread, which decides on the same cells, gets its locks too.
      const [minute, hour, sliding] = limiter.peek(keys, 1, out).rules
      expect([hour?.used, sliding?.used]).toEqual([minute?.used, minute?.used])
      expect(minute?.used).toBeGreaterThanOrEqual(before)
    }
    await race.finished()
    const [minute, hour, sliding, inFlight] = limiter.peek(keys, 1, out).rules
    expect([hour?.used, sliding?.used, inFlight?.used]).toEqual([minute?.used, minute?.used, 0])
    // Each kill may fall between a decision and its count here.
    const charged = minute?.used ?? 0
    const counted = race.admitted[0] ?? 0
    expect(charged).toBeGreaterThanOrEqual(counted)
    expect(charged).toBeLessThanOrEqual(counted + kills)
    expect(counted).toBeGreaterThan(0)
    expect(race.store.stats().recoveredLocks).toBeGreaterThan(0)
  })
})

test('limiters that are decided together, by every thread in another order: exactly N, and nothing counted for a refused request', async () => {
  const window = (limit: number, windowMs: number): LimitRule => ({ algorithm: 'fixed-window', limit, windowMs, start: 'clock' })
  const limits = [LIMIT + 7, LIMIT, LIMIT + 3]
  const specs = limits.map((limit, index) => specOf([window(limit, 60_000), window(limit * 2, 3_600_000)], { scope: `together ${index}` }))
  const [spec, ...others] = specs
  if (spec === undefined) throw new Error('there are three')
  const rounds = Array.from({ length: 6 }, (_, round) => [`a${round}`, `b${round % 3}`])
  const race = new Race({ spec, others, rounds, requests: 40, nowMs: NOW_MS })
  await race.start()
  await race.finished()
  // Two rounds share the second key, which admits twice the limit.
  expect([...race.admitted]).toEqual(rounds.map(() => LIMIT))
  for (const one of specs) {
    const limiter = race.store.bind(one)
    for (const [round, keys] of rounds.entries()) {
      const { rules } = limiter.peek(keys, 1, limiter.decision())
      expect([round, ...rules.map((outcome) => outcome.used)]).toEqual([round, LIMIT, 2 * LIMIT])
    }
  }
})
