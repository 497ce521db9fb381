/**
 * Where the resources of the configuration are kept: one contract for the file beside the configuration, Redis and etcd.
 *
 * A store holds resources by kind and id and counts its revisions. Whoever changes it names the revision that the change was made for:
 * if somebody else was faster, nothing is changed. A store knows nothing of what resources mean; the writer (configuration-writer.ts)
 * validates a whole configuration before it calls `apply`, and publishes it only after `apply` has succeeded.
 */
import type { DocumentPath } from '../load-issue.js'

/** Fields of a resource as they were given: with its `id` (plugin metadata and consumers too), without times and indexes. */
export type ResourceValue = { readonly [name: string]: unknown }

export interface StoredResource {
  /** As in the file: `routes`; credentials have the kind `credentials`, apart from their consumers. */
  readonly kind: string
  /** Unique in its kind; of a credential `jack/credentials/one`. */
  readonly id: string
  readonly value: ResourceValue
  /** Revisions of the store. Those of resources of the configuration file are their places in it. */
  readonly createdIndex: number
  readonly modifiedIndex: number
  /** Seconds since 1970. */
  readonly createTime: number
  readonly updateTime: number
  /** Milliseconds since 1970; null = stays. */
  readonly expiresAtMs: number | null
  /** Place in the configuration file; null = it does not come from there. */
  readonly origin: DocumentPath | null
}

export type Mutation =
  | {
      readonly type: 'put'
      readonly kind: string
      readonly id: string
      readonly value: ResourceValue
      readonly expiresAtMs: number | null
    }
  | {
      readonly type: 'delete'
      readonly kind: string
      readonly id: string
      /** Others may go on naming it: what needs it is answered with 503. */
      readonly leavesGap: boolean
    }

export type ApplyOutcome =
  /** In the store for good: no crash loses it. */
  | { readonly state: 'stored'; readonly revision: number }
  /** Nothing was changed: the store is at another revision by now. */
  | { readonly state: 'conflict'; readonly revision: number }
  /** Nothing was changed: the store cannot be written. `reason` is for clients and logs. */
  | { readonly state: 'unavailable'; readonly reason: string }

/** What became of one resource. */
export interface ResourceChange {
  readonly kind: string
  readonly id: string
  /** null = it is not there; `gap` = nor should it be, although others name it (see Mutation). */
  readonly resource: StoredResource | 'gap' | null
}

/** Resources at one revision. Never changes. */
export interface ResourceView {
  readonly revision: number
  get(kind: string, id: string): StoredResource | undefined
  /** In the order of their creation. */
  list(kind: string): readonly StoredResource[]
  /** Ids of what was deleted although others name it (see Mutation). */
  gaps(kind: string): ReadonlySet<string>
  /** What it would be after these mutations, in this order, under this revision. */
  with(mutations: readonly Mutation[], revision: number, atMs: number): ResourceView
}

export interface ResourceStore {
  current(): ResourceView
  /** All mutations or none. One call at a time. `atMs`: wall clock, for create_time and update_time. */
  apply(mutations: readonly Mutation[], expectedRevision: number, atMs: number): Promise<ApplyOutcome>
  /** The revisions that `at` can give, the newest first; or why there are none to be had. */
  history(): Promise<readonly StoreRevision[] | string>
  /** The resources as a revision left them, or why they are not known any more. */
  at(revision: number): Promise<ResourceView | string>
  /** Calls `changed` after somebody else has changed what `current` gives; returns what ends it. */
  watch(changed: () => void): () => void
  /** For `/status` and logs. No secrets. */
  describe(): StoreDescription
  close(): Promise<void>
}

/** One revision, and what it changed. */
export interface StoreRevision {
  readonly revision: number
  /** Wall clock, milliseconds since 1970; null = not known: older revisions that were gathered into one. */
  readonly atMs: number | null
  /** The first CHANGES_LISTED_MAX of them. */
  readonly changes: readonly StoreRevisionChange[]
  readonly changeCount: number
}

export interface StoreRevisionChange {
  readonly type: Mutation['type']
  readonly kind: string
  readonly id: string
}

export const CHANGES_LISTED_MAX = 100

/** Revisions that a store keeps, besides the one that all older ones were gathered into. */
export const REVISIONS_KEPT_MAX = 100

export interface StoreDescription {
  readonly kind: string
  readonly revision: number
  /** Where it is, for people. */
  readonly place: string
  /** Why it cannot be written, or why what it holds does not serve; null = all is well. */
  readonly problem: string | null
  /** False: the server that keeps it does not answer. */
  readonly isReachable: boolean
  /** Changes by the Admin API that are not in force, because the file was changed after them. */
  readonly setAside: readonly { readonly kind: string; readonly id: string; readonly reason: string }[]
}

/** Why `at` has no such revision. */
export function noRevision(revision: number, oldest: number, newest: number): string {
  return `there is no revision ${revision}: the store keeps ${oldest} to ${newest}`
}

/** Names one resource in maps; ids hold no blanks. */
export function resourceKey(kind: string, id: string): string {
  return `${kind} ${id}`
}
