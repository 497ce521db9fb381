import fc from 'fast-check'
import { expect, test } from 'vitest'
import { fieldNameProblem, fieldValue } from '../../src/base/field.js'

test.each([
  ['plain', 'plain'],
  ['two  words', 'two  words'],
  ['tab\there', 'tab\there'],
  [' padded\t', 'padded'],
  ['a\r\nSet-Cookie: b', 'a%0D%0ASet-Cookie: b'],
  ['nul\0', 'nul%00'],
  ['del\x7f', 'del%7F'],
  ['latin \xe9', 'latin \xe9'],
  ['wide 你', 'wide %E4%BD%A0'],
  ['lone \ud800', 'lone %EF%BF%BD'],
  ['', ''],
  [' ', ''],
])('%j becomes %j', (text, expected) => {
  expect(fieldValue(text)).toBe(expected)
})

test('no text leaves a control byte, and a safe text is left alone', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      const value = fieldValue(text)
      expect([...value].every((character) => /[\t\x20-\x7e\x80-\xff]/.test(character))).toBe(true)
      expect(fieldValue(value)).toBe(value)
    }),
    { seed: 20_261_123, numRuns: 2000, verbose: true },
  )
})

test.each([
  ['X-Request-ID', true],
  ['x_y', true],
  ['', false],
  ['a b', false],
  ['a:b', false],
  ['a\r\n', false],
  ['é', false],
  ['Content-Length', false],
  ['transfer-ENCODING', false],
  ['Connection', false],
  ['Upgrade', false],
])('name %j: %s', (name, allowed) => {
  expect(fieldNameProblem(name) === null).toBe(allowed)
})
