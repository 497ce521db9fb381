/** Authentication through a whole gateway of two workers: who gets in, what the upstream hears, and what never gets through. */
import { createHash, createHmac, scryptSync } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { lengthResponse, type RecordingUpstream } from '../../src/doctor/recording-upstream.js'
import type { Gateway } from '../support/gateway.js'
import { type Answer, type Caller, http1Caller } from '../support/http-clients.js'
import { TestBed } from '../support/test-bed.js'

const bed = new TestBed()
let upstream: RecordingUpstream
let gateway: Gateway
let call: Caller

const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`
const salt = Buffer.from('0123456789abcdef')
const unpadded = (bytes: Buffer) => bytes.toString('base64').replace(/=+$/, '')
const hashed = `$scrypt$ln=10,r=8,p=1$${unpadded(salt)}$${unpadded(scryptSync('hashed-pw', salt, 32, { N: 1024, r: 8, p: 1 }))}`

/** The upstream answers with the header section that it was sent. */
const echo = (fields: readonly { readonly name: string; readonly value: string }[]) => JSON.stringify(fields)

function config(port: number): object {
  const nodes = { [`127.0.0.1:${port}`]: 1 }
  const route = (id: string, plugins: object) => ({ id, uri: `/${id}`, plugins, upstream: { nodes } })
  return {
    consumers: [
      {
        username: 'jack',
        group_id: 'gold',
        labels: { custom_id: 'c-7', department: 'sales' },
        groups: ['admins', 'staff'],
        plugins: { 'key-auth': { key: 'jacks-key-0123' }, 'basic-auth': { username: 'jack', password: 'pw:with:colons' } },
        credentials: [{ id: 'second', plugins: { 'key-auth': { key: 'jacks-second-key' } } }],
      },
      {
        username: 'jill',
        group_id: 'silver',
        plugins: {
          'basic-auth': { username: 'jill', password: hashed },
          'hmac-auth': { key_id: 'jill-id', secret_key: 'jills-hmac-secret' },
        },
      },
      { username: 'loner', plugins: { 'key-auth': { key: 'loners-key' } } },
      { username: 'guest' },
    ],
    consumer_groups: [
      { id: 'gold', plugins: {} },
      { id: 'silver', plugins: {} },
    ],
    routes: [
      route('open', {}),
      route('key', { 'key-auth': { hide_credentials: true }, 'attach-consumer-label': { headers: { 'X-Dept': '$department' } } }),
      route('basic', { 'basic-auth': {} }),
      route('both', { 'key-auth': {}, 'basic-auth': { hide_credentials: true } }),
      route('any', { 'multi-auth': { auth_plugins: [{ 'basic-auth': {} }, { 'key-auth': {} }] } }),
      route('guests', { 'key-auth': { anonymous_consumer: 'guest' } }),
      route('ghosts', { 'basic-auth': { anonymous_consumer: 'nobody' } }),
      route('kong', { 'key-auth': { key_names: ['k'], key_in_body: true, hide_credentials: true }, acl: { allow: ['admins'] } }),
      route('kong-or', { 'key-auth': { anonymous: 'guest' }, 'basic-auth': { anonymous: 'guest' } }),
      route('gold', {
        'key-auth': {},
        'consumer-restriction': { type: 'consumer_group_id', whitelist: ['gold'], rejected_code: 403, rejected_msg: 'gold only' },
        'multi-auth': { auth_plugins: [{ 'key-auth': {} }, { 'basic-auth': {} }], _meta: { disable: true } },
      }),
      route('silver', {
        'basic-auth': {},
        'consumer-restriction': { type: 'consumer_group_id', whitelist: ['gold'], rejected_msg: 'gold only' },
      }),
      route('signed', {
        'hmac-auth': {
          signed_headers: ['@request-target', 'date', 'digest'],
          validate_request_body: true,
          max_req_body_size: 100_000,
          replay_protection: 'local',
        },
      }),
    ],
  }
}

beforeAll(async () => {
  upstream = await bed.upstream({
    answer: (request) => lengthResponse(echo(request.fields.map(({ name, value }) => ({ name: name.toLowerCase(), value })))),
  })
  gateway = await bed.gateway({ config: config(upstream.port), workers: 2 })
  call = http1Caller(bed, gateway.port)
})
afterAll(() => bed.close())

/** Values of a field that reached the upstream. */
function heard(answer: Answer, name: string): string[] {
  const fields = JSON.parse(answer.body.toString('utf8')) as { name: string; value: string }[]
  return fields.filter((field) => field.name === name).map(({ value }) => value)
}

/** Bodies that reached the upstream with this target. */
function bodiesOf(target: string): string[] {
  const requests = upstream.connections.flatMap((connection) => connection.requests)
  return requests.filter((request) => request.target === target).map(({ body }) => Buffer.concat(body).toString())
}

const message = (answer: Answer): unknown => (JSON.parse(answer.body.toString('utf8')) as { message?: unknown }).message

describe('who gets in', () => {
  test('keys, hidden from the upstream, which hears the consumer and its label', async () => {
    const answer = await call({ target: '/key?a=1', fields: { apikey: 'jacks-key-0123', 'X-Dept': 'ceo' } })
    expect(answer.status).toBe(200)
    expect(heard(answer, 'x-consumer-username')).toEqual(['jack'])
    expect(heard(answer, 'x-consumer-custom-id')).toEqual(['c-7'])
    expect(heard(answer, 'x-credential-identifier')).toEqual([])
    expect(heard(answer, 'x-dept')).toEqual(['sales'])
    expect(heard(answer, 'apikey')).toEqual([])
    const second = await call({ target: '/key?apikey=jacks-second-key' })
    expect(heard(second, 'x-credential-identifier')).toEqual(['second'])
    const targets = upstream.connections.flatMap(({ requests }) => requests.map(({ target }) => target))
    expect(targets).toContain('/key')
    expect(targets.join()).not.toContain('second-key')
    const wrong = await call({ target: '/key', fields: { apikey: 'jacks-key-0124' } })
    expect([wrong.status, message(wrong), wrong.values('www-authenticate')]).toEqual([
      401,
      'Invalid API key in request',
      ['apikey realm="key"'],
    ])
  })

  test('passwords, plain and hashed, the second time without hashing', async () => {
    for (const text of ['jack:pw:with:colons', 'jill:hashed-pw', 'jill:hashed-pw']) {
      const answer = await call({ target: '/basic', fields: { Authorization: basic(text) } })
      expect(heard(answer, 'x-consumer-username')).toEqual([text.slice(0, 4)])
    }
    for (const text of ['jack:pw', 'jill:wrong', 'john:x']) {
      const answer = await call({ target: '/basic', fields: { Authorization: basic(text) } })
      expect([answer.status, message(answer)]).toEqual([401, 'Invalid user authorization'])
    }
  })

  test('two plugins: all must pass, the last one says who it is', async () => {
    const fields = { apikey: 'loners-key', Authorization: basic('jack:pw:with:colons') }
    const answer = await call({ target: '/both', fields })
    expect(answer.status).toBe(200)
    // basic-auth has the higher priority and runs first.
    expect(heard(answer, 'x-consumer-username')).toEqual(['loner'])
    expect(heard(answer, 'authorization')).toEqual([])
    expect((await call({ target: '/both', fields: { apikey: 'loners-key' } })).status).toBe(401)
    expect((await call({ target: '/both', fields: { Authorization: fields.Authorization } })).status).toBe(401)
  })

  test('multi-auth: one is enough', async () => {
    expect(heard(await call({ target: '/any', fields: { apikey: 'loners-key' } }), 'x-consumer-username')).toEqual(['loner'])
    expect(heard(await call({ target: '/any', fields: { Authorization: basic('jill:hashed-pw') } }), 'x-consumer-username')).toEqual([
      'jill',
    ])
    const neither = await call({ target: '/any' })
    expect([neither.status, message(neither)]).toEqual([401, 'Authorization Failed'])
    expect(neither.values('www-authenticate').join()).toContain('Basic realm="basic"')
  })

  test('anonymous consumers', async () => {
    expect(heard(await call({ target: '/guests', fields: { apikey: 'wrong' } }), 'x-consumer-username')).toEqual(['guest'])
    expect(heard(await call({ target: '/guests', fields: { apikey: 'loners-key' } }), 'x-consumer-username')).toEqual(['loner'])
    const ghost = await call({ target: '/ghosts' })
    expect([ghost.status, message(ghost)]).toEqual([401, 'Invalid user authorization'])
    const either = await call({ target: '/kong-or', fields: { apikey: 'loners-key' } })
    expect([heard(either, 'x-consumer-username'), heard(either, 'x-anonymous-consumer')]).toEqual([['loner'], []])
    const nobody = await call({ target: '/kong-or' })
    expect([heard(nobody, 'x-consumer-username'), heard(nobody, 'x-anonymous-consumer')]).toEqual([['guest'], ['true']])
  })

  test('groups: the right one, a wrong one, none', async () => {
    expect((await call({ target: '/gold', fields: { apikey: 'jacks-key-0123' } })).status).toBe(200)
    const silver = await call({ target: '/silver', fields: { Authorization: basic('jill:hashed-pw') } })
    expect([silver.status, message(silver)]).toEqual([403, 'gold only'])
    const none = await call({ target: '/gold', fields: { apikey: 'loners-key' } })
    expect([none.status, message(none)]).toEqual([401, 'The request is rejected, please check the consumer_group_id for this request'])
  })

  test('Kong: key in the body, groups in a header, its own words', async () => {
    const form = { 'Content-Type': 'application/x-www-form-urlencoded' }
    const answer = await call({ method: 'POST', target: '/kong', fields: form, body: Buffer.from('a=1&k=jacks-key-0123') })
    expect(heard(answer, 'x-consumer-groups')).toEqual(['admins, staff'])
    expect(heard(answer, 'content-length')).toEqual(['3'])
    expect(bodiesOf('/kong')).toContain('a=1')
    const stranger = await call({ target: '/kong', fields: { k: 'loners-key' } })
    expect([stranger.status, message(stranger)]).toEqual([403, 'You cannot consume this service'])
    const html = await call({ target: '/kong', fields: { Accept: 'text/html' } })
    expect([html.status, html.values('content-type'), html.values('www-authenticate')]).toEqual([
      401,
      ['text/html; charset=utf-8'],
      ['Key'],
    ])
    expect(html.body.toString()).toContain('No API key found in request')
  })
})

describe('signatures', () => {
  function sign(body: string, secret = 'jills-hmac-secret'): { [name: string]: string } {
    const fields = { date: new Date().toUTCString(), digest: `SHA-256=${createHash('sha256').update(body).digest('base64')}` }
    const text = `jill-id\nPOST /signed\ndate: ${fields.date}\ndigest: ${fields.digest}\n`
    const signature = createHmac('sha256', secret).update(text).digest('base64')
    return {
      Date: fields.date,
      Digest: fields.digest,
      Authorization: `Signature keyId="jill-id",algorithm="hmac-sha256",headers="@request-target date digest",signature="${signature}"`,
    }
  }

  test('cover the body, which reaches the upstream whole', async () => {
    const body = 'x'.repeat(99_000)
    const answer = await call({ method: 'POST', target: '/signed', fields: sign(body), body: Buffer.from(body), withLength: false })
    expect(answer.status).toBe(200)
    expect(heard(answer, 'x-consumer-username')).toEqual(['jill'])
    expect(bodiesOf('/signed').includes(body)).toBe(true)
    const changed = await call({ method: 'POST', target: '/signed', fields: sign(body), body: Buffer.from(body.replace('x', 'y')) })
    expect([changed.status, message(changed)]).toEqual([401, "client request can't be validated"])
    const long = 'x'.repeat(100_001)
    expect((await call({ method: 'POST', target: '/signed', fields: sign(long), body: Buffer.from(long) })).status).toBe(413)
  })

  test('are good for one request, whichever worker gets it', async () => {
    const body = 'only once'
    const fields = sign(body)
    const answers = await Promise.all(
      Array.from({ length: 24 }, () => call({ method: 'POST', target: '/signed', fields, body: Buffer.from(body) })),
    )
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1)
    expect(answers.filter(({ status }) => status === 401)).toHaveLength(23)
  })
})

describe('what never gets through', () => {
  const spoofed = {
    'X-Consumer-Username': 'root',
    'X-Consumer-Custom-ID': 'root',
    'X-Consumer-ID': 'root',
    'X-Credential-Identifier': 'root',
    'X-Anonymous-Consumer': 'root',
    'X-Consumer-Groups': 'root',
    'X-Authenticated-Groups': 'root',
    'X-Consumer-Group-ID': 'root',
  }

  test.each<[string, { [name: string]: string }]>([
    ['/open', {}],
    ['/key', { apikey: 'loners-key' }],
    ['/basic', { Authorization: basic('jill:hashed-pw') }],
    ['/guests', {}],
    ['/guests', { apikey: 'wrong' }],
    ['/kong-or', {}],
    ['/kong', { k: 'jacks-key-0123' }],
    ['/any', { apikey: 'loners-key' }],
  ])('identity headers of a client on %s', async (target, fields) => {
    const answer = await call({ target, fields: { ...spoofed, ...fields } })
    expect(answer.status).toBe(200)
    expect(answer.body.toString()).not.toContain('root')
  })

  test('two Authorization fields', async () => {
    const client = await bed.client({ port: gateway.port })
    const field = `Authorization: ${basic('jack:pw:with:colons')}\r\n`
    await client.send(`GET /basic HTTP/1.1\r\nHost: front.test\r\n${field}${field}\r\n`)
    expect((await client.response(15_000)).status).toBe(400)
  })

  test('secrets, into logs, metrics or answers', async () => {
    const refused = [
      await call({ target: '/key', fields: { apikey: 'wrong-key-of-somebody' } }),
      await call({ target: '/basic', fields: { Authorization: basic('jack:wrong-password-of-somebody') } }),
      await call({ target: '/signed', fields: { Authorization: 'Signature keyId="jill-id",signature="c29tZWJvZHk="', Date: 'x' } }),
    ]
    expect(refused.map(({ status }) => status)).toEqual([401, 401, 401])
    const metrics = await (await fetch(`${gateway.metricsUrl}/metrics`)).text()
    const said = [gateway.stderr, metrics, ...refused.map(({ body }) => body.toString())].join('\n')
    for (const secret of [
      'jacks-key-0123',
      'loners-key',
      'pw:with:colons',
      'hashed-pw',
      hashed,
      'jills-hmac-secret',
      'of-somebody',
      'c29tZWJvZHk',
    ]) {
      expect(said.includes(secret), secret).toBe(false)
    }
    expect(metrics).toContain('jack')
  })
})
