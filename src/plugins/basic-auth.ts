/**
 * basic-auth: the caller is the consumer whose user name and password the request carries. Two plugins in one name, told apart by their
 * options: with `anonymous` or `run_on_preflight` it is Kong's (also reads Proxy-Authorization), otherwise that of APISIX.
 *
 * Runs on workers, rewrite phase: at once for plain passwords and for those verified in the last minute, otherwise after a hash was
 * computed on another thread. State: one PasswordVerifier per worker. Failure: 401 with a challenge, or the anonymous consumer; 503 when
 * too many verifications wait.
 */
import { anonymousConsumer, CREDENTIAL_LENGTH_MAX, linkRefusal, realmPattern, unauthorized } from './auth/apisix.js'
import { REPEATED, singleField } from './auth/fields.js'
import { guard, type KongCommon, kongOptions } from './auth/kong.js'
import { type BasicCredentials, readBasic } from './basic-auth/basic-credentials.js'
import { equalsPlain, passwordProblem, readStored, type StoredPassword } from './basic-auth/stored-password.js'
import { PasswordVerifier, type Verdict } from './basic-auth/verifier.js'
import {
  type Credential,
  defineCredential,
  definePlugin,
  type Exchange,
  jsonReply,
  kongError,
  type LinkKit,
  nullable,
  type PluginInstance,
  type PluginProblem,
  type Reply,
  type Static,
  Type,
} from './plugin.js'

const schema = Type.Object({
  hide_credentials: Type.Boolean({ default: false, description: 'Do not send the Authorization header to the upstream.' }),
  realm: nullable(Type.String({ pattern: realmPattern }), {
    description: 'Realm of the challenge. Unset: `basic` in the APISIX shape, `service` in the Kong shape.',
  }),
  anonymous_consumer: anonymousConsumer,
  ...kongOptions,
})
type Conf = Static<typeof schema>

const credentialSchema = Type.Object({
  username: Type.String({
    minLength: 1,
    maxLength: 256,
    pattern: '^[^:]*$',
    description: 'User name. No two consumers may have the same.',
  }),
  password: Type.String({
    minLength: 1,
    maxLength: 1024,
    description: 'The password itself, or its hash: `$scrypt$ln=15,r=8,p=1$…` or `$argon2id$v=19$m=19456,t=2,p=1$…`.',
  }),
})

type Prepared =
  | { readonly shape: 'apisix'; readonly hideCredentials: boolean; readonly challenge: string; readonly anonymous: string | null }
  | ({ readonly shape: 'kong'; readonly hideCredentials: boolean } & KongCommon)

const BUSY = jsonReply(503, 'message', 'Too many authentications are waiting', [['Retry-After', '1']])

export const basicAuth = definePlugin<Conf, Prepared>({
  name: 'basic-auth',
  priority: 2520,
  description: 'Authenticates consumers by user name and password.',
  schema,
  credential: defineCredential<Static<typeof credentialSchema>, { readonly password: string }, StoredPassword>({
    schema: credentialSchema,
    key: 'username',
    check({ password }) {
      const message = passwordProblem(password)
      return message === null ? [] : [{ path: 'password', message }]
    },
    prepare: ({ password }) => ({ password }),
    link: ({ password }) => readStored(password),
  }),
  check,
  prepare,
  link,
})

function isKong({ anonymous, run_on_preflight }: Conf): boolean {
  return (anonymous ?? null) !== null || (run_on_preflight ?? null) !== null
}

function check(conf: Conf): PluginProblem[] {
  if (!isKong(conf) || conf.anonymous_consumer === undefined) return []
  const message =
    'anonymous_consumer belongs to another shape of this plugin than anonymous and run_on_preflight; expected the options of one'
  return [{ path: 'anonymous_consumer', message }]
}

function prepare(conf: Conf): Prepared {
  const { hide_credentials: hideCredentials, anonymous_consumer = null } = conf
  if (!isKong(conf))
    return { shape: 'apisix', hideCredentials, challenge: `Basic realm="${conf.realm ?? 'basic'}"`, anonymous: anonymous_consumer }
  return {
    shape: 'kong',
    hideCredentials,
    challenge: `Basic realm="${conf.realm ?? 'service'}"`,
    anonymous: conf.anonymous ?? null,
    runOnPreflight: conf.run_on_preflight ?? true,
  }
}

type Find = (username: string) => Credential<StoredPassword> | null

function link(prepared: Prepared, kit: LinkKit): PluginInstance {
  const credentials = kit.credentials<StoredPassword>()
  const verifier = kit.workerState(() => new PasswordVerifier(kit.delay))
  const find: Find = (username) => credentials.find(username)
  const verify = (exchange: Exchange, given: BasicCredentials, credential: Credential<StoredPassword> | null) =>
    verdict(exchange, given, credential, verifier, kit)
  return prepared.shape === 'apisix' ? linkApisix(prepared, kit, find, verify) : linkKong(prepared, kit, find, verify)
}

