/** Changes over configuration files of both forms, without a gateway. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ConfigurationSource } from '../../../src/cli/configuration.js'
import type { Mutation, ResourceValue } from '../../../src/controlplane/store/resource-store.js'

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sluice-configuration-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

async function sourceOf(name: string, text: string, env: NodeJS.ProcessEnv = {}): Promise<ConfigurationSource> {
  const file = join(folder, name)
  writeFileSync(file, text)
  const flags = { file, listen: [], demo: false, binding: 'uWebSockets.js', admin: { host: '127.0.0.1', port: 0 } }
  const source = new ConfigurationSource(
    flags,
    env,
    () => 0,
    () => {},
  )
  const result = await source.prepare()
  if (!result.ok) throw new Error(result.errors.join('\n'))
  source.adopt(result.prepared)
  return source
}

function change(source: ConfigurationSource, ...mutations: Mutation[]) {
  const view = source.store()?.current()
  if (view === undefined) throw new Error('there is no store')
  return source.prepareWhole(view.with(mutations, view.revision + 1, 0))
}

const put = (kind: string, id: string, value: ResourceValue): Mutation => ({ type: 'put', kind, id, value, expiresAtMs: null })
const remove = (kind: string, id: string, leavesGap = false): Mutation => ({ type: 'delete', kind, id, leavesGap })
const nodes = { '127.0.0.1:1': 1 }

test('a Kong file takes changes in our form', async () => {
  const kong = `_format_version: "3.0"
services:
- name: users
  url: http://127.0.0.1:8080
  routes:
  - name: users
    paths: [/users]
`
  const source = await sourceOf('kong.yml', kong)
  const result = change(source, put('routes', 'more', { id: 'more', uri: '/more', upstream: { nodes } }))
  if (!result.ok) throw new Error(JSON.stringify(result.errors))
  expect(result.prepared.compiled.routes.map(({ id }) => id).sort()).toEqual(expect.arrayContaining(['more']))
  expect(result.prepared.compiled.routes.length).toBe(1 + (source.store()?.current().list('routes').length ?? 0))
})

test('credentials that stand inside of consumers can be changed by themselves', async () => {
  const source = await sourceOf(
    'consumers.yaml',
    'consumers: [{username: jack, credentials: [{id: one, plugins: {key-auth: {key: a}}}, {id: two, plugins: {key-auth: {key: b}}}]}]\n',
  )
  const credential = (key: string) => ({ id: 'jack/credentials/three', plugins: { 'key-auth': { key } } })
  expect(change(source, put('credentials', 'jack/credentials/three', credential('b')))).toMatchObject({ ok: false })
  expect(
    change(source, remove('credentials', 'jack/credentials/two'), put('credentials', 'jack/credentials/three', credential('b'))).ok,
  ).toBe(true)
})

test('what the file says after replacement stays, texts of changes are not replaced', async () => {
  const source = await sourceOf('env.yaml', `routes: [{id: a, uri: "\${{PLACE}}", upstream: {nodes: {"127.0.0.1:1": 1}}}]\n`, {
    PLACE: '/from-env',
  })
  const result = change(source, put('routes', 'b', { id: 'b', uri: '/b', desc: `\${{PLACE}}`, upstream: { nodes } }))
  if (!result.ok) throw new Error(JSON.stringify(result.errors))
  expect(result.prepared.compiled.routes.map(({ uris }) => uris)).toEqual([['/from-env'], ['/b']])
})

test('routes that need what was deleted by force have no upstream and no plugins', async () => {
  const source = await sourceOf(
    'gaps.yaml',
    `plugin_configs: [{id: c, plugins: {cors: {}}}]
upstreams: [{id: u, nodes: {"127.0.0.1:1": 1}}]
services: [{id: s, upstream_id: u}]
routes:
- {id: a, uri: /a, plugin_config_id: c, upstream_id: u, plugins: {echo: {body: x}}}
- {id: b, uri: /b, service_id: s}
- {id: c, uri: /c, upstream_id: u, plugins: {echo: {body: x}}}
`,
  )
  expect(change(source, remove('plugin_configs', 'c'))).toMatchObject({ ok: false })
  const served = (result: ReturnType<typeof change>) => {
    if (!result.ok) throw new Error(JSON.stringify(result.errors))
    return result.prepared.compiled.routes.map(({ id, upstream, plugins }) => `${id} ${upstream >= 0} ${plugins.length}`)
  }
  expect(served(change(source, remove('plugin_configs', 'c', true)))).toEqual(['a false 0', 'b true 0', 'c true 1'])
  expect(served(change(source, remove('services', 's', true)))).toEqual(['a true 2', 'b false 0', 'c true 1'])
  expect(served(change(source, remove('upstreams', 'u', true)))).toEqual(['a false 0', 'b false 0', 'c false 0'])
})

test('what is wrong is placed in the file, or in the change', async () => {
  const source = await sourceOf(
    'places.yaml',
    'upstreams:\n- {id: u, nodes: {"127.0.0.1:1": 1}}\nroutes:\n- {id: a, uri: /a, upstream_id: u}\n',
  )
  const result = change(source, remove('upstreams', 'u'), put('routes', 'b', { id: 'b', uri: '/b', upstream_id: 'v' }))
  expect(result.ok ? [] : result.errors.map(({ line, path }) => [line, path])).toEqual([
    [4, 'routes["b (Admin API)"].upstream_id'],
    [4, 'routes[0].upstream_id'],
  ])
})

test('checks leave what was read as it was: a change is still in force after a restart, whatever defaults its plugins have', async () => {
  const text =
    'routes: [{id: a, uri: /a, upstream: {nodes: {"127.0.0.1:1": 1}}, plugins: {api-breaker: {break_response_code: 502, unhealthy: {}}}}]\n'
  const source = await sourceOf('defaults.yaml', text)
  const store = source.store()
  if (store === null) throw new Error('there is no store')
  const before = JSON.stringify(store.current().get('routes', 'a')?.value)
  expect(before).toContain('"unhealthy":{}')
  const value = { id: 'a', uri: '/changed', upstream: { nodes }, plugins: { 'api-breaker': { break_response_code: 502, healthy: {} } } }
  expect(change(source, put('routes', 'a', value)).ok).toBe(true)
  expect(value.plugins['api-breaker'].healthy).toEqual({})
  expect(await store.apply([put('routes', 'a', value)], store.current().revision, 0)).toMatchObject({ state: 'stored' })
  await source.close()
  const again = await sourceOf('defaults.yaml', text)
  expect(again.store()?.describe().setAside).toEqual([])
  expect(again.store()?.current().get('routes', 'a')?.value['uri']).toBe('/changed')
})
