/**
 * Resources at one revision, in memory. Immutable: what a change makes shares nearly everything with what it was made from.
 *
 * Resources of a kind are a large map that is never written, and over it a small one with what was changed since, which each change
 * copies. When the small one has grown to about the square root of the large one, both become a new large one; so a change costs some
 * microseconds, whatever the number of resources.
 */
import { type Mutation, type ResourceChange, type ResourceView, resourceKey, type StoredResource } from './resource-store.js'

/** Resources of one kind. In `over`, null = deleted. */
interface Layers {
  readonly base: ReadonlyMap<string, StoredResource>
  readonly over: ReadonlyMap<string, StoredResource | null>
}

/** What must be done to one map to have the other one. */
export type Difference = Pick<Mutation, 'type' | 'kind' | 'id'>

const noLayers: Layers = { base: new Map(), over: new Map() }

export class ResourceMap implements ResourceView {
  static readonly empty = new ResourceMap(0, new Map(), new Set())

  private constructor(
    readonly revision: number,
    private readonly kinds: ReadonlyMap<string, Layers>,
    private readonly gapKeys: ReadonlySet<string>,
  ) {}

  /** Of resources with the same kind and id the last one counts. */
  static of(resources: Iterable<StoredResource>, revision: number, gaps: Iterable<string> = []): ResourceMap {
    const kinds = new Map<string, Map<string, StoredResource>>()
    for (const resource of resources) {
      let known = kinds.get(resource.kind)
      if (known === undefined) {
        known = new Map()
        kinds.set(resource.kind, known)
      }
      known.set(resource.id, resource)
    }
    const layers = [...kinds].map(([kind, base]) => [kind, { base, over: noLayers.over }] as const)
    return new ResourceMap(revision, new Map(layers), new Set(gaps))
  }

  get(kind: string, id: string): StoredResource | undefined {
    const layers = this.kinds.get(kind)
    return layers === undefined ? undefined : find(layers.base, layers.over, id)
  }

  list(kind: string): readonly StoredResource[] {
    const layers = this.kinds.get(kind)
    return layers === undefined ? [] : [...merged(layers)].sort((a, b) => a.createdIndex - b.createdIndex)
  }

  gaps(kind: string): ReadonlySet<string> {
    const start = resourceKey(kind, '')
    return new Set([...this.gapKeys].filter((key) => key.startsWith(start)).map((key) => key.slice(start.length)))
  }

  /** As others have left it. */
  changed(changes: Iterable<ResourceChange>, revision: number): ResourceMap {
    const changed = new Map<string, Map<string, StoredResource | null>>()
    const gaps = new Set(this.gapKeys)
    for (const { kind, id, resource } of changes) {
      const { base, over } = this.kinds.get(kind) ?? noLayers
      let known = changed.get(kind)
      if (known === undefined) {
        known = new Map(over)
        changed.set(kind, known)
      }
      if (resource === 'gap' || resource === null) remove(base, known, id)
      else set(known, id, resource)
      if (resource === 'gap') gaps.add(resourceKey(kind, id))
      else gaps.delete(resourceKey(kind, id))
    }
    return new ResourceMap(revision, this.layersWith(changed), gaps)
  }

  withGaps(gaps: ReadonlySet<string>): ResourceMap {
    return new ResourceMap(this.revision, this.kinds, gaps)
  }

  /** Whether the same resources and gaps are there. */
  equals(other: ResourceMap): boolean {
    const texts = (map: ResourceMap) =>
      [...map.all()].map(({ kind, id, resource }) => JSON.stringify([kind, id, resource], withoutOrigin)).sort()
    const [own, others] = [texts(this), texts(other)]
    return own.length === others.length && own.every((text, index) => text === others[index])
  }

  /** Every resource and every gap. */
  *all(): Generator<ResourceChange> {
    for (const [kind, layers] of this.kinds) for (const resource of merged(layers)) yield { kind, id: resource.id, resource }
    for (const key of this.gapKeys) {
      const blank = key.indexOf(' ')
      yield { kind: key.slice(0, blank), id: key.slice(blank + 1), resource: 'gap' }
    }
  }

