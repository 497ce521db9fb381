/**
 * Strict parser for the head of a client's HTTP/1 request (RFC 9112 §2, §3, §5, §6.3), for listeners of kind `tcp`.
 *
 * Works on bytes and never forgives: a bare LF or CR, blanks before a colon, folded lines, control bytes, empty lines in front of the
 * request line, any Transfer-Encoding but one `chunked`, more than one length. What it refuses ends the connection, because nobody knows
 * where the next request would begin. What is left to judge (Host, limits, duplicates of other fields) is the guard's.
 *
 * Clients repeat themselves, so each line is first compared with the line at the same place of the request before: it then costs no new
 * string, and a request that is the same byte for byte is the same object.
 */
import { isPlainByte, isPlainWord, sameWords, wordsOf } from '../../base/byte-words.js'
import { type Failure, failures } from '../../base/errors.js'
import { type FieldName, FieldNames, hostName, lowerToken, Role } from './field-names.js'
import { isChunked, lengthOf, Persistence, persistenceOf } from './field-values.js'
import { splitAbsoluteTarget } from './node-request.js'
import { HeadLines, ParsedRequest } from './parsed-request.js'

const CR = 13
const LF = 10
const SPACE = 32
const TAB = 9
const COLON = 58
const SLASH = 47
const METHOD_MAX = 64
/** Heads up to this length are remembered. */
const REMEMBERED_BYTES = 8_192

/** From this length on a value is looked at four bytes at a time. */
const LONG_VALUE = 64

/** What `parse` returns while the head is not complete. */
export const INCOMPLETE = -1

export class RequestParser {
  /** What `parse` read last. */
  request = ParsedRequest.refused(failures.BAD_FRAMING)
  private readonly fieldNames = new FieldNames()

  // The head before: its bytes, and what its lines said.
  private readonly lastBytes = Buffer.allocUnsafeSlow(REMEMBERED_BYTES)
  private lastLength = 0
  private lastRequest = this.request
  private last = new HeadLines()
  private lastMethod = ''
  private lastTarget = ''
  private lastIsHttp10 = false
  /** The next one's, until that has become the last. */
  private lines = new HeadLines()
  /** A target and its parts. */
  private splitTarget = ''
  private path = ''
  private query = ''

  // The one at hand.
  private method = ''
  private target = ''
  private isHttp10 = false
  private failure: Failure | null = null
  private name = hostName
  private value = ''
  private valueStart = 0
  private hasHighBytes = false

  /** Four bytes at a time: a third of the time that single ones take. */
  private readonly lastWords = wordsOf(this.lastBytes)
  private readonly readWords: Int32Array

  /**
   * `local`: `host:port` that stands in for the Host that HTTP/1.0 need not send. `readBuffer`: where most heads will lie, at its start; its
   * memory begins at a multiple of four bytes.
   */
  constructor(
    private readonly local: () => string,
    private readonly readBuffer: Buffer,
  ) {
    this.readWords = wordsOf(readBuffer)
  }

  /**
   * Reads a head at `start`. Returns the index behind its empty line, with `request` being what it says, or `INCOMPLETE`. For a head
   * that is refused, `request.failure` says why, and the index means nothing.
   */
  parse(bytes: Buffer, start: number, end: number): number {
    this.failure = null
    this.hasHighBytes = false
    const { lastBytes, lastLength } = this
    const most = Math.min(lastLength, end - start)
    let same = start === 0 && bytes === this.readBuffer ? sameWords(this.readWords, this.lastWords, most >> 2) << 2 : 0
    while (same < most && bytes[start + same] === lastBytes[same]) same++
    // Nothing in front of its end can be the end of a head: that is where the parser stopped before.
    if (same === lastLength && same > 0) {
      this.request = this.lastRequest
      return start + same
    }
    return this.parseNew(bytes, start, end, same)
  }

