/** The head that goes upstream: forwarding fields, framing, Host, and that nothing a plugin writes can split it. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Exchange } from '../../../src/dataplane/exchange.js'
import { identityOf, setIdentityHeaders } from '../../../src/dataplane/identity-headers.js'
import { buildRequestHead } from '../../../src/dataplane/upstream/request-head.js'
import type { CompiledNode, CompiledUpstream } from '../../../src/schema/compiled.js'
import { fakeConsumer } from '../../support/link-kit.js'
import { exchangeOf, nodeOf, type RequestParts, routeWith, upstreamOf } from './parts.js'

const SEED = 20261
const plain = routeWith([])
const changing = routeWith([{ rewrite: () => undefined }])

/** The bytes that go out (the connection writes UTF-8), read as a strict peer reads them. */
function sent(exchange: Exchange, upstream: CompiledUpstream = upstreamOf(), node: CompiledNode = nodeOf()) {
  const text = Buffer.from(buildRequestHead(exchange, upstream, node), 'utf8').toString('latin1')
  expect(text.endsWith('\r\n\r\n')).toBe(true)
  const [line = '', ...rows] = text.slice(0, -4).split('\r\n')
  const fields = rows.map((row) => {
    const match = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ([\t\x20-\x7e\x80-\xff]*)$/.exec(row)
    if (match === null) throw new Error(`not a field line: ${JSON.stringify(row)}`)
    return [(match[1] ?? '').toLowerCase(), match[2] ?? ''] as const
  })
  return { line, fields, values: (name: string) => fields.filter(([key]) => key === name).map(([, value]) => value) }
}

function request(parts: RequestParts = {}, linked = plain): Exchange {
  const exchange = exchangeOf(parts)
  exchange.linked = linked
  return exchange
}

describe('who calls', () => {
  const jack = identityOf(fakeConsumer({ username: 'jack' }), 'one')

  test.each([
    ['nobody looked at', plain, (): void => {}],
    ['somebody looked at', plain, (exchange: Exchange): unknown => exchange.requestHeaders.get('x-consumer-username')],
    ['a chain may have changed', changing, (): void => {}],
  ])('is told once in fields that %s', (_who, linked, look) => {
    const exchange = request({ headers: [['accept', '*/*']] }, linked)
    setIdentityHeaders(exchange.requestHeaders, jack)
    look(exchange)
    for (const { values } of [sent(exchange), sent(exchange)]) {
      expect(values('accept')).toEqual(['*/*'])
      expect(values('x-consumer-username')).toEqual(['jack'])
      expect(values('x-credential-identifier')).toEqual(['one'])
      expect(values('x-real-ip')).toHaveLength(1)
    }
  })
})

describe('forwarding fields', () => {
  test('say what the gateway saw', () => {
    const { line, values } = sent(request({ target: '/a?b=1', host: 'front.test:8080' }))
    expect(line).toBe('GET /a?b=1 HTTP/1.1')
    expect(values('host')).toEqual(['front.test:8080'])
    expect(values('x-real-ip')).toEqual(['192.0.2.1'])
    expect(values('x-forwarded-for')).toEqual(['192.0.2.1'])
    expect(values('x-forwarded-proto')).toEqual(['http'])
    expect(values('x-forwarded-host')).toEqual(['front.test:8080'])
    expect(values('x-forwarded-port')).toEqual(['9080'])
  })

  test('X-Forwarded-For gets the peer, X-Real-IP the client behind it', () => {
    const headers = [['x-forwarded-for', '203.0.113.9']] as const
    const { values } = sent(request({ headers, peer: '10.0.0.1', client: '203.0.113.9' }))
    expect(values('x-forwarded-for')).toEqual(['203.0.113.9, 10.0.0.1'])
    expect(values('x-real-ip')).toEqual(['203.0.113.9'])
  })

  test('several X-Forwarded-For lines become one, empty ones vanish, a client X-Real-IP never passes', () => {
    const headers = [
      ['x-forwarded-for', 'a'],
      ['x-real-ip', '6.6.6.6'],
      ['x-forwarded-for', ''],
      ['x-forwarded-for', 'b, c'],
    ] as const
    const { values } = sent(request({ headers }))
    expect(values('x-forwarded-for')).toEqual(['a, b, c, 192.0.2.1'])
    expect(values('x-real-ip')).toEqual(['192.0.2.1'])
  })

  test('what a trusted proxy said about scheme, host and port stays', () => {
    const headers = [
      ['x-forwarded-proto', 'https'],
      ['x-forwarded-host', 'public.test'],
      ['x-forwarded-port', '443'],
    ] as const
    const { values } = sent(request({ headers }))
    expect(values('x-forwarded-proto')).toEqual(['https'])
    expect(values('x-forwarded-host')).toEqual(['public.test'])
    expect(values('x-forwarded-port')).toEqual(['443'])
  })
})

