/**
 * The response half that node:http and node:http2 have in common: the surface of `ClientResponse` on a writable stream of Node.
 *
 * Node takes every piece and says afterwards that it was too much; the pipeline is told "not taken" and waits for `onWritable`, with a
 * write offset that says that nothing is to be sent again. After the end no callback comes any more, as with the other binding.
 */
import type { Bytes, ClientResponse } from './binding.js'
import { type AnswerHead, copyOf, latin1, readAnswerBlock } from './node-answer-block.js'

export abstract class NodeClient implements ClientResponse {
  protected closeBehind = false
  protected isEnded = false
  private isGone = false
  private hasHead = false
  private block: Bytes = ''
  private readonly extra: string[] = []
  private written = 0
  private bodyLeft = -1
  private whenAborted: (() => void) | null = null
  private whenWritable: ((offset: number) => boolean) | null = null
  private whenData: ((chunk: ArrayBuffer, isLast: boolean) => void) | null = null

  /** `address`: 4 or 16 bytes, or none. `bodyLength`: declared length of the request body, -1 = unknown. */
  protected constructor(
    private readonly address: ArrayBuffer,
    bodyLength: number,
  ) {
    this.bodyLeft = bodyLength
  }

  // What the protocols do differently.
  /** Sends the head; `length` is that of the body, -1 = unknown, `isWhole` = no body follows. */
  protected abstract sendHead(head: AnswerHead, length: number, isWhole: boolean): void
  /** Sends the head now, without waiting for a body. */
  protected abstract flush(): void
  /** False = the client is behind. */
  protected abstract sendBody(bytes: Buffer): boolean
  /** The answer is complete; what is left of the request is dropped. */
  protected abstract finish(): void
  /** Cuts the exchange off so that the client sees it. */
  protected abstract cut(): void
  /** Begins to read the request body: `bodyData`, `bodyEnd`. */
  protected abstract readBody(): void
  abstract pause(): void
  abstract resume(): void

  writeStatus(status: Bytes): ClientResponse {
    this.block = status
    return this
  }

  writeHeader(key: Bytes, value: Bytes): ClientResponse {
    const name = latin1(key)
    const text = latin1(value)
    if (name.toLowerCase() !== 'connection') this.extra.push(name, text)
    else if (text.toLowerCase() === 'close') this.closeBehind = true
    return this
  }

  write(chunk: Bytes): boolean {
    if (this.isOver) return true
    this.head(-1, false)
    const bytes = copyOf(chunk)
    if (bytes.length === 0) {
      this.flush()
      return true
    }
    this.written += bytes.length
    return this.sendBody(bytes)
  }

  end(body?: Bytes, closeConnection = false): ClientResponse {
    if (this.isOver) return this
    if (closeConnection) this.closeBehind = true
    const bytes = body === undefined ? null : copyOf(body)
    this.head(bytes?.length ?? 0, false)
    if (bytes !== null && bytes.length > 0) {
      this.written += bytes.length
      this.sendBody(bytes)
    }
    this.conclude()
    return this
  }

  endWithoutBody(reportedContentLength?: number, closeConnection = false): ClientResponse {
    if (this.isOver) return this
    if (closeConnection) this.closeBehind = true
    if (reportedContentLength !== undefined) this.extra.push('content-length', String(reportedContentLength))
    this.head(-1, true)
    this.conclude()
    return this
  }

  tryEnd(chunk: Bytes, totalSize: number, closeConnection = false): [boolean, boolean] {
    if (this.isOver) return [true, true]
    if (closeConnection) this.closeBehind = true
    this.head(totalSize, false)
    const bytes = copyOf(chunk)
    let taken = true
    if (bytes.length > 0) {
      this.written += bytes.length
      taken = this.sendBody(bytes)
    } else if (this.written < totalSize) this.flush()
    if (this.written < totalSize) return [taken, false]
    this.conclude()
    return [true, true]
  }

  close(): ClientResponse {
    this.isGone = true
    this.forget()
    this.cut()
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

  onData(handler: (chunk: ArrayBuffer, isLast: boolean) => void): ClientResponse {
    this.whenData = handler
    this.readBody()
    return this
  }

  getRemoteAddress(): ArrayBuffer {
    return this.address
  }

  getProxiedRemoteAddress(): ArrayBuffer {
    return new ArrayBuffer(0)
  }

  /** Node gathers what is written in one turn by itself. */
  cork(callback: () => void): ClientResponse {
    callback()
    return this
  }

  /** The pipeline listens for the body of the request. */
  protected get wantsBody(): boolean {
    return this.whenData !== null
  }

  protected bodyData(chunk: Buffer): void {
    const handler = this.whenData
    if (handler === null) return
    const copy = new ArrayBuffer(chunk.length)
    new Uint8Array(copy).set(chunk)
    // A body whose length is known is over with its last byte, before Node says so.
    if (this.bodyLeft >= 0) {
      this.bodyLeft -= chunk.length
      if (this.bodyLeft <= 0) this.whenData = null
    }
    handler(copy, this.whenData === null)
  }

  protected bodyEnd(): void {
    const handler = this.whenData
    this.whenData = null
    handler?.(new ArrayBuffer(0), true)
  }

  protected drained(): void {
    const handler = this.whenWritable
    if (handler === null) return
    this.whenWritable = null
    // While it runs the handler may be registered anew, for the next wait.
    if (!handler(this.written)) this.whenWritable ??= handler
  }

  /** The client is gone, or was sent away. */
  protected gone(): void {
    if (this.isGone) return
    this.isGone = true
    const handler = this.whenAborted
    this.forget()
    handler?.()
  }

  private get isOver(): boolean {
    return this.isEnded || this.isGone
  }

  private head(length: number, isWhole: boolean): void {
    if (this.hasHead) return
    this.hasHead = true
    const { status, reason, fields } = readAnswerBlock(this.block)
    this.sendHead({ status, reason, fields: [...fields, ...this.extra] }, length, isWhole)
  }

  private conclude(): void {
    this.isEnded = true
    this.forget()
    this.finish()
  }

  private forget(): void {
    this.whenAborted = null
    this.whenWritable = null
    this.whenData = null
  }
}
