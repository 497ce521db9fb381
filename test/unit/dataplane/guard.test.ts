/** The guard: framing matrix, Host, limits, hop-by-hop fields, and identity headers in every spelling. */
import { describe, expect, test } from 'vitest'
import { HeaderList } from '../../../src/base/headers.js'
import { Guard, isHost } from '../../../src/dataplane/listener/guard.js'
import { isIdentityHeader } from '../../../src/dataplane/listener/identity.js'
import { fieldsOf } from './parts.js'

type Lines = readonly (readonly [string, string])[]

const LIMIT_BYTES = 500
const LIMIT_FIELDS = 20

function guardAfter(lines: Lines, trust = false) {
  const guard = new Guard(LIMIT_BYTES, LIMIT_FIELDS, trust)
  const headers = new HeaderList()
  guard.begin(headers)
  for (const [name, value] of lines) guard.line(name, value)
  const failure = guard.finish()
  return { guard, failure: failure?.code ?? null, fields: fieldsOf(headers) }
}

const withHost = (...lines: Lines): Lines => [['host', 'a.test'], ...lines]

test.each([
  ['close', true],
  ['Close', true],
  ['x-one, close', true],
  ['keep-alive', false],
  ['closed', false],
])('Connection: %s says that the client is through: %s', (value, closes) => {
  const { guard } = guardAfter(withHost(['connection', value]))
  expect(guard.closes).toBe(closes)
  guard.begin(new HeaderList())
  expect(guard.closes).toBe(false)
})

describe('framing', () => {
  const cases: readonly (readonly [string, Lines, string | null, number])[] = [
    ['nothing', [], null, 0],
    ['a length', [['content-length', '12']], null, 12],
    ['length zero', [['content-length', '0']], null, 0],
    ['leading zeros', [['content-length', '0012']], null, 12],
    ['chunked', [['transfer-encoding', 'chunked']], null, -1],
    ['chunked in capitals', [['transfer-encoding', 'Chunked']], null, -1],
    ['an empty length', [['content-length', '']], 'BAD_FRAMING', 0],
    ['a sign', [['content-length', '+5']], 'BAD_FRAMING', 0],
    ['a minus', [['content-length', '-5']], 'BAD_FRAMING', 0],
    ['hexadecimal', [['content-length', '0x5']], 'BAD_FRAMING', 0],
    ['a blank inside', [['content-length', '5 5']], 'BAD_FRAMING', 0],
    ['a list', [['content-length', '5, 5']], 'BAD_FRAMING', 0],
    ['an exponent', [['content-length', '1e2']], 'BAD_FRAMING', 0],
    ['16 digits', [['content-length', '1234567890123456']], 'BAD_FRAMING', 0],
    [
      'two equal lengths',
      [
        ['content-length', '5'],
        ['content-length', '5'],
      ],
      'BAD_FRAMING',
      5,
    ],
    [
      'length, then chunked',
      [
        ['content-length', '5'],
        ['transfer-encoding', 'chunked'],
      ],
      'BAD_FRAMING',
      -1,
    ],
    [
      'chunked, then length',
      [
        ['transfer-encoding', 'chunked'],
        ['content-length', '5'],
      ],
      'BAD_FRAMING',
      -1,
    ],
    [
      'chunked twice',
      [
        ['transfer-encoding', 'chunked'],
        ['transfer-encoding', 'chunked'],
      ],
      'BAD_FRAMING',
      -1,
    ],
    ['identity', [['transfer-encoding', 'identity']], 'BAD_FRAMING', 0],
    ['gzip, chunked', [['transfer-encoding', 'gzip, chunked']], 'BAD_FRAMING', 0],
    ['chunked with a parameter', [['transfer-encoding', 'chunked;q=1']], 'BAD_FRAMING', 0],
    ['chunked and a comma', [['transfer-encoding', 'chunked,']], 'BAD_FRAMING', 0],
    ['chunked and byte A0', [['transfer-encoding', 'chunked\u00a0']], 'BAD_FRAMING', 0],
    ['chunked behind a vertical tab', [['transfer-encoding', '\u000bchunked']], 'BAD_FRAMING', 0],
    ['an empty coding', [['transfer-encoding', '']], 'BAD_FRAMING', 0],
    ['the Kelvin sign', [['transfer-encoding', 'chun\u212aed']], 'BAD_FRAMING', 0],
  ]
  test.each(cases)('%s', (_, lines, failure, length) => {
    const { guard, failure: found, fields } = guardAfter(withHost(...lines))
    if (found === null || failure === null) expect(guard.bodyLength).toBe(length)
    expect(found).toBe(failure)
    expect(fields).toEqual([])
  })

  test('nothing of one request is left for the next', () => {
    const guard = new Guard(LIMIT_BYTES, LIMIT_FIELDS, false)
    const headers = new HeaderList()
    guard.begin(headers)
    for (const [name, value] of withHost(
      ['transfer-encoding', 'gzip'],
      ['connection', 'x-a'],
      ['expect', '100-continue'],
      ['upgrade', 'h2c'],
    )) {
      guard.line(name, value)
    }
    guard.line('x-forwarded-for', '1.2.3.4')
    expect(guard.finish()?.code).toBe('BAD_FRAMING')
    headers.reset()
    guard.begin(headers)
    guard.line('host', 'b.test')
    guard.line('x-a', '1')
    expect(guard.finish()).toBeNull()
    expect([guard.bodyLength, guard.hostHeader, guard.sawForwarded, guard.expectsContinue, guard.upgrade]).toEqual([
      0,
      'b.test',
      false,
      false,
      '',
    ])
    expect(fieldsOf(headers)).toEqual([['x-a', '1']])
  })
})

