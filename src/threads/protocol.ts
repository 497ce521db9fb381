/**
 * Every message between the primary and its workers, and what a worker is started with. One union per direction.
 *
 * Configuration travels as a versioned immutable snapshot whose bulk lies in shared memory, so that receiving 100,000 routes costs a
 * worker no more than receiving one. A worker swaps whole, then writes the epoch into its slot (shared/epochs): that is the
 * acknowledgement. Older epochs than the current one are ignored.
 */
import type { KeySetNews } from '../auth/key-set-news.js'
import type { BreakerEvent, DeclaredBreaker } from '../breakers/contract.js'
import type { CompiledNode, CompiledPlugin, Json, RouterOptions } from '../schema/compiled.js'
import type { NamedCertificate, ProcessConfig } from '../schema/process.js'
import type { ConsumerTables } from '../shared/consumer-tables.js'
import type { NodeNews } from '../shared/node-health.js'
import type { PackedRecords, RecordChanges } from '../shared/packed-records.js'
import type { SharedRegions } from '../shared/regions.js'
import type { RouterChanges, RouterTables } from '../shared/router-tables.js'

export interface SnapshotMessage {
  readonly type: 'snapshot'
  readonly epoch: number
  readonly router: RouterOptions
  readonly tables: RouterTables
  /** CompiledRoute by index. */
  readonly routes: PackedRecords
  /** CompiledUpstream by index. */
  readonly upstreams: PackedRecords
  /** CompiledPlugin[] of the global rules. */
  readonly globals: readonly CompiledPlugin[]
  readonly consumers: ConsumerTables
  /** CompiledOverlay by the number that `consumers` names. */
  readonly overlays: PackedRecords
}

/** The same as a whole snapshot, for a worker that has the one before (`base`): what is not named here is as it was. */
export interface ChangeMessage {
  readonly type: 'change'
  readonly epoch: number
  readonly base: number
  readonly tables: RouterChanges
  readonly routes: RecordChanges
  readonly upstreams: RecordChanges
}

/** New addresses of upstreams whose nodes are names, for the snapshot of this epoch. */
export interface NodesMessage {
  readonly type: 'nodes'
  readonly epoch: number
  readonly updates: readonly { readonly upstream: number; readonly nodes: CompiledNode[] }[]
}

/** Index of a thread that has everything loaded and waits to take the place of a worker that fails. */
export const spareIndex = -1

export type ToWorker =
  | SnapshotMessage
  | ChangeMessage
  | NodesMessage
  /** To a spare: be this worker now. Handled by worker-entry, before the worker itself starts. */
  | { readonly type: 'assign'; readonly start: WorkerStart }
  /**
   * Listen now (sent once, after the first snapshot was acknowledged). `ports`: one per listener of the configuration, never 0; they
   * replace the configured ones. Absent = as configured.
   */
  | { readonly type: 'listen'; readonly ports?: readonly number[] }
  /** Stop accepting; answer what is in flight with `Connection: close`; report `drained` when nothing is left. */
  | { readonly type: 'drain' }
  /** Stop (false) or resume (true) accepting because of max_connections. */
  | { readonly type: 'accepting'; readonly on: boolean }
  /** Close every socket and end the thread a turn later. */
  | { readonly type: 'close' }
  /** The published keys of an issuer were fetched, or could not be. */
  | { readonly type: 'key-set'; readonly news: KeySetNews }
  /** The certificates of all TLS listeners by server name; those of before go. What comes behind it finds them in use. */
  | { readonly type: 'certificates'; readonly certificates: readonly NamedCertificate[] }
  /** Reopen access log files. */
  | { readonly type: 'reopen-logs' }
  /** Test hook behind SLUICE_FAULTS=1: throw an uncaught error, or exhaust the heap. */
  | { readonly type: 'fault'; readonly kind: 'throw' | 'out-of-memory' }

export type FromWorker =
  /** A spare has loaded everything and waits for `assign`. */
  | { readonly type: 'spare' }
  | { readonly type: 'ready' }
  /**
   * Accepts connections. With accept `primary`, `descriptors` are raw pointers to the apps that connections can be handed to, one per
   * listener (null where the worker listens itself, or nobody does): valid until this worker is sent `close`.
   */
  | { readonly type: 'listening'; readonly ports: readonly number[]; readonly descriptors?: readonly unknown[] }
  | { readonly type: 'listen-failed'; readonly address: string; readonly reason: string }
  | { readonly type: 'log'; readonly level: 'debug' | 'info' | 'warn' | 'error'; readonly message: string; readonly fields: Json }
  /** A metric series was created in this worker's slab. */
  | { readonly type: 'series'; readonly slot: number; readonly labels: readonly string[] }
  /** A token names a key that is not in this set of published keys (auth/key-set-news): fetch it anew. */
  | { readonly type: 'key-set-wanted'; readonly id: string }
  /** A circuit breaker exists, or has other settings. */
  | { readonly type: 'breaker'; readonly breaker: DeclaredBreaker }
  /** A circuit breaker changed its state; sent by the worker that changed it. */
  | { readonly type: 'breaker-event'; readonly event: BreakerEvent }
  /** A judgement about an upstream node changed; sent by the worker that made it. */
  | { readonly type: 'node-news'; readonly news: NodeNews }
  | { readonly type: 'drained' }
  /** Uncaught error. Sockets are closed and the thread ends a turn later; with accept `primary`, it waits to be sent `close` for that. */
  | { readonly type: 'failed'; readonly message: string; readonly stack: string }

export interface WorkerStart {
  /** Slot of the worker, or `spareIndex`. */
  readonly index: number
  readonly process: ProcessConfig
  readonly regions: SharedRegions
  /** Names this process among the gateways that share a Redis. */
  readonly nodeId: string
  /** Accept mode after `auto` was resolved. */
  readonly accept: 'primary' | 'kernel'
  /** Package name of the uWebSockets.js build to load (tests load a second build). */
  readonly binding: string
  /**
   * A replacement for a worker that failed listens as soon as it has its snapshot. The ports in its `process.listeners` are the real
   * ones, never 0.
   */
  readonly replacement: boolean
}
