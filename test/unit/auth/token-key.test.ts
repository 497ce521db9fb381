import { createHmac, generateKeyPairSync, type JsonWebKey, type KeyObject, sign } from 'node:crypto'
import { SignJWT } from 'jose'
import { describe, expect, test } from 'vitest'
import { type TokenAlgorithm, tokenAlgorithms } from '../../../src/auth/algorithm.js'
import { readToken } from '../../../src/auth/jws.js'
import { jwkKeys, pemKey, secretKey, type TokenKey } from '../../../src/auth/token-key.js'
import { eddsa, es256, es512, hs256, rs256 } from './vectors.js'

const all = new Set(tokenAlgorithms)

function keyFrom(jwk: JsonWebKey, algorithm: TokenAlgorithm): TokenKey {
  const key = jwkKeys(jwk, all).find((one) => one.algorithm === algorithm)
  if (key === undefined) throw new Error(`no key for ${algorithm}`)
  return key
}

function parts(token: string): { input: string; signature: Buffer } {
  const dot = token.lastIndexOf('.')
  return { input: token.slice(0, dot), signature: Buffer.from(token.slice(dot + 1), 'base64url') }
}

async function verifies(key: TokenKey, token: string): Promise<boolean> {
  const { input, signature } = parts(token)
  const here = key.verify(input, signature)
  expect(await key.verifyElsewhere(input, signature)).toBe(here)
  return here
}

/** The same token with one bit of its signature turned. */
function damaged(token: string): string {
  const { input, signature } = parts(token)
  signature[3] = (signature[3] ?? 0) ^ 1
  return `${input}.${signature.toString('base64url')}`
}

describe('published examples', () => {
  test.each([
    ['RFC 7515 A.1', () => secretKey('HS256', Buffer.from(hs256.jwk.k, 'base64url')), hs256.token],
    ['RFC 7515 A.2', () => keyFrom(rs256.jwk, 'RS256'), rs256.token],
    ['RFC 7515 A.3', () => keyFrom(es256.jwk, 'ES256'), es256.token],
    ['RFC 7515 A.4', () => keyFrom(es512.jwk, 'ES512'), es512.token],
    ['RFC 8037 A.4', () => keyFrom(eddsa.jwk, 'EdDSA'), eddsa.token],
  ])('%s', async (_, make, token) => {
    expect(await verifies(make(), token)).toBe(true)
    expect(await verifies(make(), damaged(token))).toBe(false)
    const { input, signature } = parts(token)
    expect(await verifies(make(), `${input}x.${signature.toString('base64url')}`)).toBe(false)
  })

  test('RFC 7515 A.5: an unsecured token is read by nobody as verified', () => {
    expect(readToken('eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODB9.')).toMatchObject({
      header: { alg: 'none' },
      signature: Buffer.alloc(0),
    })
    for (const key of [secretKey('HS256', 'secret'), keyFrom(rs256.jwk, 'RS256'), keyFrom(es256.jwk, 'ES256'), keyFrom(eddsa.jwk, 'EdDSA')])
      expect(key.verify('eyJhbGciOiJub25lIn0.e30', Buffer.alloc(0))).toBe(false)
  })
})

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
const pairs: { readonly [family: string]: { readonly publicKey: KeyObject; readonly privateKey: KeyObject } } = {
  RS: rsa,
  PS: rsa,
  ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  ES384: generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  ES512: generateKeyPairSync('ec', { namedCurve: 'P-521' }),
  EdDSA: generateKeyPairSync('ed25519'),
}

function pairOf(algorithm: TokenAlgorithm) {
  const pair = pairs[algorithm] ?? pairs[algorithm.slice(0, 2)]
  if (pair === undefined) throw new Error(algorithm)
  return pair
}

function pem(key: KeyObject): string {
  return key.export({ type: 'spki', format: 'pem' }).toString()
}

