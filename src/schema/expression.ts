/**
 * The expression language of `vars`: on routes, `_meta.filter`, `traffic-split` and other plugins.
 *
 *   expression = [ condition … ]                          all must hold; an empty list always holds
 *              | [ "AND" | "OR" | "!AND" | "!OR", condition … ]
 *   condition  = [ variable, operator, value ] | [ variable, "!", operator, value ] | [ variable, value ] (means ==) | expression
 *
 * Operators and group words are read in any case. This file parses and validates; dataplane/vars/expression runs the result.
 */
import { addressProblem } from '../base/address-set.js'
import { compilePattern } from '../base/pattern.js'
import type { Json } from './compiled.js'
import { variableProblem } from './variable-name.js'

export type ComparisonOperator = '==' | '~=' | '>' | '>=' | '<' | '<=' | '~~' | '~*' | 'in' | 'has' | 'ipmatch'

export interface Group {
  readonly kind: 'group'
  readonly operator: 'AND' | 'OR'
  readonly negated: boolean
  readonly items: readonly Expression[]
}

export interface Comparison {
  readonly kind: 'comparison'
  readonly variable: string
  readonly operator: ComparisonOperator
  readonly negated: boolean
  /** Checked for the operator: a list for `in`, a list of strings for `ipmatch`, a string for `~~` and `~*`, else a scalar. */
  readonly value: Json
}

export type Expression = Group | Comparison

const prefix = "failed to validate the 'vars' expression: "
const operators: readonly string[] = ['==', '~=', '>', '>=', '<', '<=', '~~', '~*', 'in', 'has', 'ipmatch']
const groupWords: Readonly<Record<string, { operator: 'AND' | 'OR'; negated: boolean }>> = {
  AND: { operator: 'AND', negated: false },
  OR: { operator: 'OR', negated: false },
  '!AND': { operator: 'AND', negated: true },
  '!OR': { operator: 'OR', negated: true },
}
const maxDepth = 32

/** Parses an expression; the whole is always a group. Throws Error naming the first thing that is wrong. */
export function parseExpression(json: Json): Group {
  try {
    return parseList(json, 0)
  } catch (error) {
    throw new Error(prefix + (error instanceof Error ? error.message : String(error)))
  }
}

/** The text of what is wrong with an expression, or null. */
export function expressionProblem(json: Json): string | null {
  try {
    parseExpression(json)
    return null
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

function groupWord(json: Json | undefined): { operator: 'AND' | 'OR'; negated: boolean } | undefined {
  if (typeof json !== 'string') return undefined
  const word = json.toUpperCase()
  return Object.hasOwn(groupWords, word) ? groupWords[word] : undefined
}

function parseList(json: Json, depth: number): Group {
  if (depth > maxDepth) throw new Error(`groups are nested deeper than ${maxDepth}`)
  if (!Array.isArray(json)) throw new Error(`expected a list of conditions like [["arg_x", "==", "1"]], found ${JSON.stringify(json)}`)
  const word = groupWord(json[0])
  const items = word === undefined ? json : json.slice(1)
  if (word !== undefined && items.length === 0) throw new Error(`${json[0]} has no conditions`)
  if (word === undefined && typeof json[0] === 'string') {
    throw new Error(`rule should be wrapped inside brackets: [${JSON.stringify(json)}] instead of ${JSON.stringify(json)}`)
  }
  const { operator, negated } = word ?? { operator: 'AND', negated: false }
  return { kind: 'group', operator, negated, items: items.map((item) => parseItem(item, depth + 1)) }
}

function parseItem(json: Json, depth: number): Expression {
  if (!Array.isArray(json)) throw new Error(`expected a condition like ["arg_x", "==", "1"], found ${JSON.stringify(json)}`)
  if (groupWord(json[0]) !== undefined || Array.isArray(json[0])) return parseList(json, depth)
  return parseComparison(json)
}

function parseComparison(json: Json[]): Comparison {
  const [variable] = json
  if (typeof variable !== 'string') throw new Error(`a condition starts with the name of a variable, found ${JSON.stringify(json)}`)
  const problem = variableProblem(variable)
  if (problem !== null) throw new Error(problem)
  if (json.length === 2) return comparison(variable, '==', false, json[1] ?? null)
  const negated = json[1] === '!'
  if (json.length !== (negated ? 4 : 3)) {
    throw new Error(`a condition is [variable, operator, value] or [variable, "!", operator, value], found ${JSON.stringify(json)}`)
  }
  const operator = json[negated ? 2 : 1]
  if (typeof operator !== 'string') throw new Error(`invalid operator '${JSON.stringify(operator)}'`)
  return comparison(variable, operator, negated, json[negated ? 3 : 2] ?? null)
}

function comparison(variable: string, word: string, negated: boolean, value: Json): Comparison {
  const operator = word.toLowerCase()
  if (!isOperator(operator)) throw new Error(`invalid operator '${word}'`)
  const problem = valueProblem(operator, value)
  if (problem !== null) throw new Error(`operator '${word}' of '${variable}': ${problem}`)
  return { kind: 'comparison', variable, operator, negated, value: operator === 'ipmatch' && typeof value === 'string' ? [value] : value }
}

function isOperator(word: string): word is ComparisonOperator {
  return operators.includes(word)
}

function valueProblem(operator: ComparisonOperator, value: Json): string | null {
  const found = `found ${JSON.stringify(value)}`
  if (operator === 'in') return Array.isArray(value) ? null : `expected a list, ${found}`
  if (operator === 'ipmatch') {
    const items = typeof value === 'string' ? [value] : value
    if (!Array.isArray(items) || items.length === 0) return `expected a list of addresses, ${found}`
    for (const item of items) {
      const problem = typeof item === 'string' ? addressProblem(item) : `${JSON.stringify(item)} is not an address`
      if (problem !== null) return problem
    }
    return null
  }
  if (operator === '~~' || operator === '~*') {
    if (typeof value !== 'string') return `expected a pattern, ${found}`
    compilePattern(value, { ignoreCase: operator === '~*' })
    return null
  }
  if (typeof value === 'object' && value !== null) return `expected a string or a number, ${found}`
  if (operator !== '==' && operator !== '~=' && typeof value !== 'string' && typeof value !== 'number') {
    return `expected a string or a number, ${found}`
  }
  return null
}
