/** Schemas as Markdown tables: one row per option, nested options with dotted names. Pure. */
import { branchesOf, describe, objectOf } from '../controlplane/validate-schema.js'

type JsonSchema = { readonly [keyword: string]: unknown }

interface Row {
  readonly name: string
  readonly type: string
  readonly required: boolean
  readonly fallback: string
  readonly description: string
}

/** A table of all options of `schema`; names below objects are dotted, items of lists are marked with `[]`. */
export function optionTable(schema: object): string {
  const rows = rowsOf(objectOf(schema), '')
  if (rows.length === 0) return 'No options.\n'
  const lines = rows.map(
    (row) => `| \`${row.name}\` | ${cell(row.type)} | ${row.required ? 'required' : row.fallback} | ${cell(row.description)} |`,
  )
  return ['| option | type | default | meaning |', '|---|---|---|---|', ...lines, ''].join('\n')
}

function rowsOf(schema: JsonSchema, prefix: string): Row[] {
  const required = Array.isArray(schema['required']) ? schema['required'] : []
  return Object.entries(objectOf(schema['properties'])).flatMap(([name, raw]) => {
    const option = objectOf(raw)
    const row: Row = {
      name: prefix + name,
      type: typeText(option),
      required: required.includes(name) && option['default'] === undefined,
      fallback: option['default'] === undefined ? '' : `\`${JSON.stringify(option['default'])}\``,
      description: typeof option['description'] === 'string' ? option['description'] : '',
    }
    return [row, ...below(option, prefix + name)]
  })
}

/** Rows of what lies inside of an option: its fields, the fields of its items, the fields of its forms. */
function below(option: JsonSchema, name: string): Row[] {
  if (option['properties'] !== undefined) return rowsOf(option, `${name}.`)
  if (option['items'] !== undefined) return below(objectOf(option['items']), `${name}[]`)
  const rows = branchesOf(option).flatMap((branch) => below(branch, name))
  const seen = new Set<string>()
  return rows.filter((row) => (seen.has(row.name) ? false : seen.add(row.name)))
}

/** Long patterns are left to the editor schema. */
function typeText(option: JsonSchema): string {
  return describe(option).replaceAll(/ matching \S+( [^ |]*\$)?/g, '')
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll(/\s*\n\s*/g, ' ')
}
