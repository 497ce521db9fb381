/**
 * The journal of the file store as a history. Records of single revisions follow upon what older ones were gathered into:
 *
 *   {revision: 40, changes} … {revision: 40, changes}  {revision: 41, at, changes}  {revision: 42, at, changes} …
 *
 * Pure: what is read and written is the store's affair.
 */
import type { Change, JournalRecord } from './file-store.js'
import { CHANGES_LISTED_MAX, REVISIONS_KEPT_MAX, resourceKey, type StoreRevision } from './resource-store.js'

/** How much of the last revisions stays apart when older ones are gathered. */
export interface HistoryLimits {
  readonly revisions: number
  /** As JSON. */
  readonly bytes: number
}

export const historyLimits: HistoryLimits = { revisions: REVISIONS_KEPT_MAX, bytes: 16 * 1_048_576 }

/** Changes in one gathered record. */
const GATHERED_BATCH = 1_000

/** What is left of all records: the last change of each resource. */
export function gather(records: readonly JournalRecord[]): Map<string, Change> {
  const changes = new Map<string, Change>()
  for (const record of records) for (const change of record.changes) changes.set(resourceKey(change.kind, change.id), change)
  return changes
}

/** The first revision that is known: that of what was gathered, or 0. */
export function oldestRevision(records: readonly JournalRecord[]): number {
  return records.findLast((record) => record.at === undefined)?.revision ?? 0
}

/** The newest first. */
export function revisionsOf(records: readonly JournalRecord[]): StoreRevision[] {
  const single = records.filter(({ at }) => at !== undefined)
  const oldest = oldestRevision(records)
  const gathered = [...gather(records.filter(({ at }) => at === undefined)).values()]
  const first = gathered.length === 0 ? [] : [{ revision: oldest, atMs: null, ...listed(gathered) }]
  return [
    ...first,
    ...single.map((record) => ({ revision: record.revision, atMs: record.at ?? null, ...listed(record.changes) })),
  ].reverse()
}

function listed(changes: readonly Change[]): Pick<StoreRevision, 'changes' | 'changeCount'> {
  const first = changes.slice(0, CHANGES_LISTED_MAX).map(({ type, kind, id }) => ({ type, kind, id }))
  return { changes: first, changeCount: changes.length }
}

/** The same history with all but the last revisions gathered; changes that are not wanted are left out. */
export function* gatheredRecords(
  records: readonly JournalRecord[],
  limits: HistoryLimits,
  amongGathered: (change: Change) => boolean,
  amongLast: (change: Change) => boolean,
): Generator<JournalRecord> {
  const from = firstKept(records, limits)
  const older = records.slice(0, from)
  const revision = older.at(-1)?.revision ?? 0
  const changes = [...gather(older).values()].filter(amongGathered)
  for (let at = 0; at < changes.length || (at === 0 && revision > 0); at += GATHERED_BATCH) {
    yield { revision, changes: changes.slice(at, at + GATHERED_BATCH) }
  }
  for (const record of records.slice(from)) yield { ...record, changes: record.changes.filter(amongLast) }
}

/** Index of the first record that stays as it is. */
function firstKept(records: readonly JournalRecord[], limits: HistoryLimits): number {
  let bytes = 0
  let index = records.length
  while (index > 0 && records.length - index < limits.revisions) {
    const record = records[index - 1]
    if (record?.at === undefined) break
    bytes += JSON.stringify(record).length
    if (bytes > limits.bytes) break
    index--
  }
  return index
}
