import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { compileConfiguration } from '../../src/controlplane/compile.js'
import { formatIssue, loadSource } from '../../src/controlplane/load.js'
import { SourceDocument } from '../../src/controlplane/load-source.js'
import { builtinPlugins } from '../../src/plugins/index.js'
import { defineCredential, definePlugin, PluginConfigError, Type } from '../../src/plugins/plugin.js'
import { PluginRegistry } from '../../src/plugins/registry.js'
import { ConsumerReader } from '../../src/shared/consumer-tables.js'

const token = definePlugin({
  name: 'test-token',
  priority: 2500,
  description: 'Test.',
  schema: Type.Object({}),
  credential: defineCredential<{ token: string; secret?: string; note: string }>({
    schema: Type.Object({
      token: Type.String({ minLength: 1, description: 'Token.' }),
      secret: Type.Optional(Type.String({ minLength: 4, description: 'Secret.' })),
      note: Type.String({ default: 'none', description: 'Note.' }),
    }),
    key: 'token',
    check: (conf) => (conf.note === 'bad' ? [{ path: 'note', message: `note ${conf.note} is bad` }] : []),
    prepare(conf) {
      if (conf.note === 'worse') throw new PluginConfigError('cannot be prepared', 'note')
      return conf
    },
  }),
  prepare: () => null,
  link: () => ({}),
})
const key = definePlugin({
  name: 'test-key',
  priority: 2501,
  description: 'Test.',
  schema: Type.Object({}),
  credential: defineCredential<{ key: string }>({ schema: Type.Object({ key: Type.String({ description: 'Key.' }) }), key: 'key' }),
  prepare: () => null,
  link: () => ({}),
})
const registry = PluginRegistry.of([...builtinPlugins.filter(({ name }) => name !== token.name), token, key])

function load(text: string, environment: { [name: string]: string } = {}) {
  const parsed = SourceDocument.parse('f', text, {})
  if (!parsed.ok) throw new Error(parsed.errors.map(formatIssue).join('\n'))
  const loaded = loadSource(parsed.source, registry, { environment })
  if (!loaded.ok) return { errors: loaded.errors.map(formatIssue), warnings: loaded.warnings.map(formatIssue), compiled: null }
  const result = compileConfiguration(loaded.config, { rotorSlot: () => 0 })
  if (!result.ok) return { errors: result.errors.map(formatIssue), warnings: [], compiled: null }
  return { errors: [], warnings: loaded.warnings.map(formatIssue), compiled: result }
}

function errorsOf(text: string, environment: { [name: string]: string } = {}): string[] {
  return load(text, environment).errors
}

function consumersOf(text: string, environment: { [name: string]: string } = {}) {
  const { compiled, errors } = load(text, environment)
  if (compiled === null) throw new Error(errors.join('\n'))
  const reader = new ConsumerReader(compiled.consumers.tables)
  const overlayOf = (name: string) => {
    const { overlay } = reader.consumer(reader.findConsumer(name))
    return overlay < 0 ? null : (compiled.consumers.overlays[overlay] ?? null)
  }
  return {
    reader,
    overlayOf,
    overlays: compiled.consumers.overlays,
    find: (name: string, value: string) => {
      const index = reader.findCredential(reader.plugin(name), value)
      return { ...reader.credentialHead(index), conf: reader.conf(index) }
    },
  }
}

