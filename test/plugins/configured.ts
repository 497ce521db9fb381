/** Shorthands of the plugin tests: what is wrong with a conf as text, a linked plugin, and the request phases in their order. */
import type { AnyPlugin, Json, LinkKit, PluginInstance, PrepareKit, Reply } from '../../src/plugins/plugin.js'
import type { FakeExchange } from '../support/fake-exchange.js'
import { linkKit, linkPlugin, prepareKit, problemsOf as problemList } from '../support/link-kit.js'

export interface Configured {
  readonly metadata?: Json
  readonly upstream?: PrepareKit['upstream']
  readonly kit?: LinkKit
}

/** Everything that is wrong with a conf, as `path: message`. */
export function problemsOf(plugin: AnyPlugin, conf: Json): string[] {
  return problemList(plugin, conf).map(({ path, message }) => `${path}: ${message}`)
}

/** Throws with all problems when the conf is not accepted. */
export function configure(plugin: AnyPlugin, conf: Json, { metadata = null, upstream, kit = linkKit() }: Configured = {}): PluginInstance {
  const prepare = prepareKit({ metadata })
  return linkPlugin(plugin, conf, kit, upstream === undefined ? prepare : { ...prepare, upstream })
}

/** What the plugin answers in its request phases; undefined = the request goes on. */
export async function requestPhases(instance: PluginInstance, exchange: FakeExchange): Promise<Reply | undefined> {
  const early = await instance.rewrite?.(exchange)
  if (early !== undefined) return early
  return (await instance.access?.(exchange)) ?? undefined
}
