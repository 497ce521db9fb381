/** The resources that a batch of changes touches, checked as the check of a whole configuration does. */
import type { PluginConfigResource, RouteResource, ServiceResource } from '../../schema/route.js'
import type { UpstreamResource } from '../../schema/upstream.js'
import type { CompiledState } from '../compile.js'
import type { IssueList } from '../load-issue.js'
import type { Entry } from '../load-types.js'
import type { SecretResolver } from '../secrets.js'
import { adminPlace } from '../store/base-resources.js'
import type { Touched } from '../store/configuration-writer.js'
import type { ResourceView } from '../store/resource-store.js'
import { typeEntries, withoutNulls } from '../validate.js'
import { checkRoute, checkService, type IdSet, type RouteChecks } from '../validate-routes.js'
import { checkUpstream } from '../validate-upstreams.js'

/** By id; null = it is gone. Entries that are wrong are missing: there are issues then. */
export interface TouchedEntries {
  readonly routes: ReadonlyMap<string, Entry<RouteResource> | null>
  readonly services: ReadonlyMap<string, Entry<ServiceResource> | null>
  readonly pluginConfigs: ReadonlyMap<string, Entry<PluginConfigResource> | null>
  readonly upstreams: ReadonlyMap<string, Entry<UpstreamResource> | null>
}

export interface TouchedChecks {
  readonly loaded: CompiledState['loaded']
  readonly issues: IssueList
  readonly secrets: SecretResolver
}

export function readTouched(view: ResourceView, touched: readonly Touched[], { loaded, issues, secrets }: TouchedChecks): TouchedEntries {
  const { registry, enabled } = loaded
  const checks = { registry, enabled, issues, secrets }
  const read = <T extends object>(kind: string, check: (entry: Entry<T>) => void): Map<string, Entry<T> | null> => {
    const entries = new Map<string, Entry<T> | null>()
    for (const { kind: of, id } of touched) {
      if (of !== kind || entries.has(id)) continue
      const stored = view.get(kind, id)
      if (stored === undefined) entries.set(id, null)
      else {
        const raw = { id, path: adminPlace(kind, id), value: withoutNulls(stored.value) }
        for (const entry of typeEntries<T>(kind, [raw], checks)) {
          entries.set(id, entry)
          check(entry)
        }
      }
    }
    return entries
  }
  const routeChecks: RouteChecks = {
    ids: { upstreams: idsOf(view, 'upstreams'), services: idsOf(view, 'services'), plugin_configs: idsOf(view, 'plugin_configs') },
    parameters: loaded.process.router.mode === 'radixtree_uri_with_parameter',
    issues,
  }
  return {
    upstreams: read<UpstreamResource>('upstreams', ({ value, path }) => checkUpstream(value, path, issues)),
    pluginConfigs: read<PluginConfigResource>('plugin_configs', () => {}),
    services: read<ServiceResource>('services', ({ value, path }) => checkService(value, path, routeChecks)),
    routes: read<RouteResource>('routes', ({ value, path }) => checkRoute(value, path, routeChecks)),
  }
}

/** Ids that may be named. They are not listed: only messages about wrong ones would need that. */
function idsOf(view: ResourceView, kind: string): IdSet {
  return {
    has: (id) => view.get(kind, id) !== undefined || view.gaps(kind).has(id),
    [Symbol.iterator]: () => [][Symbol.iterator](),
  }
}
