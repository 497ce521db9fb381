/**
 * The signature algorithms of JSON Web Tokens (RFC 7518 §3, RFC 8037) and what each asks of its key. `none` is not among them, and
 * never will be. `RS`, `PS`: RSA of at least 2048 bits; `ES`: the one curve that belongs to the name; EdDSA: Ed25519 or Ed448.
 */
import { constants, type KeyObject } from 'node:crypto'

export const tokenAlgorithms = [
  'HS256',
  'HS384',
  'HS512',
  'RS256',
  'RS384',
  'RS512',
  'ES256',
  'ES384',
  'ES512',
  'PS256',
  'PS384',
  'PS512',
  'EdDSA',
] as const
export type TokenAlgorithm = (typeof tokenAlgorithms)[number]

export interface AlgorithmRule {
  readonly family: 'HS' | 'RS' | 'PS' | 'ES' | 'EdDSA'
  /** Digest, as node:crypto names it; null = part of the algorithm. */
  readonly digest: 'sha256' | 'sha384' | 'sha512' | null
  /** Curve, as node:crypto names it; empty = none. */
  readonly curve: string
  /** Exact length of a signature in bytes; 0 = that of the key. */
  readonly signatureBytes: number
  readonly padding: number | null
  /** A verification costs so much that the thread pool does it: measured in native-bench/micro/jwt.mjs. */
  readonly isSlow: boolean
}

const pkcs1 = constants.RSA_PKCS1_PADDING
const pss = constants.RSA_PKCS1_PSS_PADDING

function rule(
  family: AlgorithmRule['family'],
  digest: AlgorithmRule['digest'],
  rest: Partial<Omit<AlgorithmRule, 'family' | 'digest'>> = {},
): AlgorithmRule {
  return Object.freeze({
    family,
    digest,
    curve: '',
    signatureBytes: 0,
    padding: null,
    isSlow: family === 'ES' || family === 'EdDSA',
    ...rest,
  })
}

const rules: { readonly [Name in TokenAlgorithm]: AlgorithmRule } = {
  HS256: rule('HS', 'sha256', { signatureBytes: 32 }),
  HS384: rule('HS', 'sha384', { signatureBytes: 48 }),
  HS512: rule('HS', 'sha512', { signatureBytes: 64 }),
  RS256: rule('RS', 'sha256', { padding: pkcs1 }),
  RS384: rule('RS', 'sha384', { padding: pkcs1 }),
  RS512: rule('RS', 'sha512', { padding: pkcs1 }),
  PS256: rule('PS', 'sha256', { padding: pss }),
  PS384: rule('PS', 'sha384', { padding: pss }),
  PS512: rule('PS', 'sha512', { padding: pss }),
  ES256: rule('ES', 'sha256', { curve: 'prime256v1', signatureBytes: 64 }),
  ES384: rule('ES', 'sha384', { curve: 'secp384r1', signatureBytes: 96 }),
  ES512: rule('ES', 'sha512', { curve: 'secp521r1', signatureBytes: 132 }),
  EdDSA: rule('EdDSA', null),
}

export function isTokenAlgorithm(name: string): name is TokenAlgorithm {
  return Object.hasOwn(rules, name)
}

export function algorithmRule(algorithm: TokenAlgorithm): AlgorithmRule {
  return rules[algorithm]
}

const RSA_BITS_MIN = 2048

/** Why a public key cannot be used with this algorithm, or null. The texts never contain key material. */
export function keyProblem(algorithm: TokenAlgorithm, key: KeyObject): string | null {
  const { family, curve } = rules[algorithm]
  const type = key.asymmetricKeyType
  const details = key.asymmetricKeyDetails
  switch (family) {
    case 'HS':
      return key.type === 'secret' ? null : `${algorithm} needs a secret, not a ${key.type} key`
    case 'RS':
    case 'PS': {
      if (type !== 'rsa' && !(type === 'rsa-pss' && family === 'PS')) return `${algorithm} needs an RSA key, found ${type ?? key.type}`
      const bits = details?.modulusLength ?? 0
      if (bits < RSA_BITS_MIN) return `${algorithm} needs an RSA key of at least ${RSA_BITS_MIN} bits, found ${bits}`
      const exponent = details?.publicExponent ?? 0n
      return exponent < 3n || exponent % 2n === 0n
        ? `${algorithm} needs an RSA key with an odd public exponent from 3 on, found ${exponent}`
        : null
    }
    case 'ES': {
      const found = details?.namedCurve ?? type ?? key.type
      return type === 'ec' && found === curve ? null : `${algorithm} needs a key on the curve ${curve}, found ${found}`
    }
    case 'EdDSA':
      return type === 'ed25519' || type === 'ed448' ? null : `EdDSA needs an Ed25519 or Ed448 key, found ${type ?? key.type}`
  }
}
