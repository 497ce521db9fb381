/** A real issuer (oidc-provider): its published keys by discovery, and its word about opaque tokens. */
import { generateKeyPairSync } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Provider } from 'oidc-provider'
import { afterAll, expect, test } from 'vitest'
import { TestBed } from '../support/test-bed.js'

const bed = new TestBed()
afterAll(() => bed.close())

const RESOURCE = 'urn:orders'

interface RealIssuer {
  readonly url: string
  token(fields: { readonly [name: string]: string }): Promise<string>
  revoke(token: string): Promise<void>
  introspections: number
}

async function startIssuer(): Promise<RealIssuer> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const client = (client_id: string) => ({
    client_id,
    client_secret: `secret & key: of ${client_id}`,
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    id_token_signed_response_alg: 'ES256' as const,
  })
  const provider = new Provider(url, {
    clients: [client('caller'), client('gateway')],
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), kty: 'EC', kid: 'first', use: 'sig', alg: 'ES256' }] },
    scopes: ['orders:read'],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      revocation: { enabled: true, allowedPolicy: () => true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({
          scope: 'orders:read',
          audience: 'orders',
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
  })
  const answer = provider.callback()
  server.on('request', (request, response) => {
    if (request.url?.startsWith('/token/introspection') === true) issuer.introspections++
    void answer(request, response)
  })
  bed.later(() => {
    server.closeAllConnections()
    server.close()
  })
  const post = async (path: string, fields: object): Promise<unknown> => {
    const authorization = `Basic ${Buffer.from(`caller:${encodeURIComponent('secret & key: of caller')}`).toString('base64')}`
    const response = await fetch(`${url}${path}`, { method: 'POST', headers: { authorization }, body: new URLSearchParams({ ...fields }) })
    const text = await response.text()
    if (!response.ok) throw new Error(text)
    return text === '' ? null : JSON.parse(text)
  }
  const issuer: RealIssuer = {
    url,
    introspections: 0,
    async token(fields) {
      const { access_token } = (await post('/token', { grant_type: 'client_credentials', ...fields })) as { access_token: string }
      return access_token
    },
    revoke: async (token) => void (await post('/token/revocation', { token })),
  }
  return issuer
}

test('its signed tokens are verified with discovered keys, its opaque ones by introspection', async () => {
  const issuer = await startIssuer()
  const upstream = await bed.upstream()
  const introspection = { endpoint: `${issuer.url}/token/introspection`, client_id: 'gateway', client_secret: 'secret & key: of gateway' }
  const route = (path: string, conf: object) => ({
    uri: `${path}*`,
    plugins: { 'jwt-auth': conf },
    upstream: { nodes: { [`127.0.0.1:${upstream.port}`]: 1 } },
  })
  const gateway = await bed.gateway({
    config: {
      routes: [
        route('/signed', { issuers: [{ issuer: issuer.url, audience: 'orders' }], required_scopes: ['orders:read'] }),
        route('/opaque', { introspection, claims_to_headers: { 'X-Client': 'client_id' } }),
        route('/posted', { introspection: { ...introspection, auth_method: 'client_secret_post' } }),
        route('/uncached', { introspection: { ...introspection, cache_ttl: 0 } }),
        route('/wrong', { introspection: { ...introspection, client_secret: 'x' } }),
      ],
    },
  })
  const ask = async (path: string, token: string): Promise<number> => {
    const response = await fetch(`${gateway.url}${path}`, { headers: { authorization: `Bearer ${token}`, 'x-client': 'root' } })
    await response.arrayBuffer()
    return response.status
  }
  const signed = await issuer.token({ resource: RESOURCE, scope: 'orders:read' })
  expect(await ask('/signed', signed)).toBe(200)
  expect(await ask('/signed', await issuer.token({ resource: RESOURCE }))).toBe(403)
  expect(await ask('/signed', `${signed.slice(0, -8)}AAAAAAAA`)).toBe(401)

  const opaque = await issuer.token({})
  expect(opaque.split('.')).toHaveLength(1)
  const before = issuer.introspections
  // One question for all who ask at the same time, and for those who come later.
  expect(new Set(await Promise.all(Array.from({ length: 20 }, () => ask('/opaque', opaque))))).toEqual(new Set([200]))
  expect(await ask('/opaque', opaque)).toBe(200)
  expect(issuer.introspections - before).toBe(1)
  const sent = upstream.connections.flatMap((connection) => connection.requests).at(-1)
  expect(sent?.fields.filter(({ name }) => name.toLowerCase() === 'x-client').map(({ value }) => value)).toEqual(['caller'])
  expect(await ask('/posted', opaque)).toBe(200)
  expect(await ask('/uncached', opaque)).toBe(200)
  expect(await ask('/opaque', 'never-issued')).toBe(401)
  expect(await ask('/wrong', opaque)).toBe(503)
  await issuer.revoke(opaque)
  expect(await ask('/uncached', opaque)).toBe(401)
}, 60_000)
