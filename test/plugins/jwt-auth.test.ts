import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { jwtAuth } from '../../src/plugins/jwt-auth.js'
import type { Json, KeySetSpec } from '../../src/plugins/plugin.js'
import { RevocationTable, revocationDigest } from '../../src/shared/revocations.js'
import type { FakeRequest } from '../support/fake-exchange.js'
import { FakeConsumers, prepareKit } from '../support/link-kit.js'
import { authenticate, type Linked, linkAuth } from './authenticated.js'
import { problemsOf } from './configured.js'
import { ec, ed, eddsa, encoded, es, hs, hs256, NOW_S, pem, rs, rs256, rsa, token } from './tokens.js'

const SECRET = 'a secret of the tests, long enough'

function consumers(): FakeConsumers {
  const all = new FakeConsumers()
  all.addCredential(jwtAuth, 'jack', { key: 'jack-key', secret: SECRET }, 'cred-jack')
  all.addCredential(jwtAuth, 'b64', { key: 'b64-key', secret: Buffer.from([255, 0, 7]).toString('base64'), base64_secret: true })
  all.addCredential(jwtAuth, 'rsa', { key: 'rsa-key', algorithm: 'RS256', public_key: pem(rsa.publicKey) })
  all.addCredential(jwtAuth, 'ec', { key: 'ec-key', algorithm: 'ES256', public_key: pem(ec.publicKey), lifetime_grace_period: 10 })
  all.addCredential(jwtAuth, 'ed', { key: 'ed-key', algorithm: 'EdDSA', public_key: pem(ed.publicKey) })
  all.addCredential(jwtAuth, 'short', { key: 'short-key', secret: SECRET, exp: 60, enforce_exp_as_max_age: true })
  all.add({ username: 'nobody' })
  return all
}

const link = (conf: Json = {}) => linkAuth(jwtAuth, conf, consumers())
const bearer = (text: string): FakeRequest => ({ headers: { Authorization: `Bearer ${text}` } })
const refusal = (message: string) => ({ status: 401, body: `{"message":"${message}"}\n`, challenges: ['Bearer realm="jwt"'], consumer: '' })
const good = hs256({ key: 'jack-key' }, SECRET)

