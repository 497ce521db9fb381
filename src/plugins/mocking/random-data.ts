/**
 * Random JSON made of a JSON Schema, for mocking. A subset that always yields matching data; everything else is refused by name.
 * Pure: the dice are handed in.
 */
import type { Json, PluginProblem } from '../plugin.js'

export type Random = () => number
type Generator = (random: Random) => Json
type Schema = { readonly [keyword: string]: Json }

const types = ['string', 'number', 'integer', 'boolean', 'array', 'object', 'null']

/** Keywords that shape the data. */
const shaping = 'type properties items enum const example default minimum maximum minLength maxLength minItems maxItems'.split(' ')
/** Keywords that any data made here satisfies: every property that is described is present. */
const harmless = '$schema $id title description examples required additionalProperties nullable deprecated readOnly writeOnly'.split(' ')
const known: ReadonlySet<string> = new Set([...shaping, ...harmless])

const maxStringLength = 1000
const maxItems = 100
/** Values that one answer may hold, all arrays at their largest; a string counts once for each 50 characters begun. */
const maxValues = 100_000

/** What of the schema cannot be made up; paths start with `path`. */
export function schemaProblems(schema: Json, path: string): PluginProblem[] {
  const problems: PluginProblem[] = []
  const values = inspect(schema, path, problems)
  if (values > maxValues) problems.push({ path, message: `describes up to ${values} values; expected at most ${maxValues}` })
  return problems
}

/** Compiles the schema, which must have no problems. */
export function generatorOf(schema: Json): Generator {
  const node = asSchema(schema) ?? {}
  const { example, enum: choices, const: constant } = node
  const fixed = example ?? constant ?? node['default']
  if (fixed !== undefined) return () => fixed
  if (Array.isArray(choices)) return (random) => choices[below(random, choices.length)] ?? null
  return generatorOfType(node)
}

function generatorOfType(node: Schema): Generator {
  switch (typeOf(node)) {
    case 'string': {
      const [least, most] = range(node, 'minLength', 'maxLength', [5, 15])
      return (random) => randomText(random, between(random, least, most))
    }
    case 'integer': {
      const [least, most] = range(node, 'minimum', 'maximum', [1, 10_000])
      return (random) => between(random, Math.ceil(least), Math.floor(most))
    }
    case 'number': {
      const [least, most] = range(node, 'minimum', 'maximum', [0, 10_000])
      return (random) => Math.min(most, least + random() * (most - least))
    }
    case 'boolean':
      return (random) => random() < 0.5
    case 'array': {
      const [least, most] = range(node, 'minItems', 'maxItems', [1, 3])
      const item = generatorOf(node['items'] ?? { type: 'string' })
      return (random) => Array.from({ length: between(random, least, most) }, () => item(random))
    }
    case 'null':
      return () => null
    default: {
      const properties = Object.entries(asSchema(node['properties']) ?? {}).map(([name, child]) => [name, generatorOf(child)] as const)
      return (random) => Object.fromEntries(properties.map(([name, generate]) => [name, generate(random)]))
    }
  }
}

/** Collects problems; gives the largest number of values the schema can describe. */
function inspect(schema: Json, path: string, problems: PluginProblem[]): number {
  const node = asSchema(schema)
  if (node === null) {
    problems.push({ path, message: 'expected a schema object' })
    return 1
  }
  for (const keyword of Object.keys(node))
    if (!known.has(keyword)) problems.push({ path: `${path}.${keyword}`, message: `"${keyword}" is not supported in mock data` })
  const type = typeOf(node)
  if (!types.includes(type)) problems.push({ path: `${path}.type`, message: `expected one of ${types.join(', ')}` })
  if (Array.isArray(node['enum']) ? node['enum'].length === 0 : node['enum'] !== undefined)
    problems.push({ path: `${path}.enum`, message: 'expected a list of at least one value' })
  if (type === 'string') {
    inspectRange(node, path, ['minLength', 'maxLength', maxStringLength], problems)
    return Math.max(1, Math.ceil(range(node, 'minLength', 'maxLength', [5, 15])[1] / 50))
  }
  if (type === 'integer' || type === 'number') inspectRange(node, path, ['minimum', 'maximum', Number.MAX_SAFE_INTEGER], problems)
  if (type === 'object') return inspectProperties(node, path, problems)
  if (type !== 'array') return 1
  inspectRange(node, path, ['minItems', 'maxItems', maxItems], problems)
  const items = node['items'] === undefined ? 1 : inspect(node['items'], `${path}.items`, problems)
  return 1 + items * range(node, 'minItems', 'maxItems', [1, 3])[1]
}

function inspectProperties(node: Schema, path: string, problems: PluginProblem[]): number {
  const properties = asSchema(node['properties'] ?? {})
  if (properties === null) {
    problems.push({ path: `${path}.properties`, message: 'expected an object of schemas' })
    return 1
  }
  const required = Array.isArray(node['required']) ? node['required'] : []
  for (const name of required)
    if (typeof name !== 'string' || !Object.hasOwn(properties, name))
      problems.push({ path: `${path}.required`, message: `${JSON.stringify(name)} is not described in properties` })
  let values = 1
  for (const [name, child] of Object.entries(properties)) values += inspect(child, `${path}.properties.${name}`, problems)
  return values
}

function inspectRange(node: Schema, path: string, bounds: readonly [string, string, number], problems: PluginProblem[]): void {
  const [minimum, maximum, limit] = bounds
  const isCount = maximum !== 'maximum'
  for (const keyword of [minimum, maximum]) {
    const value = node[keyword]
    if (value === undefined) continue
    const isFine = typeof value === 'number' && Math.abs(value) <= limit && (!isCount || (Number.isInteger(value) && value >= 0))
    if (isFine) continue
    problems.push({ path: `${path}.${keyword}`, message: `expected ${isCount ? `an integer from 0 to ${limit}` : 'a number'}` })
    return
  }
  const [least, most] = range(node, minimum, maximum, [0, 0])
  if (typeof node[minimum] === 'number' && typeof node[maximum] === 'number' && least > node[maximum])
    problems.push({ path: `${path}.${minimum}`, message: `${least} is above ${maximum} ${node[maximum]}` })
  else if (typeOf(node) === 'integer' && Math.ceil(least) > Math.floor(most))
    problems.push({ path: `${path}.${minimum}`, message: `no integer lies between ${least} and ${most}` })
}

/** Both bounds; the one that is not configured lies beside the other. */
function range(node: Schema, minimum: string, maximum: string, usual: readonly [number, number]): readonly [number, number] {
  const { [minimum]: least, [maximum]: most } = node
  if (typeof least === 'number') return [least, typeof most === 'number' ? most : Math.max(usual[1], least + usual[1] - usual[0])]
  return typeof most === 'number' ? [Math.min(usual[0], most), most] : usual
}

/** The declared type, or the one that the keywords mean. */
function typeOf(node: Schema): string {
  const type = node['type']
  if (typeof type === 'string') return type
  if (type !== undefined) return JSON.stringify(type)
  return node['items'] === undefined ? 'object' : 'array'
}

function asSchema(value: Json | undefined): Schema | null {
  return value !== null && typeof value === 'object' && !Array.isArray(value) ? value : null
}

function between(random: Random, least: number, most: number): number {
  return least + below(random, most - least + 1)
}

function below(random: Random, limit: number): number {
  return Math.floor(random() * limit)
}

const letters = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'

function randomText(random: Random, length: number): string {
  let text = ''
  for (let index = 0; index < length; index++) text += letters.charAt(below(random, letters.length))
  return text
}
