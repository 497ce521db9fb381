import { expect, test } from 'vitest'
import { matchHostPattern, matchUriPattern, readHostPattern, readUriPattern, uriPatternWarning } from '../../src/schema/uri-pattern.js'

test('patterns are read per router mode', () => {
  expect(readUriPattern('/a', 'radixtree_uri')).toEqual({ kind: 'exact', path: '/a' })
  expect(readUriPattern('/a*', 'radixtree_uri')).toEqual({ kind: 'prefix', path: '/a' })
  expect(readUriPattern('*', 'radixtree_host_uri')).toEqual({ kind: 'prefix', path: '' })
  expect(readUriPattern('/a/:id', 'radixtree_uri')).toEqual({ kind: 'exact', path: '/a/:id' })
  expect(readUriPattern('/a/:id/b*', 'radixtree_uri_with_parameter')).toEqual({
    kind: 'segments',
    segments: [
      { kind: 'static', text: 'a' },
      { kind: 'param', name: 'id' },
      { kind: 'prefix', text: 'b' },
    ],
  })
})

test('one pattern against one path', () => {
  const match = (uri: string, path: string) => {
    const found = matchUriPattern(readUriPattern(uri, 'radixtree_uri_with_parameter'), path)
    return found === null ? null : Object.fromEntries(found)
  }
  expect(match('/a/:id', '/a/7')).toEqual({ id: '7' })
  expect(match('/a/:id', '/a/')).toBeNull()
  expect(match('/a/:id', '/a/7/')).toBeNull()
  expect(match('/a/*rest', '/a/b/c')).toEqual({ rest: 'b/c' })
  expect(match('/a/*', '/a/')).toEqual({ ':ext': '' })
  expect(match('/a/*', '/a')).toBeNull()
  expect(match('/a/b*', '/a/bc/d')).toEqual({})
  expect(match('*', '/anything')).toEqual({ ':ext': 'anything' })
})

test('hosts with and without ports', () => {
  const match = (pattern: string, header: string) => matchHostPattern(readHostPattern(pattern), header.replace(/:\d+$/, ''), header)
  expect(match('A.test', 'a.test:80')).toBe(true)
  expect(match('a.test:80', 'a.test:80')).toBe(true)
  expect(match('a.test:80', 'a.test:81')).toBe(false)
  expect(match('*.test', 'b.a.test')).toBe(true)
  expect(match('*.a.test', 'a.test')).toBe(false)
  expect(match('[::1]', '[::1]:9080')).toBe(true)
  expect(match('[::1]:80', '[::1]:9080')).toBe(false)
})

test('patterns that no canonical path matches are warned about, in every mode', () => {
  for (const mode of ['radixtree_host_uri', 'radixtree_uri', 'radixtree_uri_with_parameter'] as const) {
    for (const uri of ['/a%20b', '/a%2fb', '/a%', '/%C3%BC/*', '/a/./b', '/a/../b', '/a/..', '/a/.'])
      expect(uriPatternWarning(uri, mode), uri).toContain('no request can match')
    for (const uri of ['/', '/*', '*', '/a//b', '/a b', '/a%2Fb', '/100%25', '/ü/*', '/.well-known/*', '/a..b', '/a/...', '/a.'])
      expect(uriPatternWarning(uri, mode), uri).toBeNull()
  }
  expect(uriPatternWarning('/a/*/../b', 'radixtree_uri')).toContain(
    'everything after the first * is ignored; this matches the same as "/a/*"',
  )
})
