/** What a resource says, as a short text: equal texts, equal resources. */
import { createHash } from 'node:crypto'
import type { ResourceValue, ResourceView } from './resource-store.js'

/** Digest of the fields; their order is no difference. */
export function digestOf(value: ResourceValue): string {
  return createHash('sha256').update(canonical(value)).digest('base64url').slice(0, 22)
}

/** JSON with sorted names. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null'
  const fields = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${fields.map(([name, inner]) => `${JSON.stringify(name)}:${canonical(inner)}`).join(',')}}`
}

const contents = new WeakMap<ResourceValue, string>()

/** Digest of what a resource says besides its id, which is a number in some files and always a text in paths. */
export function contentDigest(value: ResourceValue): string {
  const known = contents.get(value)
  if (known !== undefined) return known
  const { id: _id, ...content } = value
  const digest = digestOf(content)
  contents.set(value, digest)
  return digest
}

/** Digest of all resources of these kinds: another one means that something was changed meanwhile. */
export function stateOf(view: ResourceView, kinds: readonly string[]): string {
  const hash = createHash('sha256')
  for (const kind of kinds) {
    const lines = view.list(kind).map(({ id, value }) => `${JSON.stringify([kind, id])} ${contentDigest(value)}\n`)
    for (const line of lines.sort()) hash.update(line)
  }
  return hash.digest('base64url').slice(0, 16)
}
