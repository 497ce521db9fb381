/** What is left out of a store that others write: everything else serves, and nothing is opened by it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { checkOpened, type OpenedConfiguration, openConfiguration } from '../../src/controlplane/check.js'
import { checkTolerant, leftOutText, type Tolerance, tolerateAll, tolerateKnown, withoutLeftOut } from '../../src/controlplane/leave-out.js'
import { withResources } from '../../src/controlplane/store/base-resources.js'
import { ResourceMap } from '../../src/controlplane/store/resource-map.js'
import type { ResourceValue, StoredResource } from '../../src/controlplane/store/resource-store.js'

const upstream = { nodes: { '127.0.0.1:1': 1 } }
const broken = { plugins: { 'no-such-plugin': {} } }
const guard = { plugins: { 'ip-restriction': { whitelist: ['10.0.0.0/8'] } } }

let folder = ''
let opened: OpenedConfiguration
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sluice-left-'))
  const file = join(folder, 'sluice.yaml')
  writeFileSync(file, 'sluice: {}\n')
  const result = await openConfiguration(file, {})
  if (!result.ok) throw new Error('the file is not valid')
  opened = result.opened
})
afterAll(() => rmSync(folder, { recursive: true }))

function mapOf(lists: { readonly [kind: string]: { readonly [id: string]: ResourceValue } }): ResourceMap {
  let place = 0
  const resources = Object.entries(lists).flatMap(([kind, list]) =>
    Object.entries(list).map(([id, value]): StoredResource => {
      place++
      const times = { createdIndex: place, modifiedIndex: place, createTime: 0, updateTime: 0, expiresAtMs: null, origin: null }
      return { kind, id, value: kind === 'consumers' ? { username: id, ...value } : { id, ...value }, ...times }
    }),
  )
  return ResourceMap.of(resources, place)
}

const check = (map: ResourceMap) =>
  checkOpened({ ...opened, source: withResources(opened.source, map) }, {}, { alsoKnown: (kind) => map.gaps(kind) })

function served(map: ResourceMap, mayLeaveOut: Tolerance = tolerateAll) {
  const result = checkTolerant(map, check, mayLeaveOut)
  if (!result.ok) return { errors: result.errors.map(({ message }) => message), leftOut: [], routes: {}, texts: [], map }
  const routes = Object.fromEntries(
    result.checked.compiled.routes.map(({ id, upstream: index, plugins, hosts }) => [
      id,
      `${index < 0 && plugins.length === 0 ? '503' : [...plugins.map(({ name }) => name), 'upstream'].join()} ${hosts.join()}`.trim(),
    ]),
  )
  return { errors: [], leftOut: result.leftOut, routes, texts: result.leftOut.map(leftOutText), map: result.map }
}

describe('a route', () => {
  test('whose plugin is not valid never serves without it, nor leaves its requests to a wider route', () => {
    const map = mapOf({
      routes: {
        bad: { uri: '/admin/*', upstream, plugins: { ...broken.plugins, ...guard.plugins } },
        wide: { uri: '/*', upstream },
        labelled: { uri: '/l', upstream, ...guard, labels: { a: 1 } },
      },
    })
    expect(served(map)).toMatchObject({
      routes: { bad: '503', labelled: '503', wide: 'upstream' },
      texts: [
        expect.stringMatching(/^routes\/bad is left out: plugins.no-such-plugin: unknown plugin .*; its requests are answered 503$/),
        expect.stringContaining('routes/labelled is left out: labels'),
      ],
    })
  })

  test('whose matching cannot be read is absent', () => {
    const map = mapOf({
      routes: { lua: { uri: '/a', upstream, filter_func: 'function() end' }, shapeless: {}, good: { uri: '/b', upstream } },
    })
    expect(served(map).routes).toEqual({ good: 'upstream' })
    expect(served(map).texts).toEqual([
      expect.stringContaining('as if it were not there'),
      expect.stringContaining('as if it were not there'),
    ])
  })

  test('that needs what is left out is answered 503, on the hosts that it would have had', () => {
    const map = mapOf({
      services: { s: { hosts: ['a.test'], upstream, ...broken }, t: { upstream_id: 'u' }, x: { hosts: 'a.test', upstream } },
      plugin_configs: { p: broken },
      upstreams: { u: { nodes: { '127.0.0.1:1': -1 } } },
      routes: {
        byService: { uri: '/a', service_id: 's' },
        byHiddenHosts: { uri: '/*', service_id: 'x' },
        byPluginConfig: { uri: '/b', plugin_config_id: 'p', upstream },
        byUpstream: { uri: '/c', upstream_id: 'u', ...guard },
        byBoth: { uri: '/d', service_id: 't' },
        bySplit: {
          uri: '/e',
          upstream,
          plugins: { 'traffic-split': { rules: [{ weighted_upstreams: [{ upstream_id: 'u', weight: 1 }] }] } },
        },
        good: { uri: '/g', upstream },
      },
    })
    const { routes, leftOut } = served(map)
    expect(routes).toEqual({
      byService: '503 a.test',
      byPluginConfig: '503',
      byUpstream: '503',
      byBoth: '503',
      // What it sends to the upstream that is left out is answered 503, as when the upstream was deleted by force.
      bySplit: 'traffic-split,upstream',
      good: 'upstream',
    })
    expect(leftOut.map(({ resource }) => resource.id).sort()).toEqual(
      ['byBoth', 'byHiddenHosts', 'byPluginConfig', 'byService', 'byUpstream', 'p', 's', 'u', 'x'].sort(),
    )
  })
})

test('a consumer that is not valid cannot come in, with its credentials; others can', () => {
  const map = mapOf({
    routes: { r: { uri: '/', upstream, plugins: { 'key-auth': {} } } },
    consumers: { jack: broken, jill: {} },
    credentials: {
      'jack/credentials/one': { plugins: { 'key-auth': { key: 'a' } } },
      'jill/credentials/one': { plugins: { 'key-auth': { key: 'b' } } },
    },
  })
  const result = served(map)
  expect(result.map.list('consumers').map(({ id }) => id)).toEqual(['jill'])
  expect(result.map.list('credentials').map(({ id }) => id)).toEqual(['jill/credentials/one'])
  expect(result.leftOut).toHaveLength(2)
})

test('nothing serves without a global rule, or without a certificate that asks for those of clients', () => {
  const routes = { r: { uri: '/', upstream } }
  expect(served(mapOf({ routes, global_rules: { g: broken } })).errors).toEqual(['unknown plugin [no-such-plugin]'])
  expect(served(mapOf({ routes, ssls: { c: { sni: 'a.test', cert: 'x', key: 'y', client: { ca: 'z' } } } })).errors).not.toEqual([])
  const other = served(mapOf({ routes, ssls: { c: { sni: 'a.test', cert: 'x', key: 'y' } }, protos: { p: { content: 'syntax' } } }))
  expect(other).toMatchObject({ errors: [], routes: { r: 'upstream' } })
  expect(other.leftOut.map(({ resource }) => resource.kind).sort()).toEqual(['protos', 'ssls'])
})

test('known ones stay left out; new ones are refused', () => {
  const map = mapOf({ routes: { bad: { uri: '/a', ...broken }, good: { uri: '/b', upstream } } })
  const { leftOut, routes } = served(map)
  const put = (id: string, value: ResourceValue) =>
    map.with([{ type: 'put', kind: 'routes', id, value: { id, ...value }, expiresAtMs: null }], 9, 0)
  expect(served(put('good', { uri: '/c', upstream }), tolerateKnown(leftOut)).routes).toEqual(routes)
  expect(served(put('good', { uri: '/c', ...broken }), tolerateKnown(leftOut)).errors).not.toEqual([])
  expect(served(put('bad', { uri: '/a', ...broken }), tolerateKnown(leftOut)).errors).not.toEqual([])
  expect(served(put('bad', { uri: '/a', upstream }), tolerateKnown(leftOut)).leftOut).toEqual([])
  expect(withoutLeftOut(map, leftOut).equals(served(map).map)).toBe(true)
})
