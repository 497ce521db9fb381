/**
 * The credentials that a worker keeps at hand, in sets of four by the hash of plugin and key: a hit touches the marks of its set and the
 * credential, and nothing of the shared tables.
 *
 * A set that is full gives up a place to one in eight that ask for it (bimodal insertion: Qureshi et al., ISCA 2007). Where far more
 * credentials are in use than fit, keeping each would cost more than it gives: what is kept for a while is moved twice by the
 * garbage collector, what is dropped at once costs it nothing.
 */
import type { HeaderBlock } from '../../base/headers.js'
import type { Credential } from '../../plugins/plugin.js'
import { identityOf } from '../identity-headers.js'
import type { LinkedConsumer } from './linked-consumer.js'

const WAYS = 4
/** A power of two. */
const ASKED_PER_PLACE = 8

/** Its conf is read and linked when a plugin first asks for it: some never do. */
export class LinkedCredential implements Credential {
  #conf: unknown
  #read: (() => unknown) | null
  #identity: HeaderBlock | null = null

  constructor(
    readonly plugin: number,
    readonly id: string,
    readonly key: string,
    readonly consumer: LinkedConsumer,
    read: () => unknown,
  ) {
    this.#read = read
    Object.freeze(this)
  }

  get conf(): unknown {
    if (this.#read !== null) {
      this.#conf = this.#read()
      this.#read = null
    }
    return this.#conf
  }

  /** The fields that tell an upstream about it and its consumer. */
  get identity(): HeaderBlock {
    this.#identity ??= identityOf(this.consumer, this.id)
    return this.#identity
  }
}

export class CredentialCache {
  private readonly marks: Int32Array
  private readonly kept: (LinkedCredential | undefined)[]
  private readonly setMask: number
  /** Requests for places of full sets. */
  private asked = 0

  /** `capacity`: a power of two of at least four. */
  constructor(capacity: number) {
    this.marks = new Int32Array(capacity)
    this.kept = new Array<LinkedCredential | undefined>(capacity).fill(undefined)
    this.setMask = capacity / WAYS - 1
  }

  /** `high`, `low`: hash of plugin and key. The whole key is compared, in a time that does not depend on where it differs. */
  get(high: number, low: number, plugin: number, key: string): LinkedCredential | undefined {
    const first = (high & this.setMask) * WAYS
    for (let place = first; place < first + WAYS; place++) {
      if (this.marks[place] !== low) continue
      const credential = this.kept[place]
      if (credential !== undefined && credential.plugin === plugin && isEqual(credential.key, key)) return credential
    }
    return undefined
  }

  /** A place for a credential that is not kept, by its hash; -1 = none for now. */
  placeFor(high: number): number {
    const first = (high & this.setMask) * WAYS
    for (let place = first; place < first + WAYS; place++) if (this.kept[place] === undefined) return place
    const asked = this.asked++
    return asked % ASKED_PER_PLACE === 0 ? first + ((asked / ASKED_PER_PLACE) % WAYS) : -1
  }

  keep(place: number, low: number, credential: LinkedCredential): void {
    this.marks[place] = low
    this.kept[place] = credential
  }
}

/** Looks at all characters of texts of the same length. */
function isEqual(one: string, other: string): boolean {
  if (one.length !== other.length) return false
  let difference = 0
  for (let index = 0; index < one.length; index++) difference |= one.charCodeAt(index) ^ other.charCodeAt(index)
  return difference === 0
}
