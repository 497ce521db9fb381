/**
 * The parser of upstream answers against a naive one, on structured and on mutated input, and through a real connection at every
 * split. Seeds are fixed; a failure prints seed and path.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { HeaderList } from '../../src/base/headers.js'
import { NodePool } from '../../src/dataplane/upstream/pool.js'
import { Framing, fillHeaderList, findHeadEnd, parseResponseHead } from '../../src/dataplane/upstream/response-head.js'
import { nodeOf, silentTally } from '../unit/dataplane/parts.js'
import { outcomeOf, responseCorpus } from './response-corpus.js'

const SEED = 20262
const corpus = responseCorpus()

interface Parsed {
  readonly status: number
  readonly framing: string
  readonly keepAlive: boolean
  readonly fields: readonly (readonly [string, string])[]
}

const alwaysDropped = new Set([
  'te',
  'date',
  'upgrade',
  'trailer',
  'connection',
  'keep-alive',
  'content-length',
  'proxy-connection',
  'transfer-encoding',
])

/** RFC 9112 with split and match. Null = refused. */
function reference(text: string): Parsed | null {
  const [first = '', ...lines] = text.slice(0, -4).split('\r\n')
  const start = /^HTTP\/1\.([01]) ([1-5]\d\d)(?: [\t\x20-\x7e\x80-\xff]*)?$/.exec(first)
  if (start === null) return null
  const fields: [string, string][] = []
  for (const line of lines) {
    const field = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*$/.exec(line)
    if (field === null) return null
    fields.push([field[1] ?? '', field[2] ?? ''])
  }
  const values = (name: string) => fields.filter(([key]) => key.toLowerCase() === name).map(([, value]) => value)
  const lengths = values('content-length')
  const codings = values('transfer-encoding')
  if (lengths.length > 1 || codings.length > 1 || (lengths.length === 1 && codings.length === 1)) return null
  if (lengths.length === 1 && !/^\d{1,15}$/.test(lengths[0] ?? '')) return null
  if (codings.length === 1 && ((codings[0] ?? '').toLowerCase() !== 'chunked' || start[1] === '0')) return null
  const options = values('connection')
    .join(',')
    .split(',')
    .map((option) => option.replace(/^[ \t]+|[ \t]+$/g, '').toLowerCase())
  return {
    status: Number(start[2]),
    framing: codings.length === 1 ? 'chunked' : lengths.length === 1 ? `length ${Number(lengths[0])}` : 'close',
    keepAlive: !options.includes('close') && (start[1] === '1' || options.includes('keep-alive')),
    fields: fields.filter(([name]) => !alwaysDropped.has(name.toLowerCase()) && !options.includes(name.toLowerCase())),
  }
}

/** The same view of what our parser says. The head lies inside a larger buffer, as it does in reality. */
function ours(text: string): Parsed | null {
  const bytes = Buffer.from(`\r\n\r\nrest of a body${text}HTTP/1.1 200 OK\r\nX: y\r\n\r\n`, 'latin1')
  const start = 18
  const end = findHeadEnd(bytes, start, bytes.length)
  expect(end).toBe(start + text.length)
  const head = parseResponseHead(bytes, start, end)
  if (typeof head === 'string') {
    expect(head).not.toBe('')
    return null
  }
  bytes.fill(0)
  expect(Buffer.from(head.raw).toString('latin1')).toBe(text)
  const list = new HeaderList()
  fillHeaderList(head, list)
  const block = Buffer.from(head.block).toString('latin1')
  expect(block.split('\r\n')[0]).toBe(text.slice('HTTP/1.x '.length, text.indexOf('\r\n')))
  expect(block.split('\r\n')).toHaveLength(list.count + 1)
  const framing = head.framing === Framing.Chunked ? 'chunked' : head.framing === Framing.Length ? `length ${head.contentLength}` : 'close'
  const fields = Array.from({ length: list.count }, (_, index) => [list.names[index] ?? '', list.values[index] ?? ''] as const)
  return { status: head.status, framing, keepAlive: head.keepAlive, fields }
}

/** Compares on the first head of the text; false when it holds none. */
function compare(text: string): boolean {
  const end = text.indexOf('\r\n\r\n')
  if (end === -1) return false
  const head = text.slice(0, end + 4)
  expect(ours(head)).toEqual(reference(head))
  return true
}

