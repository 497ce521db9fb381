/**
 * Merging of a route with what it refers to. Precedence, highest first: route, plugin_config, service. The whole conf of a plugin
 * wins or loses, nothing is mixed. A plugin that is switched off (`_meta.disable`) on the route stays off: its name is taken.
 *
 * Consumers and consumer groups win over all three. They are not known before authentication: what they have together is merged here
 * as well (the consumer wins over its group), and laid over the chain of a route by the worker (dataplane/consumers).
 */
import type { PluginConfigResource, RouteResource, ServiceResource } from '../schema/route.js'
import type { UpstreamResource } from '../schema/upstream.js'
import type { CheckedPlugin, Entry, PluginLayer } from './load-types.js'

export interface OwnedPlugin {
  readonly owner: string
  readonly plugin: CheckedPlugin
}

/** Plugins of all layers; of plugins with the same name the one of the first layer. */
export function mergePlugins(layers: readonly PluginLayer[]): OwnedPlugin[] {
  const merged = new Map<string, OwnedPlugin>()
  for (const { owner, plugins } of layers) {
    for (const [name, plugin] of plugins) if (!merged.has(name)) merged.set(name, { owner, plugin })
  }
  return [...merged.values()]
}

export type UpstreamTarget = { readonly id: string } | { readonly inline: UpstreamResource; readonly key: string } | null

export interface MergedRoute {
  readonly layers: readonly PluginLayer[]
  readonly hosts: string[]
  readonly labels: { [key: string]: string }
  readonly upstream: UpstreamTarget
  readonly websocket: boolean
}

export function mergeRoute(
  route: Entry<RouteResource>,
  pluginConfig: Entry<PluginConfigResource> | null,
  service: Entry<ServiceResource> | null,
): MergedRoute {
  const own = route.value
  const hosts = own.hosts ?? (own.host === undefined ? undefined : [own.host]) ?? service?.value.hosts ?? []
  const layers: PluginLayer[] = [{ owner: `routes/${route.id}`, plugins: route.plugins }]
  if (pluginConfig !== null) layers.push({ owner: `plugin_configs/${pluginConfig.id}`, plugins: pluginConfig.plugins })
  if (service !== null) layers.push({ owner: `services/${service.id}`, plugins: service.plugins })
  return {
    layers: layers.filter((layer) => layer.plugins.size > 0),
    hosts: hosts.map((host) => host.toLowerCase()),
    labels: { ...service?.value.labels, ...own.labels },
    upstream: targetOf(own, `routes/${route.id}`) ?? (service === null ? null : targetOf(service.value, `services/${service.id}`)),
    websocket: own.enable_websocket ?? service?.value.enable_websocket ?? false,
  }
}

function targetOf(resource: RouteResource | ServiceResource, key: string): UpstreamTarget {
  if (resource.upstream_id !== undefined) return { id: String(resource.upstream_id) }
  return resource.upstream === undefined ? null : { inline: resource.upstream, key }
}
