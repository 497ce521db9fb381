/**
 * What tools for Kong ask its Admin API without a database:
 *
 *   GET  /                        who this is
 *   GET  /status                  connections, hash of the configuration
 *   GET  /{entities}[/{id or name}], /{entities}/{id}/{entities below}   of the Kong file in force; pages by `size` and `offset`, `tags`
 *   GET  /config                  the file
 *   POST /config                  replaces all resources by those of a Kong file, as one change; ?check_hash=1, ?flatten_errors=1
 *
 * Other writes are 405, as in Kong. Private keys of certificates are never shown, viewers see no secrets.
 */
import { hostname } from 'node:os'
import { stringify } from 'yaml'
import type { PluginRegistry } from '../../plugins/registry.js'
import { isKongFile } from '../import-kong/import-kong.js'
import { credentialPaths, type KongItem, type KongView, viewOfKong } from '../import-kong/kong-view.js'
import { translateSource } from '../load.js'
import { SourceDocument } from '../load-source.js'
import { readBaseResources } from '../store/base-resources.js'
import { digestOf } from '../store/resource-digest.js'
import type { Mutation, ResourceValue, ResourceView } from '../store/resource-store.js'
import { kongFileKind, storedKinds, withoutSecrets } from './admin-kinds.js'
import { type AdminRequest, type Answer, KONG_VERSION, kongAnswer, kongHeaders } from './answer.js'
import { invalidKongFile, isUuid } from './kong-errors.js'
import { isMap } from './patch.js'
import { done } from './resource-api.js'
import { mutationsBetween } from './resource-set.js'
import type { StandaloneActions } from './standalone-api.js'

export interface KongTraffic {
  readonly requests: number
  readonly inFlight: number
  readonly connections: number
  readonly connectionsAccepted: number
}

export interface KongActions extends StandaloneActions {
  registry(): PluginRegistry
  /** The Kong file that the gateway reads; null = it reads another form. */
  kongFile(): ResourceValue | null
  /** Whether routes are tried in the order that a Kong file is translated to. */
  hasKongOrder(): boolean
}

/** Id under which the file of the last POST is kept. */
const KONG_ID = 'declarative'
const SIZE_MAX = 1_000
const SIZE_DEFAULT = 100

const lists = [
  'services',
  'routes',
  'upstreams',
  'targets',
  'plugins',
  'consumers',
  'consumer_groups',
  'certificates',
  'ca_certificates',
  'snis',
  'acls',
]
const credentialLists = Object.values(credentialPaths).map(([path]) => path)
const known: ReadonlySet<string> = new Set([...lists, ...credentialLists])
/** The field by which entities below another one name it. */
const ownerFields: { readonly [list: string]: string } = {
  services: 'service',
  routes: 'route',
  consumers: 'consumer',
  consumer_groups: 'consumer_group',
  upstreams: 'upstream',
  certificates: 'certificate',
}
/** The field that names an entity in a path, beside its id. */
const endpointKeys: { readonly [list: string]: string } = {
  services: 'name',
  routes: 'name',
  upstreams: 'name',
  consumers: 'username',
  consumer_groups: 'name',
  snis: 'name',
  targets: 'target',
  'key-auths': 'key',
  'basic-auths': 'username',
  jwts: 'key',
  'hmac-auths': 'username',
  acls: 'group',
}
/** What Kong calls the entities of a list, where that is not its path. */
const entityNames: ReadonlyMap<string, string> = new Map(Object.entries(credentialPaths).map(([entity, [path]]) => [path, entity]))
/** Names of lists below a consumer. */
const belowConsumer: ReadonlyMap<string, string> = new Map(Object.values(credentialPaths).map(([path, below]) => [below, path]))

/** Whether a path is one of Kong's Admin API. */
export function isKongPath(segments: readonly string[]): boolean {
  const [first] = segments
  return first === undefined || ((first === 'status' || first === 'config') && segments.length === 1) || known.has(first)
}

/** Answers such a request. Everything but GET needs the role admin, which has been checked. */
export function answerKong(
  request: AdminRequest,
  segments: readonly string[],
  actions: KongActions,
  traffic: () => KongTraffic,
): Promise<Answer> | Answer {
  const [first] = segments
  const isRead = request.method === 'GET' || request.method === 'HEAD'
  if (first === 'config') return isRead ? readConfig(request, actions) : request.method === 'POST' ? replace(request, actions) : notAllowed
  if (first !== undefined && known.has(first) && !isRead) return notWithoutDatabase(request.method, segments, documentOf(actions))
  if (!isRead) return notAllowed
  if (first === undefined) return kongAnswer(200, rootPage(actions))
  if (first === 'status') return kongAnswer(200, statusPage(traffic(), actions))
  const document = documentOf(actions)
  if (document === null) return notFound
  return readEntitiesOf(request, segments, viewOfKong(document))
}

