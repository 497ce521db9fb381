/**
 * Changes one by one against the check and compilation of the whole: after every batch of random changes both must agree whether the
 * configuration is valid, on every route with its plugins and upstream, and on the route that each of some requests gets.
 *
 * SLUICE_MUTATIONS: number of changes (default 1,200; 10,000 take about a minute).
 */
import { expect, test } from 'vitest'
import { checkOpened, type OpenedConfiguration } from '../../src/controlplane/check.js'
import { LiveConfiguration } from '../../src/controlplane/live/live-configuration.js'
import { SourceDocument } from '../../src/controlplane/load-source.js'
import { SnapshotPacker } from '../../src/controlplane/publish.js'
import { RouterIndex } from '../../src/controlplane/router-index.js'
import { withResources } from '../../src/controlplane/store/base-resources.js'
import { ResourceMap } from '../../src/controlplane/store/resource-map.js'
import type { Mutation, ResourceView } from '../../src/controlplane/store/resource-store.js'
import { LinkedRecords } from '../../src/dataplane/linked-records.js'
import { Router } from '../../src/dataplane/router/router.js'
import { builtinPlugins } from '../../src/plugins/index.js'
import { PluginRegistry } from '../../src/plugins/registry.js'
import type { CompiledRoute, CompiledUpstream, RouterMode } from '../../src/schema/compiled.js'
import { RouterBlocks } from '../../src/shared/router-tables.js'
import { fakeExchange } from '../support/fake-exchange.js'

const mutationsWanted = Number(process.env['SLUICE_MUTATIONS'] ?? 1_200)
const seed = Number(process.env['SLUICE_SEED'] ?? 20_261_123)

