/**
 * Revocations that all gateways sharing one Redis obey. Runs in the primary.
 *
 * Redis holds a numbered list; every node reads on from the last number that it knows, every POLL_MS: nothing can be missed, and a node
 * that starts, or that was cut off, reads what it lacks. A revocation that Redis did not take is tried again at every poll. When Redis
 * has lost its data (its list began anew), the nodes write down again what they know to be in force.
 */
import type { Clock } from '../base/clock.js'
import type { RedisClient } from './client.js'
import { RedisFailure } from './errors.js'
import { loadScript, type Script } from './script.js'

/** A revocation is in force on every node within POLL_MS and the time of one call. */
export const POLL_MS = 250
const PAGE = 1_000
const PENDING_MAX = 10_000

export interface RevocationSyncOptions {
  readonly client: Pick<RedisClient, 'run' | 'keyPrefix' | 'close'>
  readonly clock: Clock
  /** A digest is revoked until then, seconds since the epoch. */
  readonly learn: (digest: string, untilS: number) => void
}

export class RevocationSync {
  private readonly add: Script = loadScript('revocation-add')
  private readonly since: Script = loadScript('revocation-since')
  private readonly keys: readonly [string, string, string, string]
  /** In force as far as this node knows, with their ends. */
  private readonly known = new Map<string, number>()
  /** Not in Redis yet. */
  private readonly pending = new Map<string, number>()
  private last = 0
  /** When the list in Redis began; empty = not known yet. */
  private began = ''
  private cancel: (() => void) | null = null
  private isClosed = false

  constructor(private readonly options: RevocationSyncOptions) {
    const prefix = `${options.client.keyPrefix}{revocations}:`
    this.keys = [`${prefix}ends`, `${prefix}order`, `${prefix}newest`, `${prefix}began`]
  }

  /** Reads everything, then goes on by itself. False: Redis did not answer; it is asked again at every poll. */
  async begin(): Promise<boolean> {
    const isRead = await this.readAll()
    this.schedule()
    return isRead
  }

  /** Writes a revocation down. The failure, if Redis did not take it: it is then tried again until it does. */
  async publish(digest: string, untilS: number): Promise<RedisFailure | null> {
    this.known.set(digest, untilS)
    const failure = await this.write(digest, untilS)
    if (failure !== null && this.pending.size < PENDING_MAX) this.pending.set(digest, untilS)
    return failure
  }

  close(): void {
    this.isClosed = true
    this.cancel?.()
    this.options.client.close()
  }

  private schedule(): void {
    if (this.isClosed) return
    this.cancel = this.options.clock.after(POLL_MS, () => {
      void this.poll().then(() => this.schedule())
    })
  }

  private async poll(): Promise<void> {
    for (const [digest, untilS] of this.pending) {
      if ((await this.write(digest, untilS)) !== null) return
      this.pending.delete(digest)
    }
    await this.readAll()
  }

  private async write(digest: string, untilS: number): Promise<RedisFailure | null> {
    try {
      await this.options.client.run(this.add, this.keys, [digest, Math.ceil(untilS)])
      return null
    } catch (error) {
      if (error instanceof RedisFailure) return error
      throw error
    }
  }

  private async readAll(): Promise<boolean> {
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
    for (const [digest, untilS] of this.known) {
      if (untilS <= nowS) this.known.delete(digest)
      else if (this.pending.size < PENDING_MAX) this.pending.set(digest, untilS)
    }
  }

  /** Number of entries in the page. */
  private take(reply: readonly unknown[]): number {
    const count = Math.floor((reply.length - 1) / 3)
    for (let index = 0; index < count; index++) {
      const [number, digest, untilS] = reply.slice(1 + 3 * index, 4 + 3 * index)
      this.last = Math.max(this.last, Number(number))
      if (typeof digest !== 'string' || Number(untilS) <= 0) continue
      this.known.set(digest, Number(untilS))
      this.options.learn(digest, Number(untilS))
    }
    return count
  }
}
