/**
 * One client connection of a `tcp` listener.
 *
 *   Head ──▶ Body ──▶ Waiting ──▶ Head …          Body: the rest of a request is read; Waiting: all of it is here, its answer is not
 *     └────────┴─────────┴──────▶ Lingering ──▶ Closed
 *
 * Requests are started one after the other: what a client sends ahead is kept, within a bound, until the answer before it is out. Behind
 * the last answer we end our half and read on until the client ends its own: closing at once would reset the connection, and
 * a reset can take the answer from a client that has not read it yet (RFC 9112 §9.6).
 */
import { recentMs } from '../../base/clock.js'
import { type Failure, failures } from '../../base/errors.js'
import type { Reader, SocketAddress, TcpHandle, Writer } from '../tcp/handle.js'
import { ChunkedDecoder } from '../upstream/chunked-decoder.js'
import type { Bytes } from './binding.js'
import { ParsedRequest } from './parsed-request.js'
import { INCOMPLETE } from './request-parser.js'
import type { TcpApp } from './tcp-app.js'
import { TcpClient } from './tcp-client.js'
import { OUTPUT_BYTES, type OutputSlot, type WaitingForTurn } from './tcp-output.js'

/** What is read ahead of an answer; beyond, the connection is not read. */
const AHEAD_BYTES_MAX = 65_536

enum Phase {
  Head = 0,
  Body = 1,
  Waiting = 2,
  Lingering = 3,
  Closed = 4,
}

/** What is read, and dropped, behind the last answer. */
const LINGER_BYTES_MAX = 262_144
/** So much of a body is dropped behind its answer. */
const DROPPED_BYTES_MAX = 65_536
/** What a head has beside its block, at most. */
const HEAD_LINES_BYTES = 256
/** Up to here a head that is not complete is read with every piece, so that what is none is refused at once. */
const EAGER_BYTES_MAX = 4_096

const emptyBytes = Buffer.alloc(0)
const headEnd = Buffer.from('\r\n\r\n')

export class TcpConnection implements Reader, Writer, WaitingForTurn {
  private phase: Phase = Phase.Head
  private active: TcpClient | null = null
  /** Bytes of a head that is not complete, or read ahead. */
  private kept: Buffer | null = null
  /** Since when the present phase waits for the client. */
  private sinceMs = recentMs()
  private served = 0
  /** A head has begun to arrive. */
  private hasBegun = false
  /** Nothing is answered behind what is written. */
  private isEnding = false
  private hasShutDown = false
  /** The client has ended its half. */
  private hasEnded = false
  /** What came behind the last answer. */
  private lingered = 0
  /** A write has failed: the connection is about to be closed. */
  private isBroken = false
  private bodyLeft = 0
  /** What came of a body behind its answer. */
  private dropped = 0
  private decoder: ChunkedDecoder | null = null
  private isDecoding = false
  private run: Buffer = emptyBytes
  private runStart = -1
  private runEnd = -1
  private isPaused = false
  private isCorked = false
  private isReading = true
  /** What is to be written; null = nothing. */
  private slot: OutputSlot | null = null
  /** More than whole answers is in it: it is not to wait for the end of the turn. */
  private isUrgent = false
  isWaiting = false
  /** Writes that wait for room in the kernel. */
  private queued = 0
  /** Their memory, in their order; null = it was made for the one write. */
  private readonly queuedSlots: (OutputSlot | null)[] = []
  /** When the client last took something of them. */
  private queuedSinceMs = 0
  /** Bytes of them, as far as the last sweep knows. */
  private queuedBytes = 0

  constructor(
    private readonly app: TcpApp,
    readonly handle: TcpHandle,
    readonly peer: SocketAddress,
  ) {}

  /** The client has not taken all that was written. */
  get isBehind(): boolean {
    return this.queued > 0
  }

  /** The client takes what was written, however slowly. */
  get isTaking(): boolean {
    return this.queued > 0 && recentMs() - this.queuedSinceMs < this.app.timeouts.sendMs
  }

  // ---------------------------------------------------------------- reading

  onRead(length: number): void {
    this.consume(this.app.readBuffer, 0, length)
  }

  onReadEnd(error: number): void {
    if (error < 0) this.isBroken = true
    else this.flush()
    // Who has ended its half may still take what is on its way to it; who waits for an answer counts as gone.
    if (error < 0 || this.active !== null || this.queued === 0) {
      this.destroy()
      return
    }
    this.hasEnded = true
    this.isEnding = true
    this.kept = null
    this.moveOn(Phase.Lingering)
    this.flush()
  }

