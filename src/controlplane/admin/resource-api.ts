/**
 * Resources over HTTP, as the Admin API of the reference gateway has them (its version 3):
 *
 *   /apisix/admin/{kind}[/{id}[/{sub/path}]]    GET PUT POST PATCH DELETE, by kind: admin-kinds.ts
 *   /apisix/admin/consumers/{name}/credentials[/{id}]
 *
 * A write is a plan for the configuration writer: it is made when its turn has come, and answered when every worker of this node runs
 * the new configuration. `X-Sluice-Epoch` in the answer tells which one that is.
 */
import { randomBytes } from 'node:crypto'
import type { Clock } from '../../base/clock.js'
import { type ConfigIssue, formatIssue, parsePath } from '../load-issue.js'
import { adminPlace } from '../store/base-resources.js'
import { isBelow, type Plan, type WriteOutcome } from '../store/configuration-writer.js'
import type { Mutation, ResourceValue, ResourceView } from '../store/resource-store.js'
import type { ResourceProblem } from '../validate-resource.js'
import { type AdminKind, adminKinds, credentialKind, keyOf, shown, usedBy } from './admin-kinds.js'
import { type AdminRequest, type Answer, keyNotFound, refused } from './answer.js'
import { errorText } from './config-texts.js'
import { pageOf } from './list-query.js'
import { isMap, mergePatch, replaceAt } from './patch.js'

/** What the API works on. */
export interface ResourceActions {
  readonly clock: Pick<Clock, 'wallMs'>
  view(): ResourceView
  submit(plan: Plan<Answer>): Promise<WriteOutcome<Answer>>
  /** Problems of one resource beside those of `view`. With `alone`, what it names need not exist. */
  problems(kind: string, value: ResourceValue, view: ResourceView, alone?: boolean): readonly ResourceProblem[]
}

interface Target {
  readonly kind: AdminKind
  /** Of a credential: that of its consumer and its own. */
  readonly id: string | null
  /** As it stands in the path. */
  readonly ownId: string | null
  readonly consumer: string | null
  readonly subPath: readonly string[]
}

const verbs = new Set(['GET', 'PUT', 'POST', 'PATCH', 'DELETE'])

/** Answers a request below `/apisix/admin/`; `segments` are the parts of the path behind it, decoded. */
export async function answerResources(request: AdminRequest, segments: readonly string[], actions: ResourceActions): Promise<Answer> {
  const target = targetOf(segments)
  if (target === null) return refused(404, `Unsupported resource type: ${segments[0] ?? ''}`)
  const { kind } = target
  const method = request.method === 'HEAD' ? 'GET' : request.method
  if (!verbs.has(method)) return refused(404, 'not found')
  if (!kind.verbs.has(method)) return refused(405, `not supported \`${method}\` method for ${kind.word}`)
  if (method === 'GET') return read(request, target, actions.view())
  const ttl = request.query.get('ttl')
  const seconds = ttl === null ? null : Number(ttl)
  if (seconds !== null && !(seconds > 0 && seconds < 1e9)) return refused(400, 'invalid argument ttl: should be a number')
  const expiresAtMs = seconds === null ? null : actions.clock.wallMs() + Math.round(seconds * 1000)
  if (method === 'DELETE') return remove(request, target, actions)
  const body = readBody(request.body)
  if ('answer' in body) return body.answer
  if (kind.off !== null) return refused(400, kind.off)
  return method === 'PATCH'
    ? patch(request, target, body.value, expiresAtMs, actions)
    : write(request, target, body.value, expiresAtMs, actions)
}

function targetOf([path = '', first, second, ...rest]: readonly string[]): Target | null {
  const kind = adminKinds.get(path)
  if (kind === undefined) return null
  const none = { consumer: null, subPath: [] }
  if (kind.path === 'consumers' && first !== undefined && second === 'credentials') {
    const ownId = rest[0] ?? null
    return { ...none, kind: credentialKind, consumer: first, ownId, id: ownId === null ? null : `${first}/credentials/${ownId}` }
  }
  if (kind.path === 'secrets' && first !== undefined) {
    const id = second === undefined ? null : `${first}/${second}`
    return { ...none, kind, id, ownId: id }
  }
  return { kind, id: first ?? null, ownId: first ?? null, consumer: null, subPath: second === undefined ? [] : [second, ...rest] }
}

function readBody(text: string): { readonly value: unknown } | { readonly answer: Answer } {
  if (text.trim() === '') return { value: undefined }
  try {
    return { value: JSON.parse(text) }
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    // Parts of what was sent stand in the message of the parser: secrets may be among them.
    const place = / at position \d+.*$/.exec(reason)?.[0] ?? ''
    return { answer: refused(400, `invalid request body: not valid JSON${place}`) }
  }
}

