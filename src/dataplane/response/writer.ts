/**
 * Writes answers to clients with backpressure.
 *
 * Without response plugins an upstream's header block goes out as the bytes it came in, in one native call. With them the block is
 * taken apart into a HeaderList, changed, and put together again; the body then goes directly, is replaced, collected or transformed.
 * A slow client pauses the upstream connection; at most one read of it is held here.
 */

// Not the global of this name, which is an accessor.
import { Buffer } from 'node:buffer'
import { nowMs } from '../../base/clock.js'
import type { HeaderList } from '../../base/headers.js'
import type { BodyTransform } from '../../plugins/plugin.js'
import { type Exchange, Sink, Stage } from '../exchange.js'
import type { ClientResponse } from '../listener/binding.js'
import type { FilterStep } from '../phases/chain.js'
import { Framing, type ResponseHead } from '../upstream/response-head.js'
import type { ReplyParts } from './reply.js'
import { statusLine } from './response-headers.js'

export interface WriterEvents {
  /** The last bytes of the answer are about to be written: whoever reads them may ask again at once. */
  ending(exchange: Exchange): void
  /** The answer was handed to the client completely. */
  completed(exchange: Exchange): void
  /** The answer cannot be completed. */
  abortClient(exchange: Exchange): void
  /** The upstream's body is not needed any more. */
  cancelUpstream(exchange: Exchange): void
  pluginFailed(exchange: Exchange, phase: string, error: unknown): void
  /** The upstream's body does not fit what a plugin may collect. */
  responseTooLarge(exchange: Exchange): void
}

const emptyBytes = Buffer.alloc(0)
/** Longer texts are measured each time. */
const MEASURED_MAX = 4096
const noFilters: readonly FilterStep[] = []

export class ResponseWriter {
  events: WriterEvents | null = null
  /** The client whose request handler is running. */
  handledClient: ClientResponse | null = null
  // What the functions below work on while the socket is corked: arguments without a closure.
  private client: ClientResponse | null = null
  private block: string | Uint8Array = ''
  private bytes: string | Uint8Array = emptyBytes
  private close = false
  /** The head says "close" by our hand: the uWebSockets.js build says it neither to a client that has said it first, nor with `tryEnd`. */
  private saysClose = false
  private bodiless = false
  private length = -1
  /** A head that waits for the first body bytes of the same read, so that both leave in one write. */
  private heldHead: Exchange | null = null
  private heldBlock: string | Uint8Array = ''

  constructor(private readonly sendTimeoutMs: number) {}

  /** An upstream's answer that arrived in one piece: head and body in [start, end). */
  whole(exchange: Exchange, head: ResponseHead, source: Buffer, start: number, end: number): void {
    // The bytes of a head that is held may be those that this answer is about to overwrite.
    if (this.heldHead !== null && this.heldHead !== exchange) this.flushHead()
    const filters = filtersOf(exchange)
    if (filters.length > 0) {
      exchange.response.bodyLength = end - start
      if (!this.filter(exchange, head, filters)) return
      const bodiless = isBodiless(exchange)
      if (exchange.sink !== Sink.Direct && !bodiless) {
        if (exchange.sink === Sink.Transform) this.holdHead(exchange, encodeBlock(exchange), -1)
        this.toSink(exchange, source.subarray(start, end), true)
        return
      }
      this.finishWhole(
        exchange,
        encodeBlock(exchange),
        bodiless ? emptyBytes : source.subarray(start, end),
        bodiless,
        bodilessLength(exchange, head),
      )
      return
    }
    const bodiless = isBodiless(exchange)
    const { client } = exchange
    if (!bodiless && client?.answer !== undefined) {
      exchange.stage = Stage.Responding
      exchange.bodyBytesSent = end - start
      this.events?.ending(exchange)
      client.answer(plainBlock(exchange, head), true, source, start, end, exchange.closeClient)
      this.events?.completed(exchange)
      return
    }
    this.finishWhole(
      exchange,
      plainBlock(exchange, head),
      bodiless ? emptyBytes : source.subarray(start, end),
      bodiless,
      bodilessLength(exchange, head),
    )
  }

