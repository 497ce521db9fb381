/**
 * Header fields by which plugins of a route tell the upstream who calls. A client's own copies are removed before any plugin runs: a plugin
 * that was skipped, or that another one made needless (multi-auth), cannot remove them. Worked out when a route is linked.
 */
import type { HeaderList } from '../../base/headers.js'
import type { PluginInstance } from '../../plugins/plugin.js'

/** What clients prove their identity with: it must reach the plugins. */
const credentials: readonly string[] = ['authorization', 'proxy-authorization', 'cookie']

/** Upstreams that map fields to CGI-style variables read `X_User` and `X-User` as one. */
function dashed(name: string): string {
  return name.includes('_') ? name.replaceAll('_', '-') : name
}

export class GuardedFields {
  constructor(private readonly names: ReadonlySet<string>) {}

  removeFrom(headers: HeaderList): void {
    for (let index = 0; index < headers.count; index++) {
      const key = headers.keys[index] as string
      if (!this.names.has(dashed(key))) continue
      headers.remove(key)
      index--
    }
  }
}

/** The fields that `plugins` guard, without those that `known` guard already; null = none. */
export function guardedFields(plugins: readonly PluginInstance[], known: readonly PluginInstance[] = []): GuardedFields | null {
  const names = new Set(plugins.flatMap(({ setsFields = [] }) => setsFields.map(dashed)))
  if (names.size === 0) return null
  for (const { readsFields = [] } of [...plugins, ...known]) for (const name of readsFields) names.delete(dashed(name))
  for (const { setsFields = [] } of known) for (const name of setsFields) names.delete(dashed(name))
  for (const name of credentials) names.delete(name)
  return names.size === 0 ? null : new GuardedFields(names)
}