/** Where Kong looks, in this order. */
const fields = ['proxy-authorization', 'authorization'] as const

type Verify = (exchange: Exchange, given: BasicCredentials, credential: Credential<StoredPassword> | null) => Verdict | Promise<Verdict>

/** Whether the password is that of the credential. */
function verdict(
  exchange: Exchange,
  { username, password }: BasicCredentials,
  credential: Credential<StoredPassword> | null,
  verifier: PasswordVerifier,
  kit: LinkKit,
): Verdict | Promise<Verdict> {
  if (credential === null) {
    // A name that does not exist must not be told from one that does by the time of the answer.
    return verifier.lastMs === 0 ? 'wrong' : kit.delay(verifier.lastMs).then(() => 'wrong')
  }
  const stored = credential.conf
  if (stored.kind === 'plain') return equalsPlain(stored, password) ? 'right' : 'wrong'
  const attempt = { username, address: exchange.clientAddress, nowMs: exchange.startedAtMs, elapsedMs: () => exchange.elapsedMs() }
  return verifier.check(stored, password, attempt)
}

function linkApisix(conf: Prepared & { readonly shape: 'apisix' }, kit: LinkKit, find: Find, verify: Verify): PluginInstance {
  const { challenge, hideCredentials } = conf
  const missing = unauthorized('Missing authorization in request', challenge)
  const malformed = unauthorized('Invalid authorization in request', challenge)
  const wrong = unauthorized('Invalid user authorization', challenge)
  const refuse = linkRefusal(conf.anonymous, challenge, 'basic-auth', kit)

  function conclude(exchange: Exchange, credential: Credential | null, found: Verdict): Reply | undefined {
    if (found === 'busy') return BUSY
    if (found === 'wrong' || credential === null) return refused(exchange, wrong)
    exchange.authenticate(credential.consumer, credential)
    if (hideCredentials) exchange.requestHeaders.remove('authorization')
    return undefined
  }

  function refused(exchange: Exchange, reply: Reply): Reply | undefined {
    const refusal = refuse(exchange, reply)
    // Not before the outcome is known: within multi-auth another plugin may still want to see it.
    if (refusal === undefined && hideCredentials) exchange.requestHeaders.remove('authorization')
    return refusal
  }

  return {
    rewrite(exchange) {
      const field = singleField(exchange.requestHeaders, 'authorization')
      if (field === undefined) return refused(exchange, missing)
      const given = field === REPEATED ? null : readBasic(field, CREDENTIAL_LENGTH_MAX)
      if (given === null) return refused(exchange, malformed)
      const credential = find(given.username)
      const found = verify(exchange, given, credential)
      if (!(found instanceof Promise)) return conclude(exchange, credential, found)
      return found.then((late) => conclude(exchange, credential, late))
    },
  }
}

function linkKong(conf: Prepared & { readonly shape: 'kong' }, kit: LinkKit, find: Find, verify: Verify): PluginInstance {
  const { challenge, hideCredentials } = conf
  const headers: Reply['headers'] = [['WWW-Authenticate', challenge]]

  function conclude(exchange: Exchange, credential: Credential | null, found: Verdict): Reply | undefined {
    if (found === 'busy') return kongError(exchange, 503, 'Too many authentications are waiting', [['Retry-After', '1']])
    if (found === 'wrong' || credential === null) return kongError(exchange, 401, 'Unauthorized', headers)
    exchange.authenticate(credential.consumer, credential, credential.key)
    if (hideCredentials) for (const field of fields) exchange.requestHeaders.remove(field)
    return undefined
  }

  /** The user name and password of one of the two fields; the second counts when the first names nobody. */
  function read(exchange: Exchange): { given: BasicCredentials; credential: Credential<StoredPassword> | null } | null {
    let last: { given: BasicCredentials; credential: null } | null = null
    for (const field of fields) {
      const value = singleField(exchange.requestHeaders, field)
      if (value === undefined) continue
      const given = value === REPEATED ? null : readBasic(value, CREDENTIAL_LENGTH_MAX)
      if (given === null) continue
      const credential = find(given.username)
      if (credential !== null) return { given, credential }
      last = { given, credential }
    }
    return last
  }

  return {
    rewrite: guard(conf, 'basic-auth', kit, (exchange) => {
      const found = read(exchange)
      if (found === null) return kongError(exchange, 401, 'Unauthorized', headers)
      const { given, credential } = found
      const result = verify(exchange, given, credential)
      if (!(result instanceof Promise)) return conclude(exchange, credential, result)
      return result.then((late) => conclude(exchange, credential, late))
    }),
  }
}
