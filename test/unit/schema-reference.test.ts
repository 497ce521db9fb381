/** The generated pages are current, every option is documented, and the list of plugins is in run order. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Ajv } from 'ajv'
import { describe, expect, test } from 'vitest'
import { renderReference } from '../../src/cli/gen.js'
import { branchesOf, objectOf } from '../../src/controlplane/validate-schema.js'
import { builtinPlugins } from '../../src/plugins/index.js'
import { definePlugin, Type } from '../../src/plugins/plugin.js'
import { PluginRegistry } from '../../src/plugins/registry.js'
import { knownPlugins } from '../../src/schema/known-plugins.js'
import { resourceKinds, sectionKinds } from '../../src/schema/resources.js'

const root = fileURLToPath(new URL('../..', import.meta.url))

describe('generated files', () => {
  test.each([...renderReference()])('%s is current (else run: npm run build && npm run gen)', (path, text) => {
    expect(readFileSync(join(root, path), 'utf8')).toBe(text)
  })
  test('the editor schema is a schema and takes a plain file', () => {
    const text = renderReference().get('config/schema/sluice.schema.json') ?? ''
    const validate = new Ajv({ strict: false }).compile(JSON.parse(text))
    expect(validate({ sluice: { workers: 1 }, routes: [{ uri: '/a', plugins: { cors: {} }, upstream: { nodes: { 'a:1': 1 } } }] })).toBe(
      true,
    )
    expect(validate({ routes: [{ uri: 1 }] })).toBe(false)
  })
})

describe('every option has a description', () => {
  const subjects: [string, object][] = [
    ...resourceKinds.map((kind): [string, object] => [kind.kind, kind.schema]),
    ...sectionKinds.map((section): [string, object] => [section.name, section.schema]),
    ...builtinPlugins.map((plugin): [string, object] => [plugin.name, plugin.schema]),
  ]
  test.each(subjects)('%s', (_name, schema) => expect(undescribed(schema, '')).toEqual([]))

  function undescribed(schema: object, path: string): string[] {
    const { properties, items } = objectOf(schema)
    const own = Object.entries(objectOf(properties)).flatMap(([name, option]) => {
      const missing = typeof objectOf(option)['description'] === 'string' ? [] : [`${path}${name}`]
      return [...missing, ...undescribed(objectOf(option), `${path}${name}.`)]
    })
    const inItems = items === undefined ? [] : undescribed(objectOf(items), path)
    return [...own, ...inItems, ...branchesOf(objectOf(schema)).flatMap((branch) => undescribed(branch, path))]
  }
})

describe('plugins', () => {
  test('the list is in run order: priorities fall, and of equal ones the earlier runs first', () => {
    const priorities = builtinPlugins.map((plugin) => plugin.priority)
    expect(priorities).toEqual([...priorities].sort((a, b) => b - a))
  })
  test('priorities are those of the reference gateway', () => {
    expect(Object.fromEntries(builtinPlugins.map((plugin) => [plugin.name, plugin.priority]))).toEqual({
      'real-ip': 23000,
      'client-control': 22000,
      'request-id': 12015,
      'fault-injection': 11000,
      mocking: 10900,
      cors: 4000,
      'ip-restriction': 3000,
      'ua-restriction': 2999,
      'referer-restriction': 2990,
      csrf: 2980,
      'uri-blocker': 2900,
      'multi-auth': 2600,
      'hmac-auth': 2530,
      'basic-auth': 2520,
      'jwt-auth': 2510,
      jwt: 1450,
      'key-auth': 2500,
      acl: 2410,
      'consumer-restriction': 2400,
      'attach-consumer-label': 2399,
      'forward-auth': 2002,
      opa: 2001,
      prometheus: 500,
      'proxy-rewrite': 1008,
      'api-breaker': 1005,
      'limit-conn': 1003,
      'limit-count': 1002,
      'limit-req': 1001,
      'sliding-window-rate-limit': 1001,
      'rate-limit': 1000,
      gzip: 995,
      'traffic-split': 966,
      'circuit-breaker': 960,
      'rate-limiting': 910,
      'rate-limiting-advanced': 910,
      redirect: 900,
      'response-rewrite': 899,
      echo: 412,
    })
  })
  test('all of them but our own are names that users of the reference gateways know', () => {
    expect(builtinPlugins.map((plugin) => plugin.name).filter((name) => !knownPlugins.has(name))).toEqual(['rate-limit', 'circuit-breaker'])
  })
  test('the registry finds by name, keeps the order, and refuses a name twice', () => {
    const plugin = (name: string) =>
      definePlugin<object, null>({ name, priority: 1, description: 'x', schema: Type.Object({}), prepare: () => null, link: () => ({}) })
    const registry = PluginRegistry.of([plugin('a'), plugin('b')])
    expect(registry.names()).toEqual(['a', 'b'])
    expect(registry.get('b')?.name).toBe('b')
    expect(registry.get('c')).toBeUndefined()
    expect([registry.position('a'), registry.position('b'), registry.position('c')]).toEqual([0, 1, 2])
    expect(() => PluginRegistry.of([plugin('a'), plugin('a')])).toThrow('two plugins are called "a"')
  })
})