describe('what jose signs', () => {
  test.each(tokenAlgorithms.filter((name) => !name.startsWith('HS')))(
    '%s is verified, and by no key of another algorithm',
    async (algorithm) => {
      const { privateKey, publicKey } = pairOf(algorithm)
      const token = await new SignJWT({ sub: 'jack' }).setProtectedHeader({ alg: algorithm }).sign(privateKey)
      expect(await verifies(pemKey(algorithm, pem(publicKey)), token)).toBe(true)
      expect(await verifies(pemKey(algorithm, pem(publicKey)), damaged(token))).toBe(false)
      for (const other of tokenAlgorithms) {
        if (other === algorithm || other.startsWith('HS')) continue
        expect(await verifies(pemKey(other, pem(pairOf(other).publicKey)), token)).toBe(false)
      }
    },
  )

  test.each(['HS256', 'HS384', 'HS512'] as const)('%s', async (algorithm) => {
    const token = await new SignJWT({}).setProtectedHeader({ alg: algorithm }).sign(Buffer.alloc(64, 7))
    expect(await verifies(secretKey(algorithm, Buffer.alloc(64, 7)), token)).toBe(true)
    expect(await verifies(secretKey(algorithm, Buffer.alloc(64, 8)), token)).toBe(false)
  })
})

describe('attacks on keys and signatures', () => {
  test('a public key is never used as a shared secret', () => {
    const text = pem(rsa.publicKey)
    expect(() => pemKey('HS256', text)).toThrow('needs a secret')
    const input = 'eyJhbGciOiJIUzI1NiJ9.e30'
    const forged = createHmac('sha256', text).update(input).digest()
    expect(pemKey('RS256', text).verify(input, forged)).toBe(false)
  })

  test.each(['ES256', 'ES384', 'ES512'] as const)('%s: zeros, and halves of zeros, are no signature', async (algorithm) => {
    const { privateKey, publicKey } = pairOf(algorithm)
    const key = pemKey(algorithm, pem(publicKey))
    const input = 'eyJhbGciOiJFUzI1NiJ9.e30'
    const digest = { ES256: 'sha256', ES384: 'sha384', ES512: 'sha512' }[algorithm]
    const good = sign(digest, Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' })
    expect(key.verify(input, good)).toBe(true)
    const half = good.length / 2
    const noR = Buffer.concat([Buffer.alloc(half), good.subarray(half)])
    const noS = Buffer.concat([good.subarray(0, half), Buffer.alloc(half)])
    const der = sign(digest, Buffer.from(input), { key: privateKey, dsaEncoding: 'der' })
    for (const bad of [
      Buffer.alloc(good.length),
      noR,
      noS,
      der,
      Buffer.concat([good, Buffer.alloc(1)]),
      good.subarray(1),
      Buffer.alloc(0),
    ]) {
      expect(key.verify(input, bad)).toBe(false)
      expect(await key.verifyElsewhere(input, bad)).toBe(false)
    }
  })

  test('keys that do not fit their algorithm are refused with the reason, and without the key', () => {
    const small = generateKeyPairSync('rsa', { modulusLength: 1024 })
    expect(() => pemKey('RS256', pem(small.publicKey))).toThrow('at least 2048 bits, found 1024')
    expect(() => pemKey('ES256', pem(pairOf('ES384').publicKey))).toThrow('on the curve prime256v1, found secp384r1')
    expect(() => pemKey('RS256', pem(pairOf('ES256').publicKey))).toThrow('needs an RSA key, found ec')
    expect(() => pemKey('EdDSA', pem(rsa.publicKey))).toThrow('needs an Ed25519 or Ed448 key')
    expect(() => pemKey('RS256', '-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhk...\n-----END PUBLIC KEY-----')).toThrow('not a public key')
    expect(() => pemKey('RS256', rsa.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString())).toThrow('a private key was given')
    expect(() => secretKey('HS256', '')).toThrow('empty')
  })

  test('a published key is used only for what its type, alg, use and key_ops permit', () => {
    const jwk = rsa.publicKey.export({ format: 'jwk' })
    const names = (fields: object) => jwkKeys({ ...jwk, ...fields }, all).map((key) => key.algorithm)
    expect(names({})).toEqual(['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'])
    expect(names({ alg: 'PS384', use: 'sig', key_ops: ['verify'] })).toEqual(['PS384'])
    for (const fields of [
      { alg: 'HS256' },
      { alg: 'ES256' },
      { use: 'enc' },
      { key_ops: ['sign'] },
      { kty: 'oct' },
      { d: 'x' },
      { n: 'AQAB' },
    ])
      expect(names(fields)).toEqual([])
    expect(jwkKeys({ kty: 'oct', k: 'c2VjcmV0' }, all)).toEqual([])
    expect(jwkKeys({ ...pairOf('ES256').publicKey.export({ format: 'jwk' }), crv: 'secp256k1' }, all)).toEqual([])
  })
})
