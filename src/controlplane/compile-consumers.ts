/**
 * What authentication adds to the chain of a route: for every consumer the plugins of its own and of its group as one overlay (the
 * consumer wins). Consumers with the same plugins share one; most have none, or that of their group.
 */
import type { CompiledOverlay, CompiledPlugin } from '../schema/compiled.js'
import type { ConsumerTables } from '../shared/consumer-tables.js'
import type { PluginCompiler } from './compile-plugins.js'
import type { LoadedConfig, PluginLayer } from './load-types.js'
import { mergePlugins } from './merge.js'

export interface CompiledConsumers {
  readonly tables: ConsumerTables
  /** By the number that the tables give a consumer. */
  readonly overlays: readonly CompiledOverlay[]
}

/** Call when everything else is compiled: issues of plugins end up in those of `plugins`. */
export function compileConsumers(config: LoadedConfig, plugins: PluginCompiler): CompiledConsumers {
  const { builder, groups, groupOf, own } = config.consumers
  const overlays = new Overlays(plugins)
  const groupLayer = (number: number): PluginLayer | null => {
    const id = groups[number - 1]
    const group = id === undefined ? undefined : config.consumerGroups.get(id)
    return group === undefined ? null : { owner: `consumer_groups/${group.id}`, plugins: group.plugins }
  }
  // Also of groups that nobody is in: mistakes are not to be found by tomorrow's consumer.
  for (const [id, group] of config.consumerGroups) plugins.chain([{ owner: `consumer_groups/${id}`, plugins: group.plugins }])
  const missing = (number: number): string => {
    const id = groups[number - 1]
    return id === undefined || config.consumerGroups.has(id) ? '' : id
  }
  const ofGroup = [-1, ...groups.map((_, index) => overlays.add([groupLayer(index + 1)], missing(index + 1)))]
  for (let consumer = 0; consumer < groupOf.length; consumer++) {
    const group = groupOf[consumer] as number
    if (group !== 0) builder.setOverlay(consumer, ofGroup[group] ?? -1)
  }
  for (const { consumer, layer } of own) {
    const group = groupOf[consumer] as number
    builder.setOverlay(consumer, overlays.add([layer, groupLayer(group)], missing(group)))
  }
  return { tables: builder.finish(), overlays: overlays.all }
}

class Overlays {
  readonly all: CompiledOverlay[] = []
  private readonly known = new Map<string, number>()

  constructor(private readonly plugins: PluginCompiler) {}

  /** Number of the overlay that these layers make, highest first; -1 = it changes nothing. `missingGroup`: empty = none is missing. */
  add(layers: readonly (PluginLayer | null)[], missingGroup: string): number {
    const merged = mergePlugins(layers.filter((layer) => layer !== null))
    if (merged.length === 0 && missingGroup === '') return -1
    const overlay: CompiledOverlay = {
      plugins: this.plugins.order(merged),
      off: merged.filter(({ plugin }) => plugin.meta.disable === true).map(({ plugin }) => plugin.name),
      ...(missingGroup === '' ? {} : { missingGroup }),
    }
    // Who owns a conf is for messages only; where it matters, as for counters, the plugin has put it into what it prepared.
    const anonymous = (plugin: CompiledPlugin): CompiledPlugin => ({ ...plugin, owner: '' })
    const text = JSON.stringify({ ...overlay, plugins: overlay.plugins.map(anonymous) })
    let number = this.known.get(text)
    if (number === undefined) {
      number = this.all.push(overlay) - 1
      this.known.set(text, number)
    }
    return number
  }
}
