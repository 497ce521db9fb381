/** The Redis clients of one worker: one per distinct settings, shared by all limits, bounded, closed when nothing uses them any more. */
import type { Clock } from '../base/clock.js'
import { RedisClient } from './client.js'
import { type RedisSettings, settingsKey } from './settings.js'

/** Distinct Redis servers (or users, or databases) of one configuration. */
export const CLIENTS_MAX = 64
/** A client that was not asked for so long makes room for another: its settings have been reloaded away, or it connects anew. */
const IDLE_MS = 60_000

interface Entry {
  readonly client: RedisClient
  usedMs: number
}

export interface RedisClientsOptions {
  readonly clock: Clock
  readonly log: (level: 'info' | 'warn', message: string) => void
}

export class RedisClients {
  private readonly entries = new Map<string, Entry>()

  constructor(private readonly options: RedisClientsOptions) {}

  /** A function that gives the client for these settings. Connects at its first call. */
  reach(settings: RedisSettings): () => RedisClient {
    const key = settingsKey(settings)
    return () => {
      const now = this.options.clock.nowMs()
      const known = this.entries.get(key)
      if (known !== undefined) {
        known.usedMs = now
        return known.client
      }
      this.makeRoom(now)
      const client = new RedisClient({ settings, clock: this.options.clock, log: this.options.log })
      this.entries.set(key, { client, usedMs: now })
      return client
    }
  }

  close(): void {
    for (const entry of this.entries.values()) entry.client.close()
    this.entries.clear()
  }

  private makeRoom(now: number): void {
    if (this.entries.size < CLIENTS_MAX) return
    for (const [key, entry] of this.entries) {
      if (now - entry.usedMs < IDLE_MS) continue
      entry.client.close()
      this.entries.delete(key)
    }
    if (this.entries.size >= CLIENTS_MAX) throw new RangeError(`more than ${CLIENTS_MAX} different Redis settings are in use at a time`)
  }
}
