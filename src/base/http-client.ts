/** What a plugin needs to ask another service over HTTP (an authorization server, a policy engine): types and failures. */

export interface HttpSettings {
  /** `http://host:port` or `https://host:port`. */
  readonly origin: string
  /** Longest wait for a whole answer, waiting for a connection included, milliseconds. */
  readonly timeoutMs: number
  /** Most connections that a worker opens to this origin. */
  readonly connections: number
  /** How long an unused connection is kept, milliseconds; 0 = every request has its own connection. */
  readonly keepaliveMs: number
  readonly verifyTls: boolean
  /** Longest body of an answer. */
  readonly maxResponseBytes: number
}

export interface HttpQuestion {
  readonly method: string
  /** Path and query in wire form. */
  readonly path: string
  /** Names and values in turn. */
  readonly headers: readonly string[]
  readonly body?: string | Uint8Array
}

export interface HttpAnswer {
  readonly status: number
  /** Value of a field, lines joined by `, `; undefined = absent. `key` is lower-case. */
  header(key: string): string | undefined
  /** All lines of a field. `key` is lower-case. */
  headerLines(key: string): readonly string[]
  readonly body: Buffer
}

export type HttpFailure =
  /** No answer within the time. */
  | 'timeout'
  /** No connection, or it broke; a TLS problem. */
  | 'unreachable'
  /** The body of the answer is longer than allowed. */
  | 'too-large'
  /** Too many questions wait already. */
  | 'busy'
  /** A header or the path cannot be sent. */
  | 'invalid'

/** The only error with which a question rejects. Its message holds no header and no body. */
export class HttpClientError extends Error {
  override readonly name = 'HttpClientError'
  constructor(
    readonly failure: HttpFailure,
    message: string,
  ) {
    super(message)
  }
}

export interface HttpClient {
  /** Asks once; redirects are not followed. Rejects with HttpClientError only. */
  ask(question: HttpQuestion): Promise<HttpAnswer>
}
