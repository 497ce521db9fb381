/**
 * One resource by itself: what is wrong with it, whatever the rest of the configuration is like. What resources are to each other
 * (keys of credentials, plugins of global rules) and what plugins find when they prepare is seen only when the whole is checked.
 */

import { builtinPlugins } from '../plugins/index.js'
import type { OpenedConfiguration } from './check.js'
import type { Environment } from './environment.js'
import { validateSource } from './load.js'
import { type DocumentPath, parsePath } from './load-issue.js'
import { SourceDocument } from './load-source.js'
import type { ResourceValue, ResourceView } from './store/resource-store.js'

export interface ResourceProblem {
  /** Below the resource. */
  readonly path: DocumentPath
  readonly message: string
}

/** Fields that name other resources, and their kinds. */
const references: readonly (readonly [string, string])[] = [
  ['service_id', 'services'],
  ['upstream_id', 'upstreams'],
  ['plugin_config_id', 'plugin_configs'],
  ['group_id', 'consumer_groups'],
]

/** Problems of `value` as a resource of this kind beside those of `view`. With `alone`, what it names need not exist. */
export function resourceProblems(
  opened: OpenedConfiguration,
  environment: Environment,
  kind: string,
  value: ResourceValue,
  view: ResourceView,
  alone = false,
): ResourceProblem[] {
  const known = new Map<string, Set<string>>()
  for (const [field, target] of references) {
    const id = value[field]
    if (typeof id !== 'string' && typeof id !== 'number') continue
    if (alone || view.get(target, String(id)) !== undefined || view.gaps(target).has(String(id))) known.set(target, new Set([String(id)]))
  }
  const empty = SourceDocument.parse(opened.source.file, '{}', {})
  if (!empty.ok) throw new Error('an empty document cannot be parsed')
  const source = empty.source.translated(documentOf(opened.source.value, kind, value), (path) => path)
  const result = validateSource(source, opened.registry, {
    builtin: builtinNames,
    environment,
    alsoKnown: (target) => known.get(target) ?? none,
  })
  const group = value['group_id']
  // A file may name a group that is not there (its consumers get 503); a change must not bring that about.
  if (result.ok && kind === 'consumers' && group !== undefined && !known.has('consumer_groups')) {
    return [{ path: ['group_id'], message: `failed to fetch consumer group info by consumer group id [${String(group)}]` }]
  }
  if (result.ok) return []
  return result.errors.map(({ path, message }) => {
    const parts = parsePath(path)
    return { path: parts[0] === kind ? parts.slice(2) : parts, message }
  })
}

const none: ReadonlySet<string> = new Set()
const builtinNames: ReadonlySet<string> = new Set(builtinPlugins.map(({ name }) => name))

/** A configuration with this resource alone, and with the settings of the file that decide what is right. */
function documentOf(root: unknown, kind: string, value: ResourceValue): object {
  const file = fieldsOf(root)
  const sluice = fieldsOf(file['sluice'])
  const apisix = fieldsOf(file['apisix'])
  const document: { [name: string]: unknown } = {
    plugins: file['plugins'],
    sluice: pick(sluice, ['router', 'secrets']),
    apisix: pick(apisix, ['router']),
    [kind]: [value],
  }
  if (kind === 'credentials') document['consumers'] = [{ username: String(value['id']).replace(/\/credentials\/.*$/s, '') }]
  return document
}

function pick(fields: { readonly [name: string]: unknown }, names: readonly string[]): object {
  return Object.fromEntries(names.filter((name) => fields[name] !== undefined).map((name) => [name, fields[name]]))
}

function fieldsOf(value: unknown): { readonly [name: string]: unknown } {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {}
}
