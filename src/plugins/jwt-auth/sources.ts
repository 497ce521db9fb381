/** Whose key verifies a token: an issuer's published one, told by `iss`, or that of the consumer whom the token names. */
import { claimAt } from '../auth/claims.js'
import {
  type Credential,
  type CredentialIndex,
  type KeyMatch,
  type KeySource,
  type TokenJson,
  type TokenKey,
  TokenProblem,
} from '../plugin.js'
import type { JwtCredential } from './credential.js'

/** What a token was verified as. */
export interface IssuerBinding {
  readonly kind: 'issuer'
  /** Empty = any: the option `jwks_uri` without `issuer`. */
  readonly issuer: string
  /** null = any. */
  readonly audience: readonly string[] | null
  /** null = all that published keys can be used for. */
  readonly algorithms: ReadonlySet<string> | null
  readonly keys: { find(header: TokenJson): TokenKey | TokenProblem | Promise<TokenKey | TokenProblem> }
}
export interface ConsumerBinding {
  readonly kind: 'consumer'
  readonly credential: Credential<JwtCredential>
}
export type Binding = IssuerBinding | ConsumerBinding

/** Reasons of TokenProblem besides those of auth/key-source. */
export const missingKeyClaim = new TokenProblem('missing-key-claim')
export const unknownConsumerKey = new TokenProblem('unknown-consumer-key')
const unknownIssuer = new TokenProblem('unknown-issuer')
const unusableKey = new TokenProblem('signature', 'the key of the credential cannot be used')
const wrongAlgorithm = new TokenProblem('algorithm')

export class TokenSources implements KeySource {
  private readonly byIssuer: ReadonlyMap<string, IssuerBinding>

  constructor(
    issuers: readonly IssuerBinding[],
    private readonly keyClaim: string,
    private readonly credentials: CredentialIndex<JwtCredential>,
  ) {
    this.byIssuer = new Map(issuers.map((binding) => [binding.issuer, binding]))
  }

  find(header: TokenJson, claims: TokenJson): KeyMatch | TokenProblem | Promise<KeyMatch | TokenProblem> {
    if (this.byIssuer.size > 0) {
      const { iss } = claims
      const binding = (typeof iss === 'string' ? this.byIssuer.get(iss) : undefined) ?? this.byIssuer.get('')
      if (binding !== undefined) return published(binding, header)
    }
    const key = claimAt(claims, this.keyClaim)
    if (key === undefined || key === null) return this.byIssuer.size > 0 ? unknownIssuer : missingKeyClaim
    const credential = typeof key === 'string' ? this.credentials.find(key) : null
    if (credential === null) return unknownConsumerKey
    const { conf } = credential
    return conf.key === null ? unusableKey : { key: conf.key, binding: { kind: 'consumer', credential } satisfies ConsumerBinding }
  }
}

function published(binding: IssuerBinding, header: TokenJson): KeyMatch | TokenProblem | Promise<KeyMatch | TokenProblem> {
  const { algorithms } = binding
  if (algorithms !== null && !(typeof header['alg'] === 'string' && algorithms.has(header['alg']))) return wrongAlgorithm
  const match = (key: TokenKey | TokenProblem): KeyMatch | TokenProblem => (key instanceof TokenProblem ? key : { key, binding })
  const key = binding.keys.find(header)
  return key instanceof Promise ? key.then(match) : match(key)
}
