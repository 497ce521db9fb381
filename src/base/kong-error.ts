/** Refusals in the shape of Kong: message and request id, in the media type that the client prefers. */

import type { Failure } from './errors.js'

type Format = 'json' | 'html' | 'xml' | 'plain'

/** Media types that a body can be written in; what else a client asks for is answered as JSON. */
const formats: ReadonlyMap<string, Format> = new Map([
  ['application/json', 'json'],
  ['text/html', 'html'],
  ['application/xhtml+xml', 'html'],
  ['application/xml', 'xml'],
  ['text/xml', 'xml'],
  ['text/plain', 'plain'],
  ['application/*', 'json'],
  ['*/*', 'json'],
  ['text/*', 'plain'],
])

const contentTypes: { readonly [format in Format]: string } = {
  json: 'application/json; charset=utf-8',
  html: 'text/html; charset=utf-8',
  xml: 'application/xml; charset=utf-8',
  plain: 'text/plain; charset=utf-8',
}

/** More ranges than this are not looked at: the header comes from a client. */
const RANGES_MAX = 32

/** Body and Content-Type of an error answer. `accept`: the field of the request. */
export function kongErrorBody(accept: string | undefined, message: string, requestId: string): { body: string; contentType: string } {
  const format = preferred(accept)
  return { body: bodyOf(format, message, requestId), contentType: contentTypes[format] }
}

/** The format with the highest quality in an Accept field; the first of equals; JSON when none fits. */
function preferred(accept: string | undefined): Format {
  if (accept === undefined || accept === '*/*') return 'json'
  let best: Format = 'json'
  let bestQuality = 0
  for (const range of accept.split(',', RANGES_MAX)) {
    const [type = '', ...parameters] = range.split(';')
    const format = formats.get(type.trim().toLowerCase())
    if (format === undefined) continue
    const quality = qualityOf(parameters)
    if (quality <= bestQuality) continue
    best = format
    bestQuality = quality
  }
  return best
}

function qualityOf(parameters: readonly string[]): number {
  for (const parameter of parameters) {
    const found = /^\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*$/i.exec(parameter)
    if (found !== null) return Number(found[1])
  }
  return 1
}

function bodyOf(format: Format, message: string, requestId: string): string {
  switch (format) {
    case 'json':
      return `{\n  "message":${JSON.stringify(message)},\n  "request_id":${JSON.stringify(requestId)}\n}`
    case 'html':
      return (
        '<!doctype html>\n<html>\n  <head>\n    <meta charset="utf-8">\n    <title>Error</title>\n  </head>\n  <body>\n' +
        `    <h1>Error</h1>\n    <p>${escapeMarkup(message)}.</p>\n    <p>request_id: ${escapeMarkup(requestId)}</p>\n  </body>\n</html>\n`
      )
    case 'xml':
      return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<error>\n' +
        `  <message>${escapeMarkup(message)}</message>\n  <requestid>${escapeMarkup(requestId)}</requestid>\n</error>\n`
      )
    case 'plain':
      return `${message}\nrequest_id: ${requestId}\n`
  }
}

const entities: { readonly [character: string]: string } = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }

/** Request ids may come from a client, through the request-id plugin. */
function escapeMarkup(text: string): string {
  return text.replace(/[&<>"']/g, (character) => entities[character] ?? character)
}

/** Texts of failures whose status alone does not say enough. */
const messagesByCode: { readonly [code: string]: string } = {
  NO_ROUTE: 'no Route matched with those values',
  NO_UPSTREAM: 'no Service found with those values',
  NO_NODES: 'failure to get a peer from the ring-balancer',
  UPSTREAM_UNHEALTHY: 'failure to get a peer from the ring-balancer',
}

const messagesByStatus: { readonly [status: number]: string } = {
  400: 'Bad request',
  408: 'Request timeout',
  413: 'Payload too large',
  414: 'URI too long',
  417: 'Expectation failed',
  431: 'Request header or cookie too large',
  500: 'An unexpected error occurred',
  502: 'An invalid response was received from the upstream server',
  503: 'The upstream server is currently unavailable',
  504: 'The upstream server is timing out',
}

/** How Kong words a failure of the gateway; its own text where Kong has none. */
export function kongMessage({ code, status, message }: Failure): string {
  return messagesByCode[code] ?? messagesByStatus[status] ?? message
}
