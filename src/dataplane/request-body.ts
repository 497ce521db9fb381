/**
 * A request's body on its way from the client to the upstream, with backpressure both ways.
 *
 * Pieces wait in the exchange's queue while there is no connection or its socket is full; past half of the bound the client is paused.
 * What was sent of an idempotent request is kept up to a bound, so that the request can be repeated on another connection.
 * A plugin may collect the whole body before the first try: the pieces stay in the queue, up to the plugin's bound.
 */
import { nowMs } from '../base/clock.js'
import type { NodeFeed } from './balancer/node-feed.js'
import { type BodyReader, type Exchange, Stage } from './exchange.js'

/** Sent body bytes kept so that an idempotent request can be repeated on another connection. */
const REPLAY_BYTES_MAX = 65536

const emptyPiece = Buffer.alloc(0)

export interface RequestBodyLimits {
  readonly maxBufferedBytes: number
  readonly bodyTimeoutMs: number
}

export class RequestBody {
  constructor(
    private readonly limits: RequestBodyLimits,
    private readonly nodes: NodeFeed,
  ) {}

  /** The whole body for a plugin, once it is there; null when it is longer than `maxBytes` or the client goes. */
  collect(exchange: Exchange, maxBytes: number): Promise<Buffer | null> {
    if (exchange.stage !== Stage.Request || exchange.bodyReader !== null) throw new Error('the request body cannot be collected now')
    if (exchange.requestBodyLength === 0) return Promise.resolve(emptyPiece)
    if (exchange.requestBodyLength > maxBytes || exchange.bodyReceivedBytes > maxBytes) return Promise.resolve(null)
    if (exchange.bodyComplete) return Promise.resolve(wholeBody(exchange))
    exchange.deadlineMs = nowMs() + this.limits.bodyTimeoutMs
    return new Promise((resolve) => {
      exchange.bodyReader = { maxBytes, resolve }
      this.resumeClient(exchange)
    })
  }

  /** Puts another body in the place of a collected one. */
  replace(exchange: Exchange, body: Buffer): void {
    if (exchange.stage !== Stage.Request || !exchange.bodyComplete || exchange.bodyReader !== null) {
      throw new Error('the request body can only be replaced after it was collected')
    }
    exchange.bodyQueue = body.length === 0 ? null : [body]
    exchange.bodyQueuedBytes = body.length
    exchange.requestBodyLength = body.length
  }

  /** A piece from the client; the memory is only lent for this call. */
  receive(exchange: Exchange, chunk: ArrayBuffer | Uint8Array, isLast: boolean): void {
    const length = chunk.byteLength
    if (length > 0) {
      if (this.sendDirectly(exchange, chunk, isLast)) return
      const copy = Buffer.allocUnsafe(length)
      copy.set(asBytes(chunk))
      exchange.bodyQueue ??= []
      exchange.bodyQueue.push(copy)
      exchange.bodyQueuedBytes += length
    }
    if (exchange.bodyReader !== null && this.collected(exchange, exchange.bodyReader, isLast)) return
    this.pump(exchange)
    if (!isLast && exchange.bodyQueuedBytes > this.limits.maxBufferedBytes / 2) pauseClient(exchange)
  }

  /** True when the piece stays where it is: more is awaited, or the reader has the whole. */
  private collected(exchange: Exchange, reader: BodyReader, isLast: boolean): boolean {
    if (exchange.bodyReceivedBytes > reader.maxBytes) {
      endCollecting(exchange, null)
      return false
    }
    if (isLast) endCollecting(exchange, wholeBody(exchange))
    else exchange.deadlineMs = nowMs() + this.limits.bodyTimeoutMs
    return true
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

  /** Sends a piece on, joined to the head if that still waits for it, without keeping it. False = it has to be queued. */
  private sendDirectly(exchange: Exchange, chunk: ArrayBuffer | Uint8Array, isLast: boolean): boolean {
    const connection = exchange.connection
    if (connection === null || !connection.isConnected || exchange.isUpstreamFull) return false
    if (exchange.bodyReplay !== null || exchange.bodyQueuedBytes > 0) return false
    const taken = connection.sendBody(asBytes(chunk), exchange.requestBodyLength < 0, isLast, true)
    if (exchange.connection !== connection || exchange.stage !== Stage.Upstream) return true
    exchange.isUpstreamFull = !taken && !isLast
    this.giveTime(exchange, isLast)
    return true
  }

  /** Whoever is slow now is given his time: the upstream to answer or to take, or the client to send. */
  private giveTime(exchange: Exchange, isSent: boolean): void {
    const now = nowMs()
    if (isSent) this.nodes.sent(exchange, now)
    const wait = isSent ? exchange.readTimeoutMs : exchange.isUpstreamFull ? exchange.sendTimeoutMs : this.limits.bodyTimeoutMs
    exchange.deadlineMs = now + wait
  }
}

/** Ends the wait of a plugin for the body, if there is one. */
export function endCollecting(exchange: Exchange, body: Buffer | null): void {
  const reader = exchange.bodyReader
  if (reader === null) return
  exchange.bodyReader = null
  exchange.deadlineMs = 0
  reader.resolve(body)
}

/** All that was queued as one piece, which takes the place of the queue. */
function wholeBody(exchange: Exchange): Buffer {
  const queue = exchange.bodyQueue
  if (queue === null || queue.length === 0) return emptyPiece
  const [first] = queue
  const whole = queue.length === 1 && first !== undefined ? first : Buffer.concat(queue)
  exchange.bodyQueue = [whole]
  return whole
}

/** The same memory as a buffer. */
function asBytes(chunk: ArrayBuffer | Uint8Array): Buffer {
  return chunk instanceof ArrayBuffer ? Buffer.from(chunk) : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
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
