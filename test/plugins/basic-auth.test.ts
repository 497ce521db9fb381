import { scryptSync } from 'node:crypto'
import { hash as argon2 } from '@node-rs/argon2'
import { describe, expect, test } from 'vitest'
import type { StoredPassword } from '../../src/plugins/basic-auth/stored-password.js'
import { PasswordVerifier, type Verdict } from '../../src/plugins/basic-auth/verifier.js'
import { basicAuth } from '../../src/plugins/basic-auth.js'
import type { Json } from '../../src/plugins/plugin.js'
import { fakeExchange } from '../support/fake-exchange.js'
import { FakeConsumers } from '../support/link-kit.js'
import { authenticate, basic, linkAuth } from './authenticated.js'
import { problemsOf } from './configured.js'

const unpadded = (bytes: Buffer) => bytes.toString('base64').replace(/=+$/, '')
const salt = Buffer.from('0123456789abcdef')
const scryptHash = `$scrypt$ln=4,r=8,p=1$${unpadded(salt)}$${unpadded(scryptSync('s:crypt', salt, 32, { N: 16, r: 8, p: 1 }))}`

async function consumers(): Promise<FakeConsumers> {
  const all = new FakeConsumers()
  all.addCredential(basicAuth, 'jack', { username: 'jack', password: 'a:b:c ü' }, 'cred-1')
  all.addCredential(basicAuth, 'scarlett', { username: 'scarlett', password: scryptHash })
  all.addCredential(basicAuth, 'argo', {
    username: 'argo',
    password: await argon2('argon', { memoryCost: 64, timeCost: 1, parallelism: 1 }),
  })
  all.add({ username: 'nobody' })
  return all
}

const link = async (conf: Json) => linkAuth(basicAuth, conf, await consumers())

describe('the APISIX shape', () => {
  const refusal = (message: string) => ({
    status: 401,
    body: `{"message":"${message}"}\n`,
    challenges: ['Basic realm="basic"'],
    consumer: '',
  })

  test('plain and hashed passwords; a password may hold colons', async () => {
    const { instance } = await link({})
    expect(await authenticate(instance, { headers: { Authorization: basic('jack', 'a:b:c ü') } })).toMatchObject({
      status: 0,
      consumer: 'jack',
    })
    expect((await authenticate(instance, { headers: { Authorization: basic('scarlett', 's:crypt') } })).consumer).toBe('scarlett')
    expect((await authenticate(instance, { headers: { Authorization: basic('argo', 'argon') } })).consumer).toBe('argo')
    expect(
      (await authenticate(instance, { headers: { Authorization: basic('jack', 'a:b:c ü').replace('Basic', 'bASIC') } })).consumer,
    ).toBe('jack')
  })

  test.each([
    ['no field', undefined, 'Missing authorization in request'],
    ['another scheme', 'Bearer abc', 'Invalid authorization in request'],
    ['no base64', 'Basic a*b', 'Invalid authorization in request'],
    ['no colon', `Basic ${Buffer.from('jack').toString('base64')}`, 'Invalid authorization in request'],
    ['too long', basic('jack', 'x'.repeat(10_000)), 'Invalid authorization in request'],
    ['two fields', [basic('jack', 'a:b:c ü'), basic('jack', 'a:b:c ü')], 'Invalid authorization in request'],
    ['an unknown user', basic('john', 'a:b:c ü'), 'Invalid user authorization'],
    ['a wrong password', basic('jack', 'a:b:c'), 'Invalid user authorization'],
    ['a wrong hashed password', basic('scarlett', 'scrypt'), 'Invalid user authorization'],
    ['a wrong argon2 password', basic('argo', 'argon2'), 'Invalid user authorization'],
    ['the hash itself', basic('scarlett', scryptHash), 'Invalid user authorization'],
  ])('%s is refused', async (_name, field, message) => {
    const { instance, logged } = await link({})
    const headers = field === undefined ? {} : { Authorization: field }
    expect(await authenticate(instance, { headers })).toMatchObject(refusal(message))
    expect(logged).toEqual([])
  })

  test('hide_credentials, realm and the anonymous consumer', async () => {
    const { instance } = await link({ hide_credentials: true, realm: 'mine', anonymous_consumer: 'nobody' })
    const known = await authenticate(instance, { headers: { Authorization: basic('jack', 'a:b:c ü') } })
    expect(known.exchange.requestHeaders.has('authorization')).toBe(false)
    const anonymous = await authenticate(instance, { headers: { Authorization: basic('jack', 'x') } })
    expect(anonymous).toMatchObject({ status: 0, consumer: 'nobody' })
    expect(anonymous.exchange.requestHeaders.has('authorization')).toBe(false)
    const { instance: other } = await link({ realm: 'mine' })
    expect((await authenticate(other)).challenges).toEqual(['Basic realm="mine"'])
  })

  test('an unknown user is not answered sooner than a wrong password was', async () => {
    const { instance, delays } = await link({})
    await authenticate(instance, { headers: { Authorization: basic('ghost', 'x') } })
    expect(delays).toEqual([])
    const slow = fakeExchange({ headers: { Authorization: basic('scarlett', 'x') } })
    let elapsed = 0
    slow.elapsedMs = () => (elapsed += 40)
    await authenticate(instance, slow)
    // The pause after the failure.
    expect(delays).toEqual([40])
    expect((await authenticate(instance, { headers: { Authorization: basic('ghost', 'x') } })).status).toBe(401)
    expect(delays).toEqual([40, 40])
  })
})

