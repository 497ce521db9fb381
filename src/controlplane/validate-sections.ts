/** The top of a configuration file: which names may stand there, and the sections about the process. */
import { LATENCY_BOUNDS_MAX, latencyBoundsMs } from '../base/latency-buckets.js'
import type { PluginRegistry } from '../plugins/registry.js'
import type { Json } from '../schema/compiled.js'
import {
  apisixSchema,
  deploymentSchema,
  idleAttributes,
  nginxSchema,
  pluginAttrSchema,
  unsupportedKeys,
} from '../schema/gateway-section.js'
import { knownPlugins } from '../schema/known-plugins.js'
import { pluginListSchema, resourceKinds, sectionKinds, unsupportedTopLevel } from '../schema/resources.js'
import { sluiceSchema } from '../schema/sluice-section.js'
import { isKongPluginList } from './import-kong/import-kong.js'
import type { DocumentPath, IssueList } from './load-issue.js'
import type { SecretResolver } from './secrets.js'
import { suggest } from './suggest.js'
import { findPlugin } from './validate-plugins.js'
import type { Sections } from './validate-process.js'
import { checkSchema, schemaProblems } from './validate-schema.js'

export type Root = { readonly [name: string]: unknown }

/** The document as a map of top-level names; null with an issue when it is something else. */
export function checkRoot(value: unknown, issues: IssueList): Root | null {
  if (value === null || value === undefined) {
    issues.error([], 'the file is empty', 'a map with routes, upstreams, sluice, …')
    return null
  }
  if (typeof value !== 'object' || Array.isArray(value)) {
    issues.error(
      [],
      `wrong type: expected object, got ${Array.isArray(value) ? 'array' : typeof value}`,
      'a map with routes, upstreams, sluice, …',
    )
    return null
  }
  const root: Root = { ...value }
  checkTopLevelNames(root, issues)
  return root
}

function checkTopLevelNames(root: Root, issues: IssueList): void {
  const known = [...resourceKinds.map((item) => item.kind), ...sectionKinds.map((item) => item.name), 'plugins']
  for (const name of Object.keys(root)) {
    if (known.includes(name)) continue
    if (unsupportedTopLevel.includes(name)) {
      if (!isEmpty(root[name])) issues.error([name], `${name} are not supported yet`, `no ${name}`, { atKey: true })
    } else {
      issues.error([name], `additional properties forbidden, found ${name}`, `one of ${known.join(', ')}`, {
        atKey: true,
        suggestion: suggest(name, known),
      })
    }
  }
}

export function isEmpty(value: unknown): boolean {
  return value === null || value === undefined || (typeof value === 'object' && Object.keys(value).length === 0)
}

/** Reads the four sections about the process; parts that are wrong are reported and read as absent. */
export function readSections(root: Root, issues: IssueList): Sections {
  const section = <T extends object>(name: string, schema: object, none: T): T => {
    const value = root[name]
    if (value === undefined || value === null) return none
    return checkSection<T>(name, schema, value, issues) ? value : none
  }
  return {
    sluice: section('sluice', sluiceSchema, {}),
    apisix: section('apisix', apisixSchema, {}),
    nginx: section('nginx_config', nginxSchema, {}),
    deployment: section('deployment', deploymentSchema, {}),
    metricsAddress: metricsAddress(root['plugin_attr']),
    latencyBoundsMs: latencyBounds(root['plugin_attr'], issues),
  }
}

/** `export_addr` of the prometheus plugin; null = it says nothing. What is wrong with it is said where attributes are read. */
function metricsAddress(attributes: unknown): Sections['metricsAddress'] {
  const own = typeof attributes === 'object' && attributes !== null ? Reflect.get(attributes, 'prometheus') : undefined
  const address = typeof own === 'object' && own !== null ? Reflect.get(own, 'export_addr') : undefined
  if (typeof address !== 'object' || address === null) return null
  const [ip, port]: unknown[] = [Reflect.get(address, 'ip'), Reflect.get(address, 'port')]
  return { host: typeof ip === 'string' ? ip : '127.0.0.1', port: typeof port === 'number' ? port : 9091 }
}

/** As `checkSchema`, but names that the reference gateway knows are "not supported yet" instead of unknown. */
function checkSection<T>(name: string, schema: object, value: unknown, issues: IssueList): value is T {
  const problems = schemaProblems(schema, value)
  for (const problem of problems) {
    const path: DocumentPath = [name, ...problem.path]
    const parent = path.slice(0, -1).join('.')
    const unsupported = problem.unknownName !== undefined && (unsupportedKeys[parent] ?? []).includes(problem.unknownName)
    if (unsupported) issues.error(path, `${path.join('.')} is not supported yet`, `no ${problem.unknownName}`, { atKey: true })
    else issues.error(path, problem.message, problem.expected, { atKey: problem.atKey, suggestion: problem.suggestion })
  }
  return problems.length === 0
}