describe('other refusals', () => {
  const cases: readonly (readonly [string, Lines, string])[] = [
    ['no Host', [['x', 'y']], 'BAD_HOST'],
    [
      'two Hosts',
      [
        ['host', 'a.test'],
        ['host', 'a.test'],
      ],
      'BAD_HOST',
    ],
    ['an empty Host', [['host', '']], 'BAD_HOST'],
    ['a Host that is none', [['host', 'a.test/x']], 'BAD_HOST'],
    ['an empty name', withHost(['', 'x']), 'BAD_HEADER'],
    ['two credentials', withHost(['authorization', 'a'], ['authorization', 'b']), 'BAD_HEADER'],
    ['an expectation', withHost(['expect', '200-ok']), 'EXPECTATION_FAILED'],
    ['too many bytes', withHost(['x', 'a'.repeat(LIMIT_BYTES)]), 'HEADERS_TOO_LARGE'],
    ['too many fields', withHost(...Array.from({ length: LIMIT_FIELDS }, () => ['x', ''] as const)), 'HEADERS_TOO_LARGE'],
  ]
  test.each(cases)('%s', (_, lines, failure) => {
    expect(guardAfter(lines).failure).toBe(failure)
  })

  test('the limits themselves are allowed', () => {
    expect(guardAfter(withHost(['x', 'a'.repeat(LIMIT_BYTES - 'host: a.test\r\nx: \r\n'.length)])).failure).toBeNull()
    expect(guardAfter(withHost(...Array.from({ length: LIMIT_FIELDS - 1 }, () => ['x', ''] as const))).failure).toBeNull()
  })
})

describe('what passes', () => {
  test('ordinary fields pass in order, hop-by-hop ones and those that Connection names do not', () => {
    const { fields, failure } = guardAfter(
      withHost(
        ['accept', '*/*'],
        ['x-hop', 'before'],
        ['connection', 'keep-alive, X-Hop , close,, X-Other'],
        ['connection', 'x-third'],
        ['x-hop', 'after'],
        ['x-other', '1'],
        ['x-third', '1'],
        ['te', 'trailers'],
        ['trailer', 'x'],
        ['upgrade', 'h2c'],
        ['keep-alive', 'timeout=5'],
        ['proxy-connection', 'x'],
        ['forwarded', 'for=1.2.3.4'],
        ['cookie', 'a=b'],
      ),
    )
    expect(failure).toBeNull()
    expect(fields).toEqual([
      ['accept', '*/*'],
      ['cookie', 'a=b'],
    ])
  })

  test('Connection can take neither Host nor the framing away', () => {
    const { guard, failure } = guardAfter(withHost(['connection', 'host, content-length'], ['content-length', '5']))
    expect(failure).toBeNull()
    expect([guard.hostHeader, guard.bodyLength]).toEqual(['a.test', 5])
  })

  test.each(['x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host', 'x-forwarded-port', 'x-real-ip'])('%s is noticed', (name) => {
    expect(guardAfter(withHost([name, '1'])).guard.sawForwarded).toBe(true)
  })
})

describe('identity headers', () => {
  const names = [
    'x-consumer-username',
    'x-consumer-custom-id',
    'x-consumer-id',
    'x-consumer-groups',
    'x-consumer-anything',
    'x-credential-identifier',
    'x-credential-username',
    'x-anonymous-consumer',
    'x-authenticated-groups',
    'x-authenticated-userid',
    'x-authenticated-scope',
    'x-access-token',
    'x-id-token',
    'x-raw-id-token',
    'x-userinfo',
    'x-refresh-token',
  ]
  const spellings = names.flatMap((name) => [name, name.replaceAll('-', '_'), name.replace('-', '_'), name.replace(/-([^-]*)$/, '_$1')])
  test.each([...new Set(spellings)])('%s never passes', (name) => {
    expect(isIdentityHeader(name)).toBe(true)
    expect(guardAfter(withHost([name, 'root'])).fields).toEqual([])
    expect(guardAfter(withHost([name, 'root']), true).fields).toEqual([[name, 'root']])
  })

  test.each(['x-consumer', 'x-consumers', 'x-request-id', 'x-id', 'x-token', 'consumer-username', 'x-userinfos'])(
    '%s is no identity',
    (name) => {
      expect(guardAfter(withHost([name, '1'])).fields).toEqual([[name, '1']])
    },
  )
})

describe('isHost', () => {
  test.each([
    'a',
    'a.test',
    'A.Test',
    'a.test.',
    'a-b_c~d',
    '127.0.0.1',
    'a.test:1',
    'a.test:65535',
    'a:080',
    '[::1]',
    '[::1]:8080',
    '[2001:DB8::1]',
    '[::ffff:1.2.3.4]:80',
    'a'.repeat(260),
  ])('%s', (host) => {
    expect(isHost(host)).toBe(true)
  })

  test.each([
    '',
    ' ',
    'a b',
    'a.test ',
    'a/b',
    'a?b',
    'a#b',
    'a@b',
    'user:1@a',
    'a\\b',
    'a,b',
    'a;b',
    'a%20b',
    'a"b',
    'a\u00fc',
    'a\0',
    ':',
    ':80',
    'a:',
    'a:0',
    'a:65536',
    'a:123456',
    'a:8x',
    'a:-1',
    'a:80:80',
    '::1',
    '[',
    '[]',
    '[:]',
    '[::1',
    '[::1]x',
    '[::1]:',
    '[::1]:0',
    '[::g]',
    '[::1%eth0]',
    '[[::1]]',
    'a]',
    'a'.repeat(261),
  ])('not %j', (host) => {
    expect(isHost(host)).toBe(false)
  })
})
