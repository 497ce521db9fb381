/** Answers for bytes that never became a request: written to the socket by hand, because Node has no response for them. */
import type { Duplex } from 'node:stream'
import { wallMs } from '../../base/clock.js'
import { type Failure, failures } from '../../base/errors.js'
import { type AnswerHead, latin1 } from './node-answer-block.js'
import { NodeClient } from './node-client.js'

export class RefusedClient extends NodeClient {
  private readonly whenClosed = (): void => this.gone()

  constructor(
    private readonly socket: Duplex,
    address: ArrayBuffer,
  ) {
    super(address, 0)
    // Whatever comes from a connection that is refused does not matter any more, nor do its errors.
    socket.on('error', () => undefined)
    socket.once('close', this.whenClosed)
  }

  protected sendHead(head: AnswerHead, length: number): void {
    const lines = [`HTTP/1.1 ${head.status} ${head.reason}`]
    for (let index = 0; index < head.fields.length; index += 2) lines.push(`${head.fields[index]}: ${head.fields[index + 1]}`)
    if (length >= 0) lines.push(`content-length: ${length}`)
    lines.push(`date: ${new Date(wallMs()).toUTCString()}`, 'connection: close', '', '')
    this.socket.write(lines.join('\r\n'), 'latin1')
  }

  protected flush(): void {}

  protected sendBody(bytes: Buffer): boolean {
    this.socket.write(bytes)
    return true
  }

  protected finish(): void {
    this.socket.end(() => this.socket.destroy())
  }

  protected cut(): void {
    this.socket.destroy()
  }

  protected readBody(): void {}
  pause(): void {}
  resume(): void {}
}

/** What llhttp, or the checks of node:http around it, refused; null = the connection is gone and there is nobody to answer. */
export function failureOfParser(error: unknown): Failure | null {
  if (!(error instanceof Error) || !('code' in error)) return failures.BAD_FRAMING
  const code = String(error.code)
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return failures.HEADERS_TOO_LARGE
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return failures.REQUEST_TIMEOUT
    case 'HPE_INVALID_URL':
      return failures.BAD_TARGET
    case 'HPE_INVALID_VERSION':
      return failures.HTTP_VERSION_NOT_SUPPORTED
    case 'HPE_INVALID_HEADER_TOKEN':
      return failures.BAD_HEADER
    case 'HPE_INVALID_METHOD':
      return hasMethod('rawPacket' in error ? error.rawPacket : null) ? failures.METHOD_NOT_SUPPORTED : failures.BAD_FRAMING
    case 'HPE_INVALID_EOF_STATE':
      return null
  }
  return code.startsWith('HPE_') ? failures.BAD_FRAMING : null
}

/** A token at the beginning is a method that llhttp does not know; anything else is no request. */
function hasMethod(packet: unknown): boolean {
  return packet instanceof Uint8Array && /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64} [^ ]/.test(latin1(packet.subarray(0, 80)))
}
