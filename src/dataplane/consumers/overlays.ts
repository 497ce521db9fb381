/**
 * Chains of routes with the plugins that consumers bring along: made when the first such consumer calls the route, kept in a bounded
 * number. The consumer's plugin stands in for the route's of the same name. The rewrite phase is over by then: only plugins that
 * the route does not have run theirs, at once. Counters of limits lie outside, so a chain that is made again goes on with them.
 */
import type { CompiledOverlay } from '../../schema/compiled.js'
import { type PackedRecords, RecordReader } from '../../shared/packed-records.js'
import {
  type Chain,
  type ChainKit,
  chainOf,
  type FilterStep,
  joinChains,
  type LinkedPlugin,
  linkPlugins,
  type Step,
} from '../phases/chain.js'
import type { PluginSource } from '../snapshot-source.js'
import { type GuardedFields, guardedFields } from './guarded-fields.js'

/** Chains kept per worker. */
export const OVERLAID_MAX = 4_096

/** A route as a certain set of consumers has it. */
export interface OverlaidChain {
  readonly chain: Chain
  readonly responseFilters: readonly FilterStep[]
  /** Steps of the rewrite phase of plugins that the route does not have. */
  readonly lateRewrite: readonly Step[]
  /** The group of these consumers, where it does not exist; empty = all is well. */
  readonly missingGroup: string
  /** Fields that only plugins of these consumers may set, beside those of the route. */
  readonly guarded: GuardedFields | null
}

/** What an overlay is laid over. */
export interface OverlayBase {
  /** Number of the linked route among all that the worker has linked. */
  readonly serial: number
  /** Plugins of the route itself, in run order. */
  readonly plugins: readonly LinkedPlugin[]
  /** Global rules as linked for this route. */
  readonly globals: Chain
  /** A kit for more plugins of this route. */
  kit(): ChainKit
}

interface Kept {
  readonly overlaid: OverlaidChain
  /** Since eviction last looked at it. */
  isUsed: boolean
}

export class OverlayChains {
  private readonly records: RecordReader<CompiledOverlay>
  /** By route and overlay, in order of creation. */
  private readonly kept = new Map<number, Kept>()

  constructor(
    overlays: PackedRecords,
    private readonly plugins: PluginSource,
    private readonly capacity = OVERLAID_MAX,
  ) {
    this.records = new RecordReader(overlays)
  }

  /** Throws when a plugin cannot be linked. */
  get(base: OverlayBase, overlay: number): OverlaidChain {
    const key = base.serial * this.records.count + overlay
    const found = this.kept.get(key)
    if (found !== undefined) {
      found.isUsed = true
      return found.overlaid
    }
    const overlaid = this.link(base, this.records.read(overlay))
    if (this.kept.size >= this.capacity) this.evict()
    this.kept.set(key, { overlaid, isUsed: false })
    return overlaid
  }

  /** The oldest that was not used since it was looked at last. */
  private evict(): void {
    for (const [key, kept] of this.kept) {
      this.kept.delete(key)
      if (!kept.isUsed) return
      kept.isUsed = false
      this.kept.set(key, kept)
    }
  }

  private link(base: OverlayBase, overlay: CompiledOverlay): OverlaidChain {
    const replaced = new Set([...overlay.off, ...overlay.plugins.map((plugin) => plugin.name)])
    const added = linkPlugins(overlay.plugins, this.plugins, base.kit())
    const kept = base.plugins.filter((plugin) => !replaced.has(plugin.name))
    const plugins = [...kept, ...added].sort(
      (a, b) => b.priority - a.priority || this.plugins.position(a.name) - this.plugins.position(b.name),
    )
    const chain = joinChains(base.globals, chainOf(plugins))
    const known = new Set(base.plugins.map((plugin) => plugin.name))
    return {
      missingGroup: overlay.missingGroup ?? '',
      guarded: guardedFields(
        added.map(({ step }) => step.instance),
        base.plugins.map(({ step }) => step.instance),
      ),
      chain,
      responseFilters: [...chain.headerFilter, ...chain.encodingFilter],
      lateRewrite: added.filter(({ name, step }) => step.instance.rewrite !== undefined && !known.has(name)).map(({ step }) => step),
    }
  }
}
