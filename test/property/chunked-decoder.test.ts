/** The decoder of chunked bodies: any split of a valid body gives the same bytes, nothing behind it is read, faults are refused. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ChunkedDecoder } from '../../src/dataplane/upstream/chunked-decoder.js'

const SEED = 20263
const BEHIND = 'HTTP/1.1 200 OK\r\n\r\n'

interface Decoded {
  readonly body: string
  /** Bytes consumed; -1 = refused. */
  readonly consumed: number
  readonly isDone: boolean
}

/** Decodes pieces as reads bring them; each piece lies inside a larger buffer. */
function decode(pieces: readonly Buffer[], decoder = new ChunkedDecoder()): Decoded {
  decoder.reset()
  let body = ''
  let consumed = 0
  for (const piece of pieces) {
    const buffer = Buffer.concat([Buffer.from('0\r\n\r\n5\r\n'), piece, Buffer.from('0\r\n\r\n')])
    const start = 8
    const end = start + piece.length
    const next = decoder.decode(buffer, start, end, (from, to) => {
      expect(from).toBeGreaterThanOrEqual(start)
      expect(to).toBeLessThanOrEqual(end)
      expect(to).toBeGreaterThan(from)
      body += buffer.toString('latin1', from, to)
    })
    if (next === -1) {
      expect(decoder.problem).not.toBe('')
      return { body, consumed: -1, isDone: false }
    }
    consumed += next - start
    if (decoder.isDone) break
    expect(next).toBe(end)
  }
  return { body, consumed, isDone: decoder.isDone }
}

function split(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]
  return places.slice(1).map((end, index) => bytes.subarray(places[index], end))
}

const chunk = fc.record({
  data: fc.uint8Array({ minLength: 1, maxLength: 300 }),
  zeros: fc.constantFrom('', '0', '000'),
  upper: fc.boolean(),
  extension: fc.constantFrom('', '', ';a', ';a=b', ' ; a="\\"x\\""', '\t;q', '  '),
})
const trailer = fc.constantFrom('X-Sum: 1', 'a:', 'Content-Length: 5', 'x:\ty')
const message = fc.tuple(fc.array(chunk, { maxLength: 6 }), fc.array(trailer, { maxLength: 3 }), fc.constantFrom('0', '000', '0;last'))

function encode(
  chunks: readonly { data: Uint8Array; zeros: string; upper: boolean; extension: string }[],
  trailers: readonly string[],
  last: string,
) {
  const parts: Buffer[] = []
  for (const { data, zeros, upper, extension } of chunks) {
    const size = data.length.toString(16)
    parts.push(
      Buffer.from(`${zeros}${upper ? size.toUpperCase() : size}${extension}\r\n`, 'latin1'),
      Buffer.from(data),
      Buffer.from('\r\n'),
    )
  }
  parts.push(Buffer.from(`${last}\r\n${trailers.map((line) => `${line}\r\n`).join('')}\r\n`, 'latin1'))
  return { bytes: Buffer.concat(parts), body: Buffer.concat(chunks.map(({ data }) => Buffer.from(data))).toString('latin1') }
}

test(`any split gives the same bytes and stops at the end (seed ${SEED})`, () => {
  const reused = new ChunkedDecoder()
  fc.assert(
    fc.property(message, fc.array(fc.nat(5000), { maxLength: 8 }), ([chunks, trailers, last], cuts) => {
      const { bytes, body } = encode(chunks, trailers, last)
      const stream = Buffer.concat([bytes, Buffer.from(BEHIND)])
      const expected = { body, consumed: bytes.length, isDone: true }
      expect(decode([stream], reused)).toEqual(expected)
      expect(decode(split(stream, cuts), reused)).toEqual(expected)
    }),
    { seed: SEED, numRuns: 800 },
  )
})

test(`a cut body is never complete (seed ${SEED})`, () => {
  fc.assert(
    fc.property(message, fc.nat(), ([chunks, trailers, last], cut) => {
      const { bytes, body } = encode(chunks, trailers, last)
      const result = decode([bytes.subarray(0, cut % bytes.length)])
      expect(result.isDone).toBe(false)
      expect(result.consumed).toBe(cut % bytes.length)
      expect(body.startsWith(result.body)).toBe(true)
    }),
    { seed: SEED, numRuns: 800 },
  )
})

