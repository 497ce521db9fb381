/**
 * Memory in which the answers of a thread's `tcp` listeners are put together, and the moment at which they leave.
 *
 * Short answers wait for the end of the turn of the event loop, then all of them are written: whoever reads them on another core is woken
 * once instead of once per answer, which is what a write on a local or a busy network costs most. A connection has a slot of the
 * memory while something of it waits. What the kernel does not take at once stays in its slot until it does.
 */
import { Buffer } from 'node:buffer'
import { recentMs, wallMs } from '../../base/clock.js'
import type { Bytes } from './binding.js'

/** What short answers fit in. */
const SLOT_BYTES = 2_048
/** What fits in at all. */
export const OUTPUT_BYTES = 65_536
/** Slots that are made at once, next to each other: memory of few pages. */
const SLOTS_PER_BLOCK = 64
const SPARE_SLOTS_MAX = 1_024
const SPARE_LARGE_MAX = 4
/** So many connections wait for the end of the turn at most. */
const WAITING_MAX = 64
const PROTOCOL = 'HTTP/1.1 '
const DIGITS_MAX = 16
/** A call of the engine costs more than so many bytes by hand. */
const BY_HAND = 64
/** How old the text of the date may be. */
const DATE_MS = 100

/** The Date field of answers, as text and as bytes. */
class DateField {
  /** CR LF and the field. */
  line = ''
  /** The same, and how Content-Length begins. */
  bytes: Uint8Array = new Uint8Array(0)
  private readMs = Number.NEGATIVE_INFINITY
  private second = 0

  update(): void {
    const now = recentMs()
    if (now - this.readMs < DATE_MS) return
    this.readMs = now
    const second = Math.floor(wallMs() / 1000)
    if (second === this.second) return
    this.second = second
    this.line = `\r\nDate: ${new Date(second * 1000).toUTCString()}`
    this.bytes = Buffer.from(`${this.line}\r\nContent-Length: `)
  }
}

export class OutputSlot {
  used = 0
  // The head that it begins with, if it is one that may be wanted again.
  private headBlock: Bytes | null = null
  private headLength = 0
  private headPersistence = ''
  private headDate = ''
  private headEnd = 0
  /** It begins as every head does. */
  private isBegun = false
  private lastView: Uint8Array

  constructor(
    private readonly bytes: Buffer,
    private readonly dates: DateField,
  ) {
    this.lastView = bytes
  }

  get isLarge(): boolean {
    return this.bytes.length > SLOT_BYTES
  }

  /** Whether so many bytes fit behind what there is. */
  fits(length: number): boolean {
    return this.used + length <= this.bytes.length
  }

