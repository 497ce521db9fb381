/**
 * Building a new request target out of templates: what proxy-rewrite sends upstream and redirect puts into Location.
 *
 * Templates are filled with decoded text (canonical path, query values), so the result is encoded again. In a canonical path a `%`
 * stands only in `%2F` and `%25`, which are kept; any other `%` is data.
 */

/** Splits a template at its first `?` that is not inside `${…}`; query is null when there is none. */
export function splitTarget(template: string): { readonly path: string; readonly query: string | null } {
  let depth = 0
  for (let index = 0; index < template.length; index++) {
    const character = template[index]
    if (character === '$' && template[index + 1] === '{') depth = 1
    else if (character === '}') depth = 0
    else if (character === '?' && depth === 0) return { path: template.slice(0, index), query: template.slice(index + 1) }
  }
  return { path: template, query: null }
}

const plainPath = /^[A-Za-z0-9\-._~!$&'()*+,;=:@/[\]]*$/
const plainQuery = /^[A-Za-z0-9\-._~!$&'()*+,;=:@/[\]?%{}|^`\\]*$/

/** Wire form of a decoded path: space, `?`, `#`, controls, non-ASCII and other `%` than `%2F` and `%25` are percent-encoded. */
export function encodePath(path: string): string {
  if (plainPath.test(path)) return path
  return path.replace(/%(?!2[Ff5])|[^A-Za-z0-9\-._~!$&'()*+,;=:@/[\]%]+/g, escapeText)
}

/** Wire form of a query: only what may not stand in a target (blanks, controls, `#`, quotes, `<>`, non-ASCII) is percent-encoded. */
export function encodeQuery(query: string): string {
  if (plainQuery.test(query)) return query
  return query.replace(/[^A-Za-z0-9\-._~!$&'()*+,;=:@/[\]?%{}|^`\\]+/g, escapeText)
}

/** Resolves `.` and `..` segments that values brought into a path; never climbs above the root. */
export function removeDotSegments(path: string): string {
  if (!path.includes('/.')) return path
  const kept: string[] = []
  const segments = path.split('/')
  for (const [index, segment] of segments.entries()) {
    const isLast = index === segments.length - 1
    if (segment === '..') {
      if (kept.length > 1) kept.pop()
      if (isLast) kept.push('')
    } else if (segment !== '.') kept.push(segment)
    else if (isLast) kept.push('')
  }
  return kept.join('/')
}

/** A byte that no path contains: marks the place of a match. */
const mark = '\u0000'

/** What stands before and after the first match of the pattern, for substituting a template that needs more than `$1`. */
export function aroundMatch(
  pattern: { replace(input: string, replacement: string, all: boolean): string },
  input: string,
): { readonly before: string; readonly after: string } {
  const marked = pattern.replace(input, mark, false)
  const index = marked.indexOf(mark)
  return index < 0 ? { before: '', after: '' } : { before: marked.slice(0, index), after: marked.slice(index + 1) }
}

function escapeText(text: string): string {
  let escaped = ''
  for (const byte of Buffer.from(text, 'utf8')) escaped += `%${byte < 16 ? '0' : ''}${byte.toString(16).toUpperCase()}`
  return escaped
}
