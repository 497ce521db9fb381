/**
 * All resources with digests, and several changes as one: what `sluice export`, `diff` and `apply` work with. Admins only.
 *
 *   GET  /v1/resources   {state, revision, resources: [{kind, id, digest, value}]}; `value` as it was written,
 *                        without the private key of a certificate; `digest` (resource-digest.ts) of all, that key included
 *   POST /v1/resources   {state, changes: [{type: put, kind, id, value} | {type: delete, kind, id}]}: all or none. 409 when `state` is
 *                        no longer that of the gateway; with ?dry_run=true it is only checked
 */
import { parsePath } from '../load-issue.js'
import { contentDigest, stateOf } from '../store/resource-digest.js'
import type { Mutation, ResourceView } from '../store/resource-store.js'
import { storedKinds, withoutPrivateKeys } from './admin-kinds.js'
import { type AdminRequest, type Answer, refused } from './answer.js'
import { isMap } from './patch.js'
import { done } from './resource-api.js'
import type { StandaloneActions } from './standalone-api.js'

/** Where it is. */
export const resourcesPath = '/v1/resources'

/** Answers a request for `resourcesPath`; the role has been checked. */
export function answerResourceSet(request: AdminRequest, actions: StandaloneActions): Promise<Answer> | Answer {
  if (request.method === 'GET') return read(actions.view())
  if (request.method === 'POST') return change(request, actions)
  return refused(405, `not supported: ${resourcesPath} takes GET and POST`)
}

function read(view: ResourceView): Answer {
  const resources = storedKinds.flatMap((kind) =>
    view.list(kind).map(({ id, value }) => ({ kind, id, digest: contentDigest(value), value: withoutPrivateKeys(kind, value) })),
  )
  return { status: 200, body: { state: stateOf(view, storedKinds), revision: view.revision, resources } }
}

async function change(request: AdminRequest, actions: StandaloneActions): Promise<Answer> {
  const wanted = readChanges(request.body)
  if (typeof wanted === 'string') return refused(400, `invalid request body: ${wanted}`)
  const { state, mutations } = wanted
  if (request.query.get('dry_run') === 'true') {
    const view = actions.view()
    if (stateOf(view, storedKinds) !== state) return changedMeanwhile
    const errors = await actions.check(view.with(mutations, view.revision + 1, actions.clock.wallMs()))
    return errors.length === 0 ? { status: 200, body: { changes: mutations.length } } : invalid(errors)
  }
  const outcome = await actions.submit((view) => (stateOf(view, storedKinds) === state ? { mutations } : { refusal: changedMeanwhile }))
  if (outcome.state === 'done') {
    return done(outcome, 200, { changes: mutations.length, epoch: outcome.epoch, state: stateOf(outcome.after, storedKinds) })
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
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch {
    return 'not valid JSON'
  }
  if (!isMap(body) || typeof body['state'] !== 'string' || !Array.isArray(body['changes'])) return 'expected {"state", "changes"}'
  const mutations: Mutation[] = []
  for (const [index, item] of body['changes'].entries()) {
    const mutation = readChange(item)
    if (mutation === null) return `changes[${index}]: expected {"type": "put" or "delete", "kind", "id"}, a put with "value"`
    mutations.push(mutation)
  }
  return { state: body['state'], mutations }
}

function readChange(item: unknown): Mutation | null {
  if (!isMap(item)) return null
  const { type, kind, id, value } = item
  if (typeof kind !== 'string' || !storedKinds.includes(kind) || typeof id !== 'string' || id === '') return null
  if (type === 'delete') return { type, kind, id, leavesGap: false }
  return type === 'put' && isMap(value) ? { type, kind, id, value, expiresAtMs: null } : null
}
