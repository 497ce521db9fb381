import { createSocket, type Socket } from 'node:dgram'
import packet from 'dns-packet'
import { afterEach, describe, expect, test } from 'vitest'
import { ManualClock } from '../../src/base/clock.js'
import { UsageError } from '../../src/base/errors.js'
import { DnsResolver, type NodesUpdate } from '../../src/controlplane/dns.js'
import type { Lookup } from '../../src/controlplane/dns-query.js'
import type { CompiledConfig, CompiledNode, CompiledUpstream } from '../../src/schema/compiled.js'

type Family = 'A' | 'AAAA'
type Reaction = readonly string[] | 'servfail' | 'nxdomain' | 'silent'
interface Zone {
  readonly A: Reaction
  readonly AAAA?: Reaction
  readonly ttl?: number
}

/** A real DNS server on a loopback port; what it answers can be changed at any time. Names it does not know are NXDOMAIN. */
class NameServer {
  readonly zones = new Map<string, Zone>()
  readonly queries: string[] = []
  private readonly socket: Socket = createSocket('udp4')
  private readonly held: (() => void)[] = []
  private isHolding = false

  async start(): Promise<this> {
    this.socket.on('message', (message, peer) => {
      const query = packet.decode(message)
      const question = query.questions?.[0]
      if (question === undefined || (question.type !== 'A' && question.type !== 'AAAA')) return
      this.queries.push(`${question.type} ${question.name}`)
      const answer = this.answer(question.name, question.type)
      if (answer === null) return
      const bytes = packet.encode({ ...answer, type: 'response', id: query.id ?? 0, questions: [question] })
      const send = () => this.socket.send(bytes, peer.port, peer.address)
      if (this.isHolding) this.held.push(send)
      else send()
    })
    await new Promise<void>((resolve) => this.socket.bind(0, '127.0.0.1', resolve))
    return this
  }

  get address(): string {
    return `127.0.0.1:${this.socket.address().port}`
  }

  /** Keeps answers back until `release`. */
  hold(): void {
    this.isHolding = true
  }

  release(): void {
    this.isHolding = false
    for (const send of this.held.splice(0)) send()
  }

  close(): void {
    this.socket.close()
  }

  private answer(name: string, type: Family): { readonly flags: number; readonly answers: packet.Answer[] } | null {
    const zone = this.zones.get(name)
    const reaction = zone === undefined ? 'nxdomain' : (zone[type] ?? [])
    if (reaction === 'silent') return null
    if (reaction === 'servfail') return { flags: 2, answers: [] }
    if (reaction === 'nxdomain') return { flags: 3, answers: [] }
    return { flags: 0, answers: reaction.map((data) => ({ type, name, ttl: zone?.ttl ?? 60, data })) }
  }
}

const noHosts: Lookup = () => Promise.reject(new Error('ENOTFOUND'))
const cleanups: (() => void)[] = []
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup()
})

async function setup(options: { readonly lookup?: Lookup; readonly ttlMs?: number; readonly timeoutMs?: number } = {}) {
  const server = await new NameServer().start()
  const clock = new ManualClock()
  const logged: string[] = []
  const resolver = new DnsResolver({
    servers: [server.address],
    ttlMs: options.ttlMs ?? 0,
    timeoutMs: options.timeoutMs ?? 30_000,
    clock,
    log: (level, message) => logged.push(`${level}: ${message}`),
    lookup: options.lookup ?? noHosts,
  })
  cleanups.push(
    () => resolver.close(),
    () => server.close(),
  )
  /** Resolves with the next report of a change. */
  const nextChange = () =>
    new Promise<{ updates: readonly NodesUpdate[]; config: CompiledConfig }>((resolve) => {
      resolver.onChange((updates, config) => resolve({ updates, config }))
    })
  /** Runs timers that are due, and waits until the queries that they began are over. */
  const advance = async (ms: number) => {
    clock.advance(ms)
    await expect.poll(() => clock.pending, { interval: 5 }).toBeGreaterThan(0)
  }
  return { server, clock, logged, resolver, nextChange, advance }
}

