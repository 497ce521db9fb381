/**
 * The credentials that a worker keeps at hand, in sets of four by the hash of plugin and key: a hit touches the marks of its set and the
 * credential, and nothing of the shared tables. A set that is full gives up the place that was filled first.
 */
import type { Credential } from '../../plugins/plugin.js'
import type { LinkedConsumer } from './linked-consumer.js'

const WAYS = 4

/** Its conf is read and linked when a plugin first asks for it: some never do. */
export class LinkedCredential implements Credential {
  #conf: unknown
  #read: (() => unknown) | null

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
}

export class CredentialCache {
  private readonly marks: Int32Array
  private readonly kept: (LinkedCredential | undefined)[]
  private readonly setMask: number
  /** Place within its set that is given up next; one for all sets is as good as one for each. */
  private turn = 0

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

  set(high: number, low: number, credential: LinkedCredential): void {
    const first = (high & this.setMask) * WAYS
    let place = first
    while (place < first + WAYS && this.kept[place] !== undefined) place++
    if (place === first + WAYS) place = first + (this.turn++ % WAYS)
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
