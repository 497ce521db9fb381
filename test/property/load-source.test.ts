/**
 * The quick ways of reading a configuration against the exact one: whenever they give an answer, it is the same value, and every part
 * of it is found at the same place. Texts are valid ones in many spellings, and valid ones with some characters changed.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parse, stringify } from 'yaml'
import type { DocumentPath } from '../../src/controlplane/load-issue.js'
import { parseJson } from '../../src/controlplane/load-json.js'
import { LineIndex, type Positions } from '../../src/controlplane/load-positions.js'
import { notSimple, readSimpleList } from '../../src/controlplane/load-simple.js'
import { SourceDocument } from '../../src/controlplane/load-source.js'
import { parseYamlInParts } from '../../src/controlplane/load-yaml.js'

const seed = 20_261_123
const env = { HOST: 'example.com', PORT: '80' }

const plainWords = fc.constantFrom('/a/*', 'GET', '127.0.0.1:80', 'true', 'two words', 'roundrobin', '^/a/(.*)', '$1', '10.0.0.0/8')
const oddWords = fc.constantFrom(
  'False',
  'null',
  'a: b',
  'a #b',
  '# no comment',
  "it's",
  '"quoted"',
  'line\nbreak',
  '',
  ' ',
  '- a',
  '1.5',
  '007',
  '0x1f',
  '1_000',
  '~',
  'é',
  'tab\there',
  '<<',
  '{}',
  '[',
  '*star',
  '&and',
  '!tag',
  '%',
  '$`{{HOST}}'.replace('`', ''),
  '$`{{PORT}}'.replace('`', ''),
  'x-$`{{NOT_SET:=y}}'.replace('`', ''),
)
const words = fc.oneof({ weight: 12, arbitrary: plainWords }, { weight: 1, arbitrary: oddWords })
const scalars = fc.oneof(
  { weight: 8, arbitrary: words },
  fc.string({ maxLength: 6 }),
  fc.integer(),
  fc.double({ noNaN: true }),
  fc.boolean(),
  fc.constant(null),
)
const keys = fc.oneof(fc.constantFrom('id', 'uri', 'nodes', 'plugins', '127.0.0.1:80', 'limit-count', 'true', '__proto__', 'a b'), words)
const values = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    scalars,
    fc.array(tie('value'), { maxLength: 3 }),
    fc.dictionary(keys, tie('value'), { maxKeys: 4 }),
  ),
})).value
const configurations = fc.dictionary(
  fc.constantFrom('routes', 'upstreams', 'sluice', 'services'),
  fc.oneof({ weight: 4, arbitrary: fc.array(fc.oneof(fc.dictionary(keys, values, { maxKeys: 4 }), values), { maxLength: 5 }) }, values),
  { minKeys: 1, maxKeys: 4 },
)

const styles = fc.record({
  indent: fc.constantFrom(1, 2, 4),
  indentSeq: fc.boolean(),
  collectionStyle: fc.constantFrom('any' as const, 'block' as const, 'block' as const, 'flow' as const),
  singleQuote: fc.constantFrom(true, false, null),
  defaultStringType: fc.constantFrom('PLAIN' as const, 'QUOTE_DOUBLE' as const, 'QUOTE_SINGLE' as const, 'BLOCK_LITERAL' as const),
  lineWidth: fc.constantFrom(0, 20, 80),
  flowCollectionPadding: fc.boolean(),
  aliasDuplicateObjects: fc.constant(false),
})

const edits = fc.array(
  fc.record({
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    drop: fc.integer({ min: 0, max: 2 }),
    insert: fc.oneof(
      fc.constantFrom(
        '\n',
        ' ',
        '  ',
        '- ',
        ': ',
        '#',
        ' # c\n',
        '"',
        "'",
        '[',
        ']',
        '{',
        '}',
        ',',
        '&a ',
        '*a',
        '|\n',
        '? ',
        '\t',
        '\r\n',
      ),
      fc.constantFrom('a', '1', 'routes:\n', '\n---\n', '%', '!', '\\', '$`{{HOST}}'.replace('`', ''), ''),
    ),
  }),
  { maxLength: 3 },
)

function edited(text: string, changes: { at: number; drop: number; insert: string }[]): string {
  let result = text
  for (const { at, drop, insert } of changes) {
    const offset = Math.floor(at * result.length)
    result = result.slice(0, offset) + insert + result.slice(offset + drop)
  }
  return result
}

/** All paths of a value, and some that are not there. */
function* pathsOf(value: unknown, path: DocumentPath = []): Generator<DocumentPath> {
  yield path
  yield [...path, 'missing']
  yield [...path, 99, 'missing']
  if (typeof value !== 'object' || value === null) return
  for (const [key, child] of Object.entries(value)) yield* pathsOf(child, [...path, Array.isArray(value) ? Number(key) : key])
}

