/**
 * The strict listener: node:http for HTTP/1 (llhttp, strict), node:http2 for HTTP/2, behind the surface of a uWebSockets.js app.
 *
 *   socket ─ TLS? ─ ALPN, or the first bytes ─┬─ http1 → Http1Connection → handler
 *                                             ├─ http2 → stream → handler
 *                                             └─ neither: 400
 */
import { readFileSync } from 'node:fs'
import { createServer as createHttpServer, type Server as HttpServer, type ServerOptions } from 'node:http'
import { createServer as createHttp2Server, type Http2Server, type Http2Session, type ServerHttp2Stream } from 'node:http2'
import { createServer as createHttpsServer } from 'node:https'
import { Server as NetServer, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { createSecureContext, type SecureContext, TLSSocket } from 'node:tls'
import ipaddr from 'ipaddr.js'
import { failures } from '../../base/errors.js'
import type { LimitsConfig } from '../../schema/process.js'
import type { ListenSocket, TlsFiles, UwsApp } from './binding.js'
import { awaitFirstBytes, type FirstBytes } from './node-first-bytes.js'
import { Http1Connection, type RequestHandler } from './node-http1.js'
import { Http2Client } from './node-http2.js'
import { NodeRequest } from './node-request.js'

/** A connection that does not complete a header section in this time is closed, behind a 408 where something had begun. */
export const HEADER_TIMEOUT_MS = 10_000
/** An idle connection is closed. */
export const KEEP_ALIVE_MS = 75_000
/** Request line, separators and fields that the guard does not count, beyond the limits that it enforces with better answers. */
const HEADER_MARGIN_BYTES = 8_192
const STREAMS_MAX = 128
/** Pairs of an HTTP/2 header section that Node reads: enough for the guard to refuse too many of them with an answer. */
const HEADER_PAIRS_MAX = 2_000
const CHECK_INTERVAL_MS = 1_000

export type NodeLimits = Pick<
  LimitsConfig,
  'maxHeaderBytes' | 'maxHeaderCount' | 'maxTargetBytes' | 'maxConnections' | 'bodyTimeoutMs' | 'sendTimeoutMs'
>

export interface NodeAppSettings {
  readonly limits: NodeLimits
  readonly http2: boolean
  readonly tls: TlsFiles | null
}

export class NodeApp implements UwsApp {
  private readonly server: HttpServer
  private readonly http2: Http2Server
  private readonly connections = new WeakMap<Duplex, Http1Connection>()
  private readonly sockets = new Set<Socket>()
  private readonly sessions = new Set<Http2Session>()
  private readonly contexts = new Map<string, SecureContext>()
  private handler: RequestHandler = (client) => client.close()
  private isDraining = false

  constructor(private readonly settings: NodeAppSettings) {
    const { limits, tls } = settings
    const options: ServerOptions = {
      insecureHTTPParser: false,
      // The guard asks for Host, with an answer in the form of all others.
      requireHostHeader: false,
      maxHeaderSize: limits.maxHeaderBytes + limits.maxTargetBytes + HEADER_MARGIN_BYTES,
      headersTimeout: HEADER_TIMEOUT_MS,
      // A whole upload may take its time; the pipeline watches that it goes on.
      requestTimeout: 0,
      keepAliveTimeout: KEEP_ALIVE_MS,
      connectionsCheckingInterval: CHECK_INTERVAL_MS,
      noDelay: true,
    }
    this.server = tls === null ? createHttpServer(options) : createHttpsServer({ ...options, ...this.tlsOptions(tls) })
    // All are read; the bytes together are bounded, and the guard counts. A limit here would drop fields unseen.
    this.server.maxHeadersCount = 0
    this.server.maxConnections = limits.maxConnections
    this.http2 = createHttp2Server({
      maxHeaderListPairs: HEADER_PAIRS_MAX,
      settings: { maxConcurrentStreams: STREAMS_MAX, maxHeaderListSize: limits.maxHeaderBytes + HEADER_MARGIN_BYTES },
    })
    this.serveHttp1(tls === null ? 'connection' : 'secureConnection')
    this.serveHttp2()
  }

  any(_pattern: string, handler: RequestHandler): UwsApp {
    this.handler = handler
    return this
  }

  /** One handler serves every name. */
  domain(_hostname: string): UwsApp {
    return this
  }

  addServerName(hostname: string, files: TlsFiles): UwsApp {
    this.contexts.set(hostname.toLowerCase(), createSecureContext({ minVersion: 'TLSv1.2', ...readPair(files) }))
    return this
  }

  removeServerName(hostname: string): UwsApp {
    this.contexts.delete(hostname.toLowerCase())
    return this
  }

  listen(host: string, port: number, _options: number, callback: (socket: ListenSocket | false) => void): UwsApp {
    const failed = (): void => callback(false)
    this.server.once('error', failed)
    this.server.listen({ host, port, exclusive: true }, () => {
      this.server.off('error', failed)
      callback(this)
    })
    return this
  }

  /** Stops accepting and nothing else: the method of node:http would also end idle connections and the watch over slow headers. */
  stopListening(): void {
    if (this.server.listening) NetServer.prototype.close.call(this.server)
  }

  get port(): number {
    const address = this.server.address()
    return typeof address === 'object' && address !== null ? address.port : 0
  }

  /** Tells HTTP/2 clients to go elsewhere (GOAWAY); what they have begun is finished. HTTP/1 clients learn it with their next answer. */
  drain(): void {
    this.isDraining = true
    for (const session of this.sessions) if (!session.closed) session.close()
  }

  close(): UwsApp {
    this.server.close()
    for (const session of this.sessions) session.destroy()
    for (const socket of this.sockets) socket.destroy()
    return this
  }

  private tlsOptions(files: TlsFiles) {
    return {
      ...readPair(files),
      minVersion: 'TLSv1.2' as const,
      handshakeTimeout: HEADER_TIMEOUT_MS,
      ALPNProtocols: this.settings.http2 ? ['h2', 'http/1.1'] : ['http/1.1'],
      SNICallback: (name: string, done: (error: Error | null, context?: SecureContext) => void) => done(null, this.contextOf(name)),
    }
  }

  /** The certificate of the name itself, else of a wildcard for its first label, else the default one. */
  private contextOf(name: string): SecureContext | undefined {
    const lower = name.toLowerCase()
    return this.contexts.get(lower) ?? this.contexts.get(`*${lower.slice(lower.indexOf('.'))}`)
  }

  /** Puts the look at the first bytes between the sockets and node:http. */
  private serveHttp1(event: 'connection' | 'secureConnection'): void {
    const { server } = this
    const [serve, ...more] = server.listeners(event)
    if (serve === undefined || more.length > 0)
      throw new Error(`node:http has ${more.length + (serve ? 1 : 0)} listeners for ${event}, not 1`)
    server.removeAllListeners(event)
    server.on('connection', (socket: Socket) => {
      this.sockets.add(socket)
      socket.once('close', () => this.sockets.delete(socket))
    })
    server.on(event, (socket: Socket) => {
      // An error of a connection is its end; each of the parsers below listens for itself, but not all of the time.
      socket.on('error', () => undefined)
      if (socket instanceof TLSSocket && socket.alpnProtocol === 'h2') {
        this.serveSession(socket)
        return
      }
      const preface = this.settings.http2 && event === 'connection'
      awaitFirstBytes(socket, preface, HEADER_TIMEOUT_MS, (kind) => this.serve(socket, kind, () => serve.call(server, socket)))
    })
    server.on('request', (message, response) => this.connectionOf(message.socket).take(message, response))
    // 100 is sent when the body is wanted; any other expectation is the guard's.
    server.on('checkContinue', (message, response) => this.connectionOf(message.socket).take(message, response))
    server.on('checkExpectation', (message, response) => this.connectionOf(message.socket).take(message, response))
    server.on('connect', (message) => this.connectionOf(message.socket).takeConnect(message))
    server.on('clientError', (error, socket) => {
      const connection = this.connections.get(socket)
      // Without a connection the TLS handshake failed.
      if (connection === undefined) socket.destroy()
      else connection.parserFailed(error)
    })
    server.setTimeout(this.settings.limits.sendTimeoutMs, (socket) => {
      if (socket.writableLength > 0 || this.connections.get(socket)?.isIdle !== false) socket.destroy()
    })
  }

  private serve(socket: Socket, kind: FirstBytes, http1: () => void): void {
    if (kind === 'http2') {
      this.serveSession(socket)
      return
    }
    const connection = this.connectionOf(socket)
    if (kind === 'refused') {
      connection.refuse(failures.BAD_FRAMING)
      return
    }
    http1()
    socket.resume()
  }

  private serveSession(socket: Socket): void {
    // Sockets of node:http may be half closed; a client of HTTP/2 that ends its side is gone.
    socket.allowHalfOpen = false
    this.http2.emit('connection', socket)
  }

  private serveHttp2(): void {
    this.http2.on('session', (session: Http2Session) => {
      this.sessions.add(session)
      session.once('close', () => this.sessions.delete(session))
      // An error of a session is its end, which `close` says.
      session.on('error', () => undefined)
      const clients = new Set<Http2Client>()
      session.once('close', () => {
        for (const client of clients) client.sessionClosed()
      })
      session.on('stream', (stream: ServerHttp2Stream, _headers: object, _flags: number, ...rest: unknown[]) => {
        const client = this.startStream(stream, rest[0])
        clients.add(client)
        stream.once('close', () => clients.delete(client))
      })
      session.setTimeout(KEEP_ALIVE_MS, () => {
        if (clients.size === 0) session.close()
      })
    })
  }

  /** `lines`: the header lines as they came, which Node hands over beside its own reading of them. */
  private startStream(stream: ServerHttp2Stream, lines: unknown): Http2Client {
    if (!isLines(lines)) throw new Error('node:http2 did not hand over the header lines of a stream')
    const length = lines.findIndex((item, index) => index % 2 === 0 && item === 'content-length')
    const client = new Http2Client(
      stream,
      addressOf(stream.session?.socket),
      length < 0 ? -1 : Number(lines[length + 1]),
      this.settings.limits.sendTimeoutMs,
    )
    this.handler(client, NodeRequest.http2(lines, !stream.endAfterHeaders))
    return client
  }

  private connectionOf(socket: Socket): Http1Connection {
    let connection = this.connections.get(socket)
    if (connection === undefined) {
      connection = new Http1Connection(socket, addressOf(socket), (client, request) => this.handler(client, request), {
        discardTimeoutMs: this.settings.limits.bodyTimeoutMs,
        isDraining: () => this.isDraining,
      })
      this.connections.set(socket, connection)
    }
    return connection
  }
}

function isLines(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string')
}

function readPair(files: TlsFiles): { key: Buffer; cert: Buffer } {
  return { key: readFileSync(files.key_file_name), cert: readFileSync(files.cert_file_name) }
}

/** The peer's address as 4 or 16 bytes; none when the connection is gone. */
function addressOf(socket: { readonly remoteAddress?: string | undefined } | undefined): ArrayBuffer {
  const text = socket?.remoteAddress?.replace(/%.*$/, '')
  if (text === undefined || !ipaddr.isValid(text)) return new ArrayBuffer(0)
  return Uint8Array.from(ipaddr.parse(text).toByteArray()).buffer
}
