/** The table of everything that may stand at the top of a configuration file. One list: validation, documentation and editor schema read it. */
import { type TObject, Type } from '@sinclair/typebox'
import { consumerGroupSchema, consumerSchema, credentialSchema } from './consumer.js'
import { apisixSchema, deploymentSchema, nginxSchema, pluginAttrSchema } from './gateway-section.js'
import { globalRuleSchema, pluginConfigSchema, pluginMetadataSchema, protoSchema, routeSchema, serviceSchema, sslSchema } from './route.js'
import { sluiceSchema } from './sluice-section.js'
import { upstreamSchema } from './upstream.js'

export interface ResourceKind {
  readonly kind: string
  /** One entry, in words: `route`. */
  readonly singular: string
  readonly schema: TObject
  /** false = the shape is checked, and any entry is then refused by name. */
  readonly supported: boolean
}

export const resourceKinds: readonly ResourceKind[] = [
  { kind: 'routes', singular: 'route', schema: routeSchema, supported: true },
  { kind: 'services', singular: 'service', schema: serviceSchema, supported: true },
  { kind: 'upstreams', singular: 'upstream', schema: upstreamSchema, supported: true },
  { kind: 'plugin_configs', singular: 'plugin config', schema: pluginConfigSchema, supported: true },
  { kind: 'global_rules', singular: 'global rule', schema: globalRuleSchema, supported: true },
  { kind: 'plugin_metadata', singular: 'plugin metadata', schema: pluginMetadataSchema, supported: true },
  { kind: 'ssls', singular: 'ssl', schema: sslSchema, supported: true },
  { kind: 'consumers', singular: 'consumer', schema: consumerSchema, supported: true },
  { kind: 'credentials', singular: 'credential', schema: credentialSchema, supported: true },
  { kind: 'consumer_groups', singular: 'consumer group', schema: consumerGroupSchema, supported: true },
  { kind: 'protos', singular: 'proto', schema: protoSchema, supported: false },
]

export interface SectionKind {
  readonly name: string
  readonly schema: TObject
}

export const sectionKinds: readonly SectionKind[] = [
  { name: 'sluice', schema: sluiceSchema },
  { name: 'apisix', schema: apisixSchema },
  { name: 'nginx_config', schema: nginxSchema },
  { name: 'deployment', schema: deploymentSchema },
  { name: 'plugin_attr', schema: pluginAttrSchema },
]

/** The list of enabled plugins: names, or `{name}` objects. */
export const pluginListSchema = Type.Array(
  Type.Union([
    Type.String({ minLength: 1 }),
    Type.Object(
      {
        name: Type.String({ minLength: 1, description: 'Name of the plugin.' }),
        stream: Type.Optional(Type.Boolean({ description: 'Plugin for TCP streams.' })),
      },
      { additionalProperties: false },
    ),
  ]),
  { description: 'Plugins that may be used; absent = all. A plugin that is used but not listed is an error.' },
)

/** Top-level names of the reference gateway that are refused by name. */
export const unsupportedTopLevel: readonly string[] = [
  'stream_routes',
  'secrets',
  'stream_plugins',
  'graphql',
  'discovery',
  'ext-plugin',
  'wasm',
  'xrpc',
  'etcd',
]