test.each([
  ['GET', 0, undefined, undefined],
  ['DELETE', 0, undefined, undefined],
  ['POST', 0, '0', undefined],
  ['PUT', 0, '0', undefined],
  ['PATCH', 0, '0', undefined],
  ['POST', 12, '12', undefined],
  ['GET', 12, '12', undefined],
  ['POST', -1, undefined, 'chunked'],
  ['GET', -1, undefined, 'chunked'],
])('framing of %s with a body of %d', (method, bodyLength, length, coding) => {
  const { values } = sent(request({ method, bodyLength }))
  expect(values('content-length')).toEqual(length === undefined ? [] : [length])
  expect(values('transfer-encoding')).toEqual(coding === undefined ? [] : [coding])
})

describe('Host', () => {
  test.each([
    ['pass', {}, {}, 'front.test'],
    ['rewrite', { upstreamHost: 'inner.test' }, {}, 'inner.test'],
    ['node', {}, { host: 'node.test', port: 80 }, 'node.test'],
    ['node', {}, { host: 'node.test', port: 8080 }, 'node.test:8080'],
    ['node', { scheme: 'https' }, { host: 'node.test', port: 443 }, 'node.test'],
    ['node', { scheme: 'https' }, { host: 'node.test', port: 80 }, 'node.test:80'],
    ['node', {}, { host: '::1', port: 81 }, '[::1]:81'],
  ] as const)('pass_host %s %j %j', (passHost, upstream, node, expected) => {
    expect(sent(request(), upstreamOf({ passHost, ...upstream }), nodeOf(node)).values('host')).toEqual([expected])
  })

  test('of a plugin counts before pass_host', () => {
    const exchange = request({}, changing)
    exchange.upstreamHost = 'other.test'
    expect(sent(exchange, upstreamOf({ passHost: 'node' })).values('host')).toEqual(['other.test'])
  })
})

describe('plugins that keep the head safe', () => {
  const safe = routeWith([{ keepsHeadSafe: true, rewrite: () => undefined, access: () => undefined }])
  const hostile = (exchange: Exchange) => {
    exchange.requestHeaders.set('X-Mark', 'a\rb')
    return buildRequestHead(exchange, upstreamOf(), nodeOf())
  }

  test('leave it as it would be without them', () => {
    const parts = { method: 'POST', target: '/a?b=1', headers: [['x-forwarded-for', 'a']] as const, bodyLength: 3 }
    expect(sent(request(parts, safe))).toEqual({ ...sent(request(parts)), values: expect.any(Function) })
    expect(hostile(request({}, safe))).toContain('a\rb')
  })

  test('count only where all of the chain are of that kind', () => {
    const mixed = routeWith([{ keepsHeadSafe: true, rewrite: () => undefined }, { access: () => undefined }])
    expect(hostile(request({}, mixed))).toContain('a%0Db')
    const overlaid = request({}, safe)
    overlaid.overlaid = { chain: changing.chain, responseFilters: [], lateRewrite: [], missingGroup: '', guarded: null }
    expect(hostile(overlaid)).toContain('a%0Db')
    // What the route's own rewrite phase did stays, also when the consumer's chain is without that plugin.
    const replaced = request({}, changing)
    replaced.overlaid = { chain: safe.chain, responseFilters: [], lateRewrite: [], missingGroup: '', guarded: null }
    expect(hostile(replaced)).toContain('a%0Db')
  })
})

