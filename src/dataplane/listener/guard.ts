/**
 * The guard in front of routing: what a strict reading of RFC 9112 refuses although the uWebSockets.js build lets it pass.
 *
 * It sees header lines one by one while they are copied, and decides framing once from what it saw: nobody behind it looks at
 * Content-Length or Transfer-Encoding again. Runs on workers, holds the state of one request at a time.
 */
import { type Failure, failures } from '../../base/errors.js'
import type { HeaderList } from '../../base/headers.js'
import { isIdentityHeader } from './identity.js'

const CONTENT_LENGTH_MAX_DIGITS = 15
/** Not by toLowerCase(), for which the Kelvin sign is a "k". */
const CHUNKED = /^chunked$/i

export class Guard {
  failure: Failure | null = null
  /** Bytes of body to come: -1 = chunked. */
  bodyLength = 0
  hostHeader = ''
  /** The client sent X-Forwarded-* or X-Real-IP: whether they are believed is decided by the listener. */
  sawForwarded = false
  expectsContinue = false
  /** The client says that this is its last request on the connection: the answer has to say so too (RFC 9112 §9.6). */
  closes = false
  upgrade = ''
  /** Lower-case names listed in Connection, or null. */
  private connectionNames: string[] | null = null
  /** Clients mostly ask for the same host again. */
  private lastGoodHost = '\0'
  private hosts = 0
  private contentLengths = 0
  private transferEncodings = 0
  private authorizations = 0
  private bytes = 0
  private fields = 0
  private headers: HeaderList | null = null

  constructor(
    private readonly maxHeaderBytes: number,
    private readonly maxHeaderCount: number,
    private readonly trustIdentityHeaders: boolean,
  ) {}

  begin(headers: HeaderList): void {
    this.failure = null
    this.bodyLength = 0
    this.hostHeader = ''
    this.sawForwarded = false
    this.expectsContinue = false
    this.closes = false
    this.upgrade = ''
    this.connectionNames = null
    this.hosts = 0
    this.contentLengths = 0
    this.transferEncodings = 0
    this.authorizations = 0
    this.bytes = 0
    this.fields = 0
    this.headers = headers
  }

  /** One header line; `name` is lower-case. Lines that must not pass are kept back here. Bound once: the binding calls it per line. */
  readonly line = (name: string, value: string): void => {
    this.bytes += name.length + value.length + 4
    this.fields++
    switch (name.length) {
      case 0:
        this.failure = failures.BAD_HEADER
        return
      case 2:
        if (name === 'te') return
        break
      case 4:
        if (name === 'host') {
          this.hosts++
          this.hostHeader = value
          return
        }
        break
      case 6:
        if (name === 'expect') {
          if (value.toLowerCase() !== '100-continue') this.failure ??= failures.EXPECTATION_FAILED
          this.expectsContinue = true
          return
        }
        break
      case 7:
        if (name === 'upgrade') {
          this.upgrade = value
          return
        }
        if (name === 'trailer') return
        break
      case 9:
        if (name === 'forwarded') return
        if (name === 'x-real-ip') this.sawForwarded = true
        break
      case 10:
        if (name === 'connection') {
          this.connection(value)
          return
        }
        if (name === 'keep-alive') return
        break
      case 13:
        // Two credentials in one request: which one counts depends on who reads them.
        if (name === 'authorization' && ++this.authorizations > 1) this.failure ??= failures.BAD_HEADER
        break
      case 14:
        if (name === 'content-length') {
          this.contentLength(value)
          return
        }
        break
      case 15:
        if (name === 'x-forwarded-for') this.sawForwarded = true
        break
      case 16:
        if (name === 'proxy-connection') return
        if (name === 'x-forwarded-host' || name === 'x-forwarded-port') this.sawForwarded = true
        break
      case 17:
        if (name === 'transfer-encoding') {
          this.transferEncodings++
          if (CHUNKED.test(value)) this.bodyLength = -1
          else this.failure ??= failures.BAD_FRAMING
          return
        }
        if (name === 'x-forwarded-proto') this.sawForwarded = true
        break
    }
    // Bytes that are no UTF-8 were replaced by the binding: what would be passed on is not what was sent. (On the usual one-byte
    // string this search ends at once.)
    if (value.includes('\ufffd') || value.includes('\x7f')) this.failure ??= failures.BAD_HEADER
    // Identity headers begin with `x-` in every spelling that matters; `_` counts as `-`.
    if (!this.trustIdentityHeaders && name.charCodeAt(0) === 120 /* x */ && isIdentityHeader(name)) return
    this.headers?.push(name, name, value)
  }