  private finishWhole(exchange: Exchange, block: string | Uint8Array, bytes: string | Uint8Array, bodiless: boolean, length: number): void {
    const client = exchange.client
    if (client === null) return
    exchange.stage = Stage.Responding
    if (!bodiless && client.answer !== undefined) {
      exchange.bodyBytesSent = byteLength(bytes)
      this.events?.ending(exchange)
      client.answer(block, typeof block === 'string', bytes, 0, exchange.bodyBytesSent, exchange.closeClient)
      this.events?.completed(exchange)
      return
    }
    this.client = client
    this.block = block
    this.bytes = bytes
    this.close = exchange.closeClient
    this.saysClose = exchange.clientCloses || (bodiless && this.close)
    this.bodiless = bodiless
    this.length = length
    exchange.bodyBytesSent = byteLength(bytes)
    this.events?.ending(exchange)
    // Inside its handler the binding has corked the socket already.
    if (client === this.handledClient) this.corkedWhole()
    else client.cork(this.corkedWhole)
    this.client = null
    this.events?.completed(exchange)
  }

  private readonly corkedWhole = (): void => {
    const client = this.client
    if (client === null) return
    client.writeStatus(this.block)
    if (this.saysClose) client.writeHeader('connection', 'close')
    if (!this.bodiless) {
      client.end(this.bytes, this.close)
      return
    }
    // With arguments this call of the registry build writes a false length, or leaves the answer pending: the fields are written by
    // hand, and a client that is told to close does.
    if (this.length >= 0) client.writeHeader('content-length', `${this.length}`)
    client.endWithoutBody()
  }

  /** The head of an answer whose body is still coming; `length` -1 = unknown. */
  head(exchange: Exchange, head: ResponseHead, length: number): void {
    if (this.heldHead !== null && this.heldHead !== exchange) this.flushHead()
    const filters = filtersOf(exchange)
    let block: string | Uint8Array = plainBlock(exchange, head)
    if (filters.length > 0) {
      exchange.response.bodyLength = length
      if (!this.filter(exchange, head, filters)) return
      if (isBodiless(exchange)) {
        this.finishWhole(exchange, encodeBlock(exchange), emptyBytes, true, bodilessLength(exchange, head))
        return
      }
      if (exchange.sink !== Sink.Direct && exchange.sink !== Sink.Transform) {
        if (exchange.sink === Sink.Discard) this.toSink(exchange, emptyBytes, true)
        return
      }
      block = encodeBlock(exchange)
    } else if (isBodiless(exchange)) {
      // The method was rewritten on the way: the upstream sends what the client did not ask for.
      this.finishWhole(exchange, block, emptyBytes, true, bodilessLength(exchange, head))
      return
    }
    this.holdHead(exchange, block, exchange.sink === Sink.Transform ? -1 : length)
  }

  /** Keeps a head back until the first body bytes, or the end of this read. */
  private holdHead(exchange: Exchange, block: string | Uint8Array, length: number): void {
    if (this.heldHead !== exchange) this.flushHead()
    exchange.answerLength = length
    this.heldHead = exchange
    this.heldBlock = block
  }

  /** Sends a held head by itself: its body has not begun to arrive. */
  flushHead(): void {
    const exchange = this.heldHead
    if (exchange === null) return
    this.heldHead = null
    const client = exchange.client
    if (client === null) return
    exchange.stage = Stage.Responding
    this.client = client
    this.block = this.heldBlock
    this.bytes = emptyBytes
    this.length = exchange.answerLength
    this.saysClose = exchange.clientCloses || exchange.closeClient
    client.cork(this.corkedHead)
    this.client = null
  }

  private readonly corkedHead = (): void => {
    const client = this.client
    if (client === null) return
    client.writeStatus(this.block)
    if (this.saysClose) client.writeHeader('connection', 'close')
    // An empty piece makes the binding send the head now.
    if (this.length >= 0) client.tryEnd(this.bytes, this.length)
    else client.write(this.bytes)
  }

  body(exchange: Exchange, source: Buffer, start: number, end: number, isLast: boolean): void {
    const bytes = source.subarray(start, end)
    if (exchange.sink !== Sink.Direct) this.toSink(exchange, bytes, isLast)
    else this.toClient(exchange, bytes, isLast)
  }

  private toSink(exchange: Exchange, bytes: Uint8Array, isLast: boolean): void {
    switch (exchange.sink) {
      case Sink.Discard:
        if (exchange.response.replacement !== null) {
          const body = exchange.response.replacement
          exchange.response.replacement = null
          this.events?.cancelUpstream(exchange)
          if (exchange.response.collect !== null) this.applyChanges(exchange, asBuffer(body))
          else this.sendCollected(exchange, body)
        }
        return
      case Sink.Collect:
        this.collect(exchange, bytes, isLast)
        return
      case Sink.Transform:
        this.transform(exchange, bytes, isLast)
        return
      case Sink.Direct:
        this.toClient(exchange, bytes, isLast)
    }
  }

