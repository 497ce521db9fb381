/** What tools for Kong ask its Admin API: lists, pages, /status, and /config, on a gateway that runs a Kong file. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { stringify } from 'yaml'
import { ADMIN_KEY, Gateway } from '../support/gateway.js'
import { TestBed } from '../support/test-bed.js'
import { TestAuthority } from '../support/tls-certificates.js'

const bed = new TestBed()
let gateway: Gateway

const VIEWER = 'key-of-the-viewer'
const terminated = (message: string) => ({ name: 'request-termination', config: { status_code: 200, message } })
const fileWith = (message: string, more: object = {}) => ({
  _format_version: '3.0',
  services: [
    {
      name: 'orders',
      url: 'http://orders.internal:8080/v1',
      tags: ['team-a', 'prod'],
      routes: [{ name: 'orders', paths: ['/orders'], plugins: [terminated(message)] }],
    },
    { name: 'users', host: 'users.pool', tags: ['team-b'], routes: [{ name: 'users', paths: ['/users'] }] },
  ],
  upstreams: [{ name: 'users.pool', targets: [{ target: '127.0.0.1:9', weight: 7 }] }],
  consumers: [{ username: 'jack', custom_id: '1', keyauth_credentials: [{ key: 'key-of-jack' }], acls: [{ group: 'ops' }] }],
  ...more,
})

beforeAll(async () => {
  const pair = await (await TestAuthority.create()).issue('a.test')
  const more = {
    certificates: [{ ...pair, snis: [{ name: 'a.test' }] }],
    sluice: { admin: { keys: [{ name: 'v', key: VIEWER, role: 'viewer' }] } },
  }
  gateway = await Gateway.start({ config: fileWith('first', more), admin: true })
  bed.later(() => gateway.discard())
})
afterAll(() => bed.close())

interface Reply {
  readonly status: number
  readonly body: { readonly [name: string]: unknown }
  readonly text: string
}

async function ask(path: string, init: RequestInit = {}, key = ADMIN_KEY): Promise<Reply> {
  const reply = await fetch(`${gateway.adminUrl}/${path}`, { ...init, headers: { 'kong-admin-token': key, ...init.headers } })
  const text = await reply.text()
  return { status: reply.status, body: text.startsWith('{') ? JSON.parse(text) : {}, text }
}

type Item = { readonly id: string; readonly [name: string]: unknown }
const listOf = async (path: string): Promise<Item[]> => (await ask(path)).body['data'] as Item[]

test('entities are flat, with defaults, ids that stay, and references', async () => {
  const services = await listOf('services')
  const [orders] = services
  expect(orders).toMatchObject({
    name: 'orders',
    protocol: 'http',
    host: 'orders.internal',
    port: 8080,
    path: '/v1',
    retries: 5,
    read_timeout: 60_000,
  })
  expect(orders).not.toHaveProperty('routes')
  expect(orders?.id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  expect((await ask('services')).body['next']).toBeNull()
  expect((await ask('services/orders')).body).toEqual(orders)
  expect((await ask(`services/${orders?.id}`)).body).toEqual(orders)
  const [route] = await listOf('services/orders/routes')
  expect(route).toMatchObject({ name: 'orders', strip_path: true, service: { id: orders?.id } })
  expect((await ask('routes/orders/service')).body).toEqual(orders)
  expect(await listOf('routes/orders/plugins')).toMatchObject([
    { name: 'request-termination', enabled: true, route: { id: route?.id }, service: null },
  ])
  expect(await listOf('upstreams/users.pool/targets')).toMatchObject([{ target: '127.0.0.1:9', weight: 7 }])
  expect(await listOf('consumers/jack/key-auth')).toMatchObject([{ key: 'key-of-jack' }])
  expect(await listOf('consumers/jack/acls')).toMatchObject([{ group: 'ops' }])
  expect(await listOf('key-auths')).toHaveLength(1)
  for (const path of ['services/nobody', 'services/orders/nothing', 'consumers/jack/key-auth/other'])
    expect(await ask(path)).toMatchObject({ status: 404, body: { message: 'Not found' } })
})

test('pages and tags', async () => {
  const first = await ask('services?size=1')
  expect(first.body).toMatchObject({ data: [{ name: 'orders' }], next: expect.stringMatching(/^\/services\?offset=/) })
  // A page that follows is as large, and of the same entities.
  const tagged = (await ask('services?size=1&tags=team-a/team-b')).body['next']
  expect((await ask(String(tagged).slice(1))).body).toMatchObject({ data: [{ name: 'users' }], next: null })
  expect(String(tagged)).toContain('tags=team-a%2Fteam-b&size=1')
  const second = await ask(`services?size=1&offset=${first.body['offset']}`)
  expect(second.body).toMatchObject({ data: [{ name: 'users' }], next: null })
  for (const [query, code, message] of [
    ['size=0', 9, 'size must be an integer between 1 and 1000'],
    ['size=1001', 9, 'size must be an integer between 1 and 1000'],
    ['size=x', 9, 'size must be a number'],
    ['offset=x', 7, "'x' is not a valid offset: bad base64 encoding"],
  ] as const)
    expect(await ask(`services?${query}`)).toMatchObject({ status: 400, body: { code, message } })
  const names = async (tags: string) => (await listOf(`services?tags=${tags}`)).map(({ name }) => name)
  expect(await names('team-a,prod')).toEqual(['orders'])
  expect(await names('team-a,team-b')).toEqual([])
  expect(await names('team-a/team-b')).toEqual(['orders', 'users'])
})

test('a key is needed, viewers see no secrets, nobody sees private keys, nothing can be written entity by entity', async () => {
  expect((await fetch(`${gateway.adminUrl}/services`)).status).toBe(401)
  expect((await ask('key-auths', {}, VIEWER)).text).not.toContain('key-of-jack')
  expect((await ask('config', {}, VIEWER)).status).toBe(403)
  expect((await ask('config', { method: 'POST', body: 'x' }, VIEWER)).status).toBe(401)
  for (const path of ['certificates', 'config']) {
    const { text } = await ask(path)
    expect(text).toContain('BEGIN CERTIFICATE')
    expect(text).not.toContain('PRIVATE KEY')
  }
  expect(await ask('routes', { method: 'POST', body: '{}' })).toMatchObject({
    status: 405,
    body: { code: 12, name: 'operation unsupported', message: "cannot create 'routes' entities when not using a database" },
  })
  for (const [method, path, text] of [
    ['DELETE', 'services/orders', "cannot delete 'services' entities by 'name'"],
    ['PATCH', 'services/2a9fbd1e-5e0a-4b0e-8d43-1e7b3c1f0a11', "cannot update 'services' entities"],
    ['PUT', 'consumers/jack', "cannot create or update 'consumers' entities by 'username'"],
    ['POST', 'consumers/jack/key-auth', "cannot create 'keyauth_credentials' entities"],
    ['POST', 'jwts', "cannot create 'jwt_secrets' entities"],
  ] as const)
    expect((await ask(path, { method })).body['message']).toBe(`${text} when not using a database`)
  expect((await ask('services/nobody', { method: 'DELETE' })).status).toBe(204)
  const reply = await fetch(`${gateway.adminUrl}/services`, { headers: { 'kong-admin-token': ADMIN_KEY } })
  expect(reply.headers.get('server')).toMatch(/^kong\/\d+\.\d+\.\d+$/)
  expect(reply.headers.get('x-kong-admin-latency')).toMatch(/^\d+$/)
})

test('POST /config replaces everything as one change, in all forms, and knows what it has', async () => {
  const served = async () => (await (await fetch(`${gateway.url}/orders`)).text()).trim()
  expect(await served()).toBe('{"message":"first"}')
  const before = (await ask('status')).body['configuration_hash']
  expect(before).toMatch(/^[0-9a-f]{32}$/)
  expect((await ask('')).body).toMatchObject({ configuration: { database: 'off' }, version: expect.any(String) })

  const text = stringify(fileWith('second'))
  const posted = await ask('config', { method: 'POST', body: text, headers: { 'content-type': 'text/yaml' } })
  expect(posted.status, posted.text).toBe(201)
  expect(Object.values(posted.body['services'] as object)).toHaveLength(2)
  expect(await served()).toBe('{"message":"second"}')
  const hash = (await ask('status')).body['configuration_hash']
  expect(hash).not.toBe(before)
  const again = JSON.stringify({ config: text })
  expect((await ask('config?check_hash=1', { method: 'POST', body: again })).status).toBe(304)
  expect(await listOf('certificates')).toEqual([])

  const form = new FormData()
  form.set('config', new Blob([stringify(fileWith('third'))]), 'kong.yml')
  expect((await ask('config', { method: 'POST', body: form })).status).toBe(201)
  expect(await served()).toBe('{"message":"third"}')
  expect((await ask('config')).body['config']).toContain('message: third')

  // What is wrong changes nothing.
  const wrong = await ask('config', { method: 'POST', body: JSON.stringify(fileWith('x', { services: [{ name: 'a', hots: 'b' }] })) })
  expect(wrong).toMatchObject({ status: 400, body: { code: 14, name: 'invalid declarative configuration' } })
  expect(wrong.body['message']).toMatch(/^declarative config is invalid: \{"services":\[\{.*hots/)
  expect(wrong.body).not.toHaveProperty('flattened_errors')
  const id = '2a9fbd1e-5e0a-4b0e-8d43-1e7b3c1f0a11'
  const bad = {
    nonsense: [],
    services: [
      { name: 'fine', url: 'http://fine.internal' },
      { id, name: 'a', hots: 'b', tags: ['t'], routes: [{ name: 'r', paths: ['/x', 'y'] }], plugins: [{ name: 'openid-connect' }] },
    ],
  }
  const flat = await ask('config?flatten_errors=1', { method: 'POST', body: JSON.stringify(fileWith('x', bad)) })
  expect(flat).toMatchObject({ status: 400, body: { code: 14 } })
  expect(flat.body['fields']).toEqual({ nonsense: expect.any(String) })
  expect(flat.body['flattened_errors']).toEqual([
    {
      entity_type: 'service',
      entity_id: id,
      entity_name: 'a',
      entity_tags: ['t'],
      entity: { id, name: 'a', hots: 'b', tags: ['t'] },
      errors: [{ type: 'field', field: 'hots', message: expect.stringContaining('hots') }],
    },
    {
      entity_type: 'route',
      entity_name: 'r',
      entity: { service: { id }, name: 'r', paths: ['/x', 'y'] },
      errors: [{ type: 'field', field: 'paths.2', message: expect.stringContaining('"y"') }],
    },
    {
      entity_type: 'plugin',
      entity_name: 'openid-connect',
      entity: { service: { id }, name: 'openid-connect' },
      errors: [{ type: 'field', field: 'name', message: expect.stringContaining('not supported yet') }],
    },
  ])
  expect(await ask('config', { method: 'POST', body: ' ' })).toMatchObject({
    status: 400,
    body: { message: 'expected a declarative configuration' },
  })
  expect((await ask('config', { method: 'POST', body: '{"routes": []}' })).status).toBe(400)
  expect(await served()).toBe('{"message":"third"}')
  expect(await listOf('services')).toHaveLength(2)
})
