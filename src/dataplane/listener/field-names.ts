/** Names of header fields as text: made once, and found again by their bytes. */

/** Names that are known; a power of two. */
const NAMES = 512

/** Fields that say where a request ends, or how its connection goes on. */
export enum Role {
  None = 0,
  ContentLength = 1,
  TransferEncoding = 2,
  Connection = 3,
  Host = 4,
  Expect = 5,
}

/** Lower-case form of the bytes of a token (RFC 9110 §5.6.2), 0 for all others. */
export const lowerToken = new Uint8Array(256)
for (const char of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
  lowerToken[char.charCodeAt(0)] = char.toLowerCase().charCodeAt(0)
}

const roles = new Map<string, Role>([
  ['content-length', Role.ContentLength],
  ['transfer-encoding', Role.TransferEncoding],
  ['connection', Role.Connection],
  ['host', Role.Host],
  ['expect', Role.Expect],
])

export class FieldName {
  constructor(
    readonly text: string,
    readonly role: Role,
  ) {}
}

export const hostName = new FieldName('host', Role.Host)

/** A table that forgets: a name takes the place of another with the same hash. */
export class FieldNames {
  private readonly known: (FieldName | undefined)[] = new Array<FieldName | undefined>(NAMES).fill(undefined)

  /** The name in [start, end), from the table of those seen before if it is there. */
  at(bytes: Buffer, start: number, end: number, hash: number): FieldName {
    const place = (hash ^ (hash >>> 9)) & (NAMES - 1)
    const found = this.known[place]
    if (found !== undefined && isNamed(found.text, bytes, start, end)) return found
    const text = bytes.toString('latin1', start, end).toLowerCase()
    const name = new FieldName(text, roles.get(text) ?? Role.None)
    this.known[place] = name
    return name
  }
}

function isNamed(text: string, bytes: Buffer, start: number, end: number): boolean {
  if (text.length !== end - start) return false
  for (let index = 0; index < text.length; index++) {
    if (text.charCodeAt(index) !== lowerToken[bytes[start + index] as number]) return false
  }
  return true
}
