/**
 * The failure table: every refusal or error that the gateway itself can answer with.
 *
 * A failure has a stable code (what logs, metrics and `reason` in error bodies carry), the HTTP status it becomes, who is to
 * blame, and a public text. Internal causes never reach a client.
 */

export type FailureSource = 'client' | 'upstream' | 'gateway'

export interface Failure {
  readonly code: string
  readonly status: number
  readonly source: FailureSource
  /** Public text: goes to `error_msg`. */
  readonly message: string
  /** The connection is in an unknown framing state after this failure and is closed behind the answer. */
  readonly closes: boolean
  /** Seconds for `Retry-After`; 0 = the answer has none. */
  readonly retryAfter: number
}

function failure(code: string, status: number, source: FailureSource, message: string, closes = false, retryAfter = 0): Failure {
  return Object.freeze({ code, status, source, message, closes, retryAfter })
}

export const failures = {
  // framing and limits at the edge
  BAD_FRAMING: failure('BAD_FRAMING', 400, 'client', 'ambiguous message framing', true),
  NO_PROXY_HEADER: failure('NO_PROXY_HEADER', 400, 'client', 'a PROXY protocol v2 header is required on this listener', true),
  BAD_HOST: failure('BAD_HOST', 400, 'client', 'missing, repeated or malformed Host header', true),
  BAD_HEADER: failure('BAD_HEADER', 400, 'client', 'malformed header', true),
  BAD_TARGET: failure('BAD_TARGET', 400, 'client', 'malformed or ambiguous request target', true),
  METHOD_NOT_SUPPORTED: failure('METHOD_NOT_SUPPORTED', 501, 'client', 'method is not supported', true),
  EXPECTATION_FAILED: failure('EXPECTATION_FAILED', 417, 'client', 'only "100-continue" is supported in Expect', true),
  REQUEST_TIMEOUT: failure('REQUEST_TIMEOUT', 408, 'client', 'the request did not arrive in time', true),
  BODY_TOO_LARGE: failure('BODY_TOO_LARGE', 413, 'client', 'request body is too large', true),
  TARGET_TOO_LONG: failure('TARGET_TOO_LONG', 414, 'client', 'request target is too long', true),
  HEADERS_TOO_LARGE: failure('HEADERS_TOO_LARGE', 431, 'client', 'request header fields are too large', true),
  UPGRADE_NOT_SUPPORTED: failure('UPGRADE_NOT_SUPPORTED', 501, 'gateway', 'protocol upgrades are not supported', true),
  HTTP_VERSION_NOT_SUPPORTED: failure('HTTP_VERSION_NOT_SUPPORTED', 505, 'client', 'this HTTP version is not supported', true),
  // authentication
  NO_CONSUMER_GROUP: failure('NO_CONSUMER_GROUP', 503, 'gateway', 'the consumer group of this consumer does not exist'),
  CONSUMER_REVOKED: failure('CONSUMER_REVOKED', 401, 'client', 'the credentials of this consumer are revoked'),
  // routing
  NO_ROUTE: failure('NO_ROUTE', 404, 'gateway', '404 Route Not Found'),
  NO_UPSTREAM: failure('NO_UPSTREAM', 503, 'gateway', 'the route has no upstream'),
  OVERLOADED: failure('OVERLOADED', 503, 'gateway', 'the gateway is overloaded'),
  NO_NODES: failure('NO_NODES', 503, 'gateway', 'no valid upstream node'),
  // upstream
  UPSTREAM_UNHEALTHY: failure('UPSTREAM_UNHEALTHY', 503, 'gateway', 'no node of the upstream is healthy'),
  UPSTREAM_BUSY: failure('UPSTREAM_BUSY', 503, 'gateway', 'the upstream has as many requests as it may have', false, 1),
  UPSTREAM_CONNECT_FAILED: failure('UPSTREAM_CONNECT_FAILED', 502, 'upstream', 'could not connect to the upstream'),
  UPSTREAM_CONNECT_TIMEOUT: failure('UPSTREAM_CONNECT_TIMEOUT', 504, 'upstream', 'connecting to the upstream timed out'),
  UPSTREAM_SEND_TIMEOUT: failure('UPSTREAM_SEND_TIMEOUT', 504, 'upstream', 'sending to the upstream timed out'),
  UPSTREAM_READ_TIMEOUT: failure('UPSTREAM_READ_TIMEOUT', 504, 'upstream', 'the upstream did not answer in time'),
  UPSTREAM_TRY_TIMEOUT: failure('UPSTREAM_TRY_TIMEOUT', 504, 'upstream', 'the upstream did not answer within timeout.per_try'),
  UPSTREAM_DEADLINE: failure('UPSTREAM_DEADLINE', 504, 'upstream', 'the upstream did not answer within timeout.total'),
  CLIENT_DEADLINE: failure('CLIENT_DEADLINE', 504, 'client', 'the deadline that the client gave is over'),
  UPSTREAM_RESET: failure('UPSTREAM_RESET', 502, 'upstream', 'the upstream closed the connection'),
  UPSTREAM_BAD_RESPONSE: failure('UPSTREAM_BAD_RESPONSE', 502, 'upstream', 'the upstream sent an invalid response'),
  UPSTREAM_RETRIES_TIMEOUT: failure('UPSTREAM_RETRIES_TIMEOUT', 502, 'upstream', 'the upstream could not be reached within retry_timeout'),
  UPSTREAM_TLS_FAILED: failure('UPSTREAM_TLS_FAILED', 502, 'upstream', 'the TLS handshake with the upstream failed'),
  // gateway
  PLUGIN_FAILED: failure('PLUGIN_FAILED', 500, 'gateway', 'An unexpected error occurred'),
  RESPONSE_TOO_LARGE: failure('RESPONSE_TOO_LARGE', 502, 'upstream', 'the upstream response is too large to be rewritten'),
} as const satisfies Record<string, Failure>

/** A wrong configuration, wrong usage or a missing permission: printed as one clear line, exit code 2 unless said otherwise. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
  constructor(
    message: string,
    readonly exitCode: 1 | 2 = 2,
  ) {
    super(message)
  }
}
