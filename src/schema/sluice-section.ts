/** Schema of the `sluice:` section: what concerns the process. `controlplane/validate-process` turns it into ProcessConfig. */
import { type Static, Type } from '@sinclair/typebox'
import { adminSchema } from './admin-section.js'
import { oneOf } from './common.js'
import { socketAddress } from './socket-address.js'
import { storeSchema } from './store-section.js'

const bytes = (description: string, fallback: number, minimum = 1) =>
  Type.Optional(Type.Integer({ minimum, maximum: Number.MAX_SAFE_INTEGER, default: fallback, description }))

const count = (description: string, fallback: number, maximum: number) =>
  Type.Optional(Type.Integer({ minimum: 1, maximum, default: fallback, description }))

const seconds = (description: string, fallback: number, minimum = 0.001) =>
  Type.Optional(Type.Number({ minimum, maximum: 86_400, default: fallback, description }))

const listener = Type.Union(
  [
    socketAddress('Address of a plain HTTP listener:'),
    Type.Object(
      {
        listen: socketAddress('Address:'),
        proxy_protocol: Type.Optional(
          Type.Boolean({
            default: false,
            description:
              'Take the client address from a PROXY protocol v2 header, which every connection must then begin with. With `real_ip.trusted_addresses` it is believed only from these.',
          }),
        ),
        tls: Type.Optional(
          Type.Object(
            {
              cert: Type.Optional(
                Type.String({
                  minLength: 1,
                  description:
                    'File of the default certificate with its chain, PEM; relative to the configuration file. Absent: only the certificates of `ssls`.',
                }),
              ),
              key: Type.Optional(Type.String({ minLength: 1, description: 'File of its private key, PEM.' })),
            },
            { additionalProperties: false, description: 'Makes this a TLS listener (TLS 1.2 and 1.3).' },
          ),
        ),
        kind: Type.Optional(
          oneOf(['tcp', 'uws', 'node'], {
            description:
              'What serves it. `tcp`: our own HTTP/1 parser on the sockets of Node, the fastest, on all workers; plain HTTP on IP addresses of Linux (x64, arm64) only, without PROXY protocol. `uws`: uWebSockets.js, HTTP/1.1, on all workers. `node`: the HTTP parsers of Node, for HTTP/2 and HTTP/1.0 on TLS; slower, and on worker 0 only. Default: `tcp` where that can serve it, else `uws`.',
          }),
        ),
        http2: Type.Optional(
          Type.Boolean({
            description:
              'HTTP/2 besides HTTP/1 (`kind: node`): by ALPN with `tls`, else by prior knowledge (h2c). Default: on with `tls`, off without.',
          }),
        ),
      },
      { additionalProperties: false },
    ),
  ],
  { description: 'One listener: an address, or an object with `listen` and its options.' },
)

