/** Warnings about lists of consumer groups that nobody is in. */
import { expect, test } from 'vitest'
import { loadSource } from '../../src/controlplane/load.js'
import { SourceDocument } from '../../src/controlplane/load-source.js'
import { builtinPlugins } from '../../src/plugins/index.js'
import { PluginRegistry } from '../../src/plugins/registry.js'

const registry = PluginRegistry.of(builtinPlugins)

function warned(restriction: object, groups: readonly string[]): string[] {
  const document = {
    routes: [{ uri: '/a', upstream: { nodes: { '127.0.0.1:80': 1 } }, plugins: { 'key-auth': {}, 'consumer-restriction': restriction } }],
    consumer_groups: groups.map((id) => ({ id, plugins: {} })),
    consumers: [{ username: 'nobody' }, ...groups.map((id, index) => ({ username: `c${index}`, group_id: id }))],
  }
  const source = SourceDocument.parse('test.json', JSON.stringify(document), {})
  if (!source.ok) throw new Error('the document cannot be read')
  const loaded = loadSource(source.source, registry)
  expect(loaded.ok).toBe(true)
  return loaded.warnings.filter(({ message }) => message.startsWith('no consumer is in any')).map(({ path }) => path)
}

const byGroup = (whitelist: string[]) => ({ type: 'consumer_group_id', whitelist })

test('a list of groups without any consumer', () => {
  expect(warned(byGroup(['a', 'b']), [])).toEqual(['routes[0].plugins.consumer-restriction.whitelist'])
  expect(warned(byGroup(['a', 'b']), ['c'])).toHaveLength(1)
})

test('what can be fulfilled, names no groups or is off', () => {
  expect(warned(byGroup(['a', 'b']), ['c', 'b'])).toEqual([])
  expect(warned({ whitelist: ['a'] }, [])).toEqual([])
  expect(warned({ type: 'consumer_group_id', blacklist: ['a'] }, [])).toEqual([])
  expect(warned({ ...byGroup(['a']), _meta: { disable: true } }, [])).toEqual([])
})
