import { describe, expect, test } from 'vitest'
import { jwt } from '../../src/plugins/jwt.js'
import type { Json } from '../../src/plugins/plugin.js'
import type { FakeRequest } from '../support/fake-exchange.js'
import { FakeConsumers } from '../support/link-kit.js'
import { authenticate, linkAuth } from './authenticated.js'
import { problemsOf } from './configured.js'
import { ec, es, hs, hs256, NOW_S, pem, rs, rs256, rsa, token } from './tokens.js'

const SECRET = 'a secret of the tests, long enough'

function consumers(): FakeConsumers {
  const all = new FakeConsumers()
  all.add({ username: 'jack', id: '7d0b3b0e-0000-4000-8000-000000000001' })
  all.addCredential(jwt, 'jack', { key: 'jack-key', secret: SECRET, rsa_public_key: null })
  all.addCredential(jwt, 'rsa', { key: 'rsa-key', algorithm: 'RS256', rsa_public_key: pem(rsa.publicKey), secret: 'unused' })
  all.addCredential(jwt, 'ec', { key: 'ec-key', algorithm: 'ES256', rsa_public_key: pem(ec.publicKey) })
  all.addCredential(jwt, 'bad', { key: 'bad-key', algorithm: 'RS256', rsa_public_key: 'no key' })
  all.add({ username: 'nobody' })
  return all
}

const link = (conf: Json = {}) => linkAuth(jwt, conf, consumers())
const bearer = (text: string): FakeRequest => ({ headers: { Authorization: `Bearer ${text}` } })
const refusal = (message: string) => ({
  status: 401,
  body: `${JSON.stringify({ message })}\n`,
  challenges: ['Bearer error="invalid_token"'],
  consumer: '',
})
const good = hs256({ iss: 'jack-key' }, SECRET)

