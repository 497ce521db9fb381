import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { AdminGuard, isHostAllowed, roleOf } from '../../src/controlplane/admin/authorize.js'
import type { RevocationActions, RevocationOutcome, RevocationRequest } from '../../src/controlplane/admin/revocations.js'
import { type AdminServer, startAdminServer } from '../../src/controlplane/admin/server.js'
import type { ReloadOutcome } from '../../src/controlplane/reload.js'
import { adminDefaults } from '../../src/controlplane/validate-admin.js'
import { TestAuthority } from '../support/tls-certificates.js'

const keys = [
  { name: 'chief', key: 'admin-key', role: 'admin' as const },
  { name: 'guest', key: 'viewer-key', role: 'viewer' as const },
]
const faults: string[] = []
const problems: string[] = []
const changed: string[] = []
const breakers = {
  list: () => ({ total: 1, breakers: [{ name: 'route:1' }] }),
  change: (name: string, action: string) => name === 'route:1' && changed.push(action) > 0,
}
let outcome: ReloadOutcome = { ok: true, epoch: 7 }
const revoked: RevocationRequest[] = []
const revocationOutcome: RevocationOutcome = { state: 'in-force' }
function revoke(request: RevocationRequest): RevocationOutcome {
  revoked.push(request)
  return revocationOutcome
}
const inForce = new Map([
  ['sub:short', 2_000_000_000],
  ['jti:long', 2_100_000_000],
])
const revocations: RevocationActions = {
  revoke: (request) => Promise.resolve(revoke(request)),
  inForce: () => inForce,
  undo: (id) => Promise.resolve(inForce.has(id) ? { state: 'in-force' } : null),
}
let server: AdminServer

beforeAll(async () => {
  server = await startAdminServer(
    { ...adminDefaults('sluice.yaml'), port: 0, keys },
    {
      status: () => ({ epoch: 7 }),
      reload: () => Promise.resolve(outcome),
      revocations,
      breakers,
      store: { describe: () => ({ kind: 'file' }), forgetSetAside: () => Promise.resolve(2) },
      resources: null,
      traffic: () => ({ requests: 0, inFlight: 0, connections: 0, connectionsAccepted: 0 }),
      version: '0.0.0',
      log: (message) => problems.push(message),
      fault: (worker, kind) => {
        faults.push(`${worker} ${kind}`)
        return worker === 0
      },
    },
  )
})
afterAll(() => server.close())

interface Answer {
  readonly status: number
  readonly body: unknown
}

function ask(method: string, path: string, headers: { readonly [name: string]: string }, body = ''): Promise<Answer> {
  return new Promise((resolve, reject) => {
    // Said for DELETE too, for which the client would send the body unannounced.
    const fields = { ...headers, 'content-length': Buffer.byteLength(body) }
    const target = { host: '127.0.0.1', port: server.address.port, method, path, headers: fields, agent: false }
    const request = httpRequest(target, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.once('end', () => resolve({ status: response.statusCode ?? 0, body: JSON.parse(Buffer.concat(chunks).toString()) }))
    })
    request.once('error', reject)
    request.end(body)
  })
}

const admin = { 'x-api-key': 'admin-key' }
const viewer = { 'x-api-key': 'viewer-key' }

