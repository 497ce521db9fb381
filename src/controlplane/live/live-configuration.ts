/**
 * The configuration that serves, in the primary, in a form that changes at the cost of what changes: checked resources by kind and id,
 * who names whom, and what was compiled of them. A batch of changes is tried upon it (`apply`), then kept (`commit`) or taken back.
 *
 * It knows routes, services, plugin configs and upstreams. Whatever touches another kind of resource is compiled as a whole
 * (controlplane/check), after which there is a new one of these. What it makes of a batch is what that would make of it
 * (test/property/live-configuration); where it finds something wrong it only says so, and the check of the whole says what.
 */

import type { DeclaredLimiter } from '../../limits/declared.js'
import { builtinPlugins } from '../../plugins/index.js'
import type { CompiledConfig, CompiledRoute, CompiledUpstream, KeySetSpec } from '../../schema/compiled.js'
import type { PluginConfigResource, RouteResource, ServiceResource } from '../../schema/route.js'
import type { UpstreamResource } from '../../schema/upstream.js'
import { type CompiledState, compileRoute, isServed } from '../compile.js'
import type { Announced } from '../compile-plugins.js'
import { isGone } from '../compile-upstreams.js'
import { type ConfigIssue, IssueList } from '../load-issue.js'
import type { CheckedPlugin, Entry } from '../load-types.js'
import type { Touched } from '../store/configuration-writer.js'
import type { ResourceView } from '../store/resource-store.js'
import { checkConsumerLimits } from '../validate-consumers.js'
import { References } from './references.js'
import { readTouched, type TouchedEntries } from './touched-entries.js'
import { UndoLog } from './undo-log.js'

/** A route with what was made of it. */
interface LiveRoute {
  readonly entry: Entry<RouteResource>
  /** Its place among the records of routes; -1 = it is not served. */
  readonly place: number
  /** Decides between routes that are equal otherwise, smaller first. */
  readonly order: number
  readonly compiled: CompiledRoute | null
}

/** What one batch changes of what is published. */
export interface ConfigurationChange {
  /** By place. */
  readonly routes: ReadonlyMap<number, RouteChange>
  /** By index. */
  readonly upstreams: ReadonlyMap<number, UpstreamChange>
  /** Of the confs of plugins that are gone, and of those that are new. */
  readonly limiters: { readonly before: readonly DeclaredLimiter[]; readonly after: readonly DeclaredLimiter[] }
  /** Null = as before. */
  readonly keySets: KeySetSpec[] | null
}

/** Null = no route was, or is there. */
export interface RouteChange {
  readonly before: CompiledRoute | null
  readonly after: CompiledRoute | null
  /** See LiveRoute. */
  readonly order: number
}

export interface UpstreamChange {
  readonly before: CompiledUpstream | null
  readonly after: CompiledUpstream | null
}

export interface AppliedChange {
  readonly change: ConfigurationChange
  readonly warnings: readonly ConfigIssue[]
}

/** The last one is a note of the Admin API (admin/standalone-api), which the configuration does not depend on. */
const liveKinds: ReadonlySet<string> = new Set(['routes', 'services', 'plugin_configs', 'upstreams', 'config_versions'])
const builtinNames: ReadonlySet<string> = new Set(builtinPlugins.map(({ name }) => name))

/** Whether resources of this kind can change one by one. */
export function isLiveKind(kind: string): boolean {
  return liveKinds.has(kind)
}

export class LiveConfiguration {
  private readonly routes = new Map<string, LiveRoute>()
  private readonly services: Map<string, Entry<ServiceResource>>
  private readonly pluginConfigs: Map<string, Entry<PluginConfigResource>>
  private readonly upstreams: Map<string, Entry<UpstreamResource>>
  private readonly references = new References()
  /** How many routes and confs of plugins send requests to an upstream, by index. */
  private readonly uses = new Map<number, number>()
  /** Indexes of upstreams that may not be in use any more. */
  private readonly doubtful = new Set<number>()
  private readonly placed: (CompiledRoute | null)[]
  private readonly freePlaces: number[] = []
  private nextOrder: number
  private undo = UndoLog.off()