describe('the Kong shape', () => {
  test('Proxy-Authorization first; the user name is the credential identifier', async () => {
    const { instance } = await link({ run_on_preflight: true, hide_credentials: true })
    const proxied = await authenticate(instance, {
      headers: { 'Proxy-Authorization': basic('jack', 'a:b:c ü'), Authorization: basic('scarlett', 's:crypt') },
    })
    expect(proxied.consumer).toBe('jack')
    expect(proxied.exchange.requestHeaders.get('x-credential-identifier')).toBe('jack')
    expect(proxied.exchange.requestHeaders.has('authorization') || proxied.exchange.requestHeaders.has('proxy-authorization')).toBe(false)
    const second = await authenticate(instance, {
      headers: { 'Proxy-Authorization': basic('ghost', 'x'), Authorization: basic('scarlett', 's:crypt') },
    })
    expect(second.consumer).toBe('scarlett')
  })

  test('every failure is Unauthorized', async () => {
    const { instance } = await link({ run_on_preflight: false })
    for (const field of [undefined, 'Basic x', basic('jack', 'x'), basic('ghost', 'x')]) {
      const outcome = await authenticate(instance, { headers: field === undefined ? {} : { Authorization: field }, requestId: 'i' })
      expect(outcome).toMatchObject({
        status: 401,
        body: '{\n  "message":"Unauthorized",\n  "request_id":"i"\n}',
        challenges: ['Basic realm="service"'],
      })
    }
    expect((await authenticate(instance, { method: 'OPTIONS' })).status).toBe(0)
  })

  test('the anonymous consumer', async () => {
    const { instance } = await link({ anonymous: 'nobody' })
    expect(await authenticate(instance)).toMatchObject({ status: 0, consumer: 'nobody' })
  })
})

test('hashes that cannot be verified, or cost too much, are refused without showing them', () => {
  const all = new FakeConsumers()
  const add = (password: string) => () => all.addCredential(basicAuth, 'jack', { username: 'jack', password })
  const secret = 'c2VjcmV0c2VjcmV0c2VjcmV0'
  for (const [password, reason] of [
    [`$2b$10$${secret}`, 'bcrypt hashes are not supported'],
    [`$scrypt$ln=15,r=8$${secret}$${secret}`, 'is no scrypt hash'],
    [`$scrypt$ln=0,r=8,p=1$${secret}$${secret}`, 'out of range'],
    [`$scrypt$ln=15,r=8,p=1$${secret}$c2VjcmV0`, 'at least 16 bytes'],
    [`$scrypt$ln=20,r=8,p=1$${secret}$${secret}`, 'needs 1024 MiB'],
    [`$argon2id$m=65536,t=3,p=4$${secret}$${secret}`, 'is no argon2 hash'],
    [`$argon2id$v=19$m=1048576,t=3,p=4$${secret}$${secret}`, 'needs 1024 MiB'],
    [`$argon2id$v=19$m=65536,t=0,p=4$${secret}$${secret}`, 'out of range'],
  ] as const) {
    expect(add(password)).toThrow(reason)
    expect(add(password)).not.toThrow(secret)
  }
  expect(add('$5$costs')).not.toThrow()
  expect(problemsOf(basicAuth, { anonymous_consumer: 'a', anonymous: 'b' }).join()).toContain('another shape')
})

