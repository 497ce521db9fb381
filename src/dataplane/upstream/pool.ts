/**
 * Connections of one worker to one node (address, TLS settings, keep-alive settings).
 *
 * Exclusive connections carry one exchange at a time and rest on a stack (the most recently used is the least likely to have been
 * closed by the other side). With `pipelining` > 1 safe requests without a body share *lanes* instead: see `lane()`.
 * Pools outlive snapshots: a reload that leaves a node unchanged keeps its warm connections.
 */
import type { CompiledKeepalive, CompiledNode, CompiledUpstreamTls } from '../../schema/compiled.js'
import { type RawSockets, rawSockets } from '../tcp/handle.js'
import { type ConnectionEvents, UpstreamConnection } from './connection.js'
import { HeadMemo } from './head-memo.js'
import { SocketOpener } from './socket-opener.js'

/** Lanes opened before requests are put behind one another. */
const LANES_MIN = 4
/** A lane whose oldest request waits longer than this takes no further ones: nobody queues behind a slow answer. */
const LANE_STALL_MS = 20
/** Connections beyond the size of the pool are closed when they have rested for so long. */
const SURPLUS_MS = 1_000
/** The rest of an answer that nobody wants must have come within this time, or the connection is closed. */
const DISCARD_MS = 1_000

/** What the pools of a worker count together. */
export interface PoolTally {
  connections: number
  opened(): void
  failed(timedOut: boolean): void
  reused(): void
}

export interface PoolSettings {
  readonly node: CompiledNode
  readonly tls: CompiledUpstreamTls | null
  readonly keepalive: CompiledKeepalive
  readonly maxResponseHeaderBytes: number
  readonly tally: PoolTally
}

export class NodePool {
  readonly keepalive: CompiledKeepalive
  readonly tally: PoolTally
  /** `address:port`, for logs, metrics and `$upstream_addr`. */
  readonly address: string
  readonly maxResponseHeaderBytes: number
  private readonly idle: UpstreamConnection[] = []
  private readonly lanes: UpstreamConnection[] = []
  private readonly all = new Set<UpstreamConnection>()
  private discarding: UpstreamConnection[] = []
  private readonly opener: SocketOpener
  memo: HeadMemo
  /** When it last held a connection; kept by the registry's sweep. */
  lastUsedMs = 0

  constructor(
    readonly settings: PoolSettings,
    /** All plain sockets of the worker read into it. */
    readonly readBuffer: Buffer,
    readonly events: ConnectionEvents,
    raw: RawSockets | null = rawSockets(),
  ) {
    this.memo = new HeadMemo(readBuffer)
    this.keepalive = settings.keepalive
    this.tally = settings.tally
    this.maxResponseHeaderBytes = settings.maxResponseHeaderBytes
    this.opener = new SocketOpener(settings.node, settings.tls, readBuffer, raw)
    const { address, port } = settings.node
    this.address = address.startsWith('/') ? `unix:${address}` : address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
  }

  get connectionCount(): number {
    return this.all.size
  }

  get idleCount(): number {
    return this.idle.length
  }

  /** An idle connection, else a new one (which is still connecting). */
  exclusive(): UpstreamConnection {
    const warm = this.idle.pop()
    if (warm === undefined) return this.open()
    this.tally.reused()
    return warm
  }

  /** A new connection, never a reused one. */
  fresh(): UpstreamConnection {
    return this.open()
  }

  /**
   * A connection for a request that may be pipelined: the least loaded lane; a further lane while there are fewer than LANES_MIN busy
   * ones, or when all are full or stalled.
   */
  lane(nowMs: number): UpstreamConnection {
    const depth = this.keepalive.pipelining
    let best: UpstreamConnection | null = null
    for (const lane of this.lanes) {
      if (lane.inFlight >= depth || lane.served + lane.inFlight >= this.keepalive.requests) continue
      if (lane.inFlight > 0 && nowMs - lane.oldestSentMs > LANE_STALL_MS) continue
      if (best === null || lane.inFlight < best.inFlight) best = lane
      if (best.inFlight === 0) break
    }
    if (best !== null && (best.inFlight === 0 || this.lanes.length >= LANES_MIN)) return best
    const opened = this.open()
    opened.isLane = true
    this.lanes.push(opened)
    return opened
  }

  /**
   * Takes a connection back whose last answer is complete. One more than the pool keeps is closed by the sweep, unless it is used before: with
   * many clients all answers of a turn come at once, and the next requests would open again what was closed.
   */
  release(connection: UpstreamConnection, nowMs: number): void {
    if (connection.isLane) return
    if (this.keepalive.size === 0) {
      connection.destroy()
      return
    }
    connection.idleSinceMs = nowMs
    this.idle.push(connection)
  }

  /** Called by a connection that ended, whatever the reason. */
  forget(connection: UpstreamConnection): void {
    if (this.all.delete(connection)) this.tally.connections--
    if (!connection.isConnected) this.tally.failed(connection.hasTimedOut)
    remove(connection.isLane ? this.lanes : this.idle, connection)
  }

  /** The connection reads an answer that nobody wants. */
  discards(connection: UpstreamConnection): void {
    this.discarding.push(connection)
  }

  /** Closes connections that rested longer than the idle timeout, or that read for too long what nobody wants. */
  sweepIdle(nowMs: number): void {
    this.memo.sweep()
    if (this.discarding.length > 0) this.sweepDiscarding(nowMs)
    this.closeOldest((oldest) => this.idle.length > this.keepalive.size && nowMs - oldest.idleSinceMs >= SURPLUS_MS)
    const timeout = this.keepalive.idleTimeoutMs
    if (timeout === 0) return
    this.closeOldest((oldest) => nowMs - oldest.idleSinceMs >= timeout)
    for (const lane of [...this.lanes]) {
      if (lane.inFlight === 0 && nowMs - lane.idleSinceMs >= timeout) lane.destroy()
    }
  }

  /** The stack is ordered by the time of release: the oldest lie at the bottom. */
  private closeOldest(isOver: (oldest: UpstreamConnection) => boolean): void {
    for (let oldest = this.idle[0]; oldest !== undefined && isOver(oldest); oldest = this.idle[0]) oldest.destroy()
  }

  private sweepDiscarding(nowMs: number): void {
    const still = this.discarding.filter((connection) => !connection.isClosed && connection.discardingSinceMs !== 0)
    this.discarding = still.filter((connection) => nowMs - connection.discardingSinceMs < DISCARD_MS)
    for (const connection of still) if (nowMs - connection.discardingSinceMs >= DISCARD_MS) connection.destroy()
  }

  /** Closes everything at once: the worker ends. */
  destroy(): void {
    for (const connection of [...this.all]) connection.destroy()
  }

  private open(): UpstreamConnection {
    const connection = new UpstreamConnection(this)
    this.all.add(connection)
    this.tally.connections++
    connection.attach(this.opener.open(connection))
    return connection
  }
}

function remove<T>(list: T[], item: T): void {
  const index = list.indexOf(item)
  if (index !== -1) list.splice(index, 1)
}
