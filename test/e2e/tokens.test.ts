/** Tokens of issuers through whole gateways: published keys, their rotation, introspection, revocation on all workers and nodes. */
import { createPublicKey, generateKeyPairSync, type KeyObject, scryptSync } from 'node:crypto'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { hs256, rs256 } from '../plugins/tokens.js'
import { ADMIN_KEY, type Gateway } from '../support/gateway.js'
import { eventually, RedisServer, redisMissing } from '../support/redis.js'
import { TestBed } from '../support/test-bed.js'

const bed = new TestBed()
afterAll(() => bed.close())

/** Publishes keys, and counts how often it is asked. */
class Issuer {
  readonly keys = new Map<string, KeyObject>()
  fetches = 0
  isDown = false
  private readonly server: Server

  constructor() {
    this.server = createServer((_request, response) => {
      this.fetches++
      if (this.isDown) {
        response.writeHead(500).end()
        return
      }
      const keys = [...this.published].map((kid) => ({ ...createPublicKey(this.keyOf(kid)).export({ format: 'jwk' }), kid, use: 'sig' }))
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ keys }))
    })
  }

  readonly published = new Set<string>()

  async start(): Promise<void> {
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', resolve))
    bed.later(() => this.server.close())
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/keys`
  }

  add(kid: string): void {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    this.keys.set(kid, privateKey)
    this.published.add(kid)
  }

  token(kid: string, claims: object): string {
    return rs256({ iss: 'https://issuer.test', ...claims }, { kid }, this.keyOf(kid))
  }

  private keyOf(kid: string): KeyObject {
    const key = this.keys.get(kid)
    if (key === undefined) throw new Error(`no key ${kid}`)
    return key
  }
}

function configuration(upstream: number, url: string, sluice: object = {}): object {
  const plugins = {
    'jwt-auth': {
      issuer: 'https://issuer.test',
      jwks_uri: url,
      timeout: 30,
      jwks_min_interval: 0.2,
      jwks_refresh_interval: 5,
      claims_to_headers: { 'X-User-ID': 'sub' },
    },
  }
  return { routes: [{ id: 'api', uri: '/*', plugins, upstream: { nodes: { [`127.0.0.1:${upstream}`]: 1 } } }], sluice }
}

async function ask(gateway: Gateway, token: string): Promise<number> {
  const response = await fetch(gateway.url, { headers: { authorization: `Bearer ${token}`, 'x-user-id': 'root' } })
  await response.arrayBuffer()
  return response.status
}

async function revoke(gateway: Gateway, body: object): Promise<{ readonly status: number; readonly body: unknown }> {
  const headers = { 'x-api-key': ADMIN_KEY }
  const response = await fetch(`${gateway.adminUrl}/v1/revocations`, { method: 'POST', headers, body: JSON.stringify(body) })
  return { status: response.status, body: await response.json() }
}

/** Keeps asking over several connections until it is stopped. */
class Load {
  private isOn = true
  private readonly done: Promise<unknown>
  readonly statuses: number[] = []

  constructor(clients: number, one: () => Promise<number>) {
    const run = async (): Promise<void> => {
      while (this.isOn) this.statuses.push(await one())
    }
    this.done = Promise.all(Array.from({ length: clients }, run))
  }

  async reached(count: number): Promise<void> {
    const goal = this.statuses.length + count
    await eventually(`${count} more answers`, () => this.statuses.length >= goal)
  }

  async stop(): Promise<void> {
    this.isOn = false
    await this.done
  }
}

describe('an issuer with published keys', () => {
  const issuer = new Issuer()
  let gateway: Gateway
  let config: object

  beforeAll(async () => {
    issuer.add('one')
    await issuer.start()
    const upstream = await bed.upstream()
    config = configuration(upstream.port, issuer.url)
    gateway = await bed.gateway({ config, workers: 2, admin: true })
  }, 60_000)

  test('its tokens pass, others do not', async () => {
    expect(await ask(gateway, issuer.token('one', { sub: 'u1' }))).toBe(200)
    expect(await ask(gateway, issuer.token('one', { sub: 'u1', iss: 'https://other.test' }))).toBe(401)
    expect(await ask(gateway, rs256({ iss: 'https://issuer.test' }, { kid: 'one' }))).toBe(401)
    expect((await fetch(gateway.url)).status).toBe(401)
  })

  test('what is revoked under load is let through by no worker once the call has returned', async () => {
    for (const [kind, value] of [
      ['jti', 'id-7'],
      ['sub', 'u7'],
    ] as const) {
      const text = issuer.token('one', { jti: `${kind}-id-7`, sub: `${kind}-u7`, [kind]: value })
      let returned = false
      let after = 0
      let passedAfter = 0
      const load = new Load(16, async () => {
        const beganAfter = returned
        const status = await ask(gateway, text)
        if (beganAfter) {
          after++
          if (status === 200) passedAfter++
        }
        return status
      })
      await load.reached(200)
      const before = load.statuses.filter((status) => status === 200).length
      expect(await revoke(gateway, { [kind]: value, ttl: 600 })).toEqual({ status: 201, body: { revoked: kind, ttl: 600 } })
      returned = true
      await load.reached(300)
      await load.stop()
      expect(before).toBeGreaterThan(100)
      expect(after).toBeGreaterThan(100)
      expect(passedAfter).toBe(0)
    }
    expect(await ask(gateway, issuer.token('one', { sub: 'u8', jti: 'id-8' }))).toBe(200)
  }, 60_000)

  test('keys are rotated, and the configuration reloaded, without a failed request', async () => {
    let kid = 'one'
    let count = 0
    const load = new Load(8, () => ask(gateway, issuer.token(kid, { sub: `user-${count++ % 50}` })))
    await load.reached(100)
    issuer.add('two')
    // Signed with the new key at once, before any worker has heard of it.
    kid = 'two'
    await load.reached(100)
    issuer.published.delete('one')
    expect((await gateway.reload(config)).lastError).toBeNull()
    await load.reached(100)
    await load.stop()
    expect(new Set(load.statuses)).toEqual(new Set([200]))
  }, 60_000)

  test('key ids that nobody knows cause few fetches, and known keys serve while the issuer is down', async () => {
    issuer.isDown = true
    const before = issuer.fetches
    const begin = performance.now()
    const unknown = await Promise.all(
      Array.from({ length: 40 }, (_, index) => ask(gateway, rs256({ iss: 'https://issuer.test' }, { kid: `random-${index}` }))),
    )
    for (const status of unknown) expect([401, 503]).toContain(status)
    expect(await ask(gateway, issuer.token('two', { sub: 'u9' }))).toBe(200)
    // One per interval at most, and the one that was under way.
    expect(issuer.fetches - before).toBeLessThanOrEqual(2 + (performance.now() - begin) / 200)
    issuer.isDown = false
  }, 60_000)

  test('requests that make no sense are told why', async () => {
    for (const body of [{}, { jti: '' }, { jti: 'a', sub: 'b' }, { jti: 'a', ttl: 0 }, { user: 'a' }, { sub: 7 }]) {
      const answer = await revoke(gateway, body)
      expect(answer.status).toBe(400)
      expect(JSON.stringify(answer.body)).toContain('invalid request')
    }
    const response = await fetch(`${gateway.adminUrl}/v1/revocations`, { method: 'POST', body: '{"jti":"a"}' })
    expect(response.status).toBe(401)
  })
})

describe('consumers', () => {
  const secret = 'a secret of the tests, long enough'
  const salt = Buffer.from('0123456789abcdef')
  const unpadded = (bytes: Buffer) => bytes.toString('base64').replace(/=+$/, '')
  const password = `$scrypt$ln=10,r=8,p=1$${unpadded(salt)}$${unpadded(scryptSync('pw', salt, 32, { N: 1024, r: 8, p: 1 }))}`

  test('are refused with whatever credential once they are revoked, until that is undone', async () => {
    const upstream = await bed.upstream()
    const nodes = { [`127.0.0.1:${upstream.port}`]: 1 }
    const consumer = (username: string) => ({
      username,
      plugins: {
        'jwt-auth': { key: `${username}-key`, secret },
        'key-auth': { key: `${username} key` },
        'basic-auth': { username, password },
      },
    })
    const routes = [
      { uri: '/jwt/*', plugins: { 'jwt-auth': {} }, upstream: { nodes } },
      { uri: '/key/*', plugins: { 'key-auth': {} }, upstream: { nodes } },
      { uri: '/basic/*', plugins: { 'basic-auth': {} }, upstream: { nodes } },
      { uri: '/guest/*', plugins: { 'key-auth': { anonymous_consumer: 'guest' } }, upstream: { nodes } },
    ]
    const consumers = [consumer('jack'), consumer('jill'), { username: 'guest' }]
    const gateway = await bed.gateway({ config: { routes, consumers }, admin: true, workers: 2 })
    const status = async (path: string, headers: Record<string, string>): Promise<number> => {
      const response = await fetch(`${gateway.url}${path}`, { headers })
      await response.arrayBuffer()
      return response.status
    }
    const ways = (name: string): (() => Promise<number>)[] => [
      () => status('/jwt/a', { authorization: `Bearer ${hs256({ key: `${name}-key` }, secret)}` }),
      () => status('/key/a', { apikey: `${name} key` }),
      () => status('/basic/a', { authorization: `Basic ${Buffer.from(`${name}:pw`).toString('base64')}` }),
      // With the key of a consumer who is revoked nobody goes on as the anonymous one.
      () => status('/guest/a', { apikey: `${name} key` }),
    ]
    const statuses = (name: string): Promise<number[]> => Promise.all(ways(name).map((way) => way()))
    const all = (code: number): number[] => [code, code, code, code]
    expect([await statuses('jack'), await statuses('jill')]).toEqual([all(200), all(200)])
    let returned = false
    let turn = 0
    const late: number[] = []
    const load = new Load(8, async () => {
      const isLate = returned
      const found = (await ways('jack')[turn++ % 4]?.()) ?? 0
      if (isLate) late.push(found)
      return found
    })
    await load.reached(100)
    expect((await revoke(gateway, { consumer: 'jack' })).status).toBe(201)
    returned = true
    await load.reached(200)
    await load.stop()
    expect(load.statuses).toContain(200)
    expect(late.length).toBeGreaterThan(100)
    expect(new Set(late)).toEqual(new Set([401]))
    expect(await statuses('jill')).toEqual(all(200))

    const ask = async (method: string, body?: object): Promise<unknown> => {
      const init = { method, headers: { 'x-api-key': ADMIN_KEY }, ...(body === undefined ? {} : { body: JSON.stringify(body) }) }
      return (await fetch(`${gateway.adminUrl}/v1/revocations`, init)).json()
    }
    expect(await ask('GET')).toMatchObject({ total: 1, revocations: [{ kind: 'consumer' }] })
    expect(JSON.stringify(await ask('GET'))).not.toContain('jack')
    expect(await ask('DELETE', { consumer: 'jack' })).toMatchObject({ undone: expect.stringContaining('consumer:') })
    for (let round = 0; round < 4; round++) expect(await statuses('jack')).toEqual(all(200))
    // The anonymous consumer can be revoked like any other.
    expect(await status('/guest/a', {})).toBe(200)
    expect((await revoke(gateway, { consumer: 'guest' })).status).toBe(201)
    expect([await status('/guest/a', {}), await status('/guest/a', { apikey: 'jill key' })]).toEqual([401, 200])
  }, 60_000)
})

describe.skipIf(redisMissing !== null)('gateways that share a Redis', () => {
  test('obey one another, also those that start later, and after Redis has lost its data', async () => {
    const redis = await RedisServer.start()
    bed.later(() => redis.close())
    const issuer = new Issuer()
    issuer.add('one')
    await issuer.start()
    const upstream = await bed.upstream()
    const config = configuration(upstream.port, issuer.url, { redis: `redis://127.0.0.1:${redis.port}` })
    const [first, second] = await Promise.all([bed.gateway({ config, admin: true }), bed.gateway({ config, admin: true })])
    const text = issuer.token('one', { sub: 'u1', jti: 'a' })
    expect([await ask(first, text), await ask(second, text)]).toEqual([200, 200])
    expect((await revoke(first, { token: text })).status).toBe(201)
    expect(await ask(first, text)).toBe(401)
    await eventually('the other node', async () => (await ask(second, text)) === 401)
    // Nothing readable is stored.
    expect(JSON.stringify(await redis.client.keys('*'))).toContain('revocations')
    // As after a restart.
    const third = await bed.gateway({ config })
    expect(await ask(third, text)).toBe(401)
    await redis.client.flushall()
    expect((await revoke(first, { jti: 'b' })).status).toBe(201)
    const other = issuer.token('one', { sub: 'u2', jti: 'b' })
    await eventually('what is new', async () => (await ask(second, other)) === 401)
    const [ends = ''] = await redis.client.keys('*{revocations}:ends')
    await eventually('what was known is written down again', async () => (await redis.client.zcard(ends)) === 2)
  }, 60_000)
})
