/** The scripts alone, on a real Redis, at given times: against the model, and against the numbers of the reference gateways. */
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { RedisClient } from '../../src/cluster/client.js'
import { integers, RuleLayout } from '../../src/cluster/rule-layout.js'
import { loadScript, loadScripts } from '../../src/cluster/script.js'
import { redisDefaults } from '../../src/cluster/settings.js'
import { Decision, type LimiterSpec, type LimitRule } from '../../src/limits/contract.js'
import { RedisServer, redisMissing } from '../support/redis.js'
import { ModelLimiter, ModelLog } from './model.js'

const SEED = 20_261_123
const START_MS = Date.UTC(2026, 10, 23, 6, 0, 0)
const scripts = loadScripts()

describe.skipIf(redisMissing !== null)('scripts', () => {
  let server: RedisServer
  let client: RedisClient
  let nextScope = 0

  beforeAll(async () => {
    server = await RedisServer.start()
    client = new RedisClient({
      settings: { ...redisDefaults, mode: 'redis', host: server.host, port: server.port, database: 0, deadlineMs: 60_000 },
      clock: systemClock,
      log: () => undefined,
    })
  })

  afterAll(async () => {
    client?.close()
    await server?.close()
  })

  function spec(rules: LimitRule[], countRefused = false): LimiterSpec {
    return { scope: `s${nextScope++}`, rules, countRefused, dryRun: false, store: { kind: 'local' } }
  }

  /** As ExactLimiter calls it, with a time. */
  async function decide(
    of: LimiterSpec,
    nowMs: number,
    cost = 1,
    mode = of.countRefused ? 'charge-refused' : 'charge',
    key = 'k',
    hold = 'h',
  ) {
    const layout = new RuleLayout(of, 'sluice:')
    const call = layout.call(key, cost, undefined)
    const reply = await client.run(scripts.decide.of(layout.codes), call.keys, [Math.round(nowMs * 1000), cost, mode, hold, ...call.args])
    const numbers = integers(reply, 2 + 4 * of.rules.length)
    const out = new Decision(of.rules.length)
    out.refusedBy = numbers[0] ?? -1
    out.allowed = out.refusedBy < 0
    out.delayMs = (numbers[1] ?? 0) / 1000
    for (let index = 0; index < of.rules.length; index++) layout.outcome(out, index, numbers, 2 + 4 * index, undefined)
    return out
  }

  const limit = fc.integer({ min: 1, max: 12 })
  const windowMs = fc.constantFrom(500, 1000, 3000, 60_000)
  const rate = fc.constantFrom(1, 2, 5, 10, 50, 200, 1000)
  const anyRule: fc.Arbitrary<LimitRule> = fc.oneof(
    fc.record({
      algorithm: fc.constant('fixed-window' as const),
      limit,
      windowMs,
      start: fc.constantFrom('clock' as const, 'first-hit' as const),
    }),
    fc.record({
      algorithm: fc.constant('sliding-window' as const),
      limit,
      windowMs,
      boundary: fc.constantFrom('estimate-below' as const, 'estimate-within' as const),
    }),
    fc.record({ algorithm: fc.constant('token-bucket' as const), rate, burst: fc.integer({ min: 0, max: 8 }) }),
    fc.record({ algorithm: fc.constant('leaky-bucket' as const), rate, burst: fc.integer({ min: 0, max: 8 }) }),
  )
  const traffic = fc.array(
    fc.record({
      stepMs: fc.oneof(fc.constantFrom(0, 0, 1, 5, 20, 100), fc.integer({ min: 0, max: 4000 })),
      cost: fc.integer({ min: 1, max: 3 }),
    }),
    { minLength: 5, maxLength: 40 },
  )

  test(`decide as the model does, for several rules at once (seed ${SEED})`, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyRule, { minLength: 1, maxLength: 3 }), traffic, fc.boolean(), async (rules, requests, wantsRefused) => {
        const countsWindows = rules.every((rule) => rule.algorithm === 'fixed-window' || rule.algorithm === 'sliding-window')
        const of = spec(rules, wantsRefused && countsWindows)
        const model = new ModelLimiter(of)
        let nowMs = START_MS
        for (const { stepMs, cost } of requests) {
          nowMs += stepMs
          const expected = model.check(nowMs, cost)
          const found = await decide(of, nowMs, cost)
          expect([found.refusedBy, found.delayMs]).toEqual([expected.refusedBy, expect.closeTo(expected.delayMs, 2)])
          for (const [index, outcome] of found.rules.entries()) {
            const wanted = expected.rules[index]
            expect(outcome).toEqual({
              ...wanted,
              used: expect.closeTo(wanted?.used ?? 0, 2),
              resetMs: expect.closeTo(wanted?.resetMs ?? 0, 1),
              retryAfterMs: expect.any(Number),
            })
            // The model knows whole milliseconds, the script microseconds; the model leaves out the refused request itself, which counts.
            if (!of.countRefused) expect(Math.abs(outcome.retryAfterMs - (wanted?.retryAfterMs ?? 0))).toBeLessThanOrEqual(1.001)
          }
        }
      }),
      { seed: SEED, numRuns: 120 },
    )
  })

  test(`the short script for one fixed window answers and stores as the long one, also when the clock steps (seed ${SEED})`, async () => {
    const long = loadScript('decide', ['rules', 'rules-stored', 'rules-fixed'])
    const short = scripts.decide.of(['fc'])
    expect([short.name, scripts.decide.of(['ff']).name]).toEqual(['decide-fixed', 'decide-fixed'])
    const steps = fc.array(
      fc.record({
        stepMs: fc.oneof(
          fc.constantFrom(0, 1, 999.5, 1000, -500, -1999, -2001, 3_600_000, -3_600_000),
          fc.double({ min: -3000, max: 3000, noNaN: true }),
        ),
        cost: fc.integer({ min: 1, max: 7 }),
        mode: fc.constantFrom('charge', 'charge', 'charge-refused', 'peek'),
        most: fc.integer({ min: 0, max: 12 }),
      }),
      { minLength: 5, maxLength: 30 },
    )
    const code = fc.constantFrom('fc', 'ff')
    const windowUs = fc.constantFrom(1_000_000, 60_000_000, 3_600_000_000)
    let run = 0
    await fc.assert(
      fc.asyncProperty(code, windowUs, steps, async (kind, span, requests) => {
        const names = [`short:${run}`, `long:${run++}`] as const
        let nowUs = START_MS * 1000
        for (const { stepMs, cost, mode, most } of requests) {
          nowUs += Math.round(stepMs * 1000)
          const args = [nowUs, cost, mode, '', kind, most, span, 0]
          const found = await client.run(short, [names[0]], args)
          expect(found).toEqual(await client.run(long, [names[1]], args))
          expect(await server.client.get(names[0])).toBe(await server.client.get(names[1]))
          expect(Math.abs((await server.client.pttl(names[0])) - (await server.client.pttl(names[1])))).toBeLessThan(5000)
        }
      }),
      { seed: SEED, numRuns: 60 },
    )
  })

  test(`sliding logs are exact (seed ${SEED})`, async () => {
    await fc.assert(
      fc.asyncProperty(limit, windowMs, traffic, fc.boolean(), async (most, width, requests, countRefused) => {
        const of = spec([{ algorithm: 'sliding-log', limit: most, windowMs: width }], countRefused)
        const model = new ModelLog(most, width, countRefused)
        let nowMs = START_MS
        for (const { stepMs, cost } of requests) {
          nowMs += stepMs
          const expected = model.check(nowMs, cost)
          const found = await decide(of, nowMs, cost)
          expect([found.allowed, found.rules[0]?.used]).toEqual([expected.allowed, expected.used])
          if (found.allowed) continue
          const retry = found.rules[0]?.retryAfterMs ?? 0
          if (cost > most) expect(retry).toBe(-1)
          else expect(await allowedAfter(of, nowMs, cost, retry)).toEqual([false, true])
        }
      }),
      { seed: SEED, numRuns: 60 },
    )
  })

  /** Whether the request fits a microsecond before, and at, the time that was told. */
  async function allowedAfter(of: LimiterSpec, nowMs: number, cost: number, retryMs: number): Promise<boolean[]> {
    const before = await decide(of, nowMs + retryMs - 0.001, cost, 'peek')
    const at = await decide(of, nowMs + retryMs, cost, 'peek')
    return [before.allowed, at.allowed]
  }

  test('sliding window: the numbers of the guide', async () => {
    const minute = Math.ceil(START_MS / 60_000) * 60_000
    const cases = [
      { previous: 10, elapsedMs: 30_000, current: 4, allowed: true },
      { previous: 10, elapsedMs: 30_000, current: 5, allowed: false },
      { previous: 10, elapsedMs: 0, current: 0, allowed: false },
      { previous: 10, elapsedMs: 59_900, current: 0, allowed: true },
    ]
    for (const { previous, elapsedMs, current, allowed } of cases) {
      const of = spec([{ algorithm: 'sliding-window', limit: 10, windowMs: 60_000 }])
      const generous: LimiterSpec = { ...of, rules: [{ algorithm: 'sliding-window', limit: 1000, windowMs: 60_000 }] }
      if (previous > 0) await decide(generous, minute, previous)
      if (current > 0) await decide(generous, minute + 60_000 + elapsedMs, current)
      expect((await decide(of, minute + 60_000 + elapsedMs)).allowed).toBe(allowed)
      // Two windows later the first one counts no more.
      expect((await decide(of, minute + 240_000)).rules[0]?.used).toBe(1)
    }
  })

  test('token bucket: 200/s with 50 more, offered 1000/s for 10 s', async () => {
    const of = spec([{ algorithm: 'token-bucket', rate: 200, burst: 50 }])
    const decisions = await Promise.all(Array.from({ length: 10_000 }, (_, index) => decide(of, START_MS + index)))
    const admitted = decisions.filter(({ allowed }) => allowed).length
    expect(admitted).toBeGreaterThanOrEqual(2050)
    expect(admitted).toBeLessThanOrEqual(2052)
    const later = await Promise.all(Array.from({ length: 60 }, () => decide(of, START_MS + 11_000)))
    expect(later.filter(({ allowed }) => allowed)).toHaveLength(51)
  })

  test('calendar windows end with the month and the year', async () => {
    const dates = [
      Date.UTC(2024, 1, 29, 23, 59, 59, 999),
      Date.UTC(2026, 11, 31, 12),
      Date.UTC(2100, 1, 28),
      Date.UTC(2027, 2, 1),
      Date.UTC(2026, 0, 1),
    ]
    for (const at of dates) {
      const date = new Date(at)
      const month = Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1) - at
      const year = Date.UTC(date.getUTCFullYear() + 1, 0) - at
      const of = spec([
        { algorithm: 'fixed-window', limit: 1, windowMs: 0, start: 'month' },
        { algorithm: 'fixed-window', limit: 5, windowMs: 0, start: 'year' },
      ])
      const first = await decide(of, at)
      expect(first.rules.map(({ resetMs }) => resetMs)).toEqual([month, year])
      expect((await decide(of, at)).refusedBy).toBe(0)
      expect((await decide(of, at + month)).allowed).toBe(true)
    }
  })

  test('a request refused by one rule consumes nothing of the others', async () => {
    const of = spec([
      { algorithm: 'fixed-window', limit: 100, windowMs: 60_000, start: 'clock' },
      { algorithm: 'token-bucket', rate: 1, burst: 1 },
      { algorithm: 'sliding-log', limit: 100, windowMs: 60_000 },
      { algorithm: 'concurrency', limit: 100, ttlMs: 60_000 },
    ])
    for (const hold of ['a', 'b', 'c', 'd']) await decide(of, START_MS, 1, 'charge', 'k', hold)
    const found = await decide(of, START_MS, 1, 'peek')
    expect(found.rules.map(({ used }) => used)).toEqual([2, 2, 2, 2])
    expect(found.refusedBy).toBe(1)
  })

  test('refused requests are counted on demand', async () => {
    const of = spec([{ algorithm: 'fixed-window', limit: 3, windowMs: 60_000, start: 'clock' }], true)
    for (let index = 0; index < 7; index++) await decide(of, START_MS)
    const found = await decide(of, START_MS, 1, 'peek')
    expect(found.rules[0]).toMatchObject({ used: 7, remaining: 0 })
  })

  const steppedRules: [string, LimitRule][] = [
    ['fixed-window', { algorithm: 'fixed-window', limit: 2, windowMs: 60_000, start: 'clock' }],
    ['fixed-window from the first hit', { algorithm: 'fixed-window', limit: 2, windowMs: 60_000, start: 'first-hit' }],
    ['sliding-window', { algorithm: 'sliding-window', limit: 2, windowMs: 60_000 }],
    ['sliding-log', { algorithm: 'sliding-log', limit: 2, windowMs: 60_000 }],
    ['token-bucket', { algorithm: 'token-bucket', rate: 1 / 60, burst: 1 }],
  ]
  test.each(steppedRules)(
    '%s: a clock that is set back an hour admits nothing extra and blocks for two windows at most',
    async (_, rule) => {
      const of = spec([rule])
      await decide(of, START_MS, 2)
      const back = START_MS - 3_600_000
      for (const laterMs of [0, 10, 1000]) expect((await decide(of, back + laterMs)).allowed).toBe(false)
      expect((await decide(of, back + 121_000)).allowed).toBe(true)
    },
  )

  test('a clock that is a little behind after a failover still sees the present window', async () => {
    const of = spec([{ algorithm: 'fixed-window', limit: 2, windowMs: 60_000, start: 'clock' }])
    const minute = Math.ceil(START_MS / 60_000) * 60_000
    await decide(of, minute + 10, 2)
    expect((await decide(of, minute - 1500)).allowed).toBe(false)
    expect((await decide(of, minute + 20)).allowed).toBe(false)
  })

  test('values expire when they mean nothing any more, to the millisecond', async () => {
    const of = spec([
      { algorithm: 'fixed-window', limit: 9, windowMs: 1500, start: 'first-hit' },
      { algorithm: 'sliding-window', limit: 9, windowMs: 1000 },
      { algorithm: 'sliding-log', limit: 9, windowMs: 2500 },
      { algorithm: 'token-bucket', rate: 2, burst: 3 },
      { algorithm: 'concurrency', limit: 9, ttlMs: 3500 },
    ])
    const layout = new RuleLayout(of, 'sluice:')
    const call = layout.call('k', 1, undefined)
    // In one transaction: nothing expires between the decision and the questions, and both use one time.
    const questions = server.client
      .multi()
      .time()
      .eval(scripts.decide.of(layout.codes).source, call.keys.length, ...call.keys, '', 1, 'charge', 'h', ...call.args)
    for (const key of call.keys) questions.call('PEXPIRETIME', key)
    const [time, decided, ...expiries] = ((await questions.exec()) ?? []).map(([, answer]) => answer)
    const [seconds = 0, micros = 0] = Array.isArray(time) ? time.map(Number) : []
    const nowMs = seconds * 1000 + micros / 1000
    const windowLeftMs = (integers(decided, 22)[8] ?? 0) / 1000
    const left = expiries.map((expiry) => Number(expiry) - nowMs)
    // Whole milliseconds, and what the two commands themselves took.
    for (const [index, expected] of [1500, windowLeftMs + 1000, 2500, 500, 3500].entries()) {
      expect(left[index]).toBeGreaterThan(expected - 2)
      expect(left[index]).toBeLessThan(expected + 300)
    }
  })

  test('a batch given back counts no more, in its own window only', async () => {
    const of = spec([
      { algorithm: 'fixed-window', limit: 10, windowMs: 1000, start: 'clock' },
      { algorithm: 'sliding-window', limit: 20, windowMs: 60_000 },
    ])
    const layout = new RuleLayout(of, 'sluice:')
    const call = layout.call('k', 1, undefined)
    const at = Math.ceil(START_MS / 60_000) * 60_000
    const take = async (nowMs: number, need: number, want: number) =>
      integers(await client.run(scripts.take.of(layout.codes), call.keys, [nowMs * 1000, need, want, 1, ...call.args]), 12)
    const giveBack = (units: number, starts: (number | undefined)[]) =>
      client.run(scripts.giveBack, call.keys, [
        units,
        ...layout.codes.flatMap((code, index) => [code, layout.windowUs(index, undefined), starts[index] ?? 0]),
      ])

    const first = await take(at, 1, 8)
    // Half of what is left.
    expect(first[0]).toBe(5)
    const starts = [first[6], first[11]]
    expect(starts).toEqual([at * 1000, at * 1000])
    expect(await giveBack(3, starts)).toBe(2)
    expect((await decide(of, at, 1, 'peek')).rules.map(({ used }) => used)).toEqual([2, 2])
    // A second later only the minute still runs.
    await decide(of, at + 1000)
    expect(await giveBack(2, starts)).toBe(1)
    expect((await decide(of, at + 1000, 1, 'peek')).rules.map(({ used }) => used)).toEqual([1, 1])
    // Not enough for the request: nothing is taken.
    expect((await take(at + 1000, 10, 10)).slice(0, 2)).toEqual([0, 0])
    expect((await take(at + 1000, 9, 9))[0]).toBe(9)
  })

  describe('what gateways tell of circuit breakers', () => {
    const tell = loadScript('breaker-tell')
    const news = loadScript('breaker-news')
    /** Keeps three names, for a minute. */
    function board(id: string) {
      const keys = [`${id}{b}:state`, `${id}{b}:order`] as const
      const change = (name: string, openMs: number, count: number, isByHand: boolean) =>
        client.run(tell, keys, [name, openMs, count, isByHand ? 1 : 0, 'node', 3, 60_000])
      return {
        open: (name: string) => change(name, 30_000, 1, false),
        close: (name: string) => change(name, 0, 0, false),
        hold: (name: string) => change(name, 0, 1, true),
        release: (name: string) => change(name, 0, 0, true),
        expires: async () => (await Promise.all(keys.map((key) => server.client.pttl(key)))).map((left) => left > 0),
        held: () => server.client.hget(keys[0], '#held'),
        names: async () => {
          const reply = (await client.run(news, keys, ['', 0, 100])) as unknown[]
          return reply.slice(2).filter((_, index) => index % 5 === 0)
        },
      }
    }

    test('all is forgotten in time, but not while an operator holds one open', async () => {
      const { open, close, hold, release, expires, held } = board('hold')
      await open('route:1')
      expect(await expires()).toEqual([true, true])
      await hold('route:1')
      await hold('route:1')
      await hold('route:2')
      expect([await expires(), await held()]).toEqual([[false, false], '2'])
      // What others tell meanwhile changes neither that nor the ones held.
      await open('route:3')
      await close('route:1')
      await release('route:2')
      expect([await expires(), await held()]).toEqual([[false, false], '1'])
      await release('route:1')
      await release('route:1')
      expect([await expires(), await held()]).toEqual([[true, true], '0'])
    })

    test('beyond the bound the oldest go, those held open last', async () => {
      const { open, hold, release, expires, held, names } = board('bound')
      await hold('route:1')
      for (const id of [2, 3, 4, 5]) await open(`route:${id}`)
      expect(await names()).toEqual(['route:1', 'route:4', 'route:5'])
      for (const id of [4, 5, 6]) await hold(`route:${id}`)
      expect([await names(), await held()]).toEqual([['route:4', 'route:5', 'route:6'], '3'])
      for (const id of [4, 5, 6]) await release(`route:${id}`)
      expect([await expires(), await held()]).toEqual([[true, true], '0'])
    })
  })
})
