import { describe, expect, test } from 'vitest'
import type { Json } from '../../src/plugins/plugin.js'
import { ksuid, requestId, uuidV7 } from '../../src/plugins/request-id.js'
import { fakeExchange } from '../support/fake-exchange.js'
import { linkPlugin, problemsOf } from '../support/link-kit.js'

describe('algorithms', () => {
  test.each<[string, Json, RegExp]>([
    ['default', {}, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/],
    ['uuidv7', { algorithm: 'uuidv7' }, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/],
    ['nanoid', { algorithm: 'nanoid' }, /^[\w-]{21}$/],
    ['ksuid', { algorithm: 'ksuid' }, /^[0-9A-Za-z]{27}$/],
    ['range_id', { algorithm: 'range_id' }, /^[0-9A-Za-z]{16}$/],
    ['range_id with options', { algorithm: 'range_id', range_id: { length: 8, char_set: 'abcdef' } }, /^[a-f]{8}$/],
  ])('%s', (_name, conf, form) => {
    const instance = linkPlugin(requestId, conf)
    const ids = new Set<string>()
    for (let round = 0; round < 50; round++) {
      const exchange = fakeExchange()
      instance.rewrite?.(exchange)
      const id = exchange.requestHeaders.get('x-request-id') ?? ''
      expect(id).toMatch(form)
      expect(exchange.requestId).toBe(id)
      ids.add(id)
    }
    expect(ids.size).toBeGreaterThan(45)
  })

  test('of more than one batch are all different, and in form', () => {
    const instance = linkPlugin(requestId, {})
    const ids = new Set<string>()
    for (let round = 0; round < 300; round++) {
      const exchange = fakeExchange()
      instance.rewrite?.(exchange)
      ids.add(exchange.requestId)
    }
    expect(ids.size).toBe(300)
    for (const id of ids) expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  })

  test('uuidv7 carries the milliseconds in front', () => {
    expect(uuidV7(0x0123456789ab, Buffer.alloc(10, 0xff))).toBe('01234567-89ab-7fff-bfff-ffffffffffff')
  })

  test('ksuid follows the published format', () => {
    expect(ksuid(1_400_000_000_000, Buffer.alloc(16))).toBe('0'.repeat(27))
    // Vector of the format's authors: timestamp 107608047, payload B5A1CD34B5F99D1154FB6853345C9735.
    expect(ksuid((107_608_047 + 1_400_000_000) * 1000, Buffer.from('B5A1CD34B5F99D1154FB6853345C9735', 'hex'))).toBe(
      '0ujtsYcgvSTl8PAuAdqWYSMnLOv',
    )
  })
})

test('a non-empty id of the client is kept, an empty one is not', () => {
  const kept = fakeExchange({ headers: { 'x-request-id': 'mine' } })
  const made = fakeExchange({ headers: { 'x-request-id': '' } })
  const instance = linkPlugin(requestId, {})
  instance.rewrite?.(kept)
  instance.rewrite?.(made)
  expect([kept.requestId, kept.requestHeaders.getAll('x-request-id')]).toEqual(['mine', ['mine']])
  expect(made.requestHeaders.getAll('x-request-id')).toEqual([made.requestId])
  expect(made.requestId).not.toBe('')
})

test('the spelling of the header is kept', () => {
  const exchange = fakeExchange().respond({})
  const instance = linkPlugin(requestId, { header_name: 'X-Request-ID' })
  instance.rewrite?.(exchange)
  instance.headerFilter?.(exchange)
  const { requestHeaders, response } = exchange
  expect(requestHeaders.names[requestHeaders.keys.indexOf('x-request-id')]).toBe('X-Request-ID')
  expect(response.headers.names[0]).toBe('X-Request-ID')
  expect(response.headers.get('x-request-id')).toBe(exchange.requestId)
})

test('the answer of the upstream wins', () => {
  const exchange = fakeExchange().respond({ headers: { 'x-request-id': 'theirs' } })
  const instance = linkPlugin(requestId, {})
  instance.rewrite?.(exchange)
  instance.headerFilter?.(exchange)
  expect(exchange.response.headers.getAll('x-request-id')).toEqual(['theirs'])
})

test('include_in_response false shows nothing', () => {
  expect(linkPlugin(requestId, { include_in_response: false }).headerFilter).toBeUndefined()
})

test('answers made before rewrite ran carry an id too', () => {
  const exchange = fakeExchange().respond({ status: 400, source: 'gateway' })
  linkPlugin(requestId, {}).headerFilter?.(exchange)
  expect(exchange.response.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/)
})

test.each<[string, Json, string]>([
  ['an unknown algorithm', { algorithm: 'snowflake' }, 'algorithm'],
  ['a short range_id', { range_id: { length: 5 } }, 'range_id.length'],
  ['a small char_set', { range_id: { char_set: 'abc' } }, 'range_id.char_set'],
  ['a char_set with blanks', { range_id: { char_set: 'abc def' } }, 'range_id.char_set'],
  ['a repeated character', { range_id: { char_set: 'abcdea' } }, 'range_id.char_set'],
  ['a bad header name', { header_name: 'X Y' }, 'header_name'],
])('refuses %s', (_what, conf, path) => {
  expect(problemsOf(requestId, conf).map((problem) => problem.path)).toContain(path)
})
