import { gunzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { echo } from '../../src/plugins/echo.js'
import { gzip } from '../../src/plugins/gzip.js'
import type { BodyTransform, Json } from '../../src/plugins/plugin.js'
import { responseRewrite } from '../../src/plugins/response-rewrite.js'
import { type FakeAnswer, type FakeExchange, type FakeRequest, fakeExchange } from '../support/fake-exchange.js'
import { linkPlugin, problemsOf } from '../support/link-kit.js'

const accepting: FakeRequest = { headers: { 'Accept-Encoding': 'br, gzip' } }
const page = 'a page that is long enough to be compressed '.repeat(20)
const html: FakeAnswer = { headers: { 'Content-Type': 'text/html; charset=utf-8' }, body: page }

function answered(conf: Json, answer: FakeAnswer, request: FakeRequest = accepting): FakeExchange {
  const exchange = fakeExchange(request).respond(answer)
  linkPlugin(gzip, conf).encodingFilter?.(exchange)
  return exchange
}

test('an answer is compressed, and says so', async () => {
  const exchange = answered({}, { ...html, headers: { ...html.headers, ETag: '"1"', 'Accept-Ranges': 'bytes' } })
  const { headers } = exchange.response
  expect(headers.get('content-encoding')).toBe('gzip')
  expect(headers.get('etag')).toBe('W/"1"')
  expect(headers.has('accept-ranges')).toBe(false)
  expect(headers.has('vary')).toBe(false)
  const sent = await exchange.body()
  expect(gunzipSync(sent).toString()).toBe(page)
  expect(sent.length).toBeLessThan(page.length / 4)
})

describe('what is compressed', () => {
  const type = (value: string): FakeAnswer => ({ ...html, headers: { 'Content-Type': value } })
  test.each<[string, Json, FakeAnswer, boolean]>([
    ['another type', {}, type('application/json'), false],
    ['a listed type', { types: ['application/JSON'] }, type('application/json;a=b'), true],
    ['any type', { types: '*' }, type('x/y'), true],
    ['no type', { types: '*' }, { ...html, headers: {} }, false],
    ['19 bytes', {}, { ...html, body: 'x'.repeat(19) }, false],
    ['20 bytes', {}, { ...html, body: 'x'.repeat(20) }, true],
    ['less than min_length', { min_length: 10_000 }, html, false],
    ['unknown length', { min_length: 10_000 }, { ...html, chunked: true }, true],
    ['already encoded', {}, { ...html, headers: { ...html.headers, 'Content-Encoding': 'br' } }, false],
    ['no-transform', {}, { ...html, headers: { ...html.headers, 'Cache-Control': 'public, no-transform' } }, false],
    ['403', {}, { ...html, status: 403 }, true],
    ['404', {}, { ...html, status: 404 }, true],
    ['500', {}, { ...html, status: 500 }, false],
    ['206', {}, { ...html, status: 206 }, false],
    ['304', {}, { ...html, status: 304 }, false],
    ['an answer of the gateway', {}, { ...html, source: 'gateway' }, true],
  ])('%s', (_what, conf, answer, expected) => {
    expect(answered(conf, answer).response.bodyChanged).toBe(expected)
  })
})

test.each<[string | undefined, boolean]>([
  ['gzip', true],
  ['GZIP;q=0.5', true],
  ['br, x-gzip', true],
  ['gzip;q=0', false],
  ['gzip; q=0.000', false],
  ['br', false],
  ['gzipped', false],
  ['', false],
  [undefined, false],
])('Accept-Encoding %s', (value, expected) => {
  const request = value === undefined ? {} : { headers: { 'Accept-Encoding': value } }
  expect(answered({}, html, request).response.headers.has('content-encoding')).toBe(expected)
})

test('HEAD is not compressed', () => {
  expect(answered({}, html, { ...accepting, method: 'HEAD' }).response.bodyChanged).toBe(false)
})

describe('vary', () => {
  test.each<[string, FakeAnswer, FakeRequest, string[]]>([
    ['compressed', html, accepting, ['Accept-Encoding']],
    ['compressible', html, {}, ['Accept-Encoding']],
    ['never compressed', { ...html, status: 500 }, accepting, []],
    ['already there', { ...html, headers: { ...html.headers, Vary: 'Origin, accept-encoding' } }, accepting, ['Origin, accept-encoding']],
    ['beside another', { ...html, headers: { ...html.headers, Vary: 'Origin' } }, accepting, ['Origin', 'Accept-Encoding']],
  ])('%s', (_what, answer, request, expected) => {
    expect(answered({ vary: true }, answer, request).response.headers.getAll('vary')).toEqual(expected)
  })
})

describe('streaming', () => {
  // Incompressible bytes of a fixed xorshift sequence.
  let state = 20_261_123
  const noise = Buffer.from(
    Array.from({ length: 300_000 }, () => {
      state ^= state << 13
      state ^= state >>> 17
      state ^= state << 5
      return state & 0xff
    }),
  )

  /** The transform itself, as the proxy sees it. */
  function transformOf(conf: Json, chunked: boolean): BodyTransform {
    const exchange = fakeExchange(accepting).respond({ ...html, chunked })
    let found: BodyTransform | undefined
    exchange.response.transformBody = (transform) => {
      found = transform
    }
    linkPlugin(gzip, conf).encodingFilter?.(exchange)
    if (found === undefined) throw new Error('no transform was arranged')
    return found
  }

  test('many chunks of lent memory come out whole, whatever the buffers', async () => {
    const chunks = Array.from({ length: 30 }, (_, index) => noise.subarray(index * 10_000, (index + 1) * 10_000))
    for (const conf of [{}, { comp_level: 9 }, { buffers: { number: 1, size: 64 } }])
      for (const chunked of [true, false]) {
        const sent = await answered(conf, { ...html, body: chunks, chunked }).body()
        expect(gunzipSync(sent).equals(noise)).toBe(true)
      }
  })

  test('a live body is sent on piece by piece', async () => {
    const transform = transformOf({}, true)
    const out: Buffer[] = []
    const emit = (bytes: Uint8Array) => {
      out.push(Buffer.from(bytes))
    }
    await transform.push(Buffer.from('event: 1\n\n'), false, emit)
    expect(gunzipSync(Buffer.concat(out), { finishFlush: 2 }).toString()).toBe('event: 1\n\n')
    transform.destroy()
  })

  test('a body of known length is gathered up to number × size', async () => {
    const sizes: number[] = []
    const transform = transformOf({ buffers: { number: 4, size: 1024 } }, false)
    await transform.push(noise, false, (bytes) => sizes.push(bytes.length))
    expect(sizes.length).toBeGreaterThan(10)
    expect(sizes.every((size) => size >= 4096 && size < 4096 + 1024)).toBe(true)
    transform.destroy()
  })

  test('after destroy nothing is emitted and nobody waits', async () => {
    const transform = transformOf({}, true)
    let emitted = 0
    const waits = [noise, noise].map((chunk) => transform.push(chunk, false, () => emitted++))
    transform.destroy()
    await Promise.all(waits)
    await new Promise((resolve) => setImmediate(resolve))
    expect(emitted).toBe(0)
  })
})

test('what other plugins make of the body is what gets compressed', async () => {
  const chain = [
    linkPlugin(gzip, { types: ['text/plain'] }),
    linkPlugin(responseRewrite, { filters: [{ regex: 'page', replace: 'PAGE' }], headers: { 'Content-Type': 'text/plain' } }),
    linkPlugin(echo, { before_body: '<', after_body: '>' }),
  ]
  const exchange = fakeExchange(accepting).respond(html)
  for (const instance of chain) instance.headerFilter?.(exchange)
  for (const instance of chain) instance.encodingFilter?.(exchange)
  expect(exchange.response.headers.get('content-encoding')).toBe('gzip')
  expect(gunzipSync(await exchange.body()).toString()).toBe(`<${page.replace('page', 'PAGE')}>`)
})

test.each<[string, Json, string]>([
  ['comp_level 0', { comp_level: 0 }, 'comp_level'],
  ['min_length 0', { min_length: 0 }, 'min_length'],
  ['HTTP 2', { http_version: 2 }, 'http_version'],
  ['no types', { types: [] }, 'types'],
  ['no buffers', { buffers: { number: 0 } }, 'buffers.number'],
])('refuses %s', (_what, conf, path) => {
  expect(problemsOf(gzip, conf).map((problem) => problem.path)).toContain(path)
})
