/**
 * Checks values against the TypeBox schemas with Ajv and turns what Ajv says into texts for people, in the phrases that users of the
 * reference gateway search for. Values are never printed for options whose name sounds like a secret.
 */
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv'
import type { DocumentPath, IssueList } from './load-issue.js'
import { suggest } from './suggest.js'

export interface SchemaProblem {
  readonly path: DocumentPath
  readonly message: string
  readonly expected: string
  readonly atKey: boolean
  readonly suggestion?: string
  /** The name that the schema does not have, for callers that treat this softer or know the name. */
  readonly unknownName?: string
}

type JsonSchema = { readonly [keyword: string]: unknown }

const options = { allErrors: true, strict: false, verbose: true, logger: false } as const
/** For our own sections: defaults stay away from the value, so that "not said" can be told from "said". */
const checker = { ajv: new Ajv(options), validators: new WeakMap<object, ValidateFunction>() }
/** For confs of plugins, which receive their defaults filled in. */
const filler = { ajv: new Ajv({ ...options, useDefaults: true }), validators: new WeakMap<object, ValidateFunction>() }

/** Problems of `value`; an empty list means that it has the type of the schema. With `fill`, defaults are put into the value. */
export function schemaProblems(schema: object, value: unknown, fill = false): SchemaProblem[] {
  const { ajv, validators } = fill ? filler : checker
  let validate = validators.get(schema)
  if (validate === undefined) {
    validate = ajv.compile(schema)
    validators.set(schema, validate)
  }
  if (validate(value)) return []
  return readable(validate.errors ?? [])
}

/** Adds the problems of `value` to `issues`, below `path`. True when there were none. */
export function checkSchema<T>(schema: object, value: unknown, path: DocumentPath, issues: Pick<IssueList, 'error'>): value is T {
  const problems = schemaProblems(schema, value)
  for (const problem of problems) {
    issues.error([...path, ...problem.path], problem.message, problem.expected, { atKey: problem.atKey, suggestion: problem.suggestion })
  }
  return problems.length === 0
}

function readable(errors: readonly ErrorObject[]): SchemaProblem[] {
  const unions = errors.filter((error) => error.keyword === 'anyOf' || error.keyword === 'oneOf')
  const inside = (error: ErrorObject, union: ErrorObject): boolean =>
    error !== union && error.schemaPath.startsWith(`${union.schemaPath}/`) && isBelow(error.instancePath, union.instancePath)
  const problems: SchemaProblem[] = []
  for (const error of errors) {
    if (unions.some((union) => inside(error, union))) continue
    if (error.keyword === 'if') continue
    if (unions.includes(error))
      problems.push(
        ...unionProblems(
          error,
          errors.filter((other) => inside(other, error)),
        ),
      )
    else problems.push(problemOf(error))
  }
  return problems
}

function isBelow(pointer: string, parent: string): boolean {
  return pointer === parent || pointer.startsWith(`${parent}/`)
}

/** A value that fits no branch: the problems of the one branch whose type it has, else one line that names all branches. */
function unionProblems(union: ErrorObject, errors: readonly ErrorObject[]): SchemaProblem[] {
  const branches = Array.isArray(union.schema) ? union.schema.length : 0
  const fitting: ErrorObject[][] = []
  for (let branch = 0; branch < branches; branch++) {
    const own = errors.filter((error) => error.schemaPath.startsWith(`${union.schemaPath}/${branch}/`))
    const foreign = own.some(
      (error) => error.instancePath === union.instancePath && (error.keyword === 'type' || error.keyword === 'const'),
    )
    if (!foreign && own.length > 0) fitting.push(own)
  }
  const only = fitting.length === 1 ? fitting[0] : undefined
  if (only !== undefined) return readable(only)
  const schema = objectOf(union.parentSchema)
  const path = pathOf(union.instancePath)
  const values = constants(schema)
  if (values !== null) return [enumProblem(path, values, union.data)]
  const message = fitting.length === 0 ? `wrong type: got ${typeName(union.data)}` : 'value matches none of the allowed forms'
  return [{ path, message, expected: describe(schema), atKey: false }]
}