describe('tokens of consumers, as in APISIX', () => {
  test('from header, query or cookie, in this order', async () => {
    const { instance } = link()
    const found = await authenticate(instance, bearer(good))
    expect(found).toMatchObject({ status: 0, consumer: 'jack' })
    expect(found.exchange.requestHeaders.get('x-consumer-username')).toBe('jack')
    expect(found.exchange.credentialId).toBe('cred-jack')
    for (const request of [
      { headers: { Authorization: `bearer ${good}` } },
      { headers: { Authorization: `BEARER ${good}` } },
      { headers: { Authorization: good } },
      { target: `/?a=1&jwt=${good}` },
      { headers: { Cookie: `a=1; jwt=${good}; b=2` } },
    ])
      expect((await authenticate(instance, request)).consumer).toBe('jack')
    const twice = await authenticate(instance, { target: `/?jwt=${good}&j%77t=${good}` })
    expect(twice).toMatchObject({ status: 400, consumer: '' })
    const wrongFirst = await authenticate(instance, { headers: { Authorization: 'Bearer x' }, target: `/?jwt=${good}` })
    expect(wrongFirst).toMatchObject(refusal('JWT token invalid'))
    const named = link({ header: 'X-Token', query: 'token', cookie: 'jwt_token' }).instance
    for (const request of [{ headers: { 'x-token': good } }, { target: `/?token=${good}` }, { headers: { Cookie: `jwt_token=${good}` } }])
      expect((await authenticate(named, request)).consumer).toBe('jack')
  })

  test.each([
    ['no token', {}, 'Missing JWT token in request'],
    ['an empty Bearer', { headers: { Authorization: 'Bearer' } }, 'JWT token invalid'],
    ['Basic', { headers: { Authorization: 'Basic YTpi' } }, 'JWT token invalid'],
    ['two parts', bearer('e30.e30'), 'JWT token invalid'],
    ['a header that is no JSON', bearer(`${encoded('x')}.${encoded({})}.aa`), 'JWT token invalid'],
    ['claims that are a list', bearer(token({ alg: 'HS256' }, [], hs(SECRET))), 'JWT token invalid'],
    ['a megabyte', bearer(`${good}${'A'.repeat(1_000_000)}`), 'JWT token invalid'],
    ['no key', bearer(hs256({ sub: 'jack' }, SECRET)), 'missing user key in JWT token'],
    ['the key in the header', bearer(hs256({}, SECRET, { key: 'jack-key' })), 'missing user key in JWT token'],
    ['an unknown key', bearer(hs256({ key: 'nobody' }, SECRET)), 'Invalid user key in JWT token'],
    ['a key that is no text', bearer(hs256({ key: { toString: 'jack-key' } }, SECRET)), 'Invalid user key in JWT token'],
    ['a wrong secret', bearer(hs256({ key: 'jack-key' }, `${SECRET}x`)), 'failed to verify jwt'],
    ['expired', bearer(hs256({ key: 'jack-key', exp: NOW_S }, SECRET)), 'failed to verify jwt'],
    ['not valid yet', bearer(hs256({ key: 'jack-key', nbf: NOW_S + 1 }, SECRET)), 'failed to verify jwt'],
    ['exp as text', bearer(hs256({ key: 'jack-key', exp: String(NOW_S + 60) }, SECRET)), 'failed to verify jwt'],
    ['nbf null', bearer(hs256({ key: 'jack-key', nbf: null }, SECRET)), 'failed to verify jwt'],
  ])('%s is refused', async (_, request, message) => {
    expect(await authenticate(link().instance, request)).toMatchObject(refusal(message))
  })

  test('every algorithm; grace; secrets in base64; the longest life', async () => {
    const { instance } = link()
    const consumerOf = async (text: string) => (await authenticate(instance, bearer(text))).consumer
    expect(await consumerOf(rs256({ key: 'rsa-key', exp: NOW_S + 1 }))).toBe('rsa')
    expect(await consumerOf(hs256({ key: 'b64-key' }, Buffer.from([255, 0, 7])))).toBe('b64')
    expect(await consumerOf(token({ alg: 'ES256' }, { key: 'ec-key', exp: NOW_S - 9, nbf: NOW_S + 9 }, es()))).toBe('ec')
    expect(await consumerOf(token({ alg: 'ES256' }, { key: 'ec-key', exp: NOW_S - 10 }, es()))).toBe('')
    expect(await consumerOf(token({ alg: 'EdDSA' }, { key: 'ed-key' }, eddsa()))).toBe('ed')
    expect(await consumerOf(hs256({ key: 'short-key', iat: NOW_S - 10, exp: NOW_S + 50 }, SECRET))).toBe('short')
    expect(await consumerOf(hs256({ key: 'short-key', iat: NOW_S - 10, exp: NOW_S + 51 }, SECRET))).toBe('')
    expect(await consumerOf(hs256({ key: 'short-key', exp: NOW_S + 50 }, SECRET))).toBe('')
  })

  test('claims_to_verify makes claims mandatory', async () => {
    const { instance } = link({ claims_to_verify: ['exp', 'nbf'] })
    expect(await authenticate(instance, bearer(good))).toMatchObject(refusal('failed to verify jwt'))
    expect((await authenticate(instance, bearer(hs256({ key: 'jack-key', exp: NOW_S + 9, nbf: NOW_S - 9 }, SECRET)))).consumer).toBe('jack')
  })

  test('time is looked at again on a token that is remembered', async () => {
    const { instance, kit } = link()
    const text = hs256({ key: 'jack-key', exp: NOW_S + 1, nbf: NOW_S - 1 }, SECRET)
    const at = (seconds: number) => authenticate(instance, { ...bearer(text), startedAtMs: (NOW_S + seconds) * 1000 })
    expect((await at(0)).consumer).toBe('jack')
    expect((await at(0.5)).consumer).toBe('jack')
    expect(kit.tokens.service.verifications).toBe(1)
    expect(await at(1)).toMatchObject(refusal('failed to verify jwt'))
    expect(await at(-2)).toMatchObject(refusal('failed to verify jwt'))
    expect(kit.tokens.service.verifications).toBe(1)
  })

  test('hide_credentials takes the token out, and nothing else', async () => {
    const { instance } = link({ hide_credentials: true, cookie: 'jwt_token' })
    const byHeader = await authenticate(instance, bearer(good))
    expect(byHeader.exchange.requestHeaders.has('authorization')).toBe(false)
    const byQuery = await authenticate(instance, { target: `/?a=1&jwt=${good}&b=2` })
    expect(byQuery.exchange.upstreamQuery).toBe('a=1&b=2')
    const byCookie = await authenticate(instance, { headers: { Cookie: `a=1; jwt_token=${good}; b=2` } })
    expect(byCookie.exchange.requestHeaders.get('cookie')).toBe('a=1; b=2')
    const inLines = await authenticate(instance, { headers: { Cookie: ['a=1', `b=2; jwt_token=${good}`, `c=3; jwt_token=${good}`] } })
    expect(inLines.consumer).toBe('jack')
    expect(inLines.exchange.requestHeaders.getAll('cookie')).toEqual(['a=1; b=2; c=3'])
    const shown = await authenticate(link().instance, bearer(good))
    expect(shown.exchange.requestHeaders.get('authorization')).toBe(`Bearer ${good}`)
  })

  test('the anonymous consumer stands in for every 401, and for nothing else', async () => {
    const { instance } = link({ anonymous_consumer: 'nobody', required_scopes: ['a'] })
    expect((await authenticate(instance, {})).consumer).toBe('nobody')
    expect((await authenticate(instance, bearer('x'))).consumer).toBe('nobody')
    expect((await authenticate(instance, bearer(good))).status).toBe(403)
    expect(await authenticate(link({ anonymous_consumer: 'ghost' }).instance, {})).toMatchObject(refusal('Invalid user authorization'))
  })

  test('two Authorization fields are a bad request', async () => {
    expect((await authenticate(link().instance, { headers: { Authorization: [`Bearer ${good}`, `Bearer ${good}`] } })).status).toBe(400)
  })

  test('store_in_ctx shows the claims to later plugins', async () => {
    expect((await authenticate(link({ store_in_ctx: true }).instance, bearer(good))).exchange.tokenClaims).toEqual({ key: 'jack-key' })
    expect((await authenticate(link().instance, bearer(good))).exchange.tokenClaims).toBeNull()
  })
})

