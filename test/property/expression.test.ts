/** Expressions against a naive reading of their rules: random expressions over random values. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { compileExpression } from '../../src/dataplane/vars/expression.js'
import type { Json } from '../../src/schema/compiled.js'
import { expressionProblem } from '../../src/schema/expression.js'
import { fakeExchange } from '../support/fake-exchange.js'

const seed = 20_240_704

type Values = Readonly<Record<string, string | undefined>>

const text = fc.constantFrom('', 'a', 'b', '1', '2', '10', '1.0', '0x10', 'abc', '-3')
const number = fc.constantFrom(0, 1, 2, 10, 16, -3)
const scalar = fc.oneof(text, number)
const variable = fc.constantFrom('x', 'y', 'z')
const comparison: fc.Arbitrary<Json[]> = fc.oneof(
  fc.tuple(variable, fc.constantFrom('==', '~='), fc.oneof(scalar, fc.constant(null))),
  fc.tuple(variable, fc.constantFrom('>', '>=', '<', '<='), scalar),
  fc.tuple(variable, fc.constantFrom('in', 'IN'), fc.array(scalar, { maxLength: 4 })),
  fc.tuple(variable, fc.constantFrom('has'), text),
)
const condition: fc.Arbitrary<Json[]> = fc
  .tuple(comparison, fc.boolean())
  .map(([[name, operator, value], negated]) =>
    negated ? [name ?? null, '!', operator ?? null, value ?? null] : [name ?? null, operator ?? null, value ?? null],
  )
const { expression } = fc.letrec<{ expression: Json[]; item: Json[] }>((tie) => ({
  item: fc.oneof({ maxDepth: 3 }, condition, tie('expression')),
  expression: fc
    .tuple(fc.constantFrom(null, 'AND', 'OR', '!AND', '!OR', 'or'), fc.array(tie('item'), { minLength: 1, maxLength: 3 }))
    .map(([word, items]): Json[] => (word === null ? items : [word, ...items])),
}))

function isGroup(json: Json[]): boolean {
  return Array.isArray(json[0]) || /^!?(and|or)$/i.test(String(json[0]))
}

function naive(json: Json[], values: Values): boolean {
  if (!isGroup(json)) return naiveComparison(json, values)
  const word = typeof json[0] === 'string' ? json[0].toUpperCase() : 'AND'
  const results = json.filter((item) => Array.isArray(item)).map((item) => naive(item, values))
  const joined = word.endsWith('AND') ? results.every(Boolean) : results.some(Boolean)
  return word.startsWith('!') ? !joined : joined
}

function naiveComparison(json: Json[], values: Values): boolean {
  if (json[1] === '!') return !naiveComparison([json[0] ?? null, json[2] ?? null, json[3] ?? null], values)
  const found = values[String(json[0])]
  const operator = String(json[1]).toLowerCase()
  const wanted = json[2] ?? null
  if (operator === 'in') return Array.isArray(wanted) && found !== undefined && wanted.some((item) => item === found)
  if (operator === 'has') return found !== undefined && found === wanted
  if (operator === '==' || operator === '~=') {
    let equal = wanted === null ? found === undefined : found === wanted
    if (typeof wanted === 'number') equal = found !== undefined && found !== '' && Number(found) === wanted
    return operator === '==' ? equal : !equal
  }
  if (found === undefined) return false
  const [left, right] = typeof wanted === 'number' ? [found === '' ? Number.NaN : Number(found), wanted] : [found, String(wanted)]
  if (operator === '>') return left > right
  if (operator === '>=') return left >= right
  return operator === '<' ? left < right : left <= right
}

/** The generated names stand for query parameters, which the naive model need not know. */
function withVariables(json: Json[]): Json[] {
  if (!isGroup(json)) return [`arg_${json[0]}`, ...json.slice(1)]
  return json.map((item) => (Array.isArray(item) ? withVariables(item) : item))
}

test(`expressions agree with their rules (seed ${seed})`, () => {
  const seen = { true: 0, false: 0 }
  const values = fc.record({
    x: fc.option(text, { nil: undefined }),
    y: fc.option(text, { nil: undefined }),
    z: fc.option(text, { nil: undefined }),
  })
  fc.assert(
    fc.property(expression, values, (json, given) => {
      const vars = withVariables(json)
      expect(expressionProblem(vars)).toBeNull()
      const query = Object.entries(given).flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${value}`]))
      const result = compileExpression(vars)(fakeExchange({ target: `/?${query.join('&')}` }))
      expect(result).toBe(naive(json, given))
      seen[`${result}`]++
    }),
    { seed, numRuns: 3000 },
  )
  expect(Math.min(seen.true, seen.false)).toBeGreaterThan(300)
})
