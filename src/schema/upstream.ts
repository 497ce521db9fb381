/** Schema of `upstreams`, also used inline in routes, services and traffic-split. */
import { type Static, Type } from '@sinclair/typebox'
import { described, host, oneOf, reference, timeoutSchema } from './common.js'
import { checksSchema, outlierDetectionSchema } from './health.js'
import { resilienceOptions } from './resilience.js'

const node = Type.Object(
  {
    host: Type.String({
      minLength: 1,
      maxLength: 1024,
      description: 'Name, IPv4 address, IPv6 address in brackets, or `unix:/path` of a socket.',
    }),
    port: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535, description: 'Port; without it 80, or 443 for scheme https.' })),
    weight: Type.Integer({ minimum: 0, maximum: 1_000_000, description: 'Share of the requests relative to the other nodes; 0 = none.' }),
    priority: Type.Optional(
      Type.Integer({
        minimum: -1_000_000,
        maximum: 1_000_000,
        default: 0,
        description: 'Nodes of the highest priority are used until all of them failed in this request.',
      }),
    ),
    metadata: Type.Optional(
      Type.Record(Type.String(), Type.Unknown(), {
        description: 'Free data about the node: a zone, a version. `subset` picks nodes by it.',
      }),
    ),
  },
  { additionalProperties: false },
)

/** Balancers of the reference gateway, and `random`. */
export const upstreamTypes = ['roundrobin', 'chash', 'least_conn', 'ewma', 'random'] as const

/** Variables that `hash_on: vars` knows, as in the reference gateway; others are reached with `vars_combinations`. */
export const hashVariablePattern =
  '^(uri|server_name|server_addr|request_uri|remote_port|remote_addr|query_string|host|hostname|arg_[0-9a-zA-Z_-]+)$'
export const hashNamePattern = '^[a-zA-Z0-9-_]+$'

const slowStart = Type.Object(
  {
    window: Type.Number({
      exclusiveMinimum: 0,
      maximum: 86_400,
      description: 'Seconds over which the weight of a node grows to its full value.',
    }),
    aggression: Type.Optional(
      Type.Number({
        exclusiveMinimum: 0,
        maximum: 100,
        default: 1,
        description:
          'Form of the growth: 1 = linear, above = faster at first. The weight is multiplied by (time / window) ^ (1 / aggression).',
      }),
    ),
    min_weight_percent: Type.Optional(
      Type.Number({ minimum: 0, maximum: 100, default: 10, description: 'Share of its weight that a node begins with.' }),
    ),
  },
  {
    additionalProperties: false,
    description: 'Nodes that are new, or healthy again, begin with a part of their weight. Not for type `chash`.',
  },
)

const subset = Type.Object(
  {
    match: Type.Record(Type.String({ minLength: 1 }), Type.String({ maxLength: 1024 }), {
      minProperties: 1,
      maxProperties: 8,
      description:
        'Names in the `metadata` of the nodes with the value that is wanted; values may have variables: `{version: "$http_x_version"}`.',
    }),
    fallback: Type.Optional(
      oneOf(['any', 'none'], {
        default: 'any',
        description: 'When no node with these values can be picked: `any` takes all nodes, `none` answers 503.',
      }),
    ),
  },
  { additionalProperties: false, description: 'Only nodes whose `metadata` has these values are picked.' },
)
export const upstreamSchemes = ['http', 'https', 'grpc', 'grpcs', 'tcp', 'tls', 'udp', 'kafka'] as const

