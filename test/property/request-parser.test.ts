/**
 * The parser of requests: any split gives the same result, what it remembers of the request before never shows, a naive reading of the
 * whole head agrees with it, and so does llhttp with what it accepts.
 */
import { createServer, METHODS } from 'node:http'
import { Duplex } from 'node:stream'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { ParsedRequest } from '../../src/dataplane/listener/parsed-request.js'
import { INCOMPLETE, RequestParser } from '../../src/dataplane/listener/request-parser.js'

const SEED = 20267
const LOCAL = '192.0.2.1:9080'

interface Said {
  readonly method: string
  readonly path: string
  readonly query: string
  readonly lines: readonly string[]
  readonly bodyLength: number
  readonly keepsAlive: boolean
  readonly isHttp10: boolean
  readonly expectsContinue: boolean
}

/** `length`: of the head. */
type Outcome = { readonly length: number; readonly said: Said } | { readonly refused: string } | 'incomplete'

/** Where the parser looks at bytes four at a time. */
const readBuffer = Buffer.allocUnsafeSlow(65_536)
const fresh = (): RequestParser => new RequestParser(() => LOCAL, readBuffer)

function said(request: ParsedRequest): Said {
  const lines: string[] = []
  request.forEachHeader((name, value) => lines.push(name, value))
  return {
    method: request.getCaseSensitiveMethod(),
    path: request.getUrl(),
    query: request.getQuery(),
    lines,
    bodyLength: request.bodyLength,
    keepsAlive: request.keepsAlive,
    isHttp10: request.isHttp10,
    expectsContinue: request.expectsContinue,
  }
}

/**
 * Bytes inside of a larger buffer, or (every second length) at the start of the read buffer: nothing around them may be read.
 */
function parse(parser: RequestParser, text: string, inReadBuffer = text.length % 2 === 0): Outcome {
  const before = inReadBuffer ? '' : '\r\n'
  const around = Buffer.from(`${before}${text}\r\n\r\nX: y\r\n\r\n`, 'latin1')
  if (inReadBuffer) around.copy(readBuffer)
  const index = parser.parse(inReadBuffer ? readBuffer : around, before.length, before.length + text.length)
  if (index === INCOMPLETE) return 'incomplete'
  const { request } = parser
  if (request.failure !== null) return { refused: request.failure.code }
  return { length: index - before.length, said: said(request) }
}

/** As a connection does: what is not complete is parsed again with what comes. */
function parsePieces(parser: RequestParser, text: string, cuts: readonly number[]): Outcome {
  const places = [...cuts.map((cut) => cut % (text.length + 1)), text.length].sort((a, b) => a - b)
  for (const place of places) {
    const outcome = parse(parser, text.slice(0, place))
    if (outcome !== 'incomplete') return outcome
  }
  return 'incomplete'
}

// ---------------------------------------------------------------- a naive reading

const TOKEN = "[!#$%&'*+\\-.^_`|~0-9A-Za-z]"
const HEAD = new RegExp(
  `^(${TOKEN}{1,64}) ([^\\x00-\\x20\\x7f]+) HTTP/([0-9])\\.([0-9])\\r\\n((?:${TOKEN}+:[\\t\\x20-\\x7e\\x80-\\xff]*\\r\\n)*)\\r\\n`,
)

