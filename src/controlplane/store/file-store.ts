/**
 * The store of a gateway of its own: the resources of the configuration file, and over them what the Admin API changed, kept in a
 * journal beside the file.
 *
 * A change notes what the file said about the resource at that time (a digest). It is in force as long as the file still says the same.
 * When the file says something else later, the file is the newer change and wins; the change of the Admin API is *set aside*: kept in
 * the journal, listed by `describe`, in force again when the file goes back to what it said, forgotten with the next change of the same
 * resource. So whoever changed a resource last is right, and nothing is lost unseen.
 *
 *   record of the journal: {revision, at, changes: [Change]}; older ones are gathered into records {revision, changes} at its beginning
 *
 * The journal is also the history: `at` lays the changes up to a revision over the file as it is now. What the file itself said earlier is
 * the affair of whoever keeps the file. The last revisions stay apart when the journal is written anew (file-history.ts).
 */
import { UsageError } from '../../base/errors.js'
import type { ConfigurationStore, SetAside, StoreView } from './configuration-store.js'
import { gather, gatheredRecords, type HistoryLimits, historyLimits, oldestRevision, revisionsOf } from './file-history.js'
import { type JournalContent, JournalWriter, readJournal, reasonOf } from './journal.js'
import { dropOwnership, takeOwnership } from './owner-lock.js'
import { digestOf } from './resource-digest.js'
import { putOver, ResourceMap } from './resource-map.js'
import {
  type ApplyOutcome,
  type Mutation,
  noRevision,
  type ResourceView,
  resourceKey,
  type StoreDescription,
  type StoredResource,
  type StoreRevision,
} from './resource-store.js'

/** What the Admin API last did to one resource. `base`: digest of what the file said then, null = nothing. */
export type Change =
  | (Omit<StoredResource, 'origin'> & { readonly type: 'put'; readonly base: string | null })
  | {
      readonly type: 'delete'
      readonly kind: string
      readonly id: string
      readonly modifiedIndex: number
      readonly leavesGap: boolean
      readonly base: string | null
    }

export interface JournalRecord {
  readonly revision: number
  /** Wall clock; absent = gathered from older records. */
  readonly at?: number
  readonly changes: readonly Change[]
}

/** A configuration file as the store sees it. */
export interface FileBase {
  readonly resources: ReadonlyMap<string, StoredResource>
}

/** The journal is written anew when it is larger than this, and than twice what it was then. */
const COMPACT_BYTES_MIN = 1_048_576

export class FileStore implements ConfigurationStore {
  private writer: JournalWriter | null = null
  private problem: string | null = null
  private view: StoreView = { base: { resources: new Map() }, map: ResourceMap.empty, setAside: [], inForce: 0, warnings: [] }
  private compactedBytes = 0
  private revision: number

  private constructor(
    private readonly file: string,
    private content: Omit<JournalContent, 'records'>,
    private changes: Map<string, Change>,
    private journalRevision: number,
    private readonly limits: HistoryLimits,
  ) {
    this.revision = journalRevision
  }

  /** Reads the journal `file`, which need not exist. Writes nothing. Rejects with UsageError when it is damaged. */
  static async open(file: string, limits = historyLimits): Promise<FileStore> {
    const content = await readJournal(file)
    const { changes, revision } = replay(content, file)
    return new FileStore(file, content, changes, revision, limits)
  }

  /** Bytes of a change that nobody was told to be stored: discarded. */
  get tornBytes(): number {
    return this.content.tornBytes
  }

  /** What the store would hold with this file; changes nothing. */
  viewOf(base: FileBase): StoreView {
    return this.layOver(base, this.changes, this.revision)
  }

  private layOver(base: FileBase, changes: ReadonlyMap<string, Change>, revision: number): StoreView {
    const resources = new Map(base.resources)
    const setAside: SetAside[] = []
    const gaps: string[] = []
    let inForce = 0
    for (const [key, change] of changes) {
      const inFile = digestIn(base, key)
      if (change.type === 'put' && inFile === digestOf(change.value)) continue
      if (change.type === 'delete' && inFile === null) {
        if (change.leavesGap) gaps.push(key)
      } else if (change.base !== inFile) {
        setAside.push(asideOf(change, inFile))
      } else if (change.type === 'put') {
        const own = resources.get(key)
        const { type: _type, base: _base, ...resource } = change
        resources.set(key, { ...resource, createdIndex: own?.createdIndex ?? change.createdIndex, origin: null })
        inForce++
      } else {
        resources.delete(key)
        if (change.leavesGap) gaps.push(key)
        inForce++
      }
    }
    const warnings = setAside.map(({ kind, id, reason }) => `${kind}/${id} was ${reason}; GET /v1/store shows what it was`)
    return {
      base,
      warnings,
      map: ResourceMap.of(resources.values(), Math.max(revision, base.resources.size), gaps),
      setAside,
      inForce: inForce + gaps.length,
    }
  }

