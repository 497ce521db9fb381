import fc from 'fast-check'
import { RE2JS } from 're2js'
import { describe, expect, test } from 'vitest'
import { compilePattern, patternProblem } from '../../src/base/pattern.js'
import { isLinear } from '../../src/base/pattern-safety.js'
import { parsePatternSyntax, writePattern } from '../../src/base/pattern-syntax.js'

function isNative(source: string): boolean {
  return isLinear(parsePatternSyntax(source, false))
}

describe('which patterns run on the backtracking engine', () => {
  test.each([
    '^/api/v1/(.*)$',
    '^/([^/]+)/([^/]+)$',
    'root\\.exe',
    'root\\.m+',
    '^a.*b',
    '\\.(?:js|css)$',
    '^(GET|POST)$',
    '^[0-9]+$',
    '^/a?b{1,3}c',
    '^(?!.*test)',
    'a.*',
    '^(?:[a-z]{1,8}-)?x',
  ])('native: %s', (source) => {
    expect(isNative(source)).toBe(true)
  })

  test.each([
    '(a+)+$',
    '^(a|aa)*b$',
    '^(a|a)*$',
    'a*a*b',
    '.*foo',
    'foo.*bar',
    '^.*a.*b',
    '^a*a*$',
    '(?:[^/]+/)*x',
    '^.*x[^y]*y',
    '[a-z]+\\d',
    '^(.*,){11}P',
    '(?m)^a*b',
    '(?i)a+k',
  ])('re2: %s', (source) => {
    expect(isNative(source)).toBe(false)
  })

  test('hostile input takes linear time on either engine', () => {
    const hostile = `${'a'.repeat(50_000)}!`
    for (const source of ['^(a+)+$', '(a|aa)*b$', '^a*a*a*b$', '^[a]*b', 'a+b']) expect(compilePattern(source).test(hostile)).toBe(false)
  })
})

describe('spellings', () => {
  test('flags at the start', () => {
    expect(compilePattern('(?i)^abc').test('ABCd')).toBe(true)
    expect(compilePattern('(?is)a.b').test('A\nB')).toBe(true)
    expect(compilePattern('(?m)^b').test('a\nb')).toBe(true)
    expect(compilePattern('^b').test('a\nb')).toBe(false)
  })

  test('PCRE spellings mean what they mean there', () => {
    expect(compilePattern('^[[:alpha:]_]+$').test('ab_')).toBe(true)
    expect(compilePattern('^[[:digit:]]+$').test('a:')).toBe(false)
    expect(compilePattern('\\Aa\\z').test('a')).toBe(true)
    expect(compilePattern('\\Qa.b\\E$').test('axb')).toBe(false)
    expect(compilePattern('\\Qa.b\\E$').test('a.b')).toBe(true)
    expect(compilePattern('^[]a]$').test(']')).toBe(true)
    expect(compilePattern('^\\x{e9}$').test('é')).toBe(true)
    expect(compilePattern('(?P<year>\\d{4})').exec('in 2024')).toEqual(expect.objectContaining({ 1: '2024' }))
    expect(compilePattern('\\p{Lu}').test('é')).toBe(false)
    expect(compilePattern('\\p{Lu}').test('É')).toBe(true)
    expect(compilePattern('^a{,3}$').test('a{,3}')).toBe(true)
  })

  test.each([
    ['a++', 'possessive'],
    ['(?>a)', 'atomic'],
    ['(a)\\1', 'back-reference'],
    ['(?<=a+)b', 'look-around'],
    ['a+(?=b)', 'look-around'],
    ['(?x)a b', '(?x)'],
    ['a(?i)b', 'flags in the middle'],
    ['(', 'unclosed ('],
    [')', 'unmatched )'],
    ['[a', 'unclosed ['],
    ['[z-a]', 'counts down'],
    ['*a', 'nothing before it'],
    ['a{3,1}', 'counts down'],
    ['a{1001}', 'too large'],
    ['\\', 'single \\'],
    ['\\R', '\\R is not supported'],
    ['(?R)', 'recursion'],
  ])('refuses %s', (source, problem) => {
    expect(patternProblem(source)).toContain(problem)
  })

  test('a good pattern has no problem', () => {
    expect(patternProblem('^/a/(.*)$')).toBeNull()
  })
})

test('replace: first or all, captures by number, on both engines', () => {
  for (const source of ['([a-c])', '([a-c])(?:x|xx)*']) {
    expect(compilePattern(source).replace('1a2b', '<$1$9$$>', false)).toBe('1<a$>2b')
    expect(compilePattern(source).replace('1a2b', '<$0>', true)).toBe('1<a>2<b>')
  }
  expect(compilePattern('^/a/(.*)/b/(.*)$').replace('/a/1/b/2', '/$2/$1', false)).toBe('/2/1')
})

const seed = 20_240_703

test(`both engines read what is written back alike (seed ${seed})`, () => {
  const atom = fc.constantFrom('a', 'b', '.', '[ab]', '[^a]', '\\d', '\\w', '1', '(a|b)', '(?:ab|a)', '\\.', '-', '[[:alpha:]]')
  const quantifier = fc.constantFrom('', '', '', '?', '*', '+', '{1,2}', '*?')
  const body = fc
    .array(fc.tuple(atom, quantifier), { minLength: 1, maxLength: 5 })
    .map((parts) => parts.map((part) => part.join('')).join(''))
  const source = fc.tuple(fc.constantFrom('', '^'), body, fc.constantFrom('', '$')).map((parts) => parts.join(''))
  const input = fc.array(fc.constantFrom('a', 'b', '1', '.', '-', 'A'), { maxLength: 8 }).map((chars) => chars.join(''))
  let native = 0
  fc.assert(
    fc.property(source, input, fc.boolean(), (text, value, ignoreCase) => {
      const parsed = parsePatternSyntax(text, ignoreCase)
      if (isLinear(parsed)) native++
      const found = compilePattern(text, { ignoreCase }).exec(value)
      const matcher = RE2JS.compile(writePattern(parsed.tree), ignoreCase ? RE2JS.CASE_INSENSITIVE : 0).matcher(value)
      expect(found?.[0]).toBe(matcher.find() ? (matcher.group(0) ?? undefined) : undefined)
    }),
    { seed, numRuns: 1500 },
  )
  expect(native).toBeGreaterThan(200)
})
