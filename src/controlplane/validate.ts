/**
 * Every check of a configuration, in one place: `start`, a reload and `sluice check` all come here. All errors are reported, not the
 * first only; the configuration is loaded whole or not at all.
 */
import { dirname, resolve } from 'node:path'
import type { PluginRegistry } from '../plugins/registry.js'
import type { Json } from '../schema/compiled.js'
import type { ConsumerGroupResource } from '../schema/consumer.js'
import { type ResourceKind, resourceKinds } from '../schema/resources.js'
import type { GlobalRuleResource, PluginConfigResource, RouteResource, ServiceResource, SslResource } from '../schema/route.js'
import type { UpstreamResource } from '../schema/upstream.js'
import type { Environment } from './environment.js'
import { type DocumentPath, formatPath, IssueList, sortIssues } from './load-issue.js'
import type { SourceDocument } from './load-source.js'
import type { CheckedPlugin, Entry, LoadedConfig, LoadResult } from './load-types.js'
import { readConsumers } from './read-consumers.js'
import { SECRETS_DIRECTORY, SecretResolver } from './secrets.js'
import { checkConsumerLimits } from './validate-consumers.js'
import { checkOptions, checkPlugins, findPlugin, type PluginChecks } from './validate-plugins.js'
import { processConfig } from './validate-process.js'
import { checkGroupLists } from './validate-restrictions.js'
import { checkRoute, checkService, type RouteChecks } from './validate-routes.js'
import { checkSchema, typeName } from './validate-schema.js'
import { checkRoot, isEmpty, type Root, readAttributes, readPluginList, readSections } from './validate-sections.js'
import { checkSsls } from './validate-ssls.js'
import { checkUpstream } from './validate-upstreams.js'

export interface ValidateOptions {
  readonly registry: PluginRegistry
  /** Names of the plugins that come with the gateway; the rest of the registry are user plugins. */
  readonly builtin: ReadonlySet<string>
  /** Wall clock, milliseconds since the epoch: for warnings about certificates. */
  readonly nowMs: number
  /** What references to secrets are resolved from. */
  readonly environment: Environment
  /** Ids by kind that may be named although the document has no such entry. */
  readonly alsoKnown?: (kind: string) => ReadonlySet<string>
}

/** A resource as it was given, with its place. */
export type RawEntry = { readonly id: string; readonly path: DocumentPath; readonly value: unknown }

/** Validates a parsed document. */
export function validateDocument(source: SourceDocument, options: ValidateOptions): LoadResult {
  const issues = new IssueList(source)
  const root = checkRoot(source.value, issues)
  const config = root === null ? null : validateRoot(root, source, options, issues)
  // A plugin that authenticates but is wrong would be missing here.
  if (config !== null && issues.errors.length === 0) {
    checkConsumerLimits(config, options.builtin, issues)
    checkGroupLists(config, issues)
  }
  const warnings = sortIssues(issues.warnings)
  if (config === null) return { ok: false, errors: sortIssues(issues.errors), warnings }
  if (issues.errors.length > 0) return { ok: false, errors: sortIssues(issues.errors), warnings, partial: config }
  return { ok: true, config, warnings }
}