/** Null = it is refused, or not complete. */
function naive(text: string): { readonly length: number; readonly said: Said } | null {
  const head = HEAD.exec(text)
  if (head === null) return null
  const [whole, method = '', target = '', major, minor, block = ''] = head
  if (major !== '1' || (minor !== '0' && minor !== '1')) return null
  const isHttp10 = minor === '0'
  const lines = block
    .split('\r\n')
    .slice(0, -1)
    .map((line): [string, string] => {
      const colon = line.indexOf(':')
      const value = line.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, '')
      return [line.slice(0, colon).toLowerCase(), Buffer.from(value, 'latin1').toString(/[\x80-\xff]/.test(value) ? 'utf8' : 'latin1')]
    })
  const all = (name: string): string[] => lines.filter((line) => line[0] === name).map((line) => line[1])
  const lengths = all('content-length')
  const codings = all('transfer-encoding')
  if (lengths.length + codings.length > 1 || (codings.length > 0 && isHttp10)) return null
  if (!lengths.every((value) => /^[0-9]{1,15}$/.test(value)) || !codings.every((value) => /^chunked$/i.test(value))) return null
  const options = all('connection').flatMap((value) => value.split(',').map((option) => option.trim().toLowerCase()))
  const absolute = /^https?:\/\/([^/?#]*)(.*)$/is.exec(target)
  let asked = target
  if (absolute !== null) {
    const [, authority = '', rest = ''] = absolute
    asked = rest === '' && method === 'OPTIONS' ? '*' : rest.startsWith('/') ? rest : `/${rest}`
    const host = all('host').at(-1)
    if (host !== undefined && host.toLowerCase() !== authority.toLowerCase()) return null
    if (isHttp10 && host === undefined) lines.push(['host', authority])
  } else if (isHttp10 && all('host').length === 0) lines.push(['host', LOCAL])
  const [path = '', ...queries] = asked.split('?')
  return {
    length: whole.length,
    said: {
      method,
      path,
      query: queries.join('?'),
      lines: lines.flat(),
      bodyLength: codings.length > 0 ? -1 : Number(lengths[0] ?? '0'),
      keepsAlive: !options.includes('close') && (!isHttp10 || options.includes('keep-alive')),
      isHttp10,
      expectsContinue: !isHttp10 && all('expect').length > 0,
    },
  }
}

/** Whether more bytes can make a head of it, as far as its grammar goes. */
function canGoOn(text: string): boolean {
  const rests = [
    'a / HTTP/1.1\r\n\r\n',
    ' / HTTP/1.1\r\n\r\n',
    '/ HTTP/1.1\r\n\r\n',
    ' HTTP/1.1\r\n\r\n',
    'a:\r\n\r\n',
    ':\r\n\r\n',
    '\r\n\r\n',
    '\n\r\n',
    '\r\n',
    '\n',
  ]
  for (let cut = 0; cut < 8; cut++) rests.push(`${'HTTP/1.1'.slice(cut)}\r\n\r\n`)
  return rests.some((rest) => HEAD.test(text + rest))
}

// ---------------------------------------------------------------- what is sent

const requestLine = fc
  .tuple(
    fc.constantFrom('GET', 'GET', 'POST', 'HEAD', 'OPTIONS', 'PURGE', 'get', 'GE', `A${'b'.repeat(63)}`, `A${'b'.repeat(64)}`),
    fc.constantFrom('/', '/a?b=c', '/a?b?c#d', '*', 'http://a.test/x?y', 'HTTP://A.test?q', 'https://b.test', 'a.test:80', '/\xe4', '/%zz'),
    fc.constantFrom('1.1', '1.1', '1.1', '1.1', '1.0', '1.2', '2.0', '0.9'),
  )
  .map(([method, target, version]) => `${method} ${target} HTTP/${version}\r\n`)

const fieldLine = fc.constantFrom(
  'Host: a.test',
  'Host: a.test',
  'host:A.TEST ',
  'Host:',
  'Host: b.test',
  'Accept: */*',
  'accept:\t*/* \t',
  'X-Empty:',
  'X-Empty: ',
  'X: 1',
  'x: 12',
  'Y: 1',
  `X-Long: ${'v'.repeat(300)}`,
  'Cookie: a=b; c=d',
  'Content-Length: 5',
  'Content-Length: 05',
  'content-length:0',
  'Content-Length: 5, 5',
  'Content-Length: +5',
  'Content-Length: 1234567890123456',
  'Content-Length:',
  'Content-Lengt: 7',
  'Content_Length: 7',
  'Transfer-Encoding: chunked',
  'transfer-encoding:\tChunked ',
  'Transfer-Encoding: gzip, chunked',
  'Transfer-Encoding: chun\xe2\x84\xaaed',
  'Transfer_Encoding: chunked',
  'Connection: close',
  'Connection: keep-alive',
  'Connection: Keep-Alive',
  'connection: x, Close , y',
  'Connection: keep-alive, x',
  'Expect: 100-continue',
  'X-Utf: gr\xc3\xbc\xc3\x9fe',
  'X-Broken: \xff\xfe',
)

const oddLine = fc.constantFrom(
  ' folded: line',
  '\tfolded',
  'No colon',
  'Space : 1',
  ': empty',
  'Nul: \0',
  'Del: \x7f',
  'Bare: a\rb',
  'Bare: a\nb',
  'B\xe4d: x',
)

const head = fc
  .tuple(requestLine, fc.array(fc.oneof({ arbitrary: fieldLine, weight: 30 }, { arbitrary: oddLine, weight: 1 }), { maxLength: 7 }))
  .map(([line, lines]) => `${line}${lines.map((text) => `${text}\r\n`).join('')}\r\n`)

/** Of these, most are accepted. */
const goodHead = fc
  .tuple(
    fc.constantFrom('GET / HTTP/1.1', 'GET /a?b HTTP/1.1', 'POST /a HTTP/1.1', 'GET / HTTP/1.0'),
    fc.constantFrom('', 'Content-Length: 5', 'Transfer-Encoding: chunked', 'Connection: close', 'Content-Length: 0'),
    fc.array(fc.constantFrom('Accept: */*', 'X: 1', 'Y: 1', 'X: 2', 'Cookie: a=b', 'X-Utf: \xc3\xbc', 'Xx: ', `Z: ${'z'.repeat(200)}`), {
      maxLength: 6,
    }),
    fc.nat(7),
  )
  .map(([line, framing, lines, place]) => {
    const all = ['Host: a.test', ...lines]
    if (framing !== '') all.splice(place % (all.length + 1), 0, framing)
    return `${[line, ...all].join('\r\n')}\r\n\r\n`
  })

/** What a client may change from one request to the next, or somebody on its behalf. */
const change = fc.oneof(
  fc.record({
    kind: fc.constantFrom('replace', 'insert', 'delete'),
    at: fc.nat(2000),
    byte: fc.constantFrom(0, 9, 10, 13, 32, 44, 48, 53, 58, 72, 97, 127, 160, 195, 255),
  }),
  fc.record({ kind: fc.constantFrom('flip'), at: fc.nat(2000), byte: fc.constantFrom(1, 4, 16, 32, 128) }),
  fc.record({
    kind: fc.constantFrom('swap-lines', 'drop-line', 'double-line', 'add-line', 'cut', 'fold'),
    at: fc.nat(2000),
    byte: fc.nat(30),
  }),
)
type Change = typeof change extends fc.Arbitrary<infer T> ? T : never

function changed(text: string, { kind, at, byte }: Change): string {
  const place = at % (text.length + 1)
  const char = String.fromCharCode(byte)
  switch (kind) {
    case 'replace':
      return text.slice(0, place) + char + text.slice(place + 1)
    case 'insert':
      return text.slice(0, place) + char + text.slice(place)
    case 'delete':
      return text.slice(0, place) + text.slice(place + 1)
    case 'flip':
      return place === text.length
        ? text
        : text.slice(0, place) + String.fromCharCode(text.charCodeAt(place) ^ byte) + text.slice(place + 1)
    case 'cut':
      return text.slice(0, place)
  }
  const lines = text.split('\r\n')
  const first = at % lines.length
  const second = byte % lines.length
  const line = lines[first] ?? ''
  if (kind === 'drop-line') lines.splice(first, 1)
  else if (kind === 'double-line') lines.splice(second, 0, line)
  else if (kind === 'add-line') lines.splice(first, 0, byte % 2 === 0 ? 'Content-Length: 3' : 'Added: x')
  else if (kind === 'fold') lines.splice(first, 0, ` ${line}`)
  else {
    lines[first] = lines[second] ?? ''
    lines[second] = line
  }
  return lines.join('\r\n')
}

const mutated = fc
  .tuple(fc.oneof(head, goodHead), fc.array(change, { maxLength: 3 }))
  .map(([text, changes]) => changes.reduce((now, next) => changed(now, next), text))

// ---------------------------------------------------------------- properties

test(`any split gives what one read gives (seed ${SEED})`, () => {
  const reused = fresh()
  fc.assert(
    fc.property(mutated, fc.array(fc.nat(600), { maxLength: 6 }), (text, cuts) => {
      const expected = parse(fresh(), text)
      expect(parsePieces(fresh(), text, cuts)).toEqual(expected)
      expect(parsePieces(reused, text, cuts)).toEqual(expected)
    }),
    { seed: SEED, numRuns: 1500 },
  )
})

test(`byte by byte (seed ${SEED})`, () => {
  fc.assert(
    fc.property(mutated, (text) => {
      const every = Array.from(text, (_, index) => index)
      expect(parsePieces(fresh(), text, every)).toEqual(parse(fresh(), text))
    }),
    { seed: SEED, numRuns: 100 },
  )
})

test(`what was read before never shows (seed ${SEED})`, () => {
  let repeated = 0
  const steps = fc.array(fc.oneof({ arbitrary: change, weight: 3 }, { arbitrary: fc.constantFrom('again', 'new'), weight: 2 }), {
    minLength: 2,
    maxLength: 12,
  })
  fc.assert(
    fc.property(goodHead, goodHead, steps, fc.nat(500), (one, other, changes, cut) => {
      const reused = fresh()
      let text = one
      let before = ''
      parse(reused, text)
      for (const step of changes) {
        before = text
        // From the good one again, so that most of them are remembered.
        text = step === 'again' ? text : step === 'new' ? other : changed(one, step)
        if (text === before) repeated++
        // A head that arrives in pieces is compared in pieces as well.
        parse(reused, text.slice(0, cut % (text.length + 1)))
        expect(parse(reused, text), JSON.stringify({ before, text })).toEqual(parse(fresh(), text))
      }
    }),
    { seed: SEED, numRuns: 1500 },
  )
  expect(repeated).toBeGreaterThan(100)
})

test(`a naive reading agrees (seed ${SEED})`, () => {
  const counts = { accepted: 0, refused: 0, incomplete: 0 }
  const reused = fresh()
  fc.assert(
    fc.property(mutated, fc.constantFrom('', 'GET / HTTP/1.1\r\n\r\n', 'body'), (text, behind) => {
      const expected = naive(text + behind)
      const found = parse(reused, text + behind)
      if (expected !== null) {
        expect(found, JSON.stringify(text)).toEqual(expected)
        counts.accepted++
      } else if (found === 'incomplete') {
        expect(canGoOn(text + behind), `what goes on: ${JSON.stringify(text + behind)}`).toBe(true)
        counts.incomplete++
      } else {
        expect(found, JSON.stringify(text)).toHaveProperty('refused')
        counts.refused++
      }
    }),
    { seed: SEED, numRuns: 4000 },
  )
  expect(Math.min(counts.accepted, counts.refused, counts.incomplete), JSON.stringify(counts)).toBeGreaterThan(100)
})

test(`noise is refused or awaited, and never thrown over (seed ${SEED})`, () => {
  const reused = fresh()
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    goodHead.map((text) => Buffer.from(text, 'latin1')),
  )
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 4 }), (pieces) => {
      const text = Buffer.concat(pieces).toString('latin1')
      const expected = naive(text)
      const found = parse(reused, text)
      if (expected !== null) expect(found).toEqual(expected)
      else expect(found).not.toHaveProperty('said')
    }),
    { seed: SEED, numRuns: 3000 },
  )
})

