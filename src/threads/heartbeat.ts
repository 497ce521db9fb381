/**
 * Watches the heartbeats of the workers. A worker whose event loop hangs cannot be ended from outside without ending the process
 * (see worker-handle), so what is possible is to say so, once when it begins and once when it is over.
 */
import type { ProcessLog } from '../telemetry/process-log.js'

export interface Heartbeat {
  readonly index: number
  readonly state: string
  /** Milliseconds since the last beat. */
  readonly beatAgeMs: number
}

export class HeartbeatWatch {
  private readonly stalled = new Set<number>()

  constructor(
    private readonly log: ProcessLog,
    /** Older beats than this are a stall, milliseconds. */
    private readonly limitMs = 3_000,
  ) {}

  /** Looks at all workers once. */
  check(workers: readonly Heartbeat[]): void {
    for (const { index, state, beatAgeMs } of workers) {
      const isStalled = (state === 'serving' || state === 'draining') && beatAgeMs > this.limitMs
      if (isStalled === this.stalled.has(index)) continue
      if (isStalled) {
        this.stalled.add(index)
        this.log.warn(`worker ${index} does not respond: its last heartbeat is ${Math.round(beatAgeMs)} ms old`, {
          worker: index,
          beatAgeMs,
        })
      } else {
        this.stalled.delete(index)
        this.log.info(`worker ${index} responds again`, { worker: index })
      }
    }
  }
}
