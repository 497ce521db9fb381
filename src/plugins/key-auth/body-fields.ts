/** Named fields of a request body: HTML forms of both encodings, and JSON objects. What cannot be read has no fields. */

export interface BodyFields {
  /** A text; anything else when the field is there twice or is no text; undefined when absent. */
  get(name: string): unknown
  readonly source:
    | { readonly kind: 'form'; readonly form: URLSearchParams }
    | { readonly kind: 'json'; readonly value: object }
    | MultipartSource
}

interface MultipartSource {
  readonly kind: 'multipart'
  readonly form: FormData
}

const form = /^application\/x-www-form-urlencoded\s*(?:;|$)/i
const multipart = /^multipart\/form-data\s*;/i
const json = /^application\/json\s*(?:;|$)/i

export function canHoldFields(contentType: string): boolean {
  return form.test(contentType) || json.test(contentType) || multipart.test(contentType)
}

/** The fields of a body, or null when it is of another type or broken. */
export async function bodyFields(body: Buffer, contentType: string): Promise<BodyFields | null> {
  if (form.test(contentType)) {
    const parameters = new URLSearchParams(body.toString('utf8'))
    return { get: (name) => single(parameters.getAll(name)), source: { kind: 'form', form: parameters } }
  }
  if (multipart.test(contentType)) {
    const parts = await new Response(body, { headers: { 'Content-Type': contentType } }).formData().catch(() => null)
    return parts === null ? null : { get: (name) => single(parts.getAll(name)), source: { kind: 'multipart', form: parts } }
  }
  return json.test(contentType) ? jsonFields(body) : null
}

function jsonFields(body: Buffer): BodyFields | null {
  let value: unknown
  try {
    value = JSON.parse(body.toString('utf8'))
  } catch {
    return null
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null
  const object = value
  return { get: (name) => (Object.hasOwn(object, name) ? Reflect.get(object, name) : undefined), source: { kind: 'json', value: object } }
}

function single(values: readonly unknown[]): unknown {
  return values.length > 1 ? values : values[0]
}

/** The body without a field. `contentType`: the new type, or null when it stays. */
export async function withoutField({ source }: BodyFields, name: string): Promise<{ body: Buffer; contentType: string | null }> {
  switch (source.kind) {
    case 'form':
      source.form.delete(name)
      return { body: Buffer.from(source.form.toString()), contentType: null }
    case 'json':
      Reflect.deleteProperty(source.value, name)
      return { body: Buffer.from(JSON.stringify(source.value)), contentType: null }
    case 'multipart': {
      source.form.delete(name)
      const written = new Response(source.form)
      return { body: Buffer.from(await written.arrayBuffer()), contentType: written.headers.get('content-type') }
    }
  }
}