describe('forgeries', () => {
  const publicPem = pem(rsa.publicKey)
  const claims = { key: 'rsa-key' }
  const foreign = generateKeyPairSync('rsa', { modulusLength: 2048 })
  test.each([
    ['signed with the public key as a shared secret', token({ alg: 'HS256' }, claims, hs(publicPem))],
    ['the same, without the last line break', token({ alg: 'HS256' }, claims, hs(publicPem.trimEnd()))],
    ['alg none', token({ alg: 'none' }, claims, () => Buffer.alloc(0))],
    ['alg nOnE', token({ alg: 'nOnE' }, claims, () => Buffer.alloc(0))],
    ['alg none with a signature', token({ alg: 'none' }, claims, rs())],
    ['alg of another digest', token({ alg: 'RS384' }, claims, rs())],
    ['alg as a list', token({ alg: ['RS256'] }, claims, rs())],
    ['no alg', token({}, claims, rs())],
    ['crit', rs256(claims, { crit: ['exp'] })],
    ['crit with b64', rs256(claims, { crit: ['b64'], b64: false })],
    ['b64 alone', rs256(claims, { b64: true })],
    ['zip', rs256(claims, { zip: 'DEF' })],
    ['its own jwk', rs256(claims, { jwk: foreign.publicKey.export({ format: 'jwk' }) }, foreign.privateKey)],
    ['its own jku', rs256(claims, { jku: 'http://127.0.0.1:1/keys', kid: 'x' }, foreign.privateKey)],
    ['its own x5u and x5c', rs256(claims, { x5u: 'http://127.0.0.1:1/c', x5c: ['AAAA'] }, foreign.privateKey)],
    ['a path as kid', rs256(claims, { kid: '../../../../dev/null' }, foreign.privateKey)],
    ['SQL as kid', rs256(claims, { kid: "x' UNION SELECT 'secret'--" }, foreign.privateKey)],
    ['ES256 of zeros', token({ alg: 'ES256' }, { key: 'ec-key' }, () => Buffer.alloc(64))],
    ['ES256 with zero s', token({ alg: 'ES256' }, { key: 'ec-key' }, () => Buffer.concat([Buffer.alloc(32, 1), Buffer.alloc(32)]))],
    ['a signature in another spelling', `${rs256(claims)}=`],
  ])('%s', async (_, text) => {
    const answer = await authenticate(link().instance, bearer(text))
    expect(answer).toMatchObject({ status: 401, consumer: '' })
  })

  test('a kid of any kind changes nothing for a good token, and one of a megabyte is not read', async () => {
    for (const kid of ['../../../../dev/null', "x' OR '1'='1", '__proto__', 'constructor'])
      expect((await authenticate(link().instance, bearer(rs256(claims, { kid })))).consumer).toBe('rsa')
    expect((await authenticate(link().instance, bearer(rs256(claims, { kid: 'k'.repeat(1_000_000) })))).status).toBe(401)
  })

  test('claims that objects inherit are no claims', async () => {
    const inherited = link({ key_claim_name: 'constructor' })
    expect(await authenticate(inherited.instance, bearer(hs256({}, SECRET)))).toMatchObject(refusal('missing user key in JWT token'))
  })

  test('a forged token is never remembered, nor does it push out the good one with the same ending', async () => {
    const { instance, kit } = link()
    expect((await authenticate(instance, bearer(good))).consumer).toBe('jack')
    const [, , signature] = good.split('.')
    const forged = `${encoded({ alg: 'HS256' })}.${encoded({ key: 'jack-key', admin: true })}.${signature}`
    for (let attempt = 0; attempt < 3; attempt++)
      expect(await authenticate(instance, bearer(forged))).toMatchObject(refusal('failed to verify jwt'))
    expect((await authenticate(instance, bearer(good))).consumer).toBe('jack')
    // The good one once, the forged one once: then it is known to be bad.
    expect(kit.tokens.service.verifications).toBe(2)
  })
})

