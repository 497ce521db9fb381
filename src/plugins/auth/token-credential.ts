/** Keys that consumers hold for signed tokens: checked in the primary, made usable once per worker. */
import { algorithmRule, pemKey, secretKey, type TokenAlgorithm, type TokenKey, TokenKeyError } from '../plugin.js'

/** What a key is made of. */
export interface KeyMaterial {
  readonly algorithm: TokenAlgorithm
  /** For HS256, HS384, HS512. */
  readonly secret: string
  readonly isBase64: boolean
  /** PEM, for all others. */
  readonly publicKey: string
}

/** The key, or why there is none. The text has no key material in it. */
export function makeKey({ algorithm, secret, isBase64, publicKey }: KeyMaterial): TokenKey | string {
  try {
    if (algorithmRule(algorithm).family !== 'HS') return pemKey(algorithm, publicKey)
    return secretKey(algorithm, isBase64 ? Buffer.from(secret, 'base64') : secret)
  } catch (error) {
    if (error instanceof TokenKeyError) return error.message
    throw error
  }
}

/** Base64 in either alphabet, with or without padding, that says something. */
export function isBase64(text: string): boolean {
  return text !== '' && /^[A-Za-z0-9+/_-]+={0,2}$/.test(text) && Buffer.from(text, 'base64').length > 0
}