function problemOf(error: ErrorObject): SchemaProblem {
  const path = pathOf(error.instancePath)
  const schema = objectOf(error.parentSchema)
  const params: { readonly [name: string]: unknown } = error.params
  const plain = (message: string, expected = describe(schema)): SchemaProblem => ({ path, message, expected, atKey: false })
  const shown = isSecretPath(path) ? 'the value' : show(error.data)
  switch (error.keyword) {
    case 'required': {
      const name = String(params['missingProperty'])
      const wanted = objectOf(objectOf(schema['properties'])[name])
      return plain(`property "${name}" is required`, describe(wanted))
    }
    case 'additionalProperties':
      return unknownProperty(path, String(params['additionalProperty']), schema)
    case 'type':
      return plain(`wrong type: expected ${listOf(params['type'])}, got ${typeName(error.data)}`)
    case 'enum':
      return enumProblem(path, Array.isArray(params['allowedValues']) ? params['allowedValues'] : [], error.data)
    case 'const':
      return enumProblem(path, [params['allowedValue']], error.data)
    case 'minimum':
      return plain(`expected ${shown} to be at least ${params['limit']}`)
    case 'maximum':
      return plain(`expected ${shown} to be at most ${params['limit']}`)
    case 'exclusiveMinimum':
      return plain(`expected ${shown} to be greater than ${params['limit']}`)
    case 'exclusiveMaximum':
      return plain(`expected ${shown} to be less than ${params['limit']}`)
    case 'multipleOf':
      return plain(`expected ${shown} to be a multiple of ${params['multipleOf']}`)
    case 'minLength':
      return plain(`string too short, expected at least ${params['limit']}, got ${lengthOf(error.data)}`)
    case 'maxLength':
      return plain(`string too long, expected at most ${params['limit']}, got ${lengthOf(error.data)}`)
    case 'pattern':
      return plain(`failed to match pattern "${params['pattern']}"${isSecretPath(path) ? '' : ` with ${show(error.data)}`}`)
    case 'minItems':
      return plain(`expect array to have at least ${params['limit']} items`)
    case 'maxItems':
      return plain(`expect array to have at most ${params['limit']} items`)
    case 'minProperties':
      return plain(`expect object to have at least ${params['limit']} properties`)
    case 'maxProperties':
      return plain(`expect object to have at most ${params['limit']} properties`)
    case 'uniqueItems': {
      const pair = [Number(params['j']) + 1, Number(params['i']) + 1]
      return plain(`expected unique items but items ${Math.min(...pair)} and ${Math.max(...pair)} are equal`)
    }
    default:
      return plain(`${error.message ?? `breaks the rule ${error.keyword}`}`)
  }
}

function unknownProperty(path: DocumentPath, name: string, schema: JsonSchema): SchemaProblem {
  const known = Object.keys(objectOf(schema['properties']))
  const near = suggest(name, known)
  const expected = known.length === 0 ? 'no properties here' : `one of ${known.slice(0, 40).join(', ')}`
  const problem = {
    path: [...path, name],
    message: `additional properties forbidden, found ${name}`,
    expected,
    atKey: true,
    unknownName: name,
  }
  return near === undefined ? problem : { ...problem, suggestion: near }
}

function enumProblem(path: DocumentPath, values: readonly unknown[], found: unknown): SchemaProblem {
  const names = values.map((value) => String(value))
  const near = typeof found === 'string' ? suggest(found, names) : undefined
  const problem = {
    path,
    message: `${isSecretPath(path) ? 'the value' : show(found)} matches none of the enum values`,
    expected: `one of ${names.join(', ')}`,
    atKey: false,
  }
  return near === undefined ? problem : { ...problem, suggestion: near }
}

