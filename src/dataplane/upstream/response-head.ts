/**
 * Strict parser for the head of an upstream's HTTP/1.1 response (RFC 9112 §4, §5, §6.3).
 *
 * Works on bytes. What survives of the header block (everything but framing, hop-by-hop fields and Date, which the binding writes) is
 * kept as one run of bytes that goes to the client in one native call. Anything odd is refused: the connection is then closed.
 */
import { HeaderList } from '../../base/headers.js'
import type { NumberFields } from '../../base/number-fields.js'

export enum Framing {
  /** `contentLength` bytes follow. */
  Length = 0,
  Chunked = 1,
  /** Until the upstream closes. */
  Close = 2,
}

export interface ResponseHead {
  readonly status: number
  readonly framing: Framing
  /** -1 = not given. */
  readonly contentLength: number
  /** The upstream will keep the connection. */
  readonly keepAlive: boolean
  /** `200 OK CRLF name: value CRLF name: value`, without a last CRLF: what `writeStatus` takes. */
  readonly block: Uint8Array
  /** The same bytes as received, from the status line to the empty line. */
  readonly raw: Uint8Array
  /** Kept by `textOfHead` and `lacksField`. */
  text: string | null | undefined
  lowerText: string | null | undefined
  /** Names that `lacksField` did not find in it. */
  readonly absent: string[]
  /** The last group of fields of which `lacksFields` found none in it. */
  absentGroup: NumberFields | null
}

const CR = 13
const LF = 10
const COLON = 58
const SPACE = 32
const TAB = 9
const DROPPED = -1

