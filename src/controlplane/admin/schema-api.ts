/**
 * What can be configured, for tools:
 *
 *   GET  plugins/list  plugins?all=true  plugins/{name}     PUT plugins/reload
 *   GET  schema/{kind}  schema/plugins/{name}               POST schema/validate/{kind}
 */
import type { AnyPlugin } from '../../plugins/plugin.js'
import type { PluginRegistry } from '../../plugins/registry.js'
import { publishedSchema } from '../../schema/published.js'
import { resourceKinds } from '../../schema/resources.js'
import type { ReloadOutcome } from '../reload.js'
import { type AdminRequest, type Answer, refused } from './answer.js'
import { isMap } from './patch.js'
import { problemAnswer, type ResourceActions } from './resource-api.js'

export interface SchemaActions extends ResourceActions {
  registry(): PluginRegistry
  reload(): Promise<ReloadOutcome>
}

/** Answers a request for `plugins/…` or `schema/…`. */
export async function answerSchemas(
  request: AdminRequest,
  [section, name, more]: readonly string[],
  actions: SchemaActions,
): Promise<Answer> {
  const { method } = request
  if (section === 'schema' && name === 'validate') {
    return method === 'POST' ? validate(request, more ?? '', actions) : refused(404, 'not found')
  }
  if (section === 'plugins' && name === 'reload' && method === 'PUT') return reloadPlugins(actions)
  if (method !== 'GET' && method !== 'HEAD')
    return refused(405, `not supported \`${method}\` method for ${section === 'schema' ? 'schema' : 'plugin'}`)
  const registry = actions.registry()
  if (section === 'schema') return name === 'plugins' ? pluginSchema(registry, more ?? '', request) : kindSchema(name ?? '')
  if (name === 'list') return { status: 200, body: byPriority(registry).map((plugin) => plugin.name) }
  if (name !== undefined) return pluginSchema(registry, name, request)
  if (request.query.get('all') !== 'true') return refused(400, 'not supported; use plugins/list, plugins/{name} or plugins?all=true')
  if (request.query.get('subsystem') === 'stream') return { status: 200, body: {} }
  return { status: 200, body: Object.fromEntries(byPriority(registry).map((plugin) => [plugin.name, describe(plugin)])) }
}

function byPriority(registry: PluginRegistry): AnyPlugin[] {
  return registry.all().sort((a, b) => b.priority - a.priority)
}

function describe(plugin: AnyPlugin): object {
  return {
    priority: plugin.priority,
    version: 1,
    schema: publishedSchema(plugin.schema),
    ...(plugin.credential !== undefined && { type: 'auth', consumer_schema: publishedSchema(plugin.credential.schema) }),
    ...(plugin.metadataSchema !== undefined && { metadata_schema: publishedSchema(plugin.metadataSchema) }),
  }
}

function pluginSchema(registry: PluginRegistry, name: string, { query }: AdminRequest): Answer {
  const plugin = registry.get(name)
  if (plugin === undefined) return refused(404, 'plugin not found in subsystem http')
  const type = query.get('schema_type')
  if (type === 'consumer' || type === 'credential') {
    return plugin.credential === undefined
      ? refused(400, `plugin ${name} has no schema for consumers`)
      : { status: 200, body: publishedSchema(plugin.credential.schema) }
  }
  if (type === 'metadata') {
    return plugin.metadataSchema === undefined
      ? refused(400, `plugin ${name} takes no metadata`)
      : { status: 200, body: publishedSchema(plugin.metadataSchema) }
  }
  return { status: 200, body: publishedSchema(plugin.schema) }
}

/** `route`; `routes` is understood as well. */
function kindSchema(name: string): Answer {
  const found = resourceKinds.find((item) => item.kind === name || item.singular.replaceAll(' ', '_') === name)
  return found === undefined ? refused(400, `not found schema: ${name}`) : { status: 200, body: publishedSchema(found.schema) }
}

async function reloadPlugins(actions: SchemaActions): Promise<Answer> {
  const outcome = await actions.reload()
  return outcome.ok
    ? { status: 200, body: 'done' }
    : refused(400, outcome.errors[0] ?? 'the configuration was refused', { errors: outcome.errors })
}

function validate({ body: text }: AdminRequest, kindName: string, actions: SchemaActions): Answer {
  const found = resourceKinds.find((item) => item.kind === kindName)
  if (found === undefined) return refused(400, `Unsupported resource type: ${kindName}`)
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch {
    return refused(400, text.trim() === '' ? 'missing configurations' : 'invalid request body: not valid JSON')
  }
  if (!isMap(body))
    return refused(400, `invalid configuration: wrong type: expected object, got ${Array.isArray(body) ? 'array' : typeof body}`)
  const answer = problemAnswer(actions.problems(kindName, body, actions.view(), true), kindName, String(body['id'] ?? ''))
  return answer ?? { status: 200, body: null }
}
