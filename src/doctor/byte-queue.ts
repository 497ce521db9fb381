/**
 * Bytes that arrived and were not read yet, for the strict readers of the doctor. Latin-1 text in, Latin-1 text out: one character is
 * one byte, whatever the byte is.
 */
export class ByteQueue {
  private pending: Buffer = Buffer.alloc(0)

  /** Bytes not read yet. */
  get length(): number {
    return this.pending.length
  }

  push(bytes: Uint8Array): void {
    this.pending = this.pending.length === 0 ? Buffer.from(bytes) : Buffer.concat([this.pending, bytes])
  }

  /** Everything through the next LF, the LF included; undefined while there is none. */
  takeLine(): string | undefined {
    const end = this.pending.indexOf(10)
    if (end < 0) return undefined
    const line = this.pending.toString('latin1', 0, end + 1)
    this.pending = this.pending.subarray(end + 1)
    return line
  }

  /** At most `count` bytes, fewer when fewer are there. */
  take(count: number): Buffer {
    const taken = this.pending.subarray(0, count)
    this.pending = this.pending.subarray(taken.length)
    return taken
  }

  /** A look at what is there, without reading it. */
  peek(): string {
    return this.pending.toString('latin1')
  }
}
