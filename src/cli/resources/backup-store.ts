/**
 * Backups of a store that gateways share: its resources at one revision, as they are there, private keys included; and back, as one change
 * that running gateways follow like any other.
 *
 *   {"revision", "place", "resources": [...], "gaps": [[kind, id], ...]}
 */
import { wallMs } from '../../base/clock.js'
import { UsageError } from '../../base/errors.js'
import { isMap } from '../../controlplane/admin/patch.js'
import { formatIssue } from '../../controlplane/load-issue.js'
import { contentDigest } from '../../controlplane/store/resource-digest.js'
import { ResourceMap } from '../../controlplane/store/resource-map.js'
import { type Mutation, resourceKey, type StoredResource } from '../../controlplane/store/resource-store.js'
import { isResource } from '../../controlplane/store/resource-text.js'
import { ConfigurationSource } from '../configuration.js'
import { flagsFor } from '../flags.js'
import { type SharedStoreConfig, withSharedStore } from '../open-store.js'

export interface StoreCopy {
  readonly revision: number
  readonly place: string
  readonly resources: readonly StoredResource[]
  readonly gaps: readonly (readonly [kind: string, id: string])[]
}

/** The store that a configuration file names; null = the file is not valid, and that was said. Rejects with UsageError when it names none. */
export async function sharedStoreOf(file: string): Promise<SharedStoreConfig | null> {
  const store = await new ConfigurationSource(flagsFor(file), process.env, () => 0).sharedStore()
  if (store === null) throw new UsageError(`${file}: it names no store that gateways share`)
  if (!('ok' in store)) return store
  for (const issue of store.errors) process.stderr.write(`${formatIssue(issue)}\n`)
  return null
}

export function copyStore(config: SharedStoreConfig): Promise<StoreCopy> {
  return withSharedStore(config, ({ place, map }) => {
    const all = [...map.all()]
    const resources = all.flatMap(({ resource }) => (resource === null || resource === 'gap' ? [] : [resource]))
    const gaps = all.flatMap(({ kind, id, resource }) => (resource === 'gap' ? [[kind, id] as const] : []))
    return Promise.resolve({ revision: map.revision, place, resources: resources.sort(byCreation), gaps })
  })
}

/** Bytes of a backup; where a resource stood in a file is no part of it. */
export function bytesOfCopy({ revision, place, resources, gaps }: StoreCopy): Buffer {
  return Buffer.from(JSON.stringify({ revision, place, resources: resources.map((one) => ({ ...one, origin: undefined })), gaps }))
}

/** Null = it is none. */
export function copyOfBytes(bytes: Buffer): StoreCopy | null {
  let value: unknown
  try {
    value = JSON.parse(bytes.toString('utf8'))
  } catch {
    return null
  }
  if (!isMap(value)) return null
  const [revision, place, resources, gaps] = ['revision', 'place', 'resources', 'gaps'].map((name) => value[name])
  if (typeof revision !== 'number' || typeof place !== 'string' || !Array.isArray(resources) || !Array.isArray(gaps)) return null
  if (!resources.every(isResource)) return null
  const names = gaps.map((gap: unknown): readonly [string, string] => (Array.isArray(gap) ? [String(gap[0]), String(gap[1])] : ['', '']))
  return { revision, place, resources: resources.map((one) => ({ ...one, origin: null })), gaps: names }
}

/**
 * Makes the store what it was. With `force` also when it holds something else. Rejects with UsageError when nothing was changed; resolves
 * with what was done, for people.
 */
export function restoreStore(config: SharedStoreConfig, copy: StoreCopy, force: boolean): Promise<string> {
  const now = wallMs()
  const isAlive = ({ expiresAtMs }: StoredResource): boolean => expiresAtMs === null || expiresAtMs > now
  const wanted = ResourceMap.of(
    copy.resources.filter(isAlive),
    Math.max(1, copy.revision),
    copy.gaps.map(([kind, id]) => resourceKey(kind, id)),
  )
  return withSharedStore(config, async ({ place, kind, position, map, backend }) => {
    if (position === null) {
      if ((await backend.replace(null, null, wanted, now)) === null) throw changedMeanwhile(place)
      return `${place}: ${copy.resources.length} resource(s), as they were`
    }
    const mutations = mutationsTo(map, wanted)
    if (mutations.length === 0) return `${place} is as it was`
    const isEmpty = map.all().next().done === true
    if (!isEmpty && !force) throw new UsageError(`${place}: it holds something else; expected an empty store, or --force`)
    const after = map.with(mutations, position.revision + 1, now)
    const next = await backend.write(position, mutations, after, now)
    if (next === null) throw changedMeanwhile(place, kind === 'etcd' && mutations.length > ETCD_CHANGE_MAX)
    return `${place}: ${mutations.length} change(s) as revision ${next.revision}; it is as it was at revision ${copy.revision}`
  })
}

/** More changes are several transactions there. */
const ETCD_CHANGE_MAX = 100

function changedMeanwhile(place: string, mayBePart = false): UsageError {
  const part = mayBePart ? ', and a part of it may be restored' : ''
  return new UsageError(`${place}: others changed it meanwhile${part}; expected a store that nobody writes, try again`)
}

function mutationsTo(map: ResourceMap, wanted: ResourceMap): Mutation[] {
  const mutations: Mutation[] = []
  for (const { kind, id, resource } of map.all()) {
    if (resource === 'gap' || wanted.get(kind, id) !== undefined) continue
    mutations.push({ type: 'delete', kind, id, leavesGap: wanted.stateOf(kind, id) === 'gap' })
  }
  const resources = [...wanted.all()].flatMap(({ resource }) => (resource === null || resource === 'gap' ? [] : [resource]))
  for (const { kind, id, value, expiresAtMs } of resources.sort(byCreation)) {
    const there = map.get(kind, id)
    if (there !== undefined && contentDigest(there.value) === contentDigest(value) && there.expiresAtMs === expiresAtMs) continue
    mutations.push({ type: 'put', kind, id, value, expiresAtMs })
  }
  return mutations
}

function byCreation(a: StoredResource, b: StoredResource): number {
  return a.createdIndex - b.createdIndex
}
