/** What an attacker tries against authentication, through one gateway: fields that only the gateway may set, and odd requests by raw sockets. */
import { createHash, createHmac } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { lengthResponse } from '../../src/doctor/recording-upstream.js'
import { hs256 } from '../plugins/tokens.js'
import type { Gateway } from '../support/gateway.js'
import { type Answer, type Caller, http1Caller } from '../support/http-clients.js'
import { TestBed } from '../support/test-bed.js'

const SECRET = 'a secret of the tests, long enough'
const bed = new TestBed()
let gateway: Gateway
let call: Caller
let upstreamPort = 0

function config(upstream: number) {
  const nodes = { [`127.0.0.1:${upstream}`]: 1 }
  const route = (id: string, plugins: object) => ({ id, uri: `/${id}`, plugins, upstream: { nodes } })
  const claims = { 'jwt-auth': { claims_to_headers: { 'X-User-ID': 'sub' } } }
  const nowhere = { uri: 'http://127.0.0.1:9/', upstream_headers: ['X-Role'], timeout: 1000 }
  return {
    consumer_groups: [{ id: 'there', plugins: {} }],
    consumers: [
      {
        username: 'jack',
        plugins: {
          'key-auth': { key: 'jacks-key' },
          'jwt-auth': { key: 'jack-key', secret: SECRET },
          'basic-auth': { username: 'jack', password: 'pw' },
          'hmac-auth': { key_id: 'jack-id', secret_key: SECRET },
        },
      },
      { username: 'lost', group_id: 'gone', plugins: { 'key-auth': { key: 'losts-key' } } },
      {
        username: 'lost2',
        group_id: 'gone',
        plugins: { 'key-auth': { key: 'lost2s-key' }, 'ip-restriction': { whitelist: ['127.0.0.1'] } },
      },
      {
        username: 'extra',
        plugins: {
          'key-auth': { key: 'extras-key' },
          opa: { host: 'http://127.0.0.1:9', policy: 'p', send_headers_upstream: ['X-Plan'], _meta: { filter: [['arg_opa', '==', '1']] } },
        },
      },
      { username: 'guest' },
    ],
    routes: [
      route('key', { 'key-auth': {} }),
      route('jwt', { 'jwt-auth': { hide_credentials: true } }),
      route('hmac', { 'hmac-auth': { validate_request_body: true } }),
      route('basic', { 'basic-auth': {} }),
      route('cors', { 'key-auth': {}, cors: {} }),
      route('any', { 'multi-auth': { auth_plugins: [{ 'key-auth': {} }, claims] } }),
      route('guests', { 'jwt-auth': { ...claims['jwt-auth'], anonymous_consumer: 'guest' } }),
      route('asked', { 'forward-auth': { ...nowhere, _meta: { filter: [['arg_ask', '==', '1']] } } }),
      route('degraded', { 'forward-auth': { ...nowhere, allow_degradation: true } }),
      route('labels', { 'attach-consumer-label': { headers: { 'X-Dept': '$department' }, _meta: { filter: [['arg_never', '==', '1']] } } }),
    ],
  }
}

beforeAll(async () => {
  const upstream = await bed.upstream({
    answer: (request) => lengthResponse(JSON.stringify(request.fields.map(({ name, value }) => [name.toLowerCase(), value]))),
  })
  upstreamPort = upstream.port
  gateway = await bed.gateway({ config: config(upstream.port), workers: 2 })
  call = http1Caller(bed, gateway.port)
}, 120_000)
afterAll(() => bed.close())

/** Values of the fields with this name that reached the upstream. */
function heard(answer: Answer, name: string): string[] {
  const fields = JSON.parse(answer.body.toString('utf8')) as [string, string][]
  return fields.filter(([key]) => key === name).map(([, value]) => value)
}

