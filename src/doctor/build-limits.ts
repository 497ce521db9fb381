/**
 * What the native parser of a uWebSockets.js build decides before JavaScript sees a byte, so that no guard can cover it. Every entry
 * is a probe (`group: name`) with the reason; a test holds the list exact in both directions. The way out are listeners of kind `tcp`,
 * which have no such list, and of kind `node`, whose own list has one harmless entry.
 */

const CHUNKS = 'the build reads chunk framing loosely and hands over a body that looks well-formed; it goes upstream framed anew'
const CUT = 'the build cuts bytes from 0x80 on off both ends of a value as if they were spaces'
const PIPELINE = 'the build closes a connection on which a second request arrives before the first was answered; clients repeat it'
const PIECES = 'the build refuses a request line that arrives in several reads'

/** Both builds that the gateway is tested with share one parser ancestry. */
const common: readonly (readonly [string, string])[] = [
  ['content-length: no-break space', CUT],
  ['transfer-encoding: high byte before the value', CUT],
  ['transfer-encoding: underscore spelling (another field)', 'the build does not answer requests that have an underscore in a field name'],
  ['chunked: empty size line', CHUNKS],
  ['chunked: space before the size', CHUNKS],
  ['chunked: size line with LF only', CHUNKS],
  ['chunked: size line with CR only', CHUNKS],
  ['chunked: data ends with LF only', CHUNKS],
  ['chunked: no line end behind the data', CHUNKS],
  ['chunked: data longer than its size', CHUNKS],
  ['chunked: two other bytes instead of CRLF behind the data', CHUNKS],
  ['chunked: last chunk with LF only', CHUNKS],
  ['chunked: NUL in the size line', CHUNKS],
  ['chunked: LF inside a chunk extension', CHUNKS],
  ['chunked: chunk extension that looks like a size', CHUNKS],
  ['chunked: space behind the size', CHUNKS],
  ['chunked: trailer that is a request', 'the build ends a chunked body at its last chunk and takes trailers for the next request'],
  ['pipelining: two requests at once', PIPELINE],
  ['pipelining: three requests, a body in the middle', PIPELINE],
  ['pipelining: a good request, then two lengths', PIPELINE],
  ['header: UTF-8 at the end of a value', CUT],
  ['header: empty name', 'the build ends the list of fields at an empty name: it and what follows stays unseen and is not forwarded'],
  ['header: 90 fields', 'the build does not answer requests with more than about 45 fields'],
]

const byBinding: Readonly<Record<string, readonly (readonly [string, string])[]>> = {
  'uWebSockets.js': [
    ['request line: in two pieces', PIECES],
    ['request line: every byte on its own', PIECES],
  ],
}

/** What llhttp decides in the strict listener. */
const strict: readonly (readonly [string, string])[] = [
  [
    'chunked: size of all ones',
    'llhttp takes any chunk size that fits 64 bits: the beginning of that body arrives as it was sent, and the body never becomes complete',
  ],
]

/** Limits of a build by its package name; `node` = the strict listener, `tcp` = our own parser, which has none. */
export function buildLimits(binding: string): ReadonlyMap<string, string> {
  if (binding === 'tcp') return new Map()
  if (binding === 'node') return new Map(strict)
  return new Map([...common, ...(byBinding[binding] ?? [])])
}
