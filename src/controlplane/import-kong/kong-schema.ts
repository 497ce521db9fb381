/**
 * Entities of a Kong declarative file (`_format_version` 1.1 to 3.0), as Kong Gateway 3 documents them. Fields whose values are further
 * entities (`service.routes`) are checked only to be lists here; each entity is checked by itself. `null` stands for "not given".
 */
import { type Static, type TSchema, Type } from '@sinclair/typebox'

const optional = <T extends TSchema>(schema: T) => Type.Optional(schema)
const text = Type.String({ minLength: 1 })
const texts = Type.Array(text)
const nested = optional(Type.Array(Type.Unknown()))
/** A reference to another entity: its name or id, or an object with one of them. */
const reference = Type.Union([text, Type.Object({ name: optional(text), id: optional(text), username: optional(text) })])
const oneOf = <const T extends string>(...values: T[]) => Type.Unsafe<T>({ type: 'string', enum: values })
const milliseconds = Type.Integer({ minimum: 1, maximum: 2_147_483_646 })
const common = { id: optional(text), tags: optional(texts), created_at: optional(Type.Integer()), updated_at: optional(Type.Integer()) }
const entity = <T extends Parameters<typeof Type.Object>[0]>(fields: T) =>
  Type.Object({ ...common, ...fields }, { additionalProperties: false })

export const kongService = entity({
  name: optional(text),
  url: optional(text),
  protocol: optional(Type.String()),
  host: optional(text),
  port: optional(Type.Integer({ minimum: 0, maximum: 65_535 })),
  path: optional(Type.String({ pattern: '^/' })),
  retries: optional(Type.Integer({ minimum: 0, maximum: 32_767 })),
  connect_timeout: optional(milliseconds),
  write_timeout: optional(milliseconds),
  read_timeout: optional(milliseconds),
  enabled: optional(Type.Boolean()),
  tls_verify: optional(Type.Boolean()),
  tls_verify_depth: optional(Type.Integer({ minimum: 0, maximum: 64 })),
  tls_sans: optional(Type.Unknown()),
  ca_certificates: optional(texts),
  client_certificate: optional(reference),
  routes: nested,
  plugins: nested,
})

export const kongRoute = entity({
  name: optional(text),
  protocols: optional(Type.Array(Type.String(), { minItems: 1 })),
  methods: optional(Type.Array(Type.String({ pattern: '^[A-Z]+$' }))),
  hosts: optional(texts),
  paths: optional(Type.Array(Type.String({ pattern: '^~?/' }))),
  headers: optional(Type.Record(Type.String(), Type.Array(Type.String(), { minItems: 1 }))),
  snis: optional(texts),
  sources: optional(Type.Array(Type.Unknown())),
  destinations: optional(Type.Array(Type.Unknown())),
  strip_path: optional(Type.Boolean()),
  preserve_host: optional(Type.Boolean()),
  path_handling: optional(oneOf('v0', 'v1')),
  regex_priority: optional(Type.Integer()),
  https_redirect_status_code: optional(Type.Unsafe<426 | 301 | 302 | 307 | 308>({ type: 'integer', enum: [426, 301, 302, 307, 308] })),
  request_buffering: optional(Type.Boolean()),
  response_buffering: optional(Type.Boolean()),
  service: optional(reference),
  plugins: nested,
})

const checkStatuses = optional(Type.Array(Type.Integer({ minimum: 100, maximum: 999 })))
const checkCount = optional(Type.Integer({ minimum: 0, maximum: 255 }))
const checkInterval = optional(Type.Number({ minimum: 0, maximum: 65_535 }))

