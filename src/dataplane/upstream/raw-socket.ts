/** A plain socket to an upstream node on one of Node's handles (`tcp/handle.ts`): no stream, no buffers of its own. */
import { errorName, QUEUED, type RawSockets, type Reader, type StreamHandle, type TcpHandle, type Writer } from '../tcp/handle.js'
import { type SocketEvents, Taken, type UpstreamSocket } from './upstream-socket.js'

export class RawSocket implements UpstreamSocket, Reader, Writer {
  private isDestroyed = false
  /** A write failed; that is about to be told. */
  private isBroken = false
  private queuedCount = 0

  private constructor(
    private readonly raw: RawSockets,
    private readonly handle: StreamHandle,
    /** Shared by all sockets of the worker: a read fills it and is consumed before the next one starts. */
    private readonly readBuffer: Buffer,
    private readonly events: SocketEvents,
  ) {}

  /** Connects to an IP address. */
  static connect(raw: RawSockets, address: string, port: number, readBuffer: Buffer, events: SocketEvents): RawSocket {
    const handle: TcpHandle = raw.tcp()
    const socket = new RawSocket(raw, handle, readBuffer, events)
    const error = raw.connect(handle, address, port, (status) => {
      // A request leaves in one write: nothing is gained by waiting for more.
      if (status === 0 && !socket.isDestroyed) handle.setNoDelay(true)
      socket.connected(status)
    })
    if (error < 0) socket.failSoon(error)
    return socket
  }

  /** Connects to the unix socket at this path. */
  static connectPath(raw: RawSockets, path: string, readBuffer: Buffer, events: SocketEvents): RawSocket {
    const handle = raw.pipe()
    const socket = new RawSocket(raw, handle, readBuffer, events)
    const error = raw.connectPipe(handle, path, (status) => socket.connected(status))
    if (error < 0) socket.failSoon(error)
    return socket
  }

  private connected(status: number): void {
    if (this.isDestroyed) return
    const error = status < 0 ? status : this.raw.read(this.handle, this.readBuffer, this)
    if (error < 0) this.events.onError(errorName(error))
    else this.events.onConnected()
  }

  writeText(text: string): Taken {
    if (this.isDestroyed || this.isBroken) return Taken.Whole
    return this.took(this.raw.writeUtf8(this.handle, text, this))
  }

  writeBytes(bytes: Uint8Array): Taken {
    if (this.isDestroyed || this.isBroken) return Taken.Whole
    return this.took(this.raw.writeBytes(this.handle, bytes, this))
  }

  private took(result: number): Taken {
    if (result === QUEUED) {
      this.queuedCount++
      return Taken.Full
    }
    if (result < 0) this.failSoon(result)
    return Taken.Whole
  }

  pause(): void {
    if (!this.isDestroyed) this.handle.readStop()
  }

  resume(): void {
    if (!this.isDestroyed) this.handle.readStart()
  }

  destroy(): void {
    if (this.isDestroyed) return
    this.isDestroyed = true
    this.handle.close()
  }

  onRead(length: number): void {
    if (!this.isDestroyed) this.events.onBytes(this.readBuffer, length)
  }

  onReadEnd(error: number): void {
    if (this.isDestroyed) return
    if (error === 0) this.events.onEnd()
    else this.events.onError(errorName(error))
  }

  written(status: number): void {
    this.queuedCount--
    if (this.isDestroyed) return
    if (status < 0) this.events.onError(errorName(status))
    else if (this.queuedCount === 0) this.events.onDrained()
  }

  /** Whoever is calling must not be called back. */
  private failSoon(error: number): void {
    this.isBroken = true
    process.nextTick(() => {
      if (!this.isDestroyed) this.events.onError(errorName(error))
    })
  }
}