function validateRoot(root: Root, source: SourceDocument, options: ValidateOptions, issues: IssueList): LoadedConfig {
  const { registry } = options
  const sections = readSections(root, issues)
  const listed = resourceKinds.filter((kind) => kind.kind !== 'consumers' && kind.kind !== 'credentials')
  const raw = new Map(listed.map((kind) => [kind.kind, readEntries(root, kind, issues)]))
  const directory = resolve(dirname(resolve(source.file)), sections.sluice.secrets?.directory ?? SECRETS_DIRECTORY)
  const secrets = new SecretResolver(options.environment, directory)
  const checks: PluginChecks = { registry, enabled: readPluginList(root, registry, issues), issues, secrets }
  const ids = (kind: string): ReadonlySet<string> =>
    new Set([...(raw.get(kind) ?? []).map((entry) => entry.id), ...(options.alsoKnown?.(kind) ?? [])])
  const mode = sections.sluice.router?.mode ?? sections.apisix.router?.http
  const routeChecks: RouteChecks = {
    ids: { upstreams: ids('upstreams'), services: ids('services'), plugin_configs: ids('plugin_configs') },
    parameters: mode === 'radixtree_uri_with_parameter',
    issues,
  }
  const typed = <T extends object>(kind: string): Entry<T>[] => typeEntries<T>(kind, raw.get(kind) ?? [], checks)
  const routes = typed<RouteResource>('routes')
  for (const entry of routes) checkRoute(entry.value, entry.path, routeChecks)
  const services = typed<ServiceResource>('services')
  for (const entry of services) checkService(entry.value, entry.path, routeChecks)
  const upstreams = typed<UpstreamResource>('upstreams')
  for (const entry of upstreams) checkUpstream(entry.value, entry.path, issues)
  const globalRules = typed<GlobalRuleResource>('global_rules')
  checkGlobalRules(globalRules, issues)
  for (const kind of listed) if (!kind.supported) refuse(kind, raw.get(kind.kind) ?? [], checks)
  const consumerGroups = typed<ConsumerGroupResource>('consumer_groups')
  checkConsumerGroups(consumerGroups, registry, issues)
  const certificates = checkSsls(typed<SslResource>('ssls'), options.nowMs, issues)
  return {
    file: source.file,
    source,
    registry,
    enabled: checks.enabled,
    process: processConfig(sections, source.file, certificates, issues),
    routes,
    services: byId(services),
    upstreams: byId(upstreams),
    missingUpstreams: options.alsoKnown?.('upstreams') ?? new Set(),
    pluginConfigs: byId(typed<PluginConfigResource>('plugin_configs')),
    globalRules,
    consumerGroups: byId(consumerGroups),
    consumers: readConsumers(root['consumers'], root['credentials'], {
      ...checks,
      groupIds: ids('consumer_groups'),
      referencesOnly: sections.sluice.secrets?.references_only === true,
    }),
    secrets,
    metadata: readMetadata(raw.get('plugin_metadata') ?? [], checks),
    attributes: readAttributes(root, registry, options.builtin, issues, secrets),
  }
}

/** Entries of one kind with their ids; entries that are no map or repeat an id are reported and left out. */
function readEntries(root: Root, kind: ResourceKind, issues: IssueList): RawEntry[] {
  const list = root[kind.kind]
  if (isEmpty(list)) return []
  if (!Array.isArray(list)) {
    issues.error([kind.kind], `wrong type: expected array, got ${typeName(list)}`, `a list of ${kind.kind}`)
    return []
  }
  const seen = new Map<string, DocumentPath>()
  const entries: RawEntry[] = []
  for (const [index, item] of list.entries()) {
    const path: DocumentPath = [kind.kind, index]
    if (typeof item !== 'object' || item === null || Array.isArray(item)) {
      issues.error(path, `wrong type: expected object, got ${typeName(item)}`, `one ${kind.singular}`)
      continue
    }
    const value = withoutNulls(item)
    const given: unknown = value['id']
    const id = typeof given === 'string' || typeof given === 'number' ? String(given) : `arr_${index + 1}`
    const first = seen.get(id)
    if (first !== undefined) {
      issues.error([...path, 'id'], `found duplicate id ${id} in ${kind.kind}`, `another id than that of ${formatPath(first)}`)
    } else seen.set(id, path)
    entries.push({ id, path, value })
  }
  return entries
}

/** A field that is null is a field that is absent. */
export function withoutNulls(item: object): { [name: string]: unknown } {
  const entries = Object.entries(item)
  return Object.fromEntries(entries.some(([, value]) => value === null) ? entries.filter(([, value]) => value !== null) : entries)
}

