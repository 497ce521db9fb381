/**
 * Where the answers of a thread's `tcp` listeners are put together before they are written: one piece of memory for all, because an
 * answer is put together and written without a break. What the kernel does not take at once stays where it is until it does, and the
 * next answer gets other memory.
 */
import { Buffer } from 'node:buffer'
import { recentMs, wallMs } from '../../base/clock.js'
import type { RawSockets, StreamHandle, Writer } from '../tcp/handle.js'
import type { Bytes } from './binding.js'

const SLAB_BYTES = 65_536
/** Views up to this length are kept: making one costs as much as a small copy. */
const VIEWS = 4_096
const SPARE_MAX = 4
/** How old the text of the date may be. */
const DATE_MS = 100

class Slab {
  readonly bytes = Buffer.allocUnsafeSlow(SLAB_BYTES)
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
    // A call of the engine costs more than some ten characters by hand.
    if (length <= 24) {
      let { used } = this
      for (let index = 0; index < length; index++) bytes[used++] = text.charCodeAt(index)
      this.used = used
    } else this.used += bytes.write(text, this.used, 'latin1')
  }

  /** Text, which leaves as UTF-8, or bytes. At most half of `SLAB_BYTES` of text. */
  put(piece: Bytes): void {
    if (typeof piece === 'string') {
      const bytes = this.room(piece.length * 3)
      this.used += bytes.write(piece, this.used, 'utf8')
      return
    }
    const view = piece instanceof ArrayBuffer ? new Uint8Array(piece) : piece
    const bytes = this.room(view.length)
    bytes.set(view, this.used)
    this.used += view.length
  }

  /** Whether so many bytes fit behind what there is. */
  fits(length: number): boolean {
    return this.used + length <= SLAB_BYTES
  }

  /** CR LF and the Date field. */
  date(): void {
    const now = recentMs()
    if (now - this.dateMs >= DATE_MS) {
      this.dateMs = now
      const second = Math.floor(wallMs() / 1000)
      if (second !== this.dateSecond) {
        this.dateSecond = second
        this.dateLine = `\r\nDate: ${new Date(second * 1000).toUTCString()}`
      }
    }
    this.ascii(this.dateLine)
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
    if (this.used + length > SLAB_BYTES) throw new RangeError(`${length} bytes do not fit behind ${this.used}`)
    return this.slab.bytes
  }
}
