/**
 * A table in shared memory that is made of blocks, so that a change publishes only the blocks that differ.
 *
 *   one publication of everything     one buffer with all blocks, one behind the other; offsets Uint32[count + 1] in words of 4 bytes
 *   a change                          a buffer of its own for each block that is different
 *
 * A block is never written after it was published. Successive tables share the blocks that did not change; the memory of a block goes
 * when no thread holds a table with it (of the first publication: when none of its blocks is used any more). What stands in a block is
 * its owner's affair (packed-records, router-tables); places in it are relative to its start, so a block means the same wherever it lies.
 */

/** All blocks of a table, as they travel between threads. */
export interface BlockSet {
  readonly buffer: SharedArrayBuffer
  readonly offsets: SharedArrayBuffer
}

/** Blocks of a table that are different now. The table has `count` blocks from then on. */
export interface BlockChanges {
  readonly count: number
  readonly changed: readonly { readonly index: number; readonly buffer: SharedArrayBuffer }[]
}

/** One block. `base`: its start in `words`; `end`: behind its last word; `halves`: the same memory in units of two bytes. */
export class Block {
  readonly words: Int32Array
  readonly halves: Uint16Array
  readonly base: number
  readonly end: number

  constructor(words: Int32Array, halves: Uint16Array, base: number, end: number) {
    this.words = words
    this.halves = halves
    this.base = base
    this.end = end
  }
}

/** The blocks of a table at one moment. Never changes. */
export class BlockTable {
  private constructor(readonly blocks: readonly Block[]) {}

  static readonly empty = new BlockTable([])

  static of({ buffer, offsets }: BlockSet): BlockTable {
    const words = new Int32Array(buffer)
    const halves = new Uint16Array(buffer)
    const starts = new Uint32Array(offsets)
    const blocks: Block[] = []
    for (let index = 0; index + 1 < starts.length; index++) {
      blocks.push(new Block(words, halves, starts[index] as number, starts[index + 1] as number))
    }
    return new BlockTable(blocks)
  }

  /** The table after `changes`. Blocks that are new must all be among them. */
  with({ count, changed }: BlockChanges): BlockTable {
    const blocks = this.blocks.slice(0, count)
    for (const { index, buffer } of changed) {
      const words = new Int32Array(buffer)
      blocks[index] = new Block(words, new Uint16Array(buffer), 0, words.length)
    }
    return new BlockTable(blocks)
  }

  /** All blocks in one buffer again: what a thread that starts now is given. */
  pack(): BlockSet {
    const writer = new BlockWriter()
    for (const { words, base, end } of this.blocks) {
      writer.begin()
      writer.append(words.subarray(base, end))
    }
    return writer.finish()
  }
}

/** Writes blocks one behind the other. Places are words from the start of the block. */
export class BlockWriter {
  private words = new Int32Array(1024)
  private bytes = Buffer.from(this.words.buffer)
  private length = 0
  private base = 0
  private readonly starts: number[] = []

  /** Starts the next block. */
  begin(): void {
    this.base = this.length
    this.starts.push(this.length)
  }

  /** Appends so many zeros; returns their place. */
  reserve(count: number): number {
    const place = this.length - this.base
    this.length += count
    if (this.length > this.words.length) {
      const larger = new Int32Array(Math.max(this.words.length * 2, this.length))
      larger.set(this.words)
      this.words = larger
      this.bytes = Buffer.from(larger.buffer)
    }
    return place
  }

  append(items: Int32Array): number {
    const place = this.reserve(items.length)
    this.words.set(items, this.base + place)
    return place
  }

  /** Appends units of two bytes, two in a word. */
  appendHalves(items: Uint16Array): number {
    const place = this.reserve((items.length + 1) >> 1)
    new Uint16Array(this.words.buffer, (this.base + place) * 4, items.length).set(items)
    return place
  }

  get(place: number): number {
    return this.words[this.base + place] as number
  }

  set(place: number, value: number): void {
    this.words[this.base + place] = value
  }

  /** Writes UTF-8 at a byte of the block that was reserved. */
  writeText(byte: number, text: string, length: number): void {
    this.bytes.write(text, this.base * 4 + byte, length, 'utf8')
  }

  writeBytes(byte: number, source: Buffer): void {
    source.copy(this.bytes, this.base * 4 + byte)
  }

  /** Every block, in shared memory. */
  finish(): BlockSet {
    const buffer = new SharedArrayBuffer(this.length * 4)
    new Int32Array(buffer).set(this.words.subarray(0, this.length))
    const offsets = new SharedArrayBuffer((this.starts.length + 1) * 4)
    const starts = new Uint32Array(offsets)
    starts.set(this.starts)
    starts[this.starts.length] = this.length
    return { buffer, offsets }
  }

  /** The one block that was written, in shared memory of its own. Ready for the next one afterwards. */
  take(): SharedArrayBuffer {
    const buffer = new SharedArrayBuffer(this.length * 4)
    new Int32Array(buffer).set(this.words.subarray(0, this.length))
    this.words.fill(0, 0, this.length)
    this.length = 0
    this.starts.length = 0
    return buffer
  }
}
