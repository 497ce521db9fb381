/**
 * The grammar that requests and responses share (RFC 9110 §5, RFC 9112 §2 and §5-§7), read strictly: what a recipient may repair is
 * refused here, because two recipients repair differently. Independent of the gateway's own guard on purpose: the doctor judges the
 * guard with it.
 */
import type { ByteQueue } from './byte-queue.js'

export interface Field {
  readonly name: string
  readonly value: string
}

/** What a reader throws at bytes that a strict reading refuses. */
export class Refusal extends Error {
  override readonly name = 'Refusal'
}

/** A reader asks for more bytes by yielding. */
export type Reading<Result> = Generator<undefined, Result, undefined>

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
const FIELD_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/
const CHUNK_SIZE = /^0*([0-9A-Fa-f]{1,13})((?:;[\t\x20-\x7e\x80-\xff]*)?)$/

export function isToken(text: string): boolean {
  return TOKEN.test(text)
}

/** One line without its CRLF. A bare LF, a bare CR and a NUL are refused. */
export function* readLine(queue: ByteQueue, what: string): Reading<string> {
  let line = queue.takeLine()
  while (line === undefined) {
    yield
    line = queue.takeLine()
  }
  if (!line.endsWith('\r\n')) throw new Refusal(`${what} ends with a bare LF`)
  const text = line.slice(0, -2)
  if (text.includes('\r')) throw new Refusal(`${what} contains a bare CR`)
  if (text.includes('\0')) throw new Refusal(`${what} contains a NUL`)
  return text
}

/** Fields up to the empty line (a header section or a trailer section). */
export function* readFields(queue: ByteQueue, what: string): Reading<Field[]> {
  const fields: Field[] = []
  for (;;) {
    const line = yield* readLine(queue, `a ${what} field`)
    if (line === '') return fields
    if (line.startsWith(' ') || line.startsWith('\t')) throw new Refusal('obsolete line folding')
    const colon = line.indexOf(':')
    if (colon < 0) throw new Refusal(`a ${what} line without a colon`)
    const name = line.slice(0, colon)
    if (!isToken(name)) throw new Refusal(`${what} field name ${JSON.stringify(name)} is not a token`)
    const value = line.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, '')
    if (!FIELD_VALUE.test(value)) throw new Refusal(`the value of ${name} contains a control byte`)
    fields.push({ name, value })
  }
}

/** All values of one field; `name` in lower case. */
export function valuesOf(fields: readonly Field[], name: string): string[] {
  return fields.filter((field) => field.name.toLowerCase() === name).map((field) => field.value)
}

/** `chunked`, a length in bytes, or null when the message says nothing about its body. */
export function framingOf(fields: readonly Field[], version: string): 'chunked' | number | null {
  const lengths = valuesOf(fields, 'content-length')
  const codings = valuesOf(fields, 'transfer-encoding')
  if (codings.length > 0) {
    if (lengths.length > 0) throw new Refusal('Content-Length together with Transfer-Encoding')
    if (version === '1.0') throw new Refusal('Transfer-Encoding in an HTTP/1.0 message')
    if (codings.length > 1 || codings[0]?.toLowerCase() !== 'chunked') {
      throw new Refusal(`Transfer-Encoding is ${JSON.stringify(codings.join(', '))}, not exactly "chunked"`)
    }
    return 'chunked'
  }
  if (lengths.length === 0) return null
  const text = lengths[0] ?? ''
  if (lengths.length > 1) throw new Refusal('repeated Content-Length')
  if (!/^0*[0-9]{1,15}$/.test(text)) throw new Refusal(`Content-Length is ${JSON.stringify(text)}`)
  return Number(text)
}

/** Exactly `length` bytes, handed over as they come. */
export function* readLength(queue: ByteQueue, length: number, onBytes: (bytes: Buffer) => void): Reading<void> {
  let left = length
  while (left > 0) {
    if (queue.length === 0) {
      yield
      continue
    }
    const bytes = queue.take(left)
    left -= bytes.length
    onBytes(bytes)
  }
}

/** A chunked body; returns its trailer fields. */
export function* readChunked(queue: ByteQueue, onBytes: (bytes: Buffer) => void): Reading<Field[]> {
  for (;;) {
    const line = yield* readLine(queue, 'a chunk size line')
    const match = CHUNK_SIZE.exec(line)
    if (match === null) throw new Refusal(`chunk size line ${JSON.stringify(line.slice(0, 40))}`)
    const size = Number.parseInt(match[1] ?? '', 16)
    if (size === 0) return yield* readFields(queue, 'trailer')
    yield* readLength(queue, size, onBytes)
    const end = yield* readLine(queue, 'the end of a chunk')
    if (end !== '') throw new Refusal('a chunk is longer than its size says')
  }
}
