/**
 * The router's tables: read-only numbers and characters in shared memory, so that a worker takes over 100,000 routes by taking over
 * six handles. Written by controlplane/compile-router before publishing, read by dataplane/router, never changed: no Atomics.
 *
 *   chars       Uint16[]    all strings (hosts, paths, parameter names) as UTF-16 code units, referred to by (offset, length)
 *   slots       Int32[2·S]  open addressing, S a power of two ≥ 2 × entries: [hash, entry index + 1]; 0 in the second = free
 *   entries     Int32[6·E]  one per key (space, string):
 *                             0 hash   1 space   2 chars offset   3 chars length   4 value   5 value2
 *   nodes       Int32[8·N]  one per host bucket (router modes without parameters) or per trie node (with parameters):
 *                             0 lists offset of prefix lengths   1 number of prefix lengths
 *                             2 first exact candidate            3 number of them
 *                             4 child by `:name`, or -1          5 first `*tail` candidate   6 number of them   7 unused
 *   candidates  Int32[6·C]  one per (route, pattern, bucket), neighbours in the order in which they are tried:
 *                             0 route index   1 method mask   2 flags   3 lists offset of hosts   4 lists offset of parameter names
 *                             5 rank among all candidates, smaller first (mode `priority`; else 0)
 *   lists       Int32[]     variable-length parts:
 *                             prefix lengths, longest first: [length, mask of last characters (bit = code & 31)] …
 *                             hosts of a candidate: count, then [flags, chars offset, chars length] …
 *                             parameter names: count, then [chars offset, chars length] …
 *
 * Spaces of keys: see `Space`. Spaces of node n: 2·n = exact paths (value = first candidate, value2 = count) or static segments
 * (value = child node); 2·n + 1 = prefixes (value = first candidate, value2 = count).
 */
import type { RouterMode } from '../schema/compiled.js'

export interface RouterTables {
  readonly mode: RouterMode
  /** Random per compilation: nobody outside can predict collisions. */
  readonly seed: number
  readonly routeCount: number
  /** Longest key of its kind in characters: nothing longer needs to be hashed. */
  readonly maxExactLength: number
  readonly maxPrefixLength: number
  readonly maxSuffixLength: number
  /** Hosts that are given with a port exist. */
  readonly hostsWithPort: boolean
  /** Lists offset and number of the suffix lengths of wildcard hosts, longest first: without a port, and with one. */
  readonly suffixes: readonly [number, number]
  readonly suffixesWithPort: readonly [number, number]
  readonly chars: SharedArrayBuffer
  readonly slots: SharedArrayBuffer
  readonly entries: SharedArrayBuffer
  readonly nodes: SharedArrayBuffer
  readonly candidates: SharedArrayBuffer
  readonly lists: SharedArrayBuffer
}

/** Spaces of keys that do not belong to a node. */
export const Space = {
  hostExact: -1,
  hostSuffix: -2,
  hostExactWithPort: -3,
  hostSuffixWithPort: -4,
} as const

export const slotWidth = 2
export const entryWidth = 6
export const nodeWidth = 8
export const candidateWidth = 6

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

/** Typed views over the buffers of `tables`. */
export interface RouterViews {
  readonly chars: Uint16Array
  readonly slots: Int32Array
  readonly entries: Int32Array
  readonly nodes: Int32Array
  readonly candidates: Int32Array
  readonly lists: Int32Array
}

export function viewRouterTables(tables: RouterTables): RouterViews {
  return {
    chars: new Uint16Array(tables.chars),
    slots: new Int32Array(tables.slots),
    entries: new Int32Array(tables.entries),
    nodes: new Int32Array(tables.nodes),
    candidates: new Int32Array(tables.candidates),
    lists: new Int32Array(tables.lists),
  }
}

/** Copies numbers into a new shared buffer. */
export function shareInt32(values: readonly number[] | Int32Array): SharedArrayBuffer {
  const buffer = new SharedArrayBuffer(values.length * 4)
  new Int32Array(buffer).set(values)
  return buffer
}

export function shareUint16(values: readonly number[] | Uint16Array): SharedArrayBuffer {
  const buffer = new SharedArrayBuffer(values.length * 2)
  new Uint16Array(buffer).set(values)
  return buffer
}
