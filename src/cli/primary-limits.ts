/** The primary's part in rate limits: it looks keys up, watches the table, and returns what workers that ended held. */
import { fineWallClock, systemClock, wallMs } from '../base/clock.js'
import type { RedisStore } from '../cluster/redis-store.js'
import type { DeclaredLimiter } from '../limits/declared.js'
import type { CompiledRoute, Json } from '../schema/compiled.js'
import { LocalLimiterStore } from '../shared/limiter-store.js'
import type { ProcessLog } from '../telemetry/process-log.js'
import type { LimitTableState } from '../telemetry/status-server.js'
import { type LimitQuery, lookUpLimits } from './limit-lookup.js'

export interface PrimaryLimitsOptions {
  readonly region: SharedArrayBuffer
  /** Member of the region that is the primary's. */
  readonly member: number
  readonly nodeId: string
  readonly log: ProcessLog
}

export class PrimaryLimits {
  private readonly local: LocalLimiterStore
  private redis: Promise<RedisStore> | null = null

  constructor(private readonly options: PrimaryLimitsOptions) {
    this.local = new LocalLimiterStore(options.region, options.member, wallMs, fineWallClock())
  }

  /** The thread of a worker has ended, and none has taken its place yet. */
  workerEnded(index: number): void {
    const returned = this.local.recoverMember(index)
    if (returned > 0) this.options.log.info(`${returned} place(s) in concurrency limits that worker ${index} held are free again`)
  }

  lookUp(query: LimitQuery, limiters: readonly DeclaredLimiter[], routes: readonly CompiledRoute[]): Promise<Json> {
    return lookUpLimits(query, { limiters, routes, local: this.local, redis: () => this.openRedis() })
  }

  tableState(): LimitTableState {
    const { sharedDecisions, fullDecisions, bytes } = this.local.stats()
    return { fill: this.local.fill(), capacityBytes: bytes, shared: sharedDecisions, full: fullDecisions }
  }

  async close(): Promise<void> {
    await (await this.redis)?.close()
  }

  /** The client library is loaded and connections are made at the first question that needs them. */
  private openRedis(): Promise<RedisStore> {
    this.redis ??= import('../cluster/redis-store.js').then(
      (module) =>
        new module.RedisStore({
          workers: 1,
          clock: systemClock,
          nodeId: this.options.nodeId,
          workerId: `${this.options.nodeId}:primary`,
          local: this.local,
          // What the operator asks is no traffic.
          counters: uncounted,
          log: (level, message) => this.options.log[level](message),
        }),
    )
    return this.redis
  }
}

const nothing = (): void => undefined

const uncounted = {
  called: nothing,
  failed: nothing,
  decidedByPolicy: nothing,
  leased: nothing,
  spent: nothing,
  returned: nothing,
  lost: nothing,
}
