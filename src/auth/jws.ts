/**
 * Reading a signed token (JWS compact serialization, RFC 7515; claims of RFC 7519) before anything of it is believed.
 *
 * What a header says about keys (`jwk`, `jku`, `x5c`, `x5u`) is never looked at; `kid` is an opaque name. Extensions (`crit`) and
 * unencoded payloads (`b64`, RFC 7797) are refused, because none is understood here.
 */
import { decodeJwt, decodeProtectedHeader } from 'jose'

/** Longer tokens are refused unread; headers of that size do not get this far anyway. */
export const TOKEN_BYTES_MAX = 16_384

export type TokenJson = { readonly [name: string]: unknown }

/** A text with a signature, whatever it says. */
export interface SignedText {
  readonly header: TokenJson
  /** `header.payload` as in the token: what is signed. */
  readonly input: string
  readonly signature: Buffer
}

export interface UnverifiedToken extends SignedText {
  readonly claims: TokenJson
}

const compact = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$/

/** The text in two dots and the base64url alphabet: worth reading as a JWT. Opaque tokens are not. */
export function hasJwsForm(token: string): boolean {
  return compact.test(token)
}

/** Reads a token; a text says why it cannot be one. */
export function readToken(token: string): UnverifiedToken | string {
  const signed = readSigned(token)
  if (typeof signed === 'string') return signed
  try {
    return { ...signed, claims: decodeJwt(token) }
  } catch {
    return 'invalid claims'
  }
}

/** Reads what is signed, and the header, but not the claims; a text says why it cannot be a token. */
export function readSigned(token: string): SignedText | string {
  if (token.length > TOKEN_BYTES_MAX) return `longer than ${TOKEN_BYTES_MAX} bytes`
  if (!compact.test(token)) return 'invalid jwt string'
  const dot = token.lastIndexOf('.')
  const input = token.slice(0, dot)
  const encoded = token.slice(dot + 1)
  const signature = Buffer.from(encoded, 'base64url')
  // One signature has one spelling, or a token that was revoked by its text could be spelled differently.
  if (signature.toString('base64url') !== encoded) return 'invalid signature encoding'
  let header: TokenJson
  try {
    header = decodeProtectedHeader(token) as TokenJson
  } catch {
    return 'invalid header'
  }
  if (header['crit'] !== undefined || header['b64'] !== undefined) return 'critical header extensions are not supported'
  if (header['zip'] !== undefined) return 'compressed tokens are not supported'
  if (typeof header['alg'] !== 'string') return 'no algorithm'
  return { header, input, signature }
}
