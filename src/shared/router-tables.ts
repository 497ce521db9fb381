/**
 * The router's tables: read-only numbers and characters in shared memory, so that a worker takes over 100,000 routes by taking over
 * a few handles, and a change by taking over the blocks (shared/blocks) that are different. Written by controlplane/router-index before
 * publishing, read by dataplane/router, never changed: no Atomics. Places are in words of 4 bytes from the start of their block.
 *
 * A *shard* holds the keys whose hash begins with its number, and what they lead to:
 *
 *   0  place of the characters: all strings of the block as UTF-16 code units, referred to by (offset, length)
 *   1  slot mask
 *   2  slots        [hash, place of the entry] x (mask + 1): open addressing; 0 in the second = free
 *      entries      0 space   1 offset and 2 length of the text   3 value   4 value2
 *      candidates, lists: see below
 *
 * A *page* holds the nodes (host buckets, or nodes of the trie in the mode with parameters) whose number begins with its own:
 *
 *   0  place of the characters   1 unused
 *   2  nodes        [0 place of prefix lengths   1 number of them   2 first candidate that ends here   3 number of them
 *                    4 child by `:name`, or -1   5 first `*tail` candidate   6 number of them   7 unused] x nodesPerPage
 *      candidates, lists
 *
 *   candidate       one per (route, pattern, bucket), neighbours in the order in which they are tried:
 *                     0 route   1 method mask   2 flags   3 place of its hosts   4 place of its parameter names
 *                     5 priority   6 length of the pattern   7 order of the route: its rank, which mode `priority` compares
 *   lists           prefix lengths, longest first: [length, mask of last characters (bit = code & 31)] ...
 *                   hosts of a candidate: count, then [flags, offset, length] ...
 *                   parameter names: count, then [offset, length] ...
 *
 * Spaces of keys: see `Space`. Spaces of node n: 2n = exact paths (value = place of the first candidate, value2 = count) or static
 * segments (value = child node); 2n + 1 = prefixes (value = place of the first candidate, value2 = count).
 */
import type { RouterMode } from '../schema/compiled.js'
import { type BlockChanges, type BlockSet, BlockTable } from './blocks.js'

/** What the tables say about themselves. */
export interface RouterShape {
  readonly mode: RouterMode
  /** Random per compilation: nobody outside can predict collisions. */
  readonly seed: number
  /** Longest key of its kind in characters: nothing longer needs to be hashed. */
  readonly maxExactLength: number
  readonly maxPrefixLength: number
  readonly maxSuffixLength: number
  /** Hosts that are given with a port exist. */
  readonly hostsWithPort: boolean
  /** [length, mask of first characters] of the wildcard hosts, longest first: without a port, and with one. */
  readonly suffixes: readonly number[]
  readonly suffixesWithPort: readonly number[]
  /** The shard of a hash is `hash >>> shardShift`. */
  readonly shardShift: number
}

export interface RouterTables extends RouterShape {
  readonly shards: BlockSet
  readonly pages: BlockSet
}

export interface RouterChanges extends RouterShape {
  readonly shards: BlockChanges
  readonly pages: BlockChanges
}

/** Tables as a thread uses them. Never changes. */
export class RouterBlocks {
  private constructor(
    readonly shape: RouterShape,
    readonly shards: BlockTable,
    readonly pages: BlockTable,
  ) {}

  static of({ shards, pages, ...shape }: RouterTables): RouterBlocks {
    return new RouterBlocks(shape, BlockTable.of(shards), BlockTable.of(pages))
  }

  with({ shards, pages, ...shape }: RouterChanges): RouterBlocks {
    return new RouterBlocks(shape, this.shards.with(shards), this.pages.with(pages))
  }

  pack(): RouterTables {
    return { ...this.shape, shards: this.shards.pack(), pages: this.pages.pack() }
  }
}

/** Spaces of keys that do not belong to a node. */
export const Space = {
  hostExact: -1,
  hostSuffix: -2,
  hostExactWithPort: -3,
  hostSuffixWithPort: -4,
} as const

/** Place of the slots of a shard, and of the nodes of a page. */
export const firstPlace = 2
export const slotWidth = 2
export const nodeWidth = 8
export const candidateWidth = 8
export const nodesPerPage = 32
export const pageShift = 5

/** Flags of a candidate. */
export const CandidateFlag = {
  /** Has remote_addrs or vars: link the route's conditions. */
  conditions: 1,
  /** Hosts are checked per candidate (router modes that do not start with the host). */
  hosts: 2,
  /** Captures parameters. */
  params: 4,
} as const

/** Flags of a host in a candidate's list. */
export const HostFlag = { suffix: 1, withPort: 2 } as const

/** Method bits. A method outside of this list has `otherMethod`, which only routes without `methods` accept. */
export const methodBits: Readonly<Record<string, number>> = Object.freeze({
  GET: 1,
  POST: 2,
  PUT: 4,
  DELETE: 8,
  PATCH: 16,
  HEAD: 32,
  OPTIONS: 64,
  CONNECT: 128,
  TRACE: 256,
  PURGE: 512,
})
export const otherMethod = 1 << 29
export const anyMethod = -1

/** One step of the hash that compiler and router must share: `hash = hashStep(hash, code)` from `hashStart(seed)`. */
export function hashStep(hash: number, code: number): number {
  return Math.imul((hash ^ code) + ((hash >>> 15) | 0), 0x2c1b3c6d)
}

export function hashStart(seed: number): number {
  return seed ^ 0x2545f491
}

/** Mixes the hash of a string with its space; the result is what slots and entries hold. */
export function hashFinish(hash: number, space: number): number {
  let mixed = hash ^ Math.imul(space + 0x3779, 0x9e3779b1)
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x7feb352d)
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x846ca68b)
  return (mixed ^ (mixed >>> 16)) | 0
}
