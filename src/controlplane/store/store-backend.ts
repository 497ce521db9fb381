/**
 * What a store that several gateways share asks of the server that keeps it: Redis or etcd.
 *
 * Everything rejects with StoreAway, within a deadline, when the server does not answer.
 */
import type { ResourceMap } from './resource-map.js'
import type { Mutation, ResourceChange, StoreRevision } from './resource-store.js'

/** One state of what the server keeps. */
export interface StorePosition {
  /** Of the whole, for as long as it lives: not the same after another one has taken its place. */
  readonly id: string
  readonly revision: number
  /** Tells two histories apart that have come to the same revision. */
  readonly token: string
}

export type StoreNews =
  | { readonly state: 'same' }
  /** The server has nothing. */
  | { readonly state: 'empty' }
  | {
      readonly state: 'changed'
      readonly position: StorePosition
      /** The changes are all that there is; else those since the known position. */
      readonly isWhole: boolean
      readonly changes: readonly ResourceChange[]
    }

export interface StoreBackend {
  readonly kind: 'redis' | 'etcd'
  /** For people, without secrets. */
  readonly place: string
  /** True: the server may lose what it has acknowledged, and what the gateways know is then written back. */
  readonly mayLose: boolean
  /** Milliseconds between two questions for news; messages make most of them come sooner. */
  readonly pollMs: number
  read(known: StorePosition | null): Promise<StoreNews>
  /** All of it or nothing; null = it is not at `known` any more. `after`: what there will be, but for the revision. */
  write(known: StorePosition, mutations: readonly Mutation[], after: ResourceMap, atMs: number): Promise<StorePosition | null>
  /** `map` is all that there shall be. `known`: what it takes the place of; null = nothing. `id`: null = a new one. */
  replace(known: StorePosition | null, id: string | null, map: ResourceMap, atMs: number): Promise<StorePosition | null>
  /** Keys (see resourceKey) of what is named and is not there, where the server does not say so itself. */
  gapsOf?(map: ResourceMap): ReadonlySet<string>
  history(): Promise<readonly StoreRevision[] | string>
  /** What there was at an earlier revision, or why that is not known; `current` is what there is at `known`. */
  at(revision: number, known: StorePosition, current: ResourceMap): Promise<ResourceMap | string>
  /** Calls `heard` when there may be news. */
  listen(heard: () => void): void
  close(): void
}

/** The server gave no answer that can be used. The text holds no secrets. */
export class StoreAway extends Error {
  override readonly name = 'StoreAway'
  constructor(
    message: string,
    /** A write may have been done all the same. */
    readonly isUncertain = false,
  ) {
    super(message)
  }
}
