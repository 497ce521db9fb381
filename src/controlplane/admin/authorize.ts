/** Who may ask the admin server for what. */
import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { AddressSet } from '../../base/address-set.js'
import { cookieValue } from '../../base/request-values.js'
import type { AdminConfig } from '../../schema/process.js'
import { type Answer, refused } from './answer.js'

export type AdminRole = AdminConfig['keys'][number]['role']

/** The role of a key, or null. Compares digests of all keys, so that the time tells nothing about any of them. */
export function roleOf(key: string, keys: AdminConfig['keys']): AdminRole | null {
  const given = digest(key)
  let found: AdminRole | null = null
  for (const candidate of keys) if (timingSafeEqual(given, digest(candidate.key)) && candidate.key !== '') found = candidate.role
  return found
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text, 'utf8').digest()
}

/**
 * Whether a Host header may reach the admin server listening on `listenHost`. A name other than localhost is only accepted when it is
 * the configured one, or one of `others`: a web page whose name was rebound to 127.0.0.1 must not get through.
 */
export function isHostAllowed(host: string | undefined, listenHost: string, others: readonly string[] = []): boolean {
  const [, bracketed, plain] = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]/@\s]+))(?::\d{1,5})?$/.exec(host ?? '') ?? []
  if (bracketed !== undefined) return true
  if (plain === undefined) return false
  const name = plain.toLowerCase()
  return name === 'localhost' || name === listenHost.toLowerCase() || others.includes(name) || /^\d{1,3}(\.\d{1,3}){3}$/.test(name)
}

/** The doors of one admin server, in the order in which they are tried. */
export class AdminGuard {
  private readonly allowed: AddressSet | null
  private readonly scheme: string

  constructor(
    private readonly config: AdminConfig,
    private readonly keys: AdminConfig['keys'],
  ) {
    this.allowed = config.allow.length === 0 ? null : AddressSet.of(config.allow)
    this.scheme = config.tls === null ? 'http' : 'https'
  }

  /** Why a request is not even looked at, or null. */
  refusal(clientAddress: string, headers: IncomingHttpHeaders): Answer | null {
    if (this.allowed !== null && !this.allowed.has(clientAddress))
      return refused(403, 'the address of the client is not in the list of sluice.admin.allow')
    if (!isHostAllowed(headers.host, this.config.host, this.config.hosts)) {
      return refused(403, 'the Host header names another server; use the address, localhost or a name in sluice.admin.hosts')
    }
    const { origin } = headers
    if (origin !== undefined && !this.isOwn(origin, headers.host) && this.allowedOrigin(origin) === null) {
      return refused(403, 'requests from web pages of other origins are not accepted; see sluice.admin.origins')
    }
    return null
  }

  /** Value of Access-Control-Allow-Origin for a page of this origin, or null. */
  allowedOrigin(origin: string | undefined): string | null {
    if (origin === undefined) return null
    if (this.config.origins.includes('*')) return '*'
    return this.config.origins.includes(origin) ? origin : null
  }

  /** The role that the key of a request has; else why there is none. */
  authenticate(headers: IncomingHttpHeaders, query: URLSearchParams): AdminRole | Answer {
    // Tools for Kong have a header of their own for keys.
    const header = headers['x-api-key'] ?? headers['kong-admin-token']
    const given = query.get('api_key') ?? (typeof header === 'string' ? header : '')
    const key = given === '' ? this.cookieKey(headers) : given
    if (key === '') return unauthorized('missing apikey')
    return roleOf(key, this.keys) ?? unauthorized('wrong apikey')
  }

  /** A browser sends cookies by itself: not on behalf of a page from elsewhere. */
  private cookieKey(headers: IncomingHttpHeaders): string {
    const site = headers['sec-fetch-site']
    if (site !== undefined && site !== 'same-origin' && site !== 'none') return ''
    if (headers.origin !== undefined && !this.isOwn(headers.origin, headers.host)) return ''
    return cookieValue(headers.cookie ?? '', 'x_api_key') ?? ''
  }

  private isOwn(origin: string, host: string | undefined): boolean {
    return host !== undefined && origin.toLowerCase() === `${this.scheme}://${host.toLowerCase()}`
  }
}

export function unauthorized(description: string): Answer {
  return refused(401, 'failed to check token', { description })
}
