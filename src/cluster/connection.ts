/**
 * One connection (or, for a cluster, one connection to each master) of one worker thread to Redis.
 *
 * Commands of one turn of the event loop leave together: the first command of a turn corks the sockets, the end of the turn uncorks
 * them, and the kernel sees one write for all. Replies settle each command on its own, so MOVED and ASK are followed one by one.
 */
import slotOf from 'cluster-key-slot'
import { Cluster, Redis } from 'ioredis'
import type { Clock } from '../base/clock.js'
import { packStringPrototype } from '../base/string-prototype.js'
import { clusterOptions, type RedisSettings, sentinelOptions, singleOptions } from './settings.js'

// The import of ioredis above is what took it apart.
packStringPrototype()

export const BEGIN_AGAIN_MS = 100

/** The part of a socket that batching needs. */
interface Corkable {
  cork(): void
  uncork(): void
}

export class ServerConnection {
  private readonly client: Redis | Cluster
  private corked: Corkable[] = []
  private closed = false

  /** Connects at once, and again and again until `close`. `onError` gets texts without secrets, possibly many. */
  constructor(settings: RedisSettings, clock: Clock, onError: (message: string) => void) {
    this.client = connect(settings)
    // The client gives up for ever when a sentinel announces a failover in the middle of an attempt to connect: begin again.
    this.client.on('end', () => {
      if (!this.closed) clock.after(BEGIN_AGAIN_MS, () => this.beginAgain(onError))
    })
    // The error object itself carries the command with its arguments, a password among them: only its text goes on.
    this.client.on('error', (error: Error) => onError(error.message))
  }

  /** No connection, and none being made at this moment: a call would only wait for the next attempt. */
  get down(): boolean {
    return this.client.status === 'reconnecting' || this.client.status === 'end'
  }

  /** Name of the server that serves the key, as far as it is known: what fails and recovers together. */
  serverOf(key: string): string {
    return this.client instanceof Cluster ? (this.client.slots[slotOf(key)]?.[0] ?? '') : ''
  }

  /** Sends EVALSHA. Rejects when the connection breaks, or with an error reply. */
  evalsha(sha: string, keys: readonly string[], args: readonly (string | number)[]): Promise<unknown> {
    this.cork()
    return this.client.evalsha(sha, keys.length, ...keys, ...args)
  }

  /** Sends EVAL, which also stores the script. */
  eval(source: string, keys: readonly string[], args: readonly (string | number)[]): Promise<unknown> {
    this.cork()
    return this.client.eval(source, keys.length, ...keys, ...args)
  }

  /** Asks the server of this key for anything at all. */
  probe(key: string): Promise<unknown> {
    return this.client.exists(key)
  }

  /** Learn anew who serves which slot; nothing outside a cluster. */
  refresh(): void {
    if (this.client instanceof Cluster && this.client.status === 'ready') this.client.refreshSlotsCache()
  }

  /** Closes at once; what waits is rejected. */
  close(): void {
    this.closed = true
    this.client.disconnect()
  }

  private beginAgain(onError: (message: string) => void): void {
    if (this.closed || this.client.status !== 'end') return
    this.client.connect().catch((error: Error) => onError(error.message))
  }

  private cork(): void {
    if (this.corked.length > 0) return
    const nodes = this.client instanceof Cluster ? this.client.nodes('master') : [this.client]
    for (const node of nodes) {
      if (node.status !== 'ready') continue
      node.stream.cork()
      this.corked.push(node.stream)
    }
    if (this.corked.length > 0) setImmediate(this.uncork)
  }

  private readonly uncork = (): void => {
    const sockets = this.corked
    this.corked = []
    for (const socket of sockets) socket.uncork()
  }
}

/** A client of the library, which connects at once. */
export function connect(settings: RedisSettings): Redis | Cluster {
  switch (settings.mode) {
    case 'redis':
      return new Redis(singleOptions(settings))
    case 'redis-sentinel':
      return new Redis(sentinelOptions(settings))
    case 'redis-cluster': {
      const { nodes, options } = clusterOptions(settings)
      return new Cluster([...nodes], options)
    }
  }
}
