/** Where a request carries its token, and how to take it out of the request. */

import { cookiesOf, REPEATED, removeCookie, singleField } from '../auth/fields.js'
import { cookieValue, type Exchange, queryValues, withoutQueryValue } from '../plugin.js'

export interface TokenPlaces {
  /** Lower-case. */
  readonly header: string
  readonly query: string
  readonly cookie: string
}

/** The token, from the header, the query or a cookie, in this order; undefined = none; REPEATED = two header fields or parameters. */
export function findToken(exchange: Exchange, places: TokenPlaces): string | undefined | typeof REPEATED {
  const field = singleField(exchange.requestHeaders, places.header)
  if (field === REPEATED) return REPEATED
  if (field !== undefined) return withoutScheme(field)
  const { query } = exchange
  if (query !== '') {
    const parameters = queryValues(query, places.query)
    if (parameters.length > 0) return parameters.length > 1 ? REPEATED : parameters[0]
  }
  const cookies = cookiesOf(exchange.requestHeaders)
  return cookies === undefined ? undefined : cookieValue(cookies, places.cookie)
}

/** Schemes are compared without regard to case (RFC 9110 §11.1); without one the whole field is the token. */
function withoutScheme(field: string): string {
  if (field.startsWith('Bearer ')) return field.slice(7)
  return field.length > 7 && field.charCodeAt(6) === 32 && field.slice(0, 6).toLowerCase() === 'bearer' ? field.slice(7) : field
}

/** Takes the token out of what goes upstream, from all the places where it may be. */
export function hideToken(exchange: Exchange, places: TokenPlaces): void {
  const headers = exchange.requestHeaders
  headers.remove(places.header)
  if (exchange.upstreamQuery !== '') exchange.upstreamQuery = withoutQueryValue(exchange.upstreamQuery, places.query)
  removeCookie(headers, places.cookie)
}
