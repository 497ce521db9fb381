/**
 * jwt, as Kong has it: the consumer is named by a claim (`iss`) of a signed token from the query, a cookie or a header, and verified
 * with the credential of that name. `exp` and `nbf` are checked where `claims_to_verify` lists them, and only there.
 *
 * Runs on workers, rewrite phase. State: genuine tokens are remembered (auth/token-service). Failure: 401 in Kong's words, or the
 * anonymous consumer.
 */
import { realmPattern } from './auth/apisix.js'
import { claimAt } from './auth/claims.js'
import { cookiesOf, removeCookie } from './auth/fields.js'
import { guard, type KongCommon, kongOptions } from './auth/kong.js'
import { makeKey } from './auth/token-credential.js'
import {
  algorithmRule,
  type CheckedToken,
  type Credential,
  cookieValue,
  defineCredential,
  definePlugin,
  type Exchange,
  fieldNameProblem,
  isTokenAlgorithm,
  itemProblems,
  jsonReply,
  type KeyMatch,
  type KeySource,
  type LinkKit,
  nullable,
  type PluginProblem,
  queryValues,
  type Reply,
  type Static,
  type TokenAlgorithm,
  type TokenJson,
  type TokenKey,
  TokenProblem,
  Type,
  tokenAlgorithms,
  withoutQueryValue,
} from './plugin.js'

const names = (fallback: string[], description: string) => Type.Array(Type.String({ minLength: 1 }), { default: fallback, description })

const schema = Type.Object({
  uri_param_names: names(['jwt'], 'Query parameters that may carry the token.'),
  cookie_names: names([], 'Cookies that may carry it.'),
  header_names: names(['authorization'], 'Header fields that may carry it, behind `Bearer`.'),
  key_claim_name: Type.String({
    minLength: 1,
    default: 'iss',
    description: 'Claim, or else header parameter, that holds the key of a credential.',
  }),
  secret_is_base64: Type.Boolean({ default: false, description: 'Secrets of credentials are base64.' }),
  claims_to_verify: nullable(Type.Array(Type.Union([Type.Literal('exp'), Type.Literal('nbf')]), { uniqueItems: true }), {
    description:
      'Claims that a token must have and that are checked. A claim that is not listed is not looked at: without `exp`, tokens never expire.',
  }),
  maximum_expiration: Type.Number({
    minimum: 0,
    maximum: 31_536_000,
    default: 0,
    description: 'Longest time in seconds for which a token may still be valid; 0 = any. Needs `exp` in `claims_to_verify`.',
  }),
  hide_credentials: Type.Boolean({ default: false, description: 'Do not send the token to the upstream.' }),
  realm: nullable(Type.String({ pattern: realmPattern }), { description: 'Realm of the challenge.' }),
  ...kongOptions,
})
type Conf = Static<typeof schema>

const credentialSchema = Type.Object({
  key: Type.String({ minLength: 1, description: 'What tokens have in the claim `key_claim_name`. No two credentials may have the same.' }),
  secret: nullable(Type.String({ minLength: 1 }), { description: 'Shared secret, for HS256, HS384 and HS512.' }),
  algorithm: Type.Union(
    tokenAlgorithms.map((name) => Type.Literal(name)),
    { default: 'HS256', description: 'The one algorithm of its tokens.' },
  ),
  rsa_public_key: nullable(Type.String({ minLength: 1 }), { description: 'Public key in PEM, for all other algorithms.' }),
})
type CredentialConf = Static<typeof credentialSchema>

/** Algorithm, secret or public key. */
type PreparedCredential = [TokenAlgorithm, string]

/** The keys of a credential; whether its secret is base64 is an option of the route. */
class JwtSecret {
  private readonly made: [TokenKey | null | undefined, TokenKey | null | undefined] = [undefined, undefined]

  constructor(
    readonly algorithm: TokenAlgorithm,
    private readonly material: string,
  ) {}

  key(base64: boolean): TokenKey | null {
    const place = base64 ? 1 : 0
    let key = this.made[place]
    if (key === undefined) {
      const made = makeKey({ algorithm: this.algorithm, secret: this.material, isBase64: base64, publicKey: this.material })
      key = typeof made === 'string' ? null : made
      this.made[place] = key
    }
    return key
  }
}

interface Prepared extends KongCommon {
  readonly queries: string[]
  readonly cookies: string[]
  /** Lower-case. */
  readonly headers: string[]
  readonly keyClaim: string
  readonly secretIsBase64: boolean
  readonly needs: ('exp' | 'nbf')[]
  readonly maxExpirationS: number
  readonly hideCredentials: boolean
}

