/** Warns about lists of consumer groups that no consumer can be on: they refuse everybody, which is seldom what was meant. */
import type { IssueList } from './load-issue.js'
import type { LoadedConfig } from './load-types.js'

export function checkGroupLists(config: LoadedConfig, issues: IssueList): void {
  const { routes, services, pluginConfigs, globalRules, consumerGroups } = config
  const groups = new Set(config.consumers.groups)
  for (const entry of [...routes, ...services.values(), ...pluginConfigs.values(), ...globalRules, ...consumerGroups.values()]) {
    const plugin = entry.plugins.get('consumer-restriction')
    if (plugin === undefined || plugin.meta.disable === true) continue
    const { conf } = plugin
    if (typeof conf !== 'object' || conf === null || Reflect.get(conf, 'type') !== 'consumer_group_id') continue
    const list: unknown = Reflect.get(conf, 'whitelist')
    if (!Array.isArray(list) || list.some((group) => groups.has(String(group)))) continue
    const message = 'no consumer is in any of these groups: everybody is refused, with 401 who has no group'
    issues.warn([...plugin.path, 'whitelist'], message, 'consumers with one of these as their group_id', { atKey: true })
  }
}
