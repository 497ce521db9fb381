/** What plugins may do with tokens: `LinkKit.tokens`. */
import type { KeySetSpec } from '../schema/compiled.js'
import type { CheckedToken } from './checked-token.js'
import type { IntrospectionSpec } from './introspection.js'
import type { TokenJson } from './jws.js'
import type { KeySource, TokenProblem } from './key-source.js'
import type { TokenKey } from './token-key.js'

export interface TokenKit {
  /**
   * The token as genuine, or why it is not; at once when that is known or its key is quick. Never rejects. `source` says who knows its
   * key: use one object per question, for example from `once`. Whether the token is valid now (exp, nbf, `isRevoked`) is for the
   * caller to ask at every request. `from`: address of the client; who sends many bad tokens is answered with `overload` for a while.
   */
  check(text: string, source: KeySource, from: string): CheckedToken | TokenProblem | Promise<CheckedToken | TokenProblem>
  /** Whether the token, its `jti` or its `sub` is revoked. `nowS`: seconds since the epoch. */
  isRevoked(token: CheckedToken, nowS: number): boolean
  /** The published keys of an issuer; `PrepareKit.keySet` has announced them. */
  keySet(spec: KeySetSpec): { find(header: TokenJson): TokenKey | TokenProblem | Promise<TokenKey | TokenProblem> }
  /** Who asks an issuer about opaque tokens (RFC 7662); the same object for equal specs. */
  introspector(spec: IntrospectionSpec): { check(text: string): CheckedToken | TokenProblem | Promise<CheckedToken | TokenProblem> }
  /** One value per owner and name in this worker, for as long as the owner lives: what routes of one configuration share. */
  once<Value>(owner: object, name: string, make: () => Value): Value
}
