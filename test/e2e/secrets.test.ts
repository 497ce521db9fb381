/** Nothing that a gateway prints, logs, counts or answers holds a secret of its configuration, or a credential that a client shows. */
import { execFile } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { hs256 } from '../plugins/tokens.js'
import { ADMIN_KEY, type Gateway } from '../support/gateway.js'
import { TestBed } from '../support/test-bed.js'

const ENTRY = fileURLToPath(new URL('../../dist/main.js', import.meta.url))
const bed = new TestBed()
afterAll(() => bed.close())

/** Every secret has this in it, also in base64 and in what a URL has. */
let count = 0
const secrets: string[] = []
function secret(name: string): string {
  const text = `zq7-${name}-${count++}-secret-value`
  secrets.push(text)
  return text
}
const clientKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
secrets.push(clientKey.split('\n')[1] ?? 'no key')

const key = secret('key')
const password = secret('password')
const jwtSecret = secret('jwt')
const hmacSecret = secret('hmac')
const kongSecret = secret('kong')
const fromEnvironment = secret('environment')

function config(port: number, log: string) {
  const nodes = { [`127.0.0.1:${port}`]: 1 }
  const route = (id: string, plugins: object, more: object = {}) => ({ id, uri: `/${id}/*`, plugins, upstream: { nodes, ...more } })
  const nowhere = 'http://127.0.0.1:9'
  return {
    consumers: [
      {
        username: 'jack',
        plugins: {
          'key-auth': { key },
          'basic-auth': { username: 'jack', password },
          'jwt-auth': { key: 'jack-key', secret: jwtSecret },
          'hmac-auth': { key_id: 'jack-id', secret_key: hmacSecret },
          jwt: { key: 'jack-iss', secret: kongSecret },
        },
      },
      { username: 'jill', plugins: { 'key-auth': { key: '$env://SLUICE_TEST_SECRET' } } },
    ],
    routes: [
      route('key', { 'key-auth': {}, csrf: { key: secret('csrf') } }),
      route('kong-key', { 'key-auth': { key_names: ['apikey'] } }),
      route('basic', { 'basic-auth': {} }),
      route('jwt', {
        'jwt-auth': {
          introspection: { endpoint: `${nowhere}/i`, client_id: 'gateway', client_secret: secret('client') },
        },
      }),
      route('kong-jwt', { jwt: { claims_to_verify: ['exp'] } }),
      route('hmac', { 'hmac-auth': {} }),
      route('multi', { 'multi-auth': { auth_plugins: [{ 'key-auth': {} }, { 'basic-auth': {} }] } }),
      route('limited', {
        'limit-count': {
          count: 5,
          time_window: 60,
          policy: 'redis',
          redis_host: '127.0.0.1',
          redis_port: 9,
          redis_password: secret('redis'),
          redis_timeout: 200,
        },
      }),
      route('asked', { 'forward-auth': { uri: nowhere, request_headers: ['Authorization'], timeout: 500 } }),
      route('opa', { opa: { host: nowhere, policy: 'p', timeout: 500 } }),
      route('dead', { 'key-auth': {} }, { nodes: { '127.0.0.1:9': 1 } }),
    ],
    sluice: {
      redis: `redis://user:${secret('shared')}@127.0.0.1:9`,
      log: { access: { path: log, format: 'json' } },
    },
  }
}

function leaks(where: string, text: string): string[] {
  const shapes = (value: string) => [value, Buffer.from(value).toString('base64').replace(/=+$/, ''), encodeURIComponent(value)]
  return secrets.filter((value) => shapes(value).some((shape) => text.includes(shape))).map((value) => `${value} in ${where}`)
}