/** The top-level list `plugins`: names that may be used, or null when there is no list. */
export function readPluginList(root: Root, registry: PluginRegistry, issues: IssueList): ReadonlySet<string> | null {
  const list = root['plugins']
  if (list === undefined || list === null) return null
  if (isKongPluginList(list)) {
    issues.error(['plugins'], "these are plugins in Kong's form", "_format_version: '3.0' at the top of a Kong file, or a list of names", {
      atKey: true,
    })
    return null
  }
  if (!checkSchema<(string | { name: string; stream?: boolean })[]>(pluginListSchema, list, ['plugins'], issues)) return null
  const enabled = new Set<string>()
  for (const [index, item] of list.entries()) {
    const name = typeof item === 'string' ? item : item.name
    if (typeof item !== 'string' && item.stream === true)
      issues.warn(['plugins', index], `stream plugin ${name} is not supported yet, the entry has no effect`, 'a plugin for HTTP')
    else if (registry.get(name) !== undefined) enabled.add(name)
    else if (knownPlugins.has(name))
      issues.warn(['plugins', index], `plugin ${name} is not supported yet, the entry has no effect`, 'a plugin of this gateway')
    else
      issues.error(['plugins', index], `unknown plugin [${name}]`, 'the name of a plugin', { suggestion: suggest(name, registry.names()) })
  }
  return enabled
}

/** `default_buckets` of the prometheus plugin in milliseconds. What its schema does not allow is said where attributes are read. */
function latencyBounds(attributes: unknown, issues: IssueList): readonly number[] {
  const own: unknown = typeof attributes === 'object' && attributes !== null ? Reflect.get(attributes, 'prometheus') : undefined
  const given: unknown = typeof own === 'object' && own !== null ? Reflect.get(own, 'default_buckets') : undefined
  if (typeof own !== 'object' || own === null || !Array.isArray(given)) return latencyBoundsMs
  const bounds = given.filter((bound) => typeof bound === 'number')
  if (bounds.length !== given.length || bounds.length === 0 || bounds.length > LATENCY_BOUNDS_MAX) return latencyBoundsMs
  const path: DocumentPath = ['plugin_attr', 'prometheus', 'default_buckets']
  const wrong = bounds.findIndex((bound, index) => index > 0 && bound <= (bounds[index - 1] ?? 0))
  if (wrong >= 0) {
    issues.error([...path, wrong], `${bounds[wrong]} is not above the bound before it`, 'ascending bounds')
    return latencyBoundsMs
  }
  if (Reflect.get(own, 'latency_unit') === 'ms' || bounds.every((bound) => bound >= 1)) return bounds
  // 0.005 * 1000 is a little more than 5.
  const milliseconds = bounds.map((bound) => Number((bound * 1000).toPrecision(12)))
  const message = `read as seconds: apisix_http_latency is in milliseconds and gets the bounds ${milliseconds[0]} to ${milliseconds.at(-1)}`
  issues.warn(path, message, 'milliseconds, or latency_unit: ms to have these numbers as they are', { atKey: true })
  return milliseconds
}

/** `plugin_attr` by plugin. Built-in plugins without attributes take none; those of user plugins are theirs to judge. */
export function readAttributes(
  root: Root,
  registry: PluginRegistry,
  builtin: ReadonlySet<string>,
  issues: IssueList,
  secrets: SecretResolver,
): ReadonlyMap<string, Json> {
  const attributes = new Map<string, Json>()
  const value = root['plugin_attr']
  if (value === undefined || value === null) return attributes
  if (!checkSchema<{ readonly [name: string]: Json }>(pluginAttrSchema, value, ['plugin_attr'], issues)) return attributes
  for (const [name, own] of Object.entries(value)) {
    const path: DocumentPath = ['plugin_attr', name]
    if (findPlugin(name, path, { registry, enabled: null, issues, secrets }) === null) continue
    if (builtin.has(name) && !Object.hasOwn(pluginAttrSchema.properties, name)) {
      issues.error(path, `plugin ${name} takes no attributes`, `attributes of ${Object.keys(pluginAttrSchema.properties).join(', ')}`, {
        atKey: true,
      })
    } else attributes.set(name, own)
    for (const [attribute, reason] of Object.entries(idleAttributes[name] ?? {})) {
      const isGiven = typeof own === 'object' && own !== null && Object.hasOwn(own, attribute)
      if (isGiven) issues.warn([...path, attribute], `${attribute} has no effect: ${reason}`, '', { atKey: true })
    }
  }
  return attributes
}
