/** Schemas of `routes` and `services`, and of the resources that only hold plugins. */
import { type Static, Type } from '@sinclair/typebox'
import { described, host, oneOf, pluginsSchema, reference, timeoutSchema } from './common.js'
import { retryRules } from './resilience.js'
import { upstreamSchema } from './upstream.js'

export const httpMethods = ['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS', 'CONNECT', 'TRACE', 'PURGE'] as const

const uri = Type.String({ minLength: 1, maxLength: 4096 })
const address = Type.String({ minLength: 1, maxLength: 64 })

export const routeSchema = Type.Object(
  {
    ...described,
    uri: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 4096,
        description: 'Path: exact (`/a`), prefix (`/a/*`), or with `:name` segments in router mode radixtree_uri_with_parameter.',
      }),
    ),
    uris: Type.Optional(Type.Array(uri, { minItems: 1, uniqueItems: true, description: 'Several paths; instead of `uri`.' })),
    host: Type.Optional(host('Host name, or `*.example.com` for any depth below; compared in lower case. Absent = any.')),
    hosts: Type.Optional(
      Type.Array(host('Host name.'), { minItems: 1, uniqueItems: true, description: 'Several hosts; instead of `host`.' }),
    ),
    remote_addr: Type.Optional(Type.String({ minLength: 1, maxLength: 64, description: 'Client address or CIDR block. Absent = any.' })),
    remote_addrs: Type.Optional(
      Type.Array(address, { minItems: 1, uniqueItems: true, description: 'Several addresses or blocks; instead of `remote_addr`.' }),
    ),
    methods: Type.Optional(
      Type.Array(oneOf(httpMethods, { description: 'HTTP method.' }), {
        minItems: 0,
        uniqueItems: true,
        description: 'Methods that match; absent or empty = any. A wrong method is no match (404).',
      }),
    ),
    vars: Type.Optional(
      Type.Array(Type.Unknown(), { description: 'Conditions on variables, `[["arg_name", "==", "json"]]`; all must hold.' }),
    ),
    priority: Type.Optional(Type.Integer({ default: 0, description: 'Among routes with the same path pattern the higher wins.' })),
    status: Type.Optional(Type.Union([Type.Literal(0), Type.Literal(1)], { default: 1, description: '1 = in use, 0 = ignored.' })),
    enable_websocket: Type.Optional(Type.Boolean({ default: false, description: 'Let WebSocket upgrades pass.' })),
    plugins: Type.Optional(pluginsSchema),
    plugin_config_id: Type.Optional(reference('plugin_configs')),
    service_id: Type.Optional(reference('services')),
    upstream: Type.Optional(upstreamSchema),
    upstream_id: Type.Optional(reference('upstreams')),
    timeout: Type.Optional(timeoutSchema),
    ...retryRules,
    filter_func: Type.Optional(Type.String({ description: 'Lua function.' })),
    script: Type.Optional(Type.Unknown({ description: 'Lua script.' })),
    script_id: Type.Optional(Type.Unknown({ description: 'Lua script.' })),
  },
  { additionalProperties: false, description: 'Which requests go where, and through which plugins.' },
)

export const serviceSchema = Type.Object(
  {
    ...described,
    plugins: Type.Optional(pluginsSchema),
    upstream: Type.Optional(upstreamSchema),
    upstream_id: Type.Optional(reference('upstreams')),
    hosts: Type.Optional(
      Type.Array(host('Host name.'), {
        minItems: 1,
        uniqueItems: true,
        description: 'Hosts of all routes of this service that name none themselves.',
      }),
    ),
    enable_websocket: Type.Optional(Type.Boolean({ default: false, description: 'Let WebSocket upgrades pass.' })),
    script: Type.Optional(Type.Unknown({ description: 'Lua script.' })),
  },
  { additionalProperties: false, description: "What several routes have in common: plugins, upstream, hosts. A route's own settings win." },
)

export const pluginConfigSchema = Type.Object(
  { ...described, plugins: pluginsSchema },
  {
    additionalProperties: false,
    description:
      'A set of plugins that routes name with `plugin_config_id`. It fills in the plugins which the route lacks, and wins over the service.',
  },
)

export const globalRuleSchema = Type.Object(
  { ...described, plugins: pluginsSchema },
  {
    additionalProperties: false,
    description: 'Plugins that run on every request, also on those that no route matches, before the plugins of the route.',
  },
)

export const protoSchema = Type.Object(
  { ...described, content: Type.String({ minLength: 1, description: 'Text of a .proto file, or base64 of a descriptor set.' }) },
  { additionalProperties: false, description: 'A Protocol Buffers definition.' },
)

export const pluginMetadataSchema = Type.Object(
  { id: Type.String({ minLength: 1, description: 'Name of the plugin.' }) },
  {
    additionalProperties: true,
    description: "Settings of a plugin that hold for all its uses. The fields are those of the plugin's metadata.",
  },
)

export const sslSchema = Type.Object(
  {
    ...described,
    sni: Type.Optional(
      Type.String({ minLength: 1, maxLength: 256, pattern: '^\\*?[0-9a-zA-Z.-]+$', description: 'Server name, or `*.example.com`.' }),
    ),
    snis: Type.Optional(
      Type.Array(Type.String({ minLength: 1, maxLength: 256, pattern: '^\\*?[0-9a-zA-Z.-]+$' }), {
        minItems: 1,
        uniqueItems: true,
        description: 'Several server names; instead of `sni`.',
      }),
    ),
    cert: Type.String({ minLength: 1, description: 'Certificate with its chain, PEM text.' }),
    key: Type.String({ minLength: 1, description: 'Private key, PEM text. Never shown.' }),
    type: Type.Optional(oneOf(['server', 'client'], { default: 'server', description: 'What the certificate is for.' })),
    status: Type.Optional(Type.Union([Type.Literal(0), Type.Literal(1)], { default: 1, description: '1 = in use, 0 = ignored.' })),
    certs: Type.Optional(Type.Array(Type.String(), { description: 'Further certificates.' })),
    keys: Type.Optional(Type.Array(Type.String(), { description: 'Keys of the further certificates.' })),
    client: Type.Optional(Type.Record(Type.String(), Type.Unknown(), { description: 'Verification of client certificates.' })),
    ssl_protocols: Type.Optional(Type.Array(Type.String(), { description: 'TLS versions of this server name.' })),
    validity_start: Type.Optional(Type.Integer({ description: 'Kept, not used: the certificate says it.' })),
    validity_end: Type.Optional(Type.Integer({ description: 'Kept, not used: the certificate says it.' })),
  },
  { additionalProperties: false, description: 'A certificate for server names, used by the TLS listeners.' },
)

export type RouteResource = Static<typeof routeSchema>
export type ServiceResource = Static<typeof serviceSchema>
export type PluginConfigResource = Static<typeof pluginConfigSchema>
export type GlobalRuleResource = Static<typeof globalRuleSchema>
export type SslResource = Static<typeof sslSchema>
export type PluginMetadataResource = Static<typeof pluginMetadataSchema>
