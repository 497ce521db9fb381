/**
 * Each row of the guarantee table (docs/rate-limiting.md, "Across machines") with several node processes on real servers.
 * The rows are named in the titles.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { ManualClock } from '../../src/base/clock.js'
import { RedisStore } from '../../src/cluster/redis-store.js'
import type { LimiterSpec, LimitRule } from '../../src/limits/contract.js'
import { createLimiterRegion } from '../../src/shared/limiter-layout.js'
import { LocalLimiterStore } from '../../src/shared/limiter-store.js'
import { eventually, RedisSentinelServers, type RedisServer, redisMissing } from '../support/redis.js'
import { Fleet, oneWindow, onRedis, onSentinel, specOf, sum } from './fleet.js'
import type { NodeReport } from './node-jobs.js'
import { compileNode } from './nodes.js'

const KEY = 'client-1'

describe.skipIf(redisMissing !== null)('guarantees', () => {
  let program: Awaited<ReturnType<typeof compileNode>>
  let fleet: Fleet

  beforeAll(async () => {
    program = await compileNode()
    fleet = new Fleet(program.file)
  })
  afterEach(() => fleet.close())
  afterAll(() => program?.remove())

  const exactRules: [string, LimitRule][] = [
    ['fixed-window', oneWindow(500)],
    ['sliding-window', { algorithm: 'sliding-window', limit: 500, windowMs: 3_600_000 }],
    ['sliding-log', { algorithm: 'sliding-log', limit: 500, windowMs: 3_600_000 }],
    ['token-bucket', { algorithm: 'token-bucket', rate: 0.001, burst: 499 }],
    ['leaky-bucket', { algorithm: 'leaky-bucket', rate: 0.001, burst: 499 }],
    ['concurrency', { algorithm: 'concurrency', limit: 500, ttlMs: 3_600_000 }],
  ]
  test('exact: three nodes admit exactly the limit, by every algorithm', async () => {
    const server = await fleet.redis()
    const nodes = await fleet.nodes(3)
    for (const [name, rule] of exactRules) {
      const spec = specOf(onRedis(server), rule)
      const reports = await Promise.all(
        nodes.map((node) => node.run({ do: 'check', spec, key: KEY, requests: 400, lanes: 16, keepHolds: true })),
      )
      expect([name, sum(reports.map(({ admitted }) => admitted))]).toEqual([name, 500])
    }
  })

  test('exact: weighted requests by several limits never exceed any of them', async () => {
    const server = await fleet.redis()
    const nodes = await fleet.nodes(3)
    const spec = specOf(onRedis(server), oneWindow(1000), { algorithm: 'token-bucket', rate: 0.001, burst: 599 })
    const reports = await Promise.all(nodes.map((node) => node.run({ do: 'check', spec, key: KEY, requests: 150, cost: 3, lanes: 16 })))
    expect(sum(reports.map(({ admitted }) => admitted))).toBe(200)
    // The limit that refused nothing has counted admitted requests alone.
    const [node] = nodes
    const generous = await node?.run({ do: 'check', spec: { ...spec, rules: [oneWindow(1000)] }, key: KEY, requests: 500 })
    expect(generous?.admitted).toBe(400)
  })

  test('exact: a node that is killed loses nothing but its own requests', async () => {
    const server = await fleet.redis()
    const [first, second] = await fleet.nodes(2)
    const spec = specOf(onRedis(server), oneWindow(300))
    const before = await first?.run({ do: 'check', spec, key: KEY, requests: 100 })
    await first?.kill()
    const after = await second?.run({ do: 'check', spec, key: KEY, requests: 400 })
    expect([before?.admitted, after?.admitted]).toEqual([100, 200])
  })

  test('exact: slots of a killed node come free when their time is over, those of a living one at once', async () => {
    const server = await fleet.redis()
    const [first, second] = await fleet.nodes(2)
    const spec = specOf(onRedis(server), { algorithm: 'concurrency', limit: 3, ttlMs: 3_600_000 })
    expect((await first?.run({ do: 'check', spec, key: KEY, requests: 3, keepHolds: true }))?.admitted).toBe(3)
    await first?.kill()
    expect((await second?.run({ do: 'check', spec, key: KEY, requests: 1 }))?.admitted).toBe(0)
    // Their hour passes: places are kept by the time at which they end.
    const [places = ''] = await server.client.keys('*cc:0')
    for (const place of await server.client.zrange(places, '0', '-1')) await server.client.zincrby(places, '-3600000000', place)
    // The first release waits for its script, so the first round may meet a taken place.
    await eventually(
      'three at a time',
      async () => (await second?.run({ do: 'check', spec, key: KEY, requests: 30, lanes: 3 }))?.admitted === 30,
    )
  })

  test('lease: three nodes admit exactly the limit, with few calls', async () => {
    const server = await fleet.redis()
    const nodes = await fleet.nodes(3)
    const spec = specOf(onRedis(server, { mode: 'lease' }), oneWindow(3000))
    const reports = await Promise.all(nodes.map((node) => node.run({ do: 'check', spec, key: KEY, requests: 900, perSecond: 900 })))
    // What the others hold comes back when they are idle, and is spent to the last unit.
    const [first] = nodes
    let admitted = sum(reports.map((report) => report.admitted))
    expect(admitted).toBeGreaterThanOrEqual(1000)
    await eventually('the last units', async () => {
      admitted += (await first?.run({ do: 'check', spec, key: KEY, requests: 100, perSecond: 1000 }))?.admitted ?? 0
      return admitted >= 3000
    })
    const after = await Promise.all(nodes.map((node) => node.run({ do: 'check', spec, key: KEY, requests: 200 })))
    expect([admitted, ...after.map((report) => report.admitted)]).toEqual([3000, 0, 0, 0])
  })

  test.each([1, 2, 16])('lease: at 1000 requests a second of one key at most 0.01 calls per request, with %i workers', async (workers) => {
    const server = await fleet.redis()
    // One of the workers, with its share of the requests. Its clock is the test's, however long the machine takes.
    const clock = new ManualClock()
    const count = { calls: 0 }
    const ignore = () => undefined
    const store = new RedisStore({
      workers,
      clock,
      nodeId: 'paced',
      workerId: 'paced/0',
      local: new LocalLimiterStore(createLimiterRegion({ members: 1, cells: 1000, logEntries: 1000, seed: [1, 2] }), 0, () =>
        clock.wallMs(),
      ),
      counters: {
        called: () => void count.calls++,
        failed: ignore,
        decidedByPolicy: ignore,
        leased: ignore,
        spent: ignore,
        returned: ignore,
        lost: ignore,
      },
      log: ignore,
    })
    fleet.later(() => store.close())
    for (const rule of [oneWindow(1_000_000), { algorithm: 'token-bucket', rate: 4000, burst: 24_000 } as const]) {
      const limiter = store.bind(specOf(onRedis(server, { mode: 'lease' }), rule))
      const admitted = async (requests: number): Promise<number> => {
        let sum = 0
        for (let request = 0; request < requests; request++) {
          clock.advance(workers)
          if ((await limiter.check(KEY, 1, limiter.decision())).allowed) sum++
          // Answers to calls that nobody waits for.
          await new Promise((resolve) => setImmediate(resolve))
        }
        return sum
      }
      // The first second is for finding the size of batches.
      await admitted(1000)
      const before = count.calls
      expect(await admitted(2000)).toBe(2000)
      expect(count.calls - before).toBeLessThanOrEqual(20)
      expect(count.calls).toBeGreaterThan(before)
    }
  })

  test('lease: a node that is killed takes what it held with it, and nothing is admitted twice', async () => {
    const server = await fleet.redis()
    const [first, second] = await fleet.nodes(2)
    const spec = specOf(onRedis(server, { mode: 'lease' }), oneWindow(1000))
    const before = await first?.run({ do: 'check', spec, key: KEY, requests: 400, perSecond: 2000 })
    const heldAtMost = (before?.totals.leased ?? 0) - (before?.totals.spent ?? 0)
    await first?.kill()
    let after = 0
    for (let round = 0; round < 5; round++) {
      after += (await second?.run({ do: 'check', spec, key: KEY, requests: 400, lanes: 1 }))?.admitted ?? 0
      await new Promise((resolve) => setTimeout(resolve, 150))
    }
    expect(before?.admitted).toBe(400)
    expect(400 + after).toBeLessThanOrEqual(1000)
    expect(400 + after).toBeGreaterThanOrEqual(1000 - heldAtMost)
  })

  test('lease: a node that stops gives everything back', async () => {
    const server = await fleet.redis()
    const [first, second] = await fleet.nodes(2)
    const spec = specOf(onRedis(server, { mode: 'lease' }), oneWindow(1000))
    await first?.run({ do: 'check', spec, key: KEY, requests: 400, perSecond: 2000 })
    const closed = await first?.run({ do: 'close' })
    expect(closed?.totals).toMatchObject({ lost: 0, leased: 400 + (closed?.totals.returned ?? 0) })
    expect((await second?.run({ do: 'check', spec, key: KEY, requests: 1000, lanes: 1 }))?.admitted).toBe(600)
  })

  test('lease: units die with their window', async () => {
    const server = await fleet.redis()
    const nodes = await fleet.nodes(2)
    const spec = specOf(onRedis(server, { mode: 'lease' }), { algorithm: 'fixed-window', limit: 100, windowMs: 1000, start: 'clock' })
    const second = async () => Number((await server.client.time())[0])
    const began = await second()
    const reports = await Promise.all(
      nodes.map((node) => node.run({ do: 'check', spec, key: KEY, requests: 3000, perSecond: 1000, lanes: 4 })),
    )
    const windows = (await second()) - began + 1
    const admitted = sum(reports.map((report) => report.admitted))
    expect(admitted).toBeLessThanOrEqual(100 * windows)
    // More than one window would give: the others were used too.
    expect(admitted).toBeGreaterThan(100)
  })

  test('lease: a token bucket never admits more than its burst and rate, with units held by two nodes', async () => {
    const server = await fleet.redis()
    const nodes = await fleet.nodes(2)
    const spec = specOf(onRedis(server, { mode: 'lease' }), { algorithm: 'token-bucket', rate: 200, burst: 100 })
    const beganMs = performance.now()
    const reports = await Promise.all(
      nodes.map((node) => node.run({ do: 'check', spec, key: KEY, requests: 2000, perSecond: 1000, lanes: 4 })),
    )
    const seconds = (performance.now() - beganMs) / 1000
    const admitted = sum(reports.map((report) => report.admitted))
    expect(admitted).toBeLessThanOrEqual(101 + 200 * seconds)
    expect(admitted).toBeGreaterThanOrEqual(200)
  })

  test('lease: units that a node holds make no larger burst than configured', async () => {
    const server = await fleet.redis()
    const [holder, other] = await fleet.nodes(2)
    const rate = 1000
    const spec = specOf(onRedis(server, { mode: 'lease' }), { algorithm: 'token-bucket', rate, burst: 399 })
    for (let round = 0; round < 3; round++) {
      // Slower than the rate: the bucket is full, and the node holds a batch besides.
      await holder?.run({ do: 'check', spec, key: KEY, requests: 300, perSecond: 600, lanes: 2 })
      const beganMs = performance.now()
      const reports = await Promise.all([holder, other].map((node) => node?.run({ do: 'check', spec, key: KEY, requests: 500, lanes: 50 })))
      const ms = performance.now() - beganMs
      expect(sum(reports.map((report) => report?.admitted ?? 0))).toBeLessThanOrEqual(400 + (rate * ms) / 1000)
    }
  })

  test('exact and lease, Redis restarts empty: counted from zero, and only units that nodes held come on top', async () => {
    const server = await fleet.redis()
    const nodes = await fleet.nodes(2)
    const LIMIT = 1000
    const specs = (['exact', 'lease'] as const).map((mode) => specOf(onRedis(server, { mode }), oneWindow(LIMIT)))
    const everywhere = (spec: LimiterSpec, requests: number, perSecond = 1000) =>
      Promise.all(nodes.map((node) => node.run({ do: 'check', spec, key: KEY, requests, perSecond, lanes: 4 })))
    const totals = (reports: readonly NodeReport[]) => reports.map((report) => report.totals)
    const before = await Promise.all(specs.map((spec) => everywhere(spec, 150)))
    expect(before.map((reports) => sum(reports.map(({ admitted }) => admitted)))).toEqual([300, 300])
    const held = sum(
      totals(await everywhere(specs[1] ?? specOf(onRedis(server), oneWindow(1)), 1)).map(({ leased, spent }) => leased - spent),
    )
    await server.restart()
    const admitted = [0, 0]
    for (const [index, spec] of specs.entries()) {
      await eventually(`all of it used up (${index})`, async () => {
        const reports = await everywhere(spec, 200, 4000)
        const last = sum(reports.map((report) => report.admitted))
        admitted[index] = (admitted[index] ?? 0) + last
        return last === 0 && reports.every((report) => report.bases.exact === 200)
      })
    }
    const cutOff = sum(totals(await everywhere(specs[0] ?? specOf(onRedis(server), oneWindow(1)), 1)).map(({ failed }) => failed))
    const [exact = 0, lease = 0] = admitted
    expect(exact).toBeLessThanOrEqual(LIMIT)
    expect(exact).toBeGreaterThanOrEqual(LIMIT - cutOff)
    expect(lease).toBeLessThanOrEqual(LIMIT + held)
    // More than was left before: the count has begun anew.
    expect(lease).toBeGreaterThan(LIMIT - 300)
  })

  test('exact and lease, failover: nothing beyond the limit but the writes that the old master lost', async () => {
    const servers = await RedisSentinelServers.start()
    fleet.later(() => servers.close())
    const nodes = await fleet.nodes(2)
    const specs = (['exact', 'lease'] as const).map((mode) =>
      specOf(onSentinel(servers, RedisSentinelServers.masterName, { mode }), oneWindow(1000)),
    )
    const everywhere = (spec: LimiterSpec, requests: number) =>
      Promise.all(nodes.map((node) => node.run({ do: 'check', spec, key: KEY, requests, perSecond: 1000, lanes: 2 })))
    const admitted: number[] = []
    for (const spec of specs) admitted.push(sum((await everywhere(spec, 200)).map((report) => report.admitted)))
    expect(admitted).toEqual([400, 400])
    // Every write so far has reached the replica: then no unit may be admitted twice.
    expect(await servers.master.client.call('WAIT', 1, 5000)).toBe(1)
    await servers.master.kill()
    await servers.failOver()
    await servers.promoted(servers.replica)
    for (const [index, spec] of specs.entries()) {
      await eventually(`decisions by the new master (${index})`, async () => {
        const reports = await everywhere(spec, 300)
        const last = sum(reports.map((report) => report.admitted))
        admitted[index] = (admitted[index] ?? 0) + last
        return last === 0 && reports.every((report) => report.bases.exact === 300)
      })
    }
    expect(Math.max(...admitted)).toBeLessThanOrEqual(1000)
    const totals = (await Promise.all(nodes.map((node) => node.run({ do: 'close' })))).map((report) => report.totals)
    // Calls that were cut off may have counted without being admitted: single requests, and batches.
    const cutOff = sum(totals.map(({ failed }) => failed))
    const [exact = 0, lease = 0] = admitted
    expect(exact).toBeGreaterThanOrEqual(1000 - cutOff)
    expect(lease).toBeGreaterThanOrEqual(1000 - sum(totals.map(({ lost }) => lost)) - cutOff * 500)
  })

  test.each(['exact', 'lease'] as const)(
    '%s, planned failover while the old master lives: at most what it admitted meanwhile, and nobody has to help',
    async (mode) => {
      const servers = await RedisSentinelServers.start()
      fleet.later(() => servers.close())
      const nodes = await fleet.nodes(2)
      const LIMIT = 1000
      const specWith = () => specOf(onSentinel(servers, RedisSentinelServers.masterName, { mode }), oneWindow(LIMIT))
      const [busy, quiet] = [specWith(), specWith()]
      const admittedBy = async (spec: LimiterSpec, requests: number): Promise<number> => {
        const job = { do: 'check', spec, key: KEY, requests, lanes: 4 } as const
        return sum((await Promise.all(nodes.map((node) => node.run(job)))).map((report) => report.admitted))
      }
      const before = { busy: await admittedBy(busy, 100), quiet: await admittedBy(quiet, 100) }
      expect(before).toEqual({ busy: 200, quiet: 200 })
      expect(await servers.master.client.call('WAIT', 1, 60_000)).toBe(1)

      // Traffic of one key from before the order until everybody has followed it; of the other none.
      const traffic = nodes.map((node) =>
        node.run({ do: 'check', spec: busy, key: KEY, requests: 1_000_000, perSecond: 50, lanes: 2, untilStopped: 'failover' }),
      )
      await servers.failOver()
      await servers.promoted(servers.replica)
      // The old master serves nobody any more: all nodes have left it by themselves, and its writes are refused.
      const clientsOf = async (server: RedisServer): Promise<number> =>
        String(await server.client.client('LIST', 'TYPE', 'NORMAL'))
          .split('\n')
          .filter((line) => /\bcmd=(evalsha|eval)\b/.test(line)).length
      await eventually(
        'both nodes at the new master',
        async () => (await clientsOf(servers.replica)) === 2 && (await clientsOf(servers.master)) === 0,
      )
      await Promise.all(nodes.map((node) => node.run({ do: 'stop', name: 'failover' })))
      const meanwhile = sum((await Promise.all(traffic)).map((report) => report.admitted))

      const rest = { busy: 0, quiet: 0 }
      await eventually('the limits used up', async () => {
        const [more, moreQuiet] = [await admittedBy(busy, 300), await admittedBy(quiet, 300)]
        rest.busy += more
        rest.quiet += moreQuiet
        return rest.quiet > 0 && more + moreQuiet === 0
      })
      const { totals: first } = (await nodes[0]?.run({ do: 'close' })) ?? {}
      const { totals: second } = (await nodes[1]?.run({ do: 'close' })) ?? {}
      const failed = (first?.failed ?? 0) + (second?.failed ?? 0)
      // What was counted before the order was replicated: of the key without traffic not one request is admitted twice.
      expect(before.quiet + rest.quiet).toBeLessThanOrEqual(LIMIT)
      if (mode === 'exact') expect(before.quiet + rest.quiet).toBeGreaterThanOrEqual(LIMIT - failed)
      // Of the other, at most what was admitted while there were two masters comes on top.
      expect(before.busy + meanwhile + rest.busy).toBeLessThanOrEqual(LIMIT + meanwhile)
    },
  )
})