  /** A head that has `same` bytes in common with the one before. */
  private parseNew(bytes: Buffer, start: number, end: number, same: number): number {
    const { lastBytes, last, lines } = this
    const known = last.count
    let line = 0
    while (line < known && (last.ends[line] as number) <= same) line++
    let position: number
    if (line > 0) {
      // The request line and so many fields behind it are those of before.
      position = start + (last.ends[line - 1] as number)
      this.method = this.lastMethod
      this.target = this.lastTarget
      this.isHttp10 = this.lastIsHttp10
      lines.beginAs(last, line)
    } else {
      position = this.requestLine(bytes, start, end)
      if (position < 0) return this.stop(position)
      line = 1
      lines.begin(position - start)
    }
    for (;;) {
      if (position + 1 >= end) return this.lineBegins(bytes, position, end) ? INCOMPLETE : this.refuse()
      if (bytes[position] === CR) {
        if (bytes[position + 1] !== LF) return this.refuse()
        position += 2
        break
      }
      const lineStart = line < known ? (last.ends[line - 1] as number) : 0
      const lineEnd = line < known ? (last.ends[line] as number) : 0
      if (lineEnd > 0 && startsAs(bytes, position, end, lastBytes, lineStart, lineEnd)) {
        const valueStart = (last.valueStarts[line] as number) - lineStart + position - start
        position += lineEnd - lineStart
        lines.add(last.names[line] as FieldName, last.values[line] as string, valueStart, position - start)
      } else {
        const valueStart = lineEnd > 0 ? (last.valueStarts[line] as number) : 0
        let next: number
        // Up to where the value of before ends: its CRLF is looked at again.
        const from = Math.min(same, lineEnd - 2)
        if (lineStart <= same && valueStart > lineStart && valueStart < from) {
          // The same field, and its value begins in the same way: a token of the same issuer, as a rule.
          this.name = last.names[line] as FieldName
          next = this.readValue(bytes, start + valueStart, start + from, end)
        } else next = this.fieldLine(bytes, position, end)
        if (next < 0) return this.stop(next)
        position = next
        lines.add(this.name, this.value, this.valueStart - start, position - start)
      }
      line++
    }
    const request = this.assemble(lines)
    this.request = request
    if (request.failure === null && !this.hasHighBytes && position - start <= REMEMBERED_BYTES) {
      this.remember(bytes, start, position, same)
      this.lines = last
      this.last = lines
      this.lastMethod = this.method
      this.lastTarget = this.target
      this.lastIsHttp10 = this.isHttp10
      this.lastRequest = request
    }
    return position
  }

  /** Keeps the bytes of a head, of which so many are there already. */
  private remember(bytes: Buffer, start: number, end: number, same: number): void {
    this.lastLength = end - start
    if (start !== 0 || bytes !== this.readBuffer) {
      bytes.copy(this.lastBytes, 0, start, end)
      return
    }
    const { readWords, lastWords, lastBytes } = this
    const whole = end >> 2
    for (let index = same >> 2; index < whole; index++) lastWords[index] = readWords[index] as number
    for (let index = whole << 2; index < end; index++) lastBytes[index] = bytes[index] as number
  }

  /** Whether the last byte there is, if there is one, can be the first of a field or of the end. */
  private lineBegins(bytes: Buffer, position: number, end: number): boolean {
    return position >= end || bytes[position] === CR || lowerToken[bytes[position] as number] !== 0
  }

