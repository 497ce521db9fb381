/**
 * The limiter store of one worker that keeps its counters in Redis: redis, redis-cluster or redis-sentinel, exact or by leases.
 * Made once per worker and told to close before the worker ends.
 */
import type { Clock } from '../base/clock.js'
import type { BoundLimiter, LimiterSpec, LimiterStore, StoreSpec } from '../limits/contract.js'
import { specProblem } from '../limits/problem.js'
import type { RedisClient } from './client.js'
import { RedisClients } from './clients.js'
import type { ClusterCounters } from './counters.js'
import { ExactLimiter, type LimiterParts } from './exact-limiter.js'
import { Fallback } from './fallback.js'
import { HoldBook } from './holds.js'
import { RedisJoint } from './joint.js'
import { LeaseLimiter } from './lease-limiter.js'
import { NodeRegistry } from './nodes.js'
import { loadScripts, type Scripts } from './script.js'
import { type RedisSettings, redisDefaults, settingsKey } from './settings.js'

type RedisStoreSpec = Exclude<StoreSpec, { readonly kind: 'local' }>

export interface RedisStoreOptions {
  /** Worker threads of this process: each has a store of its own. */
  readonly workers: number
  readonly clock: Clock
  /** Names this process among all nodes; the same for its workers. */
  readonly nodeId: string
  /** Names this worker, also among its predecessors in the same slot. */
  readonly workerId: string
  /** Decides under the failure policy `local`. */
  readonly local: LimiterStore
  readonly counters: ClusterCounters
  readonly log: (level: 'info' | 'warn', message: string) => void
}

/** The contract's connection as settings. Throws RangeError for what Redis cannot do for limits, by name. */
export function settingsOf(store: RedisStoreSpec | Pick<RedisStoreSpec, 'kind' | 'connection'>): RedisSettings {
  const { connection, kind } = store
  const [first] = connection.nodes
  if (first === undefined) throw new RangeError(`policy ${kind}: no address of a server is given`)
  const common = {
    username: connection.username ?? '',
    password: connection.password ?? '',
    tls: connection.tls === null ? null : { verify: connection.tls.verify, serverName: connection.tls.serverName ?? '' },
    deadlineMs: connection.timeoutMs,
    keyPrefix: redisDefaults.keyPrefix,
  }
  switch (kind) {
    case 'redis':
      return { ...common, mode: 'redis', host: first.host, port: first.port, database: connection.database }
    case 'redis-cluster':
      if (connection.database !== 0) throw new RangeError(`redis_database ${connection.database}: a Redis cluster has only database 0`)
      return { ...common, mode: 'redis-cluster', nodes: connection.nodes }
    case 'redis-sentinel': {
      const { sentinel } = connection
      if (sentinel === null) throw new RangeError('policy redis-sentinel: the name of the master is not given')
      if (sentinel.role === 'slave')
        throw new RangeError('redis_role slave: limits are counted by writing, which a replica refuses; use master')
      return {
        ...common,
        mode: 'redis-sentinel',
        sentinels: connection.nodes,
        masterName: sentinel.masterName,
        sentinelUsername: sentinel.username ?? '',
        sentinelPassword: sentinel.password ?? '',
        database: connection.database,
      }
    }
  }
}

export class RedisStore implements LimiterStore {
  private readonly scripts: Scripts = loadScripts()
  private readonly clients: RedisClients
  private readonly holds: HoldBook
  private readonly registries = new Map<RedisClient, NodeRegistry>()
  private readonly leases = new Set<WeakRef<LeaseLimiter>>()
  private readonly joints = new Map<string, WeakRef<RedisJoint>>()

  constructor(private readonly options: RedisStoreOptions) {
    const { clock, counters, log, workerId } = options
    this.clients = new RedisClients({ clock, log })
    this.holds = new HoldBook({ script: this.scripts.release, clock, counters, workerId })
  }

  /** Connects, without waiting for it. Throws RangeError with what this store cannot do. */
  bind(spec: LimiterSpec): BoundLimiter {
    const { store } = spec
    if (store.kind === 'local') throw new RangeError('a local limit was given to the Redis store')
    const problem = specProblem(spec)
    if (problem !== null) throw new RangeError(`limiter "${spec.scope}": ${problem}`)
    const client = this.clients.reach(settingsOf(store))
    const parts: LimiterParts = {
      client,
      scripts: this.scripts,
      clock: this.options.clock,
      counters: this.options.counters,
      holds: this.holds,
      fallback: store.onFailure === 'local' ? new Fallback(spec, this.options.local, this.nodesOf(client)) : null,
      onFailure: store.onFailure,
      workers: this.options.workers,
    }
    if (store.mode === 'exact') {
      client()
      return new ExactLimiter(spec, parts, this.jointOf(store, client))
    }
    const limiter = new LeaseLimiter(spec, parts)
    client()
    this.remember(limiter)
    return limiter
  }

  /** Gives leases back, ends holds, leaves the registry, closes the connections. Bounded by two deadlines of the slowest Redis. */
  async close(): Promise<void> {
    const limiters = [...this.leases].flatMap((reference) => reference.deref() ?? [])
    this.leases.clear()
    await Promise.all([...limiters.map((limiter) => limiter.close()), this.holds.close()])
    await Promise.all([...this.registries.values()].map((registry) => registry.close()))
    this.registries.clear()
    this.clients.close()
  }

  /** Limiters of configurations that were reloaded away are collected once their units are given back. */
  private remember(limiter: LeaseLimiter): void {
    for (const reference of this.leases) if (reference.deref() === undefined) this.leases.delete(reference)
    this.leases.add(new WeakRef(limiter))
  }

  /** Limits of one server share their joint. */
  private jointOf(store: RedisStoreSpec, client: () => RedisClient): RedisJoint {
    const isCluster = store.kind === 'redis-cluster'
    const make = (): RedisJoint => new RedisJoint({ client, script: this.scripts.decideAll, counters: this.options.counters, isCluster })
    const key = settingsKey(settingsOf(store))
    for (const [known, reference] of this.joints) if (reference.deref() === undefined) this.joints.delete(known)
    const joint = this.joints.get(key)?.deref() ?? make()
    this.joints.set(key, new WeakRef(joint))
    return joint
  }

  private nodesOf(client: () => RedisClient): () => number {
    const { clock, nodeId } = this.options
    const registry = (): NodeRegistry => {
      const current = client()
      const known = this.registries.get(current)
      if (known !== undefined) return known
      const made = new NodeRegistry({ client: current, script: this.scripts.nodes, clock, nodeId })
      this.registries.set(current, made)
      return made
    }
    registry()
    return () => registry().count
  }
}
