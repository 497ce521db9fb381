/**
 * jwt-auth: the caller shows a signed token (JWT). Three kinds of callers, told apart by the token:
 *
 *   consumer   the claim `key_claim_name` names a consumer's key; its credential has key and algorithm     as in APISIX
 *   issuer     `iss` names an issuer of the options; its published keys verify                            jwks_uri, issuers
 *   opaque     no JWT: the issuer is asked (RFC 7662)                                                     introspection
 *
 * Runs on workers, rewrite phase; waits only for keys that must be fetched, slow algorithms, and introspection. State: genuine tokens
 * are remembered (auth/token-service); exp, nbf and revocation are checked at every request. Failure: 401 with a challenge, or the
 * anonymous consumer; 403 for a lack of scopes or of a consumer; 503 when an issuer does not answer.
 */
import { unauthorized } from './auth/apisix.js'
import { claimAt, claimItems, claimText, hasAudience, isInTime } from './auth/claims.js'
import { REPEATED } from './auth/fields.js'
import { type JwtCredential, jwtAuthCredential } from './jwt-auth/credential.js'
import { type JwtAuthConf, jwtAuthSchema } from './jwt-auth/schema.js'
import { type Binding, type IssuerBinding, TokenSources } from './jwt-auth/sources.js'
import { findToken, hideToken, type TokenPlaces } from './jwt-auth/token-place.js'
import {
  type CheckedToken,
  type Consumer,
  definePlugin,
  type Exchange,
  endpointProblem,
  fieldNameProblem,
  hasJwsForm,
  type IntrospectionSpec,
  jsonReply,
  type KeySetSpec,
  type KeySource,
  type LinkKit,
  type PhaseReturn,
  type PluginInstance,
  type PluginProblem,
  type PrepareKit,
  type Reply,
  TokenProblem,
} from './plugin.js'

interface PreparedIssuer {
  readonly issuer: string
  readonly audience: string[] | null
  readonly algorithms: string[] | null
  readonly keys: KeySetSpec
}

interface Prepared {
  readonly places: TokenPlaces
  readonly hideCredentials: boolean
  readonly keyClaim: string
  readonly storeClaims: boolean
  readonly realm: string
  readonly anonymous: string | null
  readonly needsExp: boolean
  readonly needsNbf: boolean
  readonly issuer: string
  readonly issuers: PreparedIssuer[]
  readonly audience: string[] | null
  readonly requiredClaims: string[]
  readonly requiredScopes: string[]
  readonly anyScope: boolean
  readonly scopeClaim: string
  readonly clockSkewS: number
  /** Name and claim. */
  readonly headers: [string, string][]
  readonly consumerClaim: string
  readonly consumerOptional: boolean
  readonly introspection: IntrospectionSpec | null
}

export const jwtAuth = definePlugin<JwtAuthConf, Prepared>({
  name: 'jwt-auth',
  priority: 2510,
  description: 'Authenticates callers by signed tokens (JWT) of consumers or issuers, and by opaque tokens.',
  schema: jwtAuthSchema,
  credential: jwtAuthCredential,
  check,
  prepare,
  link: (prepared, kit) => new JwtAuth(prepared, kit),
})

function check(conf: JwtAuthConf): PluginProblem[] {
  const problems: PluginProblem[] = []
  const add = (path: string, message: string | null): void => {
    if (message !== null) problems.push({ path, message })
  }
  add('header', fieldNameProblem(conf.header))
  for (const name of Object.keys(conf.claims_to_headers ?? {})) add(`claims_to_headers.${name}`, fieldNameProblem(name))
  if (conf.jwks_uri !== undefined) add('jwks_uri', endpointProblem(conf.jwks_uri))
  if (conf.introspection !== undefined) add('introspection.endpoint', endpointProblem(conf.introspection.endpoint))
  if (conf.jwks_uri !== undefined && conf.issuers !== undefined)
    add('jwks_uri', 'jwks_uri and issuers exclude each other: put it into issuers')
  if (conf.issuer !== undefined && conf.issuers !== undefined) add('issuer', 'issuer and issuers exclude each other: put it into issuers')
  const names = new Set<string>()
  for (const [index, { issuer, jwks_uri: url }] of (conf.issuers ?? []).entries()) {
    add(`issuers.${index}`, url === undefined ? endpointProblem(issuer) : endpointProblem(url))
    if (names.has(issuer)) add(`issuers.${index}.issuer`, `the issuer "${issuer}" is there twice`)
    names.add(issuer)
  }
  return problems
}

