/** Circuit breakers as tests want them: real cells of their own, made when they are first used, and a time told by the test. */
import type {
  BreakerEvent,
  BreakerSet,
  BreakerSpec,
  DeclaredBreaker,
  PathBreakerSettings,
  PathBreakers,
} from '../../src/breakers/contract.js'
import { WorkerBreakers } from '../../src/dataplane/breakers/worker-breakers.js'
import { BREAKERS_BYTES } from '../../src/shared/breaker-cells.js'
import { METRICS_SLAB_BYTES, WorkerMetrics } from '../../src/shared/metrics-slab.js'
import { createPathBreakersRegion } from '../../src/shared/path-breakers.js'

export class FakeBreakers {
  /** Monotonic milliseconds. */
  nowMs = 100_000_000
  readonly events: BreakerEvent[] = []
  readonly declared: DeclaredBreaker[] = []
  private made: WorkerBreakers | null = null

  bind(spec: BreakerSpec): BreakerSet {
    return this.source.bind('test', '1', spec)
  }

  bindPaths(settings: PathBreakerSettings): PathBreakers {
    return this.source.bindPaths('test', '1', settings)
  }

  private get source(): WorkerBreakers {
    this.made ??= new WorkerBreakers({
      region: new SharedArrayBuffer(BREAKERS_BYTES),
      pathRegion: createPathBreakersRegion([1, 2]),
      member: 0,
      now: () => this.nowMs,
      recent: () => this.nowMs,
      metrics: new WorkerMetrics(new SharedArrayBuffer(METRICS_SLAB_BYTES), () => undefined),
      declare: (breaker) => this.declared.push(breaker),
      report: (event) => this.events.push(event),
      log: () => undefined,
    })
    return this.made
  }
}