const notFound = kongAnswer(404, { message: 'Not found' })
const notAllowed = kongAnswer(405, { message: 'Method not allowed' })

/** Entities cannot be written one by one; to delete what is not there is done, though. */
function notWithoutDatabase(method: string, segments: readonly string[], document: ResourceValue | null): Answer {
  const verb = { POST: 'create', PUT: 'create or update', PATCH: 'update', DELETE: 'delete' }[method]
  if (verb === undefined) return notAllowed
  const [first = '', , below, belowId] = segments
  const list = below === undefined ? first : (belowConsumer.get(below) ?? below)
  const id = below === undefined ? segments[1] : belowId
  if (!known.has(list)) return notFound
  const view = method === 'DELETE' && id !== undefined && document !== null ? viewOfKong(document) : null
  if (view !== null && id !== undefined && find(view.get(list) ?? [], id) === undefined) return kongAnswer(204, null)
  const by = id === undefined || isUuid(id) ? undefined : endpointKeys[list]
  const message = `cannot ${verb} '${entityNames.get(list) ?? list}' entities${by === undefined ? '' : ` by '${by}'`} when not using a database`
  return kongAnswer(405, { code: 12, name: 'operation unsupported', message })
}

/** The file of the last POST, else the one that the gateway reads. */
function documentOf(actions: KongActions): ResourceValue | null {
  const posted = actions.view().get(kongFileKind, KONG_ID)?.value['document']
  return isMap(posted) ? posted : actions.kongFile()
}

function hashOf(document: ResourceValue | null): string {
  return document === null ? '0'.repeat(32) : Buffer.from(digestOf(document), 'base64url').toString('hex').padEnd(32, '0').slice(0, 32)
}

function rootPage(actions: KongActions): object {
  const available = Object.fromEntries(
    actions
      .registry()
      .names()
      .map((name) => [name, { version: KONG_VERSION }]),
  )
  return {
    tagline: 'Welcome to sluice',
    version: KONG_VERSION,
    edition: 'community',
    hostname: hostname(),
    configuration: { database: 'off', router_flavor: actions.hasKongOrder() ? 'traditional_compatible' : 'expressions' },
    plugins: { available_on_server: available, enabled_in_cluster: [] },
  }
}

function statusPage({ requests, inFlight, connections, connectionsAccepted }: KongTraffic, actions: KongActions): object {
  return {
    server: {
      connections_active: connections,
      connections_accepted: connectionsAccepted,
      connections_handled: connectionsAccepted,
      connections_reading: 0,
      connections_writing: inFlight,
      connections_waiting: Math.max(0, connections - inFlight),
      total_requests: requests,
    },
    memory: { workers_lua_vms: [], lua_shared_dicts: {} },
    configuration_hash: hashOf(documentOf(actions)),
  }
}

function readEntitiesOf(request: AdminRequest, [list = '', id, below, belowId]: readonly string[], view: KongView): Answer {
  const all = view.get(list) ?? []
  if (id === undefined) return page(request, `/${list}`, all, list)
  const found = find(all, id)
  if (found === undefined) return notFound
  if (below === undefined) return kongAnswer(200, visible(request, list, found))
  const owner = found[below]
  if (isMap(owner) && typeof owner['id'] === 'string') {
    const target = find(view.get(`${below}s`) ?? [], owner['id'])
    return target === undefined ? notFound : kongAnswer(200, visible(request, `${below}s`, target))
  }
  const inner = list === 'consumers' ? (belowConsumer.get(below) ?? below) : below
  const field = ownerFields[list]
  if (field === undefined || !known.has(inner)) return notFound
  const own = (view.get(inner) ?? []).filter((item) => isMap(item[field]) && item[field]['id'] === found.id)
  if (belowId === undefined) return page(request, `/${list}/${id}/${below}`, own, inner)
  const one = find(own, belowId)
  return one === undefined ? notFound : kongAnswer(200, visible(request, inner, one))
}

/** By id, or by what else names it. */
function find(items: readonly KongItem[], id: string): KongItem | undefined {
  return (
    items.find((item) => item.id === id) ?? items.find((item) => [item['name'], item['username'], item['target'], item['key']].includes(id))
  )
}

function visible(request: AdminRequest, list: string, item: KongItem): ResourceValue {
  if (request.role === 'admin') return item
  return withoutSecrets(credentialLists.some((path) => path === list) ? 'credentials' : list, item)
}