describe('what plugins write', () => {
  test.each(['a\r\nevil: 1', 'a\nevil: 1', 'a\rb', 'a\0b', 'a\u010Aevil: 1', 'a\u010D\u010A\u010D\u010Ab'])(
    'value %j stays one field',
    (value) => {
      const exchange = request({}, changing)
      exchange.requestHeaders.set('X-Mark', value)
      const { values } = sent(exchange)
      expect(values('x-mark')).toHaveLength(1)
      expect(values('evil')).toEqual([])
    },
  )

  test('text beyond ASCII goes on as the client sent it', () => {
    for (const linked of [plain, changing]) {
      const { values } = sent(request({ headers: [['x-name', 'Zoë 漢']] }, linked))
      expect(Buffer.from(values('x-name')[0] ?? '', 'latin1').toString('utf8')).toBe('Zoë 漢')
    }
  })

  test.each(['bad name', 'bad:name', 'a\r\nevil', '', 'ü', 'a\u010A'])('a field named %j is left out', (name) => {
    const before = sent(request({}, changing)).fields
    const exchange = request({}, changing)
    exchange.requestHeaders.set(name, 'x')
    expect(sent(exchange).fields).toEqual(before)
  })

  test.each(['Content-Length', 'Transfer-Encoding', 'Host', 'Connection', 'Upgrade', 'TE', 'Trailer', 'Keep-Alive'])(
    '%s cannot be set: framing is decided in one place',
    (name) => {
      const before = sent(request({ method: 'POST', bodyLength: 5 }, changing)).fields
      const exchange = request({ method: 'POST', bodyLength: 5 }, changing)
      exchange.requestHeaders.set(name, '7')
      expect(sent(exchange).fields).toEqual(before)
    },
  )

  test.each([
    ['/a b', '/a%20b'],
    ['/a\r\nX: y', '/a%0D%0AX:%20y'],
    ['/a#b', '/a%23b'],
    ['/\u010A', '/%C4%8A'],
    ['/ü', '/%C3%BC'],
    ['a', '/a'],
    ['', '/'],
    ['/a%20b', '/a%20b'],
  ])('path %j goes out as %s', (path, expected) => {
    const exchange = request({}, changing)
    exchange.upstreamPath = path
    expect(sent(exchange).line).toBe(`GET ${expected} HTTP/1.1`)
  })

  test('a method that is no token is not sent', () => {
    const exchange = request({ method: 'POST' }, changing)
    exchange.upstreamMethod = 'GET / HTTP/1.1\r\nx:'
    expect(sent(exchange).line).toBe('POST / HTTP/1.1')
  })

  test(`nothing at all splits the head (seed ${SEED})`, () => {
    const nasty = fc.string({
      unit: fc.constantFrom('\r', '\n', '\0', ' ', ':', '#', 'a', 'é', '\u010A', '\u010D', '\ud800', '😀', '\t', '%'),
    })
    fc.assert(
      fc.property(
        fc.array(fc.tuple(nasty, nasty), { maxLength: 6 }),
        nasty,
        nasty,
        nasty,
        nasty,
        nasty,
        (headers, path, query, host, method, client) => {
          const exchange = request({}, changing)
          for (const [name, value] of headers) exchange.requestHeaders.add(name, value)
          exchange.upstreamPath = path
          exchange.upstreamQuery = query
          exchange.upstreamHost = host
          exchange.upstreamMethod = method
          exchange.clientAddress = client
          const { line, values } = sent(exchange)
          expect(line).toMatch(/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+ \/[\x21\x22\x24-\x7e]* HTTP\/1\.1$/)
          expect(values('host')).toHaveLength(1)
          expect(values('x-forwarded-for')).toHaveLength(1)
        },
      ),
      { seed: SEED, numRuns: 500 },
    )
  })

  test(`what a plugin changes among checked fields is looked at again (seed ${SEED})`, () => {
    const name = fc.constantFrom('X-A', 'X-B', 'X-C', 'X-D')
    const value = fc.constantFrom('fine', 'a\r\nevil: 1', '\0', 'é')
    const change = fc.tuple(fc.constantFrom('set', 'add', 'remove'), name, value)
    fc.assert(
      fc.property(fc.array(name, { maxLength: 5 }), fc.array(change, { maxLength: 5 }), (arrived, changes) => {
        const [checked, unchecked] = [request({}, changing), request({}, changing)]
        for (const { requestHeaders } of [checked, unchecked]) for (const one of arrived) requestHeaders.add(one, 'as it came')
        checked.requestHeaders.allChecked()
        for (const { requestHeaders } of [checked, unchecked]) {
          for (const [kind, one, text] of changes) {
            if (kind === 'set') requestHeaders.set(one, text)
            else if (kind === 'add') requestHeaders.add(one, text)
            else requestHeaders.remove(one.toLowerCase())
          }
        }
        expect(sent(checked).fields).toEqual(sent(unchecked).fields)
      }),
      { seed: SEED, numRuns: 1000 },
    )
  })
})
