/** The resources of a configuration file one by one, and a configuration made of the resources of a store. */
import { credentialPath } from '../../schema/consumer.js'
import { resourceKinds } from '../../schema/resources.js'
import type { DocumentPath } from '../load-issue.js'
import type { SourceDocument } from '../load-source.js'
import type { ResourceValue, ResourceView, StoredResource } from './resource-store.js'

type Fields = { [name: string]: unknown }

/**
 * Resources of a parsed file of our form, without nulls, each with its id. Null when an entry is no map, has no usable id or one that is
 * there twice: validation of the file will say so.
 */
export function readBaseResources(root: unknown, changedAtMs: number): StoredResource[] | null {
  const fields = fieldsOf(root)
  if (fields === null) return []
  const reader = new Reader(Math.floor(changedAtMs / 1000))
  for (const { kind } of resourceKinds) {
    const list = fields[kind] ?? []
    if (isEmptyMap(list)) continue
    if (!Array.isArray(list)) return null
    for (const [index, item] of list.entries()) if (!reader.add(kind, index, item)) return null
  }
  return reader.resources
}

class Reader {
  readonly resources: StoredResource[] = []
  private readonly seen = new Set<string>()

  constructor(private readonly seconds: number) {}

  add(kind: string, index: number, item: unknown): boolean {
    const fields = fieldsOf(item)
    if (fields === null) return false
    const path = [kind, index]
    if (kind === 'consumers') return this.consumer(fields, path)
    if (kind === 'credentials') return this.credential(fields, path)
    const given = fields['id']
    if (given !== undefined && typeof given !== 'string' && typeof given !== 'number') return false
    const id = given ?? `arr_${index + 1}`
    return this.store(kind, String(id), { id, ...fields }, path)
  }

  private consumer(fields: Fields, path: DocumentPath): boolean {
    const { username, id } = fields
    if (username === undefined && typeof id === 'string' && credentialPath.test(id)) return this.credential(fields, path)
    if (typeof username !== 'string') return false
    const { credentials = [], ...own } = fields
    if (!this.store('consumers', username, own, path)) return false
    if (!Array.isArray(credentials)) return false
    for (const [index, item] of credentials.entries()) {
      const credential = fieldsOf(item)
      const at = [...path, 'credentials', index]
      if (credential === null || !this.credential({ ...credential, consumer: username }, at)) return false
    }
    return true
  }

  private credential({ consumer, ...fields }: Fields, path: DocumentPath): boolean {
    const { id } = fields
    if (typeof id !== 'string') return false
    const full = consumer === undefined || credentialPath.test(id) ? id : `${String(consumer)}/credentials/${id}`
    if (!credentialPath.test(full)) return false
    return this.store('credentials', full, { ...fields, id: full }, path)
  }

  private store(kind: string, id: string, value: ResourceValue, origin: DocumentPath): boolean {
    const key = `${kind} ${id}`
    if (this.seen.has(key)) return false
    this.seen.add(key)
    const place = this.resources.length + 1
    this.resources.push({
      kind,
      id,
      value,
      createdIndex: place,
      modifiedIndex: place,
      createTime: this.seconds,
      updateTime: this.seconds,
      expiresAtMs: null,
      origin,
    })
    return true
  }
}

/** Behind the id of a resource that no file holds, in messages. */
export const ADMIN_MARK = ' (Admin API)'

/** How the place of a resource that no file holds is written in messages. */
export function adminPlace(kind: string, id: string): DocumentPath {
  return [kind, `${id}${ADMIN_MARK}`]
}

/** The file with the resources of `view` instead of its own. Messages name the place in the file, where there is one. */
export function withResources(source: SourceDocument, view: ResourceView): SourceDocument {
  const root: Fields = { ...fieldsOf(source.value) }
  const places = new Map<string, readonly StoredResource[]>()
  for (const { kind } of resourceKinds) {
    const list = view.list(kind)
    delete root[kind]
    if (list.length === 0) continue
    places.set(kind, list)
    root[kind] = list.map((resource) => resource.value)
  }
  return source.translated(root, (path) => {
    const [kind, index, ...rest] = path
    const resource = typeof kind === 'string' && typeof index === 'number' ? places.get(kind)?.[index] : undefined
    return resource === undefined ? path : [...(resource.origin ?? adminPlace(resource.kind, resource.id)), ...rest]
  })
}

/** The fields of a map, without those that are null; null = it is no map. */
function fieldsOf(value: unknown): Fields | null {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null
  return Object.fromEntries(Object.entries(value).filter(([, inner]) => inner !== null))
}

function isEmptyMap(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && Object.keys(value).length === 0
}