function read(request: AdminRequest, { kind, id, consumer }: Target, view: ResourceView): Answer {
  if (consumer !== null && view.get('consumers', consumer) === undefined) return refused(404, 'consumer not found')
  const entryOf = (resource: Parameters<typeof shown>[0]) => ({
    key: keyOf(kind.kind, resource.id),
    value: shown(resource, request.role),
    createdIndex: resource.createdIndex,
    modifiedIndex: resource.modifiedIndex,
  })
  if (id !== null) {
    const found = view.get(kind.kind, id)
    return found === undefined ? keyNotFound : { status: 200, body: entryOf(found) }
  }
  const all = view.list(kind.kind)
  const own = consumer === null ? all : all.filter((resource) => resource.id.startsWith(`${consumer}/credentials/`))
  const page = pageOf(own, request.query)
  if (typeof page === 'string') return { status: 400, body: page }
  return { status: 200, body: { list: page.items.map(entryOf), total: page.total } }
}

/** PUT and POST. */
function write(
  { method, role }: AdminRequest,
  target: Target,
  body: unknown,
  expiresAtMs: number | null,
  actions: ResourceActions,
): Promise<Answer> | Answer {
  const { kind } = target
  if (body === undefined) return refused(400, 'missing configurations')
  if (!isMap(body))
    return refused(400, `invalid configuration: wrong type: expected object, got ${Array.isArray(body) ? 'array' : typeof body}`)
  for (const name of ['create_time', 'update_time']) {
    if (body[name] !== undefined) return refused(400, `the property is forbidden: ${name}`)
  }
  const named = method === 'POST' ? newId(target, body) : givenId(target, body)
  if (typeof named !== 'string') return named
  const value = storedValue(kind, named, body)
  return submit(actions, kind, named, role, method === 'POST' ? 201 : null, (view) => {
    if (target.consumer !== null && view.get('consumers', target.consumer) === undefined)
      return { refusal: refused(404, 'consumer not found') }
    const refusal = problemAnswer(actions.problems(kind.kind, value, view), kind.kind, named)
    return refusal === null ? { mutations: [{ type: 'put', kind: kind.kind, id: named, value, expiresAtMs }] } : { refusal }
  })
}

function newId({ kind, ownId }: Target, body: ResourceValue): string | Answer {
  if (ownId !== null || body['id'] !== undefined) return refused(400, `wrong ${kind.word} id, do not need it`)
  return randomBytes(10).toString('hex')
}

function givenId({ kind, id, ownId, consumer }: Target, body: ResourceValue): string | Answer {
  const inBody = kind.kind === 'consumers' ? body['username'] : body['id']
  const own = typeof inBody === 'string' || typeof inBody === 'number' ? String(inBody) : null
  if (kind.kind === 'consumers') {
    if (own === null) return refused(400, 'invalid configuration: property "username" is required')
    return ownId !== null && ownId !== own ? refused(400, 'wrong username') : own
  }
  if (ownId !== null && own !== null && ownId !== own) return refused(400, `wrong ${kind.word} id`)
  if (consumer !== null) return id ?? (own === null ? refused(400, `missing ${kind.word} id`) : `${consumer}/credentials/${own}`)
  return ownId ?? own ?? refused(400, kind.kind === 'plugin_metadata' ? 'missing plugin name' : `missing ${kind.word} id`)
}

/** What is stored: as in a configuration file, without nulls. */
function storedValue(kind: AdminKind, id: string, body: ResourceValue): ResourceValue {
  const own = Object.fromEntries(Object.entries(body).filter(([, value]) => value !== null))
  return kind.kind === 'consumers' ? own : { ...own, id }
}

function patch(
  { role }: AdminRequest,
  { kind, id, subPath }: Target,
  body: unknown,
  expiresAtMs: number | null,
  actions: ResourceActions,
): Promise<Answer> | Answer {
  if (id === null) return refused(400, `missing ${kind.word} id`)
  if (body === undefined) return refused(400, 'missing new configuration')
  if (subPath.length === 0 && !isMap(body)) return refused(400, 'invalid configuration')
  return submit(actions, kind, id, role, 200, (view) => {
    const before = view.get(kind.kind, id)
    if (before === undefined) return { refusal: keyNotFound }
    const changed = subPath.length === 0 ? mergePatch(before.value, isMap(body) ? body : {}) : replaceAt(before.value, subPath, body)
    if (changed === null) return { refusal: refused(400, `invalid sub-path: ${subPath.join('/')}`) }
    if (changed['id'] !== undefined && String(changed['id']) !== id) return { refusal: refused(400, `wrong ${kind.word} id`) }
    for (const name of ['create_time', 'update_time']) {
      if (changed[name] !== undefined) return { refusal: refused(400, `the property is forbidden: ${name}`) }
    }
    const value = storedValue(kind, id, changed)
    const refusal = problemAnswer(actions.problems(kind.kind, value, view), kind.kind, id)
    return refusal === null ? { mutations: [{ type: 'put', kind: kind.kind, id, value, expiresAtMs }] } : { refusal }
  })
}