describe('claims', () => {
  const signed = (claims: object) => bearer(hs256({ key: 'jack-key', ...claims }, SECRET))
  const headers = { 'X-User-ID': 'sub', 'X-Roles': 'realm_access.roles', 'X-Dotted': 'a.b', 'X-Object': 'realm_access' }

  test('go upstream in header fields, which a client cannot write', async () => {
    const { instance } = link({ claims_to_headers: headers })
    const claims = { sub: 'u1\r\nX-Evil: 1', realm_access: { roles: ['a', 'b'] }, 'a.b': 7 }
    const spoofed = { 'X-User-Id': 'root', 'x-roles': ['admin', 'root'] }
    const request = signed(claims)
    const full = (await authenticate(instance, { headers: { ...request.headers, ...spoofed } })).exchange.requestHeaders
    expect(full.getAll('x-user-id')).toEqual(['u1%0D%0AX-Evil: 1'])
    expect(full.getAll('x-roles')).toEqual(['a,b'])
    expect(full.get('x-dotted')).toBe('7')
    expect(full.get('x-object')).toBe('{"roles":["a","b"]}')
    const empty = (await authenticate(instance, { headers: { ...signed({}).headers, ...spoofed } })).exchange.requestHeaders
    expect([empty.has('x-user-id'), empty.has('x-roles')]).toEqual([false, false])
    const anonymous = link({ claims_to_headers: headers, anonymous_consumer: 'nobody' }).instance
    for (const Authorization of ['Bearer x', `Bearer ${hs256({ key: 'jack-key', sub: 'u1', exp: 1 }, SECRET)}`]) {
      const refused = (await authenticate(anonymous, { headers: { Authorization, ...spoofed } })).exchange.requestHeaders
      expect([refused.has('x-user-id'), refused.has('x-roles')]).toEqual([false, false])
    }
  })

  test('issuer, audience and required claims', async () => {
    const { instance } = link({ issuer: 'https://issuer', audience: ['api', 'web'], required_claims: ['sub', 'a.b'] })
    const status = async (claims: object) => (await authenticate(instance, signed(claims))).status
    const right = { iss: 'https://issuer', aud: 'web', sub: 'u1', a: { b: 1 } }
    expect(await status(right)).toBe(0)
    expect(await status({ ...right, aud: ['x', 'api'] })).toBe(0)
    for (const wrong of [
      { iss: 'https://issuer/' },
      { iss: undefined },
      { aud: 'x' },
      { aud: undefined },
      { aud: [] },
      { sub: null },
      { a: {} },
    ])
      expect(await status({ ...right, ...wrong })).toBe(401)
  })

  test('scopes: all or any, in a text or a list', async () => {
    const all = link({ required_scopes: ['read', 'write'] }).instance
    const any = link({ required_scopes: ['read', 'write'], scopes_match: 'any', scope_claim: 'x.scopes' }).instance
    expect((await authenticate(all, signed({ scope: 'openid write read' }))).status).toBe(0)
    expect((await authenticate(all, signed({ scp: ['read', 'write'] }))).status).toBe(0)
    const lacking = await authenticate(all, signed({ scope: 'read' }))
    expect(lacking.status).toBe(403)
    expect(lacking.challenges).toEqual(['Bearer realm="jwt", error="insufficient_scope", scope="read write"'])
    expect((await authenticate(all, signed({ scope: 'readwrite' }))).status).toBe(403)
    expect((await authenticate(any, signed({ x: { scopes: ['write'] } }))).status).toBe(0)
    expect((await authenticate(any, signed({ scope: 'write' }))).status).toBe(403)
  })
})

