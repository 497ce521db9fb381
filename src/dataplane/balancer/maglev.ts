/**
 * Maglev hashing (Eisenbud et al., NSDI 2016): a table in which every node has nearly exactly its share of places, so that load is more
 * even than on a ring, while a change of nodes still moves few keys. Weights as in Envoy: a node of weight w takes its turn in filling
 * the table w times as often as one of weight 1.
 */
import { crc32 } from '../../base/crc32.js'
import type { HashPlaces } from './hash-balancer.js'
import type { Tier } from './tier.js'

/** Primes of the paper: the larger one from 650 nodes on. */
const PLACES = 65_537
const PLACES_MANY = 655_373
const MANY_NODES = 650

/** Places that a walk visits before it gives up: enough to meet all nodes but very light ones. */
const WALK_PER_NODE = 8

export class MaglevTable implements HashPlaces {
  readonly length: number
  private readonly table: Uint16Array | Uint32Array
  private position = 0
  private stride = 1

  constructor(tier: Tier) {
    const places = tier.size < MANY_NODES ? PLACES : PLACES_MANY
    this.table = tier.size < 65_535 ? new Uint16Array(places) : new Uint32Array(places)
    this.length = tier.size * WALK_PER_NODE
    fill(this.table, tier)
  }

  first(hash: number): number {
    const mixed = mix(hash)
    this.position = mixed % this.table.length
    // Each key goes on in its own direction: the keys of a node that is down spread over all others.
    this.stride = 1 + (mix(mixed ^ 0x9e3779b9) % (this.table.length - 1))
    return this.table[this.position] as number
  }

  next(): number {
    this.position = (this.position + this.stride) % this.table.length
    return this.table[this.position] as number
  }
}

function fill(table: Uint16Array | Uint32Array, tier: Tier): void {
  const places = table.length
  const { size, weights, addresses } = tier
  const skip = new Uint32Array(size)
  const place = new Uint32Array(size)
  for (const [index, address] of addresses.entries()) {
    const hash = crc32(address)
    place[index] = mix(hash) % places
    skip[index] = 1 + (mix(hash ^ 0x5bd1e995) % (places - 1))
  }
  const heaviest = weights.reduce((most, weight) => Math.max(most, weight), 0)
  const credit = new Float64Array(size)
  const taken = new Uint8Array(places)
  // In the order of their addresses, so that the order in a file, or of a DNS answer, decides nothing.
  const order = [...addresses.keys()].sort((a, b) => ((addresses[a] as string) < (addresses[b] as string) ? -1 : 1))
  let filled = 0
  for (;;) {
    for (const index of order) {
      credit[index] = (credit[index] as number) + (weights[index] as number) / heaviest
      if ((credit[index] as number) < 1) continue
      credit[index] = (credit[index] as number) - 1
      let wanted = place[index] as number
      while (taken[wanted] === 1) wanted = (wanted + (skip[index] as number)) % places
      taken[wanted] = 1
      table[wanted] = index
      place[index] = (wanted + (skip[index] as number)) % places
      if (++filled === places) return
    }
  }
}

/** Finalizer of MurmurHash3 (32 bits): CRC-32 alone puts similar keys at similar places. */
function mix(value: number): number {
  let state = value
  state = Math.imul(state ^ (state >>> 16), 0x85ebca6b)
  state = Math.imul(state ^ (state >>> 13), 0xc2b2ae35)
  return (state ^ (state >>> 16)) >>> 0
}
