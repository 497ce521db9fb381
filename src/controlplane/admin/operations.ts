/**
 * What operators ask for besides resources:
 *
 *   GET    /v1/status           any role
 *   POST   /v1/reload           admin: 200 with the new epoch, 400 with every error of the refused configuration
 *   *      /v1/revocations      admin: what is revoked, revoking, and undoing it (revocations.ts)
 *   *      /v1/breakers         see breakers.ts
 *   GET    /v1/store            admin: the store, with the changes that are set aside and what they hold
 *   DELETE /v1/store/set-aside  admin: forgets those changes
 *   POST   /v1/faults           admin, tests only: {"worker": 0, "kind": "throw" | "out-of-memory"}
 */
import type { ReloadOutcome } from '../reload.js'
import { type AdminRequest, type Answer, refused } from './answer.js'
import { unauthorized } from './authorize.js'
import { answerBreakers, type BreakerActions } from './breakers.js'
import { answerRevocations, type RevocationActions } from './revocations.js'

export interface OperationActions {
  status(): object
  reload(): Promise<ReloadOutcome>
  readonly revocations: RevocationActions
  readonly breakers: BreakerActions
  readonly store: StoreActions
  /** null = the test hook is off. False when there is no such worker. */
  readonly fault: ((worker: number, kind: 'throw' | 'out-of-memory') => boolean) | null
}

export interface StoreActions {
  describe(): object
  /** The number of changes that are forgotten, or why none is. */
  forgetSetAside(): Promise<number | string>
}

/** Paths with one verb. */
const verbs: { readonly [path: string]: string } = {
  '/v1/status': 'GET',
  '/v1/reload': 'POST',
  '/v1/store': 'GET',
  '/v1/store/set-aside': 'DELETE',
  '/v1/faults': 'POST',
}

/** Answers a request for anything but `/apisix/admin`. */
export function answerOperations(request: AdminRequest, actions: OperationActions): Promise<Answer> | Answer {
  const { method, path, role, body } = request
  const aboutBreakers = answerBreakers(method, path, role === 'admin', body, actions.breakers)
  if (aboutBreakers !== null) return aboutBreakers
  if (path === '/v1/revocations')
    return role === 'admin' ? answerRevocations(request, actions.revocations) : unauthorized(`invalid method for role ${role}`)
  const verb = path === '/v1/faults' && actions.fault === null ? undefined : verbs[path]
  if (verb === undefined) return refused(404, 'not found')
  if (verb !== method) return refused(405, `not supported: ${path} takes ${verb}`)
  if (path === '/v1/status') return { status: 200, body: actions.status() }
  if (role !== 'admin') return unauthorized(`invalid method for role ${role}`)
  switch (path) {
    case '/v1/store':
      return { status: 200, body: actions.store.describe() }
    case '/v1/store/set-aside':
      return forget(actions)
    case '/v1/reload':
      return reload(actions)
    default:
      return injectFault(body, actions)
  }
}

async function forget({ store }: OperationActions): Promise<Answer> {
  const forgotten = await store.forgetSetAside()
  return typeof forgotten === 'string' ? refused(503, forgotten) : { status: 200, body: { forgotten } }
}

async function reload(actions: OperationActions): Promise<Answer> {
  const outcome = await actions.reload()
  if (outcome.ok) return { status: 200, body: { epoch: outcome.epoch } }
  return refused(400, outcome.errors[0] ?? 'the configuration was refused', { errors: outcome.errors })
}

function injectFault(body: string, actions: OperationActions): Answer {
  const expected = 'invalid request body: expected {"worker": number, "kind": "throw" | "out-of-memory"}'
  let fault: unknown
  try {
    fault = JSON.parse(body)
  } catch {
    return refused(400, expected)
  }
  if (typeof fault !== 'object' || fault === null || !('worker' in fault) || !('kind' in fault)) return refused(400, expected)
  const { worker, kind } = fault
  if (typeof worker !== 'number' || (kind !== 'throw' && kind !== 'out-of-memory')) return refused(400, expected)
  if (actions.fault?.(worker, kind) !== true) return refused(404, `there is no worker ${worker}`)
  return { status: 202, body: { worker, kind } }
}
