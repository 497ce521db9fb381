/**
 * One HTTP/1.1 connection to an upstream node: writes requests, parses responses, knows what was sent and what came back.
 *
 *   connecting ──▶ idle ◀──▶ busy (one exchange; several in order with pipelining) ──▶ closed
 *
 * Response bytes are handed on in place, as [start, end) of the read buffer, which is only valid during the call. Any byte that
 * arrives while nothing is outstanding closes the connection, as does anything that the strict parsers refuse.
 */
import { nowMs, recentMs } from '../../base/clock.js'
import { type Failure, failures } from '../../base/errors.js'
import type { Exchange } from '../exchange.js'
import { ChunkedDecoder } from './chunked-decoder.js'
import type { NodePool } from './pool.js'
import { Framing, findHeadEnd, mayBeHead, parseResponseHead, type ResponseHead } from './response-head.js'
import { takeScratch, writeScratch } from './scratch.js'
import { type SocketEvents, Taken, type UpstreamSocket } from './upstream-socket.js'

/** What the proxy does with what a connection meets. Calls come in this order per exchange: head, body*, or failed at any point. */
export interface ConnectionEvents {
  connected(connection: UpstreamConnection): void
  /** The head, with the whole body in [start, end) of `bytes`. */
  whole(exchange: Exchange, head: ResponseHead, bytes: Buffer, start: number, end: number): void
  /** The head; body events follow. `length` -1 = unknown. */
  head(exchange: Exchange, head: ResponseHead, length: number): void
  body(exchange: Exchange, bytes: Buffer, start: number, end: number, isLast: boolean): void
  /** The exchange is over for this connection. `answered`: bytes of its response had arrived. */
  failed(exchange: Exchange, connection: UpstreamConnection, failure: Failure, answered: boolean): void
  /** The socket takes data again. */
  drained(exchange: Exchange): void
  /** All bytes of one read were handed on. */
  turnEnded(): void
}

enum Phase {
  Head = 0,
  Length = 1,
  Chunked = 2,
  Close = 3,
}

/**
 * Connections of this worker with something to write at the end of this turn of the event loop: one immediate for all of them. Written
 * together, requests wake an upstream once, not once each.
 */
let unflushed: UpstreamConnection[] = []
let flushing: UpstreamConnection[] = []

function flushAll(): void {
  const connections = unflushed
  unflushed = flushing
  flushing = connections
  for (let index = 0; index < connections.length; index++) (connections[index] as UpstreamConnection).flush()
  connections.length = 0
}

export class UpstreamConnection implements SocketEvents {
  isLane = false
  isConnected = false
  /** It did not connect in time; said before it is closed, for the accounts. */
  hasTimedOut = false
  isClosed = false
  /** It was closed before any of the requests that waited on it was written. */
  closedUnsent = false
  /** Exchanges answered on this connection. */
  served = 0
  idleSinceMs = 0
  oldestSentMs = 0
  /** Since when the rest of an answer is read that nobody wants; 0 = this is not so. */
  discardingSinceMs = 0
  /** A paused reader keeps the upstream from sending more than a slow client takes. */
  isPaused = false

  /** Exchange whose response is awaited or read; null entries stand for clients that went away. */
  private current: Exchange | null = null
  private outstanding = 0
  /** How many of these have their head in `outgoing`: the last ones. */
  private unsent = 0
  private behind: (Exchange | null)[] = []
  private behindSentMs: number[] = []
  private currentIsHead = false
  private behindIsHead: boolean[] = []
  /** The exchange's request is completely written. */
  requestComplete = true

  private phase: Phase = Phase.Head
  private remaining = 0
  private keepAliveAfter = true
  private anyBytes = false
  private readonly decoder = new ChunkedDecoder()
  private partial: Buffer | null = null
  private socket: UpstreamSocket | null = null
  /** A piece of a body filled the socket. */
  private awaitsDrain = false
  private outgoing = ''
  private flushScheduled = false
  private runBytes: Buffer | null = null
  private pendingRunStart = -1
  private pendingRunEnd = -1

  constructor(readonly pool: NodePool) {}

  get inFlight(): number {
    return this.outstanding
  }

  /** It carried exchanges before: the other side may be closing it just now. */
  get isReused(): boolean {
    return this.served > 0
  }

