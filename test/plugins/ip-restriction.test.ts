import { describe, expect, test } from 'vitest'
import { ipRestriction } from '../../src/plugins/ip-restriction.js'
import type { Json } from '../../src/plugins/plugin.js'
import { fakeExchange } from '../support/fake-exchange.js'
import { configure, problemsOf, requestPhases } from './configured.js'

const refusal = { status: 403, body: '{"message":"Your IP address is not allowed"}\n' }

function ask(conf: Json, clientAddress: string) {
  return requestPhases(configure(ipRestriction, conf), fakeExchange({ clientAddress }))
}

describe('ip-restriction', () => {
  test.each([
    ['10.0.0.7', undefined],
    ['10.0.1.7', refusal],
    ['192.168.1.1', undefined],
    ['2001:db8::1', undefined],
    ['2001:db9::1', refusal],
    ['::ffff:10.0.0.7', undefined],
    ['not an address', refusal],
  ])('a whitelist lets only listed addresses pass: %s', async (address, expected) => {
    expect(await ask({ whitelist: ['10.0.0.0/24', '192.168.1.1', '2001:db8::/32'] }, address)).toEqual(expected)
  })

  test.each([
    ['10.0.0.7', refusal],
    ['10.0.1.7', undefined],
    ['2001:db8::1', refusal],
    ['::1', undefined],
  ])('a blacklist keeps listed addresses out: %s', async (address, expected) => {
    expect(await ask({ blacklist: ['10.0.0.0/24', '2001:db8::/32'] }, address)).toEqual(expected)
  })

  test('decides on the client address, not on the peer', async () => {
    const instance = configure(ipRestriction, { whitelist: ['1.2.3.4'] })
    expect(await requestPhases(instance, fakeExchange({ clientAddress: '1.2.3.4', peerAddress: '10.0.0.1' }))).toBeUndefined()
    expect(await requestPhases(instance, fakeExchange({ clientAddress: '5.6.7.8', peerAddress: '1.2.3.4' }))).toEqual(refusal)
  })

  test('sends the configured status and message', async () => {
    const conf = { blacklist: ['0.0.0.0/0'], response_code: 404, message: 'no "such" page' }
    expect(await ask(conf, '1.1.1.1')).toEqual({ status: 404, body: '{"message":"no \\"such\\" page"}\n' })
  })

  test('wants exactly one list', () => {
    expect(problemsOf(ipRestriction, {})).toEqual([': exactly one of whitelist, blacklist is required, but none of them is given'])
    expect(problemsOf(ipRestriction, { whitelist: ['::1'], blacklist: ['::1'] })).toEqual([
      ': exactly one of whitelist, blacklist is required, but whitelist and blacklist are given',
    ])
  })

  test('names every faulty address with its place', () => {
    const problems = problemsOf(ipRestriction, { whitelist: ['1.2.3.4', '1.2.3.4/33', '300.1.1.1'] })
    expect(problems).toHaveLength(2)
    expect(problems[0]).toMatch(/^whitelist\.1: .*1\.2\.3\.4\/33/)
    expect(problems[1]).toMatch(/^whitelist\.2: .*300\.1\.1\.1/)
  })

  test.each<[Json]>([
    [{ whitelist: [] }],
    [{ whitelist: ['::1'], response_code: 402 }],
    [{ whitelist: ['::1'], response_code: 405 }],
    [{ whitelist: ['::1'], message: '' }],
    [{ whitelist: ['::1'], message: 'x'.repeat(1025) }],
  ])('refuses values out of bounds: %j', (conf) => {
    expect(problemsOf(ipRestriction, conf)).toHaveLength(1)
  })
})