export const upstreamSchema = Type.Object(
  {
    ...described,
    type: Type.Optional(
      oneOf(upstreamTypes, {
        default: 'roundrobin',
        description:
          'How a node is picked. `roundrobin`: exactly by weight, over all workers together. `random`: by weight and chance. `chash`: the same node for the same key. `least_conn`: the node with the fewest requests in flight for its weight. `ewma`: of two nodes drawn by chance, the one with the shorter expected wait.',
      }),
    ),
    nodes: Type.Optional(
      Type.Union([Type.Record(Type.String({ minLength: 1 }), Type.Integer({ minimum: 0, maximum: 1_000_000 })), Type.Array(node)], {
        description:
          'Either a map `"host:port": weight` or a list of `{host, port, weight, priority}`. IPv6 addresses in brackets. An empty list answers 503.',
      }),
    ),
    scheme: Type.Optional(oneOf(upstreamSchemes, { default: 'http', description: 'Protocol spoken to the nodes: `http` or `https`.' })),
    retries: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 1_000,
        description: 'Further tries after a failed connection; default: number of nodes - 1; 0 = none.',
      }),
    ),
    retry_timeout: Type.Optional(
      Type.Number({
        minimum: 0,
        maximum: 86_400,
        default: 0,
        description: 'No further try once so many seconds have passed; 0 = no limit.',
      }),
    ),
    ...resilienceOptions,
    timeout: Type.Optional(timeoutSchema),
    pass_host: Type.Optional(
      oneOf(['pass', 'node', 'rewrite'], {
        default: 'pass',
        description: "Host sent upstream: `pass` the client's, `node` the host of the node, `rewrite` the value of `upstream_host`.",
      }),
    ),
    upstream_host: Type.Optional(host('Host sent with `pass_host: rewrite`.')),
    keepalive_pool: Type.Optional(
      Type.Object(
        {
          size: Type.Optional(
            Type.Integer({
              minimum: 1,
              maximum: 65_536,
              default: 320,
              description: 'Idle connections kept per worker and node; further ones are closed after a second.',
            }),
          ),
          idle_timeout: Type.Optional(
            Type.Number({ minimum: 0, maximum: 86_400, default: 60, description: 'Seconds after which an idle connection is closed.' }),
          ),
          requests: Type.Optional(
            Type.Integer({
              minimum: 1,
              maximum: 1_000_000_000,
              default: 1_000,
              description: 'Requests on one connection before it is closed.',
            }),
          ),
          pipelining: Type.Optional(
            Type.Integer({
              minimum: 1,
              maximum: 256,
              default: 1,
              description: 'Requests in flight on one connection; 1 = no pipelining. Only safe methods are pipelined.',
            }),
          ),
        },
        { additionalProperties: false, description: 'Connections to the nodes that are kept open.' },
      ),
    ),
    tls: Type.Optional(
      Type.Object(
        {
          verify: Type.Optional(Type.Boolean({ default: false, description: 'Verify the certificate of the node.' })),
          client_cert: Type.Optional(Type.String({ minLength: 1, description: 'Client certificate, PEM text.' })),
          client_key: Type.Optional(Type.String({ minLength: 1, description: 'Key of the client certificate, PEM text.' })),
          client_cert_id: Type.Optional(reference('ssls')),
          ca: Type.Optional(
            Type.String({
              minLength: 1,
              description: 'Certificate authorities that are believed, PEM text; default: those of the system.',
            }),
          ),
          server_name: Type.Optional(
            Type.String({
              minLength: 1,
              maxLength: 256,
              description: 'SNI and name to verify; default: `upstream_host` with `pass_host: rewrite`, else the host of the node.',
            }),
          ),
        },
        { additionalProperties: false, description: 'TLS towards the nodes, with `scheme: https`.' },
      ),
    ),
    hash_on: Type.Optional(
      oneOf(['vars', 'header', 'cookie', 'consumer', 'vars_combinations'], {
        default: 'vars',
        description: 'What `key` names, with type `chash`; `consumer` needs no key. A request without a value is hashed by `remote_addr`.',
      }),
    ),
    key: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 1024,
        description:
          'With type `chash`: name of a variable, header or cookie, or a text with variables for `vars_combinations` (`$remote_addr$uri`).',
      }),
    ),
    hash_algorithm: Type.Optional(
      oneOf(['ketama', 'maglev'], {
        default: 'ketama',
        description: 'With type `chash`: `ketama` places keys as APISIX does; `maglev` spreads them more evenly.',
      }),
    ),
    hash_balance_factor: Type.Optional(
      Type.Integer({
        minimum: 100,
        maximum: 100_000,
        description:
          'With type `chash`: most requests in flight of a node, in percent of its fair share; what is above goes to the next node of its key. Without it there is no bound; 125 to 200 are useful.',
      }),
    ),
    ewma_decay: Type.Optional(
      Type.Number({
        exclusiveMinimum: 0,
        maximum: 3_600,
        default: 10,
        description: 'Seconds in which an old latency loses 63 % of its weight, with type `ewma`.',
      }),
    ),
    slow_start: Type.Optional(slowStart),
    subset: Type.Optional(subset),
    all_unhealthy: Type.Optional(
      oneOf(['fail_open', 'fail'], {
        default: 'fail_open',
        description: 'When no node is healthy: `fail_open` uses all of them, `fail` answers 503.',
      }),
    ),
    checks: Type.Optional(checksSchema),
    outlier_detection: Type.Optional(outlierDetectionSchema),
    service_name: Type.Optional(Type.String({ minLength: 1, maxLength: 256, description: 'Name in a service registry.' })),
    discovery_type: Type.Optional(Type.String({ description: 'Kind of service registry.' })),
    discovery_args: Type.Optional(Type.Record(Type.String(), Type.Unknown(), { description: 'Arguments of the service registry.' })),
  },
  { additionalProperties: false, description: 'A group of nodes that answer the same requests.' },
)

export type UpstreamResource = Static<typeof upstreamSchema>
