/**
 * All resources with digests, and several changes as one: what `sluice export`, `diff` and `apply` work with. Admins only.
 *
 *   GET  /v1/resources   {state, revision, resources: [{kind, id, digest, value}]}; `value` as it was written,
 *                        without the private key of a certificate; `digest` (resource-digest.ts) of all, that key included
 *   POST /v1/resources   {state, changes: [{type: put, kind, id, value} | {type: delete, kind, id}]}: all or none. 409 when `state` is
 *                        no longer that of the gateway; with ?dry_run=true it is only checked
 *   GET  /v1/resources?revision=N   the same of an earlier revision of the store
 *   GET  /v1/history     {revision, revisions: [{revision, atMs, changes: [{type, kind, id}], changeCount}]}, the newest first
 *   POST /v1/history/rollback   {revision, state}: makes the resources what they were then, as one change; ?dry_run=true as above
 */
import { parsePath } from '../load-issue.js'
import { contentDigest, stateOf } from '../store/resource-digest.js'
import type { Mutation, ResourceView, StoredResource, StoreRevision } from '../store/resource-store.js'
import { kongFileKind, storedKinds, withoutPrivateKeys } from './admin-kinds.js'
import { type AdminRequest, type Answer, refused } from './answer.js'
import { isMap } from './patch.js'
import { done } from './resource-api.js'
import type { StandaloneActions } from './standalone-api.js'

/** Where they are. */
export const resourcesPath = '/v1/resources'
export const historyPath = '/v1/history'

export interface ResourceSetActions extends StandaloneActions {
  /** What the store keeps of earlier revisions; a text says why nothing. */
  history(): Promise<readonly StoreRevision[] | string>
  at(revision: number): Promise<ResourceView | string>
}

/** Whether a path is answered here. */
export function isResourceSet(path: string): boolean {
  return path === resourcesPath || path === historyPath || path === `${historyPath}/rollback`
}

/** Answers a request for such a path; the role has been checked. */
export function answerResourceSet(request: AdminRequest, actions: ResourceSetActions): Promise<Answer> | Answer {
  const { method, path } = request
  if (path === historyPath) return method === 'GET' ? history(actions) : refused(405, `not supported: ${path} takes GET`)
  if (path !== resourcesPath) return method === 'POST' ? rollBack(request, actions) : refused(405, `not supported: ${path} takes POST`)
  if (method === 'GET') return read(request, actions)
  return method === 'POST' ? change(request, actions) : refused(405, `not supported: ${path} takes GET and POST`)
}

async function history(actions: ResourceSetActions): Promise<Answer> {
  const revisions = await actions.history()
  if (typeof revisions === 'string') return refused(503, revisions)
  return { status: 200, body: { revision: actions.view().revision, revisions } }
}

async function rollBack(request: AdminRequest, actions: ResourceSetActions): Promise<Answer> {
  const body = parsed(request.body)
  const revision = isMap(body) ? body['revision'] : undefined
  const state = isMap(body) ? body['state'] : undefined
  if (typeof revision !== 'number' || !Number.isInteger(revision) || typeof state !== 'string') {
    return refused(400, 'invalid request body: expected {"revision", "state"}')
  }
  const then = await actions.at(revision)
  if (typeof then === 'string') return refused(404, then)
  return submit(request, state, (view) => mutationsTo(then, view), actions)
}

/** What makes the resources of `view` those of `wanted`; what is equal is left alone. */
function mutationsTo(wanted: ResourceView, view: ResourceView): Mutation[] {
  return [...storedKinds, kongFileKind].flatMap((kind) => mutationsBetween(kind, wanted.list(kind), view))
}

/** The same for the resources of one kind. */
export function mutationsBetween(kind: string, wanted: readonly StoredResource[], view: ResourceView): Mutation[] {
  const kept = new Set(wanted.map(({ id }) => id))
  const gone = view.list(kind).filter(({ id }) => !kept.has(id))
  const other = wanted.filter(({ id, value }) => {
    const now = view.get(kind, id)
    return now === undefined || contentDigest(now.value) !== contentDigest(value)
  })
  return [
    ...gone.map(({ id }): Mutation => ({ type: 'delete', kind, id, leavesGap: false })),
    ...other.map(({ id, value, expiresAtMs }): Mutation => ({ type: 'put', kind, id, value, expiresAtMs })),
  ]
}

