/** Whose counters a conf uses: those of the resource that it is written on, or of a name that several confs share. */
import { type BoundLimiter, type LimiterSpec, type LinkKit, PluginConfigError, type PrepareKit, routeScope } from '../plugin.js'

/** A spec on its way from `prepare` to `link`. */
export interface ScopedSpec {
  readonly spec: LimiterSpec
  /** The route is added to the scope in `link`. */
  readonly perRoute: boolean
}

/**
 * Announces the spec under the name of its owner. A plugin_config is a text that routes include, so that each of them counts for itself;
 * a service or a global rule counts over all its routes. `oneKey`: its rules are checked under one key, not one for each.
 */
export function ownScope(plugin: string, spec: Omit<LimiterSpec, 'scope'>, kit: PrepareKit, oneKey = true): ScopedSpec {
  const perRoute = kit.owner.startsWith('plugin_configs/')
  return { spec: kit.limiter({ ...spec, scope: `${plugin}:${kit.owner}` }, { perRoute, oneKey }), perRoute }
}

/**
 * Announces the spec under a name: all confs of the plugin with this name share their counters. Throws PluginConfigError when another
 * conf with this name keeps them elsewhere, because then nothing would be shared.
 */
export function sharedScope(plugin: string, name: string, spec: Omit<LimiterSpec, 'scope'>, kit: PrepareKit, oneKey = true): ScopedSpec {
  const { store } = spec
  const place = store.kind === 'local' ? store.kind : [store.kind, ...store.connection.nodes.map(({ host, port }) => `${host}:${port}`)]
  const other = kit.conflict(`store of ${name}`, place)
  if (other !== null) throw new PluginConfigError(`the counters "${name}" are shared with ${other}, which keeps them in another store`)
  return { spec: kit.limiter({ ...spec, scope: `${plugin}:shared:${name}` }, { oneKey }), perRoute: false }
}

export function bindScoped({ spec, perRoute }: ScopedSpec, kit: LinkKit): BoundLimiter {
  return kit.limiter(perRoute && kit.route !== null ? routeScope(spec, kit.route.id) : spec)
}