  /** `state` is what `compiled` was compiled with. Both are this object's from now on. */
  constructor(
    private readonly state: CompiledState,
    compiled: CompiledConfig,
  ) {
    const { loaded, orders, plugins } = state
    this.services = new Map(loaded.services)
    this.pluginConfigs = new Map(loaded.pluginConfigs)
    this.upstreams = new Map(loaded.upstreams)
    this.placed = [...compiled.routes]
    this.nextOrder = loaded.routes.length
    const places = new Map(orders.map((order, place) => [order, place]))
    for (const [order, entry] of loaded.routes.entries()) {
      const place = places.get(order) ?? -1
      const route: LiveRoute = { entry, place, order, compiled: compiled.routes[place] ?? null }
      this.routes.set(entry.id, route)
      this.references.addRoute(entry, this.undo)
      this.use(route.compiled?.upstream ?? -1, 1)
    }
    for (const entry of this.services.values()) this.references.addService(entry, this.undo)
    for (const announced of plugins.all()) this.follow(announced, 1)
    this.undo = new UndoLog()
  }

  /** Compiled routes by place; null = there is none. */
  get compiledRoutes(): readonly (CompiledRoute | null)[] {
    return this.placed
  }

  /** Limits of all plugins. */
  get limiters(): readonly DeclaredLimiter[] {
    return this.state.plugins.limiters
  }

  /**
   * Tries a batch. `touched`: the changes, all of kinds that `isLiveKind`, that lead from the resources that were committed last to
   * `view`. Null = the configuration would not be valid; then nothing has changed. A change that was tried before is taken back first.
   */
  apply(view: ResourceView, touched: readonly Touched[]): AppliedChange | null {
    this.rollBack()
    let applied: AppliedChange | null = null
    try {
      applied = this.tryBatch(view, touched)
    } finally {
      if (applied === null) this.rollBack()
    }
    return applied
  }

  /** What was tried last stays. */
  commit(): void {
    this.undo.commit()
  }

  rollBack(): void {
    this.undo.rollBack()
    this.doubtful.clear()
  }

  private tryBatch(view: ResourceView, touched: readonly Touched[]): AppliedChange | null {
    const { loaded, plugins, upstreams } = this.state
    const issues = new IssueList(loaded.source)
    const secrets = loaded.secrets.fresh()
    const entries = readTouched(view, touched, { loaded, issues, secrets })
    if (issues.errors.length > 0) return null
    const keySets = JSON.stringify(plugins.keySets)
    const oldUpstreams = upstreams.begin(this.undo, this.upstreams)
    const confs = plugins.begin(this.undo, issues, secrets)
    const orders = this.ordersOf(touched)
    const routes = new Map<number, RouteChange>()
    for (const id of this.replace(entries)) this.compile(id, entries, orders, routes)
    this.prepareUnused(entries)
    if (issues.errors.length > 0) return null
    for (const announced of confs.removed) this.follow(announced, -1)
    for (const announced of confs.added) this.follow(announced, 1)
    if (this.isSomethingMissing(view, entries)) return null
    for (const index of [...this.doubtful, ...oldUpstreams.keys()]) if ((this.uses.get(index) ?? 0) === 0) upstreams.release(index)
    this.doubtful.clear()
    this.warnAboutConsumers(entries, issues)
    const limiters = {
      before: confs.removed.flatMap((announced) => announced.limiters),
      after: confs.added.flatMap((announced) => announced.limiters),
    }
    const change = {
      routes,
      upstreams: this.changedUpstreams(oldUpstreams),
      limiters,
      keySets: JSON.stringify(plugins.keySets) === keySets ? null : plugins.keySets,
    }
    return { change, warnings: issues.warnings }
  }

