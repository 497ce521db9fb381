/** Where the plugins of one worker get their limiters from: chooses the store, counts decisions and the requests that wait. */
import type { BoundLimiter, LimiterSpec, LimiterStore } from '../../limits/contract.js'
import type { WorkerMetrics } from '../../shared/metrics-slab.js'
import type { LimiterSource } from '../link-kit.js'
import { CountedLimiter, LimitCounters } from './counted-limiter.js'

export interface LimitStores {
  readonly local: LimiterStore
  /** All kinds of Redis. */
  readonly redis: LimiterStore
}

/** Longest wait of one timer, milliseconds: Node lets longer ones end at once. */
const TIMER_MAX_MS = 2 ** 31 - 1

export class WorkerLimits implements LimiterSource {
  private waiting = 0

  constructor(
    private readonly stores: LimitStores,
    private readonly metrics: WorkerMetrics,
    private readonly delay: (ms: number) => Promise<void>,
  ) {}

  bind(plugin: string, routeId: string, spec: LimiterSpec): BoundLimiter {
    const store = spec.store.kind === 'local' ? this.stores.local : this.stores.redis
    return new CountedLimiter(store.bind(spec), new LimitCounters(this.metrics, plugin, routeId))
  }

  queue(ms: number): Promise<void> {
    this.metrics.setQueuedByLimits(++this.waiting)
    return this.wait(ms).then(this.left)
  }

  private wait(ms: number): Promise<void> {
    return ms <= TIMER_MAX_MS ? this.delay(ms) : this.delay(TIMER_MAX_MS).then(() => this.wait(ms - TIMER_MAX_MS))
  }

  private readonly left = (): void => {
    this.metrics.setQueuedByLimits(--this.waiting)
  }
}