  /** From now on this is what the store holds. */
  adopt(view: StoreView): void {
    this.view = view
    this.revision = Math.max(this.revision, view.map.revision)
  }

  current(): ResourceMap {
    return this.view.map
  }

  /** Changes that are not in force, with what they hold. */
  setAside(): readonly SetAside[] {
    return this.view.setAside
  }

  async apply(mutations: readonly Mutation[], expectedRevision: number, atMs: number): Promise<ApplyOutcome> {
    const { map, base } = this.view
    if (expectedRevision !== map.revision) return { state: 'conflict', revision: map.revision }
    const reason = await this.beginWriting()
    if (reason !== null) return { state: 'unavailable', reason }
    const revision = map.revision + 1
    const changes = changesOf(mutations, map, base, revision, atMs)
    try {
      await this.writer?.append({ revision, at: atMs, changes } satisfies JournalRecord)
    } catch (error) {
      return { state: 'unavailable', reason: this.fail(`the change was not stored: ${this.file} cannot be written (${reasonOf(error)})`) }
    }
    this.problem = null
    this.revision = revision
    for (const change of changes) this.changes.set(resourceKey(change.kind, change.id), change)
    const changed = new Set(changes.map((change) => resourceKey(change.kind, change.id)))
    this.view = {
      base,
      warnings: [],
      map: map.with(mutations, revision, atMs),
      setAside: this.view.setAside.filter(({ kind, id }) => !changed.has(resourceKey(kind, id))),
      inForce: this.view.inForce + changes.length,
    }
    await this.compactIfLarge()
    return { state: 'stored', revision }
  }

  /** Forgets changes that were set aside. Resolves with their number, or with why that is not possible. */
  async forgetSetAside(): Promise<number | string> {
    const reason = await this.beginWriting()
    if (reason !== null) return reason
    const { setAside } = this.view
    const forgotten = new Set(setAside.map(({ kind, id }) => resourceKey(kind, id)))
    const isKept = (change: Change) => !forgotten.has(resourceKey(change.kind, change.id))
    try {
      await this.rewrite(isKept, isKept)
    } catch (error) {
      return this.fail(`nothing was forgotten: ${this.file} cannot be written (${reasonOf(error)})`)
    }
    this.changes = new Map([...this.changes].filter(([, change]) => isKept(change)))
    this.view = { ...this.view, setAside: [] }
    return setAside.length
  }

  async history(): Promise<readonly StoreRevision[]> {
    return revisionsOf(await this.records())
  }

  async at(revision: number): Promise<ResourceView | string> {
    const { base, map } = this.view
    const records = await this.records()
    const oldest = oldestRevision(records)
    if (revision < oldest || revision > map.revision) return noRevision(revision, oldest, map.revision)
    return this.layOver(base, gather(records.filter((record) => record.revision <= revision)), revision).map
  }

  private async records(): Promise<readonly JournalRecord[]> {
    return recordsIn(await readJournal(this.file), this.file)
  }

  /** What serves is what is stored. */
  served(): void {}

  refused(): void {}

  /** Nobody else writes the journal of this process. */
  watch(): () => void {
    return () => {}
  }

  describe(): StoreDescription {
    return {
      kind: 'file',
      revision: this.view.map.revision,
      place: this.file,
      problem: this.problem,
      isReachable: true,
      setAside: this.view.setAside.map(({ kind, id, reason }) => ({ kind, id, reason })),
    }
  }

  async close(): Promise<void> {
    if (this.writer === null) return
    await this.writer.close()
    this.writer = null
    await dropOwnership(this.lockFile)
  }

  private get lockFile(): string {
    return `${this.file}.lock`
  }

  /** Takes the journal for this process. Null, or why that cannot be. */
  private async beginWriting(): Promise<string | null> {
    if (this.writer !== null) return null
    try {
      const owner = await takeOwnership(this.lockFile)
      if (owner !== null) {
        return this.fail(
          `${this.file} is written by process ${owner}; send changes there, or give each gateway a sluice.admin.state_file of its own`,
        )
      }
      const content = await readJournal(this.file)
      if (content.validBytes !== this.content.validBytes || replay(content, this.file).revision !== this.journalRevision) {
        await dropOwnership(this.lockFile)
        return this.fail(`${this.file} was changed by another process since it was read; reload or restart this gateway first`)
      }
      this.writer = await JournalWriter.open(this.file, content)
      this.compactedBytes = this.writer.size
      return null
    } catch (error) {
      return this.fail(error instanceof UsageError ? error.message : `${this.file} cannot be written (${reasonOf(error)})`)
    }
  }