  /** Orders of routes that are new: behind all others, as they stand in the list of the store. */
  private ordersOf(touched: readonly Touched[]): Map<string, number> {
    const fresh = new Set<string>()
    const deleted = new Set<string>()
    for (const { type, kind, id } of touched) {
      if (kind !== 'routes') continue
      if (type === 'delete') {
        fresh.delete(id)
        deleted.add(id)
      } else if (deleted.has(id) || !this.routes.has(id)) fresh.add(id)
    }
    return new Map([...fresh].map((id) => [id, this.nextOrder++]))
  }

  /** Puts entries in the place of those with the same id; the routes that have to be compiled for it. */
  private replace(entries: TouchedEntries): ReadonlySet<string> {
    const { undo, references } = this
    const { plugins, upstreams } = this.state
    const affected = new Set<string>()
    const forget = (old: { readonly plugins: ReadonlyMap<string, CheckedPlugin> } | undefined): void => {
      if (old !== undefined) plugins.remove(old.plugins.values())
    }
    for (const [id, entry] of entries.routes) {
      const old = this.routes.get(id)?.entry
      forget(old)
      if (old !== undefined) references.removeRoute(old, undo)
      if (entry !== null) references.addRoute(entry, undo)
      affected.add(id)
    }
    for (const [id, entry] of entries.services) {
      const old = this.services.get(id)
      forget(old)
      if (old !== undefined) references.removeService(old, undo)
      if (entry !== null) references.addService(entry, undo)
      put(this.services, id, entry, undo)
    }
    for (const [id, entry] of entries.pluginConfigs) {
      forget(this.pluginConfigs.get(id))
      put(this.pluginConfigs, id, entry, undo)
    }
    const isBorn = new Set<string>()
    for (const [id, entry] of entries.upstreams) {
      if (this.upstreams.has(id) !== (entry !== null)) isBorn.add(id)
      put(this.upstreams, id, entry, undo)
      if (entry !== null) upstreams.update(`upstreams/${id}`, entry.value)
    }
    for (const [kind, map] of [['routes', entries.routes] as const, ['services', entries.services] as const]) {
      for (const [id, entry] of map) if (entry?.value.upstream !== undefined) upstreams.update(`${kind}/${id}`, entry.value.upstream)
    }
    for (const id of entries.services.keys()) for (const route of references.routesOfService(id)) affected.add(route)
    for (const id of entries.pluginConfigs.keys()) for (const route of references.routesOfPluginConfig(id)) affected.add(route)
    for (const id of entries.upstreams.keys()) {
      for (const route of references.routesOfUpstream(id)) if (isBorn.has(id) || this.dependsOnSettings(route)) affected.add(route)
    }
    return affected
  }

  /** Whether the compiled route holds settings of its upstream. */
  private dependsOnSettings(id: string): boolean {
    const value = this.routes.get(id)?.entry.value
    return value?.timeout !== undefined || value?.retry_on !== undefined || value?.retry_non_idempotent !== undefined
  }

  private compile(id: string, entries: TouchedEntries, orders: ReadonlyMap<string, number>, changes: Map<number, RouteChange>): void {
    const { undo } = this
    const old = this.routes.get(id)
    const touched = entries.routes.get(id)
    const entry = touched === undefined ? (old?.entry ?? null) : touched
    const { services, pluginConfigs, state } = this
    const isOn = entry !== null && isServed(entry)
    const compiled = isOn ? compileRoute(entry, { services, pluginConfigs }, state.upstreams, state.plugins) : null
    const order = orders.get(id) ?? old?.order ?? this.nextOrder++
    const isSame = old?.order === order && JSON.stringify(old.compiled) === JSON.stringify(compiled)
    let place = old?.place ?? -1
    if (!isSame) {
      this.use(old?.compiled?.upstream ?? -1, -1)
      this.use(compiled?.upstream ?? -1, 1)
      if (place < 0 && compiled !== null) place = undo.pop(this.freePlaces) ?? this.placed.length
      if (place >= 0) {
        const before = changes.get(place)?.before ?? old?.compiled ?? null
        changes.set(place, { before, after: compiled, order })
        undo.assign(this.placed, place, compiled)
      }
      if (compiled === null && place >= 0) {
        undo.push(this.freePlaces, place)
        place = -1
      }
    }
    if (entry === null) undo.delete(this.routes, id)
    else undo.set(this.routes, id, { entry, place, order, compiled: isSame ? (old?.compiled ?? null) : compiled })
  }