  /** Decides after the last line. Removes the fields that `Connection` names. */
  finish(): Failure | null {
    if (this.failure !== null) return this.failure
    if (this.bytes > this.maxHeaderBytes || this.fields > this.maxHeaderCount) return failures.HEADERS_TOO_LARGE
    if (this.hosts !== 1) return failures.BAD_HOST
    if (this.hostHeader !== this.lastGoodHost) {
      if (!isHost(this.hostHeader)) return failures.BAD_HOST
      this.lastGoodHost = this.hostHeader
    }
    if (this.contentLengths > 1 || this.transferEncodings > 1) return failures.BAD_FRAMING
    if (this.contentLengths === 1 && this.transferEncodings === 1) return failures.BAD_FRAMING
    if (this.connectionNames !== null) this.dropConnectionNames(this.connectionNames)
    this.headers?.allChecked()
    return null
  }

  private contentLength(value: string): void {
    this.contentLengths++
    let length = 0
    if (value.length === 0 || value.length > CONTENT_LENGTH_MAX_DIGITS) {
      this.failure ??= failures.BAD_FRAMING
      return
    }
    for (let index = 0; index < value.length; index++) {
      const digit = value.charCodeAt(index) - 48
      if (digit < 0 || digit > 9) {
        this.failure ??= failures.BAD_FRAMING
        return
      }
      length = length * 10 + digit
    }
    if (this.transferEncodings === 0) this.bodyLength = length
  }

  private connection(value: string): void {
    if (value === 'keep-alive' || value === 'Keep-Alive') return
    for (const item of value.split(',')) {
      const name = item.trim().toLowerCase()
      if (name === 'close') this.closes = true
      if (name === '' || name === 'keep-alive' || name === 'close') continue
      this.connectionNames ??= []
      this.connectionNames.push(name)
    }
  }

  private dropConnectionNames(names: readonly string[]): void {
    for (const name of names) this.headers?.remove(name)
  }
}

/** host [ ":" port ] of RFC 3986 without user information: what may stand in Host and decide a route. */
export function isHost(host: string): boolean {
  const length = host.length
  if (length === 0 || length > 260) return false
  let index = 0
  if (host.charCodeAt(0) === 91 /* [ */) {
    index = host.indexOf(']')
    if (index < 3) return false
    for (let position = 1; position < index; position++) {
      const code = host.charCodeAt(position)
      const isHex = (code >= 48 && code <= 57) || (code >= 65 && code <= 70) || (code >= 97 && code <= 102)
      if (!isHex && code !== 58 && code !== 46) return false
    }
    index++
  } else {
    for (; index < length; index++) {
      const code = host.charCodeAt(index)
      if (code === 58) break
      if (!isRegNameByte(code)) return false
    }
    if (index === 0) return false
  }
  if (index === length) return true
  if (host.charCodeAt(index) !== 58) return false
  const digits = length - index - 1
  if (digits < 1 || digits > 5) return false
  let port = 0
  for (let position = index + 1; position < length; position++) {
    const digit = host.charCodeAt(position) - 48
    if (digit < 0 || digit > 9) return false
    port = port * 10 + digit
  }
  return port > 0 && port <= 65535
}

function isRegNameByte(code: number): boolean {
  return (
    (code >= 97 && code <= 122) ||
    (code >= 65 && code <= 90) ||
    (code >= 48 && code <= 57) ||
    code === 45 /* - */ ||
    code === 46 /* . */ ||
    code === 95 /* _ */ ||
    code === 126 /* ~ */
  )
}
