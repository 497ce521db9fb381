/**
 * What a connection begins with, read before any parser sees it: an HTTP/1 request line, the preface of HTTP/2, or neither.
 *
 * llhttp forgives empty lines before a request line and several spaces behind the method. What begins like that is refused here.
 */
import type { Socket } from 'node:net'

export type FirstBytes = 'incomplete' | 'http1' | 'http2' | 'refused'

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1')
/** Longest method worth waiting for. */
const METHOD_MAX = 64
const SPACE = 32

const isTokenByte = new Uint8Array(256)
for (const char of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") isTokenByte[char.charCodeAt(0)] = 1

/** `http2`: the preface is welcome. */
export function judgeFirstBytes(bytes: Uint8Array, http2: boolean): FirstBytes {
  const common = Math.min(bytes.length, PREFACE.length)
  if (http2 && common > 3 && PREFACE.compare(bytes, 0, common, 0, common) === 0) return common < PREFACE.length ? 'incomplete' : 'http2'
  let index = 0
  while (index < bytes.length && isTokenByte[bytes[index] ?? 0] === 1) index++
  if (index === bytes.length) return index > METHOD_MAX ? 'refused' : 'incomplete'
  if (index === 0 || bytes[index] !== SPACE) return 'refused'
  if (index + 1 === bytes.length) return 'incomplete'
  return bytes[index + 1] === SPACE ? 'refused' : 'http1'
}

/**
 * Reads until the first bytes are judged, puts them back and says what they are. Says nothing when the client leaves before; after
 * `timeoutMs` the socket is destroyed.
 */
export function awaitFirstBytes(socket: Socket, http2: boolean, timeoutMs: number, judged: (kind: FirstBytes) => void): void {
  let bytes: Buffer = Buffer.alloc(0)
  const timer = setTimeout(() => socket.destroy(), timeoutMs)
  const leave = (): void => {
    clearTimeout(timer)
    socket.destroy()
  }
  const read = (chunk: Buffer): void => {
    bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk])
    const kind = judgeFirstBytes(bytes, http2)
    if (kind === 'incomplete') return
    clearTimeout(timer)
    socket.pause()
    socket.off('data', read).off('end', leave).off('close', leave).off('error', leave)
    socket.unshift(bytes)
    judged(kind)
  }
  socket.on('data', read).on('end', leave).on('close', leave).on('error', leave)
}
