/** User name and password of the Basic scheme (RFC 7617). */

export interface BasicCredentials {
  readonly username: string
  /** May hold `:`. */
  readonly password: string
}

const basic = /^basic +([A-Za-z0-9+/]+={0,2})$/i

/** Reads a field value; null = another scheme, no base64, or no colon. `lengthMax`: a longer value is not looked at. */
export function readBasic(value: string, lengthMax: number): BasicCredentials | null {
  if (value.length > lengthMax) return null
  const encoded = basic.exec(value)?.[1]
  if (encoded === undefined) return null
  const decoded = Buffer.from(encoded, 'base64').toString('utf8')
  const colon = decoded.indexOf(':')
  return colon < 0 ? null : { username: decoded.slice(0, colon), password: decoded.slice(colon + 1) }
}
