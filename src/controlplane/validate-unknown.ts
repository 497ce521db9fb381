/** Finds options that a schema does not know, in all depths. Schemas of plugins are open, so a checker alone would not say it. */
import { suggest } from './suggest.js'
import { branchesOf, objectOf } from './validate-schema.js'

export interface UnknownOption {
  readonly path: readonly (string | number)[]
  readonly name: string
  readonly expected: string
  readonly suggestion: string | undefined
}

type JsonSchema = { readonly [keyword: string]: unknown }

export function unknownOptions(schema: object, value: unknown): UnknownOption[] {
  const found: UnknownOption[] = []
  walk([objectOf(schema)], value, [], found)
  return found
}

/** `schemas`: every form that the value may have; an option is unknown when none of them names it. */
function walk(schemas: readonly JsonSchema[], value: unknown, path: readonly (string | number)[], found: UnknownOption[]): void {
  const forms = schemas.flatMap(flatten)
  if (Array.isArray(value)) {
    const items = forms.map((form) => form['items']).filter((item) => item !== undefined)
    if (items.length === 0) return
    for (const [index, item] of value.entries()) walk(items.map(objectOf), item, [...path, index], found)
    return
  }
  if (typeof value !== 'object' || value === null) return
  const objects = forms.filter((form) => form['type'] === 'object' || form['properties'] !== undefined)
  if (objects.length === 0) return
  const known = new Set(objects.flatMap((form) => Object.keys(objectOf(form['properties']))))
  const open = objects.some((form) => form['patternProperties'] !== undefined || isOpen(form['additionalProperties']) || known.size === 0)
  for (const [name, inner] of Object.entries(value)) {
    const below = objects.flatMap((form) => childSchemas(form, name))
    if (below.length > 0) walk(below, inner, [...path, name], found)
    else if (!open)
      found.push({ path: [...path, name], name, expected: `one of ${[...known].join(', ')}`, suggestion: suggest(name, known) })
  }
}

function flatten(schema: JsonSchema): JsonSchema[] {
  const all = schema['allOf']
  const parts = [...branchesOf(schema), ...(Array.isArray(all) ? all.map(objectOf) : [])]
  return [schema, ...parts.flatMap(flatten)]
}

function childSchemas(form: JsonSchema, name: string): JsonSchema[] {
  const properties = objectOf(form['properties'])
  if (Object.hasOwn(properties, name)) return [objectOf(properties[name])]
  const patterns = Object.values(objectOf(form['patternProperties']))
  return patterns.map(objectOf)
}

function isOpen(additional: unknown): boolean {
  return additional === true || (typeof additional === 'object' && additional !== null)
}
