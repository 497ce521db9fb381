/**
 * The response half of one request on a `tcp` listener: the surface of `ClientResponse` on a connection that gathers what is written.
 *
 * Every piece is taken. When the kernel takes less, the pipeline is told "not taken" with its next piece and waits for `onWritable`, with a
 * write offset that says that nothing is to be sent again. After the end no callback comes any more.
 */
import type { Bytes, ClientResponse } from './binding.js'
import type { ParsedRequest } from './parsed-request.js'
import type { TcpConnection } from './tcp-connection.js'

const emptyAddress = new ArrayBuffer(0)

export class TcpClient implements ClientResponse {
  readonly dropsBody = true
  isEnded = false
  /** The connection ends behind the answer. */
  closes: boolean
  private isGone = false
  private hasHead = false
  private isChunked = false
  /** The client was told to send the body that it holds back. */
  private isContinued: boolean
  private block: Bytes = ''
  private extra = ''
  private written = 0
  private whenAborted: (() => void) | null = null
  private whenWritable: ((offset: number) => boolean) | null = null
  private whenData: ((chunk: Uint8Array, isLast: boolean) => void) | null = null

  constructor(
    private readonly connection: TcpConnection,
    private readonly request: ParsedRequest,
  ) {
    this.closes = !request.keepsAlive
    this.isContinued = !request.expectsContinue || request.bodyLength === 0
  }

  writeStatus(status: Bytes): ClientResponse {
    this.block = status
    return this
  }

  writeHeader(key: Bytes, value: Bytes): ClientResponse {
    const name = textOf(key)
    const text = textOf(value)
    if (name.toLowerCase() !== 'connection') this.extra += `\r\n${name}: ${text}`
    else if (text.toLowerCase() === 'close') this.closes = true
    return this
  }

  write(chunk: Bytes): boolean {
    if (this.isOver) return true
    this.head(-1, false)
    const isBehind = this.connection.isBehind
    const length = lengthOf(chunk)
    if (length > 0) {
      this.written += length
      if (this.isChunked) this.connection.append(`${length.toString(16)}\r\n`)
      this.connection.append(chunk)
      if (this.isChunked) this.connection.append('\r\n')
    }
    this.connection.wrote()
    return !isBehind
  }

  end(body?: Bytes, closeConnection = false): ClientResponse {
    if (this.isOver) return this
    if (closeConnection) this.closes = true
    const length = body === undefined ? 0 : lengthOf(body)
    this.head(length, false)
    if (body !== undefined && length > 0) {
      this.written += length
      this.connection.append(body)
    }
    this.conclude()
    return this
  }

  answer(block: Bytes, isLasting: boolean, source: Bytes, start: number, end: number, closeConnection: boolean): void {
    if (this.isOver) return
    if (closeConnection) this.closes = true
    this.hasHead = true
    this.written = end - start
    this.connection.appendAnswer(block, isLasting, this.persistence(), source, start, end)
    this.conclude()
  }

  endWithoutBody(reportedContentLength?: number, closeConnection = false): ClientResponse {
    if (this.isOver) return this
    if (closeConnection) this.closes = true
    if (reportedContentLength !== undefined) this.extra += `\r\nContent-Length: ${reportedContentLength}`
    this.head(-1, true)
    this.conclude()
    return this
  }

  tryEnd(chunk: Bytes, totalSize: number, closeConnection = false): [boolean, boolean] {
    if (this.isOver) return [true, true]
    if (closeConnection) this.closes = true
    this.head(totalSize, false)
    const isBehind = this.connection.isBehind
    const length = lengthOf(chunk)
    if (length > 0) {
      this.written += length
      this.connection.append(chunk)
    }
    if (this.written < totalSize) {
      this.connection.wrote()
      return [!isBehind, false]
    }
    this.conclude()
    return [true, true]
  }

