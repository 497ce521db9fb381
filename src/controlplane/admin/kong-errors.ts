/** What is wrong with a Kong file, in the shapes of Kong's Admin API: `fields`, and with `?flatten_errors=1` entity by entity. Pure. */
import { credentialPaths } from '../import-kong/kong-view.js'
import { type ConfigIssue, type DocumentPath, parsePath } from '../load-issue.js'
import type { ResourceValue } from '../store/resource-store.js'
import { type Answer, kongAnswer } from './answer.js'
import { isMap } from './patch.js'

/** Lists of entities, at the top of a file or inside of an entity that owns them. */
const entityLists: ReadonlySet<string> = new Set([
  ...['services', 'routes', 'upstreams', 'targets', 'plugins', 'consumers', 'consumer_groups', 'certificates', 'ca_certificates', 'snis'],
  ...['acls', 'vaults', ...Object.keys(credentialPaths)],
])

/** The answer to a file that is not accepted. With `flattened`, errors that belong to an entity stand there and not in `fields`. */
export function invalidKongFile(issues: readonly ConfigIssue[], document: unknown, flattened: boolean): Answer {
  const entities = flattened ? new FlattenedErrors(document) : null
  const root: ErrorNode = { text: null, below: new Map() }
  for (const { path, message } of issues) {
    const parts = parsePath(path)
    if (entities?.add(parts, message) !== true) addAt(root, parts.length === 0 ? ['_'] : parts, message)
  }
  const fields = shapeOf(root)
  return kongAnswer(400, {
    code: 14,
    name: 'invalid declarative configuration',
    message: `declarative config is invalid: ${JSON.stringify(fields)}`,
    fields,
    ...(entities !== null && { flattened_errors: entities.list() }),
  })
}

interface ErrorNode {
  text: string | null
  readonly below: Map<string | number, ErrorNode>
}

function addAt(root: ErrorNode, path: DocumentPath, message: string): void {
  let at = root
  for (const part of path) {
    const next = at.below.get(part) ?? { text: null, below: new Map() }
    at.below.set(part, next)
    at = next
  }
  at.text ??= message
}

/** More places without an error before the first one make a list a map, as Kong's JSON does. */
const SPARSE_MAX = 10

function shapeOf({ text, below }: ErrorNode): unknown {
  if (below.size === 0) return text
  const numbers = [...below.keys()].filter((key) => typeof key === 'number')
  const length = Math.max(...numbers, -1) + 1
  const isList = numbers.length === below.size && text === null && (length <= SPARSE_MAX || length <= 2 * numbers.length)
  if (isList) return Array.from({ length }, (_, index) => inner(below, index))
  // Fields of an entity beside what is wrong with all of it; places are counted from 1.
  const fields = [...below.keys()].map((key) => [typeof key === 'number' ? String(key + 1) : key, inner(below, key)])
  return Object.fromEntries(text === null ? fields : [['@entity', [text]], ...fields])
}

function inner(below: ErrorNode['below'], key: string | number): unknown {
  const node = below.get(key)
  return node === undefined ? null : shapeOf(node)
}

interface EntityErrors {
  readonly type: string
  readonly entity: ResourceValue
  readonly errors: object[]
}

/** Errors by the entity that they are about, wherever it stands in the file. */
class FlattenedErrors {
  private readonly found = new Map<string, EntityErrors>()

  constructor(private readonly document: unknown) {}

  /** False when the place is not in an entity. */
  add(path: DocumentPath, message: string): boolean {
    const place = entityAt(this.document, path)
    if (place === null) return false
    const { list, entity, owner, rest } = place
    const key = JSON.stringify(path.slice(0, path.length - rest.length))
    const errors = this.found.get(key) ?? { type: list.replace(/s$/, ''), entity: ownFields(entity, owner), errors: [] }
    this.found.set(key, errors)
    const field = rest.map((part) => (typeof part === 'number' ? part + 1 : part)).join('.')
    errors.errors.push(field === '' ? { type: 'entity', message } : { type: 'field', field, message })
    return true
  }

  list(): object[] {
    return [...this.found.values()].map(({ type, entity, errors }) => {
      const { name, id, tags } = entity
      return {
        entity_type: type,
        ...(typeof name === 'string' && name !== '' && { entity_name: name }),
        ...(isUuid(id) && { entity_id: id }),
        ...(Array.isArray(tags) && tags.every((tag) => typeof tag === 'string') && { entity_tags: tags }),
        entity,
        errors,
      }
    })
  }
}

interface EntityPlace {
  readonly list: string
  readonly entity: ResourceValue
  readonly owner: { readonly list: string; readonly id: unknown } | null
  /** Path below the entity. */
  readonly rest: DocumentPath
}

/** The innermost entity on a path. */
function entityAt(document: unknown, path: DocumentPath): EntityPlace | null {
  let place: EntityPlace | null = null
  let at = document
  for (let depth = 0; depth + 1 < path.length; depth += 2) {
    const [list, index] = [path[depth], path[depth + 1]]
    if (typeof list !== 'string' || typeof index !== 'number' || !entityLists.has(list) || !isMap(at)) break
    const items = at[list]
    const entity: unknown = Array.isArray(items) ? items[index] : undefined
    if (!isMap(entity)) break
    const owner: EntityPlace['owner'] = place === null ? null : { list: place.list, id: place.entity['id'] }
    place = { list, entity, owner, rest: path.slice(depth + 2) }
    at = entity
  }
  return place
}

/** Without the entities inside of it and without private keys; with the id of its owner, if the file gives one. */
function ownFields(entity: ResourceValue, owner: EntityPlace['owner']): ResourceValue {
  const fields = Object.entries(entity).filter(
    ([name, value]) => !(entityLists.has(name) && Array.isArray(value)) && !((name === 'key' || name === 'key_alt') && 'cert' in entity),
  )
  const reference = owner === null || !isUuid(owner.id) ? [] : [[owner.list.replace(/s$/, ''), { id: owner.id }] as const]
  return Object.fromEntries([...reference, ...fields])
}

export function isUuid(value: unknown): value is string {
  return typeof value === 'string' && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(value)
}
