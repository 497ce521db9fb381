/** What the admin server answers with, and in which words it refuses. */

export interface Answer {
  readonly status: number
  /** An object is sent as JSON, a text as it is; null = no body. */
  readonly body: object | string | null
  readonly headers?: { readonly [name: string]: string }
}

export interface AdminRequest {
  readonly method: string
  /** Without the query, not decoded. */
  readonly path: string
  readonly query: URLSearchParams
  /** Lower-case names. */
  readonly headers: { readonly [name: string]: string | string[] | undefined }
  readonly body: string
  readonly role: 'admin' | 'viewer'
}

export function refused(status: number, message: string, more: object = {}): Answer {
  return { status, body: { error_msg: message, ...more } }
}

export const keyNotFound: Answer = { status: 404, body: { message: 'Key not found' } }

/** The version of Kong whose Admin API is answered: tools choose their dialect by it. */
export const KONG_VERSION = '3.10.0'

/** An answer of Kong's Admin API. */
export function kongAnswer(status: number, body: object | null): Answer {
  return { status, body, headers: kongHeaders }
}

export const kongHeaders = { 'content-type': 'application/json; charset=utf-8', server: `kong/${KONG_VERSION}` } as const
