/** Responses as a strict reading of RFC 9112 sees them, incrementally: what the doctor and the raw test client read with. */
import { ByteQueue } from './byte-queue.js'
import type { Field, Reading } from './strict-fields.js'
import { framingOf, Refusal, readChunked, readFields, readLength, readLine } from './strict-fields.js'

export interface StrictResponse {
  readonly status: number
  readonly reason: string
  readonly fields: readonly Field[]
  readonly body: Buffer[]
  bodyBytes: number
  trailers: readonly Field[]
  complete: boolean
}

const STATUS_LINE = /^HTTP\/1\.[01] ([1-5][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?$/

export class StrictResponseReader {
  /** Final responses, in order. */
  readonly responses: StrictResponse[] = []
  /** Interim (1xx) responses, in order. */
  readonly interim: StrictResponse[] = []
  /** Why the bytes after the last response are refused; null = they are not. */
  problem: string | null = null
  private readonly queue = new ByteQueue()
  private readonly reading: Reading<void>
  private ended = false
  private readonly methods: string[] = []

  constructor() {
    this.reading = this.readAll()
  }

  /** The method of the next request that was sent: HEAD and CONNECT change how its response is framed. */
  expect(method: string): void {
    this.methods.push(method)
  }

  push(bytes: Uint8Array): void {
    if (this.problem !== null) return
    this.queue.push(bytes)
    this.advance()
  }

  /** The peer closed its side: completes a body that only the close delimits. */
  end(): void {
    this.ended = true
    this.advance()
  }

  /** Bytes that belong to no response yet. */
  get unread(): string {
    return this.queue.peek()
  }

  private advance(): void {
    try {
      this.reading.next()
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      this.problem = error.message
    }
  }

  private *readAll(): Reading<void> {
    for (;;) yield* this.readOne()
  }

  private *readOne(): Reading<void> {
    const line = yield* readLine(this.queue, 'the status line')
    const match = STATUS_LINE.exec(line)
    if (match === null) throw new Refusal(`status line ${JSON.stringify(line.slice(0, 80))}`)
    const status = Number(match[1])
    const fields = yield* readFields(this.queue, 'header')
    const response: StrictResponse = { status, reason: match[2] ?? '', fields, body: [], bodyBytes: 0, trailers: [], complete: false }
    if (status < 200) {
      response.complete = true
      this.interim.push(response)
      return
    }
    this.responses.push(response)
    const framing = framingOf(fields, '1.1')
    const keep = (bytes: Buffer): void => {
      response.body.push(Buffer.from(bytes))
      response.bodyBytes += bytes.length
    }
    const method = this.methods.shift() ?? 'GET'
    if (method !== 'HEAD' && status !== 204 && status !== 304) {
      if (framing === 'chunked') response.trailers = yield* readChunked(this.queue, keep)
      else if (framing !== null) yield* readLength(this.queue, framing, keep)
      else yield* this.readUntilClose(keep)
    }
    response.complete = true
  }

  private *readUntilClose(keep: (bytes: Buffer) => void): Reading<void> {
    for (;;) {
      if (this.queue.length > 0) keep(this.queue.take(this.queue.length))
      if (this.ended) return
      yield
    }
  }
}
