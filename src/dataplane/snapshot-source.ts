/** What a snapshot is made of, as it arrives from the primary. Types only. */

import type { AnyPlugin } from '../plugins/plugin.js'
import type { CompiledPlugin, RouterOptions } from '../schema/compiled.js'
import type { ConsumerTables } from '../shared/consumer-tables.js'
import type { PackedRecords, RecordChanges } from '../shared/packed-records.js'
import type { RouterChanges, RouterTables } from '../shared/router-tables.js'

export interface SnapshotSource {
  readonly epoch: number
  readonly router: RouterOptions
  readonly tables: RouterTables
  readonly routes: PackedRecords
  readonly upstreams: PackedRecords
  readonly globals: readonly CompiledPlugin[]
  readonly consumers: ConsumerTables
  /** CompiledOverlay by the number that `consumers` names. */
  readonly overlays: PackedRecords
}

/** How a snapshot differs from the one before it: by routes and upstreams alone. */
export interface SnapshotChanges {
  readonly epoch: number
  /** Epoch of the snapshot that it changes. */
  readonly base: number
  readonly tables: RouterChanges
  readonly routes: RecordChanges
  readonly upstreams: RecordChanges
}

export interface PluginSource {
  get(name: string): AnyPlugin | undefined
  /** Decides between plugins of equal priority: lower runs first. */
  position(name: string): number
}
