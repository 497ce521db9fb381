/**
 * Counts the gateway processes that share one Redis, so that limits can be divided by them while it is away.
 *
 * Each worker says every BEAT_MS that its process lives; the count that comes back is kept. While Redis does not answer the last
 * count stands, and it is never below 1.
 */
import type { Clock } from '../base/clock.js'
import type { RedisClient } from './client.js'
import { RedisFailure } from './errors.js'
import type { Script } from './script.js'

export const BEAT_MS = 1000
/** A node that was silent for so long is not counted. */
export const ALIVE_MS = 3500

export interface NodeRegistryOptions {
  readonly client: RedisClient
  readonly script: Script
  readonly clock: Clock
  /** The same for all workers of one process, different for every process. */
  readonly nodeId: string
}

export class NodeRegistry {
  private living = 1
  private stop: (() => void) | null = null
  private readonly key: string

  /** Begins at once. */
  constructor(private readonly options: NodeRegistryOptions) {
    this.key = `${options.client.keyPrefix}{nodes}`
    this.beat()
  }

  /** Living nodes, this one included. */
  get count(): number {
    return this.living
  }

  /** Stops, and leaves the registry; other workers of this process enter it again with their next beat. */
  async close(): Promise<void> {
    this.stop?.()
    this.stop = null
    await this.say(0)
  }

  private beat(): void {
    this.stop = this.options.clock.after(BEAT_MS, () => this.beat())
    void this.say(ALIVE_MS)
  }

  private async say(aliveMs: number): Promise<void> {
    const { client, script, nodeId } = this.options
    try {
      const count = await client.run(script, [this.key], [nodeId, aliveMs])
      if (aliveMs > 0 && typeof count === 'number') this.living = Math.max(1, count)
    } catch (error) {
      if (!(error instanceof RedisFailure)) throw error
      // Otherwise the client has logged it, and the last count stands.
      if (error.reason === 'closed') this.stop?.()
    }
  }
}
