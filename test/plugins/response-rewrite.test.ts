import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import type { Json } from '../../src/plugins/plugin.js'
import { responseRewrite } from '../../src/plugins/response-rewrite.js'
import { type FakeAnswer, type FakeExchange, type FakeRequest, fakeExchange } from '../support/fake-exchange.js'
import { linkPlugin, problemsOf } from '../support/link-kit.js'

function answered(conf: Json, answer: FakeAnswer, request: FakeRequest = {}): FakeExchange {
  const exchange = fakeExchange(request).respond(answer)
  linkPlugin(responseRewrite, conf).headerFilter?.(exchange)
  return exchange
}

const entity = { ETag: '"1"', 'Last-Modified': 'Mon, 01 Jan 2024 00:00:00 GMT', 'Content-Type': 'text/plain' }

test('status alone leaves body and headers', async () => {
  const exchange = answered({ status_code: 202 }, { headers: entity, body: 'x' })
  expect(exchange.response.status).toBe(202)
  expect(exchange.response.headers.get('etag')).toBe('"1"')
  expect((await exchange.body()).toString()).toBe('x')
})

test('body replaces the body and drops what described the old one', async () => {
  const exchange = answered({ body: 'new' }, { headers: { ...entity, 'Content-Encoding': 'gzip' }, body: 'old' })
  expect((await exchange.body()).toString()).toBe('new')
  for (const key of ['etag', 'last-modified', 'content-encoding']) expect(exchange.response.headers.has(key)).toBe(false)
})

test('body_base64 is decoded', async () => {
  const bytes = Buffer.from([0, 255, 10, 128])
  expect(await answered({ body: bytes.toString('base64'), body_base64: true }, { body: 'old' }).body()).toEqual(bytes)
})

test('an empty body is a body', async () => {
  expect((await answered({ body: '' }, { body: 'old' }).body()).length).toBe(0)
})

test('acts on answers of the gateway', async () => {
  const exchange = answered({ status_code: 418, body: 'no' }, { status: 401, source: 'gateway', body: '{"message":"x"}' })
  expect([exchange.response.status, (await exchange.body()).toString()]).toEqual([418, 'no'])
})

describe('headers', () => {
  test('a flat map sets, with variables', () => {
    const exchange = answered(
      { headers: { 'X-A': 'ip $remote_addr', 'X-N': 3 } },
      { headers: { 'x-a': '0' } },
      { clientAddress: '192.0.2.7' },
    )
    expect(exchange.response.headers.getAll('x-a')).toEqual(['ip 192.0.2.7'])
    expect(exchange.response.headers.get('x-n')).toBe('3')
  })

  test('add, then set, then remove', () => {
    const { headers } = answered(
      {
        headers: {
          add: ['Set-Cookie: a=1', 'Set-Cookie: b=x:y', 'X-Both: added', 'X-Gone: 1'],
          set: { 'X-Both': 'set', 'X-Gone': '2' },
          remove: ['X-GONE', 'server'],
        },
      },
      { headers: { 'Set-Cookie': 'c=3', Server: 'up' } },
    ).response
    expect(headers.getAll('set-cookie')).toEqual(['c=3', 'a=1', 'b=x:y'])
    expect(headers.getAll('x-both')).toEqual(['set'])
    expect(headers.has('x-gone') || headers.has('server')).toBe(false)
  })

  test('a value never ends its line', () => {
    const { headers } = answered({ headers: { 'X-A': '$arg_x' } }, {}, { target: '/?x=1%0D%0ASet-Cookie:a' }).response
    expect(headers.get('x-a')).toBe('1%0D%0ASet-Cookie:a')
  })
})

test.each([
  [200, 'new'],
  [404, 'old'],
])('vars are evaluated on the answer: %i', async (status, body) => {
  const exchange = answered({ body: 'new', status_code: 299, vars: [['status', '==', 200]] }, { status, body: 'old' })
  expect((await exchange.body()).toString()).toBe(body)
  expect(exchange.response.status).toBe(status === 200 ? 299 : 404)
})

