/**
 * A file of records that grows at its end and loses nothing that was acknowledged.
 *
 *   "SLUICEJ1"  record  record  …
 *   record: u32 length of the payload (little endian) · first 16 bytes of SHA-256 of the payload · payload, JSON in UTF-8
 *
 * `append` resolves after fdatasync; what it writes in one call is one record, so it is there whole or not at all. A record that is
 * incomplete or whose checksum is wrong, with nothing valid behind it, was being written when the process died: nobody was told that
 * it was stored, and it is discarded. With a valid record behind it the file is damaged: that is an error, never a loss in silence.
 * JSON has no zero bytes, so no payload can look like a record. `rewrite` replaces the file by renaming a complete new one over it.
 */
import { createHash } from 'node:crypto'
import { type FileHandle, open, readFile, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { UsageError } from '../../base/errors.js'

const MAGIC = Buffer.from('SLUICEJ1', 'latin1')
const SUM_BYTES = 16
const HEAD_BYTES = 4 + SUM_BYTES
/** Larger than any change that the Admin API takes. */
export const RECORD_BYTES_MAX = 512 * 1_048_576

export interface JournalContent {
  readonly records: readonly unknown[]
  /** Length of the part that holds them; 0 = there is no file, or nothing of it was complete. */
  readonly validBytes: number
  /** Bytes behind it, of a record that was never finished. */
  readonly tornBytes: number
}

/** Reads a journal; a file that does not exist is an empty one. Rejects with UsageError when it is damaged or none of ours. */
export async function readJournal(file: string): Promise<JournalContent> {
  let bytes: Buffer
  try {
    bytes = await readFile(file)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return { records: [], validBytes: 0, tornBytes: 0 }
    throw new UsageError(`${file}: cannot be read (${reasonOf(error)}); expected a readable file with the changes of the Admin API`)
  }
  return parseJournal(bytes, file)
}

/** What `readJournal` does with the bytes of a file. */
export function parseJournal(bytes: Buffer, file: string): JournalContent {
  const head = bytes.subarray(0, MAGIC.length)
  if (head.length < MAGIC.length && MAGIC.subarray(0, head.length).equals(head))
    return { records: [], validBytes: 0, tornBytes: head.length }
  if (!head.equals(MAGIC)) throw new UsageError(`${file}: not a journal of the Admin API; expected another file in sluice.admin.state_file`)
  const records: unknown[] = []
  let at = MAGIC.length
  for (let end = recordEnd(bytes, at); end > 0; end = recordEnd(bytes, at)) {
    records.push(JSON.parse(bytes.toString('utf8', at + HEAD_BYTES, end)))
    at = end
  }
  for (let next = at + 1; next < bytes.length; next++) {
    if (recordEnd(bytes, next) > 0) {
      throw new UsageError(
        `${file}: damaged at byte ${at}: records that are whole stand behind it; expected a copy of the file that is intact`,
      )
    }
  }
  return { records, validBytes: at, tornBytes: bytes.length - at }
}

/** Where the record that begins at `at` ends; 0 = there is none, or it is not whole. */
function recordEnd(bytes: Buffer, at: number): number {
  if (bytes.length - at < HEAD_BYTES) return 0
  const length = bytes.readUInt32LE(at)
  const end = at + HEAD_BYTES + length
  if (length === 0 || length > RECORD_BYTES_MAX || end > bytes.length) return 0
  const sum = bytes.subarray(at + 4, at + HEAD_BYTES)
  return checksum(bytes.subarray(at + HEAD_BYTES, end)).equals(sum) ? end : 0
}

function checksum(payload: Buffer): Buffer {
  return createHash('sha256').update(payload).digest().subarray(0, SUM_BYTES)
}

/** One record as bytes. */
export function encodeRecord(value: unknown): Buffer {
  const payload = Buffer.from(JSON.stringify(value), 'utf8')
  if (payload.length > RECORD_BYTES_MAX) throw new UsageError(`the change is larger than ${RECORD_BYTES_MAX} bytes`)
  const head = Buffer.alloc(HEAD_BYTES)
  head.writeUInt32LE(payload.length, 0)
  checksum(payload).copy(head, 4)
  return Buffer.concat([head, payload])
}

export class JournalWriter {
  private isBroken = false

  private constructor(
    private readonly file: string,
    private handle: FileHandle,
    private length: number,
  ) {}

  /** Opens for writing behind `content`, which was read under the same lock; what is torn is cut off. Creates the file with mode 0600. */
  static async open(file: string, content: JournalContent): Promise<JournalWriter> {
    const handle = await open(file, 'a+', 0o600)
    try {
      await handle.truncate(content.validBytes)
      const writer = new JournalWriter(file, handle, content.validBytes)
      if (content.validBytes === 0) {
        await writer.write(MAGIC)
        await syncFolder(file)
      }
      return writer
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  /** Bytes in the file. */
  get size(): number {
    return this.length
  }

  /** Resolves when the record is on the disk. After a rejection nothing of it is in the file. */
  async append(value: unknown): Promise<void> {
    await this.write(encodeRecord(value))
  }

  private async write(bytes: Buffer): Promise<void> {
    if (this.isBroken) throw new UsageError(`${this.file}: an unfinished record could not be removed from it; restart the gateway`)
    try {
      for (let done = 0; done < bytes.length; ) done += (await this.handle.write(bytes, done)).bytesWritten
      await this.handle.datasync()
      this.length += bytes.length
    } catch (error) {
      // What stands behind the last whole record would make later ones unreadable.
      this.isBroken = true
      await this.handle.truncate(this.length)
      this.isBroken = false
      throw error
    }
  }

  /** Replaces all records by these. Until the new file is complete on the disk, the old one stays. */
  async rewrite(values: Iterable<unknown>): Promise<void> {
    const beside = `${this.file}.new`
    await rm(beside, { force: true })
    const handle = await open(beside, 'ax+', 0o600)
    let length = MAGIC.length
    try {
      await handle.write(MAGIC)
      for (const value of values) {
        const record = encodeRecord(value)
        for (let done = 0; done < record.length; ) done += (await handle.write(record, done)).bytesWritten
        length += record.length
      }
      await handle.sync()
      await rename(beside, this.file)
    } catch (error) {
      await handle.close()
      await rm(beside, { force: true })
      throw error
    }
    const old = this.handle
    this.handle = handle
    this.length = length
    await old.close()
    await syncFolder(this.file)
  }

  close(): Promise<void> {
    return this.handle.close()
  }
}

/** A name in a folder is safe only when the folder is on the disk as well. */
async function syncFolder(file: string): Promise<void> {
  const folder = await open(dirname(file), 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

/** The code of a system error, or its text. */
export function reasonOf(error: unknown): string {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code
  return error instanceof Error ? error.message : String(error)
}
