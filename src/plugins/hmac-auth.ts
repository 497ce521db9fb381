/**
 * hmac-auth: the caller is the consumer who signed the request with the secret of a key; may also cover the body, and each signature may
 * be good for one request only.
 *
 * Runs on workers, rewrite phase: at once, unless the body is read (after the signature was found right) or Redis is asked. State: with
 * `replay_protection` the signatures accepted lately, as counters with limit 1 in the store of rate limits: bounded, exact over all
 * threads. Failure: 401 whose body says no more than that the request could not be validated; the reason is in the log.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import { anonymousConsumer, CREDENTIAL_LENGTH_MAX, linkRefusal, realmPattern, unauthorized } from './auth/apisix.js'
import { REPEATED, singleField } from './auth/fields.js'
import { readHttpDate } from './hmac-auth/http-date.js'
import {
  type Algorithm,
  algorithms,
  hasSignatureScheme,
  RepeatedField,
  readSignature,
  type SignatureParameters,
  sign,
  signingString,
} from './hmac-auth/signature.js'
import {
  type BoundLimiter,
  bodyTooLarge,
  type Credential,
  defineCredential,
  definePlugin,
  type Exchange,
  type LimiterSpec,
  type LinkKit,
  type PhaseResult,
  PluginConfigError,
  type PluginInstance,
  type PluginProblem,
  type PrepareKit,
  type Reply,
  type Static,
  type StoreSpec,
  Type,
} from './plugin.js'

const schema = Type.Object({
  allowed_algorithms: Type.Array(Type.Union(algorithms.map((name) => Type.Literal(name))), {
    minItems: 1,
    default: [...algorithms],
    description: 'Algorithms that a signature may use.',
  }),
  clock_skew: Type.Integer({
    minimum: 1,
    maximum: 86_400,
    default: 300,
    description: 'Seconds by which the Date of a request may differ from the time of the gateway. Put `date` into `signed_headers`.',
  }),
  signed_headers: Type.Optional(
    Type.Array(Type.String({ minLength: 1, maxLength: 256 }), {
      description: 'Names that every signature must cover: header fields, or `@request-target`.',
    }),
  ),
  validate_request_body: Type.Boolean({
    default: false,
    description: 'The body must have the hash that the field `Digest: SHA-256=…` says. Put `digest` into `signed_headers`.',
  }),
  max_req_body_size: Type.Integer({
    minimum: 1,
    maximum: 1_073_741_824,
    default: 67_108_864,
    description: 'With `validate_request_body`: bytes of a body, which is held in memory; a longer one is answered with 413.',
  }),
  replay_protection: Type.Union([Type.Literal('off'), Type.Literal('local'), Type.Literal('redis')], {
    default: 'off',
    description:
      'Each signature is good for one request. `local`: over all threads of this gateway; `redis`: over all gateways that use the Redis of ' +
      '`sluice.redis`. Signatures must then cover `date`.',
  }),
  hide_credentials: Type.Boolean({ default: false, description: 'Do not send the Authorization header to the upstream.' }),
  realm: Type.String({ default: 'hmac', pattern: realmPattern, description: 'Realm of the challenge.' }),
  anonymous_consumer: anonymousConsumer,
})
type Conf = Static<typeof schema>

const credentialSchema = Type.Object({
  key_id: Type.String({ minLength: 1, maxLength: 256, description: 'Name of the key in signatures. No two consumers may have the same.' }),
  secret_key: Type.String({ minLength: 1, maxLength: 1024, description: 'The secret under which requests are signed.' }),
})

interface Secret {
  readonly secret: string
}

interface Prepared {
  readonly algorithms: Algorithm[]
  readonly clockSkewMs: number
  /** Lower-case. */
  readonly signedHeaders: string[]
  /** Bytes of a body that is validated; 0 = none is. */
  readonly maxBodyBytes: number
  readonly replay: LimiterSpec | null
  readonly hideCredentials: boolean
  readonly challenge: string
  readonly anonymous: string | null
}

