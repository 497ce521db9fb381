/** The response half on a stream of node:http2. */
import { constants, type OutgoingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import type { AnswerHead } from './node-answer-block.js'
import { NodeClient } from './node-client.js'

/** RFC 9113 §8.2.2: fields of a connection have no place on a stream. */
const connectionFields: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
  'te',
])

export class Http2Client extends NodeClient {
  constructor(
    private readonly stream: ServerHttp2Stream,
    address: ArrayBuffer,
    bodyLength: number,
    /** The client takes nothing of a finished answer for so long: the stream is cut, milliseconds. */
    private readonly sendTimeoutMs: number,
  ) {
    super(address, bodyLength)
    stream.pause()
    stream.on('data', (chunk: Buffer) => this.bodyData(chunk))
    // Node also ends the body of a stream that the client reset without an error. Only an open stream has got all of it.
    stream.on('end', () => (stream.closed && !this.isEnded ? this.gone() : this.bodyEnd()))
    // Unread, the end of a stream without a body would hold back its `close`.
    if (stream.endAfterHeaders) stream.resume()
    stream.on('drain', () => this.drained())
    // An error of a stream is its end, which `close` says.
    stream.on('error', () => undefined)
    stream.on('close', () => {
      if (!this.isEnded) this.gone()
    })
  }

  /** The session is gone, and the stream with it, even if Node waits for somebody to read what is left of it. */
  sessionClosed(): void {
    if (!this.isEnded) this.gone()
  }

  pause(): void {
    this.stream.pause()
  }

  resume(): void {
    this.stream.resume()
  }

  protected sendHead(head: AnswerHead, length: number, isWhole: boolean): void {
    const { stream } = this
    if (stream.destroyed || stream.closed) return
    const fields = fieldsOf(head)
    if (length >= 0) fields['content-length'] = String(length)
    const options = { endStream: isWhole }
    try {
      stream.respond(fields, options)
    } catch (error) {
      // Node sends some fields once only. An upstream that repeats one of them means its first.
      if (!(error instanceof Error) || !('code' in error) || error.code !== 'ERR_HTTP2_HEADER_SINGLE_VALUE') throw error
      stream.respond(withoutRepeats(fields), options)
    }
  }

  protected flush(): void {}

  protected sendBody(bytes: Buffer): boolean {
    return this.stream.writable ? this.stream.write(bytes) : true
  }

  protected finish(): void {
    const { stream } = this
    stream.setTimeout(this.sendTimeoutMs, () => stream.close(constants.NGHTTP2_CANCEL))
    // RFC 9113 §8.1: an answer that is complete before its request lets the client stop sending.
    if (!stream.readableEnded) stream.once('finish', () => stream.close(constants.NGHTTP2_NO_ERROR))
    stream.end()
    stream.resume()
  }

  protected cut(): void {
    this.stream.close(constants.NGHTTP2_INTERNAL_ERROR)
  }

  protected readBody(): void {
    this.stream.resume()
  }
}

function fieldsOf(head: AnswerHead): OutgoingHttpHeaders {
  const lines = new Map<string, string[]>()
  for (let index = 0; index < head.fields.length; index += 2) {
    const name = (head.fields[index] ?? '').toLowerCase()
    if (connectionFields.has(name)) continue
    const values = lines.get(name)
    if (values === undefined) lines.set(name, [head.fields[index + 1] ?? ''])
    else values.push(head.fields[index + 1] ?? '')
  }
  const fields: OutgoingHttpHeaders = { ':status': head.status }
  for (const [name, values] of lines) fields[name] = values.length === 1 ? values[0] : values
  return fields
}

function withoutRepeats(fields: OutgoingHttpHeaders): OutgoingHttpHeaders {
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [name, Array.isArray(value) && name !== 'set-cookie' ? value[0] : value]),
  )
}
