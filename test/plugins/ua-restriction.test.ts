import { describe, expect, test } from 'vitest'
import type { Json } from '../../src/plugins/plugin.js'
import { uaRestriction } from '../../src/plugins/ua-restriction.js'
import { type FakeHeaders, fakeExchange } from '../support/fake-exchange.js'
import { configure, problemsOf, requestPhases } from './configured.js'

const refusal = { status: 403, body: '{"message":"Not allowed"}\n' }

function ask(conf: Json, headers: FakeHeaders) {
  return requestPhases(configure(uaRestriction, conf), fakeExchange({ headers }))
}

describe('ua-restriction', () => {
  test.each<[string | string[], object | undefined]>([
    ['curl/8.0', undefined],
    ['  curl/8.0  ', undefined],
    ['Mozilla/5.0 curl/8.0', refusal],
    [['curl/8.0', 'curl/7.0'], undefined],
    [['curl/8.0', 'evil'], refusal],
  ])('an allowlist lets only matching agents pass: %j', async (agent, expected) => {
    expect(await ask({ allowlist: ['^curl/', '^wget/'] }, { 'User-Agent': agent })).toEqual(expected)
  })

  test.each<[string | string[], object | undefined]>([
    ['my-spider/1.0', refusal],
    ['Twitterspider/2.0', refusal],
    ['Mozilla/5.0', undefined],
    [['Mozilla/5.0', 'my-spider/1.0'], refusal],
  ])('a denylist keeps matching agents out: %j', async (agent, expected) => {
    expect(await ask({ denylist: ['my-spider', '(Twitterspider)/(\\d+)'] }, { 'user-agent': agent })).toEqual(expected)
  })

  test.each<[FakeHeaders]>([[{}], [{ 'User-Agent': '' }], [{ 'User-Agent': '   ' }]])(
    'a missing agent is refused unless bypassed: %j',
    async (headers) => {
      for (const list of [{ allowlist: ['^curl'] }, { denylist: ['^curl'] }]) {
        expect(await ask(list, headers)).toEqual(refusal)
        expect(await ask({ ...list, bypass_missing: true }, headers)).toBeUndefined()
      }
    },
  )

  test('sends the configured message', async () => {
    expect(await ask({ denylist: ['.'], message: 'go away' }, { 'User-Agent': 'x' })).toEqual({
      status: 403,
      body: '{"message":"go away"}\n',
    })
  })

  test('refuses both lists, no list, empty lists and broken expressions', () => {
    expect(problemsOf(uaRestriction, {})).toEqual([': exactly one of allowlist, denylist is required, but none of them is given'])
    expect(problemsOf(uaRestriction, { allowlist: ['a'], denylist: ['b'] })).toHaveLength(1)
    expect(problemsOf(uaRestriction, { allowlist: [] })).toHaveLength(1)
    expect(problemsOf(uaRestriction, { denylist: ['ok', '(unclosed'] })[0]).toMatch(/^denylist\.1: /)
  })
})
