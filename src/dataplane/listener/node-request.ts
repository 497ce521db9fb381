/**
 * A request of node:http or node:http2 as the listener reads it: target and header lines as they were sent, before anybody joined or
 * dropped any. What only the protocol version can tell is refused here.
 */
import { type Failure, failures } from '../../base/errors.js'
import type { ClientRequest } from './binding.js'

export class NodeRequest implements ClientRequest {
  private constructor(
    private readonly method: string,
    private readonly path: string,
    private readonly query: string,
    /** Names in lower case and values in turn. */
    private readonly lines: readonly string[],
    private readonly failure: Failure | null,
  ) {}

  /**
   * HTTP/1. `lines`: names and values in turn, one character per byte. `local` stands in for the Host that HTTP/1.0 need not send.
   */
  static http1(method: string, target: string, version: string, lines: readonly string[], local: string): NodeRequest {
    const fields = fieldLines(lines)
    let failure: Failure | null = null
    if (version === '1.0') {
      if (indexOfField(fields, 'transfer-encoding') >= 0) failure = failures.BAD_FRAMING
      if (indexOfField(fields, 'host') < 0) fields.push('host', local)
    } else if (version !== '1.1') failure = failures.HTTP_VERSION_NOT_SUPPORTED
    const absolute = splitAbsoluteTarget(method, target)
    if (absolute === null) return NodeRequest.of(method, target, fields, failure)
    // RFC 9112 §3.2.2: the authority decides. A Host that says something else is an attempt to be read in two ways.
    const host = indexOfField(fields, 'host')
    if (host >= 0 && fields[host + 1]?.toLowerCase() !== absolute.authority.toLowerCase()) failure ??= failures.BAD_HOST
    return NodeRequest.of(method, absolute.target, fields, failure)
  }

  /** HTTP/2. `hasBody`: the stream did not end with its header section. */
  static http2(lines: readonly string[], hasBody: boolean): NodeRequest {
    const pseudo = new Map<string, string>()
    const cookies: string[] = []
    const fields: string[] = []
    for (let index = 0; index < lines.length; index += 2) {
      const name = lines[index] ?? ''
      const value = lines[index + 1] ?? ''
      if (name.startsWith(':')) pseudo.set(name, value)
      // RFC 9113 §8.2.3: crumbs of one field, which HTTP/1.1 has as one line.
      else if (name === 'cookie') cookies.push(value)
      else fields.push(name, textOf(value))
    }
    if (cookies.length > 0) fields.push('cookie', textOf(cookies.join('; ')))
    const authority = textOf(pseudo.get(':authority') ?? '')
    const host = indexOfField(fields, 'host')
    let failure: Failure | null = null
    if (host < 0) fields.push('host', authority)
    else if (authority !== '' && fields[host + 1]?.toLowerCase() !== authority.toLowerCase()) failure = failures.BAD_HOST
    // A body without a length: what goes upstream is chunked. HTTP/2 itself refuses this field from clients.
    const length = indexOfField(fields, 'content-length')
    if (hasBody && length < 0) fields.push('transfer-encoding', 'chunked')
    if (!hasBody && length >= 0 && fields[length + 1] !== '0') failure ??= failures.BAD_FRAMING
    return NodeRequest.of(pseudo.get(':method') ?? '', pseudo.get(':path') ?? '', fields, failure)
  }

  /** Bytes that never became a request. */
  static refused(failure: Failure): NodeRequest {
    return new NodeRequest('-', '', '', [], failure)
  }

  private static of(method: string, target: string, lines: readonly string[], failure: Failure | null): NodeRequest {
    const mark = target.indexOf('?')
    return mark < 0
      ? new NodeRequest(method, target, '', lines, failure)
      : new NodeRequest(method, target.slice(0, mark), target.slice(mark + 1), lines, failure)
  }

  getUrl(): string {
    return this.path
  }

  getQuery(): string {
    return this.query
  }

  getCaseSensitiveMethod(): string {
    return this.method
  }

  forEachHeader(callback: (name: string, value: string) => void): void {
    for (let index = 0; index < this.lines.length; index += 2) callback(this.lines[index] ?? '', this.lines[index + 1] ?? '')
  }

  refusal(): Failure | null {
    return this.failure
  }
}

/** The parts of a target in absolute form (RFC 9112 §3.2.2): who is asked, and for what in origin or asterisk form. Null = another form. */
export function splitAbsoluteTarget(method: string, target: string): { readonly authority: string; readonly target: string } | null {
  const absolute = /^https?:\/\/([^/?#]*)(.*)$/is.exec(target)
  if (absolute === null) return null
  const [, authority = '', rest = ''] = absolute
  if (rest === '' && method === 'OPTIONS') return { authority, target: '*' }
  return { authority, target: rest.startsWith('/') ? rest : `/${rest}` }
}

function fieldLines(lines: readonly string[]): string[] {
  return lines.map((item, index) => (index % 2 === 0 ? item.toLowerCase() : textOf(item)))
}

function indexOfField(fields: readonly string[], name: string): number {
  for (let index = 0; index < fields.length; index += 2) if (fields[index] === name) return index
  return -1
}

const beyondAscii = /[\x80-\xff]/

/** Bytes as text, as the other binding gives it: UTF-8; what is none becomes U+FFFD, which the guard refuses. */
function textOf(value: string): string {
  return beyondAscii.test(value) ? Buffer.from(value, 'latin1').toString('utf8') : value
}