describe('admin server', () => {
  test.each([
    ['no key', {}, 'missing apikey'],
    ['an empty key', { 'x-api-key': '' }, 'missing apikey'],
    ['a wrong key', { 'x-api-key': 'admin-keyx' }, 'wrong apikey'],
  ])('%s is 401', async (_, headers, description) => {
    for (const path of ['/v1/status', '/v1/reload', '/apisix/admin/routes', '/nowhere']) {
      expect(await ask('GET', path, headers)).toEqual({ status: 401, body: { error_msg: 'failed to check token', description } })
    }
  })

  test('breakers are listed for every role and changed by admins', async () => {
    expect(await ask('GET', '/v1/breakers', viewer)).toEqual({ status: 200, body: { total: 1, breakers: [{ name: 'route:1' }] } })
    expect(await ask('GET', '/v1/breakers/open', admin)).toMatchObject({ status: 405 })
    expect(await ask('POST', '/v1/breakers', admin)).toMatchObject({ status: 405 })
    expect(await ask('POST', '/v1/breakers/open', viewer, '{"name":"route:1"}')).toMatchObject({ status: 401 })
    for (const body of ['', '{', '[]', '{"name":1}'])
      expect(await ask('POST', '/v1/breakers/open', admin, body)).toMatchObject({ status: 400 })
    expect(await ask('POST', '/v1/breakers/open', admin, '{"name":"route:2"}')).toMatchObject({ status: 404 })
    expect(changed).toEqual([])
    expect(await ask('POST', '/v1/breakers/open', admin, '{"name":"route:1"}')).toEqual({
      status: 200,
      body: { name: 'route:1', action: 'open' },
    })
    expect(await ask('POST', '/v1/breakers/close', admin, '{"name":"route:1"}')).toMatchObject({ status: 200 })
    expect(changed).toEqual(['open', 'close'])
  })

  test('revocations are listed and undone by admins', async () => {
    for (const method of ['GET', 'POST', 'DELETE']) expect(await ask(method, '/v1/revocations', viewer)).toMatchObject({ status: 401 })
    expect(await ask('PUT', '/v1/revocations', admin)).toMatchObject({ status: 405 })
    expect(await ask('GET', '/v1/revocations', admin)).toEqual({
      status: 200,
      body: {
        total: 2,
        revocations: [
          { id: 'jti:long', kind: 'jti', until: '2036-07-18T13:20:00.000Z' },
          { id: 'sub:short', kind: 'sub', until: '2033-05-18T03:33:20.000Z' },
        ],
      },
    })
    const one = { total: 1, revocations: [{ id: 'sub:short' }] }
    expect(await ask('GET', '/v1/revocations?id=sub%3Ashort', admin)).toMatchObject({ status: 200, body: one })
    expect(await ask('GET', '/v1/revocations?sub=short', admin)).toMatchObject({ status: 200, body: { total: 0 } })
    for (const query of ['token=t', 'limit=1']) expect(await ask('GET', `/v1/revocations?${query}`, admin)).toMatchObject({ status: 400 })
    expect(await ask('DELETE', '/v1/revocations', admin, '{"id":"sub:short"}')).toEqual({ status: 200, body: { undone: 'sub:short' } })
    expect(await ask('DELETE', '/v1/revocations', admin, '{"sub":"short"}')).toMatchObject({ status: 404 })
    for (const body of ['', '{}', '{"id":1}', '{"id":"a","sub":"b"}'])
      expect(await ask('DELETE', '/v1/revocations', admin, body)).toMatchObject({ status: 400 })
  })

  test('status is for every role, reload for admins only', async () => {
    expect(await ask('GET', '/v1/status', viewer)).toEqual({ status: 200, body: { epoch: 7 } })
    expect(await ask('POST', '/v1/reload', viewer)).toEqual({
      status: 401,
      body: { error_msg: 'failed to check token', description: 'invalid method for role viewer' },
    })
    expect(await ask('POST', '/v1/reload?x=1', admin)).toEqual({ status: 200, body: { epoch: 7 } })
  })

  test('a refused reload is 400 with every error', async () => {
    outcome = { ok: false, errors: ['first', 'second'] }
    expect(await ask('POST', '/v1/reload', admin)).toEqual({ status: 400, body: { error_msg: 'first', errors: ['first', 'second'] } })
  })

  test('resources are 503 before there are any, other paths are 404, other methods 405', async () => {
    expect((await ask('PUT', '/apisix/admin/routes/1', admin, '{}')).status).toBe(503)
    expect((await ask('PUT', '/apisix/admin/routes/1', viewer, '{}')).status).toBe(401)
    expect((await ask('GET', '/apisix/administer', admin)).status).toBe(404)
    expect((await ask('DELETE', '/v1/status', admin)).status).toBe(405)
    expect(problems).toEqual([])
  })

  test('the store is for admins', async () => {
    expect(await ask('GET', '/v1/store', admin)).toEqual({ status: 200, body: { kind: 'file' } })
    expect((await ask('GET', '/v1/store', viewer)).status).toBe(401)
    expect(await ask('DELETE', '/v1/store/set-aside', admin)).toEqual({ status: 200, body: { forgotten: 2 } })
  })

  test('faults: what is asked for, or a clear refusal', async () => {
    expect((await ask('POST', '/v1/faults', admin, '{"worker":0,"kind":"throw"}')).status).toBe(202)
    expect((await ask('POST', '/v1/faults', admin, '{"worker":9,"kind":"out-of-memory"}')).status).toBe(404)
    for (const body of ['', '[]', 'null', '{"worker":"0","kind":"throw"}', '{"worker":0,"kind":"boredom"}']) {
      expect((await ask('POST', '/v1/faults', admin, body)).status).toBe(400)
    }
    expect((await ask('POST', '/v1/faults', viewer, '{"worker":0,"kind":"throw"}')).status).toBe(401)
    expect(faults).toEqual(['0 throw', '9 out-of-memory'])
  })

  test('a body beyond the bound is 400', async () => {
    const answer = await ask('POST', '/v1/reload', admin, 'x'.repeat(1_572_865))
    expect(answer.status).toBe(400)
    expect(answer.body).toEqual({
      error_msg: 'invalid request body: request size 1572865 is greater than the maximum size 1572864 allowed',
    })
  })

  test('a Host of somebody else is 403, whatever the key', async () => {
    expect((await ask('GET', '/v1/status', { ...admin, host: 'rebound.example' })).status).toBe(403)
  })

  test('a port in use is a usage error with exit code 1', async () => {
    const again = startAdminServer(
      { ...adminDefaults('sluice.yaml'), port: server.address.port, keys },
      {
        status: () => ({}),
        reload: () => Promise.resolve(outcome),
        breakers,
        revocations,
        store: { describe: () => ({}), forgetSetAside: () => Promise.resolve(0) },
        resources: null,
        traffic: () => ({ requests: 0, inFlight: 0, connections: 0, connectionsAccepted: 0 }),
        version: '0.0.0',
        log: () => {},
        fault: null,
      },
    )
    await expect(again).rejects.toMatchObject({ name: 'UsageError', exitCode: 1, message: expect.stringContaining('in use') })
  })
})

