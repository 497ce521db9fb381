/** Schemas as tools outside of the gateway need them. */

function published(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(published)
  return typeof value === 'object' && value !== null ? publishedSchema(value) : value
}

/** A copy in which options with a default are not required: the gateway fills them in before it checks, editors and other tools do not. */
export function publishedSchema(schema: object): object {
  const copy: { [name: string]: unknown } = Object.fromEntries(Object.entries(schema).map(([name, inner]) => [name, published(inner)]))
  const { properties, required } = copy
  if (typeof properties !== 'object' || properties === null || !Array.isArray(required)) return copy
  const options: { readonly [name: string]: unknown } = { ...properties }
  const isFilled = (name: unknown): boolean => {
    const option = options[String(name)]
    return typeof option === 'object' && option !== null && 'default' in option
  }
  return { ...copy, required: required.filter((name: unknown) => !isFilled(name)) }
}
