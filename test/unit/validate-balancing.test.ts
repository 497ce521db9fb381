/** Options of the balancers: what is refused, with the place and what would be right, and what they compile to. */
import { describe, expect, test } from 'vitest'
import { compileBalancing } from '../../src/controlplane/compile-balancing.js'
import { readNodes } from '../../src/controlplane/compile-nodes.js'
import { loadSource } from '../../src/controlplane/load.js'
import { SourceDocument } from '../../src/controlplane/load-source.js'
import { builtinPlugins } from '../../src/plugins/index.js'
import { PluginRegistry } from '../../src/plugins/registry.js'

const registry = PluginRegistry.of(builtinPlugins)

function load(fields: string) {
  const read = SourceDocument.parse(
    'f',
    `upstreams: [{ id: u, nodes: [{ host: 10.0.0.1, weight: 1, metadata: { zone: a } }], ${fields} }]`,
    {},
  )
  if (!read.ok) throw new Error('the test is no YAML')
  return loadSource(read.source, registry, { nowMs: 0 })
}

const errors = (fields: string): string[] => {
  const result = load(fields)
  return result.ok ? [] : result.errors.map((issue) => `${issue.path}: ${issue.message}`)
}
const warnings = (fields: string): string[] => load(fields).warnings.map((issue) => `${issue.path}: ${issue.message}`)

describe('chash', () => {
  test.each([
    'type: chash, key: uri',
    'type: chash, key: arg_user-id',
    'type: chash, hash_on: header, key: X-User',
    'type: chash, hash_on: cookie, key: sid',
    'type: chash, hash_on: consumer',
    'type: chash, hash_on: vars_combinations, key: "$remote_addr$uri"',
    'type: chash, key: remote_addr, hash_algorithm: maglev, hash_balance_factor: 150',
  ])('%s is fine', (fields) => {
    expect([errors(fields), warnings(fields)]).toEqual([[], []])
  })

  test.each([
    ['type: chash', 'upstreams[0]: missing key'],
    ['type: chash, hash_on: header', 'upstreams[0]: missing key'],
    ['type: chash, key: user', 'upstreams[0].key: "user" is not a variable that hash_on: vars knows'],
    ['type: chash, hash_on: header, key: "X User"', 'upstreams[0].key: "X User" is not the name of a header'],
    ['type: chash, hash_on: vars_combinations, key: uri', 'upstreams[0].key: "uri" has no variable, so all requests would go to one node'],
    ['type: chash, key: uri, slow_start: { window: 5 }', 'upstreams[0].slow_start: slow_start is not possible with type chash'],
    ['type: chash, key: uri, hash_balance_factor: 50', 'upstreams[0].hash_balance_factor: '],
    ['subset: { match: { zone: $post_arg_x } }', 'upstreams[0].subset.match.zone: template "$post_arg_x"'],
    ['subset: { match: {} }', 'upstreams[0].subset.match:'],
    ['slow_start: { aggression: 1 }', 'upstreams[0].slow_start: property "window" is required'],
  ])('%s is refused', (fields, message) => {
    expect(errors(fields)).toEqual([expect.stringContaining(message)])
  })

  test('options of another type, or of labels that no node has, are pointed at', () => {
    expect(warnings('key: uri, ewma_decay: 5')).toEqual([
      'upstreams[0].key: key has no effect with type roundrobin',
      'upstreams[0].ewma_decay: ewma_decay has no effect with type roundrobin',
    ])
    expect(warnings('subset: { match: { zone: a, rack: r1 } }')).toEqual([
      'upstreams[0].subset.match.rack: no node has rack in its metadata',
    ])
    expect(warnings('type: chash, key: server_name')).toEqual([expect.stringContaining('hashed by remote_addr')])
  })
})

test('the compiled form', () => {
  expect(
    compileBalancing({
      type: 'chash',
      hash_on: 'header',
      key: 'X-User',
      hash_balance_factor: 150,
      ewma_decay: 2.5,
      all_unhealthy: 'fail',
      subset: { match: { zone: 'a' }, fallback: 'none' },
    }),
  ).toEqual({
    hash: { on: 'header', key: 'X-User', algorithm: 'ketama', balanceFactor: 150 },
    slowStart: null,
    ewmaDecayMs: 2500,
    allUnhealthy: 'fail',
    subset: { match: [{ label: 'zone', value: 'a' }], fallback: 'none' },
  })
  expect(compileBalancing({ slow_start: { window: 30, min_weight_percent: 0 } }).slowStart).toEqual({
    windowMs: 30_000,
    aggression: 1,
    minWeight: 0.001,
  })
  expect(compileBalancing({ hash_on: 'header', key: 'X' }).hash).toBeNull()
})

test('metadata becomes labels where it is plain', () => {
  const metadata = { zone: 'a', version: 2, canary: true, more: { deep: 1 } }
  expect(readNodes([{ host: '10.0.0.1', weight: 1, metadata }], 'http').nodes[0]?.labels).toEqual({
    zone: 'a',
    version: '2',
    canary: 'true',
  })
  expect(readNodes([{ host: '10.0.0.1', weight: 1 }], 'http').nodes[0]).not.toHaveProperty('labels')
})
