/**
 * Where the answers of a thread's `tcp` listeners are put together before they are written: one piece of memory for all, because an
 * answer is put together and written without a break. What the kernel does not take at once stays where it is until it does, and the
 * next answer gets other memory.
 */
import { Buffer } from 'node:buffer'
import { recentMs, wallMs } from '../../base/clock.js'
import type { RawSockets, StreamHandle, Writer } from '../tcp/handle.js'
import type { Bytes } from './binding.js'

/** What fits in at once. */
export const OUTPUT_BYTES = 65_536
/** Views up to this length are kept: making one costs as much as a small copy. */
const VIEWS = 4_096
const SPARE_MAX = 4
const PROTOCOL = 'HTTP/1.1 '
const DIGITS_MAX = 16
/** A call of the engine costs more than so many bytes by hand. */
const BY_HAND = 64
/** How old the text of the date may be. */
const DATE_MS = 100

class Slab {
  readonly bytes = Buffer.allocUnsafeSlow(OUTPUT_BYTES)
  // The head that the memory begins with, if it is one that may be wanted again.
  headBlock: Bytes | null = null
  headLength = 0
  headPersistence = ''
  headDate = ''
  headEnd = 0
  /** It begins as every head does. */
  isBegun = false
  private readonly views: (Uint8Array | undefined)[] = new Array<Uint8Array | undefined>(VIEWS).fill(undefined)

  /** The first `length` bytes. */
  view(length: number): Uint8Array {
    if (length >= VIEWS) return this.bytes.subarray(0, length)
    let view = this.views[length]
    if (view === undefined) {
      view = this.bytes.subarray(0, length)
      this.views[length] = view
    }
    return view
  }
}

/** Whoever has something in the output. */
export interface OutputOwner {
  flush(): void
}

export class TcpOutput {
  /** Whose answer is put together. */
  owner: OutputOwner | null = null
  private slab = new Slab()
  private readonly spare: Slab[] = []
  private used = 0
  /** By the memory of the views that were queued. */
  private readonly busy = new Map<ArrayBufferLike, Slab>()
  private dateLine = ''
  /** The same, and how the next field begins. */
  private dateBytes: Uint8Array = new Uint8Array(0)
  private lastSource: Uint8Array | null = null
  private lastStart = 0
  private lastEnd = 0
  private lastView: Uint8Array = new Uint8Array(0)
  private dateMs = Number.NEGATIVE_INFINITY
  private dateSecond = 0

  constructor(private readonly sockets: RawSockets) {}

  get isEmpty(): boolean {
    return this.used === 0
  }

  /** Text that is ASCII. */
  ascii(text: string): void {
    const { length } = text
    const bytes = this.room(length)
    if (length <= BY_HAND) {
      let { used } = this
      for (let index = 0; index < length; index++) bytes[used++] = text.charCodeAt(index)
      this.used = used
    } else this.used += bytes.write(text, this.used, 'latin1')
  }

  /** Text, which leaves as UTF-8, or bytes. `size`: at least as many bytes as it has. */
  put(piece: Bytes, size = piece instanceof ArrayBuffer || typeof piece !== 'string' ? piece.byteLength : piece.length * 3): void {
    if (typeof piece === 'string') {
      const bytes = this.room(size)
      this.used += bytes.write(piece, this.used, 'utf8')
      return
    }
    const view = piece instanceof ArrayBuffer ? new Uint8Array(piece) : piece
    const bytes = this.room(view.length)
    bytes.set(view, this.used)
    this.used += view.length
  }

  /** The bytes in [start, end). Answers of an upstream often lie at the same place of the same buffer. */
  copy(source: Uint8Array, start: number, end: number): void {
    if (source !== this.lastSource || start !== this.lastStart || end !== this.lastEnd) {
      this.lastView = start === 0 && end === source.length ? source : source.subarray(start, end)
      this.lastSource = source
      this.lastStart = start
      this.lastEnd = end
    }
    this.room(end - start).set(this.lastView, this.used)
    this.used += end - start
  }