  /** Calls back for every exchange whose client still waits. */
  forEachWaiting(callback: (exchange: Exchange) => void): void {
    if (this.current !== null) callback(this.current)
    for (const exchange of [...this.behind]) if (exchange !== null) callback(exchange)
  }

  attach(socket: UpstreamSocket): void {
    this.socket = socket
  }

  onConnected(): void {
    if (this.isClosed) return
    this.isConnected = true
    this.pool.tally.opened()
    // The pieces of a body that are here already leave with their head.
    this.pool.events.connected(this)
    this.flush()
  }

  /** Starts an exchange with its request head. The body, if any, follows through `sendBody`. */
  send(exchange: Exchange, head: string, isHead: boolean, hasBody: boolean): void {
    if (this.outstanding === 0) {
      this.current = exchange
      this.currentIsHead = isHead
      this.anyBytes = false
      this.oldestSentMs = exchange.upstreamStartMs
    } else {
      this.behind.push(exchange)
      this.behindIsHead.push(isHead)
      this.behindSentMs.push(exchange.upstreamStartMs)
    }
    this.outstanding++
    this.requestComplete = !hasBody
    // All requests that one turn of the event loop puts on a lane leave in one write. The first piece of a body is usually in the same
    // read as its head: both leave in one write too.
    this.outgoing += head
    this.unsent++
    this.flushSoon()
  }

  private flushSoon(): void {
    if (this.flushScheduled) return
    this.flushScheduled = true
    if (unflushed.push(this) === 1) setImmediate(flushAll)
  }

  /** Writes the heads that waited for this turn of the event loop to end, or for the socket to connect. */
  flush(): void {
    this.flushScheduled = false
    const outgoing = this.outgoing
    if (outgoing === '' || !this.isConnected || this.isClosed) return
    this.outgoing = ''
    this.unsent = 0
    this.socket?.writeText(outgoing)
  }

  /**
   * Writes a piece of the body, framed as a chunk if `chunked`; false = wait for `drained`. An empty piece only ends the body. The
   * bytes must stay untouched, unless `isLent` says that they are only good for this call.
   */
  sendBody(piece: Buffer, chunked: boolean, isLast: boolean, isLent = false): boolean {
    if (isLast) this.requestComplete = true
    const socket = this.socket
    const head = this.outgoing
    this.outgoing = ''
    this.unsent = 0
    if (socket === null) return true
    let taken = Taken.Whole
    if (head === '' && !chunked && (!isLent || piece.length === 0)) {
      if (piece.length > 0) taken = socket.writeBytes(piece)
    } else {
      const size = chunked && piece.length > 0 ? `${piece.length.toString(16)}\r\n` : ''
      const end = chunked ? (piece.length > 0 ? (isLast ? '\r\n0\r\n\r\n' : '\r\n') : isLast ? '0\r\n\r\n' : '') : ''
      // The head is text that may not be ASCII: up to three bytes for each of its characters.
      const joined = takeScratch(head.length * 3 + size.length + piece.length + end.length)
      let offset = joined.write(head + size, 0, 'utf8')
      joined.set(piece, offset)
      offset += piece.length
      offset += joined.write(end, offset, 'latin1')
      taken = writeScratch(socket, joined, offset)
    }
    if (taken !== Taken.Full) return true
    this.awaitsDrain = true
    return false
  }

  onDrained(): void {
    if (!this.awaitsDrain) return
    this.awaitsDrain = false
    if (this.current !== null) this.pool.events.drained(this.current)
  }

  pause(): void {
    if (this.isPaused) return
    this.isPaused = true
    this.socket?.pause()
  }

  resume(): void {
    if (!this.isPaused) return
    this.isPaused = false
    this.socket?.resume()
  }

  /** The client of this exchange has gone: nobody wants the answer. */
  cancel(exchange: Exchange): void {
    if (!this.isLane || this.outstanding === 1) {
      this.destroy()
      return
    }
    // Others wait on this lane: the unwanted answer is read and dropped.
    if (this.current === exchange) {
      this.current = null
      this.resume()
    } else {
      const index = this.behind.indexOf(exchange)
      if (index !== -1) this.behind[index] = null
    }
    if (this.current === null && this.behind.every((waiting) => waiting === null)) this.destroy()
  }

  /** What was asked for by one exchange is the other's now. */
  handOver(from: Exchange, to: Exchange): void {
    if (this.current === from) this.current = to
    const index = this.behind.indexOf(from)
    if (index !== -1) this.behind[index] = to
  }

