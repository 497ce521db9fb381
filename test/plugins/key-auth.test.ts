import { describe, expect, test } from 'vitest'
import { keyAuth } from '../../src/plugins/key-auth.js'
import type { Json } from '../../src/plugins/plugin.js'
import { FakeConsumers } from '../support/link-kit.js'
import { authenticate, linkAuth } from './authenticated.js'
import { problemsOf } from './configured.js'

function consumers(): FakeConsumers {
  const all = new FakeConsumers()
  all.add({ username: 'jack', id: '7d0b3b0e-0000-4000-8000-000000000001', labels: { custom_id: 'j-1' } })
  all.addCredential(keyAuth, 'jack', { key: 'jacks key' }, 'cred-1')
  all.addCredential(keyAuth, 'jill', { key: 'jill' })
  all.add({ username: 'nobody' })
  return all
}

const link = (conf: Json, all = consumers()) => linkAuth(keyAuth, conf, all)

describe('the APISIX shape', () => {
  const refusal = (message: string) => ({
    status: 401,
    body: `{"message":"${message}"}\n`,
    challenges: ['apikey realm="key"'],
    consumer: '',
  })

  test('the header first, then the query; the consumer is announced to the upstream', async () => {
    const { instance } = link({})
    const { status, exchange } = await authenticate(instance, { headers: { ApiKey: 'jacks key' }, target: '/?apikey=jill' })
    expect(status).toBe(0)
    expect(exchange.consumerName).toBe('jack')
    expect(exchange.credentialId).toBe('cred-1')
    expect(exchange.requestHeaders.get('x-consumer-username')).toBe('jack')
    expect(exchange.requestHeaders.get('x-consumer-custom-id')).toBe('j-1')
    expect(exchange.requestHeaders.get('x-credential-identifier')).toBe('cred-1')
    const byQuery = await authenticate(instance, { target: '/?a=1&api%6bey=jacks+key' })
    expect(byQuery.consumer).toBe('jack')
    expect(byQuery.exchange.upstreamQuery).toBe('a=1&api%6bey=jacks+key')
    const own = await authenticate(instance, { headers: { apikey: 'jill' } })
    expect(own.exchange.requestHeaders.has('x-credential-identifier')).toBe(false)
  })

  test.each([
    ['no key', {}, 'Missing API key in request'],
    ['another parameter', { target: '/?key=jill' }, 'Missing API key in request'],
    ['an unknown key', { headers: { apikey: 'jil' } }, 'Invalid API key in request'],
    ['an empty key', { headers: { apikey: '' } }, 'Invalid API key in request'],
    [
      'a wrong key in the header and a right one in the query',
      { headers: { apikey: 'x' }, target: '/?apikey=jill' },
      'Invalid API key in request',
    ],
    ['two headers', { headers: { apikey: ['jill', 'jill'] } }, 'Invalid API key in request'],
    ['two parameters', { target: '/?apikey=jill&apikey=jill' }, 'Invalid API key in request'],
    ['a key of a megabyte', { headers: { apikey: 'k'.repeat(1_000_000) } }, 'Invalid API key in request'],
  ])('%s is refused', async (_name, request, message) => {
    expect(await authenticate(link({}).instance, request)).toMatchObject(refusal(message))
  })

  test('other names, realm and hide_credentials', async () => {
    const { instance } = link({ header: 'X-Key', query: 'k', realm: 'api', hide_credentials: true })
    const hidden = await authenticate(instance, { headers: { 'x-key': 'jill', 'X-Other': '1' }, target: '/?k=other&b=%20&%6b=2' })
    expect(hidden.consumer).toBe('jill')
    expect(hidden.exchange.requestHeaders.has('x-key')).toBe(false)
    expect(hidden.exchange.requestHeaders.has('x-other')).toBe(true)
    expect(hidden.exchange.upstreamQuery).toBe('b=%20')
    const wrong = await authenticate(instance, { headers: { apikey: 'jill' } })
    expect(wrong.challenges).toEqual(['apikey realm="api"'])
  })

  test('the anonymous consumer, and one that does not exist', async () => {
    const { instance } = link({ anonymous_consumer: 'nobody', hide_credentials: true })
    const anonymous = await authenticate(instance, { headers: { apikey: 'wrong' } })
    expect(anonymous).toMatchObject({ status: 0, consumer: 'nobody' })
    expect(anonymous.exchange.credential).toBeNull()
    expect(anonymous.exchange.requestHeaders.has('apikey')).toBe(false)
    expect((await authenticate(instance, { headers: { apikey: 'jill' } })).consumer).toBe('jill')
    const missing = link({ anonymous_consumer: 'ghost' })
    expect(await authenticate(missing.instance)).toMatchObject(refusal('Invalid user authorization'))
    expect(missing.logged.join()).toContain('"ghost" does not exist')
  })
})