function list(value: string | readonly string[] | undefined): string[] | null {
  if (value === undefined) return null
  return typeof value === 'string' ? [value] : [...value]
}

function prepare(conf: JwtAuthConf, kit: PrepareKit): Prepared {
  const timing = {
    verifyTls: conf.ssl_verify,
    refreshMs: Math.max(conf.jwks_refresh_interval, conf.jwks_min_interval) * 1000,
    intervalMs: conf.jwks_min_interval * 1000,
    timeoutMs: conf.timeout * 1000,
  }
  const issuers: PreparedIssuer[] = (conf.issuers ?? []).map((one) => ({
    issuer: one.issuer,
    audience: list(one.audience),
    algorithms: one.algorithms ?? null,
    keys: { url: one.jwks_uri ?? '', issuer: one.jwks_uri === undefined ? one.issuer : '', ...timing },
  }))
  if (conf.jwks_uri !== undefined) {
    issuers.push({ issuer: conf.issuer ?? '', audience: null, algorithms: null, keys: { url: conf.jwks_uri, issuer: '', ...timing } })
  }
  for (const { keys } of issuers) kit.keySet(keys)
  const { introspection } = conf
  return {
    places: { header: conf.header.toLowerCase(), query: conf.query, cookie: conf.cookie },
    hideCredentials: conf.hide_credentials,
    keyClaim: conf.key_claim_name,
    storeClaims: conf.store_in_ctx,
    realm: conf.realm,
    anonymous: conf.anonymous_consumer ?? null,
    needsExp: conf.claims_to_verify?.includes('exp') ?? false,
    needsNbf: conf.claims_to_verify?.includes('nbf') ?? false,
    issuer: conf.issuer ?? '',
    issuers,
    audience: list(conf.audience),
    requiredClaims: conf.required_claims ?? [],
    requiredScopes: conf.required_scopes ?? [],
    anyScope: conf.scopes_match === 'any',
    scopeClaim: conf.scope_claim ?? '',
    clockSkewS: conf.clock_skew,
    headers: Object.entries(conf.claims_to_headers ?? {}),
    consumerClaim: conf.consumer_claim ?? '',
    consumerOptional: conf.consumer_optional,
    introspection:
      introspection === undefined
        ? null
        : {
            url: introspection.endpoint,
            clientId: introspection.client_id,
            clientSecret: introspection.client_secret,
            clientAuth: introspection.auth_method,
            verifyTls: conf.ssl_verify,
            timeoutMs: conf.timeout * 1000,
            cacheMs: introspection.cache_ttl * 1000,
            issuer: conf.issuer ?? '',
          },
  }
}

/** What follows from the claims of a token for this binding: worked out once per token. */
class View {
  refusal: Reply | null = null
  consumer: Consumer | null = null
  /** Subject of a caller who is no consumer. */
  subject = ''
  graceS = 0
  /** Values in the order of the configured headers; null = no such claim. */
  headerValues: readonly (string | null)[] = []
}

const noClaims: readonly string[] = []

class JwtAuth implements PluginInstance {
  readonly setsFields: readonly string[]
  readonly readsFields: readonly string[]
  readonly keepsHeadSafe?: true
  private readonly source: KeySource
  private readonly introspector: ReturnType<LinkKit['tokens']['introspector']> | null
  private readonly headerKeys: readonly string[]
  private readonly missing: Reply
  private readonly repeated = jsonReply(400, 'message', 'the field or parameter that carries the token is repeated')
  private readonly invalid: Reply
  private readonly failed: Reply
  private readonly noKeyClaim: Reply
  private readonly unknownKey: Reply
  private readonly noAnonymous: Reply
  private readonly scopeMissing: Reply
  private readonly notAConsumer: Reply
  private readonly unavailable = jsonReply(503, 'message', 'the token cannot be verified at this moment', [['Retry-After', '1']])

