/**
 * Circuit breakers of several gateways: tells Redis what changed here, asks twelve times a second what changed elsewhere. Runs in the
 * primary; no request waits for it. While Redis is away every gateway goes on alone, and tells afterwards what is so then.
 */
import type { Clock } from '../base/clock.js'
import type { RedisClient } from './client.js'
import { RedisFailure } from './errors.js'
import { loadScript } from './script.js'

/** Others know of a change after this, the round trips and a turn of the event loop. */
export const NEWS_INTERVAL_MS = 80
const CHANGES_PER_ANSWER = 500
const NAMES_MAX = 32_768
const FORGET_MS = 7 * 86_400_000
const CHANGE_FIELDS = 5

/** What became of a breaker. */
export interface BreakerNewsItem {
  readonly name: string
  /** Still open for so long; 0 = closed, or due for probes. */
  readonly openMs: number
  /** Opened so many times in a row; 0 = closed. */
  readonly openCount: number
  /** An operator said so: opened, it stays open until an operator closes it, and no other news undoes that. */
  readonly isByHand: boolean
}

export interface BreakerNewsOptions {
  readonly client: RedisClient
  readonly clock: Clock
  /** Names this gateway: its own news are not given back to it. */
  readonly nodeId: string
  readonly receive: (item: BreakerNewsItem) => void
}

interface Telling extends BreakerNewsItem {
  /** On the clock of this process: what is told late is open for less. */
  readonly untilMs: number
}

export class BreakerNews {
  private readonly tell = loadScript('breaker-tell')
  private readonly ask = loadScript('breaker-news')
  private readonly keys: readonly [string, string]
  /** Not told yet: the newest state of each name. */
  private readonly pending = new Map<string, Telling>()
  private era = ''
  private version = 0
  private stop: (() => void) | null = null
  private isBusy = false
  private isClosed = false

  /** Begins to ask at once. */
  constructor(private readonly options: BreakerNewsOptions) {
    const prefix = options.client.keyPrefix
    this.keys = [`${prefix}{breakers}:state`, `${prefix}{breakers}:order`]
    this.beat()
  }

  /** Something changed here. */
  changed(item: BreakerNewsItem): void {
    // What an operator said is told first; then what has happened since may be.
    if (!item.isByHand && this.pending.get(item.name)?.isByHand === true) return
    this.pending.set(item.name, { ...item, untilMs: this.options.clock.nowMs() + item.openMs })
    void this.exchange()
  }

  close(): void {
    this.isClosed = true
    this.stop?.()
    this.options.client.close()
  }

  private beat(): void {
    if (this.isClosed) return
    this.stop = this.options.clock.after(NEWS_INTERVAL_MS, () => this.beat())
    void this.exchange()
  }

  /** Tells, then asks. One at a time; never rejects. */
  private async exchange(): Promise<void> {
    if (this.isBusy || this.isClosed) return
    this.isBusy = true
    try {
      for (const telling of [...this.pending.values()]) await this.tellOne(telling)
      await this.askOnce()
    } catch (error) {
      // The client has logged it; what is pending is told with the next beat.
      if (!(error instanceof RedisFailure)) throw error
    } finally {
      this.isBusy = false
    }
  }

  private async tellOne(telling: Telling): Promise<void> {
    const { client, clock, nodeId } = this.options
    const openMs = telling.openMs === 0 ? 0 : Math.max(1, Math.round(telling.untilMs - clock.nowMs()))
    await client.run(this.tell, this.keys, [
      telling.name,
      openMs,
      telling.openCount,
      telling.isByHand ? 1 : 0,
      nodeId,
      NAMES_MAX,
      FORGET_MS,
    ])
    if (this.pending.get(telling.name) === telling) this.pending.delete(telling.name)
  }

  private async askOnce(): Promise<void> {
    const { client, nodeId, receive } = this.options
    const reply = await client.run(this.ask, this.keys, [this.era, this.version, CHANGES_PER_ANSWER])
    if (!Array.isArray(reply)) return
    this.era = String(reply[0])
    this.version = Number(reply[1])
    for (let at = 2; at + CHANGE_FIELDS <= reply.length; at += CHANGE_FIELDS) {
      const name = String(reply[at])
      // What was changed here meanwhile is newer, and will be told.
      if (String(reply[at + 4]) === nodeId || this.pending.has(name)) continue
      receive({ name, openMs: Number(reply[at + 1]), openCount: Number(reply[at + 2]), isByHand: Number(reply[at + 3]) === 1 })
    }
  }
}