describe('jwt', () => {
  test('from the query, cookies and headers; the credential is known by its key', async () => {
    const { instance } = link({ cookie_names: ['session'] })
    const found = await authenticate(instance, bearer(good))
    expect(found).toMatchObject({ status: 0, consumer: 'jack' })
    expect(found.exchange.requestHeaders.get('x-credential-identifier')).toBe('jack-key')
    expect((await authenticate(instance, { target: `/?jwt=${good}` })).consumer).toBe('jack')
    expect((await authenticate(instance, { headers: { Cookie: `a=1; session=${good}` } })).consumer).toBe('jack')
    const everywhere = { target: `/?jwt=${good}`, headers: { Cookie: `session=${good}`, Authorization: `bearer   ${good}` } }
    expect((await authenticate(instance, everywhere)).consumer).toBe('jack')
    const inHeader = link({ key_claim_name: 'kid' }).instance
    expect((await authenticate(inHeader, bearer(hs256({}, SECRET, { kid: 'jack-key' })))).consumer).toBe('jack')
    expect((await authenticate(inHeader, bearer(rs256({ iss: 'x', kid: 'rsa-key' })))).consumer).toBe('rsa')
    expect((await authenticate(instance, bearer(token({ alg: 'ES256' }, { iss: 'ec-key' }, es())))).consumer).toBe('ec')
  })

  test('no token', async () => {
    for (const request of [{}, { headers: { Authorization: good } }, { headers: { Authorization: 'Bearer ' } }, { target: '/?jwt=' }])
      expect(await authenticate(link().instance, request)).toMatchObject({ ...refusal('Unauthorized'), challenges: ['Bearer'] })
    expect((await authenticate(link({ realm: 'api' }).instance)).challenges).toEqual(['Bearer realm="api"'])
    expect((await authenticate(link({ realm: 'api' }).instance, bearer('x'))).challenges).toEqual([
      'Bearer realm="api", error="invalid_token"',
    ])
  })

  test.each([
    ['two different tokens', { target: '/?jwt=x', headers: { Authorization: `Bearer ${good}` } }, 'Multiple tokens provided'],
    ['no JWT', bearer('x'), 'Bad token; invalid JSON'],
    ['no iss', bearer(hs256({}, SECRET)), "No mandatory 'iss' in claims"],
    ['an empty iss', bearer(hs256({ iss: '' }, SECRET)), "Invalid 'iss' in claims"],
    ['an iss that is no text', bearer(hs256({ iss: ['jack-key'] }, SECRET)), "Invalid 'iss' in claims"],
    ['an unknown iss', bearer(hs256({ iss: 'x' }, SECRET)), "No credentials found for given 'iss'"],
    ['another algorithm', bearer(token({ alg: 'HS256' }, { iss: 'rsa-key' }, hs(pem(rsa.publicKey)))), 'Invalid algorithm'],
    ['alg none', bearer(token({ alg: 'none' }, { iss: 'jack-key' }, () => Buffer.alloc(0))), 'Bad token; invalid alg'],
    ['no alg', bearer(token({}, { iss: 'jack-key' }, () => Buffer.alloc(0))), 'Bad token; invalid alg'],
    ['a key that cannot be used', bearer(token({ alg: 'RS256' }, { iss: 'bad-key' }, rs())), 'Invalid key/secret'],
    ['a wrong signature', bearer(hs256({ iss: 'jack-key' }, 'x')), 'Invalid signature'],
  ])('%s is refused', async (_, request, message) => {
    expect(await authenticate(link().instance, request)).toMatchObject(refusal(message))
  })

  test('times', async () => {
    const answer = async (conf: Json, claims: object) => {
      const { status, body } = await authenticate(link(conf).instance, bearer(hs256({ iss: 'jack-key', ...claims }, SECRET)))
      return status === 0 ? 'passes' : body
    }
    const both = { claims_to_verify: ['exp', 'nbf'] }
    expect(await answer(both, { exp: NOW_S + 1, nbf: NOW_S })).toBe('passes')
    expect(await answer(both, {})).toBe('{"exp":"must be a number","nbf":"must be a number"}')
    expect(await answer({}, {})).toBe('passes')
    expect(await answer(both, { exp: NOW_S, nbf: NOW_S + 1 })).toBe('{"exp":"token expired","nbf":"token not valid yet"}')
    expect(await answer({ claims_to_verify: ['nbf'] }, { exp: NOW_S, nbf: NOW_S + 1 })).toBe('{"nbf":"token not valid yet"}')
    expect(await answer({ claims_to_verify: ['exp'] }, { exp: 'soon' })).toBe('{"exp":"must be a number"}')
    // What is not listed is not looked at, as in Kong.
    expect(await answer({}, { exp: 1, nbf: NOW_S + 99 })).toBe('passes')
    expect(problemsOf(jwt, {}).join()).toContain('expired tokens are accepted')
    expect(problemsOf(jwt, { claims_to_verify: ['exp'] })).toEqual([])
    const longest = { claims_to_verify: ['exp'], maximum_expiration: 60 }
    expect(await answer(longest, { exp: NOW_S + 60 })).toBe('passes')
    expect(await answer(longest, { exp: NOW_S + 61 })).toBe('{"exp":"exceeds maximum allowed expiration"}')
  })

  test('secret_is_base64, hide_credentials, anonymous, run_on_preflight', async () => {
    const all = consumers()
    all.addCredential(jwt, 'b64', { key: 'b64', secret: Buffer.from([255, 0]).toString('base64') })
    const base64 = linkAuth(jwt, { secret_is_base64: true }, all).instance
    expect((await authenticate(base64, bearer(hs256({ iss: 'b64' }, Buffer.from([255, 0]))))).consumer).toBe('b64')
    const hiding = link({ hide_credentials: true, cookie_names: ['t'] }).instance
    const hidden = await authenticate(hiding, {
      target: `/?a=1&jwt=${good}`,
      headers: { Cookie: `t=${good}; u=1`, ...bearer(good).headers },
    })
    expect(hidden.exchange.upstreamQuery).toBe('a=1')
    expect(hidden.exchange.requestHeaders.has('authorization')).toBe(false)
    expect(hidden.exchange.requestHeaders.get('cookie')).toBe('u=1')
    const anonymous = await authenticate(link({ anonymous: 'nobody' }).instance, bearer('x'))
    expect(anonymous).toMatchObject({ status: 0, consumer: 'nobody' })
    expect(anonymous.exchange.requestHeaders.get('x-anonymous-consumer')).toBe('true')
    const preflight = { method: 'OPTIONS' }
    expect((await authenticate(link().instance, preflight)).status).toBe(401)
    expect((await authenticate(link({ run_on_preflight: false }).instance, preflight)).status).toBe(0)
  })

  test('what cannot work is refused', () => {
    expect(problemsOf(jwt, { maximum_expiration: 60 }).join()).toContain('expected to contain: exp')
    expect(problemsOf(jwt, { header_names: ['x y'] }).join()).toContain('is not a header name')
    const credential = (conf: Json) => () => new FakeConsumers().addCredential(jwt, 'x', conf)
    expect(credential({ key: 'k' })).toThrow('required with the algorithm HS256')
    expect(credential({ key: 'k', algorithm: 'RS256', secret: 'x' })).toThrow('rsa_public_key: required')
  })
})