describe('consumers', () => {
  test('with all places of credentials', () => {
    const { find, reader } = consumersOf(`
consumers:
  - { id: ann/credentials/x, plugins: { test-token: { token: t3 } } }
  - { username: ann, labels: { custom_id: c }, groups: [a], plugins: { test-token: { token: t1 }, test-key: { key: t1 } },
      credentials: [{ id: y, plugins: { test-token: { token: t2, note: n } } }] }
  - { username: bob, id: 7b, group_id: 1 }
credentials:
  - { id: bob/credentials/z, plugins: { test-token: { token: t4 } } }
  - { id: z, consumer: ann, plugins: { test-token: { token: off, _meta: { disable: true } } } }
consumer_groups: [{ id: 1, plugins: {} }]
`)
    const ann = reader.findConsumer('ann')
    expect(find('test-token', 't1')).toEqual({ id: '', key: 't1', conf: { token: 't1', note: 'none' }, consumer: ann })
    expect(find('test-token', 't2')).toEqual({ id: 'y', key: 't2', conf: { token: 't2', note: 'n' }, consumer: ann })
    expect(find('test-token', 't3')).toMatchObject({ id: 'x', consumer: ann })
    expect(find('test-token', 't4')).toMatchObject({ id: 'z', consumer: reader.findConsumer('bob') })
    expect(find('test-key', 't1')).toMatchObject({ conf: { key: 't1' } })
    expect(reader.findCredential(reader.plugin('test-token'), 'off')).toBe(-1)
    expect(reader.consumer(reader.findConsumer('bob')).rest).toEqual(['7b', '1'])
  })

  test('share the plugins that they have in common, but not the counters of their limits', () => {
    const set = (value: string) => `{ response-rewrite: { headers: { set: { X-A: ${value} } } } }`
    const limit = '{ limit-count: { count: 1, time_window: 60, rejected_code: 429 } }'
    const { overlayOf, overlays } = consumersOf(`
consumer_groups: [{ id: g, plugins: { response-rewrite: { headers: { set: { X-A: group } } }, ip-restriction: { blacklist: [10.0.0.1] } } }]
consumers:
  - { username: none }
  - { username: grouped, group_id: g }
  - { username: grouped2, group_id: g }
  - { username: same1, plugins: ${set('own')} }
  - { username: same2, plugins: ${set('own')} }
  - { username: both, group_id: g, plugins: ${set('own')} }
  - { username: off, group_id: g, plugins: { response-rewrite: { _meta: { disable: true } } } }
  - { username: limited1, plugins: ${limit} }
  - { username: limited2, plugins: ${limit} }
`)
    const names = (name: string) => overlayOf(name)?.plugins.map((plugin) => `${plugin.name} of ${plugin.owner}`)
    expect(overlayOf('none')).toBeNull()
    expect(names('grouped')).toEqual(['ip-restriction of consumer_groups/g', 'response-rewrite of consumer_groups/g'])
    expect(overlayOf('grouped2')).toBe(overlayOf('grouped'))
    expect(names('same1')).toEqual(['response-rewrite of consumers/same1'])
    expect(overlayOf('same2')).toBe(overlayOf('same1'))
    expect(names('both')).toEqual(['ip-restriction of consumer_groups/g', 'response-rewrite of consumers/both'])
    expect(overlayOf('off')).toMatchObject({ off: ['response-rewrite'], plugins: [{ name: 'ip-restriction' }] })
    expect(overlayOf('limited2')).not.toBe(overlayOf('limited1'))
    expect(overlays).toHaveLength(6)
  })

  test('may name a group that does not exist: said once, and marked', () => {
    const text = `
consumer_groups: [{ id: there, plugins: {} }]
consumers:
  - { username: lost1, group_id: gone }
  - { username: lost2, group_id: gone }
  - { username: own, group_id: gone, plugins: { ip-restriction: { blacklist: [10.0.0.1] } } }
  - { username: fine, group_id: there }
`
    const { overlayOf } = consumersOf(text)
    expect(overlayOf('lost1')).toEqual({ plugins: [], off: [], missingGroup: 'gone' })
    expect(overlayOf('lost2')).toBe(overlayOf('lost1'))
    expect(overlayOf('own')).toMatchObject({ plugins: [{ name: 'ip-restriction' }], missingGroup: 'gone' })
    expect(overlayOf('fine')).toBeNull()
    const { warnings } = load(text)
    expect(warnings).toHaveLength(1)
    expect(warnings.join()).toContain('consumers[0].group_id: failed to fetch consumer group info by consumer group id [gone]')
  })
})

describe('errors', () => {
  const ann = '{ username: ann }'
  const cases: readonly (readonly [string, string, ...string[]])[] = [
    ['consumers: {a: 1}', 'f:1:12: consumers: wrong type: expected array, got object; expected a list of consumers'],
    ['consumers: [7]', 'f:1:13: consumers[0]: wrong type: expected object, got integer; expected one consumer'],
    ['consumers: [{ username: "a b" }]', 'failed to match pattern'],
    ['consumers: [{ plugins: {} }]', 'property "username" is required'],
    [
      `consumers: [${ann}, ${ann}]`,
      'f:1:44: consumers[1].username: found duplicate id ann in consumers; expected another name than that of consumers[0]',
    ],
    ['consumers: [{ username: a, plugins: { test-token: {} } }]', 'f:1:51: consumers[0].plugins.test-token: property "token" is required'],
    ['consumers: [{ username: a, plugins: { test-token: { token: t, note: bad } } }]', 'test-token.note: note bad is bad'],
    ['consumers: [{ username: a, plugins: { test-token: { token: t, note: worse } } }]', 'test-token.note: cannot be prepared'],
    ['consumers: [{ username: a, plugins: { no-such: {} } }]', 'unknown plugin [no-such]'],
    ['consumers: [{ username: a, plugins: { cors: { max_age: x } } }]', 'consumers[0].plugins.cors.max_age: wrong type'],
    [
      'consumers: [{ username: a, credentials: [{ id: c, plugins: { cors: {} } }] }]',
      'credentials[0].plugins.cors: only supports auth type plugins in consumer credential; expected one of ',
    ],
    ['consumers: [{ username: a, credentials: [{ id: c, plugins: {} }] }]', 'expect object to have at least 1 properties'],
    [
      'consumers: [{ username: a, credentials: [{ id: c, plugins: { test-key: {key: a}, test-token: {token: b} } }] }]',
      'expect object to have at most 1 properties',
    ],
    [
      'consumers: [{ username: a, credentials: [{ id: c, plugins: { test-key: {key: a} } }, { id: c, plugins: { test-key: {key: b} } }] }]',
      'found duplicate id c in the credentials of a',
    ],
    ['credentials: [{ id: a/credentials/x, plugins: { test-key: {key: a} } }]', 'credentials[0].id: consumer not found: a'],
    [`consumers: [${ann}]\ncredentials: [{ id: x, plugins: { test-key: {key: a} } }]`, 'credential x names no consumer'],
    [
      `consumers: [${ann}]\ncredentials: [{ id: bob/credentials/x, consumer: ann, plugins: { test-key: {key: a} } }]`,
      'credential bob/credentials/x names two consumers',
    ],
    ['consumer_groups: [{ id: g, plugins: { test-key: {} } }]', 'plugin test-key authenticates, which is over'],
    ['plugins: [cors]\nconsumers: [{ username: a, plugins: { test-key: {key: a} } }]', 'plugin test-key is not enabled'],
  ]

  test.each(cases)('%s', (text, message) => {
    expect(errorsOf(text).join('\n')).toContain(message)
  })

  test('a key that two have names both, and not the key', () => {
    const text = `
consumers:
  - { username: ann, plugins: { test-token: { token: tell-nobody } } }
  - { username: bob, credentials: [{ id: one, plugins: { test-token: { token: tell-nobody } } }] }
`
    expect(errorsOf(text)).toEqual([
      'f:4:79: consumers[1].credentials[0].plugins.test-token.token: duplicate key of plugin test-token found with consumer: ann: credential: one of consumer: bob has the same; expected a token of its own',
    ])
  })

  test('a thousand are enough', () => {
    const list = Array.from({ length: 1_500 }, (_, index) => `  - { username: u${index}, plugins: { test-token: {} } }`)
    expect(errorsOf(`consumers:\n${list.join('\n')}`)).toHaveLength(1_000)
  })
})