/** RFC 9112 §7.1 by matching, with the bounds of the decoder. Null = malformed or incomplete. */
function reference(text: string): { readonly body: string; readonly consumed: number } | null {
  let body = ''
  let position = 0
  for (;;) {
    const size = /^([0-9a-fA-F]{1,12})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n/.exec(text.slice(position))
    if (size === null) return null
    position += size[0].length
    const length = Number.parseInt(size[1] ?? '', 16)
    if (length === 0) break
    if (text.slice(position + length, position + length + 2) !== '\r\n') return null
    body += text.slice(position, position + length)
    position += length + 2
  }
  const trailers = /^(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n/.exec(text.slice(position))
  return trailers === null ? null : { body, consumed: position + trailers[0].length }
}

test(`mutated bodies: accepted exactly when a naive decoder accepts them (seed ${SEED})`, () => {
  const byte = fc.constantFrom(0, 1, 9, 10, 13, 32, 45, 48, 49, 53, 58, 59, 97, 103, 127, 160, 255)
  const mutation = fc.tuple(fc.constantFrom('replace', 'insert', 'delete'), fc.nat(4000), byte)
  let accepted = 0
  let refused = 0
  const small = fc.tuple(
    fc.array(
      chunk.map((one) => ({ ...one, data: one.data.subarray(0, 6) })),
      { maxLength: 3 },
    ),
    fc.array(trailer, { maxLength: 2 }),
    fc.constantFrom('0', '00', '0;last'),
  )
  fc.assert(
    fc.property(small, fc.array(mutation, { minLength: 1, maxLength: 3 }), ([chunks, trailers, last], mutations) => {
      let text = encode(chunks, trailers, last).bytes.toString('latin1')
      for (const [kind, position, code] of mutations) {
        const at = position % text.length
        const char = kind === 'delete' ? '' : String.fromCharCode(code)
        text = text.slice(0, at) + char + text.slice(kind === 'insert' ? at : at + 1)
      }
      const expected = reference(text)
      const found = decode([Buffer.from(text, 'latin1')])
      if (expected === null) {
        refused++
        expect(found.isDone).toBe(false)
      } else {
        accepted++
        expect(found).toEqual({ ...expected, isDone: true })
      }
    }),
    { seed: SEED, numRuns: 5000 },
  )
  expect(accepted).toBeGreaterThan(300)
  expect(refused).toBeGreaterThan(1000)
})

describe('refused at the first byte that cannot be', () => {
  test.each(
    [
      '\r\n',
      ';a\r\n',
      ' 5\r\n',
      'g\r\n',
      '-1\r\n',
      '0x5\r\n',
      '5\n',
      '5\rx',
      '5 6\r\n',
      '5 a\r\n',
      '5;a\x00',
      '5;a\n',
      '5;\x7f',
      '1\r\nab',
      '1\r\na\n',
      '1\r\na\rb',
      '0\r\n\n',
      '0\r\n x: y',
      '0\r\n\tx',
      '0\r\n:',
      '0\r\nx y: z',
      '0\r\nx\r',
      '0\r\n\x01',
      '0\r\nx: \x00',
      '0\r\nx: y\n',
      '0\r\nx: y\rz',
      '0\r\n\rx',
      '1000000000000',
      '0000000000005',
      `1;${'a'.repeat(4097)}`,
      `1${' '.repeat(4098)}`,
      `0\r\nx:${'a'.repeat(16384)}`,
      `0\r\n${'a'.repeat(16385)}`,
      `0\r\n${'a:\r\n'.repeat(8000)}`,
    ].map((text) => [text.length > 30 ? `${text.slice(0, 12)}… (${text.length})` : JSON.stringify(text), text]),
  )('%s', (_, text) => {
    expect(decode([Buffer.from(text, 'latin1')]).consumed).toBe(-1)
  })
})

test('the largest size that is allowed does not overflow', () => {
  const decoder = new ChunkedDecoder()
  const bytes = Buffer.from('ffffffffffff\r\nabc')
  const runs: number[][] = []
  expect(decoder.decode(bytes, 0, bytes.length, (start, end) => runs.push([start, end]))).toBe(bytes.length)
  expect(runs).toEqual([[14, 17]])
})

test('bytes behind the end are an error, not a body', () => {
  const decoder = new ChunkedDecoder()
  const bytes = Buffer.from('0\r\n\r\nX')
  expect(decoder.decode(bytes, 0, bytes.length, () => expect.unreachable())).toBe(5)
  expect(decoder.decode(bytes, 5, bytes.length, () => expect.unreachable())).toBe(-1)
})

test('blanks behind a size are padding for answers, and refused in requests; an extension may follow them in both', () => {
  const padded = Buffer.from('5 \t\r\nabcde\r\n0\r\n\r\n')
  const extended = Buffer.from('5 \t;a\r\nabcde\r\n0\r\n\r\n')
  expect(decode([padded]).isDone).toBe(true)
  expect(decode([padded], new ChunkedDecoder(false)).consumed).toBe(-1)
  expect(decode([extended], new ChunkedDecoder(false)).body).toBe('abcde')
})
