/** Resources at one revision, in memory. Immutable: a change copies the map of its kind and shares the others. */
import { type Mutation, type ResourceChange, type ResourceView, resourceKey, type StoredResource } from './resource-store.js'

type ById = ReadonlyMap<string, StoredResource>

export class ResourceMap implements ResourceView {
  static readonly empty = new ResourceMap(0, new Map(), new Set())

  private constructor(
    readonly revision: number,
    private readonly kinds: ReadonlyMap<string, ById>,
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
    return new ResourceMap(revision, kinds, new Set(gaps))
  }

  get(kind: string, id: string): StoredResource | undefined {
    return this.kinds.get(kind)?.get(id)
  }

  list(kind: string): readonly StoredResource[] {
    const known = this.kinds.get(kind)
    return known === undefined ? [] : [...known.values()].sort((a, b) => a.createdIndex - b.createdIndex)
  }

  gaps(kind: string): ReadonlySet<string> {
    const start = resourceKey(kind, '')
    return new Set([...this.gapKeys].filter((key) => key.startsWith(start)).map((key) => key.slice(start.length)))
  }

  /** As others have left it. */
  changed(changes: Iterable<ResourceChange>, revision: number): ResourceMap {
    const changed = new Map<string, Map<string, StoredResource>>()
    const gaps = new Set(this.gapKeys)
    for (const { kind, id, resource } of changes) {
      let known = changed.get(kind)
      if (known === undefined) {
        known = new Map(this.kinds.get(kind))
        changed.set(kind, known)
      }
      if (resource === 'gap' || resource === null) known.delete(id)
      else known.set(id, resource)
      if (resource === 'gap') gaps.add(resourceKey(kind, id))
      else gaps.delete(resourceKey(kind, id))
    }
    return new ResourceMap(revision, new Map([...this.kinds, ...changed]), gaps)
  }

  /** Every resource and every gap. */
  *all(): Generator<ResourceChange> {
    for (const [kind, known] of this.kinds) for (const [id, resource] of known) yield { kind, id, resource }
    for (const key of this.gapKeys) {
      const blank = key.indexOf(' ')
      yield { kind: key.slice(0, blank), id: key.slice(blank + 1), resource: 'gap' }
    }
  }

  /** What there is of one resource. */
  stateOf(kind: string, id: string): ResourceChange['resource'] {
    return this.get(kind, id) ?? (this.gapKeys.has(resourceKey(kind, id)) ? 'gap' : null)
  }

  with(mutations: readonly Mutation[], revision: number, atMs: number): ResourceMap {
    if (mutations.length === 0) return new ResourceMap(revision, this.kinds, this.gapKeys)
    const changed = new Map<string, Map<string, StoredResource>>()
    const gaps = new Set(this.gapKeys)
    for (const mutation of mutations) {
      const { kind, id } = mutation
      let known = changed.get(kind)
      if (known === undefined) {
        known = new Map(this.kinds.get(kind))
        changed.set(kind, known)
      }
      if (mutation.type === 'put') {
        known.set(id, putOver(known.get(id), mutation, revision, atMs))
        gaps.delete(resourceKey(kind, id))
      } else {
        known.delete(id)
        if (mutation.leavesGap) gaps.add(resourceKey(kind, id))
      }
    }
    return new ResourceMap(revision, new Map([...this.kinds, ...changed]), gaps)
  }
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
