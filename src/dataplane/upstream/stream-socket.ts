/** A socket to an upstream node on a stream of Node: TLS, and what a Node without raw sockets is left with. */
import type { Socket } from 'node:net'
import { type SocketEvents, Taken, type UpstreamSocket } from './upstream-socket.js'

export class StreamSocket implements UpstreamSocket {
  /** Bytes come by whatever reads for the stream; everything else from here. */
  constructor(
    private readonly socket: Socket,
    isSecure: boolean,
    events: SocketEvents,
  ) {
    socket.on(isSecure ? 'secureConnect' : 'connect', () => events.onConnected())
    socket.on('error', (error: NodeJS.ErrnoException) => events.onError(error.code))
    socket.on('end', () => events.onEnd())
    socket.on('close', () => events.onClosed())
    socket.on('drain', () => events.onDrained())
  }

  writeText(text: string): Taken {
    return this.took(this.socket.write(text, 'utf8'))
  }

  writeBytes(bytes: Uint8Array): Taken {
    return this.took(this.socket.write(bytes))
  }

  private took(wantsMore: boolean): Taken {
    return this.socket.writableLength === 0 ? Taken.Whole : wantsMore ? Taken.Kept : Taken.Full
  }

  pause(): void {
    this.socket.pause()
  }

  resume(): void {
    this.socket.resume()
  }

  destroy(): void {
    this.socket.destroy()
  }
}
