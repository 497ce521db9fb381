/**
 * Plugins of Kong in our words. A plugin of the same name here takes Kong's options as they are; others are translated; what has no
 * counterpart is an error that says so. Kong's defaults that differ from ours are written out.
 */

import { type Static, type TObject, type TSchema, Type } from '@sinclair/typebox'
import type { PluginRegistry } from '../../plugins/registry.js'
import { knownPlugins } from '../../schema/known-plugins.js'
import type { DocumentPath, IssueList } from '../load-issue.js'
import { suggest } from '../suggest.js'
import { checkSchema } from '../validate-schema.js'
import type { ScopedPlugin } from './entity-kinds.js'
import { literalPattern } from './kong-text.js'
import type { Origins } from './origins.js'

type Conf = { readonly [name: string]: unknown }
type Fields = { [name: string]: unknown }

export interface ImportedPlugin {
  readonly name: string
  readonly conf: Fields
}

interface Translation {
  readonly to: string
  readonly schema: TObject
  readonly conf: (conf: Conf, at: DocumentPath, issues: IssueList) => Fields
}

/** Plugins that read the options of Kong themselves. */
export const sameNamedPlugins: readonly string[] = ['acl', 'basic-auth', 'jwt', 'key-auth', 'rate-limiting', 'rate-limiting-advanced']

const texts = Type.Array(Type.String())
const optional = <T extends TSchema>(schema: T) => Type.Optional(schema)

function translate<T extends TObject>(
  to: string,
  schema: T,
  conf: (conf: Static<T>, at: DocumentPath, issues: IssueList) => Fields,
): Translation {
  return { to, schema, conf: (value, at, issues) => conf(value as Static<T>, at, issues) }
}

const corsSchema = Type.Object(
  {
    origins: optional(texts),
    methods: optional(texts),
    headers: optional(texts),
    exposed_headers: optional(texts),
    max_age: optional(Type.Number()),
    credentials: optional(Type.Boolean()),
    preflight_continue: optional(Type.Boolean()),
    private_network: optional(Type.Boolean()),
    allow_origin_absent: optional(Type.Boolean()),
  },
  { additionalProperties: false },
)

const kongMethods = ['GET', 'HEAD', 'PUT', 'PATCH', 'POST', 'DELETE', 'OPTIONS', 'TRACE', 'CONNECT']
const plainOrigin = /^(\*|null|\w+:\/\/[^,\s*()[\]{}^$|\\?+]+)$/

function cors(conf: Static<typeof corsSchema>, at: DocumentPath, issues: IssueList): Fields {
  if (conf.preflight_continue === true) issues.error([...at, 'preflight_continue'], 'preflight_continue is not supported', 'false')
  if (conf.private_network === true) issues.error([...at, 'private_network'], 'private_network is not supported', 'false')
  const origins = conf.origins ?? ['*']
  const credentials = conf.credentials === true
  const anyOrigin = origins.includes('*')
  return {
    ...(anyOrigin
      ? { allow_origins: credentials ? '**' : '*' }
      : origins.every((origin) => plainOrigin.test(origin))
        ? { allow_origins: origins.join(',') }
        : { allow_origins_by_regex: origins.map((origin) => `^${plainOrigin.test(origin) ? literalPattern(origin) : origin}$`) }),
    allow_methods: (conf.methods ?? kongMethods).join(','),
    // Without a list Kong allows what the preflight request asks for.
    allow_headers: conf.headers === undefined || conf.headers.length === 0 ? '**' : conf.headers.join(','),
    ...(conf.exposed_headers !== undefined && conf.exposed_headers.length > 0 && { expose_headers: conf.exposed_headers.join(',') }),
    max_age: conf.max_age === undefined ? -1 : Math.trunc(conf.max_age),
    allow_credential: credentials,
  }
}

const sizeUnits: { readonly [unit: string]: number } = { megabytes: 1024 * 1024, kilobytes: 1024, bytes: 1 }

