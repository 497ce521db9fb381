/**
 * The whole configuration at once, as the reference gateway takes it in its API-driven standalone mode:
 *
 *   GET  configs            all resources, with a version for each kind; X-Digest and X-Last-Modified of the last PUT
 *   PUT  configs            replaces them. X-Digest is required; the digest of the last PUT again: 204, nothing is done
 *   POST configs/validate   200, or 400 with all that is wrong
 *
 * `<kind>_conf_version` must not go backwards. A kind whose version is that of the last PUT is left alone; a kind that is missing, with
 * no version or a higher one, is emptied.
 */
import { parse as parseYaml, stringify } from 'yaml'
import { resourceKinds } from '../../schema/resources.js'
import { type ConfigIssue, formatIssue, parsePath } from '../load-issue.js'
import { readBaseResources } from '../store/base-resources.js'
import type { Mutation, ResourceValue, ResourceView, StoredResource } from '../store/resource-store.js'
import { shown } from './admin-kinds.js'
import { type AdminRequest, type Answer, refused } from './answer.js'
import { errorText } from './config-texts.js'
import { isMap } from './patch.js'
import { done, type ResourceActions } from './resource-api.js'

export interface StandaloneActions extends ResourceActions {
  /** What is wrong with the configuration that `view` would make. */
  check(view: ResourceView): Promise<readonly ConfigIssue[]>
}

/** Kind and id under which the versions of the last PUT are kept. */
const VERSIONS_KIND = 'config_versions'
const VERSIONS_ID = 'configs'

/** Kinds of the document. Credentials stand among the consumers, as in a file. */
const kinds = resourceKinds.filter(({ supported, kind }) => supported && kind !== 'credentials').map(({ kind }) => kind)

/** Answers a request for `configs`. */
export function answerConfigs(request: AdminRequest, [, more]: readonly string[], actions: StandaloneActions): Promise<Answer> | Answer {
  const { method } = request
  if (more === 'validate') return method === 'POST' ? validate(request, actions) : refused(404, 'not found')
  if (more !== undefined) return refused(404, 'not found')
  if (method === 'GET' || method === 'HEAD') return read(request, actions.view())
  return method === 'PUT' ? replace(request, actions) : refused(404, 'not found')
}

function read(request: AdminRequest, view: ResourceView): Answer {
  const versions = versionsOf(view)
  const config: { [name: string]: unknown } = {}
  for (const kind of kinds) {
    const list = kind === 'consumers' ? [...view.list(kind), ...view.list('credentials')] : view.list(kind)
    if (list.length > 0) config[kind] = list.map((resource) => asEntry(resource, request.role))
    config[`${kind}_conf_version`] = versions.versions[kind] ?? 0
  }
  const headers = versions.digest === null ? {} : { 'x-digest': versions.digest, 'x-last-modified': String(versions.atSeconds) }
  const accept = String(request.headers['accept'] ?? '')
  if (!accept.startsWith('application/yaml')) return { status: 200, body: config, headers }
  return { status: 200, body: stringify(config), headers: { ...headers, 'content-type': 'application/yaml' } }
}

function asEntry(resource: StoredResource, role: AdminRequest['role']): ResourceValue {
  const { create_time: _created, update_time: _updated, ...value } = shown(resource, role)
  const withId = resource.kind === 'consumers' ? value : { ...value, id: resource.id }
  return { ...withId, modifiedIndex: resource.modifiedIndex }
}

interface Versions {
  readonly digest: string | null
  readonly atSeconds: number
  readonly versions: { readonly [kind: string]: number }
}

function versionsOf(view: ResourceView): Versions {
  const stored = view.get(VERSIONS_KIND, VERSIONS_ID)
  const versions = stored?.value['versions']
  const digest = stored?.value['digest']
  return {
    digest: typeof digest === 'string' ? digest : null,
    atSeconds: stored?.updateTime ?? 0,
    versions: isMap(versions) ? Object.fromEntries(Object.entries(versions).map(([kind, version]) => [kind, Number(version)])) : {},
  }
}

async function replace(request: AdminRequest, actions: StandaloneActions): Promise<Answer> {
  const digest = request.headers['x-digest']
  if (typeof digest !== 'string' || digest === '') return refused(400, 'missing digest header')
  const body = readDocument(request)
  if ('answer' in body) return body.answer
  const outcome = await actions.submit((view) => {
    const last = versionsOf(view)
    if (last.digest === digest) return { refusal: { status: 204, body: null } }
    const planned = plan(body.document, view, last)
    if ('answer' in planned) return { refusal: planned.answer }
    const value = { id: VERSIONS_ID, digest, versions: planned.versions }
    return { mutations: [...planned.mutations, { type: 'put', kind: VERSIONS_KIND, id: VERSIONS_ID, value, expiresAtMs: null }] }
  })
  if (outcome.state === 'done') return done(outcome, 202, null)
  if (outcome.state === 'refused') return outcome.refusal
  return outcome.state === 'unavailable' ? refused(503, outcome.reason) : invalid(outcome.errors, body.document)
}

async function validate(request: AdminRequest, actions: StandaloneActions): Promise<Answer> {
  const body = readDocument(request)
  if ('answer' in body) return body.answer
  const view = actions.view()
  const planned = plan(body.document, view, versionsOf(view))
  if ('answer' in planned) return planned.answer
  const errors = await actions.check(view.with(planned.mutations, view.revision + 1, actions.clock.wallMs()))
  return errors.length === 0 ? { status: 200, body: null } : invalid(errors, body.document)
}

