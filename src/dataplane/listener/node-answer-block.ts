/** Takes a block for `writeStatus` apart into what node:http and node:http2 want. */
import type { Bytes } from './binding.js'

export interface AnswerHead {
  readonly status: number
  readonly reason: string
  /** Names and values in turn, in order, repeated fields repeated; one character per byte. */
  readonly fields: string[]
}

/** Reads `200 OK CRLF name: value CRLF name: value`. The writer and the response parser have checked every byte of it. */
export function readAnswerBlock(block: Bytes): AnswerHead {
  const text = typeof block === 'string' ? block : latin1(block)
  const [first = '', ...lines] = text.split('\r\n')
  const fields: string[] = []
  for (const line of lines) {
    const colon = line.indexOf(':')
    fields.push(line.slice(0, colon), withoutBlanks(line.slice(colon + 1)))
  }
  return { status: Number(first.slice(0, 3)), reason: first.slice(4), fields }
}

/** Copies: who lent the bytes takes them back after the call, and Node sends them later. */
export function copyOf(bytes: Bytes): Buffer {
  if (typeof bytes === 'string') return Buffer.from(bytes)
  return bytes instanceof ArrayBuffer ? Buffer.from(new Uint8Array(bytes)) : Buffer.from(bytes)
}

export function latin1(bytes: Bytes): string {
  if (typeof bytes === 'string') return bytes
  const view = bytes instanceof ArrayBuffer ? Buffer.from(bytes) : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return view.toString('latin1')
}

/** Not `trim()`: that also takes the byte A0, which is part of the value. */
function withoutBlanks(text: string): string {
  return text.replace(/^[ \t]+|[ \t]+$/g, '')
}