  close(): ClientResponse {
    // The connection may be busy with the next request.
    if (this.isOver) return this
    this.isGone = true
    this.forget()
    // Where its end is that of the connection, only a reset says that an answer is not whole.
    this.connection.cut(this.hasHead && !this.isChunked && this.request.isHttp10)
    return this
  }

  getWriteOffset(): number {
    return this.written
  }

  onWritable(handler: (offset: number) => boolean): ClientResponse {
    this.whenWritable = handler
    return this
  }

  onAborted(handler: () => void): ClientResponse {
    this.whenAborted = handler
    return this
  }

  onData(handler: (chunk: ArrayBuffer | Uint8Array, isLast: boolean) => void): ClientResponse {
    this.whenData = handler
    if (!this.isContinued) {
      this.isContinued = true
      this.connection.append('HTTP/1.1 100 Continue\r\n\r\n')
      this.connection.wrote()
    }
    return this
  }

  /** Not used: `peerAddress` costs nothing. */
  getRemoteAddress(): ArrayBuffer {
    return emptyAddress
  }

  getProxiedRemoteAddress(): ArrayBuffer {
    return emptyAddress
  }

  isTaking(): boolean {
    return this.connection.isTaking
  }

  peerAddress(): string {
    return this.connection.peer.address
  }

  peerPort(): number {
    return this.connection.peer.port
  }

  cork(callback: () => void): ClientResponse {
    this.connection.cork(callback)
    return this
  }

  pause(): void {
    if (!this.isOver) this.connection.pause()
  }

  resume(): void {
    if (!this.isOver) this.connection.resume()
  }

  // What the connection tells.

  bodyData(chunk: Uint8Array, isLast: boolean): void {
    const handler = this.whenData
    if (isLast) this.whenData = null
    handler?.(chunk, isLast)
  }

  drained(): void {
    const handler = this.whenWritable
    if (handler === null) return
    this.whenWritable = null
    // While it runs the handler may be registered anew, for the next wait.
    if (!handler(this.written)) this.whenWritable ??= handler
  }

  /** The client is gone. */
  gone(): void {
    if (this.isGone || this.isEnded) return
    this.isGone = true
    const handler = this.whenAborted
    this.forget()
    handler?.()
  }

  /** Something of an answer was written. */
  get hasAnswer(): boolean {
    return this.hasHead
  }

  private get isOver(): boolean {
    return this.isEnded || this.isGone
  }

  /** `length` of the body, -1 = unknown; `isWhole`: no body follows. */
  private head(length: number, isWhole: boolean): void {
    if (this.hasHead) return
    this.hasHead = true
    const { connection, request } = this
    if (length < 0 && !isWhole) {
      this.isChunked = !request.isHttp10
      // Without chunks the end of the connection is that of the body.
      if (request.isHttp10) this.closes = true
    }
    const framing = length >= 0 ? `\r\nContent-Length: ${length}` : this.isChunked ? '\r\nTransfer-Encoding: chunked' : ''
    connection.appendHead(this.block, this.extra, framing, this.persistence())
  }

  /** The line that says whether the connection goes on, where one is needed. */
  private persistence(): string {
    // Whether a client that waits for 100 sends its body after all cannot be known: the connection is not used again.
    if (!this.isContinued) this.closes = true
    return this.closes ? '\r\nConnection: close' : this.request.isHttp10 ? '\r\nConnection: keep-alive' : ''
  }

  private conclude(): void {
    if (this.isChunked) this.connection.append('0\r\n\r\n')
    this.isEnded = true
    this.forget()
    this.connection.answered(this)
  }

  private forget(): void {
    this.whenAborted = null
    this.whenWritable = null
    this.whenData = null
  }
}

function lengthOf(bytes: Bytes): number {
  return typeof bytes === 'string' ? Buffer.byteLength(bytes) : bytes.byteLength
}

function textOf(bytes: Bytes): string {
  if (typeof bytes === 'string') return bytes
  return Buffer.from(bytes instanceof ArrayBuffer ? new Uint8Array(bytes) : bytes).toString('latin1')
}