function node(host: string, address = '', weight = 1): CompiledNode {
  return { host, address, port: 80, weight, priority: 0 }
}

function configOf(...upstreams: CompiledNode[][]): CompiledConfig {
  const timeout = { connectMs: 1, sendMs: 1, readMs: 1 }
  return {
    router: { mode: 'radixtree_host_uri', path: { encodedSlash: 'keep', doubleSlash: 'merge', deleteTailSlash: false, servlet: false } },
    routes: [],
    globalPlugins: [],
    keySets: [],
    upstreams: upstreams.map(
      (nodes, index): CompiledUpstream => ({
        key: `upstreams/${index}`,
        name: '',
        type: 'roundrobin',
        balancing: { hash: null, slowStart: null, ewmaDecayMs: 10_000, allUnhealthy: 'fail_open', subset: null },
        scheme: 'http',
        nodes,
        passHost: 'pass',
        upstreamHost: '',
        retries: -1,
        retryTimeoutMs: 0,
        timeout,
        keepalive: { size: 1, idleTimeoutMs: 1, requests: 1, pipelining: 1 },
        tls: null,
        rotor: index,
      }),
    ),
  }
}

function addresses(config: CompiledConfig, upstream = 0): string[] | undefined {
  return config.upstreams[upstream]?.nodes.map((item) => item.address)
}

describe('resolving a configuration', () => {
  test('every address of a name is a node with the weight of the name; literals and sockets stay', async () => {
    const { server, resolver } = await setup()
    server.zones.set('two.test', { A: ['10.0.0.2', '10.0.0.1'], AAAA: ['fd00::1'] })
    const literals = [node('127.0.0.1', '127.0.0.1', 3), node('localhost', '/run/a.sock')]
    const config = configOf([...literals, node('two.test', '', 5)], literals)
    const resolved = await resolver.resolveAll(config)
    expect(resolved.upstreams[0]?.nodes).toEqual([
      ...literals,
      node('two.test', '10.0.0.1', 5),
      node('two.test', '10.0.0.2', 5),
      node('two.test', 'fd00::1', 5),
    ])
    expect(resolved.upstreams[1]?.nodes).toEqual(literals)
    expect(addresses(config)).toEqual(['127.0.0.1', '/run/a.sock', ''])
  })

  test('a name is asked once, however many nodes have it, also while it is being asked', async () => {
    const { server, resolver } = await setup()
    server.zones.set('a.test', { A: ['10.0.0.1'] })
    server.hold()
    const both = Promise.all([
      resolver.resolveAll(configOf([node('a.test')], [node('A.test')])),
      resolver.resolveAll(configOf([node('a.test')])),
    ])
    await expect.poll(() => server.queries.length).toBe(2)
    server.release()
    const [first, second] = await both
    expect([addresses(first, 0), addresses(first, 1), addresses(second)]).toEqual([['10.0.0.1'], ['10.0.0.1'], ['10.0.0.1']])
    expect(server.queries.sort()).toEqual(['A a.test', 'AAAA a.test'])
  })

  test('a reload takes what is known without asking', async () => {
    const { server, resolver } = await setup()
    server.zones.set('a.test', { A: ['10.0.0.1'] })
    await resolver.resolveAll(configOf([node('a.test')]))
    server.zones.set('a.test', { A: ['10.0.0.2'] })
    expect(addresses(await resolver.resolveAll(configOf([node('a.test')])))).toEqual(['10.0.0.1'])
    expect(server.queries).toHaveLength(2)
  })

  test('more names than are asked at once are all resolved', async () => {
    const { server, resolver } = await setup()
    const names = Array.from({ length: 200 }, (_, index) => `n${index}.test`)
    for (const [index, name] of names.entries()) server.zones.set(name, { A: [`10.0.1.${index}`] })
    const resolved = await resolver.resolveAll(configOf(...names.map((name) => [node(name)])))
    expect(names.map((_, index) => addresses(resolved, index))).toEqual(names.map((_, index) => [`10.0.1.${index}`]))
  })

  test('an unknown name has no nodes, is logged once, and gets them when it is known', async () => {
    const { server, resolver, logged, nextChange, advance } = await setup()
    const resolved = await resolver.resolveAll(configOf([node('127.0.0.1', '127.0.0.1')], [node('late.test', '', 2)]))
    expect(addresses(resolved, 1)).toEqual([])
    await advance(1_000)
    expect(logged).toEqual(['warn: upstream name late.test does not resolve (ENOTFOUND); it has no nodes until it does'])
    const change = nextChange()
    server.zones.set('late.test', { A: ['10.0.0.9'] })
    await advance(2_000)
    const { updates, config } = await change
    expect(updates).toEqual([{ upstream: 1, nodes: [node('late.test', '10.0.0.9', 2)] }])
    expect(config).toBe(resolved)
    expect(logged.at(-1)).toBe('info: upstream name late.test resolves again')
  })

  test('a resolver that never answers costs the timeout, not more', async () => {
    const { server, resolver } = await setup({ timeoutMs: 250 })
    server.zones.set('silent.test', { A: 'silent', AAAA: 'silent' })
    expect(addresses(await resolver.resolveAll(configOf([node('silent.test')])))).toEqual([])
  })

  test('a wrong resolver address is one clear line', () => {
    const make = () =>
      new DnsResolver({ servers: ['not-an-ip'], ttlMs: 0, timeoutMs: 1, clock: new ManualClock(), log: () => undefined, lookup: noHosts })
    expect(make).toThrow(UsageError)
    expect(make).toThrow('sluice.dns.servers')
  })
})