  private consume(bytes: Buffer, start: number, end: number): void {
    let position = start
    while (position < end) {
      switch (this.phase) {
        case Phase.Head:
          if (this.queued > 0) {
            // Who does not take answers gets no more of them.
            this.keep(bytes, position, end)
            return
          }
          if (this.kept !== null) {
            const joined = Buffer.concat([this.kept, bytes.subarray(position, end)])
            if (this.isWorthReading(joined, this.kept.length)) {
              this.kept = null
              this.consume(joined, 0, joined.length)
            } else this.kept = joined
            return
          }
          position = this.readHead(bytes, position, end)
          break
        case Phase.Body:
          position = this.isDecoding ? this.readChunks(bytes, position, end) : this.readLength(bytes, position, end)
          break
        case Phase.Waiting:
          this.keep(bytes, position, end)
          return
        case Phase.Lingering:
          // To close now would reset the connection, perhaps in front of an answer that is still on its way.
          this.lingered += end - position
          if (this.lingered > LINGER_BYTES_MAX) this.updateReading()
          return
        default:
          return
      }
    }
  }

  /** A long head that comes in drops is not read anew with each: only behind its end, or when it is too long. */
  private isWorthReading(bytes: Buffer, keptBytes: number): boolean {
    if (!this.hasBegun || keptBytes < EAGER_BYTES_MAX || bytes.length > this.app.maxHeadBytes) return true
    return bytes.indexOf(headEnd, keptBytes - headEnd.length + 1) >= 0
  }

  /** The index behind the head that was read, or `end`. */
  private readHead(bytes: Buffer, start: number, end: number): number {
    const { parser, maxHeadBytes } = this.app
    const next = parser.parse(bytes, start, end)
    if (next === INCOMPLETE) {
      if (end - start > maxHeadBytes) this.refuse(failures.HEADERS_TOO_LARGE)
      else {
        // Counted from its first bytes, however many more come.
        if (this.kept === null && !this.hasBegun) this.sinceMs = recentMs()
        this.hasBegun = true
        const part = bytes.subarray(start, end)
        this.kept = bytes === this.app.readBuffer ? Buffer.from(part) : part
      }
      return end
    }
    this.hasBegun = false
    const { request } = parser
    if (request.failure === null && next - start > maxHeadBytes) this.refuse(failures.HEADERS_TOO_LARGE)
    else this.start(request)
    return next
  }

  private refuse(failure: Failure): void {
    this.start(ParsedRequest.refused(failure))
  }

  private start(request: ParsedRequest): void {
    const client = new TcpClient(this, request)
    this.active = client
    this.served++
    this.sinceMs = recentMs()
    const { bodyLength } = request
    if (bodyLength === 0) this.phase = Phase.Waiting
    else {
      this.phase = Phase.Body
      this.bodyLeft = bodyLength
      this.dropped = 0
      this.isDecoding = bodyLength < 0
      if (this.isDecoding) {
        this.decoder ??= new ChunkedDecoder(false)
        this.decoder.reset()
      }
    }
    if (request.failure !== null) client.closes = true
    this.isCorked = true
    this.app.handle(client, request)
    this.isCorked = false
    this.leave()
  }

  private readLength(bytes: Buffer, start: number, end: number): number {
    const length = Math.min(this.bodyLeft, end - start)
    this.bodyLeft -= length
    this.deliver(bytes, start, start + length, this.bodyLeft === 0)
    return start + length
  }

  private readChunks(bytes: Buffer, start: number, end: number): number {
    const { decoder } = this
    if (decoder === null) return end
    this.run = bytes
    this.runStart = -1
    const position = decoder.decode(bytes, start, end, this.onRun)
    this.run = emptyBytes
    if (this.phase !== Phase.Body) return end
    if (position < 0) {
      this.bodyBroke()
      return end
    }
    // One run is held back so that the last one can say that it is the last.
    const isLast = decoder.isDone
    if (this.runStart !== -1) this.deliver(bytes, this.runStart, this.runEnd, isLast)
    else if (isLast) this.deliver(bytes, position, position, true)
    return position
  }

  private readonly onRun = (start: number, end: number): void => {
    if (this.runStart !== -1) this.deliver(this.run, this.runStart, this.runEnd, false)
    this.runStart = start
    this.runEnd = end
  }

  private deliver(bytes: Buffer, start: number, end: number, isLast: boolean): void {
    if (this.phase !== Phase.Body) return
    const { active } = this
    if (isLast) this.moveOn(active === null ? Phase.Head : Phase.Waiting)
    else this.sinceMs = recentMs()
    if (active !== null) active.bodyData(bytes.subarray(start, end), isLast)
    else this.dropBody(end - start)
  }

  /** Behind its answer nobody wants the body; too much of it ends the connection. */
  private dropBody(length: number): void {
    this.dropped += length
    if (this.dropped > DROPPED_BYTES_MAX && this.phase === Phase.Body) this.lingerOn()
  }

  /** Whatever comes is behind the last answer. */
  private lingerOn(): void {
    this.isEnding = true
    this.moveOn(Phase.Lingering)
    this.wrote()
  }