describe('filters', () => {
  const filters = [
    { regex: 'a+', replace: 'A' },
    { regex: 'B', scope: 'global', replace: '[$0]', options: 'i' },
  ]

  test('once and global, in order, across chunks', async () => {
    const exchange = answered({ filters }, { headers: entity, body: ['xa', 'aa-a-b', 'B'] })
    expect((await exchange.body()).toString()).toBe('xA-a-[b][B]')
    expect(exchange.response.headers.has('etag')).toBe(false)
  })

  test('captures', async () => {
    const exchange = answered({ filters: [{ regex: '(\\w+)@(\\w+)', scope: 'global', replace: '$2 at $1' }] }, { body: 'a@b c@d' })
    expect((await exchange.body()).toString()).toBe('b at a d at c')
  })

  test('options s and m', async () => {
    expect((await answered({ filters: [{ regex: 'a.b', replace: '-', options: 's' }] }, { body: 'a\nb' }).body()).toString()).toBe('-')
    expect((await answered({ filters: [{ regex: '^b', replace: '-', options: 'jom' }] }, { body: 'a\nb' }).body()).toString()).toBe('a\n-')
  })

  test.each([
    ['gzip', gzipSync],
    ['x-gzip', gzipSync],
    ['deflate', deflateSync],
    ['br', brotliCompressSync],
  ])('%s is inflated', async (coding, encode) => {
    const exchange = answered({ filters }, { headers: { 'Content-Encoding': coding }, body: encode(Buffer.from('aab')) })
    expect((await exchange.body()).toString()).toBe('A[b]')
    expect(exchange.response.headers.has('content-encoding')).toBe(false)
  })

  test('an unknown coding is left alone', async () => {
    const exchange = answered({ filters }, { headers: { 'Content-Encoding': 'zstd', ETag: '"1"' }, body: 'aab' })
    expect((await exchange.body()).toString()).toBe('aab')
    expect(exchange.response.headers.get('content-encoding')).toBe('zstd')
    expect(exchange.response.headers.get('etag')).toBe('"1"')
  })

  test('a broken coding fails the answer', async () => {
    const exchange = answered({ filters }, { headers: { 'Content-Encoding': 'gzip' }, body: 'not gzip' })
    await expect(exchange.body()).rejects.toThrow()
  })

  test('an inflated body beyond 64 MiB fails the answer', async () => {
    const bomb = gzipSync(Buffer.alloc(64 * 1024 * 1024 + 1))
    await expect(answered({ filters }, { headers: { 'Content-Encoding': 'gzip' }, body: bomb }).body()).rejects.toThrow(/larger than/)
  })

  test('bytes that are not UTF-8 survive', async () => {
    const exchange = answered({ filters: [{ regex: 'a', replace: 'é' }] }, { body: Buffer.from([0xff, 0x61, 0x80]) })
    expect(await exchange.body()).toEqual(Buffer.from([0xff, 0xc3, 0xa9, 0x80]))
  })
})

test.each<[string, Json, string]>([
  ['body with filters', { body: 'x', filters: [{ regex: 'a', replace: 'b' }] }, 'filters'],
  ['bad Base64', { body: '1', body_base64: true }, 'body'],
  ['Base64 without body', { body_base64: true }, 'body'],
  ['status 199', { status_code: 199 }, 'status_code'],
  ['status 599', { status_code: 599 }, 'status_code'],
  ['bad expression', { vars: [['status', 'xx', 1]] }, 'vars'],
  ['bad pattern', { filters: [{ regex: '(', replace: 'b' }] }, 'filters.0.regex'],
  ['unknown pattern option', { filters: [{ regex: 'a', replace: 'b', options: 'U' }] }, 'filters.0.options'],
  ['header line without colon', { headers: { add: ['nonsense'] } }, 'headers.add.0'],
  ['framing header', { headers: { 'Transfer-Encoding': 'chunked' } }, 'headers.Transfer-Encoding'],
])('refuses %s', (_what, conf, path) => {
  expect(problemsOf(responseRewrite, conf).map((problem) => problem.path)).toContain(path)
})
