import { describe, expect, test } from 'vitest'
import type { Json, Reply } from '../../src/plugins/plugin.js'
import { redirect } from '../../src/plugins/redirect.js'
import { type FakeRequest, fakeExchange } from '../support/fake-exchange.js'
import { type FakePrepareOptions, linkKit, linkPlugin, prepareKit, problemsOf } from '../support/link-kit.js'

function ask(conf: Json, request: FakeRequest, prepare: FakePrepareOptions = {}): [number, string] | undefined {
  const result = linkPlugin(redirect, conf, linkKit(), prepareKit(prepare)).rewrite?.(fakeExchange(request))
  if (result === undefined) return undefined
  const { status, headers } = result as Reply
  expect(headers?.map(([name]) => name)).toEqual(['Location'])
  return [status, headers?.[0]?.[1] ?? '']
}

describe('uri', () => {
  test.each<[Json, string, number, string]>([
    [{ uri: '/new' }, '/old?a=1', 302, '/new'],
    [{ uri: '/new', ret_code: 301 }, '/old', 301, '/new'],
    [{ uri: 'https://$host/x$uri' }, '/old', 302, 'https://example.test/x/old'],
    [{ uri: '/new$uri', append_query_string: true }, '/old?a=1', 302, '/new/old?a=1'],
    [{ uri: '/new?x=2', append_query_string: true }, '/old?a=1', 302, '/new?x=2&a=1'],
    [{ uri: '/new', append_query_string: true }, '/old', 302, '/new'],
    [{ uri: '/new$uri', encode_uri: true }, '/a%20b%3Fc', 302, '/new/a%20b?c'],
    [{ uri: '/$arg_x' }, '/?x=a%0D%0ASet-Cookie:b', 302, '/a%0D%0ASet-Cookie:b'],
    [{ uri: '/new$uri' }, '/caf%C3%A9', 302, '/new/caf%C3%A9'],
  ])('%j on %s', (conf, target, status, location) => {
    expect(ask(conf, { target })).toEqual([status, location])
  })
})

describe('regex_uri', () => {
  test.each<[string[], string, string | undefined]>([
    [['^/test/(.*)', '/new/$1'], '/test/a/b', '/new/a/b'],
    [['^/(\\w+)/(\\w+)$', 'https://$2.test/$1'], '/a/b', 'https://b.test/a'],
    [['/x/', '/y/'], '/a/x/b', '/a/y/b'],
    [['^/miss', '/new'], '/test', undefined],
  ])('%j on %s', (pair, target, location) => {
    expect(ask({ regex_uri: pair, ret_code: 308 }, { target })).toEqual(location === undefined ? undefined : [308, location])
  })
})

describe('http_to_https', () => {
  const conf = { http_to_https: true }
  test.each<[FakeRequest, number | undefined]>([
    [{ method: 'GET' }, 301],
    [{ method: 'HEAD' }, 301],
    [{ method: 'POST' }, 308],
    [{ method: 'DELETE' }, 308],
    [{ scheme: 'https' }, undefined],
    [{ headers: { 'X-Forwarded-Proto': 'https' } }, undefined],
    [{ scheme: 'https', headers: { 'X-Forwarded-Proto': 'http' } }, 301],
  ])('%j', (request, status) => {
    expect(ask(conf, { ...request, host: 'a.test:9080', target: '/x%20y?q=1' })?.[0]).toBe(status)
  })

  test.each<[FakePrepareOptions, string]>([
    [{}, 'https://a.test/x?q=1'],
    [{ tlsPorts: [9443] }, 'https://a.test:9443/x?q=1'],
    [{ tlsPorts: [443] }, 'https://a.test/x?q=1'],
    [{ tlsPorts: [9443], attributes: { https_port: 8443 } }, 'https://a.test:8443/x?q=1'],
    [{ tlsPorts: [9443], attributes: { https_port: 443 } }, 'https://a.test/x?q=1'],
    [{ attributes: { https_port: 70_000 } }, 'https://a.test/x?q=1'],
  ])('port: %j', (prepare, location) => {
    expect(ask(conf, { host: 'a.test:9080', target: '/x?q=1' }, prepare)).toEqual([301, location])
  })

  test('ret_code does not change it', () => {
    expect(ask({ ...conf, ret_code: 302 }, {})?.[0]).toBe(301)
  })
})

test.each<[string, Json, string]>([
  ['nothing', {}, ''],
  ['two ways', { uri: '/a', http_to_https: true }, ''],
  ['http_to_https with append_query_string', { http_to_https: true, append_query_string: true }, 'append_query_string'],
  ['three items', { regex_uri: ['a', 'b', 'c'] }, 'regex_uri'],
  ['a broken pattern', { regex_uri: ['(', 'b'] }, 'regex_uri.0'],
  ['ret_code 199', { uri: '/', ret_code: 199 }, 'ret_code'],
])('refuses %s', (_what, conf, path) => {
  expect(problemsOf(redirect, conf).map((problem) => problem.path)).toContain(path)
})