describe('revocation', () => {
  test.each([
    ['jti', (_text: string): string => 'id-1'],
    ['sub', (_text: string): string => 'u1'],
    ['token', (text: string): string => text],
  ] as const)('by %s takes effect on a token that is remembered, until it ends', async (kind, named) => {
    const { instance, kit } = link()
    const text = hs256({ key: 'jack-key', jti: 'id-1', sub: 'u1' }, SECRET)
    const other = hs256({ key: 'jack-key', jti: 'id-2', sub: 'u2' }, SECRET)
    const at = (seconds: number, which = text) => authenticate(instance, { ...bearer(which), startedAtMs: (NOW_S + seconds) * 1000 })
    expect((await at(0)).consumer).toBe('jack')
    const table = new RevocationTable(kit.revocations)
    expect(table.add(revocationDigest(kind, named(text)), NOW_S + 60, NOW_S)).toBe(true)
    expect(await at(0)).toMatchObject(refusal('failed to verify jwt'))
    expect(await at(59)).toMatchObject(refusal('failed to verify jwt'))
    expect((await at(0, other)).consumer).toBe('jack')
    expect((await at(60)).consumer).toBe('jack')
  })
})

describe('issuers', () => {
  function withIssuer(conf: Json): Linked & { readonly keySets: readonly KeySetSpec[] } {
    const keySets: KeySetSpec[] = []
    const linked = linkAuth(jwtAuth, conf, consumers(), [], prepareKit({ keySets }))
    return { ...linked, keySets }
  }
  const jwk = (kid: string) => ({ ...rsa.publicKey.export({ format: 'jwk' }), kid, use: 'sig' })
  const conf = { issuer: 'https://issuer', jwks_uri: 'https://issuer/keys', consumer_claim: 'sub', consumer_optional: true }

  test('a published key verifies, chosen by kid; consumers by claim', async () => {
    const { instance, kit, keySets } = withIssuer(conf)
    const [spec] = keySets
    if (spec === undefined) throw new Error('no key set was announced')
    expect(spec).toMatchObject({ url: 'https://issuer/keys', refreshMs: 300_000, intervalMs: 3_000, timeoutMs: 3_000 })
    kit.tokens.learnKeys({ spec, keys: [jwk('one'), { kty: 'oct', k: encoded(SECRET), kid: 'shared' }], problem: '', startedMs: 0 })
    const claims = { iss: 'https://issuer', sub: 'jack' }
    expect((await authenticate(instance, bearer(rs256(claims, { kid: 'one' })))).consumer).toBe('jack')
    const stranger = await authenticate(instance, bearer(rs256({ ...claims, sub: 'u1' }, { kid: 'one' })))
    expect(stranger).toMatchObject({ status: 0, consumer: '' })
    expect(stranger.exchange.credentialId).toBe('u1')
    for (const [header, signer] of [
      [{ alg: 'HS256', kid: 'shared' }, hs(SECRET)],
      [{ alg: 'HS256', kid: 'one' }, hs(pem(rsa.publicKey))],
      [{ alg: 'none', kid: 'one' }, () => Buffer.alloc(0)],
      [{ alg: 'ES256', kid: 'one' }, es()],
    ] as const)
      expect((await authenticate(instance, bearer(token(header, claims, signer)))).status).toBe(401)
    // Not of this issuer: a consumer of ours, or nobody.
    expect((await authenticate(instance, bearer(rs256({ key: 'rsa-key', iss: 'https://other' }, { kid: 'one' })))).status).toBe(401)
  })

  test('a key that is withdrawn stops verifying at once, also what is remembered', async () => {
    const { instance, kit, keySets } = withIssuer(conf)
    const [spec] = keySets
    if (spec === undefined) throw new Error('no key set was announced')
    const text = rs256({ iss: 'https://issuer', sub: 'u1' }, { kid: 'one' })
    kit.tokens.learnKeys({ spec, keys: [jwk('one')], problem: '', startedMs: 0 })
    expect((await authenticate(instance, bearer(text))).status).toBe(0)
    const next = { ...ec.publicKey.export({ format: 'jwk' }), kid: 'two' }
    kit.tokens.learnKeys({ spec, keys: [jwk('one'), next], problem: '', startedMs: 1 })
    expect((await authenticate(instance, bearer(text))).status).toBe(0)
    expect(kit.tokens.service.verifications).toBe(1)
    kit.tokens.learnKeys({ spec, keys: [next], problem: '', startedMs: 2 })
    const waiting = authenticate(instance, bearer(text))
    kit.tokens.learnKeys({ spec, keys: [next], problem: '', startedMs: Number.MAX_VALUE })
    expect((await waiting).status).toBe(401)
  })
})

