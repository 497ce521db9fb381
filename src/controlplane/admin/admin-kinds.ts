/** The kinds of resources of the Admin API: their paths, verbs, words and what answers add to them. */
import { resourceKinds } from '../../schema/resources.js'
import { upstreamsNamedIn } from '../named-upstreams.js'
import type { ResourceValue, ResourceView, StoredResource } from '../store/resource-store.js'

export interface AdminKind {
  /** Below `/apisix/admin/`; also the kind in the store, but for credentials. */
  readonly path: string
  readonly kind: string
  /** In messages: `missing route id`. */
  readonly word: string
  readonly verbs: ReadonlySet<string>
  /** Why nothing can be written; null = it can. */
  readonly off: string | null
}

const every = ['GET', 'PUT', 'POST', 'PATCH', 'DELETE']
const noPost = ['GET', 'PUT', 'PATCH', 'DELETE']
const plain = ['GET', 'PUT', 'DELETE']

function kind(path: string, word: string, verbs: readonly string[], off: string | null = null): [string, AdminKind] {
  const unsupported = resourceKinds.some((item) => item.kind === path && !item.supported) ? `${path} are not supported yet` : null
  return [path, { path, kind: path, word, verbs: new Set(verbs), off: off ?? unsupported }]
}

/** By the first part of the path. Credentials stand below consumers. */
export const adminKinds: ReadonlyMap<string, AdminKind> = new Map([
  kind('routes', 'route', every),
  kind('services', 'service', every),
  kind('upstreams', 'upstream', every),
  kind('ssls', 'ssl', every),
  kind('protos', 'proto', every),
  kind('stream_routes', 'stream route', every, 'stream mode is disabled, can not add stream routes'),
  kind('global_rules', 'global rule', noPost),
  kind('plugin_configs', 'plugin config', noPost),
  kind('consumer_groups', 'consumer group', noPost),
  kind('consumers', 'consumer', plain),
  kind('plugin_metadata', 'plugin_metadata', plain),
  kind('secrets', 'secret', noPost, 'secrets are not supported yet: references such as $env://NAME need none'),
])

export const credentialKind: AdminKind = {
  path: 'credentials',
  kind: 'credentials',
  word: 'credential',
  verbs: new Set(plain),
  off: null,
}

/** Kind of the Kong file that was sent last: no resource, and kept beside them. */
export const kongFileKind = 'kong_configs'

/** Kinds that a store holds for the Admin API. */
export const storedKinds: readonly string[] = resourceKinds.map((item) => item.kind)

const upstreamDefaults = { type: 'roundrobin', hash_on: 'vars', pass_host: 'pass', scheme: 'http' }
const defaults: { readonly [kind: string]: ResourceValue } = {
  routes: { status: 1, priority: 0 },
  upstreams: upstreamDefaults,
  ssls: { status: 1, type: 'server' },
}

/** The `key` of a resource in answers. */
export function keyOf(kindName: string, id: string): string {
  return kindName === 'credentials' ? `/apisix/consumers/${id}` : `/apisix/${kindName}/${id}`
}

/**
 * A resource as answers show it: with defaults and times, never with the private key of a certificate. Viewers see no secrets at all;
 * admins see what they wrote, because scripts read, change and write back.
 */
export function shown({ kind: kindName, id, value, createTime, updateTime }: StoredResource, role: 'admin' | 'viewer'): ResourceValue {
  const own: { [name: string]: unknown } = { ...defaults[kindName], ...value, create_time: createTime, update_time: updateTime }
  if (kindName === 'consumers' || kindName === 'plugin_metadata') {
    if (value['id'] === undefined || kindName === 'plugin_metadata') delete own['id']
  } else own['id'] = kindName === 'credentials' ? id.replace(/^.*\/credentials\//s, '') : id
  if (typeof own['upstream'] === 'object') own['upstream'] = { ...upstreamDefaults, ...own['upstream'] }
  const visible = withoutPrivateKeys(kindName, own)
  return role === 'admin' ? visible : withoutSecrets(kindName, visible)
}

/** Private keys of certificates are never given out. */
export function withoutPrivateKeys(kindName: string, value: ResourceValue): ResourceValue {
  if (kindName !== 'ssls') return value
  const { key: _key, keys: _keys, ...rest } = value
  return rest
}

/** With stars instead of secrets. */
export function withoutSecrets(kindName: string, value: ResourceValue): ResourceValue {
  return masked(value, kindName === 'consumers' || kindName === 'credentials' ? identitySecret : otherSecret)
}

const identitySecret = /(key|secret|password|passwd|token|credential|private)s?$/i
const otherSecret = /(secret|password|passwd|token|private|client_key|apikey|api_key|secret_key|private_key)s?$/i
const MASK = '******'

function masked(fields: ResourceValue, secret: RegExp): ResourceValue {
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, maskedValue(name, value, secret)]))
}

function maskedValue(name: string, value: unknown, secret: RegExp): unknown {
  if (typeof value === 'string') return secret.test(name) ? MASK : value
  if (Array.isArray(value)) return value.map((item) => maskedValue(name, item, secret))
  return typeof value === 'object' && value !== null ? masked({ ...value }, secret) : value
}

interface User {
  readonly kind: string
  readonly word: string
  readonly field: string
}

/** Who may name a resource of a kind, and how the refusal to delete it begins. */
const users: { readonly [kind: string]: { readonly target: string; readonly by: readonly User[] } } = {
  upstreams: {
    target: 'this upstream',
    by: [
      { kind: 'routes', word: 'route', field: 'upstream_id' },
      { kind: 'services', word: 'service', field: 'upstream_id' },
    ],
  },
  services: { target: 'this service directly', by: [{ kind: 'routes', word: 'route', field: 'service_id' }] },
  plugin_configs: { target: 'this plugin config', by: [{ kind: 'routes', word: 'route', field: 'plugin_config_id' }] },
  consumer_groups: { target: 'this consumer group', by: [{ kind: 'consumers', word: 'consumer', field: 'group_id' }] },
}

/** Resources whose plugins may name an upstream, as the refusal calls them. */
const pluginOwners = [
  ['routes', 'route'],
  ['services', 'service'],
  ['plugin_configs', 'plugin_config'],
  ['consumer_groups', 'consumer_group'],
  ['consumers', 'consumer'],
  ['global_rules', 'global_rules'],
] as const

/** Why a resource cannot be deleted, or null. */
export function usedBy(view: ResourceView, kindName: string, id: string): string | null {
  const found = users[kindName]
  if (found === undefined) return null
  for (const user of found.by) {
    const first = view.list(user.kind).find(({ value }) => value[user.field] !== undefined && String(value[user.field]) === id)
    if (first !== undefined) return `can not delete ${found.target}, ${user.word} [${first.id}] is still using it now`
  }
  if (kindName !== 'upstreams') return null
  for (const [kind, word] of pluginOwners) {
    const first = view.list(kind).find(({ value }) => upstreamsNamedIn(value['plugins']).has(id))
    if (first !== undefined) return `can not delete ${found.target}, plugin in ${word} [${first.id}] is still using it now`
  }
  return null
}
