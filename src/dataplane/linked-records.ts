/**
 * Packed records (shared/packed-records) as one worker uses them: parsed and linked on first use, and kept as long as they stand in
 * the configuration unchanged. Successive snapshots share the pages in which nothing changed, with all that was linked in them.
 */
import { BlockTable } from '../shared/blocks.js'
import {
  type PackedRecords,
  RECORD_BLOCK_MASK,
  RECORD_BLOCK_SHIFT,
  RECORDS_PER_BLOCK,
  type RecordChanges,
  readRecord,
} from '../shared/packed-records.js'

/** What was linked of the records of one block. */
type Page<Linked> = (Linked | undefined)[]

export class LinkedRecords<Record, Linked> {
  private constructor(
    private readonly table: BlockTable,
    readonly count: number,
    private readonly pages: (Page<Linked> | undefined)[],
    private readonly link: (record: Record, index: number) => Linked,
  ) {}

  /** `link` is called once per record, when it is first asked for. */
  static of<Record, Linked>(packed: PackedRecords, link: (record: Record, index: number) => Linked): LinkedRecords<Record, Linked> {
    const table = BlockTable.of(packed)
    return new LinkedRecords<Record, Linked>(table, packed.count, new Array(table.blocks.length), link)
  }

  /** The records after `changes`. What did not change stays linked as it is. */
  with(changes: RecordChanges, link: (record: Record, index: number) => Linked): LinkedRecords<Record, Linked> {
    const table = this.table.with(changes)
    const pages = this.pages.slice()
    for (const { index } of changes.changed) {
      const page = pages[index]
      if (page !== undefined) pages[index] = page.slice()
    }
    for (const place of changes.places) {
      const page = pages[place >> RECORD_BLOCK_SHIFT]
      if (page !== undefined) page[place & RECORD_BLOCK_MASK] = undefined
    }
    return new LinkedRecords<Record, Linked>(table, changes.records, pages, link)
  }

  /** What was linked of a record, if it was. */
  peek(index: number): Linked | undefined {
    return this.pages[index >> RECORD_BLOCK_SHIFT]?.[index & RECORD_BLOCK_MASK]
  }

  /** Throws RangeError when there is no such record. */
  get(index: number): Linked {
    return this.peek(index) ?? this.make(index)
  }

  read(index: number): Record {
    const block = this.table.blocks[index >> RECORD_BLOCK_SHIFT]
    const record = block === undefined ? null : readRecord<Record>(block, index & RECORD_BLOCK_MASK)
    if (record === null) throw new RangeError(`record ${index} does not exist: there are ${this.count}`)
    return record
  }

  private make(index: number): Linked {
    const linked = this.link(this.read(index), index)
    const at = index >> RECORD_BLOCK_SHIFT
    let page = this.pages[at]
    if (page === undefined) {
      page = new Array<Linked | undefined>(RECORDS_PER_BLOCK).fill(undefined)
      this.pages[at] = page
    }
    page[index & RECORD_BLOCK_MASK] = linked
    return linked
  }
}
