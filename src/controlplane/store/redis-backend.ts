/** The shared store over records in Redis (cluster/shared-configuration.ts): resources as texts, one record each. */
import { randomUUID } from 'node:crypto'
import type { ResourceMap } from './resource-map.js'
import { CHANGES_LISTED_MAX, type Mutation, noRevision, type ResourceChange, resourceKey, type StoreRevision } from './resource-store.js'
import { resourceOfText, textOfResource } from './resource-text.js'
import { StoreAway, type StoreBackend, type StoreNews, type StorePosition } from './store-backend.js'

interface RecordChange {
  readonly field: string
  readonly text: string
}

interface LoggedRevision {
  readonly revision: number
  readonly atMs: number
  readonly changes: readonly (RecordChange & { readonly before: string })[]
}

/** What keeps the records. */
export interface RecordKeeper {
  readonly place: string
  read(known: StorePosition | null): Promise<
    | { readonly state: 'same' | 'empty' }
    | {
        readonly state: 'changed'
        readonly position: StorePosition
        readonly isWhole: boolean
        readonly changes: readonly RecordChange[]
      }
  >
  write(
    known: StorePosition | null,
    next: { readonly id: string; readonly revision: number },
    changes: readonly RecordChange[],
    atMs: number,
    isWhole: boolean,
  ): Promise<StorePosition | null>
  log(behind: number): Promise<{ readonly token: string; readonly oldest: number; readonly revisions: readonly LoggedRevision[] } | null>
  listen(heard: () => void): void
  close(): void
}

export class RedisBackend implements StoreBackend {
  readonly kind = 'redis'
  readonly mayLose = true
  readonly pollMs = 250

  /** `isAway`: tells failures of Redis from those of this program. */
  constructor(
    private readonly keeper: RecordKeeper,
    private readonly isAway: (error: unknown) => error is Error,
  ) {}

  get place(): string {
    return this.keeper.place
  }

  async read(known: StorePosition | null): Promise<StoreNews> {
    const news = await this.asked(() => this.keeper.read(known))
    return news.state === 'changed' ? { ...news, changes: news.changes.map((change) => this.changeIn(change)) } : { state: news.state }
  }

  write(known: StorePosition, mutations: readonly Mutation[], after: ResourceMap, atMs: number): Promise<StorePosition | null> {
    const touched = new Map(mutations.map(({ kind, id }) => [resourceKey(kind, id), { kind, id }]))
    const changes = [...touched].map(([field, { kind, id }]) => ({ field, text: textOfResource(after.stateOf(kind, id)) }))
    return this.asked(() => this.keeper.write(known, { id: known.id, revision: known.revision + 1 }, changes, atMs, false), true)
  }

  replace(known: StorePosition | null, id: string | null, map: ResourceMap, atMs: number): Promise<StorePosition | null> {
    const changes = [...map.all()].map((one) => ({ field: resourceKey(one.kind, one.id), text: textOfResource(one.resource) }))
    return this.asked(() => this.keeper.write(known, { id: id ?? randomUUID(), revision: map.revision }, changes, atMs, true), true)
  }

  async history(): Promise<readonly StoreRevision[]> {
    const log = await this.asked(() => this.keeper.log(0))
    return (log?.revisions ?? [])
      .map(({ revision, atMs, changes }) => ({
        revision,
        atMs,
        changes: changes.slice(0, CHANGES_LISTED_MAX).map(({ field, text }) => ({ type: typeOf(text), ...splitField(field) })),
        changeCount: changes.length,
      }))
      .reverse()
  }

  async at(revision: number, known: StorePosition, current: ResourceMap): Promise<ResourceMap | string> {
    const log = await this.asked(() => this.keeper.log(revision))
    if (log === null || log.token !== known.token) return 'the store was changed meanwhile; ask again'
    if (revision < log.oldest || revision > known.revision) return noRevision(revision, log.oldest, known.revision)
    const undone = log.revisions.toReversed().flatMap(({ changes }) => changes.toReversed())
    return current.changed(
      undone.map(({ field, before }) => this.changeIn({ field, text: before })),
      revision,
    )
  }

  listen(heard: () => void): void {
    this.keeper.listen(heard)
  }

  close(): void {
    this.keeper.close()
  }

  private changeIn({ field, text }: RecordChange): ResourceChange {
    const resource = resourceOfText(text)
    if (resource === undefined) throw new StoreAway(`the record "${field}" is none of this version`)
    return { ...splitField(field), resource }
  }

  private async asked<T>(call: () => Promise<T>, isWrite = false): Promise<T> {
    try {
      return await call()
    } catch (error) {
      throw this.isAway(error) ? new StoreAway(error.message, isWrite) : error
    }
  }
}

function typeOf(text: string): Mutation['type'] {
  return text.startsWith('{') ? 'put' : 'delete'
}

function splitField(field: string): { kind: string; id: string } {
  const blank = field.indexOf(' ')
  return { kind: field.slice(0, blank), id: field.slice(blank + 1) }
}