describe('configuration', () => {
  const credential = (conf: Json) => () => new FakeConsumers().addCredential(jwtAuth, 'x', conf)

  test.each([
    [{ key: 'k' }, 'property "secret" is required when using HS based algorithms'],
    [{ key: 'k', algorithm: 'RS256' }, 'missing valid public key'],
    [{ key: 'k', secret: 'not base64!', base64_secret: true }, 'base64_secret required but the secret is not in base64 format'],
  ])('a credential is refused: %j', (conf, message) => {
    expect(credential(conf)).toThrow(message)
  })

  test('a credential with a broken key loads, and its tokens are refused', async () => {
    const all = consumers()
    const broken = '-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A...\n-----END PUBLIC KEY-----'
    const problems = jwtAuth.credential?.check({ key: 'bad', algorithm: 'RS256', public_key: broken, base64_secret: false }) ?? []
    expect(problems).toEqual([{ path: 'public_key', isWarning: true, message: expect.stringContaining('not a public key') }])
    expect(JSON.stringify(problems)).not.toContain('MIIB')
    all.addCredential(jwtAuth, 'bad', { key: 'bad', algorithm: 'RS256', public_key: broken })
    const { instance } = linkAuth(jwtAuth, {}, all)
    expect(await authenticate(instance, bearer(token({ alg: 'RS256' }, { key: 'bad' }, rs())))).toMatchObject(
      refusal('failed to verify jwt'),
    )
  })

  test('options that cannot work are named', () => {
    const problems = (conf: Json) => problemsOf(jwtAuth, conf).join('\n')
    expect(problems({ jwks_uri: 'ftp://x' })).toContain('must begin with https://')
    expect(problems({ jwks_uri: 'https://x', issuers: [{ issuer: 'https://x' }] })).toContain('exclude each other')
    expect(problems({ issuers: [{ issuer: 'a' }] })).toContain('"a" is not a URL')
    expect(
      problems({
        issuers: [
          { issuer: 'a', jwks_uri: 'https://x' },
          { issuer: 'a', jwks_uri: 'https://y' },
        ],
      }),
    ).toContain('twice')
    expect(problems({ claims_to_headers: { 'X Y': 'sub' } })).toContain('is not a header name')
    expect(problems({ claims_to_headers: { 'Content-Length': 'sub' } })).toContain('framing')
  })
})
