import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Json } from '../../src/plugins/plugin.js'
import { proxyRewrite } from '../../src/plugins/proxy-rewrite.js'
import { type FakeExchange, type FakeRequest, fakeExchange } from '../support/fake-exchange.js'
import { linkPlugin, problemsOf } from '../support/link-kit.js'

function rewrite(conf: Json, request: FakeRequest = {}): FakeExchange {
  const exchange = fakeExchange(request)
  expect(linkPlugin(proxyRewrite, conf).rewrite?.(exchange)).toBeUndefined()
  return exchange
}

function target(conf: Json, wire: string): string {
  const { upstreamPath, upstreamQuery } = rewrite(conf, { target: wire })
  return upstreamQuery === '' ? upstreamPath : `${upstreamPath}?${upstreamQuery}`
}

describe('uri', () => {
  test.each([
    ['/new', '/old', '/new'],
    ['/new', '/old?a=1&b=2', '/new?a=1&b=2'],
    ['/new?x=1', '/old?a=1', '/new?x=1&a=1'],
    ['/new?x=1', '/old', '/new?x=1'],
    ['/v2$uri', '/old/1', '/v2/old/1'],
    ['/v2$uri', '/a%20b', '/v2/a%20b'],
    ['/v2$uri', '/a%2Fb', '/v2/a%2Fb'],
    ['/v2$uri', '/a%25b', '/v2/a%25b'],
    ['/v2$uri', '/a+b', '/v2/a+b'],
    ['/v2$uri', '/caf%C3%A9', '/v2/caf%C3%A9'],
    ['/v2$uri', '/a%3Fb?c=d', '/v2/a%3Fb?c=d'],
    ['/v2//$arg_x', '/?x=1', '/v2//1?x=1'],
    ['/$arg_x', '/?x=a%3Fb', '/a%3Fb?x=a%3Fb'],
    ['/$arg_x', '/?x=a%20b', '/a%20b?x=a%20b'],
    ['/$arg_x', '/?x=a%0D%0Ab', '/a%0D%0Ab?x=a%0D%0Ab'],
    ['/$arg_x', '/?x=%252e%252e', '/%252e%252e?x=%252e%252e'],
    ['/safe/$arg_x', '/?x=..%2F..%2Fadmin', '/admin?x=..%2F..%2Fadmin'],
    ['/new?y=$arg_x', '/?x=a%0D%0Ab%20c%23d', '/new?y=a%0D%0Ab%20c%23d&x=a%0D%0Ab%20c%23d'],
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the gateway's own template language
    ['/${arg_none ?? dflt}/x', '/', '/dflt/x'],
    ['/a/$arg_none/x', '/', '/a//x'],
  ])('%s on %s gives %s', (uri, wire, expected) => {
    expect(target({ uri }, wire)).toBe(expected)
  })

  test('wins over regex_uri', () => {
    expect(target({ uri: '/a', regex_uri: ['^/x', '/b'] }, '/x')).toBe('/a')
  })
})

describe('regex_uri', () => {
  test.each([
    [['^/test/(.*)/(.*)', '/$2/$1'], '/test/a/b?q=1', '/b/a?q=1'],
    [['^/miss', '/x'], '/test', '/test'],
    [['^/miss', '/x', '^/te(.*)', '/hit/$1', '^/', '/late'], '/test', '/hit/st'],
    [['^/(.*)', '/q?v=$1'], '/test?a=1', '/q?v=test&a=1'],
    [['^/(.*)', '/x/$1'], '/a%3Fb', '/x/a%3Fb'],
    [['^/(.*)', '/x/$1'], '/a%2Fb%20c', '/x/a%2Fb%20c'],
    [['/mid/', '/M/'], '/a/mid/b', '/a/M/b'],
    [['^/(.*)', '/$arg_v/$1'], '/p?v=2', '/2/p?v=2'],
    [['^/(.*)', '$1'], '/p', '/p'],
  ])('%j on %s gives %s', (pairs, wire, expected) => {
    expect(target({ regex_uri: pairs }, wire)).toBe(expected)
  })

  test('a miss leaves the bytes of the client alone', () => {
    expect(target({ regex_uri: ['^/miss', '/x'] }, '/%7Ea/%e4%bd%a0?%zz')).toBe('/%7Ea/%e4%bd%a0?%zz')
  })
})

describe('use_real_request_uri_unsafe', () => {
  test('sends the target as it came', () => {
    expect(target({ use_real_request_uri_unsafe: true }, '/%7e//a/%2f?x=%zz')).toBe('/%7e//a/%2f?x=%zz')
  })
  test('patterns work on the target as it came', () => {
    expect(target({ use_real_request_uri_unsafe: true, regex_uri: ['^/x/(.*)', '/y/$1'] }, '/x/%2f%3f?q=1')).toBe('/y/%2f%3f?q=1')
  })
})

