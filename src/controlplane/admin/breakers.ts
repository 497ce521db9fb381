/**
 * Circuit breakers by hand.
 *
 *   GET  /v1/breakers         all that are in use, with their states; any role
 *   POST /v1/breakers/open    {"name": "route:1"}: refuses everything until it is closed by hand; admin
 *   POST /v1/breakers/close   {"name": "route:1"}: closes it and forgets what was counted; admin
 */

export interface BreakerActions {
  list(): object
  /** False when there is no breaker of this name. */
  change(name: string, action: 'open' | 'close'): boolean
}

export interface BreakerAnswer {
  readonly status: number
  readonly body: object
}

const actions = { '/v1/breakers/open': 'open', '/v1/breakers/close': 'close' } as const

/** The answer to a request for breakers, or null when the path is none of ours. */
export function answerBreakers(
  method: string,
  path: string,
  isAdmin: boolean,
  body: string,
  breakers: BreakerActions,
): BreakerAnswer | null {
  if (path === '/v1/breakers')
    return method === 'GET' ? { status: 200, body: breakers.list() } : refused(405, `not supported: ${path} takes GET`)
  if (path !== '/v1/breakers/open' && path !== '/v1/breakers/close') return null
  if (method !== 'POST') return refused(405, `not supported: ${path} takes POST`)
  if (!isAdmin) return { status: 401, body: { error_msg: 'failed to check token', description: 'invalid method for role viewer' } }
  const name = nameOf(body)
  if (name === null) return refused(400, 'invalid request body: expected {"name": string}')
  const action = actions[path]
  if (!breakers.change(name, action)) return refused(404, `there is no circuit breaker "${name}"; GET /v1/breakers lists those in use`)
  return { status: 200, body: { name, action } }
}

function refused(status: number, message: string): BreakerAnswer {
  return { status, body: { error_msg: message } }
}

function nameOf(body: string): string | null {
  try {
    const value: unknown = JSON.parse(body)
    return typeof value === 'object' && value !== null && 'name' in value && typeof value.name === 'string' ? value.name : null
  } catch {
    return null
  }
}