  /** Another try has taken the place of this exchange's: the rest of the answer is read and dropped, so that the connection is kept. */
  discard(exchange: Exchange): void {
    if (this.isClosed || this.current !== exchange) return
    this.current = null
    this.discardingSinceMs = nowMs()
    this.pool.discards(this)
    this.resume()
  }

  destroy(): void {
    this.close(failures.UPSTREAM_RESET)
  }

  /** Bytes from the socket, valid during the call. Returns true: reading goes on (pause() stops it). */
  onBytes(bytes: Buffer, length: number): boolean {
    if (this.isClosed) return false
    if (this.partial === null) {
      this.consume(bytes, 0, length)
    } else {
      const joined = Buffer.concat([this.partial, bytes.subarray(0, length)])
      this.partial = null
      this.consume(joined, 0, joined.length)
    }
    this.pool.events.turnEnded()
    return !this.isPaused
  }

  private consume(bytes: Buffer, start: number, end: number): void {
    let position = start
    while (position < end && !this.isClosed) {
      if (this.outstanding === this.unsent) {
        // Nobody asked for these bytes: whoever is about to is better served elsewhere.
        this.close(failures.UPSTREAM_RESET)
        return
      }
      this.anyBytes = true
      switch (this.phase) {
        case Phase.Head:
          position = this.consumeHead(bytes, position, end)
          if (position < 0) return
          break
        case Phase.Length: {
          const length = Math.min(this.remaining, end - position)
          this.remaining -= length
          this.deliver(bytes, position, position + length, this.remaining === 0, position + length < end)
          position += length
          break
        }
        case Phase.Chunked:
          position = this.consumeChunked(bytes, position, end)
          if (position < 0) return
          break
        case Phase.Close:
          if (this.current !== null) this.pool.events.body(this.current, bytes, position, end, false)
          return
      }
    }
  }

  /** Returns the index behind the head (and behind the body when that came with it), or -1 when no more can be done now. */
  private consumeHead(bytes: Buffer, start: number, end: number): number {
    const pool = this.pool
    let head = pool.memo.find(bytes, start, end)
    let headEnd = head === null ? -1 : start + head.raw.length
    if (head === null) {
      headEnd = findHeadEnd(bytes, start, end)
      if (headEnd === -1) {
        // Another protocol, or bodies without heads: no need to wait for an end that will not come.
        if (end - start > pool.maxResponseHeaderBytes || !mayBeHead(bytes, start, end)) {
          this.close(failures.UPSTREAM_BAD_RESPONSE)
          return -1
        }
        this.partial = Buffer.from(bytes.subarray(start, end))
        return -1
      }
      const parsed = headEnd - start > pool.maxResponseHeaderBytes ? 'header block too large' : parseResponseHead(bytes, start, headEnd)
      if (typeof parsed === 'string') {
        this.close(failures.UPSTREAM_BAD_RESPONSE)
        return -1
      }
      if (parsed.status < 200) {
        // Interim answers end here; switching protocols was never asked for.
        if (parsed.status === 101) {
          this.close(failures.UPSTREAM_BAD_RESPONSE)
          return -1
        }
        return headEnd
      }
      head = parsed
      pool.memo.remember(parsed)
    }
    return this.startBody(head, bytes, headEnd, end)
  }

  private startBody(head: ResponseHead, bytes: Buffer, headEnd: number, end: number): number {
    this.keepAliveAfter = head.keepAlive
    const exchange = this.current
    const bodiless = this.currentIsHead || head.status === 204 || head.status === 304
    if (bodiless || (head.framing === Framing.Length && end - headEnd >= head.contentLength)) {
      const bodyEnd = bodiless ? headEnd : headEnd + head.contentLength
      // The connection is free before the client is answered: what the answer starts may use it again.
      this.finishResponse(bodyEnd < end)
      if (exchange !== null) this.pool.events.whole(exchange, head, bytes, headEnd, bodyEnd)
      return bodyEnd
    }
    if (head.framing === Framing.Length) {
      this.phase = Phase.Length
      this.remaining = head.contentLength
    } else if (head.framing === Framing.Chunked) {
      this.phase = Phase.Chunked
      this.decoder.reset()
    } else {
      this.phase = Phase.Close
    }
    if (exchange !== null) this.pool.events.head(exchange, head, head.framing === Framing.Length ? head.contentLength : -1)
    return headEnd
  }