describe('fields that only plugins of the route may set', () => {
  const forged = { 'X-User-ID': 'root', 'x-role': 'admin', 'X-Dept': 'ceo', 'X-Plan': 'gold' }
  const token = hs256({ key: 'jack-key', sub: 'u1' }, SECRET)

  test.each<[string, string, Record<string, string>, string, string[]]>([
    ['the plugin that sets it is not reached', '/any', { apikey: 'jacks-key' }, 'x-user-id', []],
    ['the plugin that sets it succeeds', '/any', { Authorization: `Bearer ${token}` }, 'x-user-id', ['u1']],
    ['the anonymous consumer goes on', '/guests', { Authorization: 'Bearer x' }, 'x-user-id', []],
    ['its filter leaves the plugin out', '/asked', {}, 'x-role', []],
    ['the service cannot be asked', '/degraded', {}, 'x-role', []],
    ['its filter leaves the labels out', '/labels', {}, 'x-dept', []],
    ['the plugin is that of the consumer', '/key', { apikey: 'extras-key' }, 'x-plan', []],
    ['no plugin of the route sets it', '/key', { apikey: 'jacks-key' }, 'x-plan', ['gold']],
  ])('%s', async (_name, target, fields, field, expected) => {
    const answer = await call({ target, fields: { ...fields, ...forged } })
    expect(answer.status).toBe(200)
    expect(heard(answer, field)).toEqual(expected)
  })
})

describe('a consumer whose group does not exist', () => {
  test('is refused as the fault of the gateway, others are served', async () => {
    for (const apikey of ['losts-key', 'lost2s-key']) {
      const answer = await call({ target: '/key', fields: { apikey } })
      expect(answer.status).toBe(503)
      expect(JSON.parse(answer.body.toString()) as unknown).toMatchObject({
        error_msg: 'the consumer group of this consumer does not exist',
      })
    }
    expect((await call({ target: '/key', fields: { apikey: 'jacks-key' } })).status).toBe(200)
    expect(gateway.stderr).toContain('consumer group id [gone]')
  })
})