export const jwt = definePlugin<Conf, Prepared>({
  name: 'jwt',
  priority: 1450,
  description: 'Kong: authenticates consumers by signed tokens (JWT).',
  schema,
  credential: defineCredential<CredentialConf, PreparedCredential, JwtSecret>({
    schema: credentialSchema,
    key: 'key',
    check: checkCredential,
    prepare: (conf) => [conf.algorithm, (algorithmRule(conf.algorithm).family === 'HS' ? conf.secret : conf.rsa_public_key) ?? ''],
    link: ([algorithm, material]) => new JwtSecret(algorithm, material),
  }),
  check,
  prepare,
  link(prepared, kit) {
    const attempt = new Attempt(prepared, kit)
    return {
      keepsHeadSafe: true,
      readsFields: prepared.headers,
      rewrite: guard(prepared, 'jwt', kit, (exchange) => attempt.run(exchange)),
    }
  },
})

function checkCredential(conf: CredentialConf): PluginProblem[] {
  if (algorithmRule(conf.algorithm).family === 'HS') {
    return (conf.secret ?? null) === null ? [{ path: 'secret', message: `required with the algorithm ${conf.algorithm}` }] : []
  }
  const pem = conf.rsa_public_key ?? null
  if (pem === null) return [{ path: 'rsa_public_key', message: `required with the algorithm ${conf.algorithm}` }]
  const key = makeKey({ algorithm: conf.algorithm, secret: '', isBase64: false, publicKey: pem })
  if (typeof key !== 'string') return []
  return [{ path: 'rsa_public_key', message: `${key}; tokens for this credential will be refused`, isWarning: true }]
}

function check(conf: Conf): PluginProblem[] {
  const problems = itemProblems('header_names', conf.header_names, fieldNameProblem)
  if (conf.maximum_expiration > 0 && !(conf.claims_to_verify ?? []).includes('exp')) {
    problems.push({ path: 'claims_to_verify', message: 'expected to contain: exp when maximum_expiration is specified' })
  }
  if (!(conf.claims_to_verify ?? []).includes('exp')) {
    problems.push({
      path: '',
      message: 'without exp in claims_to_verify expired tokens are accepted; expected claims_to_verify: [exp]',
      isWarning: true,
    })
  }
  return problems
}

function prepare(conf: Conf): Prepared {
  return {
    queries: conf.uri_param_names,
    cookies: conf.cookie_names,
    headers: conf.header_names.map((name) => name.toLowerCase()),
    keyClaim: conf.key_claim_name,
    secretIsBase64: conf.secret_is_base64,
    needs: conf.claims_to_verify ?? [],
    maxExpirationS: conf.maximum_expiration,
    hideCredentials: conf.hide_credentials,
    anonymous: conf.anonymous ?? null,
    runOnPreflight: conf.run_on_preflight ?? true,
    challenge: (conf.realm ?? '') === '' ? 'Bearer' : `Bearer realm="${conf.realm}"`,
  }
}

const bearer = /^\s*bearer\s+(\S.*)$/i
const several = Symbol('several')

class Attempt implements KeySource {
  private readonly credentials: { find(key: string): Credential<JwtSecret> | null }
  private readonly noMandatory: TokenProblem
  private readonly invalidKey: TokenProblem
  private readonly noCredentials: TokenProblem
  private readonly wrongAlgorithm = new TokenProblem('kong', 'Invalid algorithm')
  private readonly unknownAlgorithm = new TokenProblem('kong', 'Bad token; invalid alg')
  private readonly noKey = new TokenProblem('kong', 'Invalid key/secret')
  private readonly separator: string
  private readonly source: KeySource

  constructor(
    private readonly conf: Prepared,
    private readonly kit: LinkKit,
  ) {
    const { keyClaim } = conf
    const credentials = kit.credentials<JwtSecret>()
    this.credentials = credentials
    // Routes that ask the same question share what is known.
    this.source = kit.tokens.once(credentials, JSON.stringify([keyClaim, conf.secretIsBase64]), () => this)
    this.noMandatory = new TokenProblem('kong', `No mandatory '${keyClaim}' in claims`)
    this.invalidKey = new TokenProblem('kong', `Invalid '${keyClaim}' in claims`)
    this.noCredentials = new TokenProblem('kong', `No credentials found for given '${keyClaim}'`)
    this.separator = conf.challenge === 'Bearer' ? ' ' : ', '
  }

  run(exchange: Exchange): Reply | undefined | Promise<Reply | undefined> {
    const text = this.findToken(exchange)
    if (text === null) return jsonReply(401, 'message', 'Unauthorized', [['WWW-Authenticate', this.conf.challenge]])
    if (text === several) return this.refuse('Multiple tokens provided')
    const outcome = this.kit.tokens.check(text, this.source, exchange.clientAddress)
    return outcome instanceof Promise ? outcome.then((found) => this.conclude(exchange, found)) : this.conclude(exchange, outcome)
  }

