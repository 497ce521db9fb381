import { expect, test } from 'vitest'
import { echo } from '../../src/plugins/echo.js'
import type { Json } from '../../src/plugins/plugin.js'
import { type FakeAnswer, type FakeExchange, fakeExchange } from '../support/fake-exchange.js'
import { linkPlugin, problemsOf } from '../support/link-kit.js'

function answered(conf: Json, answer: FakeAnswer): FakeExchange {
  const exchange = fakeExchange().respond(answer)
  linkPlugin(echo, conf).headerFilter?.(exchange)
  return exchange
}

test.each<[Json, FakeAnswer['body'], string]>([
  [{ body: 'new' }, 'old', 'new'],
  [{ before_body: '<', body: 'new', after_body: '>' }, 'old', '<new>'],
  [{ before_body: '<' }, ['o', 'l', 'd'], '<old'],
  [{ after_body: '>' }, ['o', 'l', 'd'], 'old>'],
  [{ before_body: '<', after_body: '>' }, ['old'], '<old>'],
  [{ before_body: '<', after_body: '>' }, '', '<>'],
])('%j on %j', async (conf, body, expected) => {
  const exchange = answered(conf, { body: body ?? '', headers: { ETag: '"1"' } })
  expect((await exchange.body()).toString()).toBe(expected)
  expect(exchange.response.headers.has('etag')).toBe(false)
})

test('headers are set', () => {
  const { headers } = answered({ body: '', headers: { 'X-A': 'new', 'X-N': 1 } }, { headers: { 'x-a': 'old' } }).response
  expect([headers.getAll('x-a'), headers.get('x-n')]).toEqual([['new'], '1'])
})

test('text is not put around an encoded body, but replaces it', async () => {
  const encoded = { headers: { 'Content-Encoding': 'gzip' }, body: 'bytes' }
  expect((await answered({ before_body: '<' }, encoded).body()).toString()).toBe('bytes')
  const replaced = answered({ body: 'new' }, encoded)
  expect((await replaced.body()).toString()).toBe('new')
  expect(replaced.response.headers.has('content-encoding')).toBe(false)
})

test.each<[string, Json, string]>([
  ['nothing', { headers: { a: '1' } }, ''],
  ['a framing header', { body: '', headers: { 'Content-Length': 3 } }, 'headers.Content-Length'],
])('refuses %s', (_what, conf, path) => {
  expect(problemsOf(echo, conf).map((problem) => problem.path)).toContain(path)
})
