/** Credentials in header fields: which one counts must not depend on who reads the request. */
import type { HeaderList } from '../plugin.js'

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
