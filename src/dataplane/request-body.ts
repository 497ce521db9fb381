/**
 * A request's body on its way from the client to the upstream, with backpressure both ways.
 *
 * Pieces wait in the exchange's queue while there is no connection or its socket is full; past half of the bound the client is paused.
 * What was sent of an idempotent request is kept up to a bound, so that the request can be repeated on another connection.
 */
import { nowMs } from '../base/clock.js'
import { type Exchange, Stage } from './exchange.js'

/** Sent body bytes kept so that an idempotent request can be repeated on another connection. */
const REPLAY_BYTES_MAX = 65536

const emptyPiece = Buffer.alloc(0)

export interface RequestBodyLimits {
  readonly maxBufferedBytes: number
  readonly bodyTimeoutMs: number
}

export class RequestBody {
  constructor(private readonly limits: RequestBodyLimits) {}

  /** A piece from the client; the memory is only lent for this call. */
  receive(exchange: Exchange, chunk: ArrayBuffer, isLast: boolean): void {
    const length = chunk.byteLength
    if (length > 0) {
      if (this.sendDirectly(exchange, chunk, isLast)) return
      const copy = Buffer.allocUnsafe(length)
      copy.set(new Uint8Array(chunk))
      exchange.bodyQueue ??= []
      exchange.bodyQueue.push(copy)
      exchange.bodyQueuedBytes += length
    }
    this.pump(exchange)
    if (!isLast && exchange.bodyQueuedBytes > this.limits.maxBufferedBytes / 2) pauseClient(exchange)
  }

  /** Moves queued bytes to the upstream as far as it takes them. */
  pump(exchange: Exchange): void {
    const connection = exchange.connection
    if (connection === null || !connection.isConnected || exchange.isUpstreamFull) return
    const queue = exchange.bodyQueue
    const chunked = exchange.requestBodyLength < 0
    let moved = false
    while (queue !== null && queue.length > 0) {
      const piece = queue.shift() as Buffer
      exchange.bodyQueuedBytes -= piece.length
      moved = true
      keepForReplay(exchange, piece)
      const isLast = exchange.bodyComplete && queue.length === 0
      const taken = connection.sendBody(piece, chunked, isLast)
      if (exchange.connection !== connection) return
      if (!taken && !isLast) {
        exchange.isUpstreamFull = true
        break
      }
    }
    const finished = exchange.bodyComplete && (queue === null || queue.length === 0)
    if (finished && !connection.requestComplete) connection.sendBody(emptyPiece, chunked, true)
    if (exchange.stage !== Stage.Upstream) return
    if (finished || moved || exchange.isUpstreamFull) this.giveTime(exchange, finished)
    if (!exchange.isUpstreamFull) this.resumeClient(exchange)
  }

  /** Puts sent bytes back in front of the queue; false if they are gone. */
  rewind(exchange: Exchange): boolean {
    const replay = exchange.bodyReplay
    if (replay === null) return false
    exchange.bodyQueue = [...replay, ...(exchange.bodyQueue ?? [])]
    exchange.bodyQueuedBytes += exchange.bodyReplayBytes
    exchange.bodyReplay = []
    exchange.bodyReplayBytes = 0
    exchange.isUpstreamFull = false
    return true
  }

  resumeClient(exchange: Exchange): void {
    if (!exchange.bodyPaused || exchange.client === null || exchange.bodyQueuedBytes > this.limits.maxBufferedBytes / 4) return
    exchange.bodyPaused = false
    exchange.client.resume()
  }

  /** Joins the first piece to the head that waits for it, without a copy in between. False = it has to be queued. */
  private sendDirectly(exchange: Exchange, chunk: ArrayBuffer, isLast: boolean): boolean {
    const connection = exchange.connection
    if (connection === null || !connection.isConnected || !connection.copiesNextPiece || exchange.isUpstreamFull) return false
    if (exchange.bodyReplay !== null || exchange.bodyQueuedBytes > 0) return false
    const taken = connection.sendBody(Buffer.from(chunk), exchange.requestBodyLength < 0, isLast)
    if (exchange.connection !== connection || exchange.stage !== Stage.Upstream) return true
    exchange.isUpstreamFull = !taken && !isLast
    this.giveTime(exchange, isLast)
    return true
  }

  /** Whoever is slow now is given his time: the upstream to answer or to take, or the client to send. */
  private giveTime(exchange: Exchange, isSent: boolean): void {
    const wait = isSent ? exchange.readTimeoutMs : exchange.isUpstreamFull ? exchange.sendTimeoutMs : this.limits.bodyTimeoutMs
    exchange.deadlineMs = nowMs() + wait
  }
}

function keepForReplay(exchange: Exchange, piece: Buffer): void {
  const replay = exchange.bodyReplay
  if (replay === null) return
  exchange.bodyReplayBytes += piece.length
  if (exchange.bodyReplayBytes > REPLAY_BYTES_MAX) exchange.bodyReplay = null
  else replay.push(piece)
}

function pauseClient(exchange: Exchange): void {
  if (exchange.bodyPaused || exchange.client === null) return
  exchange.bodyPaused = true
  exchange.client.pause()
}