describe('method, host and headers', () => {
  test('method and host', () => {
    const exchange = rewrite({ method: 'POST', host: 'other.test:8080' })
    expect([exchange.upstreamMethod, exchange.upstreamHost]).toEqual(['POST', 'other.test:8080'])
  })

  test('add, then set, then remove', () => {
    const { requestHeaders } = rewrite(
      {
        headers: {
          add: { 'X-Both': 'added', 'X-List': ['1', 2], 'X-Gone': 'a' },
          set: { 'X-Both': 'set', 'X-Gone': 'b', 'X-New': 5, 'X-Two': ['a', 'b'] },
          remove: ['x-gONE'],
        },
      },
      { headers: { 'X-List': '0', 'X-Two': ['x', 'y', 'z'] } },
    )
    expect(requestHeaders.getAll('x-both')).toEqual(['set'])
    expect(requestHeaders.getAll('x-list')).toEqual(['0', '1', '2'])
    expect(requestHeaders.getAll('x-new')).toEqual(['5'])
    expect(requestHeaders.getAll('x-two')).toEqual(['a', 'b'])
    expect(requestHeaders.has('x-gone')).toBe(false)
  })

  test('a flat map sets', () => {
    expect(rewrite({ headers: { 'X-A': '1' } }, { headers: { 'x-a': '0' } }).requestHeaders.getAll('x-a')).toEqual(['1'])
  })

  test('values hold variables and captures; unresolved ones are empty', () => {
    const { requestHeaders } = rewrite(
      {
        regex_uri: ['^/u/(\\w+)', '/users'],
        headers: { set: { 'X-User': 'id-$1', 'X-Ip': '$remote_addr', 'X-None': '$http_nothing', 'X-Nine': '$9' } },
      },
      { target: '/u/joe', clientAddress: '192.0.2.1' },
    )
    expect(['x-user', 'x-ip', 'x-none', 'x-nine'].map((key) => requestHeaders.get(key))).toEqual(['id-joe', '192.0.2.1', '', ''])
  })

  test('a value never ends its line', () => {
    const { requestHeaders } = rewrite({ headers: { set: { 'X-A': '$arg_x' } } }, { target: '/?x=1%0D%0AEvil:%201' })
    expect(requestHeaders.get('x-a')).toBe('1%0D%0AEvil: 1')
  })

  test('Host goes to the upstream host', () => {
    expect(rewrite({ headers: { set: { Host: '$arg_h' } } }, { target: '/?h=a.test' }).upstreamHost).toBe('a.test')
  })
})

test.each<[string, Json, string]>([
  ['nothing', {}, ''],
  ['uri without slash', { uri: 'x' }, 'uri'],
  ['odd regex_uri', { regex_uri: ['a', 'b', 'c'] }, 'regex_uri'],
  ['broken pattern', { regex_uri: ['(', '/'] }, 'regex_uri.0'],
  ['broken second pattern', { regex_uri: ['a', '/', '[', '/'] }, 'regex_uri.2'],
  ['host with path', { host: 'a/b' }, 'host'],
  ['unknown method', { method: 'CONNECT' }, 'method'],
  ['framing header', { headers: { set: { 'Content-Length': '1' } } }, 'headers.set.Content-Length'],
  ['header name with space', { headers: { 'a b': '1' } }, 'headers.a b'],
  ['two Hosts', { headers: { add: { Host: 'a' } } }, 'headers.add.Host'],
  ['no Host', { headers: { remove: ['host'] } }, 'headers.remove.0'],
  ['mixed forms', { headers: { set: { a: '1' }, b: '2' } }, 'headers.b'],
  ['variable that needs the body', { uri: '/$post_arg_x' }, 'uri'],
])('refuses %s', (_what, conf, path) => {
  expect(problemsOf(proxyRewrite, conf).map((problem) => problem.path)).toContain(path)
})

test('whatever the client sends, the target stays one line of printable ASCII', () => {
  const instances = [
    linkPlugin(proxyRewrite, { uri: '/p/$arg_x/$uri?q=$arg_x' }),
    linkPlugin(proxyRewrite, { regex_uri: ['/(.*)', '/r/$1/$arg_x'] }),
  ]
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (value) => {
      for (const instance of instances) {
        const exchange = fakeExchange({ target: `/a%20b%2Fc?x=${encodeURIComponent(value)}` })
        instance.rewrite?.(exchange)
        expect(exchange.upstreamPath).toMatch(/^\/[!-~]*$/)
        expect(exchange.upstreamPath).not.toMatch(/[?#]|\/\.\.?(\/|$)/)
        expect(exchange.upstreamQuery).toMatch(/^[!-~]*$/)
      }
    }),
    { seed: 20_261_123, numRuns: 1000, verbose: true },
  )
})
