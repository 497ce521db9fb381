/**
 * `POST /v1/revocations`: from the moment of the answer on, no worker of this gateway lets through what was revoked.
 *
 *   {"jti": "…"} | {"sub": "…"} | {"consumer": "…"} | {"token": "…"}, optional "ttl" in seconds
 *
 *   201  in force on this node, and in Redis where that is configured: on every node within a second
 *   400  the body is not of this form
 *   503  in force on this node, but Redis did not take it; it is tried again until it does
 *   507  the table of revocations is full; nothing was revoked
 */
import { type RevocationKind, revocationKinds } from '../../shared/revocations.js'

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

interface Answer {
  readonly status: number
  readonly body: object
}

export async function answerRevocation(
  body: string,
  actions: { revoke(request: RevocationRequest): Promise<RevocationOutcome> },
): Promise<Answer> {
  const request = readRequest(body)
  if (typeof request === 'string') return { status: 400, body: { error_msg: `invalid request body: ${request}` } }
  const outcome = await actions.revoke(request)
  switch (outcome.state) {
    case 'in-force':
      return { status: 201, body: { revoked: request.kind, ttl: request.ttlS } }
    case 'full':
      return { status: 507, body: { error_msg: 'nothing was revoked: the table of revocations is full' } }
    case 'here-only':
      return {
        status: 503,
        body: {
          error_msg: `revoked on this node only: Redis did not take it (${outcome.reason}); it is tried again until it does`,
          revoked: request.kind,
          ttl: request.ttlS,
        },
      }
  }
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