test(`a long value is read alike wherever it lies, behind one that begins in the same way too (seed ${SEED})`, () => {
  const plain = fc.string({ unit: fc.constantFrom('a', 'Z', '0', '~', ' ', '!'), minLength: 60, maxLength: 140 })
  const odd = fc.constantFrom('', '\0', '\t', '\n', '\r', '\r\n', '\x1f', '\x7f', '\x80', '\xa0', '\xff', '\r\n \t')
  fc.assert(
    fc.property(plain, plain, odd, fc.nat(140), fc.nat(4), (value, tail, byte, place, shift) => {
      const head = (content: string): string =>
        `GET /${'p'.repeat(shift)} HTTP/1.1\r\nHost: a.test\r\nAuthorization: ${content}\r\nX: y\r\n\r\n`
      const known = head(value)
      const text = head(value.slice(0, place) + byte + tail)
      const wanted = parse(fresh(), text, false)
      expect(parse(fresh(), text, true)).toEqual(wanted)
      const experienced = fresh()
      parse(experienced, known, true)
      expect(parse(experienced, text, true)).toEqual(wanted)
      const naively = naive(text)
      if (typeof wanted !== 'string') expect('said' in wanted ? wanted.said : null).toEqual(naively?.said ?? null)
    }),
    { seed: SEED, numRuns: 3000 },
  )
})

