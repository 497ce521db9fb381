/** `$post_arg.name` as the whole value of a header: a field of the request body, of an HTML form or of a JSON object (dotted path). */

const reference = /^\$(?:post_arg[._]([\w.-]+)|\{\s*post_arg[._]([\w.-]+)\s*\})$/

/** The name of the field, or null when the value is no such reference. */
export function postArgument(value: string): string | null {
  const found = reference.exec(value)
  return found === null ? null : (found[1] ?? found[2] ?? null)
}

/** The text of what is wrong with a value that has such a reference among other text, or null. */
export function postArgumentProblem(value: string): string | null {
  if (!/\$\{?\s*post_arg/.test(value) || postArgument(value) !== null) return null
  return `${JSON.stringify(value)} has $post_arg among other text; expected $post_arg.name as the whole value`
}

/** Reads fields of a body; those that are not there, or are neither text nor number nor boolean, are undefined. */
export function postArguments(body: Buffer, contentType: string): (name: string) => string | undefined {
  if (/^application\/x-www-form-urlencoded\s*(?:;|$)/i.test(contentType)) {
    const form = new URLSearchParams(body.toString('utf8'))
    return (name) => form.get(name) ?? undefined
  }
  if (!/^application\/json\s*(?:;|$)/i.test(contentType)) return () => undefined
  let value: unknown
  try {
    value = JSON.parse(body.toString('utf8'))
  } catch {
    return () => undefined
  }
  return (name) => textOf(name.split('.').reduce<unknown>(member, value))
}

function member(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name) ? Reflect.get(value, name) : undefined
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean' ? String(value) : undefined
}
