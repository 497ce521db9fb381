/** The stores of rate limits of one thread, with what they count. */
import { randomUUID } from 'node:crypto'
import { fineWallClock, systemClock, wallMs } from '../base/clock.js'
import type { ClusterCounters } from '../cluster/counters.js'
import { RedisStore } from '../cluster/redis-store.js'
import { LocalLimiterStore } from '../shared/limiter-store.js'
import type { Counter, CounterName, WorkerMetrics } from '../shared/metrics-slab.js'

export interface LimitStoresOptions {
  readonly region: SharedArrayBuffer
  /** Member of the region: the index of the worker. */
  readonly member: number
  readonly workers: number
  /** Names this process among all gateways. */
  readonly nodeId: string
  readonly metrics: WorkerMetrics
  readonly log: (level: 'info' | 'warn', message: string) => void
}

export function openLimitStores(options: LimitStoresOptions): { readonly local: LocalLimiterStore; readonly redis: RedisStore } {
  const local = new LocalLimiterStore(options.region, options.member, wallMs, fineWallClock())
  const redis = new RedisStore({
    clock: systemClock,
    workers: options.workers,
    nodeId: options.nodeId,
    workerId: `${options.nodeId}:${options.member}:${randomUUID()}`,
    local,
    counters: clusterCounters(options.metrics),
    log: options.log,
  })
  return { local, redis }
}

function clusterCounters(metrics: WorkerMetrics): ClusterCounters {
  const known = new Map<string, Counter>()
  /** Counters that most gateways never need, made on first use. */
  const counterOf = (name: CounterName, label: string): Counter => {
    const key = `${name} ${label}`
    const found = known.get(key) ?? metrics.counter(name, [label])
    known.set(key, found)
    return found
  }
  return {
    called: () => counterOf('rate_limit_store_calls', 'redis').add(1),
    failed: (reason) => counterOf('rate_limit_store_errors', reason).add(1),
    decidedByPolicy: (policy) => counterOf('rate_limit_fallbacks', policy).add(1),
    leased: (units) => counterOf('rate_limit_lease_units', 'taken').add(units),
    spent: (units) => counterOf('rate_limit_lease_units', 'spent').add(units),
    returned: (units) => counterOf('rate_limit_lease_units', 'returned').add(units),
    lost: (units) => counterOf('rate_limit_lease_units', 'lost').add(units),
  }
}
