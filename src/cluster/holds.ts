/**
 * The holds of concurrency limits that one worker has open in Redis, and those in the local store that stand in for it.
 *
 * A release that fails is tried again every RETRY_MS until the hold's time to live is over, when Redis forgets it by itself. Ending a
 * hold twice in Redis changes nothing, so trying again is safe.
 */
import type { Clock } from '../base/clock.js'
import type { RedisClient } from './client.js'
import type { ClusterCounters } from './counters.js'
import { RedisFailure } from './errors.js'
import type { Script } from './script.js'

const RETRY_MS = 1000
/** Failed releases that are remembered; what is beyond expires in Redis by its time to live. */
export const RETRIES_MAX = 100_000
/** Releases tried at a time after an outage, so that they do not crowd out decisions. */
const RETRY_BATCH = 1000

interface RedisHold {
  readonly client: () => RedisClient
  readonly keys: readonly string[]
  readonly name: string
  readonly cost: number
  readonly ttlMs: number
}

interface LocalHold {
  readonly owner: { release(hold: number): void }
  readonly hold: number
}

interface FailedRelease {
  readonly hold: RedisHold
  readonly untilMs: number
}

export interface HoldBookOptions {
  readonly script: Script
  readonly clock: Clock
  readonly counters: ClusterCounters
  /** Unique among all workers of all nodes, and among restarts. */
  readonly workerId: string
}

export class HoldBook {
  private readonly held = new Map<number, RedisHold | LocalHold>()
  private failed: FailedRelease[] = []
  private nextHold = 0
  private nextName = 0
  private cancel: (() => void) | null = null
  private readonly releasing = new Set<Promise<void>>()

  constructor(private readonly options: HoldBookOptions) {}

  /** A name for a hold that no other has had. */
  name(): string {
    return `${this.options.workerId}:${(this.nextName++).toString(36)}`
  }

  /** Notes a hold that Redis has given. Returns the number that ends it. */
  open(hold: RedisHold): number {
    const number = this.nextHold++
    this.held.set(number, hold)
    return number
  }

  /** Notes a hold of the local store. */
  adopt(owner: LocalHold['owner'], hold: number): number {
    const number = this.nextHold++
    this.held.set(number, { owner, hold })
    return number
  }

  /** Ends a hold; −1 and what was ended before are ignored. */
  end(number: number): void {
    const hold = this.held.get(number)
    if (hold === undefined) return
    this.held.delete(number)
    if ('owner' in hold) hold.owner.release(hold.hold)
    else this.release(hold, this.options.clock.nowMs() + hold.ttlMs)
  }

  /** Holds that are open. */
  get size(): number {
    return this.held.size
  }

  /** Ends every hold, and resolves when Redis has answered or the deadlines are over. */
  async close(): Promise<void> {
    for (const number of [...this.held.keys()]) this.end(number)
    await Promise.all(this.releasing)
    this.cancel?.()
    this.cancel = null
    this.failed = []
  }

  private release(hold: RedisHold, untilMs: number): void {
    const [first, ...others] = hold.keys
    if (first === undefined) return
    this.options.counters.called()
    const released = hold
      .client()
      .run(this.options.script, [first, ...others], [hold.name, hold.cost])
      .then(
        () => undefined,
        (error: unknown) => {
          if (!(error instanceof RedisFailure)) throw error
          if (error.reason === 'closed' || this.failed.length >= RETRIES_MAX) return
          this.failed.push({ hold, untilMs })
          this.cancel ??= this.options.clock.after(RETRY_MS, this.retry)
        },
      )
      .finally(() => this.releasing.delete(released))
    this.releasing.add(released)
  }

  private readonly retry = (): void => {
    this.cancel = null
    const now = this.options.clock.nowMs()
    const due = this.failed.splice(0, RETRY_BATCH)
    if (this.failed.length > 0) this.cancel = this.options.clock.after(RETRY_MS, this.retry)
    for (const { hold, untilMs } of due) if (untilMs > now) this.release(hold, untilMs)
  }
}
