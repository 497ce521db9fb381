/** Single values out of a query string, a Cookie field or a path, without parsing the rest; and queries and cookies without one of them. */

/** First value of a query parameter, decoded; empty when it stands without `=`; undefined when absent. */
export function queryValue(query: string, name: string): string | undefined {
  let found: string | undefined
  eachQueryValue(query, name, (value) => {
    found = value
    return false
  })
  return found
}

/** All values of a query parameter in order, decoded. */
export function queryValues(query: string, name: string): string[] {
  const found: string[] = []
  eachQueryValue(query, name, (value) => {
    found.push(value)
    return true
  })
  return found
}

/** The query without any parameter of this name, whatever its spelling; the rest byte by byte as it was. */
export function withoutQueryValue(query: string, name: string): string {
  return query
    .split('&')
    .filter((pair) => {
      const equals = pair.indexOf('=')
      return !isKey(pair, 0, equals < 0 ? pair.length : equals, name)
    })
    .join('&')
}

/** The Cookie field without any cookie of this name; empty when none is left. */
export function withoutCookie(field: string, name: string): string {
  return field
    .split(';')
    .map((pair) => pair.trim())
    .filter((pair) => pair !== '' && pair !== name && !pair.startsWith(`${name}=`))
    .join('; ')
}

function eachQueryValue(query: string, name: string, take: (value: string) => boolean): void {
  let start = 0
  while (start < query.length) {
    let end = query.indexOf('&', start)
    if (end < 0) end = query.length
    const equals = query.indexOf('=', start)
    const keyEnd = equals < 0 || equals > end ? end : equals
    if (isKey(query, start, keyEnd, name) && !take(keyEnd === end ? '' : decodeFormValue(query.slice(keyEnd + 1, end)))) return
    start = end + 1
  }
}

function isKey(query: string, start: number, end: number, name: string): boolean {
  if (end - start === name.length && query.startsWith(name, start)) return true
  // Spelled differently it can only be longer: every escape takes more characters than it stands for, except `+`.
  if (end - start < name.length) return false
  const spelled = query.slice(start, end)
  return /[%+]/.test(spelled) && decodeFormValue(spelled) === name
}

/** Decodes `%xx` and `+`; text with broken escapes stays as it is. */
function decodeFormValue(text: string): string {
  if (!text.includes('%') && !text.includes('+')) return text
  const spaced = text.replaceAll('+', ' ')
  try {
    return decodeURIComponent(spaced)
  } catch {
    return spaced
  }
}

/** First cookie of this name, as it stands in the field; undefined when absent. */
export function cookieValue(field: string, name: string): string | undefined {
  let start = 0
  while (start < field.length) {
    let end = field.indexOf(';', start)
    if (end < 0) end = field.length
    while (start < end && (field.charCodeAt(start) === 32 || field.charCodeAt(start) === 9)) start++
    if (field.charCodeAt(start + name.length) === 61 && field.startsWith(name, start) && start + name.length < end) {
      return field.slice(start + name.length + 1, end).trimEnd()
    }
    start = end + 1
  }
  return undefined
}

/** A wire path decoded as the router reads it: `%2F` and `%25` stay, and so does everything when an escape is broken. */
export function decodedPath(path: string): string {
  if (!path.includes('%')) return path
  const kept = path.replace(/%(2f|25)/gi, (_, digits: string) => `%25${digits.toUpperCase()}`)
  try {
    return decodeURIComponent(kept)
  } catch {
    return path
  }
}