  constructor(
    private readonly conf: Prepared,
    private readonly kit: LinkKit,
  ) {
    const challenge = `Bearer realm="${conf.realm}"`
    this.missing = unauthorized('Missing JWT token in request', challenge)
    this.invalid = unauthorized('JWT token invalid', challenge)
    this.failed = unauthorized('failed to verify jwt', challenge)
    this.noKeyClaim = unauthorized('missing user key in JWT token', challenge)
    this.unknownKey = unauthorized('Invalid user key in JWT token', challenge)
    this.noAnonymous = unauthorized('Invalid user authorization', challenge)
    const scopes = conf.requiredScopes.join(' ').replace(/[^\x21\x23-\x5b\x5d-\x7e ]/g, '')
    this.scopeMissing = jsonReply(403, 'message', 'the token lacks a required scope', [
      ['WWW-Authenticate', `${challenge}, error="insufficient_scope", scope="${scopes}"`],
    ])
    this.notAConsumer = jsonReply(403, 'message', 'the token does not belong to a consumer')
    const credentials = kit.credentials<JwtCredential>()
    this.source = kit.tokens.once(credentials, JSON.stringify([conf.keyClaim, conf.issuers]), () => {
      const issuers = conf.issuers.map(
        ({ issuer, audience, algorithms, keys }): IssuerBinding => ({
          kind: 'issuer',
          issuer,
          audience,
          algorithms: algorithms === null ? null : new Set(algorithms),
          keys: kit.tokens.keySet(keys),
        }),
      )
      return new TokenSources(issuers, conf.keyClaim, credentials)
    })
    this.introspector = conf.introspection === null ? null : kit.tokens.introspector(conf.introspection)
    this.headerKeys = conf.headers.map(([name]) => name.toLowerCase())
    this.setsFields = this.headerKeys
    this.readsFields = [conf.places.header]
    if (!this.headerKeys.includes('host')) this.keepsHeadSafe = true
  }

  rewrite(exchange: Exchange): PhaseReturn {
    // Whatever becomes of this request, nobody but us says what these fields say.
    for (const key of this.headerKeys) exchange.requestHeaders.remove(key)
    const text = findToken(exchange, this.conf.places)
    if (text === undefined) return this.refuse(exchange, this.missing)
    if (text === REPEATED) return this.repeated
    const { introspector } = this
    const outcome =
      introspector !== null && !hasJwsForm(text)
        ? introspector.check(text)
        : this.kit.tokens.check(text, this.source, exchange.clientAddress)
    return outcome instanceof Promise ? outcome.then((found) => this.conclude(exchange, found)) : this.conclude(exchange, outcome)
  }

  private conclude(exchange: Exchange, token: CheckedToken | TokenProblem): Reply | undefined {
    if (token instanceof TokenProblem) return this.refuse(exchange, this.replyTo(token.reason))
    const nowS = exchange.startedAtMs / 1000
    const { conf } = this
    const view = token.viewOwner === this ? (token.view as View) : this.viewOf(token)
    const isRefused =
      !isInTime(token, nowS, view.graceS) ||
      (conf.needsExp && token.exp === Number.POSITIVE_INFINITY) ||
      (conf.needsNbf && token.nbf === Number.NEGATIVE_INFINITY) ||
      this.kit.tokens.isRevoked(token, nowS)
    if (isRefused) return this.refuse(exchange, this.failed)
    if (view.refusal !== null) return view.refusal.status === 401 ? this.refuse(exchange, view.refusal) : view.refusal
    const { binding } = token
    exchange.authenticate(view.consumer, isConsumer(binding) ? binding.credential : null, view.subject === '' ? undefined : view.subject)
    for (let index = 0; index < this.headerKeys.length; index++) {
      const value = view.headerValues[index]
      const [name] = conf.headers[index] ?? ['']
      if (typeof value === 'string') exchange.requestHeaders.push(this.headerKeys[index] as string, name, value)
    }
    if (conf.storeClaims) exchange.tokenClaims = token.claims
    if (conf.hideCredentials) hideToken(exchange, conf.places)
    return undefined
  }