async function remove(request: AdminRequest, { kind, id, consumer }: Target, actions: ResourceActions): Promise<Answer> {
  if (id === null) return refused(400, kind.kind === 'plugin_metadata' ? 'missing plugin name' : `missing ${kind.word} id`)
  const force = request.query.get('force') === 'true'
  const outcome = await actions.submit((view) => {
    if (consumer !== null && view.get('consumers', consumer) === undefined) return { refusal: refused(404, 'consumer not found') }
    if (view.get(kind.kind, id) === undefined) return { refusal: keyNotFound }
    const user = usedBy(view, kind.kind, id)
    if (user !== null && !force) return { refusal: refused(400, user) }
    return { mutations: deletions(view, kind.kind, id, user !== null) }
  })
  const deleted = kind.kind === 'credentials' ? id.replace(/^.*\/credentials\//s, '') : id
  return outcome.state === 'done' ? done(outcome, 200, { deleted, key: keyOf(kind.kind, id) }) : notDone(outcome, kind.kind, id)
}

/** A consumer takes its credentials along. */
function deletions(view: ResourceView, kind: string, id: string, leavesGap: boolean): Mutation[] {
  const credentials = kind === 'consumers' ? view.list('credentials').filter((one) => one.id.startsWith(`${id}/credentials/`)) : []
  return [
    ...credentials.map((one): Mutation => ({ type: 'delete', kind: 'credentials', id: one.id, leavesGap: false })),
    { type: 'delete', kind, id, leavesGap },
  ]
}

/** `status`: of the answer; null = 201 for what was not there, else 200. */
async function submit(
  actions: ResourceActions,
  kind: AdminKind,
  id: string,
  role: 'admin' | 'viewer',
  status: number | null,
  plan: Plan<Answer>,
): Promise<Answer> {
  const outcome = await actions.submit(plan)
  if (outcome.state !== 'done') return notDone(outcome, kind.kind, id)
  const stored = outcome.after.get(kind.kind, id)
  if (stored === undefined) throw new Error(`${kind.word} ${id} was written and is not there`)
  const isNew = outcome.before.get(kind.kind, id) === undefined
  return done(outcome, status ?? (isNew ? 201 : 200), { key: keyOf(kind.kind, id), value: shown(stored, role) })
}

/** The answer to a write that is stored and published. */
export function done(outcome: Extract<WriteOutcome<Answer>, { state: 'done' }>, status: number, body: object | null): Answer {
  const headers = {
    'x-sluice-epoch': String(outcome.epoch),
    ...(outcome.atNextStart.length > 0 && { 'x-sluice-needs-restart': outcome.atNextStart.join(', ') }),
  }
  if (outcome.isEverywhere) return { status, body, headers }
  return { ...refused(503, `stored as epoch ${outcome.epoch}, but not every worker has taken it over in time`), headers }
}

/** The answer to a write that changed nothing. */
export function notDone(outcome: Exclude<WriteOutcome<Answer>, { state: 'done' }>, kind: string, id: string): Answer {
  if (outcome.state === 'refused') return outcome.refusal
  if (outcome.state === 'unavailable') return refused(503, outcome.reason)
  const place = adminPlace(kind, id)
  const problems = outcome.errors.map((issue) => ({ issue, path: parsePath(issue.path) }))
  const own = problems.filter(({ path }) => isBelow(path, place))
  const first = own[0] ?? problems[0]
  if (first === undefined) return refused(400, 'invalid configuration')
  const path = own.length > 0 ? first.path.slice(place.length) : first.path
  const text = errorText({ path, message: first.issue.message }, kind, id)
  return outcome.errors.length === 1 ? refused(400, text) : refused(400, text, { errors: outcome.errors.map(textOf) })
}

/** Without the place in a file, which is not the client's. */
function textOf(issue: ConfigIssue): string {
  return formatIssue({ ...issue, line: 0, file: 'configuration' })
}

/** The refusal of a resource with problems, or null when there are none. */
export function problemAnswer(problems: readonly ResourceProblem[], kind: string, id: string): Answer | null {
  const texts = problems.map((problem) => errorText(problem, kind, id))
  const [first, ...others] = texts
  if (first === undefined) return null
  return others.length === 0 ? refused(400, first) : refused(400, first, { errors: texts })
}
