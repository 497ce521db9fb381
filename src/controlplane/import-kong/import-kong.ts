/**
 * A Kong declarative file as a configuration of ours. Pure: the parsed file goes in; our root object comes out, together with the place
 * in the Kong file of each of its parts, so that later checks report lines of the file that the user wrote.
 *
 *   readEntities ─ checked entities with places
 *     ─ services → upstreams + services   routes → routes by rank   plugins by scope   consumers   certificates → ssls
 *
 * Precedence of plugins is kept: consumer > consumer group > route > service > global. Global plugins become global rules that give way
 * (`_meta.overridable`). Scopes that combine a consumer with a route or service are refused.
 */
import type { PluginRegistry } from '../../plugins/registry.js'
import type { DocumentPath, IssueList } from '../load-issue.js'
import { readEntities } from './entities.js'
import type { Entity, KongEntities, Owned, ScopedPlugin } from './entity-kinds.js'
import { importConsumers, usernameOf } from './kong-consumers.js'
import { importPlugin } from './kong-plugins.js'
import { rankRoutes, type Split, splitRoute } from './kong-routes.js'
import type { KongRoute, KongService } from './kong-schema.js'
import { resourceName } from './kong-text.js'
import { UpstreamImport } from './kong-upstreams.js'
import { Origins } from './origins.js'

type Fields = { [name: string]: unknown }
type Root = { readonly [name: string]: unknown }

const versions: readonly unknown[] = ['1.1', '2.1', '3.0']

export interface ImportedKong {
  readonly value: Fields
  /** Path in the Kong file of a path in `value`. */
  readonly originOf: (path: DocumentPath) => DocumentPath
}

/** True for a Kong declarative file: also for one that has nothing but plugins, as guides show them, and forgot `_format_version`. */
export function isKongFile(value: unknown): value is Root {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  return '_format_version' in value || ('plugins' in value && Object.keys(value).every(isShared) && isKongPluginList(value.plugins))
}

/** Sections that may stand in a file of Kong's form and in one of ours, besides those that mean something else there. */
function isShared(name: string): boolean {
  return name === 'plugins' || name === 'sluice'
}

/** Whether `plugins` has plugins with their options: our own form has names there. */
export function isKongPluginList(list: unknown): boolean {
  return Array.isArray(list) && list.some((item) => typeof item === 'object' && item !== null && 'name' in item && 'config' in item)
}

/** Translates `root`; what is wrong is added to `issues`, and then the result is not to be used. `keepalive`: of all upstreams. */
export function importKong(root: Root, registry: PluginRegistry, issues: IssueList, keepalive: Fields | null = null): ImportedKong {
  const format = root['_format_version']
  if (format === undefined) {
    issues.warn(['plugins'], 'read as a Kong file, which has to begin with _format_version for Kong', "_format_version: '3.0'", {
      atKey: true,
    })
  } else if (!versions.includes(format)) {
    issues.error(['_format_version'], `format version ${JSON.stringify(format)} is not supported`, '"3.0", "2.1" or "1.1", in quotes')
  }
  if (root['_transform'] === false)
    issues.error(['_transform'], '_transform: false is not supported: secrets would have to be stored as Kong hashes them', 'true')
  const origins = new Origins()
  const entities = readEntities(root, issues)
  const version = typeof format === 'string' ? Number.parseInt(format, 10) : 3
  const plugins = new PluginScopes(entities, registry, origins, issues)
  const upstreams = new UpstreamImport(entities, keepalive, origins, issues)
  const { routes, pluginConfigs } = importRoutes(entities, version, plugins, upstreams, origins, issues)
  const services = entities.services
    .filter(({ value }) => value.enabled !== false)
    .map((service) => {
      const upstreamId = upstreams.of(service, false)
      return origins.of(service.path, {
        id: resourceName(service.name),
        name: service.name.slice(0, 256),
        ...(upstreamId !== null && { upstream_id: upstreamId }),
        ...plugins.field(service),
      })
    })
  const value: Fields = {
    sluice: withRouter(root['sluice']),
    routes,
    services,
    upstreams: upstreams.resources,
    plugin_configs: pluginConfigs,
    consumer_groups: entities.groups.map((group) =>
      origins.of(group.path, { id: resourceName(group.name), plugins: plugins.of(group) ?? {} }),
    ),
    consumers: importConsumers(entities, plugins.bySubject, origins, issues),
    global_rules: plugins.globals(),
    ssls: importCertificates(entities, origins, issues),
  }
  origins.none(value)
  for (const name of Object.keys(value)) {
    const list = value[name]
    if (Array.isArray(list)) origins.none(list)
    if (list === undefined || (Array.isArray(list) && list.length === 0)) delete value[name]
  }
  origins.field(value, 'sluice', ['sluice'])
  return { value, originOf: (path) => origins.find(value, path) }
}