  /** Reads again what another process may have written. Nothing to do for the process that writes it. */
  async refresh(): Promise<void> {
    if (this.writer !== null) return
    const content = await readJournal(this.file)
    const { changes, revision } = replay(content, this.file)
    this.content = content
    this.changes = changes
    this.journalRevision = revision
    this.revision = Math.max(this.revision, revision)
  }

  private fail(reason: string): string {
    this.problem = reason
    return reason
  }

  private async compactIfLarge(): Promise<void> {
    const { writer } = this
    if (writer === null || writer.size < Math.max(COMPACT_BYTES_MIN, 2 * this.compactedBytes)) return
    // Deletions of what neither file nor journal holds any more have done their work.
    const isNeeded = (change: Change) =>
      change.type === 'put' || change.base !== null || change.leavesGap || this.view.base.resources.has(resourceKey(change.kind, change.id))
    try {
      await this.rewrite(isNeeded, () => true)
      this.changes = new Map([...this.changes].filter(([, change]) => isNeeded(change)))
      this.compactedBytes = writer.size
    } catch (error) {
      // The long journal is as good as a short one.
      this.problem = `${this.file} cannot be written anew (${reasonOf(error)})`
      this.compactedBytes = writer.size
    }
  }

  /** The journal anew, of the changes that are wanted among those that are gathered and among the last revisions. */
  private async rewrite(amongGathered: (change: Change) => boolean, amongLast: (change: Change) => boolean): Promise<void> {
    await this.writer?.rewrite(gatheredRecords(await this.records(), this.limits, amongGathered, amongLast))
  }
}

export function baseOf(resources: readonly StoredResource[]): FileBase {
  return { resources: new Map(resources.map((resource) => [resourceKey(resource.kind, resource.id), resource])) }
}

/** What the file says about one resource, for comparing it with later files; null = nothing. */
function digestIn(base: FileBase, key: string): string | null {
  const resource = base.resources.get(key)
  return resource === undefined ? null : digestOf(resource.value)
}

function replay(content: JournalContent, file: string): { changes: Map<string, Change>; revision: number } {
  const records = recordsIn(content, file)
  return { changes: gather(records), revision: records.at(-1)?.revision ?? 0 }
}

function recordsIn(content: JournalContent, file: string): readonly JournalRecord[] {
  const records = content.records.filter(isRecord)
  if (records.length < content.records.length)
    throw new UsageError(`${file}: holds a record of another version of this program; expected one of this version`)
  return records
}

/** The checksum says that we wrote it; the shape is looked at for the sake of other versions. */
function isRecord(value: unknown): value is JournalRecord {
  return typeof value === 'object' && value !== null && 'revision' in value && 'changes' in value && Array.isArray(value.changes)
}

/** One change per resource: the last one counts. */
function changesOf(mutations: readonly Mutation[], map: ResourceMap, base: FileBase, revision: number, atMs: number): Change[] {
  const changes = new Map<string, Change>()
  for (const mutation of mutations) {
    const { kind, id } = mutation
    const key = resourceKey(kind, id)
    const inFile = digestIn(base, key)
    if (mutation.type === 'put') {
      const before = changes.get(key)?.type === 'delete' ? undefined : map.get(kind, id)
      const { origin: _origin, ...resource } = putOver(before, mutation, revision, atMs)
      changes.set(key, { type: 'put', ...resource, base: inFile })
    } else {
      changes.set(key, { type: 'delete', kind, id, modifiedIndex: revision, leavesGap: mutation.leavesGap, base: inFile })
    }
  }
  return [...changes.values()]
}

function asideOf(change: Change, inFile: string | null): SetAside {
  const done = change.type === 'put' ? (change.base === null ? 'created' : 'changed') : 'deleted'
  const since =
    inFile === null
      ? 'was then removed from the file'
      : change.base === null
        ? 'was then added to the file'
        : 'was then changed in the file'
  const reason = `${done} by the Admin API (revision ${change.modifiedIndex}), ${since}: the file counts`
  return { kind: change.kind, id: change.id, reason, value: change.type === 'put' ? change.value : null }
}
