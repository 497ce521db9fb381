/**
 * The insides of Node that raw sockets stand on, without a network: what a client sends and when the kernel takes what is written is the
 * test's to say. A handle that is used behind its close throws, and queued bytes are looked at when they leave, not before.
 */
import { findRawSockets, type RawSockets } from '../../src/dataplane/tcp/handle.js'

const EOF = -4095
export const ECANCELED = -125
export const ECONNRESET = -104
const ENOTCONN = -107
const EINVAL = -22
const READ_BYTES = 0
const WAS_ASYNC = 1

const state = new Int32Array(4)

interface NativeRequest {
  oncomplete: (status: number) => void
}

class FakeRequest implements NativeRequest {
  oncomplete: (status: number) => void = () => undefined
}

export class FakeTcp {
  reader: unknown = null
  /** What the kernel has. */
  readonly written: Buffer[] = []
  /** The kernel takes nothing until `drain`. */
  isFull = false
  /** What the next writes fail with; 0 = they do not. */
  error = 0
  isReading = false
  hasShutDown = false
  closed: '' | 'close' | 'reset' = ''
  peer: { readonly address: string; readonly port: number } | null = { address: '192.0.2.7', port: 5000 }
  private readonly queue: { readonly request: NativeRequest; readonly bytes: Uint8Array | null }[] = []
  private partlyTaken = 0
  private buffer: Uint8Array = new Uint8Array(0)
  private onReadCallback: () => void = () => undefined

  get onread(): () => void {
    return this.onReadCallback
  }

  set onread(callback: () => void) {
    this.onReadCallback = callback
  }

  // ---------------------------------------------------------------- the client, and the kernel

  /** The client sends. */
  send(text: string): void {
    const bytes = Buffer.from(text, 'latin1')
    for (let start = 0; start < bytes.length; start += this.buffer.length) {
      if (this.closed !== '') return
      if (!this.isReading) throw new Error('nobody reads')
      const piece = bytes.subarray(start, start + this.buffer.length)
      this.buffer.set(piece)
      state[READ_BYTES] = piece.length
      this.onread()
      // Lent for the call only.
      this.buffer.fill(0xaa, 0, piece.length)
    }
  }

  /** The client ends its half, or resets the connection. */
  end(error = EOF): void {
    if (this.closed !== '') return
    this.isReading = false
    state[READ_BYTES] = error
    this.onread()
  }

  /** Writes that wait. */
  get waiting(): number {
    return this.queue.filter(({ bytes }) => bytes !== null).length
  }

  /** Bytes of them. */
  get writeQueueSize(): number {
    return this.queue.reduce((sum, { bytes }) => sum + (bytes?.length ?? 0), 0) - this.partlyTaken
  }

  /** The kernel takes some bytes of the write that waits first, and not all. */
  take(length: number): void {
    this.partlyTaken += length
  }

  /** The kernel takes `count` of the writes that wait, by default all, and goes on taking if none is left. */
  drain(count = Number.POSITIVE_INFINITY): void {
    for (let taken = 0; taken < count; taken++) {
      this.partlyTaken = 0
      const next = this.queue.shift()
      if (next === undefined) {
        this.isFull = false
        return
      }
      if (next.bytes !== null) this.written.push(Buffer.from(next.bytes))
      next.request.oncomplete(0)
    }
  }

  /** All that the client has received. */
  get text(): string {
    return Buffer.concat(this.written).toString('latin1')
  }

  // ---------------------------------------------------------------- what RawSockets calls

  readStart(): number {
    this.use()
    this.isReading = true
    return 0
  }

  readStop(): number {
    this.use()
    this.isReading = false
    return 0
  }

  useUserBuffer(buffer: Uint8Array): void {
    this.use()
    this.buffer = buffer
  }

  writeBuffer(request: NativeRequest, bytes: Uint8Array): number {
    this.use()
    if (this.hasShutDown) throw new Error('written behind the end')
    if (this.error !== 0) return this.error
    const isAsync = this.isFull || this.queue.length > 0
    state[WAS_ASYNC] = isAsync ? 1 : 0
    if (isAsync) this.queue.push({ request, bytes })
    else this.written.push(Buffer.from(bytes))
    return 0
  }

  writeLatin1String(): number {
    throw new Error('not used')
  }

  writeUtf8String(): number {
    throw new Error('not used')
  }

  shutdown(request: NativeRequest): number {
    this.use()
    this.hasShutDown = true
    if (this.queue.length > 0) this.queue.push({ request, bytes: null })
    else setImmediate(() => request.oncomplete(this.closed === '' ? 0 : ECANCELED))
    return 0
  }

  close(): void {
    this.use()
    this.closed = 'close'
    setImmediate(() => {
      for (const { request } of this.queue.splice(0)) request.oncomplete(ECANCELED)
    })
  }

  reset(): number {
    if (this.hasShutDown) return EINVAL
    this.close()
    this.closed = 'reset'
    return 0
  }

  setNoDelay(): number {
    return 0
  }

  setKeepAlive(): number {
    return 0
  }

  getpeername(out: object): number {
    if (this.peer === null) return ENOTCONN
    Object.assign(out, this.peer)
    return 0
  }

  getsockname(out: object): number {
    Object.assign(out, { address: '192.0.2.1', port: 9080 })
    return 0
  }

  open(): number {
    return 0
  }

  bind(): number {
    return 0
  }

  bind6(): number {
    return 0
  }

  listen(): number {
    return 0
  }

  connect(): number {
    return ENOTCONN
  }

  connect6(): number {
    return ENOTCONN
  }

  private use(): void {
    if (this.closed !== '') throw new Error('the handle is closed')
  }
}

/** Raw sockets whose handles are all fakes. */
export function fakeSockets(): RawSockets {
  const parts: Readonly<Record<string, object>> = {
    tcp_wrap: { TCP: FakeTcp, TCPConnectWrap: FakeRequest, constants: { SOCKET: 0, SERVER: 1 } },
    pipe_wrap: { Pipe: FakeTcp, PipeConnectWrap: FakeRequest, constants: { SOCKET: 0 } },
    stream_wrap: {
      WriteWrap: FakeRequest,
      ShutdownWrap: FakeRequest,
      streamBaseState: state,
      kReadBytesOrError: READ_BYTES,
      kLastWriteWasAsync: WAS_ASYNC,
    },
  }
  const sockets = findRawSockets((name) => parts[name])
  if (sockets === null) throw new Error('the fakes lack something that raw sockets want')
  return sockets
}