describe('verification of hashes', () => {
  const stored = { kind: 'argon2', text: 'stored' } as const satisfies StoredPassword

  /** A verifier whose verifications end when the test says so; time stands still unless it says so. */
  function bench() {
    const open: { readonly password: string; readonly end: (isRight: boolean) => void }[] = []
    const pauses: (() => void)[] = []
    let now = 0
    const verifier = new PasswordVerifier(
      () => new Promise((resolve) => pauses.push(resolve)),
      (_stored, password) => new Promise((resolve) => open.push({ password, end: resolve })),
    )
    const check = (password: string, username = 'jack', address = '10.0.0.1', nowMs = 1_000_000) =>
      verifier.check(stored, password, { username, address, nowMs, elapsedMs: () => now })
    const settle = () => new Promise((resolve) => setImmediate(resolve))
    return { check, open, pauses, settle, pass: (ms: number) => (now += ms), verifier }
  }

  test('one at a time; the right ones are remembered for a minute, the wrong ones for a second', async () => {
    const { check, open, pauses, settle } = bench()
    const right = check('right')
    const same = check('right')
    const wrong = check('wrong', 'jill')
    await settle()
    expect(open.map(({ password }) => password)).toEqual(['right'])
    open[0]?.end(true)
    expect(await Promise.all([right, same])).toEqual(['right', 'right'])
    await settle()
    expect(open.map(({ password }) => password)).toEqual(['right', 'wrong'])
    open[1]?.end(false)
    expect(await wrong).toBe('wrong')
    expect(check('right', 'jack', '10.0.0.1', 1_059_999)).toBe('right')
    expect(check('wrong', 'jill', '10.0.0.1', 1_000_999)).toBe('wrong')
    // A password that is right for one user says nothing about another.
    const other = check('right', 'jill')
    const late = check('right', 'jack', '10.0.0.1', 1_060_000)
    expect(other).toBeInstanceOf(Promise)
    expect(late).toBeInstanceOf(Promise)
    // A clock that was set back does not make results fresh for longer.
    expect(check('wrong', 'jill', '10.0.0.1', 999_999)).toBeInstanceOf(Promise)
    expect(pauses).toHaveLength(1)
  })

  test('a failure is followed by a pause as long as it took, a success is not', async () => {
    const { check, open, pauses, settle, pass } = bench()
    const wrong = check('wrong')
    const next = check('next', 'jill')
    await settle()
    pass(80)
    open[0]?.end(false)
    expect(await wrong).toBe('wrong')
    await settle()
    expect(open).toHaveLength(1)
    pauses[0]?.()
    await settle()
    expect(open).toHaveLength(2)
    open[1]?.end(true)
    expect(await next).toBe('right')
  })

  test('what waits is bounded per user, per address and in all, and in time', async () => {
    const { check, open, settle, pass } = bench()
    const first = check('p0', 'u0', 'a0')
    const waiting: (Verdict | Promise<Verdict>)[] = []
    for (const password of ['p1', 'p2']) waiting.push(check(password, 'u0', 'a0'))
    expect(check('p3', 'u0', 'a1')).toBe('busy')
    for (let user = 1; user <= 6; user++) waiting.push(check('p', `u${user}`, 'a0'))
    expect(check('p', 'u7', 'a0')).toBe('busy')
    for (let user = 8; waiting.length < 64; user++) waiting.push(check('p', `u${user}`, `b${user}`))
    expect(check('p', 'v', 'c')).toBe('busy')
    // Who is known is not held up by those who wait.
    pass(5_001)
    open[0]?.end(true)
    await settle()
    open[0]?.end(true)
    expect(await first).toBe('right')
    expect(check('p0', 'u0', 'a0')).toBe('right')
    expect(new Set(await Promise.all(waiting))).toEqual(new Set(['busy']))
    // And afterwards there is room again.
    const after = check('p', 'v', 'c')
    await settle()
    open[1]?.end(true)
    expect(await after).toBe('right')
  })
})