export const kongUpstream = entity({
  name: text,
  algorithm: optional(oneOf('round-robin', 'consistent-hashing', 'least-connections', 'latency', 'sticky-sessions')),
  hash_on: optional(oneOf('none', 'consumer', 'ip', 'header', 'cookie', 'path', 'query_arg', 'uri_capture')),
  hash_fallback: optional(oneOf('none', 'consumer', 'ip', 'header', 'cookie', 'path', 'query_arg', 'uri_capture')),
  hash_on_header: optional(text),
  hash_fallback_header: optional(text),
  hash_on_cookie: optional(text),
  hash_on_cookie_path: optional(text),
  hash_on_query_arg: optional(text),
  hash_fallback_query_arg: optional(text),
  hash_on_uri_capture: optional(text),
  hash_fallback_uri_capture: optional(text),
  slots: optional(Type.Integer({ minimum: 10, maximum: 65_536 })),
  host_header: optional(text),
  use_srv_name: optional(Type.Boolean()),
  client_certificate: optional(reference),
  healthchecks: optional(
    Type.Object(
      {
        threshold: optional(Type.Number({ minimum: 0, maximum: 100 })),
        active: optional(
          Type.Object(
            {
              type: optional(oneOf('http', 'https', 'tcp', 'grpc', 'grpcs')),
              timeout: optional(Type.Number({ exclusiveMinimum: 0 })),
              concurrency: optional(Type.Integer({ minimum: 1 })),
              http_path: optional(Type.String({ pattern: '^/' })),
              https_sni: optional(text),
              https_verify_certificate: optional(Type.Boolean()),
              headers: optional(Type.Record(Type.String(), Type.Array(Type.String()))),
              healthy: optional(
                Type.Object(
                  { interval: checkInterval, http_statuses: checkStatuses, successes: checkCount },
                  { additionalProperties: false },
                ),
              ),
              unhealthy: optional(
                Type.Object(
                  {
                    interval: checkInterval,
                    http_statuses: checkStatuses,
                    http_failures: checkCount,
                    tcp_failures: checkCount,
                    timeouts: checkCount,
                  },
                  { additionalProperties: false },
                ),
              ),
            },
            { additionalProperties: false },
          ),
        ),
        passive: optional(
          Type.Object(
            {
              type: optional(oneOf('http', 'https', 'tcp', 'grpc', 'grpcs')),
              healthy: optional(Type.Object({ http_statuses: checkStatuses, successes: checkCount }, { additionalProperties: false })),
              unhealthy: optional(
                Type.Object(
                  { http_statuses: checkStatuses, http_failures: checkCount, tcp_failures: checkCount, timeouts: checkCount },
                  { additionalProperties: false },
                ),
              ),
            },
            { additionalProperties: false },
          ),
        ),
      },
      { additionalProperties: false },
    ),
  ),
  targets: nested,
})

export const kongTarget = entity({
  target: text,
  weight: optional(Type.Integer({ minimum: 0, maximum: 65_535 })),
  failover: optional(Type.Boolean()),
  upstream: optional(reference),
})

export const kongPlugin = entity({
  name: text,
  instance_name: optional(text),
  enabled: optional(Type.Boolean()),
  config: optional(Type.Record(Type.String(), Type.Unknown())),
  protocols: optional(texts),
  ordering: optional(Type.Unknown()),
  condition: optional(Type.Unknown()),
  service: optional(reference),
  route: optional(reference),
  consumer: optional(reference),
  consumer_group: optional(reference),
})

/** Lists of credentials, each under its name in consumers and at the top of a file. */
export const credentialLists = [
  'keyauth_credentials',
  'basicauth_credentials',
  'jwt_secrets',
  'hmacauth_credentials',
  'oauth2_credentials',
  'mtls_auth_credentials',
] as const

export const kongConsumer = entity({
  username: optional(text),
  custom_id: optional(text),
  groups: nested,
  acls: nested,
  plugins: nested,
  keyauth_credentials: nested,
  basicauth_credentials: nested,
  jwt_secrets: nested,
  hmacauth_credentials: nested,
  oauth2_credentials: nested,
  mtls_auth_credentials: nested,
})

export const kongCredentials = {
  keyauth_credentials: entity({ key: text, ttl: optional(Type.Integer()), consumer: optional(reference) }),
  basicauth_credentials: entity({ username: text, password: text, consumer: optional(reference) }),
  jwt_secrets: entity({
    key: text,
    secret: optional(text),
    algorithm: optional(Type.String()),
    rsa_public_key: optional(text),
    consumer: optional(reference),
  }),
  hmacauth_credentials: entity({ username: text, secret: text, consumer: optional(reference) }),
} as const

export const kongAcl = entity({ group: text, consumer: optional(reference) })
export const kongConsumerGroup = entity({ name: text, consumers: nested, plugins: nested })
export const kongCertificate = entity({
  cert: text,
  key: text,
  cert_alt: optional(text),
  key_alt: optional(text),
  passphrase: optional(text),
  snis: nested,
})
export const kongSni = entity({ name: text, certificate: optional(reference) })
export const kongCaCertificate = entity({ cert: text, cert_digest: optional(text) })

export type KongService = Static<typeof kongService>
export type KongRoute = Static<typeof kongRoute>
export type KongUpstream = Static<typeof kongUpstream>
export type KongTarget = Static<typeof kongTarget>
export type KongPlugin = Static<typeof kongPlugin>
export type KongConsumer = Static<typeof kongConsumer>
export type KongConsumerGroup = Static<typeof kongConsumerGroup>
export type KongCertificate = Static<typeof kongCertificate>
