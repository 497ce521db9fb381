import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { CanonicalPath, canonicalPath } from '../../src/base/path.js'
import { compilePattern } from '../../src/base/pattern.js'
import { aroundMatch, encodePath, encodeQuery, removeDotSegments, splitTarget } from '../../src/base/rewrite-target.js'

/** The gateway's own template language, spelt so that it is no JavaScript template. */
const withDefault = '$' + '{a ?? b}'

test.each<[string, string, string | null]>([
  ['/a', '/a', null],
  ['/a?', '/a', ''],
  ['/a?b=1?c', '/a', 'b=1?c'],
  [`/${withDefault}`, `/${withDefault}`, null],
  [`/${withDefault}?x=${withDefault}`, `/${withDefault}`, `x=${withDefault}`],
])('splitTarget %s', (template, path, query) => {
  expect(splitTarget(template)).toEqual({ path, query })
})

test.each([
  ["/a-z/A.Z/0~9_!$&'()*+,;=:@", "/a-z/A.Z/0~9_!$&'()*+,;=:@"],
  ['/a b', '/a%20b'],
  ['/a?b#c', '/a%3Fb%23c'],
  ['/%2F%25%2f', '/%2F%25%2f'],
  ['/100%', '/100%25'],
  ['/%20%zz', '/%2520%25zz'],
  ['/é你😀', '/%C3%A9%E4%BD%A0%F0%9F%98%80'],
  ['/\r\n\0', '/%0D%0A%00'],
  ['/"<>^`{|}\\', '/%22%3C%3E%5E%60%7B%7C%7D%5C'],
])('encodePath %j', (path, expected) => {
  expect(encodePath(path)).toBe(expected)
})

test('encodeQuery leaves what a query may hold', () => {
  expect(encodeQuery("a=%zz&b=?/+'{}")).toBe("a=%zz&b=?/+'{}")
  expect(encodeQuery('a b\r\n#"<é')).toBe('a%20b%0D%0A%23%22%3C%C3%A9')
})

test.each([
  ['/a/./b', '/a/b'],
  ['/a/../b', '/b'],
  ['/../../b', '/b'],
  ['/a/b/..', '/a/'],
  ['/a/.', '/a/'],
  ['/..', '/'],
  ['/.well-known/..a', '/.well-known/..a'],
  ['/a//../b', '/a/b'],
])('removeDotSegments %s', (path, expected) => {
  expect(removeDotSegments(path)).toBe(expected)
})

describe('aroundMatch', () => {
  test.each([
    ['/mid/', '/a/mid/b', '/a', 'b'],
    ['^/a', '/a', '', ''],
    ['none', '/a', '', ''],
  ])('%s in %s', (pattern, input, before, after) => {
    expect(aroundMatch(compilePattern(pattern), input)).toEqual({ before, after })
  })
})

test('encoding a canonical path again gives a path that reads the same', () => {
  const policy = { encodedSlash: 'keep', doubleSlash: 'merge', deleteTailSlash: false, servlet: false } as const
  const first = new CanonicalPath()
  const second = new CanonicalPath()
  let accepted = 0
  fc.assert(
    fc.property(
      fc.array(fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('/', '%', '%2F', '%25', '.', '?')), { maxLength: 6 }),
      (parts) => {
        if (!canonicalPath(`/${encodeURIComponent(parts.join(''))}`, policy, first)) return
        accepted++
        expect(canonicalPath(encodePath(first.match), policy, second), second.problem).toBe(true)
        expect(second.match).toBe(first.match)
      },
    ),
    { seed: 20_261_123, numRuns: 2000, verbose: true },
  )
  expect(accepted).toBeGreaterThan(500)
})