describe('the Kong shape', () => {
  const challenges = ['Key realm="r"']

  test('names in turn, each in header, query and body', async () => {
    const { instance } = link({ key_names: ['k1', 'k2'], key_in_body: true, realm: 'r' })
    const form = { 'Content-Type': 'application/x-www-form-urlencoded' }
    expect((await authenticate(instance, { target: '/?k2=jacks%20key', headers: { k1: 'jill' } })).consumer).toBe('jill')
    expect((await authenticate(instance, { target: '/?k1=jacks%20key', headers: { k2: 'jill' } })).consumer).toBe('jack')
    expect((await authenticate(instance, { requestBody: 'a=b&k2=jill', headers: form })).consumer).toBe('jill')
    expect((await authenticate(instance, { requestBody: '{"k1":"jill"}', headers: { 'Content-Type': 'application/json' } })).consumer).toBe(
      'jill',
    )
    const multipart = '--x\r\nContent-Disposition: form-data; name="k1"\r\n\r\njill\r\n--x--\r\n'
    const type = { 'Content-Type': 'multipart/form-data; boundary=x' }
    expect((await authenticate(instance, { requestBody: multipart, headers: type })).consumer).toBe('jill')
    expect((await authenticate(instance, { requestBody: 'k1=jill', headers: { 'Content-Type': 'text/plain' } })).status).toBe(401)
    const unread = link({ key_names: ['k1'], key_in_query: false })
    expect((await authenticate(unread.instance, { target: '/?k1=jill' })).status).toBe(401)
  })

  test.each([
    ['no key', {}, 'No API key found in request'],
    ['an empty key', { headers: { apikey: '' } }, 'No API key found in request'],
    ['an unknown key', { headers: { apikey: 'x' } }, 'Unauthorized'],
    ['a key twice in the header', { headers: { apikey: ['jill', 'jill'] } }, 'Duplicate API key found'],
    ['a key twice in the query', { target: '/?apikey=jill&apikey=jill' }, 'Duplicate API key found'],
    [
      'a key twice in the body',
      { requestBody: 'apikey=jill&apikey=x', headers: { 'Content-Type': 'application/x-www-form-urlencoded' } },
      'Duplicate API key found',
    ],
    [
      'a key that is no text',
      { requestBody: '{"apikey":{"a":1}}', headers: { 'Content-Type': 'application/json' } },
      'Duplicate API key found',
    ],
    ['a broken body', { requestBody: '{"apikey":"jill"', headers: { 'Content-Type': 'application/json' } }, 'No API key found in request'],
  ])('%s is refused', async (_name, request, message) => {
    const { instance } = link({ key_in_body: true, realm: 'r' })
    expect(await authenticate(instance, { ...request, requestId: 'id1' })).toMatchObject({
      status: 401,
      body: `{\n  "message":"${message}",\n  "request_id":"id1"\n}`,
      challenges,
      consumer: '',
    })
  })

  test('without a realm the challenge has none; errors take the form that the client accepts', async () => {
    const { instance } = link({ key_in_query: true })
    const refused = await authenticate(instance, { headers: { Accept: 'text/plain' }, requestId: 'id1' })
    expect(refused).toMatchObject({ challenges: ['Key'], body: 'No API key found in request\nrequest_id: id1\n' })
  })

  test('hide_credentials takes the key out of header, query and body', async () => {
    const { instance } = link({ key_in_body: true, hide_credentials: true })
    const form = { 'Content-Type': 'application/x-www-form-urlencoded' }
    const byBody = await authenticate(instance, { target: '/?b=1', requestBody: 'a=b&apikey=jill', headers: form })
    expect(byBody.consumer).toBe('jill')
    expect(byBody.exchange.requestBody.toString()).toBe('a=b')
    const byHeader = await authenticate(instance, {
      target: '/?apikey=x&b=1',
      requestBody: '{"apikey":"y","n":[1]}',
      headers: { apikey: 'jill', 'Content-Type': 'application/json' },
    })
    expect(byHeader.consumer).toBe('jill')
    expect(byHeader.exchange.requestHeaders.has('apikey')).toBe(false)
    expect(byHeader.exchange.upstreamQuery).toBe('b=1')
    expect(byHeader.exchange.requestBody.toString()).toBe('{"n":[1]}')
    const multipart =
      '--x\r\nContent-Disposition: form-data; name="apikey"\r\n\r\njill\r\n--x\r\nContent-Disposition: form-data; name="f"\r\n\r\n1\r\n--x--\r\n'
    const rewritten = await authenticate(instance, {
      requestBody: multipart,
      headers: { 'Content-Type': 'multipart/form-data; boundary=x' },
    })
    expect(rewritten.consumer).toBe('jill')
    const left = await new Response(rewritten.exchange.requestBody, {
      headers: { 'Content-Type': rewritten.exchange.requestHeaders.get('content-type') ?? '' },
    }).formData()
    expect([...left.entries()]).toEqual([['f', '1']])
  })

  test('preflights pass with run_on_preflight false', async () => {
    expect((await authenticate(link({ run_on_preflight: false }).instance, { method: 'OPTIONS' })).status).toBe(0)
    expect((await authenticate(link({ run_on_preflight: false }).instance, { method: 'GET' })).status).toBe(401)
    expect((await authenticate(link({ run_on_preflight: true }).instance, { method: 'OPTIONS' })).status).toBe(401)
  })

  test('anonymous: alternatives, and a consumer that does not exist', async () => {
    const { instance } = link({ anonymous: 'nobody' })
    const anonymous = await authenticate(instance, { headers: { apikey: 'x' } })
    expect(anonymous).toMatchObject({ status: 0, consumer: 'nobody' })
    expect(anonymous.exchange.requestHeaders.get('x-anonymous-consumer')).toBe('true')
    const known = await authenticate(instance, { headers: { apikey: 'jill' } })
    expect(known.exchange.requestHeaders.has('x-anonymous-consumer')).toBe(false)
    // Somebody whom an earlier plugin has authenticated stays.
    const again = known.exchange
    again.requestHeaders.set('apikey', 'jacks key')
    expect((await authenticate(instance, again)).consumer).toBe('jill')
    const missing = await authenticate(link({ anonymous: 'ghost' }).instance)
    expect(missing.status).toBe(500)
    expect(missing.body).toContain('An unexpected error occurred')
  })
})

test('options of both shapes, bad names and a conf that authenticates nobody are refused', () => {
  expect(problemsOf(keyAuth, { header: 'a', key_names: ['b'] }).join()).toContain('header and key_names belong to different shapes')
  expect(problemsOf(keyAuth, { header: 'a b' }).join()).toContain('not a header name')
  expect(problemsOf(keyAuth, { key_names: ['a', 'b:'] }).join()).toContain('key_names.1')
  expect(problemsOf(keyAuth, { key_in_header: false, key_in_query: false }).join()).toContain('no request could be authenticated')
  expect(problemsOf(keyAuth, { realm: 'a"b' })).not.toEqual([])
  expect(problemsOf(keyAuth, { key_names: null, anonymous: null, hide_credentials: true })).toEqual([])
})