function page(request: AdminRequest, path: string, items: readonly KongItem[], list: string): Answer {
  const { query } = request
  const size = Number(query.get('size') ?? SIZE_DEFAULT)
  if (!Number.isInteger(size) || size < 1 || size > SIZE_MAX) {
    const message = Number.isNaN(size) ? 'size must be a number' : `size must be an integer between 1 and ${SIZE_MAX}`
    return kongAnswer(400, { code: 9, name: 'invalid size', message })
  }
  const offset = query.get('offset')
  const place = offset === null ? '0' : Buffer.from(offset, 'base64url').toString('latin1')
  const from = Number(place)
  if (!/^\d{1,15}$/.test(place)) {
    return kongAnswer(400, { code: 7, name: 'invalid offset', message: `'${offset}' is not a valid offset: bad base64 encoding` })
  }
  const wanted = tagged(items, query.get('tags'))
  const data = wanted.slice(from, from + size).map((item) => visible(request, list, item))
  if (from + size >= wanted.length) return kongAnswer(200, { data, next: null })
  const next = Buffer.from(String(from + size), 'latin1').toString('base64url')
  const further = new URLSearchParams({ offset: next })
  for (const name of ['tags', 'size']) {
    const value = query.get(name)
    if (value !== null) further.set(name, value)
  }
  return kongAnswer(200, { data, offset: next, next: `${path}?${further}` })
}

/** `a,b` = both tags, `a/b` = one of them. */
function tagged(items: readonly KongItem[], tags: string | null): readonly KongItem[] {
  if (tags === null || tags === '') return items
  const any = tags.includes('/')
  const wanted = tags.split(any ? '/' : ',')
  return items.filter(({ tags: own }) => {
    const has = (tag: string) => Array.isArray(own) && own.includes(tag)
    return any ? wanted.some(has) : wanted.every(has)
  })
}

function readConfig(request: AdminRequest, actions: KongActions): Answer {
  const document = documentOf(actions)
  if (document === null) return notFound
  if (request.role !== 'admin') return kongAnswer(403, { message: 'the file holds secrets: the role admin is needed' })
  const certificates = document['certificates']
  const shown = Array.isArray(certificates)
    ? {
        ...document,
        certificates: certificates.map((item: unknown) => (isMap(item) ? { ...item, key: undefined, key_alt: undefined } : item)),
      }
    : document
  return kongAnswer(200, { config: stringify(shown) })
}

async function replace(request: AdminRequest, actions: KongActions): Promise<Answer> {
  const text = await textOf(request)
  if (text.trim() === '') return kongAnswer(400, { message: 'expected a declarative configuration' })
  if (!actions.hasKongOrder()) {
    return kongAnswer(400, { message: 'routes of Kong files need sluice.router.mode: priority, which this gateway was not started with' })
  }
  const read = SourceDocument.parse('config', text, {})
  const flattened = request.query.get('flatten_errors') === '1'
  if (!read.ok) return invalidKongFile(read.errors, null, flattened)
  const document = read.source.value
  if (!isKongFile(document) || !isMap(document)) return kongAnswer(400, { message: 'expected a declarative configuration' })
  if (request.query.get('check_hash') === '1' && hashOf(documentOf(actions)) === hashOf(document)) return kongAnswer(304, null)
  const translated = translateSource(read.source, actions.registry(), null)
  if (!translated.ok) return invalidKongFile(translated.errors, document, flattened)
  const resources = readBaseResources(translated.source.value, 0)
  if (resources === null) return invalidKongFile([], document, flattened)
  const outcome = await actions.submit((view: ResourceView) => {
    const wanted = (kind: string) => resources.filter((resource) => resource.kind === kind)
    const mutations: Mutation[] = storedKinds.flatMap((kind) => mutationsBetween(kind, wanted(kind), view))
    return { mutations: [...mutations, { type: 'put', kind: kongFileKind, id: KONG_ID, value: { document }, expiresAtMs: null }] }
  })
  if (outcome.state === 'done') {
    const content = Object.fromEntries(
      [...viewOfKong(document)].map(([list, items]) => [list, Object.fromEntries(items.map((item) => [item.id, item]))]),
    )
    const answer = done(outcome, 201, content)
    return { ...answer, headers: { ...answer.headers, ...kongHeaders } }
  }
  if (outcome.state === 'refused') return outcome.refusal
  return outcome.state === 'unavailable'
    ? kongAnswer(503, { message: outcome.reason })
    : invalidKongFile(outcome.errors, document, flattened)
}

/** The file in a request: as the body, in a field `config` of JSON, or in a form. */
async function textOf({ body, headers }: AdminRequest): Promise<string> {
  const type = String(headers['content-type'] ?? '')
  if (/^(multipart\/form-data|application\/x-www-form-urlencoded)\b/i.test(type)) {
    const form = await new Response(body, { headers: { 'content-type': type } }).formData().catch(() => null)
    const config = form?.get('config')
    if (typeof config === 'string') return config
    if (config !== null && config !== undefined) return config.text()
    // curl says that a body is a form when nobody says otherwise.
    return /^application/i.test(type) ? body : ''
  }
  try {
    const value: unknown = JSON.parse(body)
    if (isMap(value) && typeof value['config'] === 'string') return value['config']
  } catch {
    // YAML.
  }
  return body
}