  // ---------------------------------------------------------------- direct streaming

  private toClient(exchange: Exchange, bytes: Uint8Array, isLast: boolean): void {
    const client = exchange.client
    if (client === null) return
    if (exchange.unsent !== null && exchange.answerLength >= 0) {
      // The upstream was faster than its pause: keep the order.
      exchange.unsent = Buffer.concat([exchange.unsent, bytes])
      exchange.unsentIsLast = isLast
      return
    }
    exchange.stage = Stage.Responding
    const hasHead = this.heldHead === exchange
    if (hasHead && isLast && exchange.answerLength < 0) {
      // All of a body without a length is here: it gets one.
      this.heldHead = null
      this.finishWhole(exchange, this.heldBlock, bytes, false, -1)
      return
    }
    this.client = client
    this.block = hasHead ? this.heldBlock : ''
    if (hasHead) this.heldHead = null
    this.bytes = bytes
    this.length = exchange.answerLength
    this.close = exchange.closeClient
    this.saysClose = hasHead && (exchange.clientCloses || this.close)
    this.isLast = isLast
    if (isLast || (exchange.answerLength >= 0 && exchange.bodyBytesSent + bytes.length >= exchange.answerLength)) {
      this.events?.ending(exchange)
    }
    client.cork(this.corkedPiece)
    this.client = null
    if (exchange.answerLength < 0) {
      exchange.bodyBytesSent += bytes.length
      if (isLast) this.events?.completed(exchange)
      else if (!this.isTaken) this.wait(exchange)
      return
    }
    const sent = this.isTaken ? bytes.length : client.getWriteOffset() - exchange.bodyBytesSent
    exchange.bodyBytesSent += sent
    if (this.isComplete) {
      this.events?.completed(exchange)
    } else if (!this.isTaken) {
      exchange.unsent = Buffer.from(bytes.subarray(sent))
      exchange.unsentOffset = exchange.bodyBytesSent
      exchange.unsentIsLast = isLast
      this.wait(exchange)
    }
  }

  private isLast = false
  private isTaken = true
  private isComplete = false

  private readonly corkedPiece = (): void => {
    const client = this.client
    if (client === null) return
    if (this.block.length > 0) client.writeStatus(this.block)
    if (this.saysClose) client.writeHeader('connection', 'close')
    if (this.length >= 0) {
      const [taken, complete] = client.tryEnd(this.bytes, this.length, this.close)
      this.isTaken = taken
      this.isComplete = complete
      return
    }
    if (this.isLast) {
      if (this.bytes.length > 0) client.write(this.bytes)
      client.end(undefined, this.close)
      return
    }
    // An empty chunk would end the body.
    this.isTaken = this.bytes.length === 0 || client.write(this.bytes)
  }

  private wait(exchange: Exchange): void {
    exchange.deadlineMs = nowMs() + this.sendTimeoutMs
    if (!exchange.isClientFull) {
      exchange.isClientFull = true
      holdUpstream(exchange)
    }
    exchange.client?.onWritable(exchange.onWritable)
  }

  /** The client took something. Returns whether everything that was held is gone. */
  writable(exchange: Exchange, offset: number): boolean {
    const client = exchange.client
    if (client === null) return true
    const unsent = exchange.unsent
    if (unsent !== null && exchange.answerLength >= 0) {
      const rest = unsent.subarray(offset - exchange.unsentOffset)
      const [taken, complete] = client.tryEnd(rest, exchange.answerLength, exchange.closeClient)
      if (complete) {
        exchange.unsent = null
        exchange.bodyBytesSent = exchange.answerLength
        this.events?.completed(exchange)
        return true
      }
      if (!taken) {
        exchange.deadlineMs = nowMs() + this.sendTimeoutMs
        return false
      }
      exchange.bodyBytesSent = exchange.unsentOffset + unsent.length
      exchange.unsent = null
    }
    exchange.deadlineMs = nowMs() + exchange.readTimeoutMs
    if (exchange.isClientFull) {
      exchange.isClientFull = false
      releaseUpstream(exchange)
    }
    return true
  }

  // ---------------------------------------------------------------- changed bodies

  private collect(exchange: Exchange, bytes: Uint8Array, isLast: boolean): void {
    exchange.collectedBytes += bytes.length
    if (exchange.collectedBytes > exchange.response.collectMax) {
      this.events?.responseTooLarge(exchange)
      return
    }
    exchange.collected ??= []
    exchange.collected.push(Buffer.from(bytes))
    if (isLast) this.applyChanges(exchange, Buffer.concat(exchange.collected))
  }

