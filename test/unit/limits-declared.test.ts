import { describe, expect, test } from 'vitest'
import type { LimiterSpec, LimitRule } from '../../src/limits/contract.js'
import { compareLimiters, type DeclaredLimiter } from '../../src/limits/declared.js'
import { canonicalJson, ownerScope } from '../../src/limits/scope.js'

const minute: LimitRule = { algorithm: 'fixed-window', limit: 1, windowMs: 60_000, start: 'clock' }
const spec: LimiterSpec = { scope: 's', rules: [minute], countRefused: false, dryRun: false, store: { kind: 'local' } }

function declared(changes: Partial<LimiterSpec> = {}, owner = 'routes/1'): DeclaredLimiter {
  return { plugin: 'p', owner, spec: { ...spec, ...changes }, perRoute: false, oneKey: false }
}

function reasons(before: readonly DeclaredLimiter[], after: readonly DeclaredLimiter[]): [number, string[]] {
  const { kept, reset } = compareLimiters(before, after)
  return [kept, reset.map(({ reason }) => reason)]
}

describe('a reload', () => {
  test('keeps what means the same, also when the limit is another', () => {
    expect(reasons([declared()], [declared({ rules: [{ ...minute, limit: 9 }] })])).toEqual([1, []])
  })

  test.each<[string, Partial<LimiterSpec>, RegExp]>([
    ['another scope', { scope: 't' }, /what is counted/],
    ['another window', { rules: [{ ...minute, windowMs: 1000 }] }, /algorithm or window/],
    ['another algorithm', { rules: [{ algorithm: 'token-bucket', rate: 1, burst: 0 }] }, /algorithm or window/],
    ['another window start', { rules: [{ ...minute, start: 'first-hit' }] }, /algorithm or window/],
  ])('resets with %s', (_, changes, reason) =>
    expect(reasons([declared()], [declared(changes)])).toEqual([0, [expect.stringMatching(reason)]]),
  )

  test('says nothing about limiters that come or go', () => {
    expect(reasons([declared()], [declared({}, 'routes/2')])).toEqual([0, []])
  })

  test('tells several limiters of one place apart by their order', () => {
    expect(reasons([declared(), declared({ scope: 'b' })], [declared(), declared({ scope: 'c' })])).toEqual([1, [expect.any(String)]])
  })
})

test('scopes do not depend on the order of names', () => {
  expect(canonicalJson({ b: [1, { d: null, c: 'x' }], a: true })).toBe('{"a":true,"b":[1,{"c":"x","d":null}]}')
  expect(ownerScope('p', 'routes/1', { a: 1, b: 2 })).toBe(ownerScope('p', 'routes/1', { b: 2, a: 1 }))
  expect(ownerScope('p', 'routes/1', { a: 1 })).not.toBe(ownerScope('p', 'routes/1', { a: 2 }))
})
