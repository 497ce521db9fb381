import { constants, createHash, generateKeyPairSync, type JsonWebKey, privateEncrypt } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { tokenAlgorithms } from '../../../src/auth/algorithm.js'
import { readSigned } from '../../../src/auth/jws.js'
import { jwkKeys, pemKey, secretKey, type TokenKey, TokenKeyError } from '../../../src/auth/token-key.js'
import * as vectors from './wycheproof.js'

const all = new Set(tokenAlgorithms)

/** As the token service decides: form, algorithm of the key, signature. */
async function accepts(key: TokenKey, jws: string): Promise<boolean> {
  const signed = readSigned(jws)
  if (typeof signed === 'string' || signed.header['alg'] !== key.algorithm) return false
  const isValid = key.verify(signed.input, signed.signature)
  expect(await key.verifyElsewhere(signed.input, signed.signature)).toBe(isValid)
  return isValid
}

function onlyKey(jwk: JsonWebKey): TokenKey {
  const [key, ...others] = jwkKeys(jwk, all)
  if (key === undefined || others.length > 0) throw new Error(`${others.length} keys more than one`)
  return key
}

/** Numbers of those that are accepted. */
async function accepted(key: TokenKey, list: readonly vectors.Vector[]): Promise<number[]> {
  const found: number[] = []
  for (const [id, , jws] of list) if (await accepts(key, jws)) found.push(id)
  return found
}

const idsOf = (list: readonly vectors.Vector[]): number[] => list.map(([id]) => id)

describe('Wycheproof', () => {
  test('HS256, and base64url', async () => {
    const key = secretKey('HS256', Buffer.from(vectors.hs256Key, 'base64url'))
    expect(await accepted(key, [vectors.hs256Valid, ...vectors.hs256Invalid])).toEqual([1])
    const zeros = secretKey('HS256', Buffer.alloc(32))
    expect(await accepted(zeros, [...vectors.base64Valid, ...vectors.base64Invalid])).toEqual(idsOf(vectors.base64Valid))
  })

  test('ES256', async () => {
    const key = onlyKey(vectors.es256Key)
    expect(await accepted(key, [...vectors.es256Valid, ...vectors.es256Invalid])).toEqual(idsOf(vectors.es256Valid))
    const edges = [0n, 1n, vectors.p256Order - 1n, vectors.p256Order].map((number) => number.toString(16).padStart(64, '0'))
    for (const r of edges) {
      for (const s of edges) {
        const signature = Buffer.from(r + s, 'hex').toString('base64url')
        expect(await accepts(key, `${vectors.es256Signed}.${signature}`), `${r} ${s}`).toBe(false)
      }
    }
  })

  test('RS256', async () => {
    expect(await accepted(onlyKey(vectors.rs256Key), [vectors.rs256Valid])).toEqual([33])
  })

  test.each(vectors.badEs256Keys)('JSON Web Key %i, %s', (_, __, change) => {
    expect(jwkKeys({ ...vectors.es256Key, ...change }, all)).toEqual([])
  })

  test.each(vectors.badRs256Keys)('JSON Web Key %i, %s', (_, __, change) => {
    expect(jwkKeys({ ...vectors.rs256Key, ...change }, all)).toEqual([])
  })

  test('empty secrets', () => {
    for (const algorithm of ['HS256', 'HS384', 'HS512'] as const) expect(() => secretKey(algorithm, '')).toThrow(TokenKeyError)
  })
})

/** What the published vectors named ModifiedPadding are about, made with a key of our own. */
describe('paddings of RS256 that are nearly right', () => {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const key = pemKey('RS256', publicKey.export({ type: 'spki', format: 'pem' }).toString())
  const input = 'eyJhbGciOiJSUzI1NiJ9.Zm9v'
  const digest = createHash('sha256').update(input).digest('hex')
  const sha256 = '0609608648016503040201'

  const signedWith = (info: string, filler = 'ff', head = '0001', tail = ''): Buffer => {
    const body = `00${info}${tail}`
    const block = head + filler.repeat(256 - (head.length + body.length) / 2) + body
    return privateEncrypt({ key: privateKey, padding: constants.RSA_NO_PADDING }, Buffer.from(block, 'hex'))
  }
  const good = `3031300d${sha256}05000420${digest}`

  test('the right one passes', () => {
    expect(key.verify(input, signedWith(good))).toBe(true)
  })

  test.each([
    ['without the NULL of the algorithm', signedWith(`302f300b${sha256}0420${digest}`)],
    ['lengths in the long form', signedWith(`308131300d${sha256}05000420${digest}`)],
    ['a length with a leading zero', signedWith(`30820031300d${sha256}05000420${digest}`)],
    ['another length', signedWith(`3030300d${sha256}05000420${digest}`)],
    ['an indefinite length', signedWith(`3080300d${sha256}05000420${digest}0000`)],
    ['another hash named', signedWith(`3031300d060960864801650304020205000420${digest}`)],
    ['a parameter that is not NULL', signedWith(`3031300d${sha256}01000420${digest}`)],
    ['the digest alone', signedWith(digest)],
    ['bytes behind the digest', signedWith(good, 'ff', '0001', 'abcd')],
    ['garbage behind a short filler', signedWith(good, 'ff', '0001', 'ab'.repeat(190))],
    ['zeros as filler', signedWith(good, '00')],
    ['another filler', signedWith(good, 'fe')],
    ['padding of encryption', signedWith(good, 'ff', '0002')],
    ['no leading type', signedWith(good, 'ff', '0000')],
    ['the digest cut short', signedWith(`3030300d${sha256}0500041f${digest.slice(0, 62)}`)],
  ])('%s', (_, signature) => {
    expect(key.verify(input, signature)).toBe(false)
  })
})