  /** The index behind the request line; INCOMPLETE, or REFUSED with `failure`. */
  private requestLine(bytes: Buffer, start: number, end: number): number {
    let position = start
    while (position < end && lowerToken[bytes[position] as number] !== 0) position++
    const methodEnd = position
    if (methodEnd - start > METHOD_MAX) return this.fail(failures.BAD_FRAMING)
    if (position === end) return INCOMPLETE
    if (methodEnd === start || bytes[position] !== SPACE) return this.fail(failures.BAD_FRAMING)
    position++
    const targetStart = position
    while (position < end) {
      const byte = bytes[position] as number
      if (byte <= SPACE || byte === 127) break
      position++
    }
    if (position === end) return INCOMPLETE
    if (position === targetStart) return this.fail(failures.BAD_FRAMING)
    const targetEnd = position
    if (bytes[position] !== SPACE) return this.fail(bytes[position] === CR ? failures.BAD_FRAMING : failures.BAD_TARGET)
    // SP HTTP/1.1 CR LF
    if (position + 11 > end) return mayBeVersion(bytes, position + 1, end) ? INCOMPLETE : this.fail(failures.BAD_FRAMING)
    if (!mayBeVersion(bytes, position + 1, position + 11)) return this.fail(failures.BAD_FRAMING)
    const minor = (bytes[position + 8] as number) - 48
    if (bytes[position + 6] !== 49 /* 1 */ || minor > 1) {
      this.method = bytes.toString('latin1', start, methodEnd)
      return this.fail(failures.HTTP_VERSION_NOT_SUPPORTED)
    }
    this.isHttp10 = minor === 0
    const isGet = methodEnd - start === 3 && bytes[start] === 71 && bytes[start + 1] === 69 && bytes[start + 2] === 84
    this.method = isGet ? 'GET' : bytes.toString('latin1', start, methodEnd)
    this.target = bytes.toString('latin1', targetStart, targetEnd)
    return position + 11
  }

  /** Reads one line; the index behind it, INCOMPLETE, or REFUSED with `failure`. */
  private fieldLine(bytes: Buffer, start: number, end: number): number {
    let position = start
    let hash = 0
    let lower = 0
    while (position < end) {
      lower = lowerToken[bytes[position] as number] as number
      if (lower === 0) break
      hash = (Math.imul(hash, 31) + lower) | 0
      position++
    }
    if (position === end) return INCOMPLETE
    const nameEnd = position
    if (nameEnd === start || bytes[position] !== COLON) return this.fail(failures.BAD_HEADER)
    position++
    while (position < end && (bytes[position] === SPACE || bytes[position] === TAB)) position++
    const next = this.readValue(bytes, position, position, end)
    if (next >= 0) this.name = this.fieldNames.at(bytes, start, nameEnd, hash)
    return next
  }

  /** The index behind bytes, from `from` on, that are plain for sure: at least none, and as a rule all of a long value but its end. */
  private skipPlain(bytes: Buffer, from: number, end: number): number {
    if (bytes !== this.readBuffer || end - from < LONG_VALUE) return from
    let position = from
    while ((position & 3) !== 0) {
      if (!isPlainByte(bytes[position] as number)) return position
      position++
    }
    const words = this.readWords
    const last = end >> 2
    let index = position >> 2
    while (index < last && isPlainWord(words[index] as number)) index++
    return index << 2
  }

  /** Runs over a value, of which [start, from) is known to have nothing unusual, up to its CRLF. */
  private readValue(bytes: Buffer, start: number, from: number, end: number): number {
    let position = this.skipPlain(bytes, from, end)
    let bits = 0
    let byte = 0
    while (position < end) {
      byte = bytes[position] as number
      if (byte < SPACE ? byte !== TAB : byte === 127) break
      bits |= byte
      position++
    }
    if (position === end) return INCOMPLETE
    if (byte !== CR) return this.fail(failures.BAD_HEADER)
    if (position + 1 === end) return INCOMPLETE
    if (bytes[position + 1] !== LF) return this.fail(failures.BAD_HEADER)
    let last = position
    while (last > start && (bytes[last - 1] === SPACE || bytes[last - 1] === TAB)) last--
    // Bytes that are not ASCII leave no head behind that others are compared with.
    if (bits > 127) this.hasHighBytes = true
    this.valueStart = start
    this.value = last === start ? '' : bytes.toString(bits > 127 ? 'utf8' : 'latin1', start, last)
    return position + 2
  }

