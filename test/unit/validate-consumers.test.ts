/** Warnings about limits by consumer on routes that do not authenticate. */
import { describe, expect, test } from 'vitest'
import { loadSource } from '../../src/controlplane/load.js'
import { formatIssue } from '../../src/controlplane/load-issue.js'
import { SourceDocument } from '../../src/controlplane/load-source.js'
import { definePlugin, Type } from '../../src/plugins/plugin.js'
import { PluginRegistry } from '../../src/plugins/registry.js'

/** Takes any options: only names and options matter here. */
function anyPlugin(name: string) {
  return definePlugin<object, null>({
    name,
    priority: 1,
    description: 'For tests.',
    schema: Type.Object({ identifier: Type.Optional(Type.Unknown({ default: 'consumer', description: 'Has a default.' })) }),
    prepare: () => null,
    link: () => ({}),
  })
}

const limiters = [
  'limit-count',
  'limit-req',
  'limit-conn',
  'rate-limit',
  'rate-limiting',
  'rate-limiting-advanced',
  'sliding-window-rate-limit',
]
const builtin = [...limiters, 'cors', 'key-auth', 'openid-connect']
const registry = PluginRegistry.of([...builtin, 'house-login'].map(anyPlugin))

type Plugins = { readonly [name: string]: object }

/** Paths of the warnings about consumers. */
function warned(document: object): string[] {
  const source = SourceDocument.parse('test.json', JSON.stringify(document), {})
  if (!source.ok) throw new Error(source.errors.map(formatIssue).join('\n'))
  const loaded = loadSource(source.source, registry, { nowMs: 0, builtin: new Set(builtin) })
  if (!loaded.ok) throw new Error(loaded.errors.map(formatIssue).join('\n'))
  return loaded.warnings.filter((issue) => issue.message.startsWith('counts consumers')).map((issue) => issue.path)
}

const upstream = { nodes: { '127.0.0.1:80': 1 } }
const routeOf = (plugins: Plugins): object => ({ routes: [{ uri: '/a', upstream, plugins }] })
const byConsumer = { 'rate-limiting': { minute: 1, limit_by: 'consumer' } }
const at = 'routes[0].plugins.rate-limiting.limit_by'

describe('options that count consumers', () => {
  test.each([
    ['rate-limiting', { limit_by: 'consumer' }, 'limit_by'],
    ['rate-limiting', { limit_by: 'credential' }, 'limit_by'],
    ['rate-limiting', { key_type: 'consumer_name' }, 'key_type'],
    ['rate-limiting-advanced', { identifier: 'consumer-group' }, 'identifier'],
    ['rate-limiting-advanced', { compound_identifier: ['ip', 'consumer'] }, 'compound_identifier'],
    ['sliding-window-rate-limit', { key_type: 'consumer_name' }, 'key_type'],
    ['limit-count', { key: 'consumer_name' }, 'key'],
    ['limit-req', { key: '$remote_addr $consumer_name', key_type: 'var_combination' }, 'key'],
    ['limit-conn', { rules: [{ key: '$remote_addr' }, { key: `$${'{consumer_group_id}'}` }] }, 'rules[1].key'],
    ['rate-limit', { key: '$consumer_name' }, 'key'],
    ['rate-limit', { limits: [{ limit: 1, key: '$consumer_name' }] }, 'limits[0].key'],
  ])('%s %j', (name, options, option) => {
    expect(warned(routeOf({ [name]: options }))).toEqual([`routes[0].plugins.${name}.${option}`])
  })

  test.each([
    ['rate-limiting', {}],
    ['rate-limiting', { limit_by: null }],
    ['rate-limiting-advanced', {}],
    ['rate-limiting', { limit_by: 'ip' }],
    ['limit-count', { key: 'remote_addr' }],
    ['limit-count', { key: 'consumer_name', key_type: 'constant' }],
    ['limit-count', { key: '$consumer_names', key_type: 'var_combination' }],
    ['rate-limit', { key: 'consumer_name' }],
    ['cors', { key: 'consumer_name' }],
    ['rate-limiting', { limit_by: 'consumer', _meta: { disable: true } }],
  ])('not %s %j', (name, options) => {
    expect(warned(routeOf({ [name]: options }))).toEqual([])
  })
})

describe('who authenticates', () => {
  test('a plugin of the route, also of a user', () => {
    expect(warned(routeOf({ ...byConsumer, cors: {} }))).toEqual([at])
    for (const name of ['key-auth', 'openid-connect', 'house-login']) expect(warned(routeOf({ ...byConsumer, [name]: {} }))).toEqual([])
    expect(warned(routeOf({ ...byConsumer, 'key-auth': { _meta: { disable: true } } }))).toEqual([at])
  })

  test('its service, its plugin_config, a global rule', () => {
    const auth = { plugins: { 'key-auth': {} } }
    const routes = (more: object): object => ({ routes: [{ uri: '/a', upstream, plugins: byConsumer, ...more }] })
    expect(warned({ ...routes({ service_id: 's' }), services: [{ id: 's', ...auth }] })).toEqual([])
    expect(warned({ ...routes({ plugin_config_id: 'p' }), plugin_configs: [{ id: 'p', ...auth }] })).toEqual([])
    expect(warned({ ...routes({}), global_rules: [{ id: 'g', ...auth }] })).toEqual([])
    expect(warned({ ...routes({}), services: [{ id: 's', ...auth }], plugin_configs: [{ id: 'p', ...auth }] })).toEqual([at])
  })

  test('a limit of a service is named once, when one of its routes is open', () => {
    const services = [{ id: 's', upstream, plugins: byConsumer }]
    const open = { uri: '/open', service_id: 's' }
    const closed = { uri: '/closed', service_id: 's', plugins: { 'key-auth': {} } }
    const path = 'services[0].plugins.rate-limiting.limit_by'
    expect(warned({ services, routes: [closed] })).toEqual([])
    expect(warned({ services, routes: [closed, open, { ...open, uri: '/too' }] })).toEqual([path])
  })

  test('a limit of all routes is named when none of them authenticates', () => {
    const rules = { global_rules: [{ id: 'g', plugins: byConsumer }] }
    const route = (plugins: Plugins): object => ({ uri: '/a', upstream, plugins })
    expect(warned({ ...rules, routes: [route({}), route({ 'key-auth': {} })] })).toEqual([])
    expect(warned({ ...rules, routes: [route({})] })).toEqual(['global_rules[0].plugins.rate-limiting.limit_by'])
  })
})
