import { createHash, createHmac } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { hmacAuth } from '../../src/plugins/hmac-auth.js'
import type { Json } from '../../src/plugins/plugin.js'
import { fakeExchange } from '../support/fake-exchange.js'
import { FakeConsumers } from '../support/link-kit.js'
import { authenticate, linkAuth } from './authenticated.js'
import { problemsOf } from './configured.js'

const NOW = Date.UTC(2026, 0, 2, 3, 4, 5)
const DATE = new Date(NOW).toUTCString()
const SECRET = 'my-secret-key'

function consumers(): FakeConsumers {
  const all = new FakeConsumers()
  all.addCredential(hmacAuth, 'john', { key_id: 'john-key', secret_key: SECRET })
  all.add({ username: 'nobody' })
  return all
}

const link = (conf: Json = {}) => linkAuth(hmacAuth, conf, consumers())

interface Signed {
  readonly method?: string
  readonly target?: string
  readonly names?: string
  readonly algorithm?: string
  readonly secret?: string
  readonly keyId?: string
  readonly headers?: { readonly [name: string]: string | readonly string[] }
  readonly body?: string
  /** Changes the request behind the signature. */
  readonly tamper?: (fields: { [name: string]: string | readonly string[] }) => void
}

/** A request signed as the documentation of the reference gateway shows it. */
function signed(options: Signed = {}) {
  const { method = 'GET', target = '/get?a=1', names = '@request-target date', algorithm = 'hmac-sha256', secret = SECRET } = options
  const { keyId = 'john-key', body } = options
  const fields: { [name: string]: string | readonly string[] } = { Date: DATE, ...options.headers }
  const lines = names.split(' ').flatMap((name) => {
    if (name === '@request-target') return [`${method} ${target}`]
    if (name === 'host') return ['host: example.test']
    const value = Object.entries(fields).find(([field]) => field.toLowerCase() === name.toLowerCase())?.[1]
    return value === undefined ? [] : [`${name}: ${String(value)}`]
  })
  const signature = createHmac(algorithm.replace('hmac-', ''), secret)
    .update(`${[keyId, ...lines].join('\n')}\n`)
    .digest('base64')
  fields['Authorization'] = `Signature keyId="${keyId}",algorithm="${algorithm}",headers="${names}",signature="${signature}"`
  options.tamper?.(fields)
  return fakeExchange({ method, target, headers: fields, startedAtMs: NOW, ...(body === undefined ? {} : { requestBody: body }) })
}

const digestOf = (body: string) => `SHA-256=${createHash('sha256').update(body).digest('base64')}`

describe('signatures', () => {
  test('a vector by value', async () => {
    const exchange = fakeExchange({
      method: 'GET',
      target: '/get',
      startedAtMs: Date.UTC(2026, 0, 1),
      headers: {
        Date: 'Thu, 01 Jan 2026 00:00:00 GMT',
        // HMAC-SHA256 over "john-key\nGET /get\ndate: Thu, 01 Jan 2026 00:00:00 GMT\n", computed with OpenSSL.
        Authorization:
          'Signature keyId="john-key",algorithm="hmac-sha256",headers="@request-target date",signature="nlYEBURiMkZ31jQxfrho+UCMmIRbBfwS/7C9NZ/4Z6Y="',
      },
    })
    expect(await authenticate(link().instance, exchange)).toMatchObject({ status: 0, consumer: 'john' })
  })

  test.each([
    ['sha1', { algorithm: 'hmac-sha1' }],
    ['sha512', { algorithm: 'hmac-sha512' }],
    ['names in any case, and host', { names: 'Date X-Custom host @request-target', headers: { 'x-custom': 'A b' } }],
    ['a signed name that the request does not have', { names: 'date x-absent' }],
    ['no headers', { names: '' }],
  ])('accepted: %s', async (_name, options: Signed) => {
    expect(await authenticate(link().instance, signed(options))).toMatchObject({ status: 0, consumer: 'john' })
  })

  const generic = "client request can't be validated"
  const refusal = { status: 401, body: `{"message":"${generic}"}\n`, challenges: ['hmac realm="hmac"'], consumer: '' }

  test.each<[string, Signed, string]>([
    ['an unknown key', { keyId: 'ghost' }, 'Invalid keyId'],
    ['a wrong secret', { secret: 'other' }, 'Invalid signature'],
    ['an algorithm that is not allowed', { algorithm: 'hmac-sha512' }, 'Invalid algorithm'],
    ['no Date', { tamper: (f) => delete f['Date'] }, 'Date header missing'],
    ['two Dates', { tamper: (f) => (f['Date'] = [DATE, DATE]) }, 'Invalid GMT format time'],
    ['a Date of another form', { headers: { Date: '2026-01-02T03:04:05Z' } }, 'Invalid GMT format time'],
    ['a Date too old', { headers: { Date: new Date(NOW - 301_000).toUTCString() } }, 'Clock skew exceeded'],
    ['a Date too new', { headers: { Date: new Date(NOW + 301_000).toUTCString() } }, 'Clock skew exceeded'],
    ['another Date than was signed', { tamper: (f) => (f['Date'] = new Date(NOW + 1000).toUTCString()) }, 'Invalid signature'],
    ['a header that must be signed', { names: 'date @request-target' }, 'expected header "x-must" missing'],
    [
      'a signed header twice',
      { names: '@request-target date X-Must', headers: { 'X-Must': '1' }, tamper: (f) => (f['X-Must'] = ['1', '2']) },
      'a signed header is repeated',
    ],
    [
      'no key id',
      { tamper: (f) => (f['Authorization'] = 'Signature algorithm="hmac-sha256",signature="eA=="') },
      'keyId or signature missing',
    ],
    ['no algorithm', { tamper: (f) => (f['Authorization'] = 'Signature keyId="john-key",signature="eA=="') }, 'algorithm missing'],
    [
      'values without quotes',
      { tamper: (f) => (f['Authorization'] = String(f['Authorization']).replaceAll('"', '')) },
      'keyId or signature missing',
    ],
    [
      'a signature that is no base64',
      {
        names: '@request-target date X-Must',
        tamper: (f) => (f['Authorization'] = String(f['Authorization']).replace(/signature=".*"/, 'signature="***"')),
      },
      'Invalid signature',
    ],
    [
      'two signatures in one field',
      { tamper: (f) => (f['Authorization'] = `Signature signature="eA==",${String(f['Authorization']).slice('Signature '.length)}`) },
      'keyId or signature missing',
    ],
    ['two fields', { tamper: (f) => (f['Authorization'] = [String(f['Authorization']), 'x']) }, 'repeated or too long'],
    ['a field too long', { tamper: (f) => (f['Authorization'] = `Signature ${'x'.repeat(9000)}`) }, 'repeated or too long'],
  ])('refused with the reason in the log only: %s', async (name, options, reason) => {
    const conf = /must|twice|base64/.test(name) ? { signed_headers: ['X-Must'] } : { allowed_algorithms: ['hmac-sha1', 'hmac-sha256'] }
    const { instance, logged } = link(conf)
    expect(await authenticate(instance, signed(options))).toMatchObject(refusal)
    expect(logged.join()).toContain(reason)
    expect(logged.join()).not.toContain(SECRET)
  })

  test('problems with the header itself are told', async () => {
    const { instance } = link({ realm: 'r' })
    expect(await authenticate(instance, { startedAtMs: NOW })).toMatchObject({
      status: 401,
      body: `{"message":"${generic}: missing Authorization header"}\n`,
      challenges: ['hmac realm="r"'],
    })
    expect(await authenticate(instance, { headers: { Authorization: 'Basic eDp5' } })).toMatchObject({
      body: `{"message":"${generic}: Authorization header does not start with 'Signature'"}\n`,
    })
  })

  test('hide_credentials and the anonymous consumer', async () => {
    const { instance } = link({ hide_credentials: true, anonymous_consumer: 'nobody' })
    const known = await authenticate(instance, signed())
    expect(known.consumer).toBe('john')
    expect(known.exchange.requestHeaders.has('authorization')).toBe(false)
    const anonymous = await authenticate(instance, signed({ secret: 'other' }))
    expect(anonymous).toMatchObject({ status: 0, consumer: 'nobody' })
    expect(anonymous.exchange.requestHeaders.has('authorization')).toBe(false)
  })
})

