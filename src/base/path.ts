/**
 * The canonical path: one reading of the request target decides what the router matches and what the upstream receives, so that no
 * two parties can understand the same bytes differently. What could be understood in two ways is refused.
 *
 * `match` is percent-decoded once, `forward` keeps the client's spelling. Both are the same string when nothing is special.
 * With `encodedSlash: keep`, `%2F` stays three characters in `match`, and so does `%25`: two different paths never become one.
 */

/** What `canonicalPath` does with the spellings on which gateways and upstreams disagree. Defaults in brackets. */
export interface PathPolicy {
  /** `%2F`: keep it as three characters in matching and forwarding [keep], refuse with 400, or decode to `/` in both. */
  readonly encodedSlash: 'keep' | 'reject' | 'decode'
  /** `//`: [merge] to one, keep, or refuse with 400. */
  readonly doubleSlash: 'merge' | 'keep' | 'reject'
  /** APISIX `delete_uri_tail_slash` [false]: the router matches without it, the upstream still gets it. */
  readonly deleteTailSlash: boolean
  /** APISIX `normalize_uri_like_servlet`: strip `;params` from each segment, in matching and forwarding [false]. */
  readonly servlet: boolean
}

/** Result of `canonicalPath`, reused from request to request. */
export class CanonicalPath {
  /** What the router matches. */
  match = ''
  /** What the upstream receives when nothing rewrites it. */
  forward = ''
  /** Why the path was refused; empty when it was not. */
  problem = ''
}

// Classes of a character code: what the first pass does when it meets one.
const plain = 0
const slash = 1
const dot = 2
const semicolon = 3
const percent = 4
const forbidden = 5

const classes = new Uint8Array(128)
for (let code = 0; code < 128; code++) {
  if (code <= 0x20 || code === 0x7f || code === 0x23 || code === 0x5c) classes[code] = forbidden
}
classes[0x2f] = slash
classes[0x2e] = dot
classes[0x3b] = semicolon
classes[0x25] = percent

/**
 * Reads the path of a request target (no query). Returns false and sets `out.problem` when it must be answered with 400.
 * No allocation for paths without escapes, dot segments, `//` and (with `servlet`) `;`.
 */
export function canonicalPath(raw: string, policy: PathPolicy, out: CanonicalPath): boolean {
  out.problem = ''
  if (raw.charCodeAt(0) !== 0x2f) return refuse(out, 'the path does not start with /')
  let special = false
  let previous = plain
  for (let index = 0; index < raw.length; index++) {
    const code = raw.charCodeAt(index)
    const kind = code < 128 ? (classes[code] as number) : forbidden
    if (kind !== plain) {
      if (kind === forbidden) return refuse(out, 'the path contains a character that must be percent-encoded')
      // A dot matters only at the start of a segment, a slash only behind another one, a semicolon also as `..;`.
      if (kind === percent || (previous === slash && kind !== semicolon) || (kind === semicolon && policy.servlet)) special = true
    }
    previous = kind
  }
  if (special) return canonicalSlow(raw, policy, out)
  out.forward = raw
  out.match = policy.deleteTailSlash ? withoutTailSlash(raw) : raw
  return true
}

function refuse(out: CanonicalPath, problem: string): false {
  out.match = ''
  out.forward = ''
  out.problem = problem
  return false
}

function withoutTailSlash(path: string): string {
  return path.length > 1 && path.charCodeAt(path.length - 1) === 0x2f ? path.slice(0, -1) : path
}

