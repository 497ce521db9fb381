/** What the values of fields say that decide framing and persistence. */

const LENGTH_DIGITS_MAX = 15

/** What the Connection fields of a request ask for (RFC 9112 §9.3): `close` beats all others. */
export enum Persistence {
  Default = 0,
  KeepAlive = 1,
  Close = 2,
}

/** Digits only; -1 = it is no length. */
export function lengthOf(value: string): number {
  if (value.length === 0 || value.length > LENGTH_DIGITS_MAX) return -1
  let length = 0
  for (let index = 0; index < value.length; index++) {
    const digit = value.charCodeAt(index) - 48
    if (digit < 0 || digit > 9) return -1
    length = length * 10 + digit
  }
  return length
}

/** Not by toLowerCase(), for which the Kelvin sign is a "k". */
const CHUNKED = /^chunked$/i

/** Exactly one coding, and that is `chunked`. */
export function isChunked(value: string): boolean {
  return value === 'chunked' || CHUNKED.test(value)
}

/** What a Connection field says about the connection; of several the highest counts. */
export function persistenceOf(value: string): Persistence {
  let found = Persistence.Default
  for (const item of value.split(',')) {
    const option = item.trim().toLowerCase()
    if (option === 'close') return Persistence.Close
    if (option === 'keep-alive') found = Persistence.KeepAlive
  }
  return found
}
