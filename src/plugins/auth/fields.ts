/** Credentials in header fields: which one counts must not depend on who reads the request. */
import { cookieValue, type HeaderList, withoutCookie } from '../plugin.js'

/** There are several lines of this field. */
export const REPEATED = Symbol('repeated')

/** The value of a field that may stand once only. `key` is lower-case. */
export function singleField(headers: HeaderList, key: string): string | undefined | typeof REPEATED {
  const { keys, values, count } = headers
  let found: string | undefined
  for (let index = 0; index < count; index++) {
    if (keys[index] !== key) continue
    if (found !== undefined) return REPEATED
    found = values[index]
  }
  return found
}

/** All cookies of the request as one field: several lines are joined as HTTP/2 has it (RFC 9113 §8.2.3). Undefined = none. */
export function cookiesOf(headers: HeaderList): string | undefined {
  const { keys, values, count } = headers
  let joined: string | undefined
  for (let index = 0; index < count; index++) {
    if (keys[index] === 'cookie') joined = joined === undefined ? values[index] : `${joined}; ${values[index]}`
  }
  return joined
}

/** Takes a cookie out of what goes upstream; all others stay. */
export function removeCookie(headers: HeaderList, name: string): void {
  const cookies = cookiesOf(headers)
  if (cookies === undefined || cookieValue(cookies, name) === undefined) return
  const left = withoutCookie(cookies, name)
  if (left === '') headers.remove('cookie')
  else headers.set('Cookie', left)
}