/** Numbers from 0 to n - 1, the same in every run. */
class Dice {
  constructor(private state: number) {}
  roll(n: number): number {
    this.state = (Math.imul(this.state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((this.state / 2 ** 32) * n)
  }
  pick<T>(items: readonly T[]): T {
    return items[this.roll(items.length)] as T
  }
  chance(percent: number): boolean {
    return this.roll(100) < percent
  }
}

const ids = ['1', '2', '3', '4', '5', '6', '7', '8', 'a', 'b', 'c', 'd', 'e', 'f']
const fewIds = ['x', 'y', 'z']
const hosts = ['a.com', '*.a.com', 'b.a.com', '*.com', 'a.com:8080']
const plainUris = ['/', '/a', '/a/b', '/a*', '/a/*', '/ab', '/*']
const segmentUris = ['/', '/a', '/a/:id', '/:x/b', '/a/*rest', '/a*', '/:x']

function upstreamOf(dice: Dice): object {
  return {
    nodes: { [`127.0.0.${1 + dice.roll(3)}:80`]: 1, ...(dice.chance(20) && { 'localhost:81': 2 }) },
    ...(dice.chance(20) && { type: dice.pick(['least_conn', 'roundrobin']) }),
    ...(dice.chance(20) && { timeout: { connect: 1 + dice.roll(3), send: 2, read: 3 } }),
    ...(dice.chance(5) && { scheme: 'carrier-pigeon' }),
  }
}

function pluginsOf(dice: Dice): object | undefined {
  const plugins = {
    ...(dice.chance(30) && { 'proxy-rewrite': { uri: dice.pick(['/r1', '/r2']) } }),
    ...(dice.chance(20) && {
      'limit-count': { count: 1 + dice.roll(2), time_window: 60, key: 'remote_addr', ...(dice.chance(50) && { group: 'g' }) },
    }),
    ...(dice.chance(15) && {
      'traffic-split': {
        rules: [{ weighted_upstreams: [dice.chance(50) ? { upstream_id: dice.pick(fewIds), weight: 1 } : { upstream: upstreamOf(dice) }] }],
      },
    }),
    ...(dice.chance(10) && { cors: { _meta: { disable: dice.chance(50) } } }),
  }
  return Object.keys(plugins).length === 0 ? undefined : plugins
}

function routeOf(dice: Dice, mode: RouterMode): object {
  const uris = mode === 'radixtree_uri_with_parameter' ? segmentUris : plainUris
  return {
    ...(dice.chance(70) ? { uri: dice.pick(uris) } : { uris: [...new Set([dice.pick(uris), dice.pick(uris)])] }),
    ...(dice.chance(40) && { host: dice.pick(hosts) }),
    ...(dice.chance(30) && { methods: [dice.pick(['GET', 'POST'])] }),
    ...(dice.chance(30) && { priority: dice.roll(3) }),
    ...(dice.chance(20) && { remote_addr: dice.pick(['10.0.0.0/8', '127.0.0.1']) }),
    ...(dice.chance(10) && { status: dice.roll(2) }),
    ...(dice.chance(20) && { timeout: { connect: 1 + dice.roll(2) } }),
    ...(dice.chance(10) && { retry_on: ['timeout'] }),
    ...(dice.chance(30) && { plugins: pluginsOf(dice) ?? { cors: {} } }),
    ...(dice.chance(30) && { service_id: dice.pick(fewIds) }),
    ...(dice.chance(20) && { plugin_config_id: dice.pick(fewIds) }),
    ...(dice.chance(40) ? { upstream: upstreamOf(dice) } : dice.chance(50) ? { upstream_id: dice.pick(fewIds) } : {}),
  }
}

function mutationOf(dice: Dice, mode: RouterMode): Mutation {
  const kind = dice.pick(['routes', 'routes', 'routes', 'services', 'plugin_configs', 'upstreams'])
  const id = dice.pick(kind === 'routes' ? ids : fewIds)
  if (dice.chance(25)) return { type: 'delete', kind, id, leavesGap: dice.chance(40) }
  const plugins = pluginsOf(dice)
  const value =
    kind === 'routes'
      ? routeOf(dice, mode)
      : kind === 'upstreams'
        ? upstreamOf(dice)
        : kind === 'plugin_configs'
          ? { plugins: plugins ?? { cors: {} } }
          : {
              ...(plugins !== undefined && { plugins }),
              ...(dice.chance(40) && { hosts: [dice.pick(hosts)] }),
              ...(dice.chance(40) ? { upstream: upstreamOf(dice) } : dice.chance(50) ? { upstream_id: dice.pick(fewIds) } : {}),
            }
  return { type: 'put', kind, id, value: { id, ...value }, expiresAtMs: null }
}

/** Everything that a request on the route may meet, whatever numbers stand for it. */
function essence(route: CompiledRoute, upstream: (index: number) => CompiledUpstream | null): unknown {
  const plugins = route.plugins.map((plugin) =>
    plugin.name === 'traffic-split' ? { ...plugin, prepared: withUpstreams(plugin.prepared, upstream) } : plugin,
  )
  return { ...route, plugins, upstream: route.upstream < 0 ? null : { ...upstream(route.upstream), rotor: 0 } }
}

function withUpstreams(prepared: unknown, upstream: (index: number) => CompiledUpstream | null): unknown {
  return JSON.parse(
    JSON.stringify(prepared, (name, value) =>
      name === 'upstreams' && Array.isArray(value)
        ? value.map((index) => (typeof index === 'number' && index >= 0 ? { ...upstream(index), rotor: 0 } : index))
        : value,
    ),
  )
}

for (const mode of ['radixtree_host_uri', 'radixtree_uri', 'radixtree_uri_with_parameter', 'priority'] as const) {
  test(`${mode}: changes one by one are what the whole would be (seed ${seed})`, { timeout: 120_000 }, () => {
    const dice = new Dice(seed)
    const parsed = SourceDocument.parse('test.json', JSON.stringify({ sluice: { router: { mode } } }), {})
    if (!parsed.ok) throw new Error('the document must parse')
    const registry = PluginRegistry.of(builtinPlugins)
    const whole = (view: ResourceView) => {
      const opened: OpenedConfiguration = { source: withResources(parsed.source, view), registry, kong: null, errors: [], warnings: [] }
      return checkOpened(opened, {}, { alsoKnown: (kind) => view.gaps(kind) })
    }
    const start = whole(ResourceMap.empty)
    if (!start.ok) throw new Error('the empty configuration must be valid')
    let view = ResourceMap.empty
    /** What `live` has; behind `view` while there is something pending. */
    let served = view
    let pending: ResourceMap | null = null
    const live = new LiveConfiguration(start.state, start.compiled)
    const packer = new SnapshotPacker(start.compiled, start.consumers, 1, start.state.orders)
    let routes = LinkedRecords.of<CompiledRoute, CompiledRoute>(packer.whole().routes, (record) => record)
    let upstreams = LinkedRecords.of<CompiledUpstream, CompiledUpstream>(packer.whole().upstreams, (record) => record)
    let blocks = RouterBlocks.of(packer.whole().tables)
    let done = 0
    let refused = 0
    let matched = 0
    for (let epoch = 2; done < mutationsWanted / 4; epoch++) {
      const mutations = Array.from({ length: 1 + dice.roll(3) }, () => mutationOf(dice, mode))
      done += mutations.length
      const next = view.with(mutations, epoch, 0)
      const expected = whole(next)
      // What others changed is known by comparison only, after one batch or several.
      const isSeen = pending === null && dice.chance(70)
      if (!isSeen && expected.ok && dice.chance(40)) {
        pending = next
        view = next
        continue
      }
      const touched = isSeen ? mutations : next.differences(served)
      pending = null
      const applied = live.apply(next, touched)
      expect(applied !== null, JSON.stringify(mutations)).toBe(expected.ok)
      if (applied === null || !expected.ok) {
        refused++
        view = served
        continue
      }
      // Now and then a store refuses: nothing of it may stay.
      if (dice.chance(10)) {
        live.rollBack()
        view = served
        continue
      }
      live.commit()
      view = next
      served = next
      const { change } = applied
      const packed = packer.change(epoch, change.routes, new Map([...change.upstreams].map(([index, { after }]) => [index, after])))
      routes = routes.with(packed.routes, (record) => record)
      upstreams = upstreams.with(packed.upstreams, (record) => record)
      blocks = dice.chance(5) ? RouterBlocks.of(packer.whole().tables) : blocks.with(packed.tables)
      const places = live.compiledRoutes
      const mine = new Map(
        places.flatMap((route, place) => (route === null ? [] : [[route.id, essence(routes.get(place), (index) => upstreams.get(index))]])),
      )
      const theirs = new Map(
        expected.compiled.routes.map((route) => [route.id, essence(route, (index) => expected.compiled.upstreams[index] ?? null)]),
      )
      expect(Object.fromEntries(mine)).toEqual(Object.fromEntries(theirs))
      expect(new Set(live.limiters.map((one) => JSON.stringify(one)))).toEqual(new Set(expected.limiters.map((one) => JSON.stringify(one))))
      const conditions = (list: readonly (CompiledRoute | null)[]) => (index: number) =>
        list[index]?.remoteAddrs.length === 0 ? null : { remote: { has: () => list[index]?.remoteAddrs[0] === '127.0.0.1' }, vars: null }
      const mineRouter = new Router(blocks, conditions(places) as ConstructorParameters<typeof Router>[1])
      const theirRouter = new Router(
        RouterIndex.of(expected.compiled.routes, expected.compiled.router).tables(),
        conditions(expected.compiled.routes) as ConstructorParameters<typeof Router>[1],
      )
      for (let request = 0; request < 6; request++) {
        const target = dice.pick(['/', '/a', '/a/b', '/ab', '/a/c/d', '/b', '/abc'])
        const exchange = () => fakeExchange({ target, method: dice.pick(['GET', 'GET']), host, clientAddress: '127.0.0.1' })
        const host = dice.pick(['a.com', 'b.a.com', 'x.com', 'a.com:8080', 'x.org'])
        const found = mineRouter.match(exchange())
        const wanted = theirRouter.match(exchange())
        if (found >= 0) matched++
        expect(places[found]?.id ?? null, `${host}${target}`).toBe(expected.compiled.routes[wanted]?.id ?? null)
        expect(mineRouter.params).toEqual(theirRouter.params)
      }
    }
    // The comparison is about something: requests find routes, and some batches are wrong.
    expect(matched).toBeGreaterThan(done / 4)
    expect(refused).toBeGreaterThan(10)
  })
}