  private moveOn(phase: Phase): void {
    this.phase = phase
    this.sinceMs = recentMs()
  }

  /** The chunks of a body make no sense: there is no telling where the next request begins. Who was not answered yet is told why. */
  private bodyBroke(): void {
    const { active } = this
    this.active = null
    if (active === null) {
      this.lingerOn()
      return
    }
    active.gone()
    if (active.hasAnswer) this.destroy()
    else this.refuse(failures.BAD_FRAMING)
  }

  /** Keeps what was sent ahead. */
  private keep(bytes: Buffer, start: number, end: number): void {
    const ahead = bytes.subarray(start, end)
    if (this.kept !== null) this.kept = Buffer.concat([this.kept, ahead])
    else this.kept = bytes === this.app.readBuffer ? Buffer.from(ahead) : ahead
    if (this.kept.length > AHEAD_BYTES_MAX) this.updateReading()
  }

  pause(): void {
    this.isPaused = true
    this.updateReading()
  }

  resume(): void {
    this.isPaused = false
    this.updateReading()
  }

  /** Reads, or does not: neither what is ahead nor what nobody takes may pile up. */
  private updateReading(): void {
    if (this.phase === Phase.Closed) return
    const wanted = !this.isPaused && this.lingered <= LINGER_BYTES_MAX && (this.kept === null || this.kept.length <= AHEAD_BYTES_MAX)
    if (wanted === this.isReading) return
    this.isReading = wanted
    if (wanted) this.handle.readStart()
    else this.handle.readStop()
  }

  // ---------------------------------------------------------------- writing

  /** A head: `block` is `200 OK CRLF name: value CRLF name: value`, the others begin with CRLF each. */
  appendHead(block: Bytes, extra: string, framing: string, persistence: string): void {
    this.append('HTTP/1.1 ')
    this.append(block)
    this.room(HEAD_LINES_BYTES)?.date()
    if (extra !== '') this.append(extra)
    if (persistence !== '') this.append(persistence)
    this.append(`${framing}\r\n\r\n`)
  }

  /** A whole answer: the head as `OutputSlot.head` has it, and [start, end) of `source`. */
  appendAnswer(block: Bytes, isLasting: boolean, persistence: string, source: Bytes, start: number, end: number): void {
    const length = end - start
    const most = (typeof block === 'string' ? block.length * 3 : block.byteLength) + HEAD_LINES_BYTES + length
    const slot = most > OUTPUT_BYTES || source instanceof ArrayBuffer ? null : this.room(most)
    if (slot === null) {
      this.appendHead(block, '', `\r\nContent-Length: ${length}`, persistence)
      this.append(typeof source === 'string' || source instanceof ArrayBuffer ? source : source.subarray(start, end))
      return
    }
    slot.head(block, isLasting, length, persistence)
    if (typeof source !== 'string') slot.put(this.app.output.body(source as Uint8Array, start, end))
    else if (source.length === length) slot.ascii(source)
    else slot.text(source, length)
  }

  append(piece: Bytes): void {
    if (this.phase === Phase.Closed) return
    this.isUrgent = true
    const most = typeof piece === 'string' ? piece.length * 3 : piece.byteLength
    const slot = this.room(most)
    if (slot === null) this.writeOwn(Buffer.from(typeof piece === 'string' ? piece : new Uint8Array(piece)))
    else if (typeof piece !== 'string') slot.put(piece instanceof ArrayBuffer ? new Uint8Array(piece) : piece)
    else if (piece.length <= 64 && isAscii(piece)) slot.ascii(piece)
    else slot.text(piece, most)
  }

  /** Where so many bytes can be put; null = nowhere, but what was put before is written. */
  private room(length: number): OutputSlot | null {
    const { slot } = this
    if (slot?.fits(length)) return slot
    if (slot !== null) this.writeSlot(slot)
    if (length > OUTPUT_BYTES || this.phase === Phase.Closed) return null
    this.slot = this.app.output.take(length)
    return this.slot
  }

  /** A piece was appended outside of a cork. */
  wrote(): void {
    if (!this.isCorked) this.leave()
  }

  cork(callback: () => void): void {
    if (this.isCorked) {
      callback()
      return
    }
    this.isCorked = true
    callback()
    this.isCorked = false
    this.leave()
  }

  /** Whole short answers leave with those of others at the end of this turn, everything else now. */
  private leave(): void {
    const { slot } = this
    if (slot === null ? this.isEnding : this.isUrgent || slot.isLarge) this.flush()
    else if (slot !== null) this.app.output.later(this)
  }

  flush(): void {
    if (this.phase === Phase.Closed) return
    if (this.slot !== null) this.writeSlot(this.slot)
    if (this.isEnding && !this.hasShutDown && !this.isBroken) this.shutDown()
  }

