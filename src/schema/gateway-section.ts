/**
 * The keys of the reference gateway's own `config.yaml` that are honoured. They mean the same as the matching `sluice:` key, which wins
 * when both are there. Keys that the reference knows and we do not are listed, so that they are refused by name.
 */
import { type Static, Type } from '@sinclair/typebox'
import { LATENCY_BOUNDS_MAX } from '../base/latency-buckets.js'
import { oneOf } from './common.js'

const port = Type.Integer({ minimum: 0, maximum: 65_535 })

const nodeListen = Type.Object(
  {
    ip: Type.Optional(Type.String({ minLength: 1, default: '0.0.0.0', description: 'Address to listen on.' })),
    port: Type.Optional(Type.Integer({ minimum: 0, maximum: 65_535, default: 9080, description: 'Port to listen on.' })),
    enable_http2: Type.Optional(Type.Boolean({ default: false, description: 'HTTP/2: not supported yet.' })),
  },
  { additionalProperties: false },
)

const sslListen = Type.Object(
  {
    ip: Type.Optional(Type.String({ minLength: 1, default: '0.0.0.0', description: 'Address to listen on.' })),
    port: Type.Optional(Type.Integer({ minimum: 0, maximum: 65_535, default: 9443, description: 'Port to listen on.' })),
    enable_http2: Type.Optional(Type.Boolean({ default: false, description: 'HTTP/2: not supported yet.' })),
  },
  { additionalProperties: false },
)

export const apisixSchema = Type.Object(
  {
    node_listen: Type.Optional(
      Type.Union([port, Type.Array(Type.Union([port, nodeListen]), { minItems: 1 })], {
        description: 'Plain listeners: a port, or a list of ports or `{ip, port}`.',
      }),
    ),
    ssl: Type.Optional(
      Type.Object(
        {
          enable: Type.Optional(Type.Boolean({ default: true, description: 'Open the TLS listeners.' })),
          listen: Type.Optional(
            Type.Array(Type.Union([port, sslListen]), {
              minItems: 1,
              description: 'TLS listeners; certificates come from `ssls`. Default port 9443.',
            }),
          ),
        },
        { additionalProperties: false, description: 'TLS listeners.' },
      ),
    ),
    router: Type.Optional(
      Type.Object(
        {
          http: Type.Optional(
            oneOf(['radixtree_host_uri', 'radixtree_uri', 'radixtree_uri_with_parameter'], {
              default: 'radixtree_host_uri',
              description: 'As `sluice.router.mode`.',
            }),
          ),
        },
        { additionalProperties: false, description: 'Router.' },
      ),
    ),
    trusted_addresses: Type.Optional(
      Type.Array(Type.String({ minLength: 1 }), { minItems: 1, description: 'As `sluice.real_ip.trusted_addresses`.' }),
    ),
    delete_uri_tail_slash: Type.Optional(Type.Boolean({ default: false, description: 'As `sluice.router.delete_uri_tail_slash`.' })),
    normalize_uri_like_servlet: Type.Optional(
      Type.Boolean({ default: false, description: 'As `sluice.router.normalize_uri_like_servlet`.' }),
    ),
    data_encryption: Type.Optional(
      Type.Object(
        {
          enable_encrypt_fields: Type.Optional(
            Type.Boolean({ default: true, description: 'Encrypt also the fields of plugins that the reference gateway encrypts.' }),
          ),
          keyring: Type.Optional(
            Type.Union(
              [
                Type.String({ minLength: 16, maxLength: 16 }),
                Type.Array(Type.String({ minLength: 16, maxLength: 16 }), { minItems: 1, maxItems: 16 }),
              ],
              {
                default: ['qeddd145sfvddff3', 'edd1c9f0985e76a2'],
                description: 'Keys of 16 characters: the first one encrypts, all are tried for decrypting.',
              },
            ),
          ),
        },
        { additionalProperties: false, description: 'How secrets are encrypted in etcd.' },
      ),
    ),
    match_uri_encoded_slash: Type.Optional(Type.Boolean({ description: 'true = `sluice.router.encoded_slash: keep`, false = `decode`.' })),
  },
  { additionalProperties: false, description: 'Settings under the name that the reference gateway gives them.' },
)

