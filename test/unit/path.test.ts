import { describe, expect, test } from 'vitest'
import { CanonicalPath, canonicalPath, type PathPolicy } from '../../src/base/path.js'

const defaults: PathPolicy = { encodedSlash: 'keep', doubleSlash: 'merge', deleteTailSlash: false, servlet: false }

/** `[match, forward]`, or the problem. */
function read(raw: string, policy: Partial<PathPolicy> = {}): [string, string] | string {
  const out = new CanonicalPath()
  return canonicalPath(raw, { ...defaults, ...policy }, out) ? [out.match, out.forward] : out.problem
}

describe('canonical path', () => {
  test('an ordinary path is handed on as the same string', () => {
    const raw = `/a.b/~user/x;y=1/@:!$&'()*+,="<>^\`|{}`
    const out = new CanonicalPath()
    expect(canonicalPath(raw, defaults, out)).toBe(true)
    expect(out.match).toBe(raw)
    expect(out.forward).toBe(raw)
  })

  test('escapes are decoded once for matching and left alone for forwarding', () => {
    expect(read('/a%20b/%41/%c3%a9/%F0%9F%98%80')).toEqual(['/a b/A/é/😀', '/a%20b/%41/%c3%a9/%F0%9F%98%80'])
    expect(read('/100%25')).toEqual(['/100%25', '/100%25'])
    expect(read('/%252e%252e/x')).toEqual(['/%252e%252e/x', '/%252e%252e/x'])
    expect(read('/100%25', { encodedSlash: 'reject' })).toEqual(['/100%', '/100%25'])
  })

  test('dot segments are resolved in both', () => {
    expect(read('/a/./b/../c')).toEqual(['/a/c', '/a/c'])
    expect(read('/a/b/..')).toEqual(['/a/', '/a/'])
    expect(read('/a/.')).toEqual(['/a/', '/a/'])
    expect(read('/.well-known/..x/...')).toEqual(['/.well-known/..x/...', '/.well-known/..x/...'])
    expect(read('/a/../../b')).toContain('root')
    expect(read('/..')).toContain('root')
  })

  test.each([
    ['/a/%2e%2e/b', 'encoded dot segment'],
    ['/a/.%2E/b', 'encoded dot segment'],
    ['/%2e', 'encoded dot segment'],
    ['/a/..;/b', 'dot segment with parameters'],
    ['/a/..;x=1/b', 'dot segment with parameters'],
    ['/a/..%3b/b', 'dot segment with parameters'],
    ['/a/%2e%2e;/b', 'dot segment with parameters'],
    ['/a%00', 'control'],
    ['/a%0d%0a', 'control'],
    ['/a%7f', 'control'],
    ['/a%C2%85', 'control'],
    ['/a%5Cb', 'backslash'],
    ['/a\\b', 'must be percent-encoded'],
    ['/a b', 'must be percent-encoded'],
    ['/a#b', 'must be percent-encoded'],
    ['/a\u0000', 'must be percent-encoded'],
    ['/é', 'must be percent-encoded'],
    ['/%', 'incomplete'],
    ['/%4', 'incomplete'],
    ['/%g1', 'incomplete'],
    ['/%c0%af', 'UTF-8'],
    ['/%e0%80%af', 'UTF-8'],
    ['/%ed%a0%80', 'UTF-8'],
    ['/%f4%90%80%80', 'UTF-8'],
    ['/%ff', 'UTF-8'],
    ['/%c3', 'UTF-8'],
    ['a', 'does not start'],
    ['', 'does not start'],
  ])('refuses %s', (raw, problem) => {
    expect(read(raw)).toContain(problem)
  })

  test('%2F: kept, refused or decoded', () => {
    expect(read('/a%2fb%2Fc')).toEqual(['/a%2Fb%2Fc', '/a%2fb%2Fc'])
    expect(read('/a%2fb', { encodedSlash: 'reject' })).toContain('%2F')
    expect(read('/a%2fb', { encodedSlash: 'decode' })).toEqual(['/a/b', '/a/b'])
    expect(read('/a%2F..%2fb', { encodedSlash: 'decode' })).toEqual(['/b', '/b'])
    expect(read('/a/%2Fb', { encodedSlash: 'decode' })).toEqual(['/a/b', '/a/b'])
    expect(read('/..%2f..', { encodedSlash: 'decode' })).toContain('root')
  })

  test('//: merged, kept or refused', () => {
    expect(read('//a///b//')).toEqual(['/a/b/', '/a/b/'])
    expect(read('//a//b', { doubleSlash: 'keep' })).toEqual(['//a//b', '//a//b'])
    expect(read('/a//b', { doubleSlash: 'reject' })).toContain('//')
    expect(read('/a//', { doubleSlash: 'reject' })).toContain('//')
  })

  test('servlet strips parameters, deleteTailSlash changes only what is matched', () => {
    expect(read('/a;v=1/b;c', { servlet: true })).toEqual(['/a/b', '/a/b'])
    expect(read('/a;v=1/b')).toEqual(['/a;v=1/b', '/a;v=1/b'])
    expect(read('/a/b/', { deleteTailSlash: true })).toEqual(['/a/b', '/a/b/'])
    expect(read('/', { deleteTailSlash: true })).toEqual(['/', '/'])
  })
})
