/** What a consumer holds for jwt-auth, as in APISIX. */
import { isBase64, makeKey } from '../auth/token-credential.js'
import {
  algorithmRule,
  defineCredential,
  type PluginProblem,
  type Static,
  type TokenAlgorithm,
  type TokenKey,
  Type,
  tokenAlgorithms,
} from '../plugin.js'

const schema = Type.Object({
  key: Type.String({
    minLength: 1,
    description: 'What tokens of this consumer have in the claim `key_claim_name`. No two consumers may have the same.',
  }),
  algorithm: Type.Union(
    tokenAlgorithms.map((name) => Type.Literal(name)),
    { default: 'HS256', description: 'The one algorithm of its tokens, whatever a token says.' },
  ),
  secret: Type.Optional(Type.String({ minLength: 1, description: 'Shared secret, for HS256, HS384 and HS512.' })),
  base64_secret: Type.Boolean({ default: false, description: '`secret` is base64.' }),
  public_key: Type.Optional(Type.String({ minLength: 1, description: 'Public key or certificate in PEM, for all other algorithms.' })),
  exp: Type.Integer({
    minimum: 1,
    default: 86_400,
    description: 'Seconds for which tokens are signed. Not looked at when they are verified, unless `enforce_exp_as_max_age` is true.',
  }),
  enforce_exp_as_max_age: Type.Boolean({
    default: false,
    description: 'Refuse tokens that live longer than `exp` (their `exp` minus `iat`).',
  }),
  lifetime_grace_period: Type.Integer({
    minimum: 0,
    default: 0,
    description: 'Seconds by which clocks may differ when `exp` and `nbf` are checked.',
  }),
})
type Conf = Static<typeof schema>

/** The credential as a worker uses it. */
export interface JwtCredential {
  /** null: the key cannot be used, and tokens for it are refused. */
  readonly key: TokenKey | null
  readonly graceS: number
  /** Infinity = any. */
  readonly maxAgeS: number
}

/** Short, because it is kept for every credential: algorithm, secret or public key, 1 = base64, grace, maximum age (0 = any). */
type Prepared = [TokenAlgorithm, string, 0 | 1, number, number]

export const jwtAuthCredential = defineCredential<Conf, Prepared, JwtCredential>({
  schema,
  key: 'key',
  check,
  prepare(conf) {
    const isShared = algorithmRule(conf.algorithm).family === 'HS'
    const material = (isShared ? conf.secret : conf.public_key) ?? ''
    return [conf.algorithm, material, conf.base64_secret ? 1 : 0, conf.lifetime_grace_period, conf.enforce_exp_as_max_age ? conf.exp : 0]
  },
  link([algorithm, material, base64, graceS, maxAgeS]) {
    const key = makeKey({ algorithm, secret: material, isBase64: base64 === 1, publicKey: material })
    return Object.freeze({
      key: typeof key === 'string' ? null : key,
      graceS,
      maxAgeS: maxAgeS === 0 ? Number.POSITIVE_INFINITY : maxAgeS,
    })
  },
})

function materialOf(conf: Conf) {
  return { algorithm: conf.algorithm, secret: conf.secret ?? '', isBase64: conf.base64_secret, publicKey: conf.public_key ?? '' }
}

function check(conf: Conf): PluginProblem[] {
  if (algorithmRule(conf.algorithm).family === 'HS') {
    if (conf.secret === undefined) return [{ path: '', message: 'property "secret" is required when using HS based algorithms' }]
    if (conf.base64_secret && !isBase64(conf.secret))
      return [{ path: 'secret', message: 'base64_secret required but the secret is not in base64 format' }]
    return []
  }
  if (conf.public_key === undefined) return [{ path: '', message: 'missing valid public key' }]
  const key = makeKey(materialOf(conf))
  if (typeof key !== 'string') return []
  // As in the reference gateway: it loads, and only tokens for this key fail.
  return [{ path: 'public_key', message: `${key}; tokens for this credential will be refused`, isWarning: true }]
}
