/**
 * TCP and unix sockets as Node's own handles, without the streams of `node:net` around them, which cost more per read and write than
 * what a gateway does with them.
 *
 * The only file that knows what is inside Node (`tcp_wrap`, `pipe_wrap` and `stream_wrap` of Node 20 to 24: lib/net.js and
 * lib/internal/stream_base_commons.js use them in the same way). `rawSockets()` looks whether all of it is there, else it is null and
 * the caller takes `node:net`.
 *
 * Rules that the types cannot say:
 *  - Methods return 0, or a negative error number of libuv (`errorName`).
 *  - A handle is closed exactly once, by `close` or `reset`, and not touched behind that; it lives until then. What it had queued is
 *    called back with ECANCELED, a connect too.
 *  - The buffer that it reads into may serve all handles of the thread: a read is handed on before the next one begins.
 *  - What a callback throws is an uncaught exception, as from an event of a `net.Socket`.
 */
import { getSystemErrorName } from 'node:util'

/** A write went out whole. */
export const WRITTEN = 0
/** A write was taken, and a part of it waits for room in the kernel: `written` is called when it is out. */
export const QUEUED = 1

/** Told of what a handle reads. */
export interface Reader {
  /** So many bytes are at the start of the handle's buffer, good for this call only. */
  onRead(length: number): void
  /** Nothing more will come: 0 = the other side has ended its half, else an error number. The handle is still open. */
  onReadEnd(error: number): void
}

/** Told of writes that were QUEUED, in their order. */
export interface Writer {
  /** `status` is 0, or the error number. `bytes` of `writeBytes`, which were in use until now; null for text. */
  written(status: number, bytes: Uint8Array | null): void
}

export interface Acceptor {
  /** A new connection; it reads nothing before `RawSockets.read`. */
  accepted(handle: TcpHandle): void
  acceptFailed(error: number): void
}

/** A connected socket, of TCP or unix. */
export interface StreamHandle {
  readStart(): number
  readStop(): number
  close(): void
  /** Bytes that wait for room in the kernel. */
  readonly writeQueueSize: number
}

export interface TcpHandle extends StreamHandle {
  setNoDelay(on: boolean): number
  setKeepAlive(on: boolean, delaySeconds: number): number
}

export interface TcpServerHandle {
  /** Takes a file descriptor over, which is closed with the handle. */
  open(descriptor: number): number
  bind(address: string, port: number): number
  bind6(address: string, port: number, flags: number): number
  close(): void
}

export interface SocketAddress {
  readonly address: string
  readonly port: number
}

interface Request {
  oncomplete: (this: Request, status: number) => void
}

interface WriteRequest extends Request {
  writer: Writer
  bytes: Uint8Array | null
}

interface NativeStream extends StreamHandle {
  reader: Reader
  onread: (this: NativeStream) => void
  useUserBuffer(buffer: Uint8Array): void
  writeBuffer(request: Request, bytes: Uint8Array): number
  writeLatin1String(request: Request, text: string): number
  writeUtf8String(request: Request, text: string): number
  shutdown(request: Request): number
}

interface NativeTcp extends NativeStream, TcpHandle, TcpServerHandle {
  listen(backlog: number): number
  onconnection: (status: number, client: TcpHandle | undefined) => void
  connect(request: Request, address: string, port: number): number
  connect6(request: Request, address: string, port: number): number
  getpeername(out: object): number
  getsockname(out: object): number
  reset(): number
}

interface NativePipe extends NativeStream {
  /** Without a result in some versions, which call back with every error. */
  connect(request: Request, path: string): number | undefined
}

interface Natives {
  readonly newTcp: new (type: number) => NativeTcp
  readonly newPipe: new (type: number) => NativePipe
  readonly newTcpConnect: new () => Request
  readonly newPipeConnect: new () => Request
  readonly newWrite: new () => WriteRequest
  readonly newShutdown: new () => Request
  readonly tcpSocket: number
  readonly tcpServer: number
  readonly pipeSocket: number
  /** Results of the last call of a stream, by index. */
  readonly state: Int32Array
  readonly readBytesOrError: number
  readonly lastWriteWasAsync: number
}

/** Finds a part of Node by its internal name, or throws. */
export type FindBinding = (name: string) => unknown

const streamMethods = ['readStart', 'readStop', 'close', 'shutdown', 'useUserBuffer', 'writeBuffer', 'writeLatin1String', 'writeUtf8String']
const tcpMethods = [
  ...['open', 'bind', 'bind6', 'listen', 'connect', 'connect6', 'reset'],
  ...['getpeername', 'getsockname', 'setNoDelay', 'setKeepAlive'],
]

let found: RawSockets | null | undefined