test('of what Connection fields ask for, close counts, in any order', () => {
  const keepsAlive = (version: string, ...values: string[]): unknown => {
    const outcome = parse(
      fresh(),
      `GET / HTTP/${version}\r\nHost: a.test\r\n${values.map((value) => `Connection: ${value}\r\n`).join('')}\r\n`,
    )
    return typeof outcome === 'object' && 'said' in outcome ? outcome.said.keepsAlive : outcome
  }
  expect(keepsAlive('1.1', 'close', 'Keep-Alive')).toBe(false)
  expect(keepsAlive('1.1', 'x', 'keep-alive')).toBe(true)
  expect(keepsAlive('1.0', 'close', 'keep-alive')).toBe(false)
  expect(keepsAlive('1.0', 'keep-alive, close')).toBe(false)
  expect(keepsAlive('1.0', 'x, Keep-Alive')).toBe(true)
  expect(keepsAlive('1.0', 'x')).toBe(false)
})

test('the authority of an absolute target stands in for the Host that HTTP/1.0 need not send', () => {
  expect(parse(fresh(), 'GET http://b.test/x HTTP/1.0\r\n\r\n')).toMatchObject({ said: { path: '/x', lines: ['host', 'b.test'] } })
  expect(parse(fresh(), 'GET /x HTTP/1.0\r\n\r\n')).toMatchObject({ said: { lines: ['host', LOCAL] } })
})

