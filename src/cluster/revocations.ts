/**
 * Revocations that all gateways sharing one Redis obey. Runs in the primary.
 *
 * Redis holds a numbered list; every node reads on from the last number that it knows when a message says that there is more, and every
 * POLL_MS in any case: nothing can be missed, and a node that starts, or that was cut off, reads what it lacks. What Redis did not take is
 * tried again at every poll. When Redis has lost its data (its list began anew), the nodes write down again what they know to be in force.
 * That something is no longer revoked is an entry too, which takes the place of the one that it undoes.
 */
import type { Clock } from '../base/clock.js'
import type { RedisClient } from './client.js'
import { RedisFailure } from './errors.js'
import { loadScript, type Script } from './script.js'

/** A revocation is in force on every node within POLL_MS and the time of one call, also when no message arrives. */
export const POLL_MS = 250
const PAGE = 1_000
const PENDING_MAX = 10_000

export interface RevocationSyncOptions {
  readonly client: Pick<RedisClient, 'run' | 'keyPrefix' | 'close'>
  /** Calls `heard` for every message on the channel, as long as it is not closed. */
  readonly listen: (channel: string, heard: () => void) => { close(): void }
  readonly clock: Clock
  /** What is revoked as far as this node knows: digests, and until when, seconds since the epoch. */
  readonly inForce: ReadonlyMap<string, number>
  /** A digest is revoked until then; 0 = it no longer is. */
  readonly learn: (digest: string, untilS: number) => void
}

/** Before the digest of what is no longer revoked. */
const UNDONE = '-'

export class RevocationSync {
  private readonly add: Script = loadScript('revocation-add')
  private readonly since: Script = loadScript('revocation-since')
  private readonly keys: readonly [string, string, string, string]
  private readonly channel: string
  private readonly listening: { close(): void }
  /** Entries that are not in Redis yet. */
  private readonly pending = new Map<string, number>()
  private last = 0
  /** When the list in Redis began; empty = not known yet. */
  private began = ''
  private cancel: (() => void) | null = null
  private isClosed = false
  private isReading = false
  /** A message came while the list was being read. */
  private readAgain = false

  constructor(private readonly options: RevocationSyncOptions) {
    const prefix = `${options.client.keyPrefix}{revocations}:`
    this.keys = [`${prefix}ends`, `${prefix}order`, `${prefix}newest`, `${prefix}began`]
    this.channel = `${prefix}news`
    this.listening = options.listen(this.channel, () => void this.heard())
  }

  /** Reads everything, then goes on by itself. False: Redis did not answer; it is asked again at every poll. */
  async begin(): Promise<boolean> {
    const isRead = await this.readAll()
    this.schedule()
    return isRead
  }

  /** Writes down that a digest is revoked. The failure, if Redis did not take it: it is then tried again until it does. */
  publish(digest: string, untilS: number): Promise<RedisFailure | null> {
    this.pending.delete(UNDONE + digest)
    return this.enter(digest, untilS)
  }

  /** Writes down that it no longer is; `untilS`: when it would have ended. Else as `publish`. */
  undo(digest: string, untilS: number): Promise<RedisFailure | null> {
    this.pending.delete(digest)
    return this.enter(UNDONE + digest, untilS)
  }

  close(): void {
    this.isClosed = true
    this.cancel?.()
    this.listening.close()
    this.options.client.close()
  }

  private async enter(entry: string, untilS: number): Promise<RedisFailure | null> {
    const failure = await this.write(entry, untilS)
    if (failure !== null && this.pending.size < PENDING_MAX) this.pending.set(entry, untilS)
    return failure
  }

  private schedule(): void {
    if (this.isClosed) return
    this.cancel = this.options.clock.after(POLL_MS, () => {
      void this.poll().then(() => this.schedule())
    })
  }

  private async poll(): Promise<void> {
    for (const [entry, untilS] of this.pending) {
      if ((await this.write(entry, untilS)) !== null) return
      this.pending.delete(entry)
    }
    await this.readAll()
  }

  /** Messages only say that there is something to read: whoever sends a false one causes a call, and nothing else. */
  private async heard(): Promise<void> {
    this.readAgain = this.isReading
    if (!this.isReading && !this.isClosed) await this.readAll()
  }

  private async write(entry: string, untilS: number): Promise<RedisFailure | null> {
    const opposite = entry.startsWith(UNDONE) ? entry.slice(UNDONE.length) : UNDONE + entry
    try {
      await this.options.client.run(this.add, [...this.keys, this.channel], [entry, Math.ceil(untilS), opposite])
      return null
    } catch (error) {
      if (error instanceof RedisFailure) return error
      throw error
    }
  }

  /** One at a time: the number of the last entry is this node's place in the list. */
  private async readAll(): Promise<boolean> {
    if (this.isReading) return false
    this.isReading = true
    try {
      let isRead = await this.readOn()
      while (isRead && this.readAgain) {
        this.readAgain = false
        isRead = await this.readOn()
      }
      return isRead
    } finally {
      this.isReading = false
      this.readAgain = false
    }
  }

  private async readOn(): Promise<boolean> {
    for (;;) {
      let reply: unknown
      try {
        reply = await this.options.client.run(this.since, this.keys, [this.last, PAGE])
      } catch (error) {
        if (error instanceof RedisFailure) return false
        throw error
      }
      if (!Array.isArray(reply)) return false
      const began = String(reply[0])
      const isLost = this.began !== '' && this.began !== began
      this.began = began
      if (isLost) this.restore()
      else if (this.take(reply) < PAGE) return true
    }
  }

  /** Redis begins anew: what this node knows is written down again, and everything is read from the first entry on. */
  private restore(): void {
    this.last = 0
    const nowS = this.options.clock.wallMs() / 1000
    for (const [digest, untilS] of this.options.inForce) {
      if (untilS > nowS && this.pending.size < PENDING_MAX) this.pending.set(digest, untilS)
    }
  }

  /** Number of entries in the page. */
  private take(reply: readonly unknown[]): number {
    const count = Math.floor((reply.length - 1) / 3)
    for (let index = 0; index < count; index++) {
      const [number, entry, untilS] = reply.slice(1 + 3 * index, 4 + 3 * index)
      this.last = Math.max(this.last, Number(number))
      if (typeof entry !== 'string' || Number(untilS) <= 0) continue
      if (entry.startsWith(UNDONE)) this.options.learn(entry.slice(UNDONE.length), 0)
      else this.options.learn(entry, Number(untilS))
    }
    return count
  }
}
