/** Requests as a strict reading of RFC 9112 sees them, incrementally. */
import { ByteQueue } from './byte-queue.js'
import type { Field, Reading } from './strict-fields.js'
import { framingOf, isToken, Refusal, readChunked, readFields, readLength, readLine, valuesOf } from './strict-fields.js'

export interface StrictRequest {
  readonly method: string
  readonly target: string
  readonly version: '1.0' | '1.1'
  readonly fields: readonly Field[]
  readonly framing: 'chunked' | number | null
  /** Body bytes so far, without chunk framing. */
  readonly body: Buffer[]
  bodyBytes: number
  trailers: readonly Field[]
  /** The last byte of the message has arrived. */
  complete: boolean
}

export interface StrictRequestEvents {
  /** The header section of a request was read. */
  onHead?(request: StrictRequest): void
  /** The whole request was read. */
  onComplete?(request: StrictRequest): void
}

/** Body bytes kept of one request; later bytes are counted only. */
const KEPT_BODY_BYTES = 64 * 1024 * 1024

const REQUEST_LINE = /^(\S+) (\S+) HTTP\/(\d)\.(\d)$/
const AUTHORITY = /^(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z\-._~!$&'()*+,;=%]+)(?::([0-9]{1,5}))?$/
/** Visible ASCII without `#`; characters that RFC 3986 excludes but everybody forwards are not a framing matter. */
const TARGET = /^[\x21\x22\x24-\x7e]+$/

export class StrictRequestReader {
  readonly requests: StrictRequest[] = []
  /** Why the bytes after the last request are refused; null = they are not. */
  problem: string | null = null
  private readonly queue = new ByteQueue()
  private readonly reading: Reading<void>

  constructor(private readonly events: StrictRequestEvents = {}) {
    this.reading = this.readAll()
  }

  /** Takes the next bytes of the connection. After a problem they are ignored: nothing behind it can be read. */
  push(bytes: Uint8Array): void {
    if (this.problem !== null) return
    this.queue.push(bytes)
    try {
      this.reading.next()
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      this.problem = error.message
    }
  }

  /** Bytes that belong to no request yet. */
  get unread(): string {
    return this.queue.peek()
  }

  private *readAll(): Reading<void> {
    for (;;) yield* this.readOne()
  }

  private *readOne(): Reading<void> {
    const line = yield* readLine(this.queue, 'the request line')
    const { method, target, version } = requestLine(line)
    const fields = yield* readFields(this.queue, 'header')
    checkHost(fields, version)
    const framing = framingOf(fields, version)
    const request: StrictRequest = { method, target, version, fields, framing, body: [], bodyBytes: 0, trailers: [], complete: false }
    this.requests.push(request)
    this.events.onHead?.(request)
    const keep = (bytes: Buffer): void => {
      if (request.bodyBytes + bytes.length <= KEPT_BODY_BYTES) request.body.push(Buffer.from(bytes))
      request.bodyBytes += bytes.length
    }
    if (framing === 'chunked') request.trailers = yield* readChunked(this.queue, keep)
    else if (framing !== null) yield* readLength(this.queue, framing, keep)
    request.complete = true
    this.events.onComplete?.(request)
  }
}

/** What a strict reading makes of these bytes of one connection. */
export function readRequests(bytes: Uint8Array): StrictRequestReader {
  const reader = new StrictRequestReader()
  reader.push(bytes)
  return reader
}

function requestLine(line: string): { method: string; target: string; version: '1.0' | '1.1' } {
  const match = REQUEST_LINE.exec(line)
  if (match === null) throw new Refusal(`request line ${JSON.stringify(line.slice(0, 80))}`)
  const [, method = '', target = '', major, minor] = match
  if (!isToken(method)) throw new Refusal(`method ${JSON.stringify(method)} is not a token`)
  if (major !== '1' || (minor !== '0' && minor !== '1')) throw new Refusal(`version HTTP/${major}.${minor}`)
  checkTarget(method, target)
  return { method, target, version: minor === '0' ? '1.0' : '1.1' }
}

function checkTarget(method: string, target: string): void {
  if (!TARGET.test(target)) throw new Refusal(`request target ${JSON.stringify(target.slice(0, 80))} has a byte that no target may have`)
  if (method === 'CONNECT') {
    if (!AUTHORITY.test(target) || !/:[0-9]+$/.test(target)) throw new Refusal('CONNECT needs host:port as its target')
    return
  }
  if (target.startsWith('/')) return
  if (target === '*' && method === 'OPTIONS') return
  const absolute = /^https?:\/\/([^/?]*)/i.exec(target)
  if (absolute === null || !isAuthority(absolute[1] ?? '')) throw new Refusal(`request target ${JSON.stringify(target.slice(0, 80))}`)
}

function checkHost(fields: readonly Field[], version: '1.0' | '1.1'): void {
  const hosts = valuesOf(fields, 'host')
  if (hosts.length > 1) throw new Refusal('repeated Host')
  const host = hosts[0]
  if (host === undefined) {
    if (version === '1.1') throw new Refusal('missing Host')
    return
  }
  if (!isAuthority(host)) throw new Refusal(`Host is ${JSON.stringify(host)}`)
}

/** Who the request is for: the authority of an absolute target, else Host; lower case, empty when there is none. */
export function authorityOf(request: StrictRequest): string {
  const absolute = /^https?:\/\/([^/?]*)/i.exec(request.target)?.[1]
  return (absolute ?? valuesOf(request.fields, 'host')[0] ?? '').toLowerCase()
}

/** The target without scheme and authority. */
export function originFormOf(request: StrictRequest): string {
  const rest = request.target.replace(/^https?:\/\/[^/?]*/i, '')
  return rest.startsWith('/') || rest === '*' || request.method === 'CONNECT' ? rest : `/${rest}`
}

function isAuthority(text: string): boolean {
  const match = AUTHORITY.exec(text)
  return match !== null && (match[1] === undefined || Number(match[1]) <= 65535)
}
