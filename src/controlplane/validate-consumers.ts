/**
 * Warns about limits that count consumers on routes where nothing authenticates them: each of their clients is counted by its address,
 * which is seldom what was meant. Looks at what a route has in the end: its own plugins, those of its plugin_config and service, and
 * global rules. Only what the file says is warned about, not defaults.
 */
import type { DocumentPath, IssueList } from './load-issue.js'
import type { CheckedPlugin, LoadedConfig } from './load-types.js'
import { mergePlugins, mergeRoute } from './merge.js'

type LimitedConfig = Pick<LoadedConfig, 'routes' | 'services' | 'pluginConfigs' | 'globalRules' | 'source'>

type Options = { readonly [name: string]: unknown }

/** Options of a rate-limit plugin that say whose requests count together. */
const identities = ['limit_by', 'identifier', 'compound_identifier', 'key_type']
const consumerIdentities: ReadonlySet<unknown> = new Set(['consumer', 'credential', 'consumer-group', 'consumer_name'])
const consumerVariables: ReadonlySet<unknown> = new Set(['consumer_name', 'consumer_group_id'])
const consumerTemplate = /\$\{?\s*consumer_(?:name|group_id)\b/

/** Plugins that bound how much is asked. */
export const limiterNames: ReadonlySet<string> = new Set([
  'limit-count',
  'limit-req',
  'limit-conn',
  'rate-limit',
  'rate-limiting',
  'rate-limiting-advanced',
  'sliding-window-rate-limit',
])

/** Beside those whose names end with `-auth`. */
const authentication: ReadonlySet<string> = new Set([
  'authz-casdoor',
  'authz-keycloak',
  'oauth2',
  'oauth2-introspection',
  'openid-connect',
  'session',
  'wolf-rbac',
])

/** `builtin`: names of the plugins that come with the gateway; any other plugin may authenticate, nobody knows. */
export function checkConsumerLimits(config: LimitedConfig, builtin: ReadonlySet<string>, issues: IssueList): void {
  const authenticates = ({ name, meta }: CheckedPlugin): boolean =>
    meta.disable !== true && (authentication.has(name) || /-auth(?:-advanced|-enc)?$/.test(name) || !builtin.has(name))
  const globals = config.globalRules.flatMap((rule) => [...rule.plugins.values()])
  // What the file says: a checked conf also holds defaults.
  const options = new Map<CheckedPlugin, DocumentPath | null>()
  const optionOf = (plugin: CheckedPlugin): DocumentPath | null => {
    let option = options.get(plugin)
    if (option === undefined) {
      option =
        limiterNames.has(plugin.name) && plugin.meta.disable !== true ? consumerOption(plugin.name, valueAt(config, plugin.path)) : null
      options.set(plugin, option)
    }
    return option
  }
  const warn = (plugin: CheckedPlugin): void => {
    const option = optionOf(plugin)
    if (option === null) return
    const message = 'counts consumers, but no plugin authenticates them here: every client is counted by its address'
    issues.warn([...plugin.path, ...option], message, 'an authentication plugin on the route, or a limit by address')
  }
  const entries = [...config.routes, ...config.services.values(), ...config.pluginConfigs.values(), ...config.globalRules]
  const isCounted = entries.some(({ plugins }) => plugins.size > 0 && [...plugins.values()].some((plugin) => optionOf(plugin) !== null))
  if (globals.some(authenticates) || !isCounted) return
  let isAnyAuthenticated = false
  for (const route of config.routes) {
    const { service_id: serviceId, plugin_config_id: pluginConfigId } = route.value
    const service = serviceId === undefined ? undefined : config.services.get(String(serviceId))
    const pluginConfig = pluginConfigId === undefined ? undefined : config.pluginConfigs.get(String(pluginConfigId))
    const plugins = mergePlugins(mergeRoute(route, pluginConfig ?? null, service ?? null).layers).map((item) => item.plugin)
    if (plugins.some(authenticates)) isAnyAuthenticated = true
    else for (const plugin of plugins) warn(plugin)
  }
  if (!isAnyAuthenticated) for (const plugin of globals) warn(plugin)
}

function valueAt(config: Pick<LoadedConfig, 'source'>, path: DocumentPath): unknown {
  return path.reduce<unknown>(
    (value, part) => (typeof value === 'object' && value !== null ? Reflect.get(value, part) : undefined),
    config.source.value,
  )
}

/** Path of the option that makes a limit count consumers, or null. */
function consumerOption(name: string, conf: unknown): DocumentPath | null {
  if (!isOptions(conf)) return null
  for (const option of identities) {
    const value = conf[option]
    if ((Array.isArray(value) ? value : [value]).some((one) => consumerIdentities.has(one))) return [option]
  }
  const isVariable = name !== 'rate-limit' && (conf['key_type'] ?? 'var') === 'var'
  if (conf['key_type'] !== 'constant' && namesConsumer(conf['key'], isVariable)) return ['key']
  for (const option of ['rules', 'limits']) {
    const list = conf[option]
    if (!Array.isArray(list)) continue
    const index = list.findIndex((item: unknown) => isOptions(item) && namesConsumer(item['key'], false))
    if (index >= 0) return [option, index, 'key']
  }
  return null
}

function namesConsumer(key: unknown, isVariable: boolean): boolean {
  if (typeof key !== 'string') return false
  return isVariable ? consumerVariables.has(key) : consumerTemplate.test(key)
}

function isOptions(value: unknown): value is Options {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