describe('odd requests, by raw sockets', () => {
  const good = hs256({ key: 'jack-key' }, SECRET)
  const basic = (text: string) => `Authorization: Basic ${Buffer.from(text, 'latin1').toString('base64')}`

  /** The answers to requests that are sent in one piece over one connection. */
  async function ask(bytes: string, answers = 1): Promise<{ status: number; body: string; fields: string }[]> {
    const client = await bed.client({ port: gateway.port })
    for (const method of bytes.matchAll(/^([A-Z]+) \/\S* HTTP\/1.1\r$/gm)) client.expectMethodOf(method[1] ?? 'GET')
    await client.send(Buffer.from(bytes, 'latin1'))
    const found: { status: number; body: string; fields: string }[] = []
    for (let index = 0; index < answers; index++) {
      const response = await client.response(60_000)
      const fields = response.fields.map(({ name, value }) => `${name.toLowerCase()}: ${value}`).join('\n')
      found.push({ status: response.status, body: Buffer.concat([...response.body]).toString(), fields })
    }
    return found
  }
  const request = (target: string, lines: readonly string[], method = 'GET', body = '') =>
    `${[`${method} ${target} HTTP/1.1`, 'Host: front.test', ...lines].join('\r\n')}\r\n\r\n${body}`
  const NEXT = request('/key', ['apikey: jacks-key'])

  test.each<[string, string, string[], number, string]>([
    ['two Authorization fields', '/jwt', [`Authorization: Bearer ${good}`, `Authorization: Bearer ${good}`], 400, 'BAD_HEADER'],
    ['an empty one', '/jwt', ['Authorization:'], 401, 'JWT token invalid'],
    ['an empty one before a good query', `/jwt?jwt=${good}`, ['Authorization:'], 401, 'JWT token invalid'],
    ['a tab behind the scheme', '/jwt', [`Authorization: Bearer\t${good}`], 401, 'JWT token invalid'],
    ['bytes that are no ASCII', '/jwt', [`Authorization: Bearer \xff${good}`], 400, 'BAD_HEADER'],
    ['a quoted cookie', '/jwt', [`Cookie: jwt="${good}"`], 401, 'JWT token invalid'],
    ['a token twice in the query', `/jwt?jwt=${good}&j%77t=x`, [], 400, 'repeated'],
    ['a key twice in the query', '/key?apikey=jacks-key&apikey=jacks-key', [], 401, 'Invalid API key in request'],
    ['two keys in one field', '/key', ['apikey: jacks-key, jacks-key'], 401, 'Invalid API key in request'],
    ['a key behind a semicolon', '/key?a=1;apikey=jacks-key', [], 401, 'Missing API key in request'],
    ['a broken escape', '/key?apikey=jacks-key%', [], 401, 'Invalid API key in request'],
    ['NUL in a password', '/basic', [basic('jack:pw\0')], 401, 'Invalid user authorization'],
    ['a password that is no UTF-8', '/basic', [basic('jack:\xff')], 401, 'Invalid user authorization'],
    ['no colon', '/basic', [basic('jack')], 401, 'Invalid authorization in request'],
    ['base64 with something in it', '/basic', ['Authorization: Basic amFj!azpwdw=='], 401, 'Invalid authorization in request'],
  ])('%s', async (_name, target, lines, status, text) => {
    const [answer] = await ask(request(target, lines))
    expect([answer?.status, answer?.body]).toEqual([status, expect.stringContaining(text)])
  })

  test.each(['Authorization: Bearer ', 'apikey: '])('64 KiB behind %j', async (field) => {
    // The connection may be reset while the rest of it is still being sent: then the client does not see the answer.
    const [answer] = await ask(request('/key', [`${field}${'k'.repeat(65_536)}`])).catch(() => [{ status: 431 }])
    expect(answer?.status).toBe(431)
    expect((await ask(NEXT))[0]?.status).toBe(200)
  })

  test('a key is decoded before it is compared', async () => {
    for (const query of ['apikey=%6aacks-key', '%61pikey=jacks-key&a=1'])
      expect((await ask(request(`/key?${query}`, [])))[0]?.status).toBe(200)
  })

  test('tokens are hidden wherever they stand, and nothing else is', async () => {
    const lines = [`Authorization: bearer ${good}`, 'Cookie: a=1', `Cookie: jwt=${good}; b=2`]
    const [answer] = await ask(request(`/jwt?a=1&jwt=${good}&b=2`, lines))
    expect(answer?.status).toBe(200)
    expect(answer?.body).not.toContain(good)
    expect(answer?.body).toContain('a=1; b=2')
  })

  test('the connection goes on behind a refusal, whatever the body', async () => {
    const bodies: [string[], string, string][] = [
      [[], '', 'GET'],
      [[], '', 'HEAD'],
      [['Content-Length: 5'], 'hello', 'POST'],
      [['Transfer-Encoding: chunked'], '5\r\nhello\r\n0\r\n\r\n', 'POST'],
      [['Content-Length: 0'], '', 'OPTIONS'],
    ]
    for (const [lines, body, method] of bodies) {
      const [refused, next] = await ask(request('/key', lines, method, body) + NEXT, 2)
      expect([method, refused?.status, next?.status]).toEqual([method, 401, 200])
      expect(refused?.fields).toContain('www-authenticate: apikey realm="key"')
      expect(refused?.body).toBe(method === 'HEAD' ? '' : '{"message":"Missing API key in request"}\n')
    }
  })

  test('a body that is not the one of its digest is refused before the upstream has it, also in chunks', async () => {
    const date = new Date().toUTCString()
    const signature = createHmac('sha256', SECRET).update(`jack-id\nPOST /hmac\ndate: ${date}\n`).digest('base64')
    const lines = [
      `Authorization: Signature keyId="jack-id",algorithm="hmac-sha256",headers="@request-target date",signature="${signature}"`,
      `Date: ${date}`,
      `Digest: SHA-256=${createHash('sha256').update('hello').digest('base64')}`,
      'Transfer-Encoding: chunked',
    ]
    for (const [chunks, status] of [
      ['2\r\nhe\r\n3\r\nllo\r\n', 200],
      ['2\r\nhe\r\n3\r\nllO\r\n', 401],
    ] as const) {
      // One behind the other: the binding gives up a connection on which a request comes while an answer is awaited.
      const client = await bed.client({ port: gateway.port })
      expect((await client.request(request('/hmac', lines, 'POST', `${chunks}0\r\n\r\n`))).status).toBe(status)
      expect((await client.request(NEXT)).status).toBe(200)
    }
  })

  test('a preflight needs no credential, and a refusal tells the page what it may read', async () => {
    const origin = 'Origin: https://app.test'
    const [preflight] = await ask(request('/cors', [origin, 'Access-Control-Request-Method: GET'], 'OPTIONS'))
    expect([preflight?.status, preflight?.fields]).toEqual([200, expect.stringContaining('access-control-allow-origin: *')])
    const [refused] = await ask(request('/cors', [origin]))
    expect([refused?.status, refused?.fields]).toEqual([401, expect.stringContaining('access-control-allow-origin: *')])
  })
})