// ---------------------------------------------------------------- llhttp

/** What llhttp makes of the bytes: targets and bodies of requests, and its error. */
async function llhttp(
  text: string,
): Promise<{ readonly seen: readonly string[]; readonly lines: readonly string[]; readonly error: string }> {
  const seen: string[] = []
  let lines: readonly string[] = []
  let error = ''
  const server = createServer({ requireHostHeader: false, insecureHTTPParser: false }, (request) => {
    const index = seen.push(`${request.method} ${request.url} `) - 1
    if (index === 0) lines = request.rawHeaders.map((item, at) => (at % 2 === 0 ? item.toLowerCase() : item))
    request.on('data', (bytes: Buffer) => {
      seen[index] += bytes.toString('latin1')
    })
  })
  server.on('clientError', (reason: NodeJS.ErrnoException) => {
    error = reason.code ?? reason.message
  })
  const socket = new Duplex({ read: () => undefined, write: (_bytes, _encoding, done) => done() })
  server.emit('connection', socket)
  socket.push(Buffer.from(text, 'latin1'))
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve))
  server.removeAllListeners('clientError')
  server.on('clientError', () => undefined)
  socket.destroy()
  return { seen, lines, error }
}

describe('what is accepted, llhttp accepts with the same framing', () => {
  const NEXT = 'GET /next HTTP/1.1\r\nHost: a.test\r\n\r\n'

  /** RFC 9110 §5.5 has tabs behind a value; llhttp does not take one there. */
  const endsInTab = /^transfer-encoding:[ \t]*chunked[ \t]*\t[ \t]*\r$/im

  /** What llhttp judges and we leave to the guard: methods from a list, targets that begin as nothing else does, bytes beyond ASCII in them. */
  const isCompared = (one: Said, target: string): boolean =>
    METHODS.includes(one.method) && one.method !== 'CONNECT' && /^(?:\/|\*|https?:\/\/[a-z])[\x20-\x7e]*$/i.test(target)

  test(`seed ${SEED}`, async () => {
    let compared = 0
    await fc.assert(
      fc.asyncProperty(mutated, async (text) => {
        const found = parse(fresh(), text)
        if (
          endsInTab.test(text) ||
          typeof found === 'string' ||
          !('said' in found) ||
          !isCompared(found.said, text.split(' ')[1] ?? '') ||
          found.said.bodyLength > 100
        )
          return
        const { bodyLength, keepsAlive, method } = found.said
        const body = bodyLength < 0 ? '3\r\nabc\r\n0\r\n\r\n' : 'b'.repeat(bodyLength)
        const { seen, lines, error } = await llhttp(text.slice(0, found.length) + body + (keepsAlive ? NEXT : ''))
        const target = text.split(' ')[1] ?? ''
        const carried = bodyLength < 0 ? 'abc' : body
        expect({ seen, error }, JSON.stringify(text)).toEqual({
          seen: [`${method} ${target} ${carried}`, ...(keepsAlive ? ['GET /next '] : [])],
          error: '',
        })
        const own = found.said.isHttp10 ? found.said.lines.slice(0, lines.length) : found.said.lines
        expect(own).toEqual(lines.map((item, at) => (at % 2 === 0 ? item : Buffer.from(item, 'latin1').toString('utf8'))))
        compared++
      }),
      { seed: SEED, numRuns: 1500 },
    )
    expect(compared).toBeGreaterThan(300)
  })
})