describe('a gateway with every kind of secret', () => {
  let gateway: Gateway
  let folder: string
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'sluice-secrets-'))
    const upstream = await bed.upstream()
    const env = { SLUICE_TEST_SECRET: fromEnvironment }
    gateway = await bed.gateway({ config: config(upstream.port, join(folder, 'access.log')), admin: true, env })
  }, 120_000)
  afterAll(() => rm(folder, { recursive: true, force: true }))

  test('keeps them to itself, whatever happens', async () => {
    const basic = (text: string) => ({ authorization: `Basic ${Buffer.from(text).toString('base64')}` })
    const bearer = (token: string) => ({ authorization: `Bearer ${token}` })
    const asked: [string, Record<string, string>][] = [
      ['key/a', { apikey: key }],
      ['key/a', { apikey: `${key}x` }],
      ['key/a', { apikey: fromEnvironment }],
      ['kong-key/a', { apikey: `${key}x`, accept: 'text/html' }],
      ['dead/a', { apikey: key }],
      ['basic/a', basic(`jack:${password}`)],
      ['basic/a', basic(`jack:${password}x`)],
      ['basic/a', basic(password)],
      ['jwt/a', bearer(hs256({ key: 'jack-key' }, jwtSecret))],
      ['jwt/a', bearer(hs256({ key: 'jack-key' }, `${jwtSecret}x`))],
      ['jwt/a', bearer(jwtSecret)],
      ['kong-jwt/a', bearer(hs256({ iss: kongSecret }, kongSecret))],
      ['kong-jwt/a', bearer(kongSecret)],
      [
        'hmac/a',
        { authorization: `Signature keyId="${hmacSecret}",algorithm="hmac-sha256",signature="eA=="`, date: new Date().toUTCString() },
      ],
      ['multi/a', { apikey: `${key}x`, ...basic(`jack:${password}x`) }],
      ['limited/a', {}],
      ['asked/a', bearer(key)],
      ['opa/a', bearer(key)],
      ['nowhere', { apikey: key }],
    ]
    const found: string[] = []
    const statuses: number[] = []
    for (const [path, headers] of asked) {
      const response = await fetch(`${gateway.url}/${path}`, { headers })
      statuses.push(response.status)
      const fields = [...response.headers].map((field) => field.join(': ')).join('\n')
      found.push(...leaks(`the answer to ${path}`, `${fields}\n${await response.text()}`))
    }
    expect(new Set(statuses)).toEqual(new Set([200, 401, 403, 404, 500, 502, 503]))
    const admin = { 'x-api-key': ADMIN_KEY }
    const pages = [
      'status',
      'breakers',
      'revocations',
      'store',
      'limits',
      'nodes',
      'healthcheck',
      'explain?uri=/key/a&method=GET',
      'version',
      'nothing',
    ]
    for (const base of [gateway.metricsUrl, gateway.adminUrl]) {
      for (const page of pages) found.push(...leaks(page, await (await fetch(`${base}/v1/${page}`, { headers: admin })).text()))
    }
    for (const page of ['metrics', 'status', 'status/ready', 'apisix/prometheus/metrics'])
      found.push(...leaks(page, await (await fetch(`${gateway.metricsUrl}/${page}`)).text()))
    for (const body of [{ token: jwtSecret }, { consumer: key, x: password }])
      found.push(
        ...leaks(
          'revoking',
          await (await fetch(`${gateway.adminUrl}/v1/revocations`, { method: 'POST', headers: admin, body: JSON.stringify(body) })).text(),
        ),
      )
    await gateway.stop()
    const accessLog = await readFile(join(folder, 'access.log'), 'utf8')
    expect(accessLog.split('\n').length).toBeGreaterThan(asked.length)
    // Refusals that needed no address are logged with it all the same.
    const clients = accessLog
      .trimEnd()
      .split('\n')
      .map((line) => /"client_ip":"([^"]*)"/.exec(line)?.[1])
    expect(new Set(clients)).toEqual(new Set(['127.0.0.1']))
    found.push(...leaks('the access log', accessLog), ...leaks('the process log', gateway.stderr))
    expect(gateway.stderr).toContain('hmac-auth')
    expect(found).toEqual([])
  }, 120_000)

  test('`check` names what is wrong, not what is secret', async () => {
    const good = config(1, join(folder, 'x.log'))
    const wrong = { 'jwt-auth': { key: 'k', secret: [jwtSecret] }, 'basic-auth': { username: 'a', password: { is: password } } }
    const consumers = [
      ...good.consumers,
      { username: 'twin', plugins: { 'key-auth': { key }, 'hmac-auth': { key_id: 'jack-id', secret_key: hmacSecret } } },
      { username: 'wrong', plugins: wrong },
      { username: 'hashed', plugins: { 'basic-auth': { username: 'h', password: `$argon2id$v=19$m=99999999,t=2,p=1$${password}` } } },
      { username: 'base64', plugins: { 'jwt-auth': { key: 'b', secret: `${jwtSecret}!`, base64_secret: true } } },
      { username: 'pem', plugins: { 'jwt-auth': { key: 'p', algorithm: 'RS256', public_key: clientKey } } },
      { username: 'missing', plugins: { 'key-auth': { key: '$env://SLUICE_TEST_NOT_THERE' } } },
      { username: 'file', plugins: { 'key-auth': { key: '$secret://file/not-there' } } },
    ]
    const routes = [
      ...good.routes,
      {
        id: 'bad',
        uri: '/bad',
        plugins: { csrf: { key: 7 }, 'limit-count': { count: -1, time_window: 1, redis_password: 9, policy: 'redis' } },
      },
    ]
    const sluice = { ...good.sluice, redis: `redis://user:${secret('broken')}@127.0.0.1:notaport` }
    const file = join(folder, 'wrong.json')
    for (const text of [
      JSON.stringify({ consumers, routes, sluice }, null, 2),
      `consumers: [{ username: a, plugins: { key-auth: { key: "${key} } } }]`,
    ]) {
      await writeFile(file, text)
      for (const args of [
        ['check', file, '--json'],
        ['check', file],
        ['start', '-c', file],
      ]) {
        const outcome = await promisify(execFile)(process.execPath, [ENTRY, ...args], { timeout: 60_000 }).catch((error: unknown) => error)
        const { stdout, stderr } = outcome as { stdout: string; stderr: string }
        expect(`${stdout}${stderr}`).toContain('wrong.json')
        expect(leaks(args.join(' '), `${stdout}\n${stderr}`)).toEqual([])
      }
    }
  }, 120_000)
})
