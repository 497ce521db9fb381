/** What the tests with several node processes share: servers, nodes and specs, ended together. */
import type { LimiterSpec, LimitRule, StoreSpec } from '../../src/limits/contract.js'
import { type RedisClusterServers, type RedisSentinelServers, RedisServer } from '../support/redis.js'
import { NodeProcess } from './nodes.js'

export type Connection = Exclude<StoreSpec, { kind: 'local' }>

export class Fleet {
  private readonly closing: (() => unknown)[] = []
  private nextId = 0

  constructor(private readonly program: string) {}

  later(close: () => unknown): void {
    this.closing.push(close)
  }

  async redis(): Promise<RedisServer> {
    const server = await RedisServer.start()
    this.later(() => server.close())
    return server
  }

  async nodes(count: number): Promise<NodeProcess[]> {
    const nodes = await Promise.all(Array.from({ length: count }, () => NodeProcess.start(this.program, { id: `node-${this.nextId++}` })))
    for (const node of nodes) this.later(() => node.kill())
    return nodes
  }

  async close(): Promise<void> {
    for (const close of this.closing.splice(0).reverse()) await close()
  }
}

/** Deadlines so long that none decides, unless a test wants one. */
const bare = { username: null, password: null, database: 0, tls: null, timeoutMs: 60_000, sentinel: null } as const

export function onRedis(server: RedisServer, change: Partial<Connection> & { timeoutMs?: number } = {}): Connection {
  const { timeoutMs = bare.timeoutMs, ...store } = change
  return { kind: 'redis', mode: 'exact', onFailure: 'refuse', connection: { ...bare, timeoutMs, nodes: [server.address] }, ...store }
}

export function onCluster(cluster: RedisClusterServers, change: Partial<Connection> & { timeoutMs?: number } = {}): Connection {
  const { timeoutMs = bare.timeoutMs, ...store } = change
  const connection = { ...bare, timeoutMs, nodes: cluster.nodes.slice(0, 1) }
  return { kind: 'redis-cluster', mode: 'exact', onFailure: 'refuse', connection, ...store }
}

export function onSentinel(servers: RedisSentinelServers, masterName: string, change: Partial<Connection> = {}): Connection {
  const sentinel = { masterName, role: 'master', username: null, password: null } as const
  const connection = { ...bare, nodes: [servers.sentinel.address], sentinel }
  return { kind: 'redis-sentinel', mode: 'exact', onFailure: 'refuse', connection, ...change }
}

/** A fixed window that does not end during a test. */
export function oneWindow(limit: number): LimitRule {
  return { algorithm: 'fixed-window', limit, windowMs: 3_600_000, start: 'first-hit' }
}

let nextScope = 0

export function specOf(store: StoreSpec, ...rules: LimitRule[]): LimiterSpec {
  return { scope: `test-${process.pid}-${nextScope++}`, rules, countRefused: false, dryRun: false, store }
}

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