export const hmacAuth = definePlugin<Conf, Prepared>({
  name: 'hmac-auth',
  priority: 2530,
  description: 'Authenticates consumers by an HMAC signature over parts of the request.',
  schema,
  credential: defineCredential<Static<typeof credentialSchema>, Secret>({
    schema: credentialSchema,
    key: 'key_id',
    prepare: ({ secret_key: secret }) => ({ secret }),
  }),
  check,
  prepare,
  link,
})

function check(conf: Conf): PluginProblem[] {
  const signed = new Set((conf.signed_headers ?? []).map((name) => name.toLowerCase()))
  const problems: PluginProblem[] = []
  if (conf.validate_request_body && !signed.has('digest')) {
    const message = 'without digest in signed_headers a body can be changed together with its Digest; expected signed_headers with digest'
    problems.push({ path: 'validate_request_body', message, isWarning: true })
  }
  if (!signed.has('date') && conf.replay_protection === 'off') {
    const message =
      'without date in signed_headers a request can be repeated at any time with another Date; expected signed_headers with date'
    problems.push({ path: '', message, isWarning: true })
  }
  return problems
}

function prepare(conf: Conf, kit: PrepareKit): Prepared {
  const clockSkewMs = conf.clock_skew * 1000
  return {
    algorithms: conf.allowed_algorithms,
    clockSkewMs,
    signedHeaders: (conf.signed_headers ?? []).map((name) => name.toLowerCase()),
    maxBodyBytes: conf.validate_request_body ? conf.max_req_body_size : 0,
    replay: conf.replay_protection === 'off' ? null : kit.limiter(replaySpec(conf.replay_protection, clockSkewMs, kit)),
    hideCredentials: conf.hide_credentials,
    challenge: `hmac realm="${conf.realm}"`,
    anonymous: conf.anonymous_consumer ?? null,
  }
}

/** A signature is good from `clock_skew` before its Date to `clock_skew` after it, so it is remembered for both together. */
function replaySpec(policy: 'local' | 'redis', clockSkewMs: number, kit: PrepareKit): LimiterSpec {
  let store: StoreSpec = { kind: 'local' }
  if (policy === 'redis') {
    if (kit.redis === null) throw new PluginConfigError('replay_protection redis needs sluice.redis or --redis', 'replay_protection')
    store = { kind: kit.redis.kind, mode: 'exact', connection: kit.redis.connection, onFailure: 'refuse' }
  }
  return {
    scope: 'hmac-auth|signatures',
    rules: [{ algorithm: 'fixed-window', limit: 1, windowMs: 2 * clockSkewMs + 1000, start: 'first-hit' }],
    countRefused: false,
    dryRun: false,
    store,
  }
}

const PREFIX = "client request can't be validated"
const unavailable: Reply = { status: 503, headers: [['Retry-After', '1']] }

