/**
 * HTTP/1 connections of node:http. Node hands over every request of a pipeline as soon as it is parsed; here they are started one
 * after the other, so that nothing behind a refused request is ever seen by the pipeline.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Failure } from '../../base/errors.js'
import type { ClientRequest, ClientResponse } from './binding.js'
import type { AnswerHead } from './node-answer-block.js'
import { NodeClient } from './node-client.js'
import { failureOfParser, RefusedClient } from './node-refusal.js'
import { NodeRequest } from './node-request.js'

export type RequestHandler = (response: ClientResponse, request: ClientRequest) => void

/** Requests of one connection that wait for their turn; beyond, the connection is not read. */
const WAITING_MAX = 16

export interface Http1Settings {
  /** Longest wait for the rest of a request whose answer was sent, milliseconds. */
  readonly discardTimeoutMs: number
  /** No further request is wanted on any connection. */
  readonly isDraining: () => boolean
}

export class Http1Connection {
  private active: Http1Client | null = null
  private readonly waiting: (() => void)[] = []
  /** The connection ends behind what is active: nothing more is started. */
  private isEnding = false

  constructor(
    private readonly socket: Socket,
    private readonly address: ArrayBuffer,
    private readonly handler: RequestHandler,
    private readonly settings: Http1Settings,
  ) {}

  get isIdle(): boolean {
    return this.active === null && this.waiting.length === 0
  }

  take(message: IncomingMessage, response: ServerResponse): void {
    this.queue(() => this.start(message, response))
  }

  /** A tunnel was asked for: Node has let go of the socket. */
  takeConnect(message: IncomingMessage): void {
    this.queue(() => {
      this.isEnding = true
      this.handler(new RefusedClient(this.socket, this.address), this.requestOf(message))
    })
  }

  /** The parser gave up. */
  parserFailed(error: unknown): void {
    if (this.isEnding) return
    // Bytes behind a request that announced the end of the connection.
    if (error instanceof Error && 'code' in error && error.code === 'HPE_CLOSED_CONNECTION') return
    const failure = failureOfParser(error)
    if (failure === null) {
      this.isEnding = true
      this.socket.destroy()
      return
    }
    const { active } = this
    if (active !== null && !active.hasWholeRequest) {
      // Its body broke: the exchange is over. If nothing was answered yet the client is told why.
      this.isEnding = true
      if (!active.abandon()) this.socket.destroy()
      else this.refuse(failure)
      return
    }
    this.queue(() => this.refuse(failure))
  }

  /** Refuses what was sent, and ends the connection. */
  refuse(failure: Failure): void {
    this.isEnding = true
    this.handler(new RefusedClient(this.socket, this.address), NodeRequest.refused(failure))
  }

  private queue(start: () => void): void {
    if (this.isEnding) return
    if (this.active === null) {
      start()
      return
    }
    this.waiting.push(start)
    if (this.waiting.length >= WAITING_MAX) this.socket.pause()
  }

  private start(message: IncomingMessage, response: ServerResponse): void {
    const client = new Http1Client(message, response, this.address, this.settings, (isLast) => this.finished(client, isLast))
    this.active = client
    this.handler(client, this.requestOf(message))
  }

  private finished(client: Http1Client, isLast: boolean): void {
    if (this.active !== client) return
    this.active = null
    if (isLast) {
      this.isEnding = true
      this.waiting.length = 0
      return
    }
    if (this.waiting.length === WAITING_MAX) this.socket.resume()
    this.waiting.shift()?.()
  }

  private requestOf(message: IncomingMessage): NodeRequest {
    const { localAddress = '', localPort } = this.socket
    const local = `${localAddress.includes(':') ? `[${localAddress.replace(/%.*/, '')}]` : localAddress}:${localPort}`
    return NodeRequest.http1(message.method ?? '', message.url ?? '', message.httpVersion, message.rawHeaders, local)
  }
}

export class Http1Client extends NodeClient {
  private isContinued: boolean

  constructor(
    private readonly message: IncomingMessage,
    private readonly response: ServerResponse,
    address: ArrayBuffer,
    private readonly settings: Http1Settings,
    finished: (isLast: boolean) => void,
  ) {
    super(address, lengthOf(message.headers['content-length']))
    this.isContinued = message.headers.expect === undefined
    message.pause()
    message.on('data', (chunk: Buffer) => this.bodyData(chunk))
    message.on('end', () => this.bodyEnd())
    // Errors of a connection are its end, which `close` says.
    message.on('error', () => undefined)
    response.on('error', () => undefined)
    response.on('drain', () => this.drained())
    response.on('close', () => {
      if (!this.isEnded) this.gone()
      finished(this.closeBehind || !this.response.writableFinished || !this.response.shouldKeepAlive)
    })
  }

  /** The last byte of the request was parsed. */
  get hasWholeRequest(): boolean {
    return this.message.complete
  }

  /** The rest of the request will never come. True if nothing was answered, so that something else may be written. */
  abandon(): boolean {
    const isUnanswered = !this.response.headersSent
    this.gone()
    return isUnanswered
  }

  pause(): void {
    this.message.pause()
  }

  resume(): void {
    this.message.resume()
  }

  protected sendHead(head: AnswerHead, length: number, isWhole: boolean): void {
    const { message, response } = this
    // Whether a client that waits for 100 sends its body after all cannot be known: the connection is not used again.
    if (!this.isContinued || this.settings.isDraining()) this.closeBehind = true
    // Without chunks the end of the connection is that of the body.
    if (length < 0 && !isWhole && message.httpVersion === '1.0') this.closeBehind = true
    const fields = head.fields
    if (length >= 0) fields.push('content-length', String(length))
    // Always said, so that node does not add fields of its own.
    fields.push('connection', this.closeBehind || !response.shouldKeepAlive ? 'close' : 'keep-alive')
    response.writeHead(head.status, head.reason, fields)
  }

  protected flush(): void {
    this.response.flushHeaders()
  }

  protected sendBody(bytes: Buffer): boolean {
    return this.response.write(bytes)
  }

  protected finish(): void {
    const { message, response } = this
    const { socket } = response
    // Decided after the head was sent: node does not know that the connection ends here.
    if (this.closeBehind && response.shouldKeepAlive) response.once('finish', () => socket?.destroySoon())
    if (!message.complete) {
      const timer = setTimeout(() => socket?.destroy(), this.settings.discardTimeoutMs)
      message.once('end', () => clearTimeout(timer))
      message.once('close', () => clearTimeout(timer))
    }
    response.end()
    message.resume()
  }

  protected cut(): void {
    this.response.socket?.destroy()
    this.message.destroy()
  }

  protected readBody(): void {
    if (!this.isContinued) {
      this.isContinued = true
      this.response.writeContinue()
    }
    this.message.resume()
  }
}

function lengthOf(field: string | undefined): number {
  return field !== undefined && /^\d{1,15}$/.test(field) ? Number(field) : -1
}