async function read(request: AdminRequest, actions: ResourceSetActions): Promise<Answer> {
  const wanted = request.query.get('revision')
  if (wanted === null) return listed(actions.view())
  if (!/^\d{1,15}$/.test(wanted)) return refused(400, 'invalid argument revision: should be a number')
  const view = await actions.at(Number(wanted))
  return typeof view === 'string' ? refused(404, view) : listed(view)
}

function listed(view: ResourceView): Answer {
  const resources = storedKinds.flatMap((kind) =>
    view.list(kind).map(({ id, value }) => ({ kind, id, digest: contentDigest(value), value: withoutPrivateKeys(kind, value) })),
  )
  return { status: 200, body: { state: stateOf(view, storedKinds), revision: view.revision, resources } }
}

function change(request: AdminRequest, actions: ResourceSetActions): Promise<Answer> | Answer {
  const wanted = readChanges(request.body)
  if (typeof wanted === 'string') return refused(400, `invalid request body: ${wanted}`)
  return submit(request, wanted.state, () => wanted.mutations, actions)
}

/** Does what `mutations` wants if the gateway is still in this state, or says whether it could. */
async function submit(
  request: AdminRequest,
  state: string,
  mutations: (view: ResourceView) => readonly Mutation[],
  actions: ResourceSetActions,
): Promise<Answer> {
  if (request.query.get('dry_run') === 'true') {
    const view = actions.view()
    if (stateOf(view, storedKinds) !== state) return changedMeanwhile
    const wanted = mutations(view)
    const errors = await actions.check(view.with(wanted, view.revision + 1, actions.clock.wallMs()))
    return errors.length === 0 ? { status: 200, body: { changes: wanted.length } } : invalid(errors)
  }
  let count = 0
  const outcome = await actions.submit((view) => {
    if (stateOf(view, storedKinds) !== state) return { refusal: changedMeanwhile }
    const wanted = mutations(view)
    count = wanted.length
    return { mutations: wanted }
  })
  if (outcome.state === 'done') {
    return done(outcome, 200, { changes: count, epoch: outcome.epoch, state: stateOf(outcome.after, storedKinds) })
  }
  if (outcome.state === 'refused') return outcome.refusal
  return outcome.state === 'unavailable' ? refused(503, outcome.reason) : invalid(outcome.errors)
}

const changedMeanwhile: Answer = refused(409, 'the configuration was changed meanwhile; nothing was done: compare again')

/** Every error with the resource in which it is. */
function invalid(issues: Awaited<ReturnType<StandaloneActions['check']>>): Answer {
  const errors = issues.map(({ path, message, expected }) => ({ path: parsePath(path), message, expected }))
  return refused(400, issues[0]?.message ?? 'the configuration was refused', { errors })
}

interface Wanted {
  readonly state: string
  readonly mutations: readonly Mutation[]
}

function readChanges(text: string): Wanted | string {
  const body = parsed(text)
  if (!isMap(body) || typeof body['state'] !== 'string' || !Array.isArray(body['changes'])) return 'expected {"state", "changes"}'
  const mutations: Mutation[] = []
  for (const [index, item] of body['changes'].entries()) {
    const mutation = readChange(item)
    if (mutation === null) return `changes[${index}]: expected {"type": "put" or "delete", "kind", "id"}, a put with "value"`
    mutations.push(mutation)
  }
  return { state: body['state'], mutations }
}

/** Undefined = it is no JSON. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function readChange(item: unknown): Mutation | null {
  if (!isMap(item)) return null
  const { type, kind, id, value } = item
  if (typeof kind !== 'string' || !storedKinds.includes(kind) || typeof id !== 'string' || id === '') return null
  if (type === 'delete') return { type, kind, id, leavesGap: false }
  return type === 'put' && isMap(value) ? { type, kind, id, value, expiresAtMs: null } : null
}