/** RFC 9110 §5.6.2 token bytes. */
export const isTokenByte = new Uint8Array(256)
for (const char of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") isTokenByte[char.charCodeAt(0)] = 1

/** Index behind CRLF CRLF, or -1 when the block is not complete in [start, end). */
export function findHeadEnd(bytes: Buffer, start: number, end: number): number {
  const index = bytes.indexOf('\r\n\r\n', start, 'latin1')
  return index === -1 || index + 4 > end ? -1 : index + 4
}

const PROTOCOL = 'HTTP/1.'

/** True while the bytes so far can be the beginning of a status line. */
export function mayBeHead(bytes: Buffer, start: number, end: number): boolean {
  const length = Math.min(end - start, PROTOCOL.length)
  for (let index = 0; index < length; index++) if (bytes[start + index] !== PROTOCOL.charCodeAt(index)) return false
  return true
}

/**
 * Parses the head in [start, end), `end` being behind the empty line. Returns a text that says what is wrong instead of a head.
 * The result holds copies: it outlives the buffer.
 */
export function parseResponseHead(bytes: Buffer, start: number, end: number): ResponseHead | string {
  if (end - start < 16) return 'status line too short'
  if (bytes.toString('latin1', start, start + 7) !== 'HTTP/1.') return 'not an HTTP/1 status line'
  const minor = (bytes[start + 7] as number) - 48
  if (minor !== 1 && minor !== 0) return 'unknown HTTP version'
  if (bytes[start + 8] !== SPACE) return 'malformed status line'
  let status = 0
  for (let index = start + 9; index < start + 12; index++) {
    const digit = (bytes[index] as number) - 48
    if (digit < 0 || digit > 9) return 'malformed status code'
    status = status * 10 + digit
  }
  if (status < 100 || status > 599) return 'status code out of range'
  const lineEnd = endOfLine(bytes, start + 12, end)
  if (lineEnd < 0) return 'control byte in the status line'
  if (lineEnd !== start + 12 && bytes[start + 12] !== SPACE) return 'malformed status line'

  let contentLength = -1
  let chunked = false
  let keepAlive = minor === 1
  let closes = false
  let named: string[] | null = null
  // Kept ranges of whole lines (with their CRLF), merged when adjacent.
  const ranges: number[] = []
  let position = lineEnd + 2
  while (position < end - 2) {
    const nameStart = position
    while (isTokenByte[bytes[position] as number] === 1) position++
    const nameLength = position - nameStart
    if (nameLength === 0 || bytes[position] !== COLON) return 'malformed header name'
    const valueEnd = endOfLine(bytes, position + 1, end)
    if (valueEnd < 0) return 'control byte in a header value'
    const next = valueEnd + 2
    let keep = true
    switch (nameLength) {
      case 2:
        keep = !isName(bytes, nameStart, 'te')
        break
      case 4:
        keep = !isName(bytes, nameStart, 'date')
        break
      case 7:
        keep = !isName(bytes, nameStart, 'upgrade') && !isName(bytes, nameStart, 'trailer')
        break
      case 10:
        if (isName(bytes, nameStart, 'connection')) {
          keep = false
          for (const item of trimmed(bytes, position + 1, valueEnd)
            .toLowerCase()
            .split(',')) {
            const option = withoutBlanks(item)
            if (option === 'close') closes = true
            else if (option === 'keep-alive') keepAlive = true
            else if (option !== '') {
              named ??= []
              named.push(option)
            }
          }
        } else keep = !isName(bytes, nameStart, 'keep-alive')
        break
      case 14:
        if (isName(bytes, nameStart, 'content-length')) {
          keep = false
          if (contentLength !== -1) return 'repeated Content-Length'
          contentLength = parseLength(trimmed(bytes, position + 1, valueEnd))
          if (contentLength < 0) return 'malformed Content-Length'
        }
        break
      case 16:
        keep = !isName(bytes, nameStart, 'proxy-connection')
        break
      case 17:
        if (isName(bytes, nameStart, 'transfer-encoding')) {
          keep = false
          if (chunked || minor === 0 || trimmed(bytes, position + 1, valueEnd).toLowerCase() !== 'chunked') {
            return 'unsupported Transfer-Encoding'
          }
          chunked = true
        }
        break
    }
    if (keep) {
      const last = ranges.length - 1
      if (last > 0 && ranges[last] === nameStart) ranges[last] = next
      else ranges.push(nameStart, next)
    }
    position = next
  }
  if (position !== end - 2) return 'malformed header block'
  if (chunked && contentLength !== -1) return 'Content-Length together with Transfer-Encoding'
  if (named !== null) dropNamed(bytes, ranges, named)

  return {
    status,
    framing: chunked ? Framing.Chunked : contentLength >= 0 ? Framing.Length : Framing.Close,
    contentLength,
    // Without a length the end of the connection is the end of the body (RFC 9112 §6.3).
    keepAlive: keepAlive && !closes,
    block: buildBlock(bytes, start + 9, lineEnd, ranges),
    raw: Buffer.from(bytes.subarray(start, end)),
    text: undefined,
    lowerText: undefined,
    absent: [],
    absentGroup: null,
  }
}

/** Fills a header list from a head's raw bytes, without the fields that `block` leaves out. */
export function fillHeaderList(head: ResponseHead, list: HeaderList): void {
  const text = Buffer.from(head.block.buffer, head.block.byteOffset, head.block.byteLength).toString('latin1')
  let position = text.indexOf('\r\n')
  while (position !== -1) {
    const nameStart = position + 2
    const colon = text.indexOf(':', nameStart)
    let lineEnd = text.indexOf('\r\n', colon)
    if (lineEnd === -1) lineEnd = text.length
    const name = text.slice(nameStart, colon)
    list.push(name.toLowerCase(), name, withoutBlanks(text.slice(colon + 1, lineEnd)))
    position = lineEnd === text.length ? -1 : lineEnd
  }
}

/** First value of a field of the head that `block` keeps; undefined = it has none. `key`: lower-case. */
export function fieldOfHead(head: ResponseHead, key: string): string | undefined {
  const list = new HeaderList()
  fillHeaderList(head, list)
  return list.get(key)
}

/** The block as text, or null when it has bytes beyond ASCII: `writeStatus` would write them as UTF-8. */
export function textOfHead(head: ResponseHead): string | null {
  if (head.text === undefined) {
    const text = Buffer.from(head.block.buffer, head.block.byteOffset, head.block.byteLength).toString('latin1')
    head.text = beyondAscii.test(text) ? null : text
  }
  return head.text
}

/** Names that a head remembers: those of plugins, which are few and the same for each of its answers. */
const ABSENT_MAX = 16

/** Whether a head that is text has no field of this name. `needle` is how one would look in lower case: `\r\n<name>:`. */
export function lacksField(head: ResponseHead, name: string, needle: (name: string) => string): boolean {
  const { absent } = head
  for (let index = 0; index < absent.length; index++) if (absent[index] === name) return true
  if (head.lowerText === undefined) head.lowerText = textOfHead(head)?.toLowerCase() ?? null
  if (head.lowerText === null || head.lowerText.includes(needle(name))) return false
  if (absent.length < ABSENT_MAX) absent.push(name)
  return true
}

/** As `lacksField`, of each of these. */
export function lacksFields(head: ResponseHead, fields: NumberFields, needle: (name: string) => string): boolean {
  if (head.absentGroup === fields) return true
  for (const name of fields.names) if (!lacksField(head, name, needle)) return false
  head.absentGroup = fields
  return true
}

const beyondAscii = /[\u0080-\uffff]/

/** Index of the CR of CRLF, or -1 when another control byte comes first. */
function endOfLine(bytes: Buffer, start: number, end: number): number {
  for (let index = start; index < end - 1; index++) {
    const byte = bytes[index] as number
    if (byte >= SPACE ? byte !== 127 : byte === TAB) continue
    return byte === CR && bytes[index + 1] === LF ? index : DROPPED
  }
  return DROPPED
}

function isName(bytes: Buffer, start: number, lower: string): boolean {
  for (let index = 0; index < lower.length; index++) {
    if (((bytes[start + index] as number) | 0x20) !== lower.charCodeAt(index)) return false
  }
  return true
}

function trimmed(bytes: Buffer, start: number, end: number): string {
  return withoutBlanks(bytes.toString('latin1', start, end))
}

/** Without the optional blanks around a field value. Not `trim()`: that also takes the byte A0, which is part of the value. */
function withoutBlanks(text: string): string {
  let start = 0
  let end = text.length
  while (start < end && isBlank(text.charCodeAt(start))) start++
  while (end > start && isBlank(text.charCodeAt(end - 1))) end--
  return start === 0 && end === text.length ? text : text.slice(start, end)
}

function isBlank(code: number): boolean {
  return code === SPACE || code === TAB
}

function parseLength(text: string): number {
  if (text.length === 0 || text.length > 15) return -1
  let length = 0
  for (let index = 0; index < text.length; index++) {
    const digit = text.charCodeAt(index) - 48
    if (digit < 0 || digit > 9) return -1
    length = length * 10 + digit
  }
  return length
}

/** Takes lines out of the ranges whose names stand in Connection. Rare, so it may be slow. */
function dropNamed(bytes: Buffer, ranges: number[], named: readonly string[]): void {
  const kept: number[] = []
  for (let range = 0; range < ranges.length; range += 2) {
    let position = ranges[range] as number
    const rangeEnd = ranges[range + 1] as number
    while (position < rangeEnd) {
      const next = bytes.indexOf('\r\n', position, 'latin1') + 2
      const name = bytes.toString('latin1', position, bytes.indexOf(':', position, 'latin1')).toLowerCase()
      if (!named.includes(name)) kept.push(position, next)
      position = next
    }
  }
  ranges.length = 0
  ranges.push(...kept)
}

function buildBlock(bytes: Buffer, statusStart: number, statusEnd: number, ranges: readonly number[]): Uint8Array {
  let size = statusEnd - statusStart
  for (let range = 0; range < ranges.length; range += 2) size += (ranges[range + 1] as number) - (ranges[range] as number)
  // Each kept line brings its CRLF; moved in front of it, the block ends without one.
  const block = Buffer.allocUnsafe(size)
  let offset = bytes.copy(block, 0, statusStart, statusEnd)
  for (let range = 0; range < ranges.length; range += 2) {
    block[offset] = CR
    block[offset + 1] = LF
    const length = (ranges[range + 1] as number) - (ranges[range] as number) - 2
    bytes.copy(block, offset + 2, ranges[range] as number, (ranges[range] as number) + length)
    offset += length + 2
  }
  return block
}
