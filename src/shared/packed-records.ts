/**
 * Records of a snapshot (routes, upstreams) as JSON bytes in shared memory: the primary packs once, each worker reads a record when
 * it first needs it.
 *
 *   offsets  Uint32[count + 1]   start of record i; offsets[count] = total bytes
 *   bytes    UTF-8 JSON texts one after another, no separators
 *
 * Writer: the primary, before the buffers are published. Readers: all workers. Never written after publishing, so no Atomics.
 */
import type { Json } from '../schema/compiled.js'

export interface PackedRecords {
  readonly bytes: SharedArrayBuffer
  readonly offsets: SharedArrayBuffer
  readonly count: number
}

const maxTotalBytes = 2 ** 32 - 1

/** Packs JSON values. Throws when a value has no JSON form, or when all together exceed 4 GiB. */
export function packRecords(items: readonly unknown[]): PackedRecords {
  const texts: string[] = []
  const offsets = new SharedArrayBuffer((items.length + 1) * 4)
  const starts = new Uint32Array(offsets)
  let total = 0
  for (let index = 0; index < items.length; index++) {
    const text: string | undefined = JSON.stringify(items[index])
    if (text === undefined) throw new Error(`record ${index} cannot be packed: it has no JSON form`)
    texts.push(text)
    starts[index] = total
    total += Buffer.byteLength(text)
    if (total > maxTotalBytes) throw new Error(`records cannot be packed: ${index + 1} of ${items.length} already exceed 4 GiB`)
  }
  starts[items.length] = total
  const bytes = new SharedArrayBuffer(total)
  const view = Buffer.from(bytes)
  for (let index = 0; index < texts.length; index++) view.write(texts[index] as string, starts[index] as number, 'utf8')
  return { bytes, offsets, count: items.length }
}

/** Reads packed records. Construction costs the same for one record and for 100,000. */
export class RecordReader<T = Json> {
  readonly count: number
  private readonly bytes: Buffer
  private readonly starts: Uint32Array

  constructor(packed: PackedRecords) {
    this.count = packed.count
    this.bytes = Buffer.from(packed.bytes)
    this.starts = new Uint32Array(packed.offsets)
  }

  /** Parses record `index` anew on each call. Throws RangeError when there is no such record. */
  read(index: number): T {
    const start = this.starts[index]
    const end = this.starts[index + 1]
    if (start === undefined || end === undefined) throw new RangeError(`record ${index} does not exist: there are ${this.count}`)
    // Copied first: decoders may refuse memory that other threads could change.
    const copy = Buffer.allocUnsafe(end - start)
    this.bytes.copy(copy, 0, start, end)
    return JSON.parse(copy.toString('utf8')) as T
  }
}