  private consumeChunked(bytes: Buffer, start: number, end: number): number {
    this.runBytes = bytes
    this.pendingRunStart = -1
    const position = this.decoder.decode(bytes, start, end, this.onRun)
    // What took a run may have ended the exchange, and the connection with it.
    if (this.isClosed) return -1
    if (position < 0) {
      this.close(failures.UPSTREAM_BAD_RESPONSE)
      return -1
    }
    const isLast = this.decoder.isDone
    // One run is held back so that the last one can say that it is the last.
    if (this.pendingRunStart !== -1) this.deliver(bytes, this.pendingRunStart, this.pendingRunEnd, isLast, position < end)
    else if (isLast) this.deliver(bytes, position, position, true, position < end)
    return position
  }

  private readonly onRun = (start: number, end: number): void => {
    const bytes = this.runBytes
    if (bytes !== null && this.pendingRunStart !== -1 && this.current !== null) {
      this.pool.events.body(this.current, bytes, this.pendingRunStart, this.pendingRunEnd, false)
    }
    this.pendingRunStart = start
    this.pendingRunEnd = end
  }

  private deliver(bytes: Buffer, start: number, end: number, isLast: boolean, bytesBehind: boolean): void {
    const exchange = this.current
    if (isLast) this.finishResponse(bytesBehind)
    if (exchange !== null) this.pool.events.body(exchange, bytes, start, end, isLast)
  }

  /** The response is complete: the next exchange moves up, or the connection rests. */
  private finishResponse(bytesBehind: boolean): void {
    this.phase = Phase.Head
    this.discardingSinceMs = 0
    this.outstanding--
    this.served++
    this.current = null
    this.anyBytes = false
    // Whoever was too slow for this answer got the rest of it in the same read: the next one is not to wait for him.
    this.resume()
    const reusable = this.keepAliveAfter && this.served < this.pool.keepalive.requests && this.requestComplete
    if (this.outstanding > 0) {
      if (!reusable && !this.keepAliveAfter) {
        this.close(failures.UPSTREAM_RESET)
        return
      }
      this.current = this.behind.shift() ?? null
      this.currentIsHead = this.behindIsHead.shift() ?? false
      this.oldestSentMs = Math.max(this.behindSentMs.shift() ?? 0, nowMs())
      return
    }
    if (!reusable || bytesBehind) {
      this.close(failures.UPSTREAM_RESET)
      return
    }
    this.idleSinceMs = recentMs()
    this.pool.release(this, this.idleSinceMs)
  }

  onEnd(): void {
    if (this.phase === Phase.Close && this.outstanding > 0) {
      const exchange = this.current
      this.keepAliveAfter = false
      this.finishResponse(false)
      if (exchange !== null) this.pool.events.body(exchange, this.pool.readBuffer, 0, 0, true)
      return
    }
    this.close(failures.UPSTREAM_RESET)
  }

  onError(code: string | undefined): void {
    const tlsFailed = this.pool.settings.tls !== null && !this.isConnected && !isConnectError(code)
    this.close(tlsFailed ? failures.UPSTREAM_TLS_FAILED : this.isConnected ? failures.UPSTREAM_RESET : failures.UPSTREAM_CONNECT_FAILED)
  }

  onClosed(): void {
    this.close(failures.UPSTREAM_RESET)
  }

  /** Ends the connection with a reason, and every exchange that still waits on it. */
  close(failure: Failure): void {
    if (this.isClosed) return
    this.isClosed = true
    this.closedUnsent = this.unsent > 0 && this.unsent === this.outstanding
    this.pool.forget(this)
    this.socket?.destroy()
    const exchange = this.current
    const answered = this.anyBytes
    const behind = this.behind
    this.current = null
    this.behind = []
    this.outstanding = 0
    if (exchange !== null) this.pool.events.failed(exchange, this, failure, answered)
    for (const waiting of behind) {
      if (waiting !== null) this.pool.events.failed(waiting, this, failures.UPSTREAM_RESET, false)
    }
  }
}

function isConnectError(code: string | undefined): boolean {
  return code === 'ECONNREFUSED' || code === 'EHOSTUNREACH' || code === 'ENETUNREACH' || code === 'ETIMEDOUT' || code === 'ENOENT'
}