  private applyChanges(exchange: Exchange, body: Buffer): void {
    const changes = exchange.response.collect ?? []
    exchange.response.collect = null
    exchange.collected = null
    let current: Buffer = body
    for (let index = 0; index < changes.length; index++) {
      const change = changes[index]
      if (change === undefined) continue
      let result: ReturnType<typeof change>
      try {
        result = change(current)
      } catch (error) {
        this.events?.pluginFailed(exchange, 'body', error)
        return
      }
      if (result instanceof Promise) {
        exchange.suspended = true
        exchange.deadlineMs = 0
        result.then(
          (next) => {
            exchange.response.collect = changes.slice(index + 1)
            if (!exchange.aborted) this.applyChanges(exchange, asBuffer(next))
          },
          (error: unknown) => this.events?.pluginFailed(exchange, 'body', error),
        )
        return
      }
      current = asBuffer(result)
    }
    this.sendCollected(exchange, current)
  }

  private sendCollected(exchange: Exchange, body: string | Uint8Array): void {
    if (exchange.response.transforms !== null) {
      exchange.sink = Sink.Transform
      this.holdHead(exchange, encodeBlock(exchange), -1)
      this.transform(exchange, asBuffer(body), true)
      this.flushHead()
      return
    }
    exchange.sink = Sink.Direct
    const bodiless = isBodiless(exchange)
    this.finishWhole(exchange, encodeBlock(exchange), bodiless ? emptyBytes : asBuffer(body), bodiless, -1)
  }

  private transform(exchange: Exchange, bytes: Uint8Array, isLast: boolean): void {
    this.pushInto(exchange, exchange.response.transforms ?? [], 0, bytes, isLast)
  }

  private pushInto(exchange: Exchange, transforms: readonly BodyTransform[], index: number, bytes: Uint8Array, isLast: boolean): void {
    const transform = transforms[index]
    if (transform === undefined) {
      if (exchange.client === null) return
      this.toClient(exchange, bytes, isLast)
      return
    }
    try {
      const pending = transform.push(bytes, isLast, (next, nextIsLast) => this.pushInto(exchange, transforms, index + 1, next, nextIsLast))
      if (pending === undefined) return
      const failed = (error: unknown) => this.events?.pluginFailed(exchange, 'body', error)
      if (isLast) {
        pending.catch(failed)
        return
      }
      // The transform is behind: the upstream waits for it as it would for a slow client.
      holdUpstream(exchange)
      pending.then(() => releaseUpstream(exchange), failed)
    } catch (error) {
      this.events?.pluginFailed(exchange, 'body', error)
    }
  }

  /** Runs the header filters over an upstream's head. False = the exchange ended. */
  private filter(exchange: Exchange, head: ResponseHead, filters: readonly FilterStep[]): boolean {
    exchange.response.headers.fromHead(head)
    exchange.filterRuns++
    return this.runFilters(exchange, filters)
  }

  private runFilters(exchange: Exchange, filters: readonly FilterStep[]): boolean {
    const response = exchange.response
    for (const step of filters) {
      try {
        if (step.filter === null || step.filter(exchange)) step.run(exchange)
      } catch (error) {
        this.events?.pluginFailed(exchange, step.name, error)
        return false
      }
    }
    exchange.sink =
      response.replacement !== null
        ? Sink.Discard
        : response.collect !== null
          ? Sink.Collect
          : response.transforms !== null
            ? Sink.Transform
            : Sink.Direct
    return true
  }

  // ---------------------------------------------------------------- the gateway's own answers

  reply(exchange: Exchange, parts: ReplyParts): void {
    if (this.heldHead === exchange) this.heldHead = null
    const response = exchange.response
    response.status = parts.status
    response.bodyLength = byteLength(parts.body)
    const filters = filtersOf(exchange)
    response.headers.fromPairs(parts.headers, parts.contentType)
    discardChanges(exchange)
    exchange.sink = Sink.Direct
    if (filters.length > 0 && exchange.filterRuns++ === 0) {
      if (!this.runFilters(exchange, filters)) return
      const body = response.replacement ?? parts.body
      response.replacement = null
      if (response.collect !== null) {
        this.applyChanges(exchange, asBuffer(body))
        return
      }
      this.sendCollected(exchange, body)
      return
    }
    const bodiless = isBodiless(exchange)
    this.finishWhole(
      exchange,
      encodeBlock(exchange),
      bodiless ? emptyBytes : parts.body,
      bodiless,
      exchange.isHead ? byteLength(parts.body) : -1,
    )
  }
}