/** The raw sockets of this thread, or null where this Node has none. The first call looks. */
export function rawSockets(): RawSockets | null {
  if (found === undefined) found = findRawSockets(findInProcess)
  return found
}

/** As `rawSockets`, in what `find` gives. */
export function findRawSockets(find: FindBinding): RawSockets | null {
  try {
    const natives = readNatives(find)
    return natives === null ? null : new RawSockets(natives)
  } catch {
    // Taken away, or forbidden by the permission model.
    return null
  }
}

function findInProcess(name: string): unknown {
  const binding: unknown = Reflect.get(process, 'binding')
  return typeof binding === 'function' ? Reflect.apply(binding, process, [name]) : null
}

function readNatives(find: FindBinding): Natives | null {
  const [tcp, pipe, stream] = [find('tcp_wrap'), find('pipe_wrap'), find('stream_wrap')]
  const newTcp = constructorIn(tcp, 'TCP', [...streamMethods, ...tcpMethods])
  const newPipe = constructorIn(pipe, 'Pipe', [...streamMethods, 'connect'])
  const newTcpConnect = constructorIn(tcp, 'TCPConnectWrap', [])
  const newPipeConnect = constructorIn(pipe, 'PipeConnectWrap', [])
  const newWrite = constructorIn(stream, 'WriteWrap', [])
  const newShutdown = constructorIn(stream, 'ShutdownWrap', [])
  const numbers = [
    numberIn(fieldOf(tcp, 'constants'), 'SOCKET'),
    numberIn(fieldOf(tcp, 'constants'), 'SERVER'),
    numberIn(fieldOf(pipe, 'constants'), 'SOCKET'),
    numberIn(stream, 'kReadBytesOrError'),
    numberIn(stream, 'kLastWriteWasAsync'),
  ]
  const [tcpSocket = -1, tcpServer = -1, pipeSocket = -1, readBytesOrError = -1, lastWriteWasAsync = -1] = numbers
  const state = fieldOf(stream, 'streamBaseState')
  if (newTcp === null || newPipe === null || newTcpConnect === null || newPipeConnect === null) return null
  if (newWrite === null || newShutdown === null || numbers.includes(-1)) return null
  if (!(state instanceof Int32Array) || readBytesOrError >= state.length || lastWriteWasAsync >= state.length) return null
  return {
    newTcp: newTcp as Natives['newTcp'],
    newPipe: newPipe as Natives['newPipe'],
    newTcpConnect: newTcpConnect as Natives['newTcpConnect'],
    newPipeConnect: newPipeConnect as Natives['newPipeConnect'],
    newWrite: newWrite as Natives['newWrite'],
    newShutdown: newShutdown as Natives['newShutdown'],
    ...{ tcpSocket, tcpServer, pipeSocket, state, readBytesOrError, lastWriteWasAsync },
  }
}

function fieldOf(holder: unknown, name: string): unknown {
  return typeof holder === 'object' && holder !== null ? Reflect.get(holder, name) : undefined
}

/** -1 = it is no such number. */
function numberIn(holder: unknown, name: string): number {
  const value = fieldOf(holder, name)
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 ? value : -1
}

function constructorIn(holder: unknown, name: string, methods: readonly string[]): unknown {
  const value = fieldOf(holder, name)
  if (typeof value !== 'function') return null
  const prototype: unknown = Reflect.get(value, 'prototype')
  if (methods.length > 0 && !('onread' in Object(prototype))) return null
  return methods.every((method) => typeof fieldOf(prototype, method) === 'function') ? value : null
}

/** The name of an error number, as `error.code` of a socket: `ECONNRESET`. */
export function errorName(error: number): string {
  return error < 0 ? getSystemErrorName(error) : 'OK'
}

function onWritten(this: Request, status: number): void {
  const request = this as WriteRequest
  request.writer.written(status, request.bytes)
}

/** What one thread does with raw sockets. */
export class RawSockets {
  private readonly state: Int32Array
  private readonly asyncIndex: number
  private readonly onRead: (this: NativeStream) => void
  /** Only a write that is queued keeps its request: one serves all that are not. */
  private spare: WriteRequest

  constructor(private readonly natives: Natives) {
    const { state, readBytesOrError } = natives
    this.state = state
    this.asyncIndex = natives.lastWriteWasAsync
    this.spare = new natives.newWrite()
    // Must return nothing: what it returns would be taken as the next buffer.
    this.onRead = function onRead() {
      const length = state[readBytesOrError] as number
      if (length > 0) this.reader.onRead(length)
      else if (length < 0) this.reader.onReadEnd(errorName(length) === 'EOF' ? 0 : length)
    }
  }

