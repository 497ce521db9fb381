/** The environment in configurations, suggestions, and that no text makes the check throw. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Environment } from '../../src/controlplane/environment.js'
import { loadSource } from '../../src/controlplane/load.js'
import { formatIssue } from '../../src/controlplane/load-issue.js'
import { SourceDocument } from '../../src/controlplane/load-source.js'
import type { LoadResult } from '../../src/controlplane/load-types.js'
import { editDistance, suggest } from '../../src/controlplane/suggest.js'
import { builtinPlugins } from '../../src/plugins/index.js'
import { PluginRegistry } from '../../src/plugins/registry.js'

const registry = PluginRegistry.of(builtinPlugins)

function load(text: string): LoadResult {
  const read = SourceDocument.parse('f', text, {})
  return read.ok ? loadSource(read.source, registry, { nowMs: 0 }) : { ok: false, errors: read.errors, warnings: [] }
}

// biome-ignore-start lint/suspicious/noTemplateCurlyInString: references to the environment look like placeholders
describe('environment', () => {
  const value = (text: string, env: Environment) => {
    const read = SourceDocument.parse('f', text, env)
    return read.ok ? read.source.value : read.errors.map(formatIssue)
  }
  test('filled in everywhere, keys too; unquoted numbers and booleans become such', () => {
    expect(value('a: ${{P}}', { P: '81' })).toEqual({ a: 81 })
    expect(value('a: "${{P}}"', { P: '81' })).toEqual({ a: '81' })
    expect(value('a: ${{P}}', { P: 'true' })).toEqual({ a: true })
    expect(value('a: ${{P}}', { P: '007' })).toEqual({ a: '007' })
    expect(value('a: x-${{ P }}-${{Q:=z}}', { P: '1' })).toEqual({ a: 'x-1-z' })
    expect(value('a: ${{P:=}}', {})).toEqual({ a: '' })
    expect(value('a: { "${{H:=h}}:80": 1 }', {})).toEqual({ a: { 'h:80': 1 } })
    expect(value('{"a": "${{P}}", "b": "p${{P}}"}', { P: '5' })).toEqual({ a: 5, b: 'p5' })
  })
  test('unset without default, malformed, unclosed: errors at the place', () => {
    expect(value('a: 1\nb: [x, "${{NOPE}}"]', {})).toEqual([
      'f:2:8: environment variable NOPE is not set; expected a value for NOPE, or a default: ${{NOPE:=default}}',
    ])
    expect(value('a: ${{ 1 }}', {})).toEqual(['f:1:4: malformed reference to the environment; expected ${{NAME}} or ${{NAME:=default}}'])
    expect(value('a: "${{A"', {})).toEqual([
      'f:1:4: a reference to the environment is not closed; expected ${{NAME}} or ${{NAME:=default}}',
    ])
    expect(value('a: ${{toString}}', {})).toHaveLength(1)
  })
})

// biome-ignore-end lint/suspicious/noTemplateCurlyInString: references to the environment look like placeholders

describe('suggestions', () => {
  test('distance counts changes and swaps', () => {
    expect(editDistance('kitten', 'sitting')).toBe(3)
    expect(editDistance('ab', 'ba')).toBe(1)
    expect(editDistance('', 'abc')).toBe(3)
  })
  test('near names only', () => {
    expect(suggest('upstrem_id', ['upstream_id', 'uri'])).toBe('upstream_id')
    expect(suggest('proxy_rewrite', ['proxy-rewrite'])).toBe('proxy-rewrite')
    expect(suggest('zzz', ['upstream_id', 'uri'])).toBeUndefined()
  })
})

describe('no text makes the check throw', () => {
  const seed = 20_260_101
  const known = fc.constantFrom(
    'routes',
    'upstreams',
    'services',
    'global_rules',
    'plugins',
    'ssls',
    'sluice',
    'apisix',
    'plugin_attr',
    'plugin_metadata',
    'plugin_configs',
  )
  const word = fc.constantFrom(
    'uri',
    'uris',
    'id',
    'nodes',
    'upstream',
    'plugins',
    'cors',
    'vars',
    '_meta',
    'host',
    'key',
    '__proto__',
    'constructor',
    'timeout',
    'workers',
    'listeners',
    'traffic-split',
    'rules',
  )
  const { tree } = fc.letrec<{ tree: unknown }>((tie) => ({
    tree: fc.oneof(
      { maxDepth: 5 },
      fc.string(),
      fc.integer(),
      fc.constant(null),
      fc.boolean(),
      fc.array(tie('tree'), { maxLength: 3 }),
      fc.dictionary(word, tie('tree'), { maxKeys: 4 }),
    ),
  }))
  test(`random documents (seed ${seed})`, () => {
    fc.assert(
      fc.property(
        fc.dictionary(known, fc.oneof(tree, fc.array(fc.dictionary(word, tree), { maxLength: 2 })), { maxKeys: 4 }),
        (document) => {
          const result = load(JSON.stringify(document))
          expect(result.ok || result.errors.length > 0).toBe(true)
        },
      ),
      { seed, numRuns: 500 },
    )
  })
  test(`random text (seed ${seed})`, () => {
    const piece = fc.oneof(
      fc.string(),
      fc.constantFrom(
        '\n',
        '  ',
        '- ',
        ': ',
        '{',
        '}',
        '[',
        ']',
        '&a ',
        '*a',
        '!!x ',
        '|',
        '>',
        '"',
        "'",
        '\t',
        '#',
        '${{',
        '}}',
        'routes',
        '<<: ',
        '---\n',
        '? ',
      ),
    )
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
        const result = load(pieces.join(''))
        expect(result.ok || result.errors.length > 0).toBe(true)
      }),
      { seed, numRuns: 1_000 },
    )
  })
})