/** A schema in words: `integer from 1 to 65535`, `one of a, b`, `string of 1 to 256 characters`. */
export function describe(schema: JsonSchema): string {
  const values = constants(schema)
  if (values !== null) return values.length === 1 ? String(values[0]) : `one of ${values.map(String).join(', ')}`
  const branches = branchesOf(schema)
  if (branches.length > 0) return [...new Set(branches.map(describe))].join(' or ')
  const type = listOf(schema['type'])
  if (type === 'integer' || type === 'number') return type + range(schema)
  if (type === 'string') {
    const length = bounds(schema['minLength'], schema['maxLength'], 'characters')
    const pattern = typeof schema['pattern'] === 'string' ? ` matching ${schema['pattern']}` : ''
    return `string${length}${pattern}`
  }
  if (type === 'array') {
    const items = objectOf(schema['items'])
    const size = bounds(schema['minItems'], schema['maxItems'], 'items')
    const named = Object.keys(items).length > 0 && listOf(items['type']) !== 'object'
    return named ? `array of ${describe(items)}${size.replace(/^ of /, ', ')}` : `array${size}`
  }
  return type === '' ? 'any value' : type
}

function range(schema: JsonSchema): string {
  const low = schema['minimum'] ?? schema['exclusiveMinimum']
  const high = schema['maximum'] ?? schema['exclusiveMaximum']
  const strict = schema['exclusiveMinimum'] !== undefined
  if (low !== undefined && high !== undefined) return strict ? ` above ${low}, up to ${high}` : ` from ${low} to ${high}`
  if (low !== undefined) return strict ? ` above ${low}` : ` from ${low}`
  return high === undefined ? '' : ` up to ${high}`
}

function bounds(low: unknown, high: unknown, unit: string): string {
  if (low !== undefined && high !== undefined) return ` of ${low} to ${high} ${unit}`
  if (low !== undefined && low !== 0) return ` of at least ${low} ${unit}`
  return high === undefined ? '' : ` of at most ${high} ${unit}`
}

function constants(schema: JsonSchema): unknown[] | null {
  if (schema['const'] !== undefined) return [schema['const']]
  if (Array.isArray(schema['enum'])) return schema['enum']
  const branches = branchesOf(schema)
  if (branches.length === 0) return null
  const values: unknown[] = []
  for (const branch of branches) {
    const own = constants(branch)
    if (own === null) return null
    values.push(...own)
  }
  return values
}

/** Branches of `anyOf`/`oneOf` of a schema; empty if it has none. */
export function branchesOf(schema: JsonSchema): JsonSchema[] {
  const union = schema['anyOf'] ?? schema['oneOf']
  return Array.isArray(union) ? union.map(objectOf) : []
}

export function objectOf(value: unknown): JsonSchema {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {}
}

/** `/nodes/0/host~1x` as path parts; digits become indexes, which `locate` treats alike in maps. */
function pathOf(pointer: string): (string | number)[] {
  if (pointer === '') return []
  return pointer
    .slice(1)
    .split('/')
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
    .map((part) => (/^(0|[1-9]\d{0,8})$/.test(part) ? Number(part) : part))
}

const secretName = /(key|secret|password|passwd|token|credential|cert|private)s?$/i

export function isSecretPath(path: DocumentPath): boolean {
  return path.some((part) => typeof part === 'string' && secretName.test(part))
}

function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}…` : value)
  if (typeof value === 'object' && value !== null) return typeName(value)
  return String(value)
}

export function typeName(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'array'
  if (typeof value === 'number' && Number.isInteger(value)) return 'integer'
  return typeof value
}

function listOf(type: unknown): string {
  return Array.isArray(type) ? type.join(' or ') : typeof type === 'string' ? type : ''
}

function lengthOf(value: unknown): number {
  return typeof value === 'string' ? [...value].length : 0
}
