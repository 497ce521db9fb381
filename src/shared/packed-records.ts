/**
 * Records of a snapshot (routes, upstreams) as JSON bytes in shared memory: the primary packs once, each worker reads a record when
 * it first needs it. A block (shared/blocks) holds RECORDS_PER_BLOCK of them:
 *
 *   places   Uint32[RECORDS_PER_BLOCK + 1]   start of each record in bytes from the start of the block, and the end of the last one
 *   bytes    UTF-8 JSON texts one after another, no separators; a record without bytes does not exist
 *
 * Writer: the primary, before the buffers are published. Readers: all workers. Never written after publishing, so no Atomics.
 */
import type { Json } from '../schema/compiled.js'
import { type Block, type BlockChanges, type BlockSet, BlockTable, BlockWriter } from './blocks.js'

export const RECORDS_PER_BLOCK = 16
export const RECORD_BLOCK_SHIFT = 4
export const RECORD_BLOCK_MASK = RECORDS_PER_BLOCK - 1

export interface PackedRecords extends BlockSet {
  readonly count: number
}

/** What is different from the records before. */
export interface RecordChanges extends BlockChanges {
  /** Number of places for records, used or not. */
  readonly records: number
  /** Places of the records that are different, new or gone. */
  readonly places: readonly number[]
}

const placesWords = RECORDS_PER_BLOCK + 1
const maxBlockBytes = 2 ** 31

/** Packs JSON values; null where there is no record. Throws when a value has no JSON form, or when some together exceed 2 GiB. */
export function packRecords(items: readonly unknown[]): PackedRecords {
  const writer = new BlockWriter()
  for (let start = 0; start < items.length; start += RECORDS_PER_BLOCK) {
    writer.begin()
    const texts: string[] = []
    for (let index = start; index < Math.min(items.length, start + RECORDS_PER_BLOCK); index++) texts.push(textOf(items[index], index))
    writeBlock(writer, texts)
  }
  return { ...writer.finish(), count: items.length }
}

function textOf(item: unknown, index: number): string {
  const text: string | undefined = JSON.stringify(item)
  if (text === undefined) throw new Error(`record ${index} cannot be packed: it has no JSON form`)
  return text
}

function writeBlock(writer: BlockWriter, texts: readonly string[]): void {
  const lengths = texts.map((text) => Buffer.byteLength(text))
  const total = lengths.reduce((sum, length) => sum + length, 0)
  if (total > maxBlockBytes) throw new Error(`records cannot be packed: ${texts.length} of them exceed 2 GiB`)
  const places = writer.reserve(placesWords)
  let at = writer.reserve((total + 3) >> 2) * 4
  for (let index = 0; index < RECORDS_PER_BLOCK; index++) {
    writer.set(places + index, at)
    const text = texts[index]
    if (text === undefined) continue
    writer.writeText(at, text, lengths[index] as number)
    at += lengths[index] as number
  }
  writer.set(places + RECORDS_PER_BLOCK, at)
}

/** Reads packed records. */
export class RecordReader<T = Json> {
  readonly count: number
  private readonly table: BlockTable

  constructor(packed: PackedRecords) {
    this.count = packed.count
    this.table = BlockTable.of(packed)
  }

  /** Parses record `index` anew on each call. Throws RangeError when there is no such record. */
  read(index: number): T {
    const block = this.table.blocks[index >> RECORD_BLOCK_SHIFT]
    const record = block === undefined ? null : readRecord<T>(block, index & RECORD_BLOCK_MASK)
    if (record === null || index >= this.count) throw new RangeError(`record ${index} does not exist: there are ${this.count}`)
    return record
  }
}

/** The record at this place of a block, or null when there is none. */
export function readRecord<T>({ words, base }: Block, place: number): T | null {
  const start = words[base + place]
  const end = words[base + place + 1]
  if (start === undefined || end === undefined || start >= end) return null
  // Copied first: decoders may refuse memory that other threads could change.
  const copy = Buffer.allocUnsafe(end - start)
  Buffer.from(words.buffer, base * 4 + start, end - start).copy(copy)
  return JSON.parse(copy.toString('utf8')) as T
}

/** The primary's records over successive configurations: a change packs the blocks anew that it touches. */
export class RecordStore {
  private table: BlockTable
  private records: number
  private readonly writer = new BlockWriter()

  constructor(packed: PackedRecords) {
    this.table = BlockTable.of(packed)
    this.records = packed.count
  }

  /** Puts these records in their places; null = there is none from now on. */
  change(items: ReadonlyMap<number, unknown>): RecordChanges {
    const byBlock = new Map<number, Map<number, string | null>>()
    for (const [index, item] of items) {
      this.records = Math.max(this.records, index + 1)
      const block = index >> RECORD_BLOCK_SHIFT
      let texts = byBlock.get(block)
      if (texts === undefined) {
        texts = new Map()
        byBlock.set(block, texts)
      }
      texts.set(index & RECORD_BLOCK_MASK, item === null ? null : textOf(item, index))
    }
    const count = Math.max(this.table.blocks.length, ...[...byBlock.keys()].map((block) => block + 1))
    const changed: { index: number; buffer: SharedArrayBuffer }[] = []
    // Places are given without gaps, but a batch may end in the middle of a block that is new, or touch several of them.
    for (let block = this.table.blocks.length; block < count; block++) if (!byBlock.has(block)) byBlock.set(block, new Map())
    for (const [index, texts] of byBlock) changed.push({ index, buffer: this.rewrite(this.table.blocks[index], texts) })
    const changes = { count, changed, records: this.records, places: [...items.keys()] }
    this.table = this.table.with(changes)
    return changes
  }

  /** The record at this place, or null. */
  read<T>(index: number): T | null {
    const block = this.table.blocks[index >> RECORD_BLOCK_SHIFT]
    return block === undefined ? null : readRecord<T>(block, index & RECORD_BLOCK_MASK)
  }

  pack(): PackedRecords {
    return { ...this.table.pack(), count: this.records }
  }

  private rewrite(old: Block | undefined, texts: ReadonlyMap<number, string | null>): SharedArrayBuffer {
    const all: Buffer[] = []
    for (let place = 0; place < RECORDS_PER_BLOCK; place++) {
      const text = texts.get(place)
      if (text !== undefined) all.push(text === null ? Buffer.alloc(0) : Buffer.from(text))
      else all.push(old === undefined ? Buffer.alloc(0) : bytesOf(old, place))
    }
    const total = all.reduce((sum, bytes) => sum + bytes.length, 0)
    const { writer } = this
    writer.begin()
    const places = writer.reserve(placesWords)
    let at = writer.reserve((total + 3) >> 2) * 4
    for (const [index, bytes] of all.entries()) {
      writer.set(places + index, at)
      writer.writeBytes(at, bytes)
      at += bytes.length
    }
    writer.set(places + RECORDS_PER_BLOCK, at)
    return writer.take()
  }
}

function bytesOf({ words, base }: Block, place: number): Buffer {
  const start = words[base + place] as number
  const end = words[base + place + 1] as number
  return Buffer.from(words.buffer, base * 4 + start, Math.max(0, end - start))
}