const duration = (description: string) =>
  Type.Union([Type.Number({ minimum: 0.001 }), Type.String({ pattern: '^\\d+(\\.\\d+)?(ms|s|m|h)?$' })], { description })

export const nginxSchema = Type.Object(
  {
    worker_processes: Type.Optional(
      Type.Union([Type.Literal('auto'), Type.Integer({ minimum: 1, maximum: 512 })], { description: 'As `sluice.workers`.' }),
    ),
    http: Type.Optional(
      Type.Object(
        {
          client_max_body_size: Type.Optional(
            Type.Union([Type.Integer({ minimum: 0 }), Type.String({ pattern: '^\\d+[kKmMgG]?$' })], {
              description: 'As `sluice.limits.max_body_size`; `k`, `m`, `g` are understood.',
            }),
          ),
          client_body_timeout: Type.Optional(duration('As `sluice.limits.body_timeout`; seconds, or with a unit.')),
          send_timeout: Type.Optional(duration('As `sluice.limits.send_timeout`; seconds, or with a unit.')),
          real_ip_header: Type.Optional(Type.String({ minLength: 1, description: 'As `sluice.real_ip.header`.' })),
          real_ip_recursive: Type.Optional(oneOf(['on', 'off'], { description: 'As `sluice.real_ip.recursive`.' })),
          real_ip_from: Type.Optional(Type.Array(Type.String({ minLength: 1 }), { description: 'As `sluice.real_ip.trusted_addresses`.' })),
        },
        { additionalProperties: false, description: 'HTTP settings.' },
      ),
    ),
  },
  { additionalProperties: false, description: 'Settings under the name that the reference gateway gives them.' },
)

const etcdSchema = Type.Object(
  {
    host: Type.Array(Type.String({ minLength: 1, maxLength: 300 }), {
      minItems: 1,
      description: 'URLs of the members of etcd (version 3.4 or later), such as `http://127.0.0.1:2379`.',
    }),
    prefix: Type.Optional(
      Type.String({ pattern: '^/[^\\s]*[^/\\s]$', default: '/apisix', description: 'What the keys of all resources begin with.' }),
    ),
    timeout: Type.Optional(Type.Number({ minimum: 0.1, maximum: 300, default: 5, description: 'Seconds to wait for an answer.' })),
    user: Type.Optional(Type.String({ minLength: 1, description: 'User of etcd.' })),
    password: Type.Optional(Type.String({ description: 'Password of the user.' })),
    tls: Type.Optional(
      Type.Object(
        {
          cert: Type.Optional(Type.String({ minLength: 1, description: 'Certificate of this gateway, PEM file.' })),
          key: Type.Optional(Type.String({ minLength: 1, description: 'Private key of the certificate, PEM file.' })),
          ca: Type.Optional(Type.String({ minLength: 1, description: 'Authorities that sign certificates of etcd, PEM file.' })),
          verify: Type.Optional(Type.Boolean({ default: true, description: 'Check the certificate of etcd.' })),
          sni: Type.Optional(Type.String({ minLength: 1, description: 'Name expected in the certificate of etcd.' })),
        },
        { additionalProperties: false, description: 'For `https` hosts.' },
      ),
    ),
  },
  {
    additionalProperties: false,
    description:
      'Where etcd is. Resources come from it with `config_provider: etcd`, without a provider, or with `sluice.store.type: etcd`.',
  },
)