  /** What there is. The same view again, as long as its length is the same. */
  view(): Uint8Array {
    if (this.lastView.length !== this.used) this.lastView = this.bytes.subarray(0, this.used)
    return this.lastView
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

  /** Text, which leaves as UTF-8, of at most `size` bytes. */
  text(text: string, size: number): void {
    this.used += this.room(size).write(text, this.used, 'utf8')
  }

  put(piece: Uint8Array): void {
    this.room(piece.length).set(piece, this.used)
    this.used += piece.length
  }

  date(): void {
    this.dates.update()
    this.ascii(this.dates.line)
  }

  /**
   * A head with a body of this length: `block` as for `writeStatus`, `persistence` a line for Connection, with the CRLF in front of it, or
   * nothing. `isLasting`: the block never changes, so that the same one again means the same bytes; most answers of an upstream begin
   * as the last one, which is still there.
   */
  head(block: Bytes, isLasting: boolean, length: number, persistence: string): void {
    const { dates } = this
    dates.update()
    const isFirst = this.used === 0
    if (
      isFirst &&
      isLasting &&
      this.headBlock === block &&
      this.headLength === length &&
      this.headDate === dates.line &&
      this.headPersistence === persistence
    ) {
      this.used = this.headEnd
      return
    }
    if (isFirst) this.headBlock = null
    if (isFirst && this.isBegun) this.used = PROTOCOL.length
    else this.ascii(PROTOCOL)
    if (typeof block === 'string') this.text(block, block.length * 3)
    else this.put(block instanceof ArrayBuffer ? new Uint8Array(block) : block)
    if (persistence !== '') this.ascii(persistence)
    this.lengthField(length)
    if (!isFirst) return
    this.isBegun = true
    if (!isLasting) return
    this.headBlock = block
    this.headLength = length
    this.headDate = dates.line
    this.headPersistence = persistence
    this.headEnd = this.used
  }

  /** The Date field, Content-Length and the end of the head. */
  private lengthField(length: number): void {
    const date = this.dates.bytes
    const bytes = this.room(date.length + DIGITS_MAX + 4)
    bytes.set(date, this.used)
    let used = this.used + date.length
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

  private room(length: number): Buffer {
    const { bytes, used } = this
    if (used === 0) {
      this.headBlock = null
      this.isBegun = false
    }
    if (used + length > bytes.length) throw new RangeError(`${length} bytes do not fit behind ${used} of ${bytes.length}`)
    return bytes
  }
}

/** Whose answers wait for the end of the turn. */
export interface WaitingForTurn {
  /** It is in the list already. */
  isWaiting: boolean
  flush(): void
}

export class TcpOutput {
  private readonly dates = new DateField()
  private readonly spare: OutputSlot[] = []
  private readonly spareLarge: OutputSlot[] = []
  private waiting: WaitingForTurn[] = []
  private isPlanned = false
  private lastSource: Uint8Array | null = null
  private lastStart = 0
  private lastEnd = 0
  private lastView: Uint8Array = new Uint8Array(0)

  /** A slot with room for so many bytes, at most `OUTPUT_BYTES`: the caller's until `give`. */
  take(length: number): OutputSlot {
    if (length > SLOT_BYTES) return this.spareLarge.pop() ?? new OutputSlot(Buffer.allocUnsafeSlow(OUTPUT_BYTES), this.dates)
    return this.spare.pop() ?? this.makeSlots()
  }

  give(slot: OutputSlot): void {
    slot.used = 0
    if (slot.isLarge ? this.spareLarge.length < SPARE_LARGE_MAX : this.spare.length < SPARE_SLOTS_MAX) {
      if (slot.isLarge) this.spareLarge.push(slot)
      else this.spare.push(slot)
    }
  }

  private makeSlots(): OutputSlot {
    const block = Buffer.allocUnsafeSlow(SLOTS_PER_BLOCK * SLOT_BYTES)
    for (let index = 1; index < SLOTS_PER_BLOCK; index++) {
      this.spare.push(new OutputSlot(block.subarray(index * SLOT_BYTES, (index + 1) * SLOT_BYTES), this.dates))
    }
    return new OutputSlot(block.subarray(0, SLOT_BYTES), this.dates)
  }

  /** [start, end) of `source`: answers of an upstream often lie at the same place of the same buffer. */
  body(source: Uint8Array, start: number, end: number): Uint8Array {
    if (source !== this.lastSource || start !== this.lastStart || end !== this.lastEnd) {
      this.lastView = start === 0 && end === source.length ? source : source.subarray(start, end)
      this.lastSource = source
      this.lastStart = start
      this.lastEnd = end
    }
    return this.lastView
  }

  /** Has it flushed at the end of this turn. */
  later(connection: WaitingForTurn): void {
    if (connection.isWaiting) return
    connection.isWaiting = true
    if (this.waiting.push(connection) >= WAITING_MAX) this.flushAll()
    else if (!this.isPlanned) {
      this.isPlanned = true
      setImmediate(this.endTurn)
    }
  }

  private readonly endTurn = (): void => {
    this.isPlanned = false
    this.flushAll()
  }

  private flushAll(): void {
    const { waiting } = this
    this.waiting = []
    for (let index = 0; index < waiting.length; index++) {
      const connection = waiting[index] as WaitingForTurn
      connection.isWaiting = false
      connection.flush()
    }
  }
}