function expectSame(text: string, quick: { readonly value: unknown; readonly positions: Positions }): void {
  const whole = SourceDocument.parseWhole('f', text, env)
  if (!whole.ok) throw new Error(`read although it is wrong: ${whole.errors.map((issue) => issue.message).join()}\n${text}`)
  expect(JSON.stringify(quick.value), text).toBe(JSON.stringify(whole.source.value))
  const lines = new LineIndex(text)
  for (const path of pathsOf(whole.source.value)) {
    for (const atKey of [false, true]) {
      const place = lines.position(quick.positions.offsetOf(path, atKey))
      expect(place, `${JSON.stringify(path)} ${atKey ? 'key' : 'value'} of\n${text}`).toEqual(whole.source.locate(path, atKey))
    }
  }
}

/** Runs the property and returns how many texts the quick way took. */
function compare(runs: number, texts: fc.Arbitrary<string>, read: (text: string) => ReturnType<typeof parseJson>): number {
  let taken = 0
  fc.assert(
    fc.property(texts, (text) => {
      const quick = read(text)
      if (quick === null) return
      taken++
      expectSame(text, quick)
    }),
    { seed, numRuns: runs },
  )
  return taken
}

describe(`seed ${seed}`, () => {
  const yaml = fc.tuple(configurations, styles).map(([value, style]) => stringify(value, style))
  const json = fc.tuple(configurations, fc.constantFrom(0, 2, '\t')).map(([value, indent]) => JSON.stringify(value, null, indent))
  const inParts = (length: number) => (text: string) => parseYamlInParts(text, env, { splitFrom: 0, partLength: length })

  test('YAML in parts is the whole YAML', () => {
    expect(compare(700, yaml, inParts(1))).toBeGreaterThan(60)
    expect(compare(200, yaml, inParts(60))).toBeGreaterThan(15)
  })

  test('YAML in parts with changed characters is the whole YAML, or left to it', () => {
    expect(
      compare(
        1_500,
        fc.tuple(yaml, edits).map((pair) => edited(...pair)),
        inParts(1),
      ),
    ).toBeGreaterThan(60)
  })

  test('a file of the usual kind is read in parts, and places in it are found', () => {
    const routes = Array.from(
      { length: 1_000 },
      (_, n) => `  - id: r${n}\n    uri: /r/${n}/*\n    upstream: { nodes: { "127.0.0.1:${n}": 1 } }\n`,
    )
    const text = `# comment\nsluice:\n  workers: 2\n\nroutes:\n${routes.join('')}#END\n`
    const quick = parseYamlInParts(text, env)
    if (quick === null) throw new Error('it was not read in parts')
    expect(quick.value).toEqual(parse(text))
    const lines = new LineIndex(text)
    const node = ['routes', 999, 'upstream', 'nodes', '127.0.0.1:999']
    expect(lines.position(quick.positions.offsetOf(node, true))).toEqual({ line: 5 + 999 * 3 + 3, col: 26 })
    expect(lines.position(quick.positions.offsetOf(['sluice', 'workers'], false))).toEqual({ line: 3, col: 12 })
  })

  test('JSON is the YAML that it also is', () => {
    expect(compare(400, json, (text) => parseJson(text, env))).toBeGreaterThan(200)
    expect(
      compare(
        2_000,
        fc.tuple(json, edits).map((pair) => edited(...pair)),
        (text) => parseJson(text, env),
      ),
    ).toBeGreaterThan(200)
  })

  test('what the simple reader reads is what YAML means', () => {
    let taken = 0
    const lists = fc.tuple(fc.array(values, { minLength: 1, maxLength: 4 }), styles, edits)
    fc.assert(
      fc.property(lists, ([value, style, changes]) => {
        const text = edited(stringify(value, style), changes)
        const simple = readSimpleList(text)
        if (simple === notSimple) return
        taken++
        expect(JSON.stringify(simple), text).toBe(JSON.stringify(parse(text, { merge: true, logLevel: 'silent' })))
      }),
      { seed, numRuns: 6_000 },
    )
    expect(taken).toBeGreaterThan(150)
  })
})