export const deploymentSchema = Type.Object(
  {
    role: Type.Optional(
      oneOf(['data_plane', 'traditional', 'control_plane'], {
        description: '`traditional` and `data_plane` are the same here; `control_plane` is not supported yet.',
      }),
    ),
    role_data_plane: Type.Optional(
      Type.Object(
        { config_provider: oneOf(['yaml', 'json', 'etcd'], { description: 'Where resources come from: this file, or etcd.' }) },
        { additionalProperties: false, description: 'Source of the resources.' },
      ),
    ),
    role_traditional: Type.Optional(
      Type.Object(
        { config_provider: oneOf(['yaml', 'json', 'etcd'], { description: 'Where resources come from: this file, or etcd.' }) },
        { additionalProperties: false, description: 'Source of the resources.' },
      ),
    ),
    etcd: Type.Optional(etcdSchema),
    admin: Type.Optional(
      Type.Object(
        {
          admin_key: Type.Optional(
            Type.Array(
              Type.Object(
                {
                  name: Type.String({ minLength: 1, description: 'Name of the key.' }),
                  key: Type.String({ minLength: 1, description: 'The secret.' }),
                  role: Type.Optional(oneOf(['admin', 'viewer'], { default: 'admin', description: 'What the key may do.' })),
                },
                { additionalProperties: false },
              ),
              { minItems: 1, description: 'As `sluice.admin.keys`.' },
            ),
          ),
          admin_listen: Type.Optional(
            Type.Object(
              {
                ip: Type.Optional(Type.String({ minLength: 1, default: '127.0.0.1', description: 'Address.' })),
                port: Type.Optional(Type.Integer({ minimum: 0, maximum: 65_535, default: 9180, description: 'Port.' })),
              },
              { additionalProperties: false, description: 'As `sluice.admin.listen`.' },
            ),
          ),
          allow_admin: Type.Optional(Type.Array(Type.String({ minLength: 1 }), { description: 'As `sluice.admin.allow`; empty = all.' })),
          enable_admin_cors: Type.Optional(
            Type.Boolean({ default: false, description: 'true = as `sluice.admin.origins` with `*`: the key still protects it.' }),
          ),
          admin_key_required: Type.Optional(Type.Literal(true, { description: 'A key is always required.' })),
          https_admin: Type.Optional(Type.Boolean({ default: false, description: 'Serve HTTPS, with the files in `admin_api_mtls`.' })),
          admin_api_mtls: Type.Optional(
            Type.Object(
              {
                admin_ssl_cert: Type.Optional(Type.String({ description: 'As `sluice.admin.tls.cert`.' })),
                admin_ssl_cert_key: Type.Optional(Type.String({ description: 'As `sluice.admin.tls.key`.' })),
                admin_ssl_ca_cert: Type.Optional(Type.String({ description: 'As `sluice.admin.tls.client_ca`.' })),
              },
              { additionalProperties: false, description: 'As `sluice.admin.tls`.' },
            ),
          ),
        },
        { additionalProperties: false, description: 'Admin server.' },
      ),
    ),
  },
  { additionalProperties: false, description: 'Settings under the name that the reference gateway gives them.' },
)

/** Settings of `plugin_attr`: by plugin. */
/** Where the metrics page is. */
const metricsPaths = ['/apisix/prometheus/metrics', '/metrics'] as const

export const prometheusAttributes = Type.Object(
  {
    export_uri: Type.Optional(oneOf(metricsPaths, { default: metricsPaths[0], description: 'Path of the page; it is served at both.' })),
    export_addr: Type.Optional(
      Type.Object(
        {
          ip: Type.Optional(Type.String({ minLength: 1, default: '127.0.0.1', description: 'Address of the metrics and status server.' })),
          port: Type.Optional(Type.Integer({ minimum: 0, maximum: 65_535, default: 9091, description: 'Its port.' })),
        },
        { additionalProperties: false, description: 'Where it is served, unless `sluice.metrics` says so.' },
      ),
    ),
    enable_export_server: Type.Optional(
      Type.Literal(true, { description: 'The page has a server of its own: `sluice.metrics.enabled` turns that off.' }),
    ),
    metric_prefix: Type.Optional(
      Type.Literal('apisix_', { description: 'Beginning of the names; what APISIX does not have begins with `gateway_`.' }),
    ),
    refresh_interval: Type.Optional(
      Type.Number({ exclusiveMinimum: 0, description: 'No effect: the page shows the values of the moment.' }),
    ),
    default_buckets: Type.Optional(
      Type.Array(Type.Number({ exclusiveMinimum: 0 }), {
        minItems: 1,
        maxItems: LATENCY_BOUNDS_MAX,
        description: 'Bounds of `apisix_http_latency`, ascending. Unset: those of APISIX, 1 to 60000 ms.',
      }),
    ),
    latency_unit: Type.Optional(
      Type.Union([Type.Literal('auto'), Type.Literal('ms')], {
        default: 'auto',
        description:
          'Unit of `default_buckets`. `auto`: a list with a value below 1 is in seconds, any other in milliseconds; `ms`: milliseconds, as in APISIX. The metric itself is in milliseconds.',
      }),
    ),
  },
  { additionalProperties: false, description: 'Attributes of prometheus.' },
)

