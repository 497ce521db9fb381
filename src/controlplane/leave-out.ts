/**
 * A configuration from a store that others write, too: what is not valid here is left out, and the rest serves.
 *
 *   check ── errors ──► the resources that they stand in ──► left out ──► check again … until there are no errors
 *
 * What is left out never opens what it may have protected:
 *
 *   route                               goes on matching, and is answered 503; it is absent only when what it matches cannot be read
 *   service, upstream, plugin_config,   a gap, as if deleted by force: what names it is answered 503
 *   consumer_group
 *   consumer, credential                absent: nobody comes in with it
 *   global rule, ssl with `client`      the whole configuration is refused: it is not known what would serve without the rule
 *   anything else                       absent
 */
import type { CheckResult } from './check.js'
import { type ConfigIssue, parsePath } from './load-issue.js'
import { ADMIN_MARK } from './store/base-resources.js'
import type { ResourceMap } from './store/resource-map.js'
import { type ResourceChange, type ResourceValue, resourceKey, type StoredResource } from './store/resource-store.js'

/** A resource that does not serve. */
export interface LeftOut {
  readonly resource: StoredResource
  /** Of the first problem; without secrets. */
  readonly reason: string
  /** The resource is not valid itself; else only what it names is left out. */
  readonly isInvalid: boolean
  /** What stands in its place. */
  readonly instead: ResourceChange['resource']
}

export type TolerantResult =
  | {
      readonly ok: true
      readonly checked: Extract<CheckResult, { ok: true }>
      /** What serves. */
      readonly map: ResourceMap
      readonly leftOut: readonly LeftOut[]
    }
  | Extract<CheckResult, { ok: false }>

/** Whether a resource that is not valid may be left out. */
export type Tolerance = (resource: StoredResource) => boolean

export const tolerateAll: Tolerance = () => true

/** Those that were left out before and have not been changed since. */
export function tolerateKnown(leftOut: readonly LeftOut[]): Tolerance {
  const known = new Map(leftOut.map(({ resource }) => [resourceKey(resource.kind, resource.id), resource.modifiedIndex]))
  return ({ kind, id, modifiedIndex }) => known.get(resourceKey(kind, id)) === modifiedIndex
}

/** What leaving something out may bring to light; each round can find as many errors as one check reports. */
const ROUNDS_MAX = 32

/** No resource has it, and routes that name it are answered 503. */
const NOWHERE = '.left-out.'

/** What a route matches by; the hosts of its service are part of it. */
const matching = ['uri', 'uris', 'host', 'hosts', 'methods', 'remote_addr', 'remote_addrs', 'vars', 'filter_func', 'service_id']
const kept = ['id', ...matching, 'priority', 'status']

const gapKinds: ReadonlySet<string> = new Set(['services', 'upstreams', 'plugin_configs', 'consumer_groups'])

/** Checks the resources of `map`, without those that have to be left out. `check` changes nothing. */
export function checkTolerant(map: ResourceMap, check: (map: ResourceMap) => CheckResult, mayLeaveOut: Tolerance): TolerantResult {
  const found = new Map<string, LeftOut>()
  let served = map
  for (let round = 0; ; round++) {
    const checked = check(served)
    if (checked.ok) return { ok: true, checked, map: served, leftOut: [...found.values(), ...dependents(map, served, found)] }
    const wrong = round < ROUNDS_MAX ? wrongResources(checked.errors, map) : null
    if (wrong === null || ![...wrong.values()].every(({ resource }) => isSafeWithout(resource) && mayLeaveOut(resource))) return checked
    let isNew = false
    for (const [key, { resource, issue }] of wrong) {
      const next = leftOutAs(found.get(key), resource, issue)
      if (next === null) continue
      found.set(key, next)
      isNew = true
    }
    if (!isNew) return checked
    served = servedOf(map, found)
  }
}

/** What serves of `map`, where the same is left out as before: nothing of it was changed, and none of it is named by others. */
export function withoutLeftOut(map: ResourceMap, leftOut: readonly LeftOut[]): ResourceMap {
  return servedOf(map, new Map(leftOut.map((one) => [resourceKey(one.resource.kind, one.resource.id), one])))
}

/** Whether others may name a resource of this kind. */
export function isNamedByOthers(kind: string): boolean {
  return gapKinds.has(kind) || kind === 'consumers'
}

/** One line for logs and people. */
export function leftOutText(one: LeftOut): string {
  return `${one.resource.kind}/${one.resource.id} is left out: ${one.reason}; ${effectOf(one)}`
}

/** What becomes of requests. */
export function effectOf({ instead }: LeftOut): string {
  if (instead === null) return 'it is as if it were not there'
  return instead === 'gap' ? 'what needs it is answered 503' : 'its requests are answered 503'
}

/** The resources that the issues are about, with the first issue of each; null = an issue is about something else. */
function wrongResources(
  issues: readonly ConfigIssue[],
  map: ResourceMap,
): ReadonlyMap<string, { readonly resource: StoredResource; readonly issue: ConfigIssue }> | null {
  const wrong = new Map<string, { readonly resource: StoredResource; readonly issue: ConfigIssue }>()
  for (const issue of issues) {
    const resources = resourcesAt(issue, map)
    if (resources.length === 0) return null
    for (const resource of resources) {
      const key = resourceKey(resource.kind, resource.id)
      if (!wrong.has(key)) wrong.set(key, { resource, issue })
    }
  }
  return wrong
}