  /** A socket of TCP that is not connected yet. */
  tcp(): TcpHandle {
    return new this.natives.newTcp(this.natives.tcpSocket)
  }

  /** A unix socket that is not connected yet. */
  pipe(): StreamHandle {
    return new this.natives.newPipe(this.natives.pipeSocket)
  }

  server(): TcpServerHandle {
    return new this.natives.newTcp(this.natives.tcpServer)
  }

  /** Connects to an IP address. Without an error now, `done` is called later, once, also when the handle is closed before. */
  connect(handle: TcpHandle, address: string, port: number, done: (status: number) => void): number {
    const request = new this.natives.newTcpConnect()
    request.oncomplete = done
    const tcp = handle as NativeTcp
    return address.includes(':') ? tcp.connect6(request, address, port) : tcp.connect(request, address, port)
  }

  /** Connects to the socket at this path; as `connect`. */
  connectPipe(handle: StreamHandle, path: string, done: (status: number) => void): number {
    const request = new this.natives.newPipeConnect()
    request.oncomplete = done
    return (handle as NativePipe).connect(request, path) ?? 0
  }

  /** Begins to accept on a handle that was opened or bound. */
  listen(handle: TcpServerHandle, backlog: number, acceptor: Acceptor): number {
    const server = handle as NativeTcp
    server.onconnection = (status, client) => {
      if (status < 0 || client === undefined) acceptor.acceptFailed(status)
      else acceptor.accepted(client)
    }
    return server.listen(backlog)
  }

  /** Begins to read into `buffer`, which must live as long as the handle. Once per handle; `readStop` and `readStart` pause it. */
  read(handle: StreamHandle, buffer: Uint8Array, reader: Reader): number {
    const stream = handle as NativeStream
    stream.reader = reader
    stream.onread = this.onRead
    stream.useUserBuffer(buffer)
    return stream.readStart()
  }

  /** Writes text, each character as one byte: WRITTEN, QUEUED or an error. */
  writeLatin1(handle: StreamHandle, text: string, writer: Writer): number {
    const error = (handle as NativeStream).writeLatin1String(this.spare, text)
    if (error !== 0) return error
    return this.state[this.asyncIndex] === 0 ? WRITTEN : this.queued(writer, null)
  }

  /** Writes text as UTF-8: WRITTEN, QUEUED or an error. */
  writeUtf8(handle: StreamHandle, text: string, writer: Writer): number {
    const error = (handle as NativeStream).writeUtf8String(this.spare, text)
    if (error !== 0) return error
    return this.state[this.asyncIndex] === 0 ? WRITTEN : this.queued(writer, null)
  }

  /** Writes bytes: WRITTEN, QUEUED (they must stay as they are until `written`) or an error. */
  writeBytes(handle: StreamHandle, bytes: Uint8Array, writer: Writer): number {
    const error = (handle as NativeStream).writeBuffer(this.spare, bytes)
    if (error !== 0) return error
    return this.state[this.asyncIndex] === 0 ? WRITTEN : this.queued(writer, bytes)
  }

  private queued(writer: Writer, bytes: Uint8Array | null): number {
    const request = this.spare
    request.oncomplete = onWritten
    request.writer = writer
    // Also keeps the memory, which the handle only has a pointer to.
    request.bytes = bytes
    this.spare = new this.natives.newWrite()
    return QUEUED
  }

  /** Ends our half behind what is queued. Without an error now, `done` is called later, once. */
  shutdown(handle: StreamHandle, done: (status: number) => void): number {
    const request = new this.natives.newShutdown()
    request.oncomplete = done
    const result = (handle as NativeStream).shutdown(request)
    // Over at once: nothing calls back.
    if (result === 1) queueMicrotask(() => done(0))
    return Math.min(result, 0)
  }

  /** Closes with a reset, so that the other side cannot take what it has for whole. */
  reset(handle: TcpHandle): void {
    // Not allowed behind a shutdown.
    if ((handle as NativeTcp).reset() < 0) handle.close()
  }

  /** Address of the other side, or null when the socket is no longer connected. */
  peer(handle: TcpHandle): SocketAddress | null {
    const out = {}
    return (handle as NativeTcp).getpeername(out) === 0 ? addressIn(out) : null
  }

  /** Address of this side. */
  local(handle: TcpHandle | TcpServerHandle): SocketAddress | null {
    const out = {}
    return (handle as NativeTcp).getsockname(out) === 0 ? addressIn(out) : null
  }
}

function addressIn(out: object): SocketAddress | null {
  const address = fieldOf(out, 'address')
  const port = fieldOf(out, 'port')
  return typeof address === 'string' && typeof port === 'number' ? { address, port } : null
}