  find(header: TokenJson, claims: TokenJson): KeyMatch | TokenProblem {
    const { keyClaim, secretIsBase64 } = this.conf
    const { alg } = header
    if (typeof alg !== 'string' || !isTokenAlgorithm(alg)) return this.unknownAlgorithm
    const key = claimAt(claims, keyClaim) ?? (Object.hasOwn(header, keyClaim) ? header[keyClaim] : undefined) ?? null
    if (key === null) return this.noMandatory
    if (typeof key !== 'string' || key === '') return this.invalidKey
    const credential = this.credentials.find(key)
    if (credential === null) return this.noCredentials
    if (header['alg'] !== credential.conf.algorithm) return this.wrongAlgorithm
    const found = credential.conf.key(secretIsBase64)
    return found === null ? this.noKey : { key: found, binding: credential }
  }

  /** One token, wherever it stands; the same one in several places counts once. */
  private findToken(exchange: Exchange): string | null | typeof several {
    const { queries, cookies, headers } = this.conf
    let found: string | null = null
    let isSeveral = false
    const take = (text: string): void => {
      if (text === '' || text === found) return
      if (found === null) found = text
      else isSeveral = true
    }
    if (exchange.query !== '') for (const name of queries) for (const text of queryValues(exchange.query, name)) take(text)
    if (cookies.length > 0) {
      const field = cookiesOf(exchange.requestHeaders) ?? ''
      for (const name of cookies) take(cookieValue(field, name) ?? '')
    }
    const { keys, values, count } = exchange.requestHeaders
    for (let index = 0; index < count; index++) {
      if (!headers.includes(keys[index] as string)) continue
      const field = values[index] as string
      take(field.startsWith('Bearer ') ? field.slice(7).trim() : (bearer.exec(field)?.[1] ?? ''))
    }
    return isSeveral ? several : found
  }

  private conclude(exchange: Exchange, token: CheckedToken | TokenProblem): Reply | undefined {
    if (token instanceof TokenProblem) return this.refusalOf(token)
    const nowS = exchange.startedAtMs / 1000
    const errors = this.timeErrors(token, nowS)
    if (errors !== null) return this.claimRefusal(errors)
    if (this.kit.tokens.isRevoked(token, nowS)) return this.refuse('Unauthorized')
    const credential = token.binding as Credential<JwtSecret>
    exchange.authenticate(credential.consumer, credential, credential.key)
    if (this.conf.hideCredentials) this.hide(exchange)
    return undefined
  }

  private timeErrors(token: CheckedToken, nowS: number): { readonly [claim: string]: string } | null {
    const { needs, maxExpirationS } = this.conf
    const { exp, nbf } = token
    const errors: { [claim: string]: string } = {}
    for (const claim of needs) {
      // A claim that is absent or no number is not finite.
      if (!Number.isFinite(claim === 'exp' ? exp : nbf)) errors[claim] = 'must be a number'
      else if (claim === 'exp' && exp <= nowS) errors['exp'] = 'token expired'
      else if (claim === 'nbf' && nbf > nowS) errors['nbf'] = 'token not valid yet'
    }
    if ('exp' in errors || 'nbf' in errors) return errors
    return maxExpirationS > 0 && exp - nowS > maxExpirationS ? { exp: 'exceeds maximum allowed expiration' } : null
  }

  private refusalOf({ reason, detail }: TokenProblem): Reply {
    switch (reason) {
      case 'kong':
        return this.refuse(detail)
      case 'malformed':
        return this.refuse(detail === 'no algorithm' ? 'Bad token; invalid alg' : 'Bad token; invalid JSON')
      case 'algorithm':
        return this.refuse('Invalid algorithm')
      case 'overload':
      case 'unavailable':
        return jsonReply(503, 'message', 'The token cannot be verified at this moment', [['Retry-After', '1']])
      default:
        return this.refuse('Invalid signature')
    }
  }

  private get invalidToken(): string {
    return `${this.conf.challenge}${this.separator}error="invalid_token"`
  }

  private refuse(message: string): Reply {
    return jsonReply(401, 'message', message, [['WWW-Authenticate', this.invalidToken]])
  }

  private claimRefusal(errors: { readonly [claim: string]: string }): Reply {
    return { status: 401, body: JSON.stringify(errors), headers: [['WWW-Authenticate', this.invalidToken]] }
  }

  private hide(exchange: Exchange): void {
    const { queries, cookies, headers } = this.conf
    for (const name of headers) exchange.requestHeaders.remove(name)
    if (exchange.upstreamQuery !== '') for (const name of queries) exchange.upstreamQuery = withoutQueryValue(exchange.upstreamQuery, name)
    for (const name of cookies) removeCookie(exchange.requestHeaders, name)
  }
}
