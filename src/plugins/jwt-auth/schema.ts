/** Options of jwt-auth: those of APISIX, and what concerns issuers, claims and opaque tokens. */
import { anonymousConsumer, realmPattern } from '../auth/apisix.js'
import { type Static, Type, tokenAlgorithms } from '../plugin.js'

const texts = (description: string) => Type.Array(Type.String({ minLength: 1 }), { minItems: 1, description })
const textOrTexts = (description: string) =>
  Type.Union([Type.String({ minLength: 1 }), Type.Array(Type.String({ minLength: 1 }), { minItems: 1 })], { description })
const seconds = (fallback: number, minimum: number, maximum: number, description: string) =>
  Type.Number({ minimum, maximum, default: fallback, description })

const asymmetric = tokenAlgorithms.filter((name) => !name.startsWith('HS'))
export const issuerAlgorithms: readonly string[] = asymmetric

const issuerSchema = Type.Object(
  {
    issuer: Type.String({ minLength: 1, description: 'Value of `iss` in its tokens.' }),
    jwks_uri: Type.Optional(
      Type.String({
        minLength: 1,
        description: 'URL of its JSON Web Key Set. Unset: as `<issuer>/.well-known/openid-configuration` says.',
      }),
    ),
    audience: Type.Optional(textOrTexts('Accepted values of `aud` in its tokens; one is enough. Unset: as the option of the plugin says.')),
    algorithms: Type.Optional(
      Type.Array(Type.Union(asymmetric.map((name) => Type.Literal(name))), {
        minItems: 1,
        description: 'Accepted algorithms. Unset: all for which its keys can be used. Shared secrets (HS…) never.',
      }),
    ),
  },
  { description: 'An issuer whose published keys verify its tokens. Its callers need not be consumers.' },
)

const introspectionSchema = Type.Object(
  {
    endpoint: Type.String({ minLength: 1, description: 'URL of the introspection endpoint (RFC 7662).' }),
    client_id: Type.String({ minLength: 1, description: 'The gateway as a client of the issuer.' }),
    client_secret: Type.String({ minLength: 1, description: 'Its secret.' }),
    auth_method: Type.Union([Type.Literal('client_secret_basic'), Type.Literal('client_secret_post')], {
      default: 'client_secret_basic',
      description: 'How the gateway says who it is: in the Authorization header, or in the body.',
    }),
    cache_ttl: seconds(60, 0, 3600, 'An answer counts for so long at most, in seconds, and never beyond the `exp` of the token.'),
  },
  { description: 'Opaque tokens, which are no JWTs: their issuer is asked about them.' },
)

export const jwtAuthSchema = Type.Object({
  header: Type.String({
    minLength: 1,
    default: 'authorization',
    description: 'Header field that carries the token, with or without `Bearer`.',
  }),
  query: Type.String({ minLength: 1, default: 'jwt', description: 'Query parameter that carries it, if the header does not.' }),
  cookie: Type.String({ minLength: 1, default: 'jwt', description: 'Cookie that carries it, if neither header nor query does.' }),
  hide_credentials: Type.Boolean({ default: false, description: 'Do not send the token to the upstream.' }),
  key_claim_name: Type.String({ minLength: 1, default: 'key', description: 'Claim that holds the `key` of a consumer.' }),
  store_in_ctx: Type.Boolean({ default: false, description: 'Let later plugins see the claims of the token (`exchange.tokenClaims`).' }),
  realm: Type.String({ default: 'jwt', pattern: realmPattern, description: 'Realm of the challenge.' }),
  anonymous_consumer: anonymousConsumer,
  claims_to_verify: Type.Optional(
    Type.Array(Type.Union([Type.Literal('exp'), Type.Literal('nbf')]), {
      minItems: 1,
      uniqueItems: true,
      description: 'Claims that a token must have. `exp` and `nbf` are checked in any case when they are there.',
    }),
  ),
  issuer: Type.Optional(Type.String({ minLength: 1, description: 'Value that `iss` must have, in tokens of consumers too.' })),
  jwks_uri: Type.Optional(
    Type.String({
      minLength: 1,
      description: 'URL of a JSON Web Key Set that verifies the tokens of `issuer`, or of anybody if that is unset.',
    }),
  ),
  issuers: Type.Optional(Type.Array(issuerSchema, { minItems: 1, maxItems: 64, description: 'Several issuers, told apart by `iss`.' })),
  audience: Type.Optional(textOrTexts('Accepted values of `aud`; one is enough.')),
  required_claims: Type.Optional(texts('Claims that a token must have, by name or dotted path.')),
  required_scopes: Type.Optional(texts('Scopes that the caller needs; without them the answer is 403.')),
  scopes_match: Type.Union([Type.Literal('all'), Type.Literal('any')], {
    default: 'all',
    description: 'Whether all of `required_scopes` are needed, or one.',
  }),
  scope_claim: Type.Optional(
    Type.String({ minLength: 1, description: 'Claim with the scopes, a list or a text with blanks. Unset: `scope`, else `scp`.' }),
  ),
  clock_skew: seconds(0, 0, 600, 'Seconds by which clocks may differ when `exp` and `nbf` of an issuer are checked.'),
  claims_to_headers: Type.Optional(
    Type.Record(Type.String({ minLength: 1 }), Type.String({ minLength: 1 }), {
      description:
        'Header fields for the upstream with the claim, or dotted path, that each shows: lists with commas, objects as JSON. A field that the client sent is always removed.',
    }),
  ),
  consumer_claim: Type.Optional(
    Type.String({
      minLength: 1,
      description:
        'Claim of tokens of issuers, and of opaque ones, that holds the name of a consumer. Unset: their callers are no consumers.',
    }),
  ),
  consumer_optional: Type.Boolean({
    default: false,
    description: 'With `consumer_claim`: let callers pass that are no consumers; otherwise they get 403.',
  }),
  introspection: Type.Optional(introspectionSchema),
  jwks_refresh_interval: seconds(300, 5, 86_400, 'Seconds between two fetches of published keys.'),
  jwks_min_interval: seconds(3, 0.1, 3600, 'Least number of seconds between two fetches, whatever key ids tokens name.'),
  timeout: seconds(3, 0.01, 60, 'Seconds within which an issuer must answer.'),
  ssl_verify: Type.Boolean({ default: true, description: 'Check the certificates of issuers.' }),
})
export type JwtAuthConf = Static<typeof jwtAuthSchema>
