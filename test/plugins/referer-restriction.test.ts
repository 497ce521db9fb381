import { describe, expect, test } from 'vitest'
import type { Json } from '../../src/plugins/plugin.js'
import { refererRestriction } from '../../src/plugins/referer-restriction.js'
import { type FakeHeaders, fakeExchange } from '../support/fake-exchange.js'
import { configure, problemsOf, requestPhases } from './configured.js'

const refusal = { status: 403, body: '{"message":"Your referer host is not allowed"}\n' }

function ask(conf: Json, headers: FakeHeaders) {
  return requestPhases(configure(refererRestriction, conf), fakeExchange({ headers }))
}

describe('referer-restriction', () => {
  test.each([
    ['http://good.test/page', undefined],
    ['https://GOOD.test', undefined],
    ['//good.test/x', undefined],
    ['https://good.test:8443/?q=evil.test', undefined],
    ['https://user@good.test/', undefined],
    ['https://a.b.wide.test/', undefined],
    ['https://wide.test/', refusal],
    ['https://.wide.test/', refusal],
    ['https://notwide.test/', refusal],
    ['https://[2001:db8::1]:80/', undefined],
    ['https://evil.test/good.test', refusal],
    ['https://evil.test/?good.test', refusal],
    ['https://good.test@evil.test/', refusal],
    ['https://good.test.evil.test/', refusal],
    ['https://evil.test\\@good.test/', refusal],
    ['https://evil.test#@good.test/', refusal],
  ])('a whitelist lets only listed hosts refer: %s', async (referer, expected) => {
    expect(await ask({ whitelist: ['good.test', '*.wide.test', '[2001:db8::1]'] }, { Referer: referer })).toEqual(expected)
  })

  test.each([
    ['http://evil.test/', refusal],
    ['http://x.evil.test/', refusal],
    ['http://good.test/', undefined],
  ])('a blacklist keeps listed hosts from referring: %s', async (referer, expected) => {
    expect(await ask({ blacklist: ['evil.test', '*.evil.test'] }, { referer })).toEqual(expected)
  })

  test('a lone star means every host', async () => {
    expect(await ask({ whitelist: ['*'] }, { Referer: 'http://any.test/' })).toBeUndefined()
    expect(await ask({ blacklist: ['*'] }, { Referer: 'http://any.test/' })).toEqual(refusal)
  })

  test('allowlist and denylist are expressions for the host', async () => {
    const allow = { allowlist: ['^(www\\.)?good\\.test$'] }
    expect(await ask(allow, { Referer: 'https://WWW.good.test/x' })).toBeUndefined()
    expect(await ask(allow, { Referer: 'https://evil.test/?www.good.test' })).toEqual(refusal)
    const deny = { denylist: ['Evil'] }
    expect(await ask(deny, { Referer: 'https://very-evil.test/' })).toEqual(refusal)
    expect(await ask(deny, { Referer: 'https://good.test/evil' })).toBeUndefined()
  })

  test.each<[FakeHeaders]>([
    [{}],
    [{ Referer: '' }],
    [{ Referer: '-' }],
    [{ Referer: '/just/a/path' }],
    [{ Referer: 'ftp://good.test/' }],
    [{ Referer: 'http://' }],
  ])('a missing or malformed referer is refused unless bypassed: %j', async (headers) => {
    for (const list of [{ whitelist: ['good.test'] }, { blacklist: ['evil.test'] }]) {
      expect(await ask(list, headers)).toEqual(refusal)
      expect(await ask({ ...list, bypass_missing: true }, headers)).toBeUndefined()
    }
  })

  test('wants exactly one list of well-formed items', () => {
    expect(problemsOf(refererRestriction, {})).toHaveLength(1)
    expect(problemsOf(refererRestriction, { whitelist: ['a'], blacklist: ['b'] })).toHaveLength(1)
    expect(problemsOf(refererRestriction, { whitelist: ['http://a.test/'] })).toHaveLength(1)
    expect(problemsOf(refererRestriction, { allowlist: ['('] })[0]).toMatch(/^allowlist\.0: /)
    expect(problemsOf(refererRestriction, { whitelist: ['a'], message: '' })).toHaveLength(1)
  })
})
