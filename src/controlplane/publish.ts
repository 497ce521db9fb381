/** Turns a compiled configuration into what workers receive: handles to shared memory, however many routes there are. */
import type { CompiledConfig, CompiledPlugin, CompiledUpstream, Json, RouterOptions } from '../schema/compiled.js'
import type { ConsumerTables } from '../shared/consumer-tables.js'
import { type PackedRecords, packRecords, type RecordChanges, RecordStore } from '../shared/packed-records.js'
import { RouterBlocks, type RouterChanges, type RouterTables } from '../shared/router-tables.js'
import type { CompiledConsumers } from './compile-consumers.js'
import type { RouteChange } from './live/live-configuration.js'
import { RouterIndex } from './router-index.js'

export interface PackedSnapshot {
  readonly epoch: number
  readonly router: RouterOptions
  readonly tables: RouterTables
  /** CompiledRoute by index. */
  readonly routes: PackedRecords
  /** CompiledUpstream by index. */
  readonly upstreams: PackedRecords
  /** Plugins of the global rules, in run order. */
  readonly globals: readonly CompiledPlugin[]
  readonly consumers: ConsumerTables
  /** CompiledOverlay by the number that `consumers` names. */
  readonly overlays: PackedRecords
}

/** What differs from the snapshot of epoch `base`. */
export interface PackedChange {
  readonly epoch: number
  readonly base: number
  readonly tables: RouterChanges
  readonly routes: RecordChanges
  readonly upstreams: RecordChanges
}

/** The snapshot that serves, and how to get from it to the next one by packing what changes. */
export class SnapshotPacker {
  private readonly index: RouterIndex
  private readonly routes: RecordStore
  private readonly upstreams: RecordStore
  private readonly rest: Pick<PackedSnapshot, 'router' | 'globals' | 'consumers' | 'overlays'>
  private blocks: RouterBlocks
  private latest: PackedSnapshot | null

  /** `orders`: for each route what decides between routes that are equal otherwise, smaller first; default: as they stand. */
  constructor(
    config: CompiledConfig,
    consumers: CompiledConsumers,
    private epoch: number,
    orders: readonly number[] = [],
  ) {
    this.index = new RouterIndex(config.router)
    for (const [place, route] of config.routes.entries()) this.index.add(route, place, orders[place] ?? place)
    const tables = this.index.tables()
    const routes = packRecords(plain(config.routes))
    const upstreams = packRecords(plain(config.upstreams))
    this.rest = {
      router: config.router,
      globals: config.globalPlugins,
      consumers: consumers.tables,
      overlays: packRecords(consumers.overlays),
    }
    this.latest = { epoch, ...this.rest, tables, routes, upstreams }
    this.blocks = RouterBlocks.of(tables)
    this.routes = new RecordStore(routes)
    this.upstreams = new RecordStore(upstreams)
  }

  get tables(): RouterBlocks {
    return this.blocks
  }

  /** All of the latest snapshot. */
  whole(): PackedSnapshot {
    this.latest ??= {
      epoch: this.epoch,
      ...this.rest,
      tables: this.blocks.pack(),
      routes: this.routes.pack(),
      upstreams: this.upstreams.pack(),
    }
    return this.latest
  }

  /** Packs what changes under the next epoch. Upstreams by index; null = there is none any more. */
  change(epoch: number, routes: ReadonlyMap<number, RouteChange>, upstreams: ReadonlyMap<number, CompiledUpstream | null>): PackedChange {
    for (const [place, { before }] of routes) if (before !== null) this.index.remove(before, place)
    for (const [place, { after, order }] of routes) if (after !== null) this.index.add(after, place, order)
    const tables = this.index.changes()
    const change = {
      epoch,
      base: this.epoch,
      tables,
      routes: this.routes.change(new Map([...routes].map(([place, { after }]) => [place, after]))),
      upstreams: this.upstreams.change(upstreams),
    }
    this.blocks = this.blocks.with(tables)
    this.latest = null
    this.epoch = epoch
    return change
  }
}

/** Compiled data is JSON by construction (schema/compiled.ts); interfaces have no index signature, which is all that this hides. */
function plain(items: readonly object[]): Json[] {
  return items as readonly Json[] as Json[]
}