describe('secrets by reference', () => {
  const consumer = (conf: string, more = '') => `${more}consumers: [{ username: a, plugins: { test-token: ${conf} } }]`

  test('are what they refer to', () => {
    const folder = mkdtempSync(join(tmpdir(), 'sluice-secrets-'))
    writeFileSync(join(folder, 'token'), 'from-a-file\n')
    const settings = `sluice: { secrets: { directory: ${JSON.stringify(folder)} } }\n`
    const environment = { A: 'from-a', J: '{"inner":"from-j"}' }
    const { find } = consumersOf(
      consumer('{ token: $secret://file/token, secret: "$env://A", note: $ENV://J/inner }', settings),
      environment,
    )
    expect(find('test-token', 'from-a-file').conf).toEqual({ token: 'from-a-file', secret: 'from-a', note: 'from-j' })
  })

  test('work in plugins of routes', () => {
    const text = 'routes: [{ uri: /a, plugins: { response-rewrite: { body: $env://BODY } }, upstream: { nodes: {} } }]'
    expect(errorsOf(text)).toEqual([expect.stringContaining('environment variable BODY is not set')])
    expect(JSON.stringify(load(text, { BODY: 'hello' }).compiled?.compiled.routes)).toContain(Buffer.from('hello').toString('base64'))
  })

  test.each([
    ['$env://NO', 'the reference $env://NO cannot be resolved: environment variable NO is not set'],
    ['$env://A/inner', 'environment variable A holds no JSON object with the text "inner"'],
    ['$secret://file/none', '/none cannot be read (ENOENT)'],
    ['$secret://file/../etc/passwd', 'the path leaves the directory of secrets'],
    ['$secret://vault/1/a', 'there is no such source of secrets'],
    ['$env://lower-case!', 'there is no such source of secrets'],
  ])('%s is an error', (reference, message) => {
    const errors = errorsOf(consumer(`{ token: t, secret: "${reference}" }`), { A: 'tell-nobody' })
    expect(errors).toEqual([expect.stringContaining(message)])
    expect(errors.join()).toContain('test-token.secret: ')
    expect(errors.join()).not.toContain('tell-nobody')
  })

  test('are not told when they do not fit', () => {
    const environment = { A: 'abc', B: 'bad' }
    expect(errorsOf(consumer('{ token: t, secret: $env://A }'), environment)).toEqual([
      expect.stringContaining('test-token.secret: the value of $env://A does not fit'),
    ])
    expect(errorsOf(consumer('{ token: t, note: $env://B }'), environment)).toEqual([
      expect.stringContaining('test-token.note: the value of $env://B does not fit'),
    ])
  })

  test('can be demanded', () => {
    const settings = 'sluice: { secrets: { references_only: true } }\n'
    expect(errorsOf(consumer('{ token: t, secret: open }', settings))).toEqual([
      expect.stringContaining('test-token.secret: the secret stands in the file, but sluice.secrets.references_only is set'),
    ])
    expect(errorsOf(consumer('{ token: t, secret: $env://A }', settings), { A: 'hidden' })).toEqual([])
    const byKey = `${settings}consumers: [{ username: a, plugins: { test-key: { key: open } } }]`
    expect(errorsOf(byKey)).toEqual([expect.stringContaining('test-key.key: the secret stands in the file')])
  })
})
