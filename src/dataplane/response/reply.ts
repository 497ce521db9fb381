/** Answers that the gateway makes itself: replies of plugins and failures. */
import { randomBytes } from 'node:crypto'
import type { Failure } from '../../base/errors.js'
import { kongErrorBody, kongMessage } from '../../base/kong-error.js'
import { byStatus, reasonPhrase } from '../../base/status.js'
import type { Reply } from '../../plugins/plugin.js'
import type { Exchange } from '../exchange.js'

export interface ReplyParts {
  readonly status: number
  readonly body: string | Uint8Array
  readonly headers: readonly (readonly [string, string])[]
  /** Type of the body, unless the headers say it; empty = none. */
  readonly contentType: string
}

const JSON_TYPE = 'application/json'
const TEXT_TYPE = 'text/plain; charset=utf-8'
const noHeaders = [] as const

const idPrefix = randomBytes(10).toString('hex')
let idCounter = 0

/** The id of this request, made on first need: unique per worker start, not guessable from outside. */
export function requestIdOf(exchange: Exchange): string {
  if (exchange.requestId === '') {
    idCounter = (idCounter + 1) >>> 0
    exchange.requestId = `${idPrefix}${idCounter.toString(16).padStart(8, '0')}`
  }
  return exchange.requestId
}

/** `isKong`: failures have the bodies of Kong. */
export function gatewayReply(exchange: Exchange, source: Reply | Failure, isKong = false): ReplyParts {
  if (!('code' in source)) return pluginReply(source)
  return isKong ? kongReply(exchange, source) : failureReply(exchange, source)
}

function kongReply(exchange: Exchange, failure: Failure): ReplyParts {
  const id = requestIdOf(exchange)
  const { body, contentType } = kongErrorBody(exchange.requestHeaders.get('accept'), kongMessage(failure), id)
  const retry: ReplyParts['headers'] = failure.retryAfter === 0 ? noHeaders : [['Retry-After', String(failure.retryAfter)]]
  return { status: failure.status, body, headers: [['X-Kong-Request-Id', id], ...retry], contentType }
}

function failureReply(exchange: Exchange, failure: Failure): ReplyParts {
  const id = requestIdOf(exchange)
  // Scripts of the reference gateway's users look for the exact text of this one.
  const body =
    failure.code === 'NO_ROUTE'
      ? '{"error_msg":"404 Route Not Found"}\n'
      : `{"error_msg":${JSON.stringify(failure.message)},"reason":"${failure.code}","request_id":"${id}"}\n`
  const headers: ReplyParts['headers'] =
    failure.retryAfter === 0
      ? [['X-Request-Id', id]]
      : [
          ['X-Request-Id', id],
          ['Retry-After', String(failure.retryAfter)],
        ]
  return { status: failure.status, body, headers, contentType: JSON_TYPE }
}

function pluginReply(reply: Reply): ReplyParts {
  const body = reply.body ?? defaultBody(reply.status)
  const headers = reply.headers ?? noHeaders
  const contentType = body.length === 0 || hasContentType(headers) ? '' : looksLikeJson(body) ? JSON_TYPE : TEXT_TYPE
  return { status: reply.status, body, headers, contentType }
}

/** By its first character, `{`, `[` or `"`: texts that operators write into options are as often plain as JSON. */
function looksLikeJson(body: string | Uint8Array): boolean {
  const first = typeof body === 'string' ? body.charCodeAt(0) : body[0]
  return first === 0x7b || first === 0x5b || first === 0x22
}

function hasContentType(headers: ReplyParts['headers']): boolean {
  for (let index = 0; index < headers.length; index++) {
    const name = headers[index]?.[0]
    if (name !== undefined && name.length === 12 && name.toLowerCase() === 'content-type') return true
  }
  return false
}

const defaultBodies = byStatus<string>()

/** What a plugin's refusal without a body says: the reason phrase. Other answers without a body have none. */
function defaultBody(status: number): string {
  if (status < 400) return ''
  let body = defaultBodies[status]
  if (body === undefined) {
    body = `${JSON.stringify({ error_msg: reasonPhrase(status) })}\n`
    defaultBodies[status] = body
  }
  return body
}