const translations: { readonly [name: string]: Translation } = {
  cors: translate('cors', corsSchema, cors),
  'ip-restriction': translate(
    'ip-restriction',
    Type.Object(
      { allow: optional(texts), deny: optional(texts), status: optional(Type.Integer()), message: optional(Type.String()) },
      { additionalProperties: false },
    ),
    (conf, at, issues) => {
      if (conf.allow !== undefined && conf.deny !== undefined) issues.error(at, 'allow and deny together are not supported', 'one of them')
      if (conf.status !== undefined && conf.status !== 403 && conf.status !== 404) {
        issues.error([...at, 'status'], `status ${conf.status} is not supported`, '403 or 404')
      }
      return {
        ...(conf.allow !== undefined ? { whitelist: conf.allow } : { blacklist: conf.deny }),
        message: conf.message ?? 'Your IP address is not allowed',
        ...(conf.status !== undefined && { response_code: conf.status }),
      }
    },
  ),
  'correlation-id': translate(
    'request-id',
    Type.Object(
      { header_name: optional(Type.String()), generator: optional(Type.String()), echo_downstream: optional(Type.Boolean()) },
      { additionalProperties: false },
    ),
    (conf, at, issues) => {
      const generator = conf.generator ?? 'uuid#counter'
      if (generator === 'tracker') issues.error([...at, 'generator'], 'generator tracker is not supported', 'uuid')
      else if (generator !== 'uuid')
        issues.warn([...at, 'generator'], `generator ${generator} becomes uuid: every id is a UUID of its own`, 'uuid')
      return { header_name: conf.header_name ?? 'Kong-Request-ID', include_in_response: conf.echo_downstream ?? false, algorithm: 'uuid' }
    },
  ),
  'request-size-limiting': translate(
    'client-control',
    Type.Object(
      {
        allowed_payload_size: optional(Type.Integer({ minimum: 0 })),
        size_unit: optional(Type.Unsafe<string>({ type: 'string', enum: Object.keys(sizeUnits) })),
        require_content_length: optional(Type.Boolean()),
      },
      { additionalProperties: false },
    ),
    (conf, at, issues) => {
      if (conf.require_content_length === true)
        issues.error([...at, 'require_content_length'], 'require_content_length is not supported', 'false')
      return { max_body_size: (conf.allowed_payload_size ?? 128) * (sizeUnits[conf.size_unit ?? 'megabytes'] ?? 1) }
    },
  ),
  'request-termination': translate(
    'fault-injection',
    Type.Object(
      {
        status_code: optional(Type.Integer({ minimum: 200, maximum: 599 })),
        message: optional(Type.String()),
        body: optional(Type.String()),
        content_type: optional(Type.String()),
        echo: optional(Type.Boolean()),
        trigger: optional(Type.String()),
      },
      { additionalProperties: false },
    ),
    (conf, at, issues) => {
      for (const field of ['echo', 'trigger'] as const) {
        if (conf[field] !== undefined && conf[field] !== false) issues.error([...at, field], `${field} is not supported`, `no ${field}`)
      }
      const body = conf.body ?? JSON.stringify({ message: conf.message ?? 'Service unavailable' })
      const type = conf.body === undefined ? 'application/json; charset=utf-8' : (conf.content_type ?? 'application/json; charset=utf-8')
      // `$` begins a variable in the bodies of fault-injection.
      if (body.includes('$')) issues.error(at, 'a $ in the body is not supported', 'a text without $')
      return { abort: { http_status: conf.status_code ?? 503, body, headers: { 'Content-Type': type } } }
    },
  ),
}

/** Plugins of ours that are Kong's only when an option of Kong says so: this one, with its default, does. */
const kongMarks: { readonly [name: string]: Fields } = { 'key-auth': { run_on_preflight: true }, 'basic-auth': { run_on_preflight: true } }

/**
 * Our plugin for one of Kong, or null with an issue. `registry`: the plugins that exist here. `consumerNames`: by their ids, which
 * `anonymous` may hold instead.
 */
export function importPlugin(
  plugin: ScopedPlugin,
  registry: PluginRegistry,
  consumerNames: ReadonlyMap<unknown, string>,
  origins: Origins,
  issues: IssueList,
): ImportedPlugin | null {
  const { value, path } = plugin
  if (value.ordering !== undefined) issues.error([...path, 'ordering'], 'ordering of plugins is not supported', 'no ordering')
  if (value.condition !== undefined) issues.error([...path, 'condition'], 'condition is not supported', 'no condition')
  const at = [...path, 'config']
  const conf = value.config ?? {}
  const translation = Object.hasOwn(translations, value.name) ? translations[value.name] : undefined
  if (translation !== undefined && registry.get(translation.to) !== undefined) {
    if (!checkSchema<Conf>(translation.schema, conf, at, issues)) return null
    return { name: translation.to, conf: origins.of(at, translation.conf(conf, at, issues)) }
  }
  if (sameNamedPlugins.includes(value.name) && registry.get(value.name) !== undefined) {
    const fields: Fields = { ...kongMarks[value.name], ...conf }
    const anonymous = consumerNames.get(fields['anonymous'])
    if (anonymous !== undefined) fields['anonymous'] = anonymous
    return { name: value.name, conf: origins.of(at, fields) }
  }
  const here = [...sameNamedPlugins, ...Object.keys(translations)]
    .filter((name) => registry.get(translations[name]?.to ?? name) !== undefined)
    .sort()
  const message = knownPlugins.has(value.name)
    ? `plugin ${value.name} is not supported yet`
    : `Kong's plugin ${value.name} has no counterpart here`
  issues.error([...path, 'name'], message, `one of ${here.join(', ')}`, {
    suggestion: suggest(value.name, here),
  })
  return null
}

/** Names of Kong's plugins that are translated, with what they become: for the documentation. */
export function translatedPlugins(): (readonly [string, string])[] {
  return Object.entries(translations).map(([name, { to }]) => [name, to] as const)
}
