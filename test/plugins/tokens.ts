/** Tokens for tests, signed or forged. */
import { createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'

/** Seconds since the epoch at which fake exchanges arrive. */
export const NOW_S = 1_700_000_000

export const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
export const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
export const ed = generateKeyPairSync('ed25519')

export function pem(key: KeyObject): string {
  return key.export({ type: 'spki', format: 'pem' }).toString()
}

export function encoded(value: unknown): string {
  return Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')
}

/** A token with any header at all, signed by `signer`. */
export function token(header: object, claims: object, signer: (input: string) => Buffer): string {
  const input = `${encoded(header)}.${encoded(claims)}`
  return `${input}.${signer(input).toString('base64url')}`
}

export const hs =
  (secret: string | Buffer) =>
  (input: string): Buffer =>
    createHmac('sha256', secret).update(input).digest()

export const rs =
  (key: KeyObject = rsa.privateKey) =>
  (input: string): Buffer =>
    sign('sha256', Buffer.from(input), key)

export const es =
  (key: KeyObject = ec.privateKey) =>
  (input: string): Buffer =>
    sign('sha256', Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' })

export const eddsa =
  (key: KeyObject = ed.privateKey) =>
  (input: string): Buffer =>
    sign(null, Buffer.from(input), key)

export function hs256(claims: object, secret: string | Buffer, header: object = {}): string {
  return token({ alg: 'HS256', typ: 'JWT', ...header }, claims, hs(secret))
}

export function rs256(claims: object, header: object = {}, key: KeyObject = rsa.privateKey): string {
  return token({ alg: 'RS256', typ: 'JWT', ...header }, claims, rs(key))
}