  /** Judges what decides framing, and makes the request. */
  private assemble(lines: HeadLines): ParsedRequest {
    const { names, values, count } = lines
    let lengths = 0
    let codings = 0
    let bodyLength = 0
    let persistence = Persistence.Default
    let host = 0
    let expectsContinue = false
    let failure: Failure | null = null
    for (let line = 1; line < count; line++) {
      const { role } = names[line] as FieldName
      if (role === Role.None) continue
      const value = values[line] as string
      switch (role) {
        case Role.ContentLength:
          lengths++
          bodyLength = lengthOf(value)
          if (bodyLength < 0) failure = failures.BAD_FRAMING
          break
        case Role.TransferEncoding:
          codings++
          if (!isChunked(value) || this.isHttp10) failure = failures.BAD_FRAMING
          break
        case Role.Connection:
          persistence = Math.max(persistence, value === 'keep-alive' ? Persistence.KeepAlive : persistenceOf(value))
          break
        case Role.Host:
          host = line
          break
        case Role.Expect:
          expectsContinue = !this.isHttp10
          break
      }
    }
    if (lengths + codings > 1) failure = failures.BAD_FRAMING
    if (codings === 1) bodyLength = -1
    let authority = ''
    if (this.target.charCodeAt(0) === SLASH) this.split(this.target)
    else {
      const absolute = splitAbsoluteTarget(this.method, this.target)
      authority = absolute?.authority ?? ''
      // RFC 9112 §3.2.2: the authority decides. A Host that says something else is an attempt to be read in two ways.
      if (absolute !== null && host > 0 && values[host]?.toLowerCase() !== authority.toLowerCase()) failure ??= failures.BAD_HOST
      this.split(absolute?.target ?? this.target)
    }
    let fieldLines = count
    if (this.isHttp10 && host === 0) {
      // Not a line of the head: nothing is compared with it.
      names[count] = hostName
      values[count] = authority === '' ? this.local() : authority
      fieldLines++
    }
    const keepsAlive = persistence === Persistence.Default ? !this.isHttp10 : persistence === Persistence.KeepAlive
    const body = failure === null ? bodyLength : 0
    const { method, path, query, isHttp10 } = this
    return new ParsedRequest(method, path, query, lines, fieldLines, failure, body, keepsAlive, isHttp10, expectsContinue)
  }

  /** Divides a target into path and query; most often it is the one before. */
  private split(target: string): void {
    if (target === this.splitTarget) return
    this.splitTarget = target
    const mark = target.indexOf('?')
    this.path = mark < 0 ? target : target.slice(0, mark)
    this.query = mark < 0 ? '' : target.slice(mark + 1)
  }

  private fail(failure: Failure): number {
    this.failure = failure
    return REFUSED
  }

  /** A line that begins with what begins no field. */
  private refuse(): number {
    return this.stop(this.fail(failures.BAD_HEADER))
  }

  private stop(result: number): number {
    if (result === INCOMPLETE || this.failure === null) return INCOMPLETE
    this.request = ParsedRequest.refused(this.failure)
    return 0
  }
}

const REFUSED = -2

/** Whether [start, end) of `bytes` begins with [knownStart, knownEnd) of `known`. */
function startsAs(bytes: Buffer, start: number, end: number, known: Buffer, knownStart: number, knownEnd: number): boolean {
  if (end - start < knownEnd - knownStart) return false
  let position = start
  for (let index = knownStart; index < knownEnd; index++, position++) if (bytes[position] !== known[index]) return false
  return true
}

const VERSION = 'HTTP/0.0\r\n'

/** Whether the bytes are, as far as they go, `HTTP/` digit `.` digit CR LF. */
function mayBeVersion(bytes: Buffer, start: number, end: number): boolean {
  for (let index = 0; start + index < end; index++) {
    const byte = bytes[start + index] as number
    const wanted = VERSION.charCodeAt(index)
    if (wanted === 48 ? byte < 48 || byte > 57 : byte !== wanted) return false
  }
  return true
}