describe('hosts file', () => {
  const hosts: Lookup = (name) =>
    name === 'box.lan' || name === 'localhost'
      ? Promise.resolve([{ address: '192.168.1.5', family: 4 }])
      : Promise.reject(new Error('ENOTFOUND'))

  test('is used for what the resolvers do not know, and looked up again', async () => {
    const { resolver, server, advance } = await setup({ lookup: hosts })
    expect(addresses(await resolver.resolveAll(configOf([node('box.lan')])))).toEqual(['192.168.1.5'])
    const before = server.queries.length
    await advance(10_000)
    await expect.poll(() => server.queries.length).toBeGreaterThan(before)
  })

  test('localhost is never asked from a resolver', async () => {
    const { resolver, server } = await setup({ lookup: hosts })
    expect(addresses(await resolver.resolveAll(configOf([node('localhost')])))).toEqual(['192.168.1.5'])
    expect(server.queries).toEqual([])
  })

  test('the real one knows localhost', async () => {
    const clock = new ManualClock()
    const resolver = new DnsResolver({ servers: [], ttlMs: 0, timeoutMs: 1_000, clock, log: () => undefined })
    cleanups.push(() => resolver.close())
    expect(addresses(await resolver.resolveAll(configOf([node('localhost')])))).toContain('127.0.0.1')
  })
})