describe('reloads', () => {
  const token = hs256({ key: 'jack-key' }, SECRET)
  const status = async (target: string, fields: Record<string, string>): Promise<number> => (await call({ target, fields })).status

  test('a credential that was changed, and a consumer that is gone, are refused at once, known tokens too', async () => {
    const bearer = { Authorization: `Bearer ${token}` }
    const basic = { Authorization: `Basic ${Buffer.from('jack:pw').toString('base64')}` }
    const all = async () => [
      await status('/jwt', bearer),
      await status('/key', { apikey: 'jacks-key' }),
      await status('/basic', basic),
      await status('/guests', bearer),
    ]
    for (let turn = 0; turn < 4; turn++) expect(await all()).toEqual([200, 200, 200, 200])
    const before = config(upstreamPort)
    const [jack, ...others] = before.consumers
    const rotated = {
      ...jack,
      plugins: {
        'key-auth': { key: 'another-key' },
        'jwt-auth': { key: 'jack-key', secret: `${SECRET}!` },
        'basic-auth': { username: 'jack', password: 'pw2' },
      },
    }
    expect((await gateway.reload({ ...before, consumers: [rotated, ...others] })).lastError).toBeNull()
    // On the last route they go on as the guest.
    for (let turn = 0; turn < 4; turn++) expect(await all()).toEqual([401, 401, 401, 200])
    expect(await status('/key', { apikey: 'another-key' })).toBe(200)
    expect(await status('/jwt', { Authorization: `Bearer ${hs256({ key: 'jack-key' }, `${SECRET}!`)}` })).toBe(200)
    expect((await gateway.reload({ ...before, consumers: others })).lastError).toBeNull()
    for (let turn = 0; turn < 4; turn++) {
      expect(await status('/key', { apikey: 'another-key' })).toBe(401)
      expect(heard(await call({ target: '/guests', fields: bearer }), 'x-consumer-username')).toEqual(['guest'])
    }
  })

  test('a reference to a secret that is missing changes nothing', async () => {
    const before = config(upstreamPort)
    const consumers = [...before.consumers, { username: 'new', plugins: { 'key-auth': { key: '$env://SLUICE_TEST_NOT_SET' } } }]
    expect((await gateway.reload({ ...before, consumers })).lastError).toContain('SLUICE_TEST_NOT_SET is not set')
    expect(await status('/key', { apikey: '$env://SLUICE_TEST_NOT_SET' })).toBe(401)
    expect(await status('/key', { apikey: 'extras-key' })).toBe(200)
  })
})