  /** Refuses, or goes on as the anonymous consumer. */
  private refuse(exchange: Exchange, reply: Reply): Reply | undefined {
    const { anonymous, hideCredentials, places } = this.conf
    if (anonymous === null || reply.status !== 401) return reply
    const consumer = this.kit.consumer(anonymous)
    if (consumer === null) {
      this.kit.log(
        'error',
        `jwt-auth: anonymous_consumer "${anonymous}" does not exist, so requests that are not authenticated are refused`,
      )
      return this.noAnonymous
    }
    exchange.authenticate(consumer, null)
    if (hideCredentials) hideToken(exchange, places)
    return undefined
  }

  private replyTo(reason: string): Reply {
    switch (reason) {
      case 'malformed':
        return this.invalid
      case 'missing-key-claim':
        return this.noKeyClaim
      case 'unknown-consumer-key':
        return this.unknownKey
      case 'unavailable':
      case 'overload':
        return this.unavailable
      default:
        return this.failed
    }
  }

  private viewOf(token: CheckedToken): View {
    const view = new View()
    const { conf } = this
    const binding = token.binding as Binding | null
    view.graceS = binding?.kind === 'consumer' ? binding.credential.conf.graceS : conf.clockSkewS
    view.headerValues = conf.headers.map(([, path]) => claimText(claimAt(token.claims, path)))
    if (binding?.kind === 'consumer') view.consumer = binding.credential.consumer
    else {
      const { sub } = token.claims
      view.subject = claimText(typeof sub === 'string' ? sub : undefined) ?? ''
      const name = conf.consumerClaim === '' ? undefined : claimAt(token.claims, conf.consumerClaim)
      view.consumer = typeof name === 'string' ? this.kit.consumer(name) : null
    }
    view.refusal = this.refusalOf(token, binding, view.consumer)
    token.view = view
    token.viewOwner = this
    return view
  }

  /** What does not change while the token lives. */
  private refusalOf(token: CheckedToken, binding: Binding | null, consumer: Consumer | null): Reply | null {
    const { conf } = this
    const { claims } = token
    if (conf.issuer !== '' && claims['iss'] !== conf.issuer && !(binding === null && claims['iss'] === undefined)) return this.failed
    const audience = (binding?.kind === 'issuer' ? binding.audience : null) ?? conf.audience
    if (audience !== null && !hasAudience(claims, audience)) return this.failed
    for (const path of conf.requiredClaims) if ((claimAt(claims, path) ?? null) === null) return this.failed
    if (binding?.kind === 'consumer' && binding.credential.conf.maxAgeS !== Number.POSITIVE_INFINITY) {
      const { iat } = claims
      if (!(typeof iat === 'number' && token.exp - iat <= binding.credential.conf.maxAgeS)) return this.failed
    }
    if (conf.consumerClaim !== '' && consumer === null && !conf.consumerOptional) return this.notAConsumer
    return this.hasScopes(token) ? null : this.scopeMissing
  }

  private hasScopes({ claims }: CheckedToken): boolean {
    const { requiredScopes, anyScope, scopeClaim } = this.conf
    if (requiredScopes.length === 0) return true
    const granted = scopeClaim === '' ? claimItems(claims['scope'] ?? claims['scp']) : claimItems(claimAt(claims, scopeClaim) ?? noClaims)
    return anyScope ? requiredScopes.some((one) => granted.includes(one)) : requiredScopes.every((one) => granted.includes(one))
  }
}

function isConsumer(binding: unknown): binding is Extract<Binding, { kind: 'consumer' }> {
  return typeof binding === 'object' && binding !== null && 'kind' in binding && binding.kind === 'consumer'
}