function filtersOf(exchange: Exchange): readonly FilterStep[] {
  return exchange.overlaid?.responseFilters ?? exchange.linked?.responseFilters ?? exchange.snapshot?.responseFilters ?? noFilters
}

/** One more reason not to read from the upstream. */
function holdUpstream(exchange: Exchange): void {
  if (exchange.upstreamHolds++ === 0) exchange.connection?.pause()
}

function releaseUpstream(exchange: Exchange): void {
  if (--exchange.upstreamHolds === 0) exchange.connection?.resume()
}

/** Body changes that were arranged for an answer that is not sent after all. */
export function discardChanges(exchange: Exchange): void {
  const response = exchange.response
  const transforms = response.transforms
  response.replacement = null
  response.collect = null
  response.transforms = null
  exchange.collected = null
  if (transforms === null) return
  for (const transform of transforms) transform.destroy()
}

function isBodiless(exchange: Exchange): boolean {
  const status = exchange.response.status
  return exchange.isHead || status === 204 || status === 304
}

/** Length to announce without sending a body: only answers to HEAD have one. */
function bodilessLength(exchange: Exchange, head: ResponseHead): number {
  return exchange.isHead && head.framing === Framing.Length && exchange.sink === Sink.Direct ? head.contentLength : -1
}

function asBuffer(body: string | Uint8Array): Buffer {
  return typeof body === 'string' ? Buffer.from(body) : Buffer.from(body.buffer, body.byteOffset, body.byteLength)
}

/** The last text that was measured: an answer is measured twice, and often the next one is the same again. */
let measured = ''
let measuredBytes = 0

function byteLength(body: string | Uint8Array): number {
  if (typeof body !== 'string') return body.length
  if (body === measured) return measuredBytes
  const bytes = Buffer.byteLength(body)
  // Not kept alive for longer than it is worth.
  if (bytes > MEASURED_MAX) return bytes
  measured = body
  measuredBytes = bytes
  return bytes
}

const beyondAscii = /[^\t\n\r\x20-\x7e]/
const beyondLatin1 = /[^\t\x20-\xff]/
const controls = /[^\t\x20-\x7e\x80-\uffff]/
const controlsAll = /[^\t\x20-\x7e\x80-\uffff]+/g
/** RFC 9110 token: what a field name is made of. */
const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/

/** An upstream's block as it came; its errors are marked as its own, with the statuses of all tries (APISIX). */
function plainBlock(exchange: Exchange, head: ResponseHead): Uint8Array {
  return head.status < 500 ? head.block : Buffer.concat([head.block, Buffer.from(upstreamStatusLine(exchange))])
}

/** Tells errors that came from upstreams from those of the gateway. */
function upstreamStatusLine(exchange: Exchange): string {
  const { response, upstreamStatus } = exchange
  return response.status >= 500 && upstreamStatus !== '' ? `\r\nX-APISIX-Upstream-Status: ${upstreamStatus}` : ''
}

/** Status line and header lines for `writeStatus`. Framing fields belong to the writer and the binding, whatever a plugin set. */
function encodeBlock(exchange: Exchange): string | Uint8Array {
  const { status, headers } = exchange.response
  const bytes = status < 500 ? headers.bytes(status) : null
  if (bytes !== null) return bytes
  const asItCame = headers.block(status)
  if (asItCame !== null) return status < 500 ? asItCame : asItCame + upstreamStatusLine(exchange)
  const text = `${statusLine(status)}${headerLines(headers)}${upstreamStatusLine(exchange)}`
  if (!beyondAscii.test(text)) return text
  return Buffer.from(text, 'latin1')
}

function headerLines(headers: HeaderList): string {
  let lines = ''
  for (let index = 0; index < headers.count; index++) {
    switch (headers.keys[index]) {
      case 'content-length':
      case 'transfer-encoding':
      case 'connection':
      case 'keep-alive':
      case 'date':
        continue
    }
    const name = headers.names[index] as string
    if (!token.test(name)) continue
    lines += `\r\n${name}: ${fieldBytes(headers.values[index] as string)}`
  }
  return lines
}

/**
 * A value as the bytes to send, one per character. What came from an upstream was read as Latin-1 and goes back the same way; text of
 * a plugin that is beyond it becomes UTF-8. Nothing ends the line.
 */
function fieldBytes(value: string): string {
  const clean = controls.test(value) ? value.replaceAll(controlsAll, ' ') : value
  return beyondLatin1.test(clean) ? Buffer.from(clean, 'utf8').toString('latin1') : clean
}
