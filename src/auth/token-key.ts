/**
 * A key with the one algorithm that it is used for, and the verification of signatures with it.
 *
 * The algorithm is part of the key, never taken from a token. Signatures are checked by node:crypto (OpenSSL): in the calling thread
 * where that takes some microseconds (HMAC, RSA), on the thread pool where it takes long (ECDSA, EdDSA).
 */
import {
  constants,
  createHash,
  createHmac,
  createPublicKey,
  createSecretKey,
  type JsonWebKey,
  type KeyObject,
  timingSafeEqual,
  verify,
} from 'node:crypto'
import { type AlgorithmRule, algorithmRule, isTokenAlgorithm, keyProblem, type TokenAlgorithm } from './algorithm.js'

/** A key that cannot be used; the text says why and has no key material in it. */
export class TokenKeyError extends Error {
  override readonly name = 'TokenKeyError'
}

export class TokenKey {
  /** Equal for equal key material and algorithm, over reloads; a digest, not the key. */
  readonly identity: string
  /** False when the set of keys that it came from does not have it any more: what was verified with it is verified anew. */
  isCurrent = true
  private readonly rule: AlgorithmRule

  constructor(
    readonly algorithm: TokenAlgorithm,
    private readonly key: KeyObject,
  ) {
    const problem = keyProblem(algorithm, key)
    if (problem !== null) throw new TokenKeyError(problem)
    this.rule = algorithmRule(algorithm)
    const material = key.type === 'secret' ? key.export() : key.export({ type: 'spki', format: 'der' })
    this.identity = createHash('sha256').update(`${algorithm}:${key.type}:`).update(material).digest('base64url')
  }

  /** Whether `verify` needs so long that `verifyElsewhere` is the better choice on a thread that serves requests. */
  get isSlow(): boolean {
    return this.rule.isSlow
  }

  /** Checks the signature over `input` in this thread. Never throws. */
  verify(input: string, signature: Buffer): boolean {
    const { family, digest } = this.rule
    if (!this.hasForm(signature)) return false
    if (family === 'HS')
      return timingSafeEqual(
        createHmac(digest ?? '', this.key)
          .update(input, 'latin1')
          .digest(),
        signature,
      )
    try {
      return verify(digest, Buffer.from(input, 'latin1'), this.verifyOptions(), signature)
    } catch {
      return false
    }
  }

  /** The same, on the thread pool for slow algorithms. Never rejects. */
  verifyElsewhere(input: string, signature: Buffer): Promise<boolean> {
    if (!this.isSlow) return Promise.resolve(this.verify(input, signature))
    if (!this.hasForm(signature)) return Promise.resolve(false)
    return new Promise((resolve) => {
      try {
        verify(this.rule.digest, Buffer.from(input, 'latin1'), this.verifyOptions(), signature, (error, isValid) =>
          resolve(error === null && isValid),
        )
      } catch {
        resolve(false)
      }
    })
  }

  private verifyOptions(): Parameters<typeof verify>[2] {
    const { family, padding } = this.rule
    if (family === 'ES') return { key: this.key, dsaEncoding: 'ieee-p1363' }
    if (family === 'PS') return { key: this.key, padding: padding ?? 0, saltLength: constants.RSA_PSS_SALTLEN_DIGEST }
    return padding === null ? this.key : { key: this.key, padding }
  }

  /** Length, and for ECDSA that neither half is zero: a verifier that forgets that accepts (0, 0) for everything (CVE-2022-21449). */
  private hasForm(signature: Buffer): boolean {
    const { family, signatureBytes } = this.rule
    if (signatureBytes !== 0 && signature.length !== signatureBytes) return false
    if (family !== 'ES') return signature.length > 0
    const half = signatureBytes / 2
    return !isZero(signature, 0, half) && !isZero(signature, half, signatureBytes)
  }
}

function isZero(bytes: Buffer, start: number, end: number): boolean {
  for (let index = start; index < end; index++) if (bytes[index] !== 0) return false
  return true
}

/** A shared secret for HS256, HS384 or HS512. Throws TokenKeyError. */
export function secretKey(algorithm: TokenAlgorithm, secret: string | Buffer): TokenKey {
  const bytes = typeof secret === 'string' ? Buffer.from(secret, 'utf8') : secret
  if (bytes.length === 0) throw new TokenKeyError('the secret is empty')
  return new TokenKey(algorithm, createSecretKey(bytes))
}

/** A public key (SPKI, PKCS #1) or certificate in PEM. Throws TokenKeyError. */
export function pemKey(algorithm: TokenAlgorithm, pem: string): TokenKey {
  if (algorithmRule(algorithm).family === 'HS') throw new TokenKeyError(`${algorithm} needs a secret, not a public key`)
  // A private key would be taken too, and its public half used: what was meant to be secret does not belong here.
  if (pem.includes('PRIVATE KEY')) throw new TokenKeyError('a private key was given where a public key is expected')
  let key: KeyObject
  try {
    key = createPublicKey(pem)
  } catch {
    throw new TokenKeyError('it is not a public key or certificate in PEM')
  }
  return new TokenKey(algorithm, key)
}

/** Algorithms in the order in which a key without `alg` is offered for them. */
const byKeyType: { readonly [kty: string]: readonly TokenAlgorithm[] } = {
  RSA: ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'],
  'EC P-256': ['ES256'],
  'EC P-384': ['ES384'],
  'EC P-521': ['ES512'],
  'OKP Ed25519': ['EdDSA'],
  'OKP Ed448': ['EdDSA'],
}

/**
 * The keys that a public JSON Web Key (RFC 7517) can be used as: one per algorithm of `allowed` that its type, `alg`, `use` and
 * `key_ops` permit. Symmetric and private keys, and what cannot be read, give none: a set may hold keys for others.
 */
export function jwkKeys(jwk: JsonWebKey, allowed: ReadonlySet<TokenAlgorithm>): TokenKey[] {
  const { kty, crv, alg, use, key_ops: operations } = jwk
  if (typeof kty !== 'string' || jwk.d !== undefined || jwk.k !== undefined) return []
  if (use !== undefined && use !== 'sig') return []
  if (operations !== undefined && !(Array.isArray(operations) && operations.includes('verify'))) return []
  const possible = byKeyType[typeof crv === 'string' ? `${kty} ${crv}` : kty] ?? []
  // RFC 9864 names the curve.
  const declared = alg === 'Ed25519' || alg === 'Ed448' ? 'EdDSA' : alg
  if (declared !== undefined && !(typeof declared === 'string' && isTokenAlgorithm(declared))) return []
  const wanted = possible.filter((one) => allowed.has(one) && (declared === undefined || declared === one))
  if (wanted.length === 0) return []
  try {
    const key = createPublicKey({ key: jwk, format: 'jwk' })
    return wanted.map((one) => new TokenKey(one, key))
  } catch {
    return []
  }
}