export const sluiceSchema = Type.Object(
  {
    workers: Type.Optional(
      Type.Integer({ minimum: 0, maximum: 512, default: 0, description: 'Worker threads; 0 = the cores available to the process.' }),
    ),
    accept: Type.Optional(
      oneOf(['auto', 'primary', 'kernel'], {
        default: 'auto',
        description: 'Who spreads connections over workers: the primary thread, or the kernel (SO_REUSEPORT).',
      }),
    ),
    listeners: Type.Optional(Type.Array(listener, { minItems: 1, description: 'Where clients connect. Default `0.0.0.0:9080`.' })),
    admin: Type.Optional(adminSchema),
    metrics: Type.Optional(
      Type.Object(
        {
          enabled: Type.Optional(Type.Boolean({ default: true, description: 'false = no metrics and status server.' })),
          listen: Type.Optional(socketAddress('Address of `/metrics`, `/status` and `/v1/*`. Default `127.0.0.1:9091`.')),
        },
        { additionalProperties: false, description: 'The metrics and status server.' },
      ),
    ),
    limits: Type.Optional(
      Type.Object(
        {
          max_header_size: bytes('All header fields of a request together, bytes; more is 431.', 65_536, 256),
          max_header_count: count(
            'Header fields of a request; more is 431. The registry build of uWebSockets.js gives no answer beyond 48.',
            48,
            1_000,
          ),
          max_target_size: bytes('Request target, bytes; more is 414.', 16_384, 16),
          max_body_size: bytes('Request body, bytes; more is 413. 0 = no limit.', 0, 0),
          max_buffered_size: bytes(
            'Bytes of a body held in memory for one request: collected, or waiting for a slow peer.',
            1_048_576,
            16_384,
          ),
          max_connections: count('Client connections of the process.', 65_536, 10_000_000),
          body_timeout: seconds('Seconds without a byte of a request body before 408.', 60),
          send_timeout: seconds('Seconds in which the client takes nothing of a response before it is closed.', 60),
          max_response_header_size: bytes('Header block of an upstream response, bytes; more is 502.', 65_536, 256),
        },
        { additionalProperties: false, description: 'Bounds of what a client or upstream may use.' },
      ),
    ),
    log: Type.Optional(
      Type.Object(
        {
          level: Type.Optional(
            oneOf(['debug', 'info', 'warn', 'error', 'silent'], {
              default: 'info',
              description: 'Least level of the process log (stderr).',
            }),
          ),
          access: Type.Optional(
            Type.Object(
              {
                format: Type.Optional(oneOf(['off', 'common', 'json'], { default: 'off', description: 'Form of the access log.' })),
                path: Type.Optional(
                  Type.String({ minLength: 1, default: 'stdout', description: 'File, relative to the configuration file, or `stdout`.' }),
                ),
              },
              { additionalProperties: false, description: 'One line per request.' },
            ),
          ),
        },
        { additionalProperties: false, description: 'Logs.' },
      ),
    ),
    plugins: Type.Optional(
      Type.Array(Type.String({ minLength: 1 }), {
        uniqueItems: true,
        description: 'Module files of user plugins, relative to the configuration file.',
      }),
    ),
    real_ip: Type.Optional(
      Type.Object(
        {
          trusted_addresses: Type.Optional(
            Type.Array(Type.String({ minLength: 1 }), {
              default: [],
              description: 'Peers (addresses, CIDR blocks) whose forwarding headers are believed. Empty = nobody.',
            }),
          ),
          header: Type.Optional(
            Type.String({
              minLength: 1,
              maxLength: 256,
              pattern: "^[0-9A-Za-z!#$%&'*+.^_`|~-]+$",
              default: 'x-forwarded-for',
              description: 'Header that names the client.',
            }),
          ),
          recursive: Type.Optional(
            Type.Boolean({
              default: false,
              description: 'Walk the list from the right past trusted addresses instead of taking the last one.',
            }),
          ),
        },
        { additionalProperties: false, description: 'How the address of the client is found behind proxies.' },
      ),
    ),
    error_format: Type.Optional(
      oneOf(['apisix', 'kong'], {
        default: 'apisix',
        description:
          'Form of the answers that the gateway gives when something is wrong. `kong` is the default for Kong declarative files.',
      }),
    ),
    router: Type.Optional(
      Type.Object(
        {
          mode: Type.Optional(
            oneOf(['radixtree_host_uri', 'radixtree_uri', 'radixtree_uri_with_parameter', 'priority'], {
              default: 'radixtree_host_uri',
              description:
                'Host first, path only, path with `:name` parameters, or `priority`: of all routes that match the one with the highest ' +
                '`priority`, then the longest pattern (Kong files use this).',
            }),
          ),
          encoded_slash: Type.Optional(
            oneOf(['keep', 'reject', 'decode'], {
              default: 'keep',
              description: 'What `%2F` in a path becomes: three characters, 400, or `/` for matching and upstream alike.',
            }),
          ),
          double_slash: Type.Optional(
            oneOf(['merge', 'keep', 'reject'], {
              default: 'merge',
              description: 'What `//` in a path becomes: one slash, itself, or 400.',
            }),
          ),
          delete_uri_tail_slash: Type.Optional(Type.Boolean({ default: false, description: 'Match `/a/` as `/a`.' })),
          normalize_uri_like_servlet: Type.Optional(
            Type.Boolean({ default: false, description: 'Strip `;parameters` of segments before matching.' }),
          ),
        },
        { additionalProperties: false, description: 'How paths are read and matched.' },
      ),
    ),
    dns: Type.Optional(
      Type.Object(
        {
          servers: Type.Optional(
            Type.Array(Type.String({ minLength: 1 }), {
              default: [],
              description: 'Resolvers as `address` or `address:port`; empty = those of the system.',
            }),
          ),
          ttl: Type.Optional(
            Type.Number({
              minimum: 0,
              maximum: 86_400,
              default: 0,
              description: 'Seconds that replace the TTL of answers; 0 = honour them (at least 1 s).',
            }),
          ),
          timeout: seconds('Seconds to wait for an answer.', 5),
        },
        { additionalProperties: false, description: 'How names of nodes are resolved.' },
      ),
    ),
    drain_timeout: Type.Optional(
      Type.Number({ minimum: 0, maximum: 86_400, default: 30, description: 'Seconds for requests in flight after SIGTERM.' }),
    ),
    trust_identity_headers: Type.Optional(
      Type.Boolean({
        default: false,
        description: 'Let identity headers of clients (`X-Consumer-*`, …) pass. Only behind another gateway that sets them.',
      }),
    ),
    redis: Type.Optional(
      Type.Union(
        [
          Type.String({ minLength: 1, description: 'URL: see `url`.' }),
          Type.Object(
            {
              url: Type.String({
                minLength: 1,
                description:
                  '`redis://[user:password@]host[:port][/database]`, `rediss://…` for TLS; `redis+cluster://host:port,host:port` for a cluster, `redis+sentinel://host:port,host:port/master-name[/database]` for Sentinel.',
              }),
              timeout: seconds('Seconds to wait for an answer before the failure policy of the limit applies.', 1, 0.001),
              tls_verify: Type.Optional(Type.Boolean({ default: true, description: 'With TLS: check the certificate of the server.' })),
              tls_server_name: Type.Optional(Type.String({ minLength: 1, description: 'With TLS: name expected in the certificate.' })),
              sentinel_username: Type.Optional(Type.String({ minLength: 1, description: 'User name for the sentinels themselves.' })),
              sentinel_password: Type.Optional(Type.String({ minLength: 1, description: 'Password for the sentinels themselves.' })),
            },
            { additionalProperties: false },
          ),
        ],
        { description: 'Redis for limits whose own options name no server.' },
      ),
    ),
    store: Type.Optional(storeSchema),
    rate_limit_table: Type.Optional(
      Type.Object(
        {
          keys: count(
            'Live keys of local rate limits for which there is room, one per key and rule; memory (32 bytes a key) is taken as they come.',
            1_000_000,
            80_000_000,
          ),
        },
        { additionalProperties: false, description: 'The table of local rate limits, shared by all workers.' },
      ),
    ),
    overload: Type.Optional(
      Type.Object(
        {
          max_lag: Type.Optional(
            Type.Number({
              minimum: 0,
              maximum: 60,
              default: 0,
              description: 'Seconds by which the event loop of a worker may be late before it refuses requests. 0 = does not matter.',
            }),
          ),
          max_memory: Type.Optional(
            Type.Integer({
              minimum: 0,
              maximum: Number.MAX_SAFE_INTEGER,
              default: 0,
              description:
                'Bytes of resident memory that the process should stay under: requests are refused from nine tenths on. 0 = does not matter.',
            }),
          ),
          retry_after: Type.Optional(
            Type.Integer({ minimum: 1, maximum: 86_400, default: 1, description: 'Seconds in the `Retry-After` of these refusals.' }),
          ),
        },
        {
          additionalProperties: false,
          description:
            'Answers 503 at once instead of beginning what cannot be finished. The label `priority` of a route (low, normal, high, critical; default normal) says whose requests are refused first; critical ones never are.',
        },
      ),
    ),
    breakers: Type.Optional(
      Type.Object(
        {
          webhook: Type.Optional(
            Type.Object(
              {
                url: Type.String({
                  pattern: '^https?://[^\\s]+$',
                  maxLength: 2000,
                  description: 'Where each change of a breaker is sent to, as a POST with a JSON object.',
                }),
                timeout: seconds('Seconds to wait for the answer; three tries.', 5, 0.01),
                headers: Type.Optional(
                  Type.Record(Type.String({ pattern: "^[0-9A-Za-z!#$%&'*+.^_`|~-]+$" }), Type.String({ pattern: '^[\\x20-\\x7e]*$' }), {
                    description: 'Further request headers, such as `Authorization`.',
                  }),
                ),
              },
              { additionalProperties: false, description: 'Tells changes of state to another service.' },
            ),
          ),
        },
        { additionalProperties: false, description: 'Circuit breakers.' },
      ),
    ),
    gateway_nodes: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 100_000,
        default: 1,
        description: 'How many gateways serve the same traffic. Only for checks: with more than one, local limits are warned about.',
      }),
    ),
    parallel_gc: Type.Optional(
      Type.Boolean({
        default: false,
        description:
          'Let helper threads of V8 take part when the young objects of a thread are collected. Hardly any of them survive in a gateway, so there is nothing to help with, and a worker waits until its helpers got a core.',
      }),
    ),
    secrets: Type.Optional(
      Type.Object(
        {
          directory: Type.Optional(
            Type.String({
              minLength: 1,
              default: '/run/secrets',
              description: 'Directory of the files that `$secret://file/…` names; relative to the configuration file.',
            }),
          ),
          references_only: Type.Optional(
            Type.Boolean({
              default: false,
              description: 'Refuse credentials whose secrets stand in the file itself instead of being references.',
            }),
          ),
        },
        { additionalProperties: false, description: 'Secrets that options of plugins refer to: `$env://NAME` and `$secret://file/path`.' },
      ),
    ),
    pid_file: Type.Optional(Type.String({ minLength: 1, description: 'File for the process id, relative to the configuration file.' })),
  },
  { additionalProperties: false, description: 'Settings of the process.' },
)

export type SluiceSection = Static<typeof sluiceSchema>
