/**
 * Keys and values as the reference gateway has them in etcd: `{prefix}/routes/1`, `{prefix}/consumers/jack`,
 * `{prefix}/consumers/jack/credentials/one`; each value is the resource as JSON, with `create_time` and `update_time`.
 */
import { credentialPath } from '../../../schema/consumer.js'
import { resourceKinds } from '../../../schema/resources.js'
import { upstreamsNamedIn } from '../../named-upstreams.js'
import type { ResourceMap } from '../resource-map.js'
import { type ResourceValue, resourceKey, type StoredResource } from '../resource-store.js'

export interface EtcdRecord {
  readonly key: string
  readonly value: string
  readonly createRevision: number
  readonly modRevision: number
}

export interface ResourceName {
  readonly kind: string
  readonly id: string
}

const kinds = new Set(resourceKinds.map(({ kind }) => kind).filter((kind) => kind !== 'credentials'))

export function keyOfResource(prefix: string, { kind, id }: ResourceName): string {
  return `${prefix}/${kind === 'credentials' ? 'consumers' : kind}/${id}`
}

/** Null: the key is none of a resource that this gateway knows. */
export function nameOfKey(prefix: string, key: string): ResourceName | null {
  const path = key.slice(prefix.length + 1)
  const slash = path.indexOf('/')
  const kind = path.slice(0, slash)
  const id = path.slice(slash + 1)
  if (slash < 1 || id === '' || !kinds.has(kind)) return null
  return kind === 'consumers' && credentialPath.test(id) ? { kind: 'credentials', id } : { kind, id }
}

/** What the reference gateway writes to make a folder. */
const FOLDER = 'init_dir'

/** Null: the value stands for a folder. What is no map becomes a resource without fields, which the check of the configuration refuses. */
export function resourceOf(name: ResourceName, { value, createRevision, modRevision }: EtcdRecord): StoredResource | null {
  if (value === FOLDER) return null
  const { create_time, update_time, ...fields } = fieldsIn(value)
  const own = Object.fromEntries(Object.entries(fields).filter(([, inner]) => inner !== null))
  return {
    ...name,
    value: name.kind === 'consumers' ? own : { ...own, id: name.id },
    createdIndex: createRevision,
    modifiedIndex: modRevision,
    createTime: secondsIn(create_time),
    updateTime: secondsIn(update_time),
    // A lease deletes it: that is the affair of etcd.
    expiresAtMs: null,
    origin: null,
  }
}

export function etcdValueOf({ kind, id, value, createTime, updateTime }: StoredResource): ResourceValue {
  const { id: _id, ...fields } = value
  const own = kind === 'credentials' ? id.replace(/^.*\/credentials\//s, '') : id
  const named = kind === 'plugin_metadata' || kind === 'consumers' ? fields : { ...fields, id: own }
  return { ...named, create_time: createTime, update_time: updateTime }
}

function fieldsIn(text: string): { readonly [name: string]: unknown } {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return {}
  }
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {}
}

function secondsIn(value: unknown): number {
  return typeof value === 'number' && Number.isFinite(value) ? Math.floor(value) : 0
}

/** Fields that name other resources, and their kinds. */
const references: { readonly [kind: string]: readonly (readonly [field: string, target: string])[] } = {
  routes: [
    ['upstream_id', 'upstreams'],
    ['service_id', 'services'],
    ['plugin_config_id', 'plugin_configs'],
  ],
  services: [['upstream_id', 'upstreams']],
  consumers: [['group_id', 'consumer_groups']],
}

const pluginOwners = ['routes', 'services', 'plugin_configs', 'consumer_groups', 'consumers', 'global_rules']

/**
 * What is named and not there. Those who write to etcd need not keep order, and some delete by force: what names it is then answered with
 * 503 until it is there, and the rest serves.
 */
export function missingIn(map: ResourceMap): Set<string> {
  const missing = new Set<string>()
  for (const [kind, fields] of Object.entries(references)) {
    for (const { value } of map.list(kind)) {
      for (const [field, target] of fields) {
        const id = value[field]
        if ((typeof id === 'string' || typeof id === 'number') && map.get(target, String(id)) === undefined)
          missing.add(resourceKey(target, String(id)))
      }
    }
  }
  for (const kind of pluginOwners) {
    for (const { value } of map.list(kind)) {
      for (const id of upstreamsNamedIn(value['plugins'])) {
        if (map.get('upstreams', id) === undefined) missing.add(resourceKey('upstreams', id))
      }
    }
  }
  return missing
}
