/** What a connection asks of the socket under it, whether that is one of Node's handles (raw-socket.ts) or a stream (stream-socket.ts). */

/** What became of bytes that were written. */
export enum Taken {
  /** The kernel has all of them: their memory is free. */
  Whole = 0,
  /** The socket still reads from them, and takes more. */
  Kept = 1,
  /** The socket still reads from them, and wants no more before `onDrained`. */
  Full = 2,
}

/** Nothing is written before `onConnected` nor behind `destroy`; the reader, paused at first, reads from `onConnected` on. */
export interface UpstreamSocket {
  /** Writes text as UTF-8. */
  writeText(text: string): Taken
  /** Writes bytes, which must stay as they are unless they were taken whole. */
  writeBytes(bytes: Uint8Array): Taken
  pause(): void
  resume(): void
  /** Closes; no event comes behind it. Any number of times. */
  destroy(): void
}

/** Events of a socket; none of them comes while the socket is being called or made. */
export interface SocketEvents {
  onConnected(): void
  /** Bytes, valid during the call. Returns whether to read on. */
  onBytes(bytes: Buffer, length: number): boolean
  /** The other side has ended its half. */
  onEnd(): void
  /** `code` as in `error.code`: `ECONNRESET`. */
  onError(code: string | undefined): void
  onClosed(): void
  onDrained(): void
}