test.each([
  ['127.0.0.1:9180', true],
  ['[::1]:9180', true],
  ['localhost', true],
  ['Gateway.Internal:9180', true],
  ['evil.example', false],
  ['127.0.0.1.evil.example', false],
  ['', false],
  ['a/b', false],
])('isHostAllowed(%j) is %j', (host, allowed) => {
  expect(isHostAllowed(host, 'gateway.internal')).toBe(allowed)
})

test('an empty key opens nothing, even when it is configured', () => {
  expect(roleOf('', [{ name: 'none', key: '', role: 'admin' }])).toBeNull()
})

describe('the doors', () => {
  const config = { ...adminDefaults('sluice.yaml'), keys }
  const headers = { host: '127.0.0.1:9180' }
  const guard = (change: object) => new AdminGuard({ ...config, ...change }, keys)

  test('addresses outside of the list are 403', () => {
    const listed = guard({ allow: ['127.0.0.0/24', '2001:db8::/32'] })
    for (const address of ['127.0.0.7', '::ffff:127.0.0.1', '2001:db8::1']) expect(listed.refusal(address, headers), address).toBeNull()
    for (const address of ['127.0.1.1', '10.0.0.1', '2001:db9::1', ''])
      expect(listed.refusal(address, headers), address).toMatchObject({ status: 403 })
  })

  test('names in hosts, and origins that are listed, may come in', () => {
    const open = guard({ hosts: ['admin.example'], origins: ['https://board.example'] })
    expect(open.refusal('::1', { host: 'Admin.Example:9180' })).toBeNull()
    expect(open.refusal('::1', { ...headers, origin: 'https://board.example' })).toBeNull()
    expect(open.refusal('::1', { ...headers, origin: 'https://board.example.evil' })).toMatchObject({ status: 403 })
    expect(open.refusal('::1', { ...headers, origin: 'null' })).toMatchObject({ status: 403 })
    expect([
      open.allowedOrigin('https://board.example'),
      open.allowedOrigin('https://x'),
      guard({ origins: ['*'] }).allowedOrigin('https://x'),
    ]).toEqual(['https://board.example', null, '*'])
  })

  test('its own pages are those of the same scheme, host and port', () => {
    const own = guard({ tls: { certFile: '', keyFile: '', clientCaFile: null } })
    expect(own.refusal('::1', { ...headers, origin: 'https://127.0.0.1:9180' })).toBeNull()
    for (const origin of ['http://127.0.0.1:9180', 'https://127.0.0.1:9181'])
      expect(own.refusal('::1', { ...headers, origin })).toMatchObject({ status: 403 })
  })
})

test('over TLS, clients must show a certificate of the configured authority', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-admin-tls-'))
  const [authority, stranger] = [await TestAuthority.create(), await TestAuthority.create('Somebody Else')]
  const pair = await authority.issue('127.0.0.1')
  const files = { certFile: join(folder, 'cert.pem'), keyFile: join(folder, 'key.pem'), clientCaFile: join(folder, 'ca.pem') }
  await Promise.all([
    writeFile(files.certFile, pair.cert),
    writeFile(files.keyFile, pair.key),
    writeFile(files.clientCaFile, authority.cert),
  ])
  const actions = { status: () => ({ epoch: 7 }), reload: () => Promise.resolve(outcome), revocations }
  const store = { describe: () => ({}), forgetSetAside: () => Promise.resolve(0) }
  const tls = await startAdminServer(
    { ...adminDefaults('sluice.yaml'), port: 0, keys, tls: files },
    {
      ...actions,
      breakers,
      store,
      resources: null,
      traffic: () => ({ requests: 0, inFlight: 0, connections: 0, connectionsAccepted: 0 }),
      version: '0.0.0',
      log: () => {},
      fault: null,
    },
  )
  try {
    const status = (client: object) =>
      new Promise<number | string>((resolve) => {
        const target = {
          host: '127.0.0.1',
          port: tls.address.port,
          path: '/v1/status',
          headers: viewer,
          ca: authority.cert,
          agent: false,
          ...client,
        }
        const request = httpsRequest(target, (response) => resolve(response.resume().statusCode ?? 0))
        request.once('error', () => resolve('refused'))
        request.end()
      })
    expect(await status(await authority.issue('ops'))).toBe(200)
    expect(await status({})).toBe('refused')
    expect(await status(await stranger.issue('ops'))).toBe('refused')
  } finally {
    await tls.close()
    await rm(folder, { recursive: true })
  }
})
