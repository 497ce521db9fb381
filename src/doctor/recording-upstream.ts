/**
 * An upstream that keeps every byte of every connection and reads them strictly. It answers what it is told to, by default 200 with a
 * short body to every complete request. On 127.0.0.1 or a Unix socket.
 */
import { createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer, type TlsOptions } from 'node:tls'
import { ChangeSignal } from './change-signal.js'
import { type StrictRequest, StrictRequestReader } from './strict-request.js'

/** Bytes kept of one connection; later bytes are counted only. */
const KEPT_BYTES = 64 * 1024 * 1024

export class RecordedConnection {
  readonly chunks: Buffer[] = []
  byteCount = 0
  closed = false
  /** The gateway closed its side. */
  ended = false
  reader = new StrictRequestReader()

  constructor(
    readonly id: number,
    readonly socket: Socket,
  ) {}

  /** Everything received, one character per byte. */
  get text(): string {
    return Buffer.concat(this.chunks).toString('latin1')
  }

  get requests(): readonly StrictRequest[] {
    return this.reader.requests
  }
}

/** Returns the bytes to send (a string is Latin-1), or nothing when it wrote to the socket itself or wants silence. */
export type UpstreamAnswer = (request: StrictRequest, connection: RecordedConnection) => string | Buffer | undefined

export interface RecordingUpstreamOptions {
  readonly answer?: UpstreamAnswer
  /** When `answer` is asked: once the whole request is there (default), or as soon as its header section is. */
  readonly answerOn?: 'complete' | 'head'
  readonly onConnect?: (connection: RecordedConnection) => void
  readonly tls?: TlsOptions
  /** Path of a Unix socket; else a free port of 127.0.0.1. */
  readonly path?: string
}

/** An HTTP/1.1 response with its length. */
export function lengthResponse(body: string | Buffer, fields: readonly string[] = [], status = '200 OK'): Buffer {
  const bytes = typeof body === 'string' ? Buffer.from(body, 'latin1') : body
  const head = [`HTTP/1.1 ${status}`, ...fields, `Content-Length: ${bytes.length}`, '', ''].join('\r\n')
  return Buffer.concat([Buffer.from(head, 'latin1'), bytes])
}

export class RecordingUpstream {
  readonly connections: RecordedConnection[] = []
  readonly signal = new ChangeSignal()
  answer: UpstreamAnswer
  private readonly sockets = new Set<Socket>()

  private constructor(
    private readonly server: Server,
    private readonly options: RecordingUpstreamOptions,
  ) {
    this.answer = options.answer ?? (() => lengthResponse('ok'))
    server.on(options.tls === undefined ? 'connection' : 'secureConnection', (socket: Socket) => this.accept(socket))
  }

  static async start(options: RecordingUpstreamOptions = {}): Promise<RecordingUpstream> {
    const server = options.tls === undefined ? createServer({ allowHalfOpen: true }) : createTlsServer(options.tls)
    const upstream = new RecordingUpstream(server, options)
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      if (options.path === undefined) server.listen(0, '127.0.0.1', resolve)
      else server.listen(options.path, resolve)
    })
    return upstream
  }

  /** Port listened on; 0 with a Unix socket. */
  get port(): number {
    const address = this.server.address()
    return typeof address === 'object' && address !== null ? address.port : 0
  }

  /** All requests read so far, connection by connection. */
  get requests(): StrictRequest[] {
    return this.connections.flatMap((connection) => [...connection.requests])
  }

  get byteCount(): number {
    return this.connections.reduce((sum, connection) => sum + connection.byteCount, 0)
  }

  /** Waits until `condition` holds; an error that names `what` after `timeoutMs`. */
  until(condition: () => boolean, what: string, timeoutMs = 30_000): Promise<void> {
    return this.signal.until(condition, timeoutMs, what)
  }

  /** Closes the listening socket and every connection. */
  async close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy()
    await new Promise<void>((resolve) => this.server.close(() => resolve()))
  }

  private accept(socket: Socket): void {
    const connection = new RecordedConnection(this.connections.length, socket)
    const ask = (request: StrictRequest): void => {
      const bytes = this.answer(request, connection)
      if (bytes !== undefined && !socket.destroyed) socket.write(bytes, 'latin1')
    }
    connection.reader = new StrictRequestReader(this.options.answerOn === 'head' ? { onHead: ask } : { onComplete: ask })
    this.connections.push(connection)
    this.sockets.add(socket)
    socket.setNoDelay(true)
    socket.on('data', (bytes: Buffer) => {
      if (connection.byteCount < KEPT_BYTES) connection.chunks.push(bytes)
      connection.byteCount += bytes.length
      connection.reader.push(bytes)
      this.signal.notify()
    })
    socket.on('end', () => {
      connection.ended = true
      socket.end()
      this.signal.notify()
    })
    // a reset by the gateway is something tests look at, not an error of this server
    socket.on('error', () => undefined)
    socket.on('close', () => {
      connection.closed = true
      this.sockets.delete(socket)
      this.signal.notify()
    })
    this.options.onConnect?.(connection)
    this.signal.notify()
  }
}
