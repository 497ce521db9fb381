/**
 * Revoked tokens, subjects and consumers, seen by all threads as soon as they are written.
 *
 *   64 bytes head, then 16 bytes per cell, 1,048,576 cells (16 MiB, touched as it fills)
 *   head int32[0]  version   grows with every entry: who has looked at version v needs not look again while it is v
 *   head int32[1]  seedHigh  of the hash of this process
 *   head int32[2]  seedLow
 *   cell int32[0]  until     seconds since the epoch, unsigned; 0 = never used, or being written
 *   cell int32[1]  high      64-bit hash of the digest
 *   cell int32[2]  low
 *   cell int32[3]  unused    (a power of two keeps a cell inside one cache line)
 *
 * Writer: the primary alone. Readers: everybody, without locks. A cell is only taken when it is free or over, is written with `until`
 * last, and never moves, so an entry that is in force is always found. Entries lie within PROBES_MAX cells of their home.
 *
 * Full table: an entry that finds no place is refused (`add` returns false) and nothing in force is forgotten for it. At half a
 * million entries in force that does not happen.
 */
import { createHash } from 'node:crypto'
import { hashText, KeyHash } from '../limits/hash.js'
import { allocateRegion, assertRegionSize, CACHE_LINE_BYTES } from './region.js'

export const REVOCATION_CELLS = 1_048_576
const CELL_INTS = 4
const HEAD_INTS = CACHE_LINE_BYTES / Int32Array.BYTES_PER_ELEMENT
const PROBES_MAX = 128

const VERSION = 0
const SEED_HIGH = 1
const SEED_LOW = 2
const UNTIL = 0
const HIGH = 1
const LOW = 2

/** What can be revoked: an id of a token (`jti`), all tokens of a subject (`sub`), all credentials of a consumer, one token by its text. */
export const revocationKinds = ['jti', 'sub', 'consumer', 'token'] as const
export type RevocationKind = (typeof revocationKinds)[number]

/** Bytes of a region with that many cells, a power of two. */
export function revocationsBytes(cells = REVOCATION_CELLS): number {
  return CACHE_LINE_BYTES + cells * CELL_INTS * Int32Array.BYTES_PER_ELEMENT
}

export function createRevocationsRegion(seed: readonly [number, number], cells = REVOCATION_CELLS): SharedArrayBuffer {
  if (!Number.isInteger(Math.log2(cells))) throw new RangeError(`${cells} cells for revocations; it must be a power of two`)
  const region = allocateRegion('revocations', revocationsBytes(cells))
  const head = new Int32Array(region, 0, HEAD_INTS)
  head[SEED_HIGH] = seed[0]
  head[SEED_LOW] = seed[1]
  return region
}

/**
 * What is stored and compared instead of the value itself: its kind, a colon, and a hash. A signed token is known by what is signed: its last part can be written
 * in another way by whoever holds it (an ECDSA signature has a twin), without becoming another token.
 */
export function revocationDigest(kind: RevocationKind, value: string): string {
  const known = kind === 'token' && /^[^.]*\.[^.]*\.[^.]*$/.test(value) ? value.slice(0, value.lastIndexOf('.')) : value
  return `${kind}:${createHash('sha256').update(`${kind}:${known}`, 'utf8').digest('base64url')}`
}

/** What threads that check tokens look at. */
export class RevocationReader {
  protected readonly head: Int32Array
  protected readonly cells: Int32Array
  protected readonly mask: number
  private readonly hash = new KeyHash()

  constructor(region: SharedArrayBuffer) {
    const count = (region.byteLength - CACHE_LINE_BYTES) / CELL_INTS / Int32Array.BYTES_PER_ELEMENT
    assertRegionSize('revocations', region, revocationsBytes(count))
    this.head = new Int32Array(region, 0, HEAD_INTS)
    this.cells = new Int32Array(region, CACHE_LINE_BYTES)
    this.mask = count - 1
  }

  /** 0 = nothing was ever revoked. Read it before `has`, and what `has` denied holds for as long as it is the same. */
  version(): number {
    return Atomics.load(this.head, VERSION)
  }

  /** Whether this digest is revoked at this time, seconds since the epoch. */
  has(digest: string, nowS: number): boolean {
    const { cells, mask } = this
    const { high, low } = this.hashOf(digest)
    for (let probe = 0; probe < PROBES_MAX; probe++) {
      const base = ((low + probe) & mask) * CELL_INTS
      const until = Atomics.load(cells, base + UNTIL) >>> 0
      if (cells[base + HIGH] === high && cells[base + LOW] === low) {
        if (until > nowS) return true
      } else if (until === 0 && Atomics.load(cells, base + HIGH) === 0 && Atomics.load(cells, base + LOW) === 0) return false
    }
    return false
  }

  protected hashOf(digest: string): KeyHash {
    const { hash, head } = this
    hashText(digest, head[SEED_HIGH] ?? 0, head[SEED_LOW] ?? 0, hash)
    // Two zeros mean a cell that was never used.
    if (hash.high === 0 && hash.low === 0) hash.high = 1
    return hash
  }
}

/** Latest time that a cell can hold: the year 2106. */
const UNTIL_MAX = 0xffff_ffff

/** The primary's side. */
export class RevocationTable extends RevocationReader {
  /**
   * Revokes a digest until then (seconds since the epoch); an entry that lasts longer stays as it is. When it returns true, every
   * thread sees it. False: the table is full.
   */
  add(digest: string, untilS: number, nowS: number): boolean {
    const { cells, mask, head } = this
    const { high, low } = this.hashOf(digest)
    const until = Math.min(UNTIL_MAX, Math.ceil(untilS))
    if (until <= nowS) return true
    let place = -1
    for (let probe = 0; probe < PROBES_MAX; probe++) {
      const base = ((low + probe) & mask) * CELL_INTS
      const held = Atomics.load(cells, base + UNTIL) >>> 0
      const isSame = cells[base + HIGH] === high && cells[base + LOW] === low
      if (isSame) {
        if (held < until) Atomics.store(cells, base + UNTIL, until | 0)
        Atomics.add(head, VERSION, 1)
        return true
      }
      if (place < 0 && held <= nowS) place = base
      if (held === 0 && cells[base + HIGH] === 0 && cells[base + LOW] === 0) break
    }
    if (place < 0) return false
    Atomics.store(cells, place + UNTIL, 0)
    Atomics.store(cells, place + HIGH, high)
    Atomics.store(cells, place + LOW, low)
    Atomics.store(cells, place + UNTIL, until | 0)
    Atomics.add(head, VERSION, 1)
    return true
  }

  /** The digest is not revoked any more; when it returns, every thread sees that. */
  remove(digest: string): void {
    const { cells, mask, head } = this
    const { high, low } = this.hashOf(digest)
    for (let probe = 0; probe < PROBES_MAX; probe++) {
      const base = ((low + probe) & mask) * CELL_INTS
      // An entry that is over, not one that was never there: others may lie behind it.
      if (cells[base + HIGH] === high && cells[base + LOW] === low) Atomics.store(cells, base + UNTIL, 1)
    }
    Atomics.add(head, VERSION, 1)
  }
}
