/** Options of rate-limit. */
import { type Static, Type } from '../plugin.js'

export const algorithms = ['fixed-window', 'sliding-window', 'sliding-log', 'token-bucket', 'leaky-bucket', 'concurrency'] as const
export type AlgorithmName = (typeof algorithms)[number]

const oneOf = <const V extends string>(values: readonly V[], options: { readonly description: string; readonly default?: V }) =>
  Type.Unsafe<V>({ type: 'string', enum: [...values], ...options })

const limit = Type.Object({
  name: Type.Optional(
    Type.String({
      pattern: '^[A-Za-z0-9_.-]{1,64}$',
      description: 'Name in headers, refusals and logs. Unset: `default` for a single limit, else `limit-1`, `limit-2`, …',
    }),
  ),
  algorithm: Type.Optional(oneOf(algorithms, { description: 'As the option of the same name outside, for this limit.' })),
  limit: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: 1_000_000_000,
      description: 'Units per window, or in flight with `concurrency`. Required with windows and concurrency. 0 = nothing is admitted.',
    }),
  ),
  window: Type.Optional(
    Type.Number({
      minimum: 0.001,
      maximum: 31_622_400,
      description: 'Length of the window in seconds. Required with windows, except those of the calendar. Sliding windows: steps of 0.1.',
    }),
  ),
  start: Type.Optional(
    oneOf(['clock', 'first-hit', 'month', 'year'], {
      description:
        'With `fixed-window` (unset = `clock`): windows begin at multiples of their length in UTC, with the first request of a key, or with the ' +
        'calendar month or year in UTC.',
    }),
  ),
  rate: Type.Optional(
    Type.Number({
      exclusiveMinimum: 0,
      maximum: 1_000_000,
      description: 'Units per second. Required with `token-bucket` and `leaky-bucket`.',
    }),
  ),
  burst: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: 1_000_000_000,
      description: 'Buckets (unset = 0): units that may come early with `token-bucket`; that may wait in the queue with `leaky-bucket`.',
    }),
  ),
  ttl: Type.Optional(
    Type.Number({
      minimum: 1,
      maximum: 86_400,
      description: 'With `concurrency` in Redis (unset = 3600): seconds after which the requests of a gateway that died are forgotten.',
    }),
  ),
  key: Type.Optional(Type.String({ minLength: 1, maxLength: 1024, description: 'Template that replaces `key` for this limit.' })),
})

const limits = Type.Array(limit, {
  minItems: 1,
  maxItems: 16,
  description: 'The limits, decided in one step: a request that one of them refuses uses up nothing of the others.',
})

const tier = Type.Object({
  limits: Type.Optional(limits),
  unlimited: Type.Optional(Type.Boolean({ default: false, description: 'Requests of this tier are not limited.' })),
})

const address = Type.String({ minLength: 3, description: '`host:port`; IPv6 addresses in brackets.' })
const text = (description: string) => Type.Optional(Type.String({ minLength: 1, description }))

const redis = Type.Object(
  {
    address: Type.Optional(Type.String({ minLength: 3, description: 'The server, as `host:port`.' })),
    cluster: Type.Optional(Type.Array(address, { minItems: 1, description: 'Some nodes of a Redis Cluster; the others are found.' })),
    sentinels: Type.Optional(Type.Array(address, { minItems: 1, description: 'The sentinels; with `master_name`.' })),
    master_name: text('Name of the master, as the sentinels know it.'),
    username: text('User for ACL authentication.'),
    password: text('Password.'),
    sentinel_username: text('User for the sentinels.'),
    sentinel_password: text('Password for the sentinels.'),
    database: Type.Integer({ minimum: 0, default: 0, description: 'Number of the database; only 0 in a cluster.' }),
    timeout_ms: Type.Integer({
      minimum: 1,
      maximum: 60_000,
      default: 500,
      description: 'Longest wait for an answer, milliseconds; then `on_store_error` decides.',
    }),
    tls: Type.Boolean({ default: false, description: 'Connect with TLS.' }),
    tls_verify: Type.Boolean({ default: true, description: 'Check the certificate of the server.' }),
    server_name: text('Name sent as SNI and expected in the certificate; unset = the host.'),
  },
  { description: 'Where the counters are kept with a Redis store. Unset: the Redis of `sluice.redis`.' },
)

export const schema = Type.Object({
  algorithm: oneOf(algorithms, {
    default: 'sliding-window',
    description: 'Algorithm of the limits that name none. docs/rate-limiting.md draws what each of them does with the same traffic.',
  }),
  limits,
  key: Type.String({
    minLength: 1,
    maxLength: 1024,
    default: '$remote_addr',
    description: 'Template of what is counted, such as `$consumer_name` or `$http_x_tenant $uri`. Where it is empty: the client address.',
  }),
  cost: Type.Union([Type.Integer({ minimum: 1, maximum: 1_000_000_000 }), Type.String({ minLength: 1, maxLength: 1024 })], {
    default: 1,
    description:
      'Units that a request uses up: a number, or a template that gives one. Fractions are rounded up; what is no number, or below 1, is 1.',
  }),
  store: oneOf(['local', 'redis', 'redis-cluster', 'redis-sentinel', 'lease'], {
    default: 'local',
    description:
      'Where counters are kept: in this gateway, exact over all its threads; in Redis, exact over all gateways; `lease`: in Redis too, but units ' +
      'are taken in batches before they are spent, at about local speed.',
  }),
  redis: Type.Optional(redis),
  on_store_error: oneOf(['refuse', 'allow', 'local'], {
    default: 'local',
    description:
      'When Redis does not answer: refuse with 503, let pass uncounted, or count in this gateway with limits divided by the number of living gateways.',
  }),
  dry_run: Type.Boolean({
    default: false,
    description: 'Decide and count as usual, in metrics and log, but refuse and delay nothing, and send no headers.',
  }),
  tiers: Type.Optional(
    Type.Object(
      {
        select: Type.String({
          minLength: 1,
          maxLength: 1024,
          description: 'Template that gives the name of a tier, such as `$consumer_group_id` or `$http_x_plan`.',
        }),
        table: Type.Record(Type.String({ minLength: 1 }), tier, {
          description: 'Limits by name of the tier. Requests of no tier of this table have the limits outside.',
        }),
      },
      { description: 'Other limits for some of the requests. Equal windows count on when a client changes its tier.' },
    ),
  ),
  share: Type.Optional(
    Type.String({
      pattern: '^[A-Za-z0-9_.-]{1,64}$',
      description: 'Confs of this plugin with the same name share their counters. Unset: the counters of the resource.',
    }),
  ),
  count_rejected: Type.Boolean({
    default: false,
    description: 'Count refused requests too, in all limits: who goes on while refused stays refused. Only with windows and logs.',
  }),
  headers: oneOf(['x-ratelimit', 'ietf', 'both', 'none'], {
    default: 'x-ratelimit',
    description:
      'X-RateLimit-Limit, -Remaining and -Reset of the tightest limit; RateLimit and RateLimit-Policy of the IETF draft with all limits; both; or ' +
      'none. Retry-After is always sent with refusals.',
  }),
  rejected_code: Type.Integer({ minimum: 200, maximum: 599, default: 429, description: 'Status of refusals.' }),
  rejected_body: Type.Optional(
    Type.String({ description: 'Body of refusals; may hold variables. Unset: JSON with message, limit, seconds and request id.' }),
  ),
  rejected_content_type: Type.String({ minLength: 1, default: 'application/json', description: 'Content-Type of refusals.' }),
})

export type Conf = Static<typeof schema>
export type LimitConf = Static<typeof limit>
export type RedisConf = Static<typeof redis>
