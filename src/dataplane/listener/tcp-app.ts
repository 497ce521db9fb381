/**
 * The listener of kind `tcp`: HTTP/1 over the TCP handles of Node, behind the surface of a uWebSockets.js app.
 *
 *   accept ─ TcpConnection ─ RequestParser ─ handler … TcpClient ─ TcpOutput ─ write
 *
 * A request crosses into native code twice, to be read and to be written; with uWebSockets.js it is some ten times. It is parsed by our own
 * strict parser, and the address of a client is asked for once per connection. Every worker has a socket of its own on the port.
 */
import { recentMs } from '../../base/clock.js'
import type { Acceptor, RawSockets, SocketAddress, TcpHandle, TcpServerHandle } from '../tcp/handle.js'
import { bindSharedPort } from '../tcp/shared-port.js'
import type { ClientRequest, ClientResponse, ListenSocket, TlsFiles, UwsApp } from './binding.js'
import { HEADER_TIMEOUT_MS, KEEP_ALIVE_MS, type NodeLimits } from './node-app.js'
import type { ParsedRequest } from './parsed-request.js'
import { RequestParser } from './request-parser.js'
import type { TcpClient } from './tcp-client.js'
import { TcpConnection } from './tcp-connection.js'
import { TcpOutput } from './tcp-output.js'

const BACKLOG = 4_096
const READ_BYTES = 262_144
const SWEEP_MS = 1_000
/** So long a client may take to end its half behind the last answer. */
const LINGER_MS = 2_000
/** Request line and separators, which the guard does not count, beyond the limits that it enforces with better answers. */
const HEAD_MARGIN_BYTES = 8_192

const noAddress: SocketAddress = { address: '', port: 0 }

type Handler = (response: ClientResponse, request: ClientRequest) => void

export interface TcpTimeouts {
  readonly headMs: number
  readonly keepAliveMs: number
  readonly bodyMs: number
  readonly sendMs: number
  readonly lingerMs: number
}

/** What all listeners of a thread share. */
export interface TcpShared {
  readonly sockets: RawSockets
  readonly readBuffer: Buffer
  readonly output: TcpOutput
}

export function shareAmongListeners(sockets: RawSockets): TcpShared {
  return { sockets, readBuffer: Buffer.allocUnsafeSlow(READ_BYTES), output: new TcpOutput() }
}

export class TcpApp implements UwsApp, Acceptor {
  readonly sockets: RawSockets
  /** Where all connections of the thread are read into. */
  readonly readBuffer: Buffer
  readonly output: TcpOutput
  readonly parser: RequestParser
  readonly maxHeadBytes: number
  readonly timeouts: TcpTimeouts
  private readonly connections = new Set<TcpConnection>()
  private ready: TcpConnection[] = []
  private server: TcpServerHandle | null = null
  private local = ''
  private timer: NodeJS.Timeout | null = null
  private handler: Handler = (client) => client.close()
  private getHandler: Handler | null = null

  constructor(shared: TcpShared, limits: NodeLimits) {
    this.sockets = shared.sockets
    this.readBuffer = shared.readBuffer
    this.output = shared.output
    this.parser = new RequestParser(() => this.local, shared.readBuffer)
    this.maxHeadBytes = limits.maxHeaderBytes + limits.maxTargetBytes + HEAD_MARGIN_BYTES
    this.timeouts = {
      headMs: HEADER_TIMEOUT_MS,
      keepAliveMs: KEEP_ALIVE_MS,
      bodyMs: limits.bodyTimeoutMs,
      sendMs: limits.sendTimeoutMs,
      lingerMs: LINGER_MS,
    }
  }

  any(_pattern: string, handler: Handler): UwsApp {
    this.handler = handler
    return this
  }

  get(_pattern: string, handler: Handler): UwsApp {
    this.getHandler = handler
    return this
  }

  /** There are no names without TLS. */
  domain(_hostname: string): UwsApp {
    return this
  }

  addServerName(_hostname: string, _files: TlsFiles): UwsApp {
    throw new Error('a listener of kind tcp has no certificates')
  }

  listen(host: string, port: number, _options: number, callback: (socket: ListenSocket | false) => void): UwsApp {
    const descriptor = bindSharedPort(host, port)
    if (descriptor < 0) {
      callback(false)
      return this
    }
    const server = this.sockets.server()
    this.server = server
    const opened = server.open(descriptor)
    const error = opened < 0 ? opened : this.sockets.listen(server, BACKLOG, this)
    if (error < 0) {
      this.stopListening()
      callback(false)
      return this
    }
    this.local = `${host.includes(':') ? `[${host}]` : host}:${this.port}`
    this.timer ??= setInterval(() => setImmediate(this.sweep), SWEEP_MS)
    callback(this)
    return this
  }

  get port(): number {
    return this.server === null ? 0 : (this.sockets.local(this.server)?.port ?? 0)
  }

  stopListening(): void {
    this.server?.close()
    this.server = null
  }

  close(): UwsApp {
    this.stopListening()
    if (this.timer !== null) clearInterval(this.timer)
    this.timer = null
    for (const connection of [...this.connections]) connection.destroy()
    return this
  }

  accepted(handle: TcpHandle): void {
    const peer = this.peerOf(handle)
    if (peer.address === '') {
      // Reset already. Asked any later, this could turn a request loose that no rule about addresses knows what to do with.
      handle.close()
      return
    }
    const connection = new TcpConnection(this, handle, peer)
    this.connections.add(connection)
    handle.setNoDelay(true)
    if (this.sockets.read(handle, this.readBuffer, connection) < 0) connection.destroy()
  }

  acceptFailed(_error: number): void {
    // The client has gone, or there are no files left: libuv closes what it cannot take, and the next one is as good.
  }

  handle(client: TcpClient, request: ParsedRequest): void {
    if (request.method === 'GET' && this.getHandler !== null) this.getHandler(client, request)
    else this.handler(client, request)
  }

  forget(connection: TcpConnection): void {
    this.connections.delete(connection)
  }

  /** Goes on with what a client sent ahead, in a turn of its own: not in the middle of writing the answer before. */
  goOn(connection: TcpConnection): void {
    if (this.ready.push(connection) === 1) setImmediate(this.goOnWithAll)
  }

  private readonly goOnWithAll = (): void => {
    const { ready } = this
    this.ready = []
    for (const connection of ready) connection.goOn()
  }

  /** The address of the other side; an IPv4 address that is mapped into IPv6 is written as IPv4. Empty = it is gone. */
  private peerOf(handle: TcpHandle): SocketAddress {
    const peer = this.sockets.peer(handle)
    if (peer === null) return noAddress
    const address = peer.address.replace(/%.*$/, '')
    return { address: address.startsWith('::ffff:') && address.includes('.') ? address.slice(7) : address, port: peer.port }
  }

  /** Runs behind the reading of sockets: what came in time, while this thread stood still, is no timeout. */
  private readonly sweep = (): void => {
    const now = recentMs()
    for (const connection of this.connections) connection.sweep(now)
  }
}
