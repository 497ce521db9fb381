/** Resources as JSON texts, for Redis and for copies on disk. The origin in a file is no part of them. */
import type { ResourceChange, StoredResource } from './resource-store.js'

/** A resource that was deleted although others name it. */
export const GAP_TEXT = '-'

/** Empty = it is not there. */
export function textOfResource(resource: ResourceChange['resource']): string {
  if (resource === null) return ''
  if (resource === 'gap') return GAP_TEXT
  const { origin: _origin, ...own } = resource
  return JSON.stringify(own)
}

/** Null when the text is none of ours. */
export function resourceOfText(text: string): ResourceChange['resource'] | undefined {
  if (text === '') return null
  if (text === GAP_TEXT) return 'gap'
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  return isResource(value) ? { ...value, origin: null } : undefined
}

/** The shape is looked at for the sake of other versions, and of those who write by hand. */
export function isResource(value: unknown): value is Omit<StoredResource, 'origin'> {
  if (typeof value !== 'object' || value === null) return false
  const field = (name: string): unknown => Reflect.get(value, name)
  const numbers = ['createdIndex', 'modifiedIndex', 'createTime', 'updateTime']
  const expires = field('expiresAtMs')
  return (
    typeof field('kind') === 'string' &&
    typeof field('id') === 'string' &&
    typeof field('value') === 'object' &&
    field('value') !== null &&
    numbers.every((name) => typeof field(name) === 'number') &&
    (expires === null || typeof expires === 'number')
  )
}