  /** What is not the same in the two: where they share what they were made from, what was changed. */
  differences(other: ResourceMap): Difference[] {
    const gone: Difference[] = []
    const there: { readonly difference: Difference; readonly createdIndex: number }[] = []
    for (const { kind, id, resource } of this.all()) {
      const before = other.stateOf(kind, id)
      if (before === resource) continue
      if (resource === null || resource === 'gap') {
        gone.push({ type: 'delete', kind, id })
        continue
      }
      // What was deleted in between stands behind all others now.
      const isAnother = before !== null && before !== 'gap' && before.createdIndex !== resource.createdIndex
      if (isAnother) gone.push({ type: 'delete', kind, id })
      there.push({ difference: { type: 'put', kind, id }, createdIndex: resource.createdIndex })
    }
    for (const { kind, id } of other.all()) if (this.stateOf(kind, id) === null) gone.push({ type: 'delete', kind, id })
    return [...gone, ...there.sort((a, b) => a.createdIndex - b.createdIndex).map(({ difference }) => difference)]
  }

  /** What there is of one resource. */
  stateOf(kind: string, id: string): ResourceChange['resource'] {
    return this.get(kind, id) ?? (this.gapKeys.has(resourceKey(kind, id)) ? 'gap' : null)
  }

  with(mutations: readonly Mutation[], revision: number, atMs: number): ResourceMap {
    if (mutations.length === 0) return new ResourceMap(revision, this.kinds, this.gapKeys)
    const changed = new Map<string, Map<string, StoredResource | null>>()
    let gaps = null as Set<string> | null
    for (const mutation of mutations) {
      const { kind, id } = mutation
      const { base, over } = this.kinds.get(kind) ?? noLayers
      let known = changed.get(kind)
      if (known === undefined) {
        known = new Map(over)
        changed.set(kind, known)
      }
      const key = resourceKey(kind, id)
      if (mutation.type === 'put') {
        const resource = putOver(find(base, known, id), mutation, revision, atMs)
        set(known, id, resource)
        if (gaps === null && this.gapKeys.has(key)) gaps = new Set(this.gapKeys)
        gaps?.delete(key)
      } else {
        remove(base, known, id)
        if (mutation.leavesGap) {
          gaps ??= new Set(this.gapKeys)
          gaps.add(key)
        }
      }
    }
    return new ResourceMap(revision, this.layersWith(changed), gaps ?? this.gapKeys)
  }

  private layersWith(changed: ReadonlyMap<string, ReadonlyMap<string, StoredResource | null>>): ReadonlyMap<string, Layers> {
    const kinds = new Map(this.kinds)
    for (const [kind, over] of changed) kinds.set(kind, settled({ base: (this.kinds.get(kind) ?? noLayers).base, over }))
    return kinds
  }
}

/** For JSON.stringify: where a resource comes from is no part of it. */
function withoutOrigin(name: string, value: unknown): unknown {
  return name === 'origin' ? undefined : value
}

/** What is there again after it was deleted stands behind all others. */
function set(over: Map<string, StoredResource | null>, id: string, resource: StoredResource): void {
  if (over.get(id) === null) over.delete(id)
  over.set(id, resource)
}

function remove(base: Layers['base'], over: Map<string, StoredResource | null>, id: string): void {
  if (base.has(id)) over.set(id, null)
  else over.delete(id)
}

function find(base: Layers['base'], over: Layers['over'], id: string): StoredResource | undefined {
  const found = over.get(id)
  return found === undefined ? base.get(id) : (found ?? undefined)
}

/** All resources; those that are equally old in the order in which they came. */
function* merged({ base, over }: Layers): Generator<StoredResource> {
  const placed = new Set<string>()
  for (const [id, resource] of base) {
    const newer = over.get(id)
    if (newer === undefined) yield resource
    else if (newer?.createdIndex === resource.createdIndex) {
      placed.add(id)
      yield newer
    }
  }
  for (const [id, resource] of over) if (resource !== null && !placed.has(id)) yield resource
}

function settled(layers: Layers): Layers {
  const { base, over } = layers
  if (over.size * over.size <= 8 * base.size + 4_096) return layers
  const all = new Map<string, StoredResource>()
  for (const resource of merged(layers)) all.set(resource.id, resource)
  return { base: all, over: noLayers.over }
}

/** The resource after a put: what was there gives the time and place of its creation. */
export function putOver(
  before: StoredResource | undefined,
  mutation: Extract<Mutation, { type: 'put' }>,
  revision: number,
  atMs: number,
): StoredResource {
  const seconds = Math.floor(atMs / 1000)
  return {
    kind: mutation.kind,
    id: mutation.id,
    value: mutation.value,
    createdIndex: before?.createdIndex ?? revision,
    modifiedIndex: revision,
    createTime: before?.createTime ?? seconds,
    updateTime: seconds,
    expiresAtMs: mutation.expiresAtMs,
    origin: null,
  }
}
