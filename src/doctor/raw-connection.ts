/** A client connection that sends exactly the bytes it is given and reads responses strictly. */
import { connect, type Socket } from 'node:net'
import { type ConnectionOptions, connect as connectTls } from 'node:tls'
import { ChangeSignal } from './change-signal.js'
import { valuesOf } from './strict-fields.js'
import { type StrictResponse, StrictResponseReader } from './strict-response.js'

/** Longest wait unless told otherwise: for a slow machine, since whoever waits for an event goes on as soon as it happens. */
const WAIT_MS = 30_000

export interface RawConnectionOptions {
  readonly host?: string
  readonly port: number
  readonly tls?: ConnectionOptions
  /** Default 30 s. */
  readonly connectTimeoutMs?: number
}

export class RawConnection {
  readonly signal = new ChangeSignal()
  readonly reader = new StrictResponseReader()
  /** The peer closed its side. */
  ended = false
  /** The connection is gone. */
  closed = false
  /** Code of the error that ended the connection (`ECONNRESET`), or empty. */
  errorCode = ''
  receivedBytes = 0
  private taken = 0

  private constructor(readonly socket: Socket) {
    socket.setNoDelay(true)
    socket.on('data', (bytes: Buffer) => {
      this.receivedBytes += bytes.length
      this.reader.push(bytes)
      this.signal.notify()
    })
    socket.on('end', () => {
      this.ended = true
      this.reader.end()
      this.signal.notify()
    })
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.errorCode = error.code ?? error.message
      this.signal.notify()
    })
    socket.on('close', () => {
      this.closed = true
      this.signal.notify()
    })
    socket.on('drain', () => this.signal.notify())
  }

  /** Opens a connection; rejects with the socket's error, or after `connectTimeoutMs`. */
  static async open(options: RawConnectionOptions): Promise<RawConnection> {
    const host = options.host ?? '127.0.0.1'
    const socket =
      options.tls === undefined
        ? connect({ host, port: options.port, allowHalfOpen: true })
        : connectTls({ host, port: options.port, ...options.tls })
    const connection = new RawConnection(socket)
    let isOpen = false
    socket.once(options.tls === undefined ? 'connect' : 'secureConnect', () => {
      isOpen = true
      connection.signal.notify()
    })
    const limit = options.connectTimeoutMs ?? WAIT_MS
    await connection.signal.holds(() => isOpen || connection.closed, limit)
    if (!isOpen) {
      socket.destroy()
      throw new Error(`could not connect to ${host}:${options.port}: ${connection.errorCode || `no answer within ${limit} ms`}`)
    }
    return connection
  }

  /** Writes bytes (a string is Latin-1); resolves when the kernel has them, or false when the connection is gone. */
  send(bytes: string | Uint8Array): Promise<boolean> {
    if (this.socket.destroyed || this.socket.writableEnded) return Promise.resolve(false)
    const data = typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes
    return new Promise((resolve) => this.socket.write(data, (error) => resolve(error === null || error === undefined)))
  }

  /** Sends a request whose method is the first word of `bytes`, and reads its response. */
  async request(bytes: string | Uint8Array, timeoutMs = WAIT_MS): Promise<StrictResponse> {
    this.expectMethodOf(bytes)
    await this.send(bytes)
    return this.response(timeoutMs)
  }

  /** Notes the method of a request for the framing of its response (HEAD). `request` does this itself. */
  expectMethodOf(bytes: string | Uint8Array): void {
    const text = typeof bytes === 'string' ? bytes.slice(0, 32) : Buffer.from(bytes.subarray(0, 32)).toString('latin1')
    this.reader.expect(/^[A-Z]+/.exec(text)?.[0] ?? 'GET')
  }

  /** The next complete final response. Rejects when it does not come, is cut off or breaks the grammar. */
  async response(timeoutMs = WAIT_MS): Promise<StrictResponse> {
    const next = (): StrictResponse | undefined => {
      const response = this.reader.responses[this.taken]
      return response?.complete === true ? response : undefined
    }
    await this.signal.holds(() => next() !== undefined || this.ended || this.closed || this.reader.problem !== null, timeoutMs)
    const response = next()
    if (response === undefined) throw new Error(`no complete response: ${this.describe(timeoutMs)}`)
    this.taken++
    return response
  }

  /** True when the peer closes or resets the connection within the time. */
  untilClosed(timeoutMs = WAIT_MS): Promise<boolean> {
    return this.signal.holds(() => this.ended || this.closed, timeoutMs)
  }

  /** Sends FIN and keeps reading. */
  halfClose(): void {
    this.socket.end()
  }

  /** Sends RST. */
  reset(): void {
    this.socket.resetAndDestroy()
  }

  destroy(): void {
    this.socket.destroy()
  }

  private describe(timeoutMs: number): string {
    if (this.reader.problem !== null) return `a strict reading refuses it (${this.reader.problem})`
    if (this.errorCode !== '') return `connection error ${this.errorCode} after ${this.receivedBytes} bytes`
    if (this.ended || this.closed) return `connection closed after ${this.receivedBytes} bytes`
    return `nothing more within ${timeoutMs} ms, ${this.receivedBytes} bytes so far`
  }
}

/** First value of a response field, or undefined. `name` in lower case. */
export function fieldOf(response: StrictResponse, name: string): string | undefined {
  return valuesOf(response.fields, name)[0]
}

/** The body as UTF-8 text. */
export function textOf(message: { readonly body: readonly Buffer[] }): string {
  return Buffer.concat([...message.body]).toString('utf8')
}
