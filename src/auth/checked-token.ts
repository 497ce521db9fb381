/**
 * A token that was found genuine, as a worker remembers it. Genuine means: its signature, or its issuer's word, was checked. Whether
 * it is valid at this moment (`exp`, `nbf`, revocation) is asked at every request.
 */
import type { TokenJson } from './jws.js'
import type { KeySource } from './key-source.js'
import type { TokenKey } from './token-key.js'

export class CheckedToken {
  /** Seconds since the epoch; Infinity = none, NaN = not a number. */
  readonly exp: number
  /** Seconds since the epoch; -Infinity = none, NaN = not a number. */
  readonly nbf: number
  /** Who found the key, and with what (a credential, an issuer): valid together, forgotten with the configuration. */
  source: KeySource | null = null
  binding: unknown = null
  /** What a plugin worked out from the claims, and for which of its bindings. */
  view: unknown = null
  viewOwner: unknown = null
  /** Version of the revocations in which nothing concerned this token. */
  clearVersion = -1
  revocationDigests: readonly string[] | null = null

  constructor(
    /** Digest of its text (auth/token-digest). The text itself is nowhere kept. */
    readonly digest: string,
    /** Digest of its text as revocations have it. */
    readonly revocationDigest: string,
    readonly header: TokenJson,
    readonly claims: TokenJson,
    /** null: an opaque token, known by introspection. */
    readonly key: TokenKey | null,
    /** Until when it needs not be verified again; monotonic milliseconds. */
    readonly freshUntilMs: number,
  ) {
    this.exp = timeClaim(claims, 'exp', Number.POSITIVE_INFINITY)
    this.nbf = timeClaim(claims, 'nbf', Number.NEGATIVE_INFINITY)
  }
}

function timeClaim(claims: TokenJson, name: string, absent: number): number {
  const value = Object.hasOwn(claims, name) ? claims[name] : undefined
  if (value === undefined) return absent
  return typeof value === 'number' && Number.isFinite(value) ? value : Number.NaN
}