function canonicalSlow(raw: string, policy: PathPolicy, out: CanonicalPath): boolean {
  const spelled = policy.encodedSlash === 'decode' && raw.includes('%') ? raw.replace(/%2f/gi, '/') : raw
  if (policy.encodedSlash === 'reject' && /%2f/i.test(raw)) return refuse(out, 'the path contains an encoded slash (%2F)')
  const forward: string[] = []
  const match: string[] = []
  const segments = spelled.slice(1).split('/')
  // A dot segment at the end names a directory: the slash before it stays.
  let openEnd = false
  for (let index = 0; index < segments.length; index++) {
    const whole = segments[index] as string
    const isLast = index === segments.length - 1
    const cut = whole.indexOf(';')
    const bare = cut < 0 ? whole : whole.slice(0, cut)
    if (cut >= 0 && isDots(decodeDots(bare))) return refuse(out, 'the path contains a dot segment with parameters')
    const segment = policy.servlet ? bare : whole
    if (!isDots(segment) && isDots(decodeDots(segment))) return refuse(out, 'the path contains an encoded dot segment')
    if (segment === '.' || segment === '..') {
      if (segment === '..') {
        if (forward.length === 0) return refuse(out, 'the path leaves the root')
        forward.pop()
        match.pop()
      }
      openEnd = isLast
      continue
    }
    if (segment === '' && !isLast) {
      if (policy.doubleSlash === 'reject') return refuse(out, 'the path contains an empty segment (//)')
      if (policy.doubleSlash === 'merge') continue
    }
    const decoded = segment.includes('%') ? decodeSegment(segment, policy, out) : segment
    if (decoded === null) return false
    if (/^\.\.?;/.test(decoded)) return refuse(out, 'the path contains a dot segment with parameters')
    forward.push(segment)
    match.push(decoded)
  }
  if (openEnd) {
    forward.push('')
    match.push('')
  }
  out.forward = `/${forward.join('/')}`
  out.match = `/${match.join('/')}`
  if (policy.deleteTailSlash) out.match = withoutTailSlash(out.match)
  return true
}

function isDots(segment: string): boolean {
  return segment === '.' || segment === '..'
}

function decodeDots(segment: string): string {
  return segment.includes('%') ? segment.replace(/%2e/gi, '.') : segment
}

/** Decodes the escapes of one segment; null after refusing. */
function decodeSegment(segment: string, policy: PathPolicy, out: CanonicalPath): string | null {
  let decoded = ''
  let copied = 0
  for (let index = segment.indexOf('%'); index >= 0; index = segment.indexOf('%', copied)) {
    decoded += segment.slice(copied, index)
    const byte = hexByte(segment, index)
    if (byte < 0) return refuseSegment(out, 'the path contains an incomplete percent-encoding')
    if (byte < 0x20 || byte === 0x7f) return refuseSegment(out, 'the path contains an encoded control character')
    if (byte === 0x5c) return refuseSegment(out, 'the path contains an encoded backslash')
    copied = index + 3
    if (byte === 0x2f) decoded += '%2F'
    else if (byte === 0x25 && policy.encodedSlash === 'keep') decoded += '%25'
    else if (byte < 0x80) decoded += String.fromCharCode(byte)
    else {
      const length = byte >= 0xc2 && byte <= 0xdf ? 2 : byte >= 0xe0 && byte <= 0xef ? 3 : byte >= 0xf0 && byte <= 0xf4 ? 4 : 0
      const point = length === 0 ? -1 : decodeUtf8(segment, index, byte, length)
      if (point < 0) return refuseSegment(out, 'the path contains invalid UTF-8')
      // C1 control characters are control characters in another spelling.
      if (point < 0xa0) return refuseSegment(out, 'the path contains an encoded control character')
      decoded += String.fromCodePoint(point)
      copied = index + 3 * length
    }
  }
  return decoded + segment.slice(copied)
}

function refuseSegment(out: CanonicalPath, problem: string): null {
  refuse(out, problem)
  return null
}

/** Code point of `length` escaped bytes that start at `index`; -1 for overlong forms, surrogates, and anything but UTF-8. */
function decodeUtf8(text: string, index: number, first: number, length: number): number {
  let point = first & (0xff >> (length + 1))
  for (let part = 1; part < length; part++) {
    const byte = hexByte(text, index + 3 * part)
    if (byte < 0x80 || byte > 0xbf) return -1
    point = (point << 6) | (byte & 0x3f)
  }
  const smallest = length === 2 ? 0x80 : length === 3 ? 0x800 : 0x10000
  if (point < smallest || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) return -1
  return point
}

/** Value of `%xx` at `index`, or -1. */
function hexByte(text: string, index: number): number {
  if (text.charCodeAt(index) !== 0x25) return -1
  const high = hexDigit(text.charCodeAt(index + 1))
  const low = hexDigit(text.charCodeAt(index + 2))
  return high < 0 || low < 0 ? -1 : high * 16 + low
}

function hexDigit(code: number): number {
  if (code >= 48 && code <= 57) return code - 48
  const lower = code | 0x20
  return lower >= 97 && lower <= 102 ? lower - 87 : -1
}