function readDocument(request: AdminRequest): { readonly document: ResourceValue } | { readonly answer: Answer } {
  if (request.body.trim() === '') return { answer: refused(400, 'invalid request body: empty request body') }
  const isYaml = String(request.headers['content-type'] ?? '').startsWith('application/yaml')
  let document: unknown
  try {
    document = isYaml ? parseYaml(request.body) : JSON.parse(request.body)
  } catch {
    return { answer: refused(400, `invalid request body: not valid ${isYaml ? 'YAML' : 'JSON'}`) }
  }
  return isMap(document) ? { document } : { answer: refused(400, 'invalid request body: expected a map with lists of resources') }
}

type Planned =
  | { readonly mutations: readonly Mutation[]; readonly versions: { readonly [kind: string]: number } }
  | { readonly answer: Answer }

function plan(document: ResourceValue, view: ResourceView, last: Versions): Planned {
  const known = new Set([...kinds, ...kinds.map((kind) => `${kind}_conf_version`)])
  for (const [name, value] of Object.entries(document)) {
    const isUsed = typeof value === 'object' && value !== null && Object.keys(value).length > 0
    if (!known.has(name) && isUsed) return { answer: refused(400, `${name} are not supported; expected ${kinds.join(', ')}`) }
  }
  const versions: { [kind: string]: number } = {}
  const wanted: { [kind: string]: unknown } = {}
  const replaced: string[] = []
  for (const kind of kinds) {
    const current = last.versions[kind] ?? 0
    const given = document[`${kind}_conf_version`] ?? current + 1
    if (typeof given !== 'number') return { answer: refused(400, `${kind}_conf_version must be a number`) }
    if (given < current) return { answer: refused(400, `${kind}_conf_version must be greater than or equal to (${current})`) }
    versions[kind] = given
    // The first PUT replaces what the file says, whatever version it names.
    if (given === current && last.digest !== null) continue
    const duplicate = duplicateIn(kind, document[kind])
    if (duplicate !== null) return { answer: refused(400, duplicate) }
    replaced.push(kind)
    wanted[kind] = withoutIndexes(document[kind])
  }
  const resources = readBaseResources(wanted, 0)
  if (resources === null) return { answer: refused(400, 'invalid request body: expected lists of maps with ids') }
  return { versions, mutations: mutationsTo(resources, replaced, view) }
}

/** What turns the resources of these kinds into `wanted`. What is as it was is left alone. */
function mutationsTo(wanted: readonly StoredResource[], replaced: readonly string[], view: ResourceView): Mutation[] {
  const all = replaced.includes('consumers') ? [...replaced, 'credentials'] : replaced
  const kept = new Set(wanted.map(({ kind, id }) => `${kind} ${id}`))
  const gone = all.flatMap((kind) => view.list(kind).filter(({ id }) => !kept.has(`${kind} ${id}`)))
  return [
    ...gone.map(({ kind, id }): Mutation => ({ type: 'delete', kind, id, leavesGap: false })),
    ...wanted
      .filter(({ kind, id, value }) => JSON.stringify(view.get(kind, id)?.value) !== JSON.stringify(value))
      .map(({ kind, id, value }): Mutation => ({ type: 'put', kind, id, value, expiresAtMs: null })),
  ]
}

/** Entries may carry the index that GET showed. */
function withoutIndexes(list: unknown): unknown {
  if (!Array.isArray(list)) return list
  return list.map((item: unknown) => {
    if (!isMap(item)) return item
    const { modifiedIndex: _index, create_time: _created, update_time: _updated, ...value } = item
    return value
  })
}

function duplicateIn(kind: string, list: unknown): string | null {
  if (!Array.isArray(list)) return null
  const seen = new Set<string>()
  for (const item of list as readonly unknown[]) {
    if (!isMap(item)) continue
    const isCredential = kind === 'consumers' && item['username'] === undefined
    const id = kind === 'consumers' && !isCredential ? item['username'] : item['id']
    if (typeof id !== 'string' && typeof id !== 'number') continue
    const word = kind !== 'consumers' ? 'id' : isCredential ? 'credential id' : 'username'
    if (seen.has(String(id))) return `found duplicate ${word} ${id} in ${kind}`
    seen.add(String(id))
  }
  return null
}

/** All that is wrong, each with the place in the document that was sent. */
function invalid(issues: readonly ConfigIssue[], document: ResourceValue): Answer {
  const errors = issues.map((issue) => {
    const [kind, place, ...path] = parsePath(issue.path)
    const id = typeof place === 'string' ? place.replace(/ \(Admin API\)$/, '') : ''
    const index = placeOf(document[String(kind)], id)
    const error =
      id === '' ? formatIssue({ ...issue, line: 0, file: 'configuration' }) : errorText({ path, message: issue.message }, String(kind), id)
    return { resource_type: String(kind), resource_id: id, index, error }
  })
  const first = errors[0]
  const text =
    first === undefined
      ? 'invalid configuration'
      : first.index < 0
        ? first.error
        : `invalid ${first.resource_type} at index ${first.index}, err: ${first.error}`
  return refused(400, text, { errors })
}

/** Place of a resource in a list of the document, or -1. Without an id it is called after its place. */
function placeOf(list: unknown, id: string): number {
  if (!Array.isArray(list)) return -1
  const index = list.findIndex(
    (item: unknown) => isMap(item) && [item['id'], item['username']].some((own) => own !== undefined && String(own) === id),
  )
  if (index >= 0) return index
  const unnamed = Number(/^arr_(\d+)$/.exec(id)?.[1] ?? 0) - 1
  const item: unknown = list[unnamed]
  return isMap(item) && item['id'] === undefined ? unnamed : -1
}