  /**
   * A head with a body of this length: `block` as for `writeStatus`, `persistence` a line for Connection, with the CRLF in front of it, or
   * nothing. `isLasting`: the block never changes, so that the same one again means the same bytes; most answers of an upstream begin
   * as the last one, which is still there.
   */
  head(block: Bytes, isLasting: boolean, length: number, persistence: string): void {
    this.updateDate()
    const { slab, dateLine } = this
    const isFirst = this.used === 0
    if (
      isFirst &&
      isLasting &&
      slab.headBlock === block &&
      slab.headLength === length &&
      slab.headDate === dateLine &&
      slab.headPersistence === persistence
    ) {
      this.used = slab.headEnd
      return
    }
    if (isFirst) slab.headBlock = null
    if (isFirst && slab.isBegun) this.used = PROTOCOL.length
    else this.ascii(PROTOCOL)
    this.put(block)
    if (persistence !== '') this.ascii(persistence)
    this.lengthField(length)
    if (!isFirst) return
    slab.isBegun = true
    if (!isLasting) return
    slab.headBlock = block
    slab.headLength = length
    slab.headDate = dateLine
    slab.headPersistence = persistence
    slab.headEnd = this.used
  }

  /** The Date field, Content-Length and the end of the head. */
  private lengthField(length: number): void {
    const { dateBytes } = this
    const bytes = this.room(dateBytes.length + DIGITS_MAX + 4)
    bytes.set(dateBytes, this.used)
    let { used } = this
    used += dateBytes.length
    let digits = 1
    for (let rest = length; rest >= 10; rest = Math.floor(rest / 10)) digits++
    let rest = length
    for (let index = used + digits - 1; index >= used; index--) {
      const tenth = Math.floor(rest / 10)
      bytes[index] = 48 + rest - tenth * 10
      rest = tenth
    }
    used += digits
    bytes[used++] = 13
    bytes[used++] = 10
    bytes[used++] = 13
    bytes[used++] = 10
    this.used = used
  }

  /** Whether so many bytes fit behind what there is. */
  fits(length: number): boolean {
    return this.used + length <= OUTPUT_BYTES
  }

  /** CR LF and the Date field. */
  date(): void {
    this.updateDate()
    this.ascii(this.dateLine)
  }

  private updateDate(): void {
    const now = recentMs()
    if (now - this.dateMs < DATE_MS) return
    this.dateMs = now
    const second = Math.floor(wallMs() / 1000)
    if (second === this.dateSecond) return
    this.dateSecond = second
    this.dateLine = `\r\nDate: ${new Date(second * 1000).toUTCString()}`
    this.dateBytes = Buffer.from(`${this.dateLine}\r\nContent-Length: `)
  }

  /** Writes what there is, and begins anew: WRITTEN, QUEUED (`writer` is told) or an error. */
  flush(handle: StreamHandle, writer: Writer): number {
    const { slab, used } = this
    this.used = 0
    const view = slab.view(used)
    const result = this.sockets.writeBytes(handle, view, writer)
    if (result > 0) {
      this.busy.set(view.buffer, slab)
      this.slab = this.spare.pop() ?? new Slab()
    }
    return result
  }

  /** Another connection writes: what the one before has here leaves first. */
  turnTo(owner: OutputOwner): void {
    // To leave may end a connection, and whoever hears of that may write in turn.
    while (this.used > 0 && this.owner !== null && this.owner !== owner) this.owner.flush()
    if (this.owner === owner) return
    this.used = 0
    this.owner = owner
  }

  /** The connection is closed: what it has here goes nowhere. */
  leave(owner: OutputOwner): void {
    if (this.owner !== owner) return
    this.owner = null
    this.used = 0
  }

  /** To be told of each piece that was QUEUED and is out. */
  released(bytes: Uint8Array | null): void {
    if (bytes === null) return
    const slab = this.busy.get(bytes.buffer)
    if (slab === undefined) return
    this.busy.delete(bytes.buffer)
    if (this.spare.length < SPARE_MAX) this.spare.push(slab)
  }

  private room(length: number): Buffer {
    const { slab, used } = this
    if (used === 0) {
      slab.headBlock = null
      slab.isBegun = false
    }
    if (used + length > OUTPUT_BYTES) throw new RangeError(`${length} bytes do not fit behind ${used}`)
    return slab.bytes
  }
}
