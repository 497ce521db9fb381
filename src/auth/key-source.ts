/** Who knows the key of a token: credentials of consumers, or the published keys of an issuer. */
import type { TokenJson } from './jws.js'
import type { TokenKey } from './token-key.js'

/** Why a token is refused. Made once per kind of problem where that is possible: floods of bad tokens should cost little. */
export class TokenProblem {
  constructor(
    /**
     * `malformed`: not a token; `algorithm`, `signature`: not genuine; `unknown-key`: nobody knows its key; `inactive`: its issuer says
     * so; `unavailable`: the issuer does not answer; `overload`: too many tokens wait to be verified. Sources may have reasons of
     * their own.
     */
    readonly reason: string,
    readonly detail: string = '',
  ) {}
}

export interface KeyMatch {
  readonly key: TokenKey
  /** Given back with the token: the credential, the issuer. */
  readonly binding: unknown
}

export interface KeySource {
  /** Called with what the token claims to be; nothing of it is verified yet. Must not throw; a promise must not reject. */
  find(header: TokenJson, claims: TokenJson): KeyMatch | TokenProblem | Promise<KeyMatch | TokenProblem>
}