describe('the body', () => {
  const names = '@request-target date digest'
  const conf = { validate_request_body: true, signed_headers: ['date', 'digest'], max_req_body_size: 10 }

  test('is accepted with its digest, also an empty one', async () => {
    const { instance } = link(conf)
    const good = signed({ method: 'POST', names, body: '0123456789', headers: { Digest: digestOf('0123456789') } })
    expect((await authenticate(instance, good)).consumer).toBe('john')
    const empty = signed({ names, headers: { Digest: digestOf('').replace('SHA', 'sha') } })
    expect((await authenticate(instance, empty)).consumer).toBe('john')
  })

  test('is refused with another digest or none, and with 413 when it is too long', async () => {
    const { instance } = link(conf)
    const other = signed({ method: 'POST', names, body: 'changed', headers: { Digest: digestOf('hello') } })
    expect((await authenticate(instance, other)).status).toBe(401)
    const lax = link({ validate_request_body: true }).instance
    expect((await authenticate(lax, signed({ body: 'x' }))).status).toBe(401)
    const long = signed({ method: 'POST', names, body: '0123456789a', headers: { Digest: digestOf('0123456789a') } })
    expect(await authenticate(instance, long)).toMatchObject({ status: 413, consumer: '' })
    // The body of somebody who did not sign is not read at all.
    const forged = signed({ method: 'POST', names, secret: 'x', body: '0123456789a', headers: { Digest: digestOf('0123456789a') } })
    expect((await authenticate(instance, forged)).status).toBe(401)
  })
})

describe('replay protection', () => {
  test('each signature is good for one request, however it is spelled', async () => {
    const { instance, logged } = link({ replay_protection: 'local' })
    expect((await authenticate(instance, signed())).consumer).toBe('john')
    expect((await authenticate(instance, signed())).status).toBe(401)
    const respelled = signed({
      tamper: (f) => (f['Authorization'] = String(f['Authorization']).replace('Signature keyId', 'signature  keyId').replace(/=*"$/, '"')),
    })
    expect((await authenticate(instance, respelled)).status).toBe(401)
    expect(logged.join()).toContain('used before')
    expect((await authenticate(instance, signed({ target: '/other' }))).consumer).toBe('john')
  })

  test('signatures must then cover the date', async () => {
    const { instance } = link({ replay_protection: 'local' })
    expect((await authenticate(instance, signed({ names: '@request-target' }))).status).toBe(401)
  })

  test('redis needs a Redis', () => {
    expect(() => link({ replay_protection: 'redis' })).toThrow('needs sluice.redis')
  })
})

test('warns where Date or Digest are not covered', () => {
  expect(problemsOf(hmacAuth, {}).join()).toContain('without date in signed_headers')
  expect(problemsOf(hmacAuth, { validate_request_body: true, signed_headers: ['Date'] }).join()).toContain('without digest')
  expect(problemsOf(hmacAuth, { validate_request_body: true, signed_headers: ['date', 'Digest'] })).toEqual([])
  expect(problemsOf(hmacAuth, { allowed_algorithms: ['hmac-md5'] })).not.toEqual([])
})
