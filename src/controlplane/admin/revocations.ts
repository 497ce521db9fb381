/**
 * Revocations by hand; the role admin is required.
 *
 *   POST    from the moment of the answer on, no worker of this gateway lets through what was revoked
 *           {"jti": "…"} | {"sub": "…"} | {"consumer": "…"} | {"token": "…"}, optional "ttl" in seconds
 *             201  in force on this node, and in Redis where that is configured: on every node within a second
 *             503  in force on this node, but Redis did not take it; it is tried again until it does
 *             507  the table of revocations is full; nothing was revoked
 *   GET     what is in force: {"total": 2, "revocations": [{"id": "jti:…", "kind": "jti", "until": "2026-…"}]}, the longest first, at
 *           most 1000; `?jti=…`, `?sub=…`, `?consumer=…`, `?id=…`: that one alone
 *   DELETE  {"jti": "…"} | … | {"id": "jti:…"}: undoes it
 *             200  no longer in force, on other nodes within a second
 *             404  it was not in force
 *             503  as above
 *
 * 400 when a request is not of this form. Values are not stored, so they cannot be listed: an id is the digest of one.
 */

import { type RevocationKind, revocationDigest, revocationKinds } from '../../shared/revocations.js'
import { type AdminRequest, type Answer, refused } from './answer.js'

/** Long enough for tokens that live for a month. */
export const REVOCATION_TTL_DEFAULT_S = 30 * 86_400
const TTL_MAX_S = 10 * 366 * 86_400
const VALUE_CHARACTERS_MAX = 16_384

export interface RevocationRequest {
  readonly kind: RevocationKind
  readonly value: string
  readonly ttlS: number
}

export type RevocationOutcome =
  | { readonly state: 'in-force' }
  | { readonly state: 'full' }
  | { readonly state: 'here-only'; readonly reason: string }

export interface RevocationActions {
  revoke(request: RevocationRequest): Promise<RevocationOutcome>
  /** What is in force: ids, and until when, seconds since the epoch. */
  inForce(): ReadonlyMap<string, number>
  /** Null = nothing of this id was in force. */
  undo(id: string): Promise<Exclude<RevocationOutcome, { state: 'full' }> | null>
}

const LISTED_MAX = 1_000

export function answerRevocations({ method, query, body }: AdminRequest, actions: RevocationActions): Promise<Answer> | Answer {
  if (method === 'POST') return revoke(body, actions)
  if (method === 'GET') return list(query, actions)
  if (method === 'DELETE') return undo(body, actions)
  return refused(405, 'not supported: /v1/revocations takes GET, POST and DELETE')
}

async function revoke(body: string, actions: RevocationActions): Promise<Answer> {
  const request = readRequest(body)
  if (typeof request === 'string') return badRequest(request)
  const outcome = await actions.revoke(request)
  const done = { revoked: request.kind, ttl: request.ttlS }
  switch (outcome.state) {
    case 'in-force':
      return { status: 201, body: done }
    case 'full':
      return refused(507, 'nothing was revoked: the table of revocations is full')
    case 'here-only':
      return refused(503, `revoked on this node only: ${notTaken(outcome.reason)}`, done)
  }
}

function list(query: URLSearchParams, actions: RevocationActions): Answer {
  const wanted: string[] = []
  for (const [name, value] of query) {
    // The key of the administrator, already looked at.
    if (name === 'api_key') continue
    const kind = revocationKinds.find((one) => one === name)
    if (name === 'id') wanted.push(value)
    else if (kind !== undefined && kind !== 'token') wanted.push(revocationDigest(kind, value))
    else return badRequest('expected no query, or one of jti, sub, consumer and id; tokens do not belong into addresses')
  }
  const all = actions.inForce()
  const found = wanted.length === 0 ? [...all] : wanted.flatMap((id) => (all.has(id) ? [[id, all.get(id) ?? 0] as const] : []))
  const listed = found.sort(([, a], [, b]) => b - a).slice(0, LISTED_MAX)
  const revocations = listed.map(([id, untilS]) => ({
    id,
    kind: id.slice(0, id.indexOf(':')),
    until: new Date(untilS * 1000).toISOString(),
  }))
  return { status: 200, body: { total: found.length, revocations } }
}

async function undo(body: string, actions: RevocationActions): Promise<Answer> {
  const id = readId(body)
  if (typeof id !== 'string') return badRequest(id.problem)
  const outcome = await actions.undo(id)
  if (outcome === null) return refused(404, 'this is not revoked; GET /v1/revocations lists what is')
  if (outcome.state === 'in-force') return { status: 200, body: { undone: id } }
  return refused(503, `undone on this node only: ${notTaken(outcome.reason)}`, { undone: id })
}

function notTaken(reason: string): string {
  return `Redis did not take it (${reason}); it is tried again until it does`
}

function badRequest(problem: string): Answer {
  return refused(400, `invalid request: ${problem}`)
}

const expected = 'expected one of "jti", "sub", "consumer", "token" with a text, and an optional "ttl" in seconds'

/** The request, or what is wrong with it; the text never repeats a value. */
function readRequest(body: string): RevocationRequest | string {
  let parsed: unknown
  try {
    parsed = JSON.parse(body)
  } catch {
    return `not JSON; ${expected}`
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return expected
  const fields: { readonly [name: string]: unknown } = { ...parsed }
  const unknown = Object.keys(fields).find((name) => name !== 'ttl' && !revocationKinds.some((kind) => kind === name))
  if (unknown !== undefined) return `unknown field ${JSON.stringify(unknown.slice(0, 64))}; ${expected}`
  const kinds = revocationKinds.filter((kind) => fields[kind] !== undefined)
  const [kind] = kinds
  if (kind === undefined || kinds.length > 1)
    return `${kinds.length === 0 ? 'nothing to revoke' : `${kinds.join(' and ')} together`}; ${expected}`
  const value = fields[kind]
  if (typeof value !== 'string' || value === '') return `"${kind}" must be a text that is not empty`
  if (value.length > VALUE_CHARACTERS_MAX) return `"${kind}" is longer than ${VALUE_CHARACTERS_MAX} characters`
  const { ttl = REVOCATION_TTL_DEFAULT_S } = fields
  if (typeof ttl !== 'number' || !Number.isInteger(ttl) || ttl < 1 || ttl > TTL_MAX_S)
    return `"ttl" must be an integer from 1 to ${TTL_MAX_S}`
  return { kind, value, ttlS: ttl }
}

/** The id that a request to undo names. */
function readId(body: string): string | { readonly problem: string } {
  try {
    const parsed: unknown = JSON.parse(body)
    if (
      typeof parsed === 'object' &&
      parsed !== null &&
      'id' in parsed &&
      typeof parsed.id === 'string' &&
      Object.keys(parsed).length === 1
    )
      return parsed.id
  } catch {
    // Told below.
  }
  const request = readRequest(body)
  return typeof request === 'string' ? { problem: `${request}, or "id"` } : revocationDigest(request.kind, request.value)
}
