/** What the primary needs of a store besides the resources: how it goes together with the configuration file. */
import type { FileBase } from './file-store.js'
import type { ResourceMap } from './resource-map.js'
import type { ResourceStore, ResourceValue, ResourceView } from './resource-store.js'

/** The resources of a gateway with one configuration file, at one moment. */
export interface StoreView {
  /** What the file says. */
  readonly base: FileBase
  /** What is in force. */
  readonly map: ResourceMap
  readonly setAside: readonly SetAside[]
  /** Changes in force. 0 = the configuration is the file as it is. */
  readonly inForce: number
  /** For the log: what users of this file should know. */
  readonly warnings: readonly string[]
}

/** A change by the Admin API that is not in force. */
export interface SetAside {
  readonly kind: string
  readonly id: string
  readonly reason: string
  /** What the Admin API had put; null = it had deleted the resource. */
  readonly value: ResourceValue | null
}

export interface ConfigurationStore extends ResourceStore {
  /** Reads what others may have written. Rejects with UsageError when it must not be used. */
  refresh(): Promise<void>
  /** What the store would hold with this file; changes nothing. */
  viewOf(base: FileBase): StoreView
  /** From now on this is what the store holds, and it serves. */
  adopt(view: StoreView): void
  /** These resources serve. */
  served(view: ResourceView): void
  /** These do not, because they are not valid here. Null = that is over. */
  refused(reason: string | null): void
  /** Changes that are not in force, with what they hold. */
  setAside(): readonly SetAside[]
  /** Forgets them. Resolves with their number, or with why that is not possible. */
  forgetSetAside(): Promise<number | string>
}