function link(conf: Prepared, kit: LinkKit): PluginInstance {
  const { challenge, clockSkewMs, signedHeaders, maxBodyBytes } = conf
  const credentials = kit.credentials<Secret>()
  const allowed = new Set<string>(conf.algorithms)
  const noHeader = unauthorized(`${PREFIX}: missing Authorization header`, challenge)
  const otherScheme = unauthorized(`${PREFIX}: Authorization header does not start with 'Signature'`, challenge)
  const invalid = unauthorized(PREFIX, challenge)
  const refuse = linkRefusal(conf.anonymous, challenge, 'hmac-auth', kit)
  const replays: BoundLimiter | null = conf.replay === null ? null : kit.limiter(conf.replay)

  /** Refuses for a reason that only the log hears. */
  function refuseBecause(exchange: Exchange, reason: string): Reply | undefined {
    kit.log('warn', `hmac-auth: ${PREFIX}: ${reason}`)
    return refused(exchange, invalid)
  }

  function refused(exchange: Exchange, reply: Reply): Reply | undefined {
    const refusal = refuse(exchange, reply)
    if (refusal === undefined) hide(exchange)
    return refusal
  }

  /** Not before the outcome is known: within multi-auth another plugin may still want to see it. */
  function hide(exchange: Exchange): void {
    if (conf.hideCredentials) exchange.requestHeaders.remove('authorization')
  }

  /** The text of what is wrong with the parameters and the Date, or null. */
  function parameterProblem(exchange: Exchange, parameters: SignatureParameters): string | null {
    if (parameters.keyId === '' || parameters.signature === '') return 'keyId or signature missing'
    if (parameters.algorithm === '') return 'algorithm missing'
    if (!allowed.has(parameters.algorithm)) return 'Invalid algorithm'
    const date = singleField(exchange.requestHeaders, 'date')
    if (date === undefined) return 'Date header missing, failed to validate clock skew'
    const time = date === REPEATED ? null : readHttpDate(date)
    if (time === null) return 'Invalid GMT format time'
    if (Math.abs(exchange.startedAtMs - time) > clockSkewMs) return 'Clock skew exceeded'
    const covered = parameters.headers.map((name) => name.toLowerCase())
    const missing = signedHeaders.find((name) => !covered.includes(name))
    if (missing !== undefined) return `expected header "${missing}" missing in signing`
    if (replays !== null && !covered.includes('date')) return 'expected header "date" missing in signing'
    return null
  }

  /** The signature that the request should have, or the text of what is wrong. */
  function expectedSignature(exchange: Exchange, parameters: SignatureParameters, secret: string): Buffer | string {
    try {
      return sign(parameters.algorithm as Algorithm, secret, signingString(exchange, parameters))
    } catch (error) {
      if (error instanceof RepeatedField) return 'a signed header is repeated'
      throw error
    }
  }

  function succeed(exchange: Exchange, credential: Credential<Secret>): undefined {
    exchange.authenticate(credential.consumer, credential)
    hide(exchange)
    return undefined
  }

  async function withBody(exchange: Exchange): Promise<Reply | string | undefined> {
    const digest = singleField(exchange.requestHeaders, 'digest')
    if (digest === undefined || digest === REPEATED) return 'Invalid digest'
    const body = await exchange.readRequestBody(maxBodyBytes)
    if (body === null) return bodyTooLarge
    const hash = createHash('sha256').update(body).digest('base64')
    return digest.replace(/^sha-256=/i, '') === hash && /^sha-256=/i.test(digest) ? undefined : 'Invalid digest'
  }

  async function isFirstUse(limiter: BoundLimiter, signature: string): Promise<Reply | string | undefined> {
    const decision = await limiter.check(signature, 1, limiter.decision())
    if (decision.basis !== 'exact') return unavailable
    return decision.allowed ? undefined : 'the signature was used before'
  }

  async function later(exchange: Exchange, credential: Credential<Secret>, signature: string): Promise<PhaseResult> {
    const refusals = [maxBodyBytes > 0 ? () => withBody(exchange) : null, replays === null ? null : () => isFirstUse(replays, signature)]
    for (const step of refusals) {
      const result = await step?.()
      if (typeof result === 'string') return refuseBecause(exchange, result)
      if (result !== undefined) return result
    }
    return succeed(exchange, credential)
  }

  return {
    readsFields: ['date', 'digest', ...signedHeaders],
    rewrite(exchange) {
      const field = singleField(exchange.requestHeaders, 'authorization')
      if (field === undefined) return refused(exchange, noHeader)
      if (field === REPEATED || field.length > CREDENTIAL_LENGTH_MAX)
        return refuseBecause(exchange, 'Authorization header is repeated or too long')
      if (!hasSignatureScheme(field)) return refused(exchange, otherScheme)
      const parameters = readSignature(field)
      const problem = parameterProblem(exchange, parameters)
      if (problem !== null) return refuseBecause(exchange, problem)
      const credential = credentials.find(parameters.keyId)
      if (credential === null) return refuseBecause(exchange, 'Invalid keyId')
      const expected = expectedSignature(exchange, parameters, credential.conf.secret)
      if (typeof expected === 'string') return refuseBecause(exchange, expected)
      const sent = Buffer.from(parameters.signature, 'base64')
      if (sent.length !== expected.length || !timingSafeEqual(sent, expected)) return refuseBecause(exchange, 'Invalid signature')
      if (maxBodyBytes === 0 && replays === null) return succeed(exchange, credential)
      return later(exchange, credential, expected.toString('base64'))
    },
  }
}