describe('changes', () => {
  test('are reported after the TTL, with the smallest TTL of both families', async () => {
    const { server, resolver, clock, nextChange } = await setup()
    server.zones.set('a.test', { A: ['10.0.0.1'], ttl: 7 })
    const resolved = await resolver.resolveAll(configOf([node('127.0.0.1', '127.0.0.1'), node('a.test', '', 4)]))
    server.zones.set('a.test', { A: ['10.0.0.2', '10.0.0.3'], ttl: 7 })
    const change = nextChange()
    clock.advance(6_999)
    expect(server.queries).toHaveLength(2)
    clock.advance(1)
    const { updates, config } = await change
    expect(updates).toEqual([
      { upstream: 0, nodes: [node('127.0.0.1', '127.0.0.1'), node('a.test', '10.0.0.2', 4), node('a.test', '10.0.0.3', 4)] },
    ])
    expect(config).toBe(resolved)
  })

  test.each([
    ['a TTL of 0 counts as 1 s', 0, 0, 1_000],
    ['a configured TTL beats the answer', 5_000, 60, 5_000],
    ['a configured TTL has the same floor', 10, 60, 1_000],
  ])('%s', async (_, ttlMs, ttl, expected) => {
    const { server, resolver, clock } = await setup({ ttlMs })
    server.zones.set('a.test', { A: ['10.0.0.1'], ttl })
    await resolver.resolveAll(configOf([node('a.test')]))
    clock.advance(expected - 1)
    expect(clock.pending).toBe(1)
    clock.advance(1)
    await expect.poll(() => server.queries.length).toBe(4)
  })

  test('the same addresses in another order are no change', async () => {
    const { server, resolver, advance } = await setup()
    const reports: unknown[] = []
    resolver.onChange((updates) => reports.push(updates))
    server.zones.set('a.test', { A: ['10.0.0.1', '10.0.0.2'], ttl: 1 })
    await resolver.resolveAll(configOf([node('a.test')]))
    server.zones.set('a.test', { A: ['10.0.0.2', '10.0.0.1'], ttl: 1 })
    await advance(1_000)
    expect(server.queries).toHaveLength(4)
    expect(reports).toEqual([])
  })

  test.each(['servfail', 'nxdomain'] as const)('%s keeps the last addresses and asks again', async (reaction) => {
    const { server, resolver, logged, nextChange, advance } = await setup()
    server.zones.set('a.test', { A: ['10.0.0.1'], ttl: 1 })
    await resolver.resolveAll(configOf([node('a.test')]))
    server.zones.set('a.test', { A: reaction, AAAA: reaction })
    await advance(1_000)
    await advance(1_000)
    expect(logged).toHaveLength(1)
    expect(logged[0]).toMatch(/^warn: upstream name a\.test does not resolve \(E[A-Z]+\); its last addresses are kept$/)
    expect(addresses(await resolver.resolveAll(configOf([node('a.test')])))).toEqual(['10.0.0.1'])
    const change = nextChange()
    server.zones.set('a.test', { A: ['10.0.0.2'] })
    await advance(2_000)
    expect((await change).updates[0]?.nodes.map((item) => item.address)).toEqual(['10.0.0.2'])
  })

  test('one family that fails keeps its last addresses beside the fresh ones of the other', async () => {
    const { server, resolver, nextChange, advance } = await setup()
    server.zones.set('a.test', { A: ['10.0.0.1'], AAAA: ['fd00::1'], ttl: 1 })
    await resolver.resolveAll(configOf([node('a.test')]))
    server.zones.set('a.test', { A: ['10.0.0.2'], AAAA: 'servfail', ttl: 1 })
    const change = nextChange()
    await advance(1_000)
    expect((await change).updates[0]?.nodes.map((item) => item.address)).toEqual(['10.0.0.2', 'fd00::1'])
  })

  test('names that the latest configuration does not use are no longer asked', async () => {
    const { server, resolver, clock } = await setup()
    server.zones.set('a.test', { A: ['10.0.0.1'], ttl: 1 })
    await resolver.resolveAll(configOf([node('a.test')]))
    await resolver.resolveAll(configOf([node('127.0.0.1', '127.0.0.1')]))
    expect(clock.pending).toBe(0)
  })

  test('after close nothing runs any more', async () => {
    const { server, resolver, clock } = await setup()
    server.zones.set('a.test', { A: ['10.0.0.1'], ttl: 1 })
    await resolver.resolveAll(configOf([node('a.test')]))
    resolver.close()
    expect(clock.pending).toBe(0)
  })
})
