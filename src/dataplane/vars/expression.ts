/** Expressions of `vars` as closures: patterns, address sets and accessors are made once, when a route is linked. */
import { AddressSet } from '../../base/address-set.js'
import { compilePattern } from '../../base/pattern.js'
import type { Exchange, Predicate } from '../../plugins/plugin.js'
import type { Json } from '../../schema/compiled.js'
import { type Comparison, type Expression, parseExpression } from '../../schema/expression.js'
import { compileListVariable, compileVariable } from './variables.js'

/** Compiles an expression. Throws Error with the text of `expressionProblem`. */
export function compileExpression(json: Json): Predicate {
  return compileNode(parseExpression(json))
}

function compileNode(node: Expression): Predicate {
  const predicate = node.kind === 'group' ? compileGroup(node.operator, node.items) : compileComparison(node)
  return node.negated ? (exchange) => !predicate(exchange) : predicate
}

function compileGroup(operator: 'AND' | 'OR', items: readonly Expression[]): Predicate {
  const predicates = items.map(compileNode)
  const [only] = predicates
  if (only !== undefined && predicates.length === 1) return only
  const isAnd = operator === 'AND'
  return (exchange) => {
    for (const predicate of predicates) if (predicate(exchange) !== isAnd) return !isAnd
    return isAnd
  }
}

function compileComparison({ variable, operator, value }: Comparison): Predicate {
  if (operator === 'has') {
    const list = compileListVariable(variable)
    return (exchange) => list(exchange).includes(String(value))
  }
  const read = compileVariable(variable)
  const test = compileTest(operator, value)
  return (exchange: Exchange) => test(read(exchange))
}

function compileTest(operator: Exclude<Comparison['operator'], 'has'>, value: Json): (found: string | undefined) => boolean {
  switch (operator) {
    case '==':
      return equality(value)
    case '~=': {
      const isEqual = equality(value)
      return (found) => !isEqual(found)
    }
    case '>':
      return order(value, (sign) => sign > 0)
    case '>=':
      return order(value, (sign) => sign >= 0)
    case '<':
      return order(value, (sign) => sign < 0)
    case '<=':
      return order(value, (sign) => sign <= 0)
    case '~~':
    case '~*': {
      const pattern = compilePattern(String(value), { ignoreCase: operator === '~*' })
      return (found) => found !== undefined && pattern.test(found)
    }
    case 'in': {
      // No coercion: a number in the list equals no variable, for variables are strings.
      const items = new Set(Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [])
      return (found) => found !== undefined && items.has(found)
    }
    case 'ipmatch': {
      const set = AddressSet.of(Array.isArray(value) ? value.map(String) : [])
      return (found) => found !== undefined && set.has(found)
    }
  }
}

function equality(value: Json): (found: string | undefined) => boolean {
  if (value === null) return (found) => found === undefined
  if (typeof value === 'number') return (found) => found !== undefined && toNumber(found) === value
  const text = String(value)
  return (found) => found === text
}

function order(value: Json, accepts: (sign: number) => boolean): (found: string | undefined) => boolean {
  if (typeof value === 'number') {
    return (found) => {
      const number = found === undefined ? Number.NaN : toNumber(found)
      return !Number.isNaN(number) && accepts(number - value)
    }
  }
  const text = String(value)
  return (found) => found !== undefined && accepts(found < text ? -1 : found > text ? 1 : 0)
}

/** Numbers as Lua's `tonumber` reads them: decimal or 0x, spaces around; anything else is NaN. */
function toNumber(text: string): number {
  return /^\s*[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|0[xX][0-9a-fA-F]+)\s*$/.test(text)
    ? parseSigned(text.trim())
    : Number.NaN
}

/** `Number` does not read a sign before 0x. */
function parseSigned(text: string): number {
  return text.startsWith('-') ? -Number(text.slice(1)) : Number(text.startsWith('+') ? text.slice(1) : text)
}
