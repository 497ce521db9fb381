/** Who names whom among routes, services, plugin configs and upstreams. */
import type { RouteResource, ServiceResource } from '../../schema/route.js'
import type { Entry } from '../load-types.js'
import type { UndoLog } from './undo-log.js'

type Users = Map<string, Set<string>>

const nobody: ReadonlySet<string> = new Set()

export class References {
  private readonly routesByService: Users = new Map()
  private readonly routesByPluginConfig: Users = new Map()
  private readonly routesByUpstream: Users = new Map()
  private readonly servicesByUpstream: Users = new Map()
  /** Confs of plugins that send requests to an upstream which they name. */
  private readonly pluginsByUpstream = new Map<string, number>()

  addRoute({ id, value }: Entry<RouteResource>, undo: UndoLog): void {
    add(this.routesByService, value.service_id, id, undo)
    add(this.routesByPluginConfig, value.plugin_config_id, id, undo)
    add(this.routesByUpstream, value.upstream_id, id, undo)
  }

  removeRoute({ id, value }: Entry<RouteResource>, undo: UndoLog): void {
    remove(this.routesByService, value.service_id, id, undo)
    remove(this.routesByPluginConfig, value.plugin_config_id, id, undo)
    remove(this.routesByUpstream, value.upstream_id, id, undo)
  }

  addService({ id, value }: Entry<ServiceResource>, undo: UndoLog): void {
    add(this.servicesByUpstream, value.upstream_id, id, undo)
  }

  removeService({ id, value }: Entry<ServiceResource>, undo: UndoLog): void {
    remove(this.servicesByUpstream, value.upstream_id, id, undo)
  }

  /** `by`: 1 = one more plugin names it, -1 = one less. */
  countPlugin(upstream: string, by: 1 | -1, undo: UndoLog): void {
    undo.set(this.pluginsByUpstream, upstream, (this.pluginsByUpstream.get(upstream) ?? 0) + by)
  }

  routesOfService(id: string): ReadonlySet<string> {
    return this.routesByService.get(id) ?? nobody
  }

  routesOfPluginConfig(id: string): ReadonlySet<string> {
    return this.routesByPluginConfig.get(id) ?? nobody
  }

  /** Those that name it, and those of services that name it. */
  *routesOfUpstream(id: string): Generator<string> {
    yield* this.routesByUpstream.get(id) ?? nobody
    for (const service of this.servicesByUpstream.get(id) ?? nobody) yield* this.routesOfService(service)
  }

  isUpstreamNamed(id: string): boolean {
    return (this.routesByUpstream.get(id) ?? this.servicesByUpstream.get(id) ?? nobody).size > 0 || this.isUpstreamOfPlugin(id)
  }

  isUpstreamOfPlugin(id: string): boolean {
    return (this.pluginsByUpstream.get(id) ?? 0) > 0
  }
}

function add(users: Users, id: string | number | undefined, user: string, undo: UndoLog): void {
  if (id === undefined) return
  const key = String(id)
  const known = users.get(key)
  if (known === undefined) undo.set(users, key, new Set([user]))
  else undo.include(known, user)
}

function remove(users: Users, id: string | number | undefined, user: string, undo: UndoLog): void {
  if (id === undefined) return
  const known = users.get(String(id))
  if (known === undefined) return
  undo.exclude(known, user)
  if (known.size === 0) undo.delete(users, String(id))
}