  /** As the check of a whole does: also confs that no route uses are prepared. */
  private prepareUnused({ services, pluginConfigs }: TouchedEntries): void {
    const { plugins } = this.state
    for (const [id, entry] of services) if (entry !== null) plugins.chain([{ owner: `services/${id}`, plugins: entry.plugins }])
    for (const [id, entry] of pluginConfigs) if (entry !== null) plugins.chain([{ owner: `plugin_configs/${id}`, plugins: entry.plugins }])
  }

  /** Something that is gone is still named, and was not taken away by force. */
  private isSomethingMissing(view: ResourceView, { services, pluginConfigs, upstreams }: TouchedEntries): boolean {
    const { references } = this
    for (const [id, entry] of services) {
      if (entry === null && references.routesOfService(id).size > 0 && !view.gaps('services').has(id)) return true
    }
    for (const [id, entry] of pluginConfigs) {
      if (entry === null && references.routesOfPluginConfig(id).size > 0 && !view.gaps('plugin_configs').has(id)) return true
    }
    for (const [id, entry] of upstreams) {
      if (entry !== null) continue
      if (references.isUpstreamOfPlugin(id) || (references.isUpstreamNamed(id) && !view.gaps('upstreams').has(id))) return true
    }
    return false
  }

  /** About routes that are new; the other warnings are said where things are checked. */
  private warnAboutConsumers(entries: TouchedEntries, issues: IssueList): void {
    const routes = [...entries.routes.values()].filter((entry) => entry !== null)
    const services = new Map<string, Entry<ServiceResource>>()
    const pluginConfigs = new Map<string, Entry<PluginConfigResource>>()
    const values: { [name: string]: object } = {}
    for (const { value, path } of routes) {
      const service = this.services.get(String(value.service_id))
      const pluginConfig = this.pluginConfigs.get(String(value.plugin_config_id))
      if (service !== undefined) services.set(service.id, service)
      if (pluginConfig !== undefined) pluginConfigs.set(pluginConfig.id, pluginConfig)
      values[String(path[1])] = value
    }
    const { globalRules, source } = this.state.loaded
    const about = source.translated({ routes: values }, (path) => path)
    checkConsumerLimits({ routes, services, pluginConfigs, globalRules, source: about }, builtinNames, issues)
  }

  private changedUpstreams(before: ReadonlyMap<number, CompiledUpstream | null>): Map<number, UpstreamChange> {
    const changes = new Map<number, UpstreamChange>()
    for (const [index, old] of before) {
      const now = this.state.upstreams.at(index)
      const after = now === undefined || isGone(now) ? null : now
      if (after !== null || old !== null) changes.set(index, { before: old, after })
    }
    return changes
  }

  private follow({ upstreams, upstreamIds }: Announced, by: 1 | -1): void {
    for (const index of upstreams) this.use(index, by)
    for (const id of upstreamIds) this.references.countPlugin(id, by, this.undo)
  }

  private use(index: number, by: 1 | -1): void {
    if (index < 0) return
    const count = (this.uses.get(index) ?? 0) + by
    this.undo.set(this.uses, index, count)
    if (count === 0) this.doubtful.add(index)
  }
}

function put<T>(map: Map<string, T>, id: string, value: T | null, undo: UndoLog): void {
  if (value === null) undo.delete(map, id)
  else undo.set(map, id, value)
}
