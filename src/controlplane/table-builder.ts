/** Builds the hash table, the characters and the variable-length lists of `RouterTables`. */
import {
  entryWidth,
  hashFinish,
  hashStart,
  hashStep,
  type RouterTables,
  shareInt32,
  shareUint16,
  slotWidth,
} from '../shared/router-tables.js'

/** Numbers that grow: plain arrays of millions of small integers cost more than their values. */
export class Int32List {
  private values = new Int32Array(1024)
  length = 0

  push(...items: number[]): void {
    if (this.length + items.length > this.values.length) {
      const larger = new Int32Array(Math.max(this.values.length * 2, this.length + items.length))
      larger.set(this.values)
      this.values = larger
    }
    this.values.set(items, this.length)
    this.length += items.length
  }

  view(): Int32Array {
    return this.values.subarray(0, this.length)
  }
}

export class TableBuilder {
  readonly lists = new Int32List()
  private readonly entries = new Int32List()
  private readonly interned = new Map<string, number>()
  private chars = new Uint16Array(4096)
  private charCount = 0

  constructor(readonly seed: number) {}

  /** Offset of the string in `chars`; equal strings are stored once. */
  intern(text: string): number {
    const known = this.interned.get(text)
    if (known !== undefined) return known
    if (this.charCount + text.length > this.chars.length) {
      const larger = new Uint16Array(Math.max(this.chars.length * 2, this.charCount + text.length))
      larger.set(this.chars)
      this.chars = larger
    }
    const offset = this.charCount
    for (let index = 0; index < text.length; index++) this.chars[offset + index] = text.charCodeAt(index)
    this.charCount += text.length
    this.interned.set(text, offset)
    return offset
  }

  /** Adds a key; hosts are hashed from their end, so that one pass over a request's host serves all suffixes. */
  addKey(space: number, text: string, direction: 'forward' | 'backward', value: number, value2: number): void {
    let hash = hashStart(this.seed)
    if (direction === 'forward') for (let index = 0; index < text.length; index++) hash = hashStep(hash, text.charCodeAt(index))
    else for (let index = text.length - 1; index >= 0; index--) hash = hashStep(hash, text.charCodeAt(index))
    this.entries.push(hashFinish(hash, space), space, this.intern(text), text.length, value, value2)
  }

  /** Adds the lengths of `texts`, longest first, each with the mask of the characters these end in; returns [offset, number]. */
  addLengths(texts: Iterable<string>, edge: 'first' | 'last'): [number, number] {
    const masks = new Map<number, number>()
    for (const text of texts) {
      const code = edge === 'last' ? text.charCodeAt(text.length - 1) : text.charCodeAt(0)
      masks.set(text.length, (masks.get(text.length) ?? 0) | (1 << (code & 31)))
    }
    const offset = this.lists.length
    for (const length of [...masks.keys()].sort((a, b) => b - a)) this.lists.push(length, masks.get(length) as number)
    return [offset, masks.size]
  }

  finish(): Pick<RouterTables, 'chars' | 'slots' | 'entries' | 'lists'> {
    const entries = this.entries.view()
    const count = entries.length / entryWidth
    let size = 4
    while (size < count * 2) size *= 2
    const slots = new Int32Array(size * slotWidth)
    for (let index = 0; index < count; index++) {
      const hash = entries[index * entryWidth] as number
      let slot = hash & (size - 1)
      while (slots[slot * slotWidth + 1] !== 0) slot = (slot + 1) & (size - 1)
      slots[slot * slotWidth] = hash
      slots[slot * slotWidth + 1] = index + 1
    }
    return {
      chars: shareUint16(this.chars.subarray(0, this.charCount)),
      slots: shareInt32(slots),
      entries: shareInt32(entries),
      lists: shareInt32(this.lists.view()),
    }
  }
}
