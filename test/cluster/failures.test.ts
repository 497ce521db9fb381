/** What requests see while Redis is dead, paused, restarted or not allowed, in each policy; and that everything recovers by itself. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { ownPort } from '../support/ports.js'
import { eventually, RedisServer, redisMissing } from '../support/redis.js'
import { TestAuthority } from '../support/tls-certificates.js'
import { type Connection, Fleet, oneWindow, onRedis, specOf, sum } from './fleet.js'
import { compileNode, type NodeProcess } from './nodes.js'

const KEY = 'client-1'
/** Where a deadline must pass. It is never awaited where an answer must come. */
const DEADLINE_MS = 400

describe.skipIf(redisMissing !== null)('failures of Redis', () => {
  let program: Awaited<ReturnType<typeof compileNode>>
  let fleet: Fleet

  beforeAll(async () => {
    program = await compileNode()
    fleet = new Fleet(program.file)
  })
  afterEach(() => fleet.close())
  afterAll(() => program?.remove())

  async function oneNode(): Promise<NodeProcess> {
    const [node] = await fleet.nodes(1)
    if (node === undefined) throw new Error('no node')
    return node
  }

  const policies = [
    ['refuse', { refused: 20 }],
    ['allow', { allowed: 20 }],
    ['local', { local: 20 }],
  ] as const
  const modes = ['exact', 'lease'] as const
  test.each(modes.flatMap((mode) => policies.map(([onFailure, bases]) => ({ mode, onFailure, bases }))))(
    '$mode, $onFailure: decides without a dead Redis, and with it as soon as it is back',
    async ({ mode, onFailure, bases }) => {
      const server = await fleet.redis()
      const node = await oneNode()
      const spec = specOf(onRedis(server, { mode, onFailure }), oneWindow(50))
      const check = (requests: number) => node.run({ do: 'check', spec, key: KEY, requests, lanes: 1 })
      expect((await check(1)).bases).toEqual({ exact: 1 })
      await server.kill()
      // Units of a lease are spent first.
      await check(20)
      const without = await check(20)
      expect(without.bases).toEqual(bases)
      expect(without.admitted).toBe(onFailure === 'refuse' ? 0 : 20)
      expect(without.totals.policy).toBeGreaterThanOrEqual(20)
      await server.restart()
      // The data is gone with the process, the script too: NOSCRIPT is answered with the text.
      await eventually('decisions by Redis', async () => (await check(100)).bases.exact === 100)
      const { logged } = await check(1)
      expect(
        logged.filter((line) => /^warn redis 127\.0\.0\.1:\d+\/0 failed \((no connection|connection lost|no answer)/.test(line)),
      ).toHaveLength(1)
      expect(logged.filter((line) => line.startsWith('info'))).toHaveLength(1)
    },
  )

  test('local: two nodes share the limit between them', async () => {
    const server = await fleet.redis()
    const [first, second] = await fleet.nodes(2)
    const spec = specOf(onRedis(server, { onFailure: 'local' }), oneWindow(101), {
      algorithm: 'token-bucket',
      rate: 0.01,
      burst: 999,
    })
    const check = (node: NodeProcess | undefined, requests: number) => node?.run({ do: 'check', spec, key: KEY, requests, lanes: 1 })
    await check(first, 1)
    await check(second, 1)
    await eventually('both nodes', async () => (await server.client.zcard('sluice:{nodes}')) === 2)
    // The next beat tells each of them.
    const beats = Number(await server.client.info('commandstats').then((text) => /cmdstat_zadd:calls=(\d+)/.exec(text)?.[1]))
    await eventually('further beats', async () => {
      const now = Number(await server.client.info('commandstats').then((text) => /cmdstat_zadd:calls=(\d+)/.exec(text)?.[1]))
      return now >= beats + 4
    })
    await server.kill()
    const reports = await Promise.all([check(first, 200), check(second, 200)])
    expect(reports.map((report) => report?.admitted)).toEqual([50, 50])
    expect(reports.map((report) => report?.bases.local)).toEqual([200, 200])
  })

  test.each(modes)(
    '%s: a paused Redis costs each request one deadline at most, then nothing, and answers again when it goes on',
    async (mode) => {
      const paused = await fleet.redis()
      const healthy = await fleet.redis()
      const node = await oneNode()
      const sick = specOf(onRedis(paused, { mode, onFailure: 'allow', timeoutMs: DEADLINE_MS }), oneWindow(1_000_000))
      const patient = specOf(onRedis(paused, { mode }), oneWindow(1_000_000))
      const well = specOf(onRedis(healthy), oneWindow(1_000_000))
      for (const spec of [sick, patient, well]) await node.run({ do: 'check', spec, key: 'warm', requests: 5 })
      paused.pause()
      // Until the deadline they wait, and nobody else does.
      let isWaiting = true
      const waiting = node.run({ do: 'check', spec: patient, key: KEY, requests: 4, lanes: 4 }).finally(() => {
        isWaiting = false
      })
      const other = await node.run({ do: 'check', spec: well, key: KEY, requests: 200, lanes: 4 })
      expect(other.bases).toEqual({ exact: 200 })
      expect(isWaiting).toBe(true)
      const stuck = await node.run({ do: 'check', spec: sick, key: KEY, requests: 200, lanes: 4 })
      expect(stuck.bases).toEqual({ allowed: 200 })
      // The circuit is open: not even one deadline any more.
      const open = await node.run({ do: 'check', spec: sick, key: KEY, requests: 1000, lanes: 4 })
      expect(open.bases).toEqual({ allowed: 1000 })
      expect(open.failures).toEqual({ ...stuck.failures, 'circuit-open': (stuck.failures['circuit-open'] ?? 0) + 1000 })
      expect(isWaiting).toBe(true)
      paused.resume()
      expect((await waiting).bases).toEqual({ exact: 4 })
      await eventually(
        'decisions by Redis',
        async () => (await node.run({ do: 'check', spec: sick, key: KEY, requests: 1 })).bases.exact === 1,
      )
      // What waited in its socket was executed late: it counts, and nothing was admitted for it twice.
      await eventually(
        'all of them',
        async () => (await node.run({ do: 'check', spec: sick, key: KEY, requests: 100 })).bases.exact === 100,
      )
    },
  )

  test('slots are released although Redis was away at that moment', async () => {
    const server = await fleet.redis()
    const node = await oneNode()
    const spec = specOf(onRedis(server, { timeoutMs: DEADLINE_MS }), { algorithm: 'concurrency', limit: 4, ttlMs: 3_600_000 })
    await node.run({ do: 'check', spec, key: KEY, requests: 1 })
    server.pause()
    await node.run({ do: 'check', spec, key: KEY, requests: 6, lanes: 2 })
    server.resume()
    const keys = async () => await server.client.keys('*cc:0')
    await eventually('no slot taken', async () => {
      const counts = await Promise.all((await keys()).map((key) => server.client.zcard(key)))
      return sum(counts) === 0
    })
    await eventually(
      'four at a time',
      async () => (await node.run({ do: 'check', spec, key: KEY, requests: 4, lanes: 4, keepHolds: true })).admitted === 4,
    )
  })

  test('a script that Redis forgot is sent again, in the middle of traffic', async () => {
    const server = await fleet.redis()
    const node = await oneNode()
    const spec = specOf(onRedis(server), oneWindow(100_000))
    const running = node.run({ do: 'check', spec, key: KEY, requests: 3000, lanes: 8 })
    for (let round = 0; round < 5; round++) await server.client.script('FLUSH', 'SYNC')
    expect((await running).bases).toEqual({ exact: 3000 })
  })

  test('commands of one turn leave together', async () => {
    const server = await fleet.redis()
    const node = await oneNode()
    const spec = specOf(onRedis(server), oneWindow(100_000))
    await node.run({ do: 'check', spec, key: KEY, requests: 1 })
    const readsBefore = await statOf(server.client, 'total_reads_processed')
    await node.run({ do: 'check', spec, key: KEY, requests: 2000, lanes: 100 })
    const reads = (await statOf(server.client, 'total_reads_processed')) - readsBefore
    // 20 rounds of 100, some of them read in parts; the test's own questions are a few of them.
    expect(reads).toBeLessThan(500)
  })

  async function statOf(client: { info(section: string): Promise<string> }, name: string): Promise<number> {
    return Number(new RegExp(`${name}:(\\d+)`).exec(await client.info('stats'))?.[1])
  }

  test('TLS: encrypted, and with a certificate that nobody vouches for only where it is not checked', async () => {
    const authority = await TestAuthority.create()
    const pair = await authority.issue('localhost')
    const folder = mkdtempSync(join(tmpdir(), 'redis-tls-'))
    fleet.later(() => rmSync(folder, { recursive: true, force: true }))
    writeFileSync(join(folder, 'cert.pem'), pair.cert)
    writeFileSync(join(folder, 'key.pem'), pair.key)
    const port = await ownPort()
    const files = [`tls-cert-file ${folder}/cert.pem`, `tls-key-file ${folder}/key.pem`, `tls-ca-cert-file ${folder}/cert.pem`]
    const server = await RedisServer.start({ config: [`tls-port ${port}`, 'tls-auth-clients no', ...files] })
    fleet.later(() => server.close())
    const node = await oneNode()
    const specWith = (verify: boolean) => {
      const base = onRedis(server, verify ? { timeoutMs: 1000 } : {})
      const nodes = [{ host: '127.0.0.1', port }]
      return specOf({ ...base, connection: { ...base.connection, nodes, tls: { verify, serverName: 'localhost' } } }, oneWindow(10))
    }
    expect((await node.run({ do: 'check', spec: specWith(false), key: KEY, requests: 12 })).bases).toEqual({ exact: 12 })
    expect((await node.run({ do: 'check', spec: specWith(true), key: KEY, requests: 12 })).bases).toEqual({ refused: 12 })
  })

  test('passwords: the right one works, and a wrong one is a failure that no log shows', async () => {
    const server = await fleet.redis()
    // What docs/rate-limiting.md says a user needs.
    const commands = 'info select exists evalsha eval time get set pttl pexpire zadd zrem zcard zcount zrange zrevrange zrangebyscore'
    const allowed = `${commands} zremrangebyscore zremrangebyrank`.split(' ').map((name) => `+${name}`)
    await server.client.call('ACL', 'SETUSER', 'gate', 'on', '>correct-horse', '~sluice:*', ...allowed)
    const node = await oneNode()
    const specWith = (password: string) => {
      const base = onRedis(server)
      const store: Connection = { ...base, connection: { ...base.connection, username: 'gate', password, database: 3 } }
      const log = { algorithm: 'sliding-log', limit: 20, windowMs: 60_000 } as const
      return specOf(store, oneWindow(10), log, { algorithm: 'concurrency', limit: 20, ttlMs: 60_000 })
    }
    const right = await node.run({ do: 'check', spec: specWith('correct-horse'), key: KEY, requests: 12 })
    expect([right.admitted, right.bases]).toEqual([10, { exact: 12 }])
    await server.client.select(3)
    // Counter and log; the places are released, which nobody waits for.
    await eventually('released places', async () => (await server.client.dbsize()) === 2)
    const wrong = await node.run({ do: 'check', spec: specWith('battery-staple'), key: KEY, requests: 12 })
    expect(wrong.bases).toEqual({ refused: 12 })
    expect(wrong.logged).toHaveLength(1)
    expect(wrong.logged.join()).not.toMatch(/battery|horse/)
  })
})
