/** Rules about settings that mean something else in Apache APISIX or Kong, or less than they seem to; and about what nobody uses. */
import type { CheckedPlugin } from '../load-types.js'
import type { LintRule } from './lint-rule.js'
import { isOptions } from './plugin-kinds.js'

const CACHE_SECONDS_MAX = 60

export const conformanceRules: readonly LintRule[] = [
  {
    id: 'breaker-retry-after',
    severity: 'advice',
    group: 'conformance',
    finds: 'A fixed Retry-After in the answers of api-breaker.',
    why: 'The time for which it stays open is 2 s at first and doubles: the fixed number is wrong most of the time.',
    find({ plugins }, report) {
      for (const { name, conf, path } of plugins) {
        const headers = name === 'api-breaker' && isOptions(conf) ? conf['break_response_headers'] : undefined
        if (!Array.isArray(headers)) continue
        const index = headers.findIndex(
          (item: unknown) => isOptions(item) && /^retry-after$/i.test(String(item['key'])) && /^\d+$/.test(String(item['value'])),
        )
        if (index >= 0)
          report(
            [...path, 'break_response_headers', index],
            'a fixed Retry-After',
            'circuit-breaker, whose answers say how long it stays open',
          )
      }
    },
  },
  {
    id: 'breaker-without-half-open',
    severity: 'advice',
    group: 'conformance',
    finds: 'api-breaker.',
    why: 'It has no half-open state: when its time is over, all requests go to a service that may still be down.',
    find({ plugins }, report) {
      for (const { name, path } of plugins)
        if (name === 'api-breaker')
          report(path, 'api-breaker lets everything through when its time is over', 'circuit-breaker', { atKey: true })
    },
  },
  {
    id: 'introspection-cached-long',
    severity: 'warning',
    group: 'conformance',
    finds: `Answers about opaque tokens that are kept for more than ${CACHE_SECONDS_MAX} s.`,
    why: 'A token that was withdrawn at the issuer goes on working for so long.',
    find({ plugins }, report) {
      for (const { conf, path } of plugins) {
        const introspection = isOptions(conf) ? conf['introspection'] : undefined
        const seconds = isOptions(introspection) ? introspection['cache_ttl'] : undefined
        if (typeof seconds === 'number' && seconds > CACHE_SECONDS_MAX)
          report([...path, 'introspection', 'cache_ttl'], `kept for ${seconds} s`, `${CACHE_SECONDS_MAX} s or less`)
      }
    },
  },
  {
    id: 'unused-resource',
    severity: 'advice',
    group: 'tidiness',
    finds: 'A service, upstream, plugin_config or consumer group that nothing names.',
    why: 'It has no effect, and readers believe that it has.',
    find({ config, plugins }, report) {
      const names = (field: string, lists: readonly Iterable<{ value: object }>[]) =>
        new Set(lists.flatMap((list) => [...list].map(({ value }) => String(Reflect.get(value, field)))))
      const inPlugins = upstreamsOf(plugins)
      const groups = new Set(config.consumers.groups)
      const kinds = [
        ['upstreams', config.upstreams, new Set([...names('upstream_id', [config.routes, config.services.values()]), ...inPlugins])],
        ['services', config.services, names('service_id', [config.routes])],
        ['plugin_configs', config.pluginConfigs, names('plugin_config_id', [config.routes])],
        ['consumer_groups', config.consumerGroups, groups],
      ] as const
      for (const [kind, entries, used] of kinds) {
        for (const { id, path } of entries.values()) if (!used.has(id)) report(path, `nothing names ${kind}/${id}`, 'no such entry')
      }
    },
  },
]

/** Ids of upstreams that plugins name, wherever in their options. */
function upstreamsOf(plugins: readonly CheckedPlugin[]): Set<string> {
  const found = new Set<string>()
  const walk = (value: unknown): void => {
    if (Array.isArray(value)) for (const item of value) walk(item)
    else if (isOptions(value)) {
      for (const [name, inner] of Object.entries(value)) {
        if (name === 'upstream_id') found.add(String(inner))
        else walk(inner)
      }
    }
  }
  for (const { conf } of plugins) walk(conf)
  return found
}