/** One, or all of a kind that is refused as a whole. */
function resourcesAt({ path }: ConfigIssue, map: ResourceMap): readonly StoredResource[] {
  const [kind, name] = parsePath(path)
  if (typeof kind !== 'string') return []
  if (name === undefined) return map.list(kind)
  if (typeof name !== 'string' || !name.endsWith(ADMIN_MARK)) return []
  const resource = map.get(kind, name.slice(0, -ADMIN_MARK.length))
  return resource === undefined ? [] : [resource]
}

/** Whether it can be left out without letting in what it may have kept out. */
function isSafeWithout({ kind, value }: StoredResource): boolean {
  if (kind === 'global_rules') return false
  return kind !== 'ssls' || value['client'] === undefined
}

/** What stands instead of a resource that is wrong, `known` being what was tried before; null = nothing else is possible. */
function leftOutAs(known: LeftOut | undefined, resource: StoredResource, issue: ConfigIssue): LeftOut | null {
  if (known === undefined) {
    const instead = resource.kind === 'routes' ? standIn(resource) : gapKinds.has(resource.kind) ? 'gap' : null
    return { resource, reason: reasonOf(issue, resource), isInvalid: true, instead }
  }
  // What the route matches by is wrong.
  return known.instead === null || known.instead === 'gap' ? null : { ...known, instead: null }
}

function reasonOf({ path, message }: ConfigIssue, { kind, id }: StoredResource): string {
  const below = path.slice(`${kind}[${JSON.stringify(`${id}${ADMIN_MARK}`)}]`.length).replace(/^\./, '')
  return below === '' ? message : `${below}: ${message}`
}

function standIn(resource: StoredResource): StoredResource {
  const value = Object.fromEntries(kept.filter((name) => resource.value[name] !== undefined).map((name) => [name, resource.value[name]]))
  return { ...resource, value: { ...value, plugin_config_id: NOWHERE } }
}

function servedOf(map: ResourceMap, found: ReadonlyMap<string, LeftOut>): ResourceMap {
  if (found.size === 0) return map
  const changes: ResourceChange[] = [...found.values()].map(({ resource: { kind, id }, instead }) => ({ kind, id, resource: instead }))
  changes.push({ kind: 'plugin_configs', id: NOWHERE, resource: 'gap' })
  // Hosts come from the service where the route has none: without them the route would match everywhere.
  const services = [...found.values()].filter(({ resource, instead }) => resource.kind === 'services' && instead === 'gap')
  const hosts = new Map(services.map(({ resource }) => [resource.id, resource.value['hosts']]))
  for (const route of hosts.size === 0 ? [] : map.list('routes')) {
    const own = found.get(resourceKey('routes', route.id))?.instead
    if (own === null || own === 'gap') continue
    const { value } = own ?? route
    const inherited = hosts.get(idIn(value, 'service_id'))
    if (inherited === undefined || value['hosts'] !== undefined || value['host'] !== undefined) continue
    const isReadable = Array.isArray(inherited) && inherited.length > 0
    const resource = isReadable ? { ...(own ?? route), value: { ...value, hosts: inherited } } : null
    changes.push({ kind: 'routes', id: route.id, resource })
  }
  return map.changed(changes, map.revision)
}

/** Resources that are valid, and yet do not serve because of what they name. */
function dependents(map: ResourceMap, served: ResourceMap, found: ReadonlyMap<string, LeftOut>): LeftOut[] {
  const list: LeftOut[] = []
  if (![...found.values()].some(({ resource }) => gapKinds.has(resource.kind))) return list
  const missing = ({ value }: StoredResource, fields: readonly (readonly [string, string])[]): string | null => {
    for (const [field, kind] of fields) if (found.has(resourceKey(kind, idIn(value, field)))) return `${kind}/${idIn(value, field)}`
    return null
  }
  for (const [kind, fields] of named) {
    for (const resource of map.list(kind)) {
      if (found.has(resourceKey(kind, resource.id))) continue
      let name = missing(resource, fields)
      const { value } = resource
      const service = kind === 'routes' ? map.get('services', idIn(value, 'service_id')) : undefined
      const hasOwn = value['upstream'] !== undefined || value['upstream_id'] !== undefined
      if (name === null && service !== undefined && !hasOwn) name = missing(service, [['upstream_id', 'upstreams']])
      if (name === null) continue
      const instead = served.get(kind, resource.id) ?? null
      list.push({ resource, reason: `it needs ${name}, which is left out`, isInvalid: false, instead })
    }
  }
  return list
}

const named: readonly (readonly [string, readonly (readonly [string, string])[]])[] = [
  [
    'routes',
    [
      ['service_id', 'services'],
      ['plugin_config_id', 'plugin_configs'],
      ['upstream_id', 'upstreams'],
    ],
  ],
  ['consumers', [['group_id', 'consumer_groups']]],
]

function idIn(value: ResourceValue, field: string): string {
  const id = value[field]
  return typeof id === 'string' || typeof id === 'number' ? String(id) : ''
}