/** Checks entries against the schema of their kind, and their plugins. Entries that do not fit are reported and left out. */
export function typeEntries<T extends object>(kind: string, entries: readonly RawEntry[], checks: PluginChecks): Entry<T>[] {
  const schema = resourceKinds.find((item) => item.kind === kind)?.schema
  if (schema === undefined) throw new Error(`there is no schema for ${kind}`)
  const typed: Entry<T>[] = []
  for (const { id, path, value } of entries) {
    const plugins = checkEntryPlugins(value, path, checks)
    if (checkSchema<T>(schema, value, path, checks.issues)) typed.push({ id, path, value, plugins })
  }
  return typed
}

/** Plugins are checked also when the rest of the resource is wrong, so that all errors are seen at once. */
function checkEntryPlugins(value: unknown, path: DocumentPath, checks: PluginChecks): ReadonlyMap<string, CheckedPlugin> {
  const plugins = typeof value === 'object' && value !== null && 'plugins' in value ? value.plugins : undefined
  const isMap = typeof plugins === 'object' && plugins !== null && !Array.isArray(plugins)
  return checkPlugins(isMap ? plugins : undefined, [...path, 'plugins'], checks)
}

function byId<T>(entries: readonly Entry<T>[]): ReadonlyMap<string, Entry<T>> {
  return new Map(entries.map((entry) => [entry.id, entry]))
}

/** Kinds that are not built yet: the shape is checked, then every entry is refused. */
function refuse(kind: ResourceKind, entries: readonly RawEntry[], checks: PluginChecks): void {
  const first = entries[0]
  if (first === undefined) return
  for (const { path, value } of entries) checkSchema(kind.schema, value, path, checks.issues)
  checks.issues.error([kind.kind], `${kind.kind} are not supported yet`, `no ${kind.kind}`, { atKey: true })
}

/** The same plugin in two global rules would run twice in an order that nobody chose. */
function checkGlobalRules(rules: readonly Entry<GlobalRuleResource>[], issues: IssueList): void {
  const owners = new Map<string, Entry<GlobalRuleResource>>()
  for (const rule of rules) {
    for (const name of Object.keys(rule.value.plugins)) {
      const first = owners.get(name)
      if (first === undefined) owners.set(name, rule)
      else
        issues.error(
          [...rule.path, 'plugins', name],
          `plugin ${name} is in global rule ${first.id} and in global rule ${rule.id}`,
          'a plugin in one global rule only',
          { atKey: true },
        )
    }
  }
}

/** Groups are known behind authentication only. */
function checkConsumerGroups(groups: readonly Entry<ConsumerGroupResource>[], registry: PluginRegistry, issues: IssueList): void {
  for (const group of groups) {
    for (const name of Object.keys(group.value.plugins)) {
      if (registry.get(name)?.credential === undefined) continue
      const message = `plugin ${name} authenticates, which is over when the plugins of a consumer group begin`
      issues.error([...group.path, 'plugins', name], message, 'other plugins in consumer groups', { atKey: true })
    }
  }
}

function readMetadata(entries: readonly RawEntry[], checks: PluginChecks): ReadonlyMap<string, Json> {
  const metadata = new Map<string, Json>()
  for (const { path, value } of entries) {
    const { id: name, ...options } = value as { readonly [name: string]: Json }
    if (typeof name !== 'string') {
      checks.issues.error(path, 'property "id" is required', 'the name of a plugin')
      continue
    }
    const plugin = findPlugin(name, [...path, 'id'], { ...checks, enabled: null }, false)
    if (plugin === null) continue
    if (plugin.metadataSchema === undefined) {
      checks.issues.error([...path, 'id'], `plugin ${name} takes no metadata`, 'the name of a plugin with metadata')
      continue
    }
    const checked = checkOptions(plugin.metadataSchema, options, `the metadata of plugin ${name}`, path, checks.issues)
    if (checked !== null) metadata.set(name, checked)
  }
  return metadata
}
