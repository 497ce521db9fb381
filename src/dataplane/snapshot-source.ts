/** What a snapshot is made of, as it arrives from the primary. Types only. */

import type { AnyPlugin } from '../plugins/plugin.js'
import type { CompiledPlugin, RouterOptions } from '../schema/compiled.js'
import type { ConsumerTables } from '../shared/consumer-tables.js'
import type { PackedRecords } from '../shared/packed-records.js'
import type { RouterTables } from '../shared/router-tables.js'

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

export interface PluginSource {
  get(name: string): AnyPlugin | undefined
  /** Decides between plugins of equal priority: lower runs first. */
  position(name: string): number
}
