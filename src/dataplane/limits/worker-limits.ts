/** Where the plugins of one worker get their limiters from: chooses the store, counts decisions and the requests that wait. */
import type { BoundLimiter, LimiterSpec, LimiterStore } from '../../limits/contract.js'
import type { WorkerMetrics } from '../../shared/metrics-slab.js'
import type { LimiterSource } from '../link-kit.js'
import { CountedLimiter, LimitCounters } from './counted-limiter.js'
import type { QueuePlace } from './limit-group.js'

export interface LimitStores {
  readonly local: LimiterStore
  /** All kinds of Redis. */
  readonly redis: LimiterStore
}

/** Longest wait of one timer, milliseconds: Node lets longer ones end at once. */
const TIMER_MAX_MS = 2 ** 31 - 1

/** Calls back after so many milliseconds, unless what it returns is called before. */
export type After = (ms: number, callback: () => void) => () => void

export class WorkerLimits implements LimiterSource {
  private waiting = 0

  constructor(
    private readonly stores: LimitStores,
    private readonly metrics: WorkerMetrics,
    private readonly after: After,
  ) {}

  bind(plugin: string, routeId: string, spec: LimiterSpec): BoundLimiter {
    const store = spec.store.kind === 'local' ? this.stores.local : this.stores.redis
    return new CountedLimiter(store.bind(spec), new LimitCounters(this.metrics, plugin, routeId))
  }

  queue(ms: number): QueuePlace {
    this.metrics.setQueuedByLimits(++this.waiting)
    let end: (() => void) | null = null
    let cancel = (): void => undefined
    const over = new Promise<void>((resolve) => {
      end = resolve
    })
    const leave = (): void => {
      if (end === null) return
      cancel()
      this.metrics.setQueuedByLimits(--this.waiting)
      end()
      end = null
    }
    const wait = (left: number): void => {
      cancel = this.after(Math.min(left, TIMER_MAX_MS), left <= TIMER_MAX_MS ? leave : () => wait(left - TIMER_MAX_MS))
    }
    wait(ms)
    return { over, leave }
  }
}