  private writeSlot(slot: OutputSlot): void {
    const { output, sockets } = this.app
    this.slot = null
    this.isUrgent = false
    const result = slot.used === 0 || this.isBroken ? 0 : sockets.writeBytes(this.handle, slot.view(), this)
    if (result > 0) this.queuedSlots.push(slot)
    else output.give(slot)
    this.wroteTo(result)
  }

  private writeOwn(bytes: Uint8Array): void {
    if (this.phase === Phase.Closed || this.isBroken) return
    const result = this.app.sockets.writeBytes(this.handle, bytes, this)
    if (result > 0) this.queuedSlots.push(null)
    this.wroteTo(result)
  }

  private wroteTo(result: number): void {
    if (result === 0) return
    if (result < 0) {
      // The client has gone. Whoever writes at the moment learns it in a turn of its own, as when the client goes while nobody does.
      if (!this.isBroken) setImmediate(() => this.destroy())
      this.isBroken = true
      return
    }
    if (this.queued++ === 0) this.queuedSinceMs = recentMs()
  }

  written(status: number): void {
    const slot = this.queuedSlots.shift()
    if (slot !== undefined && slot !== null) this.app.output.give(slot)
    this.queued--
    this.queuedSinceMs = recentMs()
    if (this.phase === Phase.Closed) return
    if (status < 0) {
      this.destroy()
      return
    }
    if (this.queued > 0) return
    this.active?.drained()
    if (this.phase !== Phase.Head) return
    // It could not be expected to ask again before it had its answer.
    if (!this.hasBegun) this.sinceMs = recentMs()
    // Requests that came ahead waited for room as well.
    if (this.kept !== null) this.app.goOn(this)
  }

  // ---------------------------------------------------------------- endings

  /** The answer is complete, and on its way once it is flushed. */
  answered(client: TcpClient): void {
    if (this.active !== client) return
    this.active = null
    this.isPaused = false
    if (client.closes) {
      this.isEnding = true
      this.kept = null
      if (this.phase !== Phase.Closed) this.moveOn(Phase.Lingering)
    } else if (this.phase === Phase.Waiting) {
      this.moveOn(Phase.Head)
      if (this.kept !== null && this.queued === 0) this.app.goOn(this)
    }
    this.updateReading()
    this.wrote()
  }

  /** Reads the requests that came ahead of the last answer. */
  goOn(): void {
    const { kept } = this
    if (this.phase !== Phase.Head || kept === null || this.queued > 0) return
    this.kept = null
    this.updateReading()
    this.consume(kept, 0, kept.length)
  }

  /** From here on the client may take its time to end its half. */
  private hasLeft(): void {
    if (this.hasEnded) this.destroy()
    else this.sinceMs = recentMs()
  }

  private shutDown(): void {
    this.hasShutDown = true
    const error = this.app.sockets.shutdown(this.handle, () => this.hasLeft())
    if (error < 0) this.destroy()
  }

  /** The answer cannot be completed. */
  cut(withReset: boolean): void {
    if (this.phase === Phase.Closed) return
    this.end()
    if (withReset) this.app.sockets.reset(this.handle)
    else this.handle.close()
  }

  destroy(): void {
    if (this.phase === Phase.Closed) return
    this.end()
    this.handle.close()
  }

  private end(): void {
    // What is answered is answered.
    if (this.slot !== null) this.writeSlot(this.slot)
    this.phase = Phase.Closed
    this.kept = null
    this.app.forget(this)
    const { active } = this
    this.active = null
    active?.gone()
  }

  /** Ends waits that are over. Called about once a second. */
  sweep(now: number): void {
    const { timeouts } = this.app
    if (this.queued > 0) {
      const left = this.handle.writeQueueSize
      if (left !== this.queuedBytes) {
        this.queuedBytes = left
        this.queuedSinceMs = now
      } else if (now - this.queuedSinceMs >= timeouts.sendMs) this.destroy()
      return
    }
    const waited = now - this.sinceMs
    switch (this.phase) {
      case Phase.Head:
        if (this.kept !== null ? waited >= timeouts.headMs : waited >= (this.served > 0 ? timeouts.keepAliveMs : timeouts.headMs))
          this.timedOut()
        return
      case Phase.Body:
        // While somebody reads the body, the pipeline watches that it goes on.
        if (this.active === null && waited >= timeouts.bodyMs) this.destroy()
        return
      case Phase.Lingering:
        if (waited >= timeouts.lingerMs) this.destroy()
    }
  }

  private timedOut(): void {
    if (this.kept === null) this.destroy()
    else {
      this.kept = null
      this.refuse(failures.REQUEST_TIMEOUT)
    }
  }
}

function isAscii(text: string): boolean {
  for (let index = 0; index < text.length; index++) if (text.charCodeAt(index) > 127) return false
  return true
}
