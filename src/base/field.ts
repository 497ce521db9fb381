/**
 * What may stand in a header field that the configuration adds: names are checked once, values at every request, because templates
 * put bytes of the client into them.
 */

const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/

/** Fields that describe the connection or the framing of a message: the gateway writes them itself. Lower-case. */
const framing: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

/** Why a header field of this name cannot be configured, or null. */
export function fieldNameProblem(name: string): string | null {
  if (!token.test(name)) return `"${name}" is not a header name; expected letters, digits and "-"`
  if (framing.has(name.toLowerCase())) return `header "${name}" belongs to the framing of the message, which the gateway writes itself`
  return null
}

/**
 * Makes a text safe as a header value: control bytes (CR, LF, NUL, …) and characters beyond Latin-1 become percent escapes of their
 * UTF-8 bytes, so that no value can end the field. Surrounding blanks go, as a receiver would drop them. Tabs inside stay.
 */
export function fieldValue(text: string): string {
  let clean = true
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index)
    if (code > 0x20 && code !== 0x7f && code <= 0xff) continue
    if (code === 0x20 && index > 0 && index < text.length - 1) continue
    clean = false
    break
  }
  if (clean) return text
  return text.replace(/^[ \t]+|[ \t]+$/g, '').replace(/[^\t\x20-\x7e\x80-\xff]+/g, percentEncode)
}

/** Percent escapes of the UTF-8 bytes of the text; a lone surrogate becomes the replacement character. */
function percentEncode(text: string): string {
  let encoded = ''
  for (const byte of Buffer.from(text, 'utf8')) encoded += `%${byte < 16 ? '0' : ''}${byte.toString(16).toUpperCase()}`
  return encoded
}