/** Kong's order of routes needs the router that goes by priority; its users know its errors. */
function withRouter(section: unknown): unknown {
  const own = typeof section === 'object' && section !== null ? section : {}
  const router: unknown = Reflect.get(own, 'router')
  return { error_format: 'kong', ...own, router: { ...(typeof router === 'object' && router !== null ? router : {}), mode: 'priority' } }
}

function importRoutes(
  entities: KongEntities,
  version: number,
  plugins: PluginScopes,
  upstreams: UpstreamImport,
  origins: Origins,
  issues: IssueList,
): { routes: Fields[]; pluginConfigs: Fields[] } {
  const splits: Split[] = []
  const pluginConfigs: Fields[] = []
  for (const route of entities.routes) {
    if (route.owner?.value.enabled === false) continue
    const own = splitRoute(route, version, origins, issues)
    splits.push(...own)
    const shared = own.length > 1 ? sharedPlugins(route, plugins, pluginConfigs, origins) : null
    for (const { fields } of own) {
      if (shared !== null) fields['plugin_config_id'] = shared
      else Object.assign(fields.plugins, plugins.of(route))
      addTarget(fields, route, route.owner, upstreams)
      if (Object.keys(fields.plugins).length === 0) Reflect.deleteProperty(fields, 'plugins')
    }
  }
  rankRoutes(splits)
  return { routes: splits.map((split) => split.fields), pluginConfigs }
}

/** Plugins of a route that became several routes: in one place, so that their limits count once. */
function sharedPlugins(route: Owned<KongRoute, KongService>, plugins: PluginScopes, configs: Fields[], origins: Origins): string | null {
  const own = plugins.of(route)
  if (own === undefined) return null
  const id = resourceName(`${route.name}.plugins`)
  configs.push(origins.of(route.path, { id, plugins: own }))
  return id
}

function addTarget(fields: Fields, route: Entity<KongRoute>, service: Entity<KongService> | null, upstreams: UpstreamImport): void {
  if (service === null) return
  fields['service_id'] = resourceName(service.name)
  if (route.value.preserve_host !== true) return
  const id = upstreams.of(service, true)
  if (id !== null) fields['upstream_id'] = id
}

function importCertificates(entities: KongEntities, origins: Origins, issues: IssueList): Fields[] {
  return entities.certificates.flatMap(({ value, path, snis }, index) => {
    for (const field of ['cert_alt', 'key_alt', 'passphrase'] as const) {
      if (value[field] !== undefined) issues.error([...path, field], `${field} of certificates is not supported`, `no ${field}`)
    }
    // A certificate without names only identifies the gateway towards services.
    if (snis.length === 0) return []
    return [origins.of(path, { id: resourceName(value.id ?? `certificate-${index + 1}`), snis, cert: value.cert, key: value.key })]
  })
}

/** Plugins by what they belong to. */
class PluginScopes {
  readonly bySubject = new Map<unknown, Fields>()
  private readonly global: Fields = {}

  constructor(
    entities: KongEntities,
    registry: PluginRegistry,
    private readonly origins: Origins,
    private readonly issues: IssueList,
  ) {
    origins.none(this.global)
    const consumerNames = new Map<unknown, string>(
      entities.consumers.flatMap((consumer) => (consumer.value.id === undefined ? [] : [[consumer.value.id, usernameOf(consumer)]])),
    )
    for (const plugin of entities.plugins) {
      const subjects = [plugin.route, plugin.service, plugin.consumer, plugin.group].filter((one) => one !== null)
      // Also what is switched off is checked.
      const imported = importPlugin(plugin, registry, consumerNames, origins, issues)
      if (imported === null || plugin.value.enabled === false) continue
      if (subjects.length > 1) {
        issues.error(plugin.path, 'a plugin for a combination of route, service and consumer is not supported', 'one of them', {
          atKey: true,
        })
        continue
      }
      this.add(plugin, subjects[0] ?? null, imported.name, imported.conf)
    }
  }

  private add(plugin: ScopedPlugin, subject: unknown, name: string, conf: Fields): void {
    let plugins = subject === null ? this.global : this.bySubject.get(subject)
    if (plugins === undefined) {
      plugins = this.origins.none({})
      this.bySubject.set(subject, plugins)
    }
    if (name in plugins) {
      this.issues.error(plugin.path, `plugin ${name} is there twice in the same scope`, 'one instance of a plugin per scope')
      return
    }
    plugins[name] = conf
  }

  of(subject: unknown): Fields | undefined {
    return this.bySubject.get(subject)
  }

  field(subject: unknown): { plugins?: Fields } {
    const plugins = this.of(subject)
    return plugins === undefined ? {} : { plugins }
  }

  globals(): Fields[] {
    const names = Object.keys(this.global)
    if (names.length === 0) return []
    for (const name of names) {
      const conf = this.global[name] as Fields
      conf['_meta'] = { overridable: true }
    }
    return [{ id: 'kong', plugins: this.global }]
  }
}