describe('against a naive parser', () => {
  test(`on structured input (seed ${SEED})`, () => {
    const blanks = fc.constantFrom('', '', ' ', '\t', '  ')
    const name = fc.constantFrom(
      'Content-Length',
      'content-length',
      'Transfer-Encoding',
      'Connection',
      'X-Hop',
      'Date',
      'TE',
      'Keep-Alive',
      'Upgrade',
      'Trailer',
      'Proxy-Connection',
      'Set-Cookie',
      'ETag',
      'X',
      'X ',
      '',
      'Xé',
      'Content_Length',
      'Content-Lengthy',
      'dat',
      'date1',
    )
    const value = fc.constantFrom(
      '5',
      '0',
      '05',
      '+5',
      '5 5',
      '5,5',
      '-1',
      '',
      'chunked',
      'CHUNKED',
      'gzip, chunked',
      'chunked, chunked',
      'close',
      'keep-alive',
      'x-hop',
      'X-Hop, close',
      'close,keep-alive',
      'a=b; Path=/',
      '\xa0',
      '5\xa0',
      'chunked\xa0',
      'close\xa0',
      'a\rb',
      'a\nb',
      'a\0b',
      'a\x7f',
      'é',
      'content-length',
      'transfer-encoding',
      '999999999999999',
      '9999999999999999',
    )
    const line = fc.tuple(name, blanks, value, blanks).map(([key, before, text, after]) => `${key}:${before}${text}${after}`)
    const start = fc.constantFrom(
      'HTTP/1.1 200 OK',
      'HTTP/1.1 200 OK',
      'HTTP/1.0 200 OK',
      'HTTP/1.1 200',
      'HTTP/1.1 200 ',
      'HTTP/1.1 404 Not\tFound',
      'HTTP/1.1 2000',
      'HTTP/1.1 20',
      'HTTP/1.1  200 OK',
      'HTTP/1.2 200 OK',
      'http/1.1 200 OK',
      'HTTP/1.1 600 X',
      'HTTP/1.1 099 X',
      'HTTP/1.1 200 caf\xe9',
      'HTTP/1.1 200 a\rb',
      '',
    )
    fc.assert(
      fc.property(start, fc.array(line, { maxLength: 5 }), (first, lines) => {
        expect(compare(`${[first, ...lines].join('\r\n')}\r\n\r\n`)).toBe(true)
      }),
      { seed: SEED, numRuns: 4000 },
    )
  })

  test(`on mutated bytes of the corpus (seed ${SEED})`, () => {
    let compared = 0
    const byte = fc.oneof(fc.constantFrom(0, 9, 10, 13, 32, 44, 45, 48, 58, 59, 127, 160, 255), fc.integer({ min: 0, max: 255 }))
    const mutation = fc.tuple(fc.constantFrom('replace', 'insert', 'delete', 'double'), fc.nat(400), byte)
    fc.assert(
      fc.property(fc.constantFrom(...corpus), fc.array(mutation, { minLength: 1, maxLength: 4 }), (entry, mutations) => {
        let text = entry.bytes.toString('latin1')
        for (const [kind, position, code] of mutations) {
          const at = position % (text.length + 1)
          const char = String.fromCharCode(code)
          if (kind === 'insert') text = text.slice(0, at) + char + text.slice(at)
          else if (kind === 'replace') text = text.slice(0, at) + char + text.slice(at + 1)
          else if (kind === 'delete') text = text.slice(0, at) + text.slice(at + 1)
          else text = text.slice(0, at) + text.slice(Math.max(0, at - 20))
        }
        if (compare(text)) compared++
        const bytes = Buffer.from(text, 'latin1')
        const cut = bytes.length >> 1
        expect(outcomeOf([bytes.subarray(0, cut), bytes.subarray(cut)])).toEqual(outcomeOf([bytes]))
      }),
      { seed: SEED, numRuns: 4000 },
    )
    expect(compared).toBeGreaterThan(3000)
  })
})

describe('the corpus', () => {
  test.each(corpus.map((entry) => [entry.name, entry] as const))('%s', (_, { bytes, expected }) => {
    const whole = outcomeOf([bytes])
    expect(whole.summary).toBe(expected)
    for (let cut = 1; cut < bytes.length; cut++) {
      expect(outcomeOf([bytes.subarray(0, cut), bytes.subarray(cut)]), `cut at ${cut}`).toEqual(whole)
    }
    const single = Array.from(bytes, (byte) => Buffer.from([byte]))
    expect(outcomeOf(single), 'byte by byte').toEqual(whole)
  })

  test('a remembered head changes nothing', () => {
    const keepalive = { size: 1, idleTimeoutMs: 1000, requests: 1000, pipelining: 1 }
    const events = { connected() {}, whole() {}, head() {}, body() {}, failed() {}, drained() {}, turnEnded() {} }
    const pool = new NodePool(
      { node: nodeOf(), tls: null, keepalive, maxResponseHeaderBytes: 1024, tally: silentTally() },
      Buffer.alloc(65536),
      events,
    )
    for (const round of [1, 2]) {
      for (const { name, bytes } of corpus) {
        expect(outcomeOf([bytes], pool), `${name}, round ${round}`).toEqual(outcomeOf([bytes]))
        expect(outcomeOf([bytes], pool), `${name} again, round ${round}`).toEqual(outcomeOf([bytes]))
      }
    }
    expect(pool.memo.head).not.toBeNull()
  })
})

test('a head beyond the limit is refused, complete or not', () => {
  const long = `HTTP/1.1 200 OK\r\nX: ${'a'.repeat(1100)}\r\n`
  expect(outcomeOf([Buffer.from(long)]).summary).toBe('refused')
  expect(outcomeOf([Buffer.from(`${long}Content-Length: 0\r\n\r\n`)]).summary).toBe('refused')
})