/** Attributes that are accepted and have no effect, with the reason. */
export const idleAttributes: { readonly [plugin: string]: { readonly [name: string]: string } } = {
  prometheus: {
    refresh_interval: 'the page shows the values of the moment',
  },
}

export const pluginAttrSchema = Type.Object(
  {
    prometheus: Type.Optional(prometheusAttributes),
    redirect: Type.Optional(
      Type.Object(
        {
          https_port: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535, description: 'Port in the Location of `http_to_https`.' })),
        },
        { additionalProperties: false, description: 'Attributes of redirect.' },
      ),
    ),
  },
  { additionalProperties: true, description: 'Attributes of plugins that hold for the whole process.' },
)

/** Keys below these sections that the reference gateway knows, or the design plans, and that are not honoured yet: refused by name. */
export const unsupportedKeys: { readonly [section: string]: readonly string[] } = {
  sluice: ['redis'],
  apisix: [
    'proxy_mode',
    'stream_proxy',
    'proxy_cache',
    'enable_control',
    'control',
    'status',
    'enable_admin',
    'enable_server_tokens',
    'enable_ipv6',
    'dns_resolver',
    'dns_resolver_valid',
    'resolver_timeout',
    'enable_resolv_search_opt',
    'extra_lua_path',
    'extra_lua_cpath',
    'lua_module_hook',
    'disable_sync_configuration_during_start',
    'show_upstream_status_in_response_header',
    'events',
    'tracing',
    'proxy_protocol',
    'max_post_args_size',
    'enable_reuseport',
    'id',
    'normalize_uri',
    'lru',
  ],
  'apisix.ssl': ['ssl_protocols', 'ssl_ciphers', 'ssl_session_tickets', 'ssl_trusted_certificate', 'fallback_sni', 'key_encrypt_salt'],
  'apisix.router': ['ssl'],
  nginx_config: [
    'user',
    'error_log',
    'error_log_level',
    'worker_rlimit_nofile',
    'worker_rlimit_core',
    'worker_shutdown_timeout',
    'max_pending_timers',
    'max_running_timers',
    'event',
    'stream',
    'meta',
    'enable_cpu_affinity',
    'main_configuration_snippet',
    'http_configuration_snippet',
    'http_server_configuration_snippet',
    'http_server_location_configuration_snippet',
    'http_admin_configuration_snippet',
    'http_end_configuration_snippet',
    'stream_configuration_snippet',
    'envs',
  ],
  'nginx_config.http': [
    'enable_access_log',
    'access_log',
    'access_log_buffer',
    'access_log_format',
    'access_log_format_escape',
    'keepalive_timeout',
    'client_header_timeout',
    'underscores_in_headers',
    'proxy_ssl_server_name',
    'upstream',
    'charset',
    'variables_hash_max_size',
    'lua_shared_dict',
    'custom_lua_shared_dict',
    'keepalive_requests',
  ],
  deployment: ['role_control_plane', 'certs', 'config_provider'],
  'deployment.etcd': ['startup_retry', 'resync_delay', 'health_check_timeout', 'health_check_retry', 'watch_timeout', 'use_grpc'],
  'deployment.admin': ['admin_api_version', 'enable_admin_ui'],
}

export type ApisixSection = Static<typeof apisixSchema>
export type NginxSection = Static<typeof nginxSchema>
export type DeploymentSection = Static<typeof deploymentSchema>
