/** The store that several gateways share, over a real Redis: two stores here are two gateways. */
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { RedisFailure } from '../../src/cluster/errors.js'
import { redisDefaults } from '../../src/cluster/settings.js'
import { SharedConfiguration } from '../../src/cluster/shared-configuration.js'
import { readBaseResources } from '../../src/controlplane/store/base-resources.js'
import { baseOf } from '../../src/controlplane/store/file-store.js'
import { LastCopy } from '../../src/controlplane/store/last-copy.js'
import { RedisBackend } from '../../src/controlplane/store/redis-backend.js'
import type { Mutation, ResourceValue, ResourceView } from '../../src/controlplane/store/resource-store.js'
import { SharedStore } from '../../src/controlplane/store/shared-store.js'
import { eventually, RedisServer, redisMissing } from '../support/redis.js'
import { applied, putOf } from '../support/shared-stores.js'

const put = (id: string, value: ResourceValue = {}) => putOf('routes', id, value)
const remove = (id: string, leavesGap = false): Mutation => ({ type: 'delete', kind: 'routes', id, leavesGap })
const idsOf = (view: ResourceView | string) =>
  typeof view === 'string'
    ? view
    : view
        .list('routes')
        .map(({ id, value }) => `${id}${value['uri'] ?? ''}`)
        .join(' ')

describe.skipIf(redisMissing !== null)('a store in Redis', () => {
  let redis: RedisServer
  let folder = ''
  let names = 0
  const open: SharedStore[] = []

  beforeAll(async () => {
    redis = await RedisServer.start()
    folder = await mkdtemp(join(tmpdir(), 'sluice-shared-'))
  })
  afterAll(async () => {
    await Promise.all(open.map((store) => store.close()))
    await redis.close()
    await rm(folder, { recursive: true })
  })

  const newName = () => `test${++names}`

  async function storeOf(name: string, gateway: string, log: string[] = [], revisionsMax = 100): Promise<SharedStore> {
    const settings = { ...redisDefaults, mode: 'redis' as const, ...redis.address, database: 0, deadlineMs: 2_000 }
    const keeper = new SharedConfiguration({ settings, name, clock: systemClock, nodeId: gateway, revisionsMax, wholeDeadlineMs: 2_000 })
    const backend = new RedisBackend(keeper, (error): error is Error => error instanceof RedisFailure)
    const copy = new LastCopy(join(folder, `${name}-${gateway}.copy`), backend.place)
    const store = await SharedStore.open({ backend, copy, clock: systemClock, log: (_, message) => log.push(message) })
    open.push(store)
    return store
  }

  /** Publishes what the store holds, as a gateway does. */
  function serving(store: SharedStore, routes: readonly object[] = []): SharedStore {
    const resources = readBaseResources({ routes }, 0)
    if (resources === null) throw new Error('the file of the test is wrong')
    store.adopt(store.viewOf(baseOf(resources)))
    store.watch(() => store.served(store.current()))
    return store
  }

  test('an empty one takes the resources of the file; the next gateway has them, and not those of its own file', async () => {
    const name = newName()
    const one = serving(await storeOf(name, 'one'), [
      { id: 'a', uri: '/a' },
      { id: 'b', uri: '/b' },
    ])
    expect(idsOf(one.current())).toBe('a/a b/b')
    await applied(one, put('c', { uri: '/c' }))
    const two = await storeOf(name, 'two')
    const view = two.viewOf(baseOf(readBaseResources({ routes: [{ id: 'x', uri: '/x' }] }, 0) ?? []))
    expect(view.warnings).toEqual([expect.stringContaining('1 resource(s) of the file are not used')])
    two.adopt(view)
    expect(idsOf(two.current())).toBe('a/a b/b c/c')
  })

  test('changes reach the other gateway; of two that were made for the same revision one is refused', async () => {
    const name = newName()
    const one = serving(await storeOf(name, 'one'))
    await eventually(
      'the first revision',
      async () => (await one.history()).length === 0 && (await redis.client.exists(`sluice:{configuration:${name}}:state`)) === 1,
    )
    const two = serving(await storeOf(name, 'two'))
    const seen = one.current().revision
    const outcomes = await Promise.all([one.apply([put('a')], seen, 0), two.apply([put('b')], two.current().revision, 0)])
    expect(outcomes.map(({ state }) => state).sort()).toEqual(['conflict', 'stored'])
    // Who was too late has read what was faster: the next try succeeds.
    const late = outcomes[0]?.state === 'conflict' ? one : two
    await applied(late, put('late'))
    await applied(late, put('gone'), remove('gone', true), put('e', { uri: '/é"\n' }))
    await eventually('the change', () => idsOf(one.current()) === idsOf(two.current()))
    expect([...two.current().gaps('routes')]).toEqual(['gone'])
    expect(one.current().list('routes')).toEqual(two.current().list('routes'))
  })

  test('twenty writers on two gateways: no change is lost, every revision is one change', async () => {
    const name = newName()
    const gateways = [serving(await storeOf(name, 'one'))]
    await eventually('the first revision', async () => (await redis.client.exists(`sluice:{configuration:${name}}:state`)) === 1)
    gateways.push(serving(await storeOf(name, 'two')))
    const before = gateways[0]?.current().revision ?? 0
    await Promise.all(
      Array.from({ length: 20 }, (_, index) => gateways.map((store, one) => applied(store, put(`r${one}-${index}`)))).flat(),
    )
    await eventually('all changes', () => gateways.every((store) => store.current().list('routes').length === 40))
    expect(gateways.map((store) => store.current().revision)).toEqual([before + 40, before + 40])
  })

  test('earlier revisions can be had again, as many as are kept', async () => {
    const store = serving(await storeOf(newName(), 'one', [], 3))
    await eventually('the first revision', async () => (await store.at(1)) !== 'the store is empty')
    await applied(store, put('a', { uri: '/1' }), put('b'))
    await applied(store, put('a', { uri: '/2' }), remove('b'))
    await applied(store, remove('a', true))
    await applied(store, put('a', { uri: '/3' }))
    expect(idsOf(await store.at(5))).toBe('a/3')
    expect(idsOf(await store.at(4))).toBe('')
    expect(idsOf(await store.at(3))).toBe('a/2')
    expect(idsOf(await store.at(2))).toBe('a/1 b')
    expect(await store.at(1)).toBe('there is no revision 1: the store keeps 2 to 5')
    expect(await store.history()).toMatchObject([
      { revision: 5, changes: [{ type: 'put', kind: 'routes', id: 'a' }] },
      { revision: 4, changes: [{ type: 'delete', id: 'a' }] },
      { revision: 3, changeCount: 2 },
    ])
  })

  test('a gateway that was away for longer than the log reaches reads the whole', async () => {
    const name = newName()
    const one = serving(await storeOf(name, 'one', [], 2))
    await eventually('the first revision', async () => (await one.at(1)) !== 'the store is empty')
    const two = serving(await storeOf(name, 'two'))
    await two.close()
    for (let turn = 1; turn <= 5; turn++) await applied(one, put(`r${turn}`), remove(`r${turn - 1}`))
    const again = serving(await storeOf(name, 'two'))
    expect(again.current().list('routes')).toEqual(one.current().list('routes'))
  })

  describe('that goes away', () => {
    test('is read from a copy; changes are refused; its data is written back by who knows the last revision', async () => {
      const name = newName()
      const said: string[] = []
      const one = serving(await storeOf(name, 'one', said), [{ id: 'a', uri: '/a' }])
      await eventually('the first revision', async () => (await one.at(1)) !== 'the store is empty')
      const two = serving(await storeOf(name, 'two'))
      await applied(one, put('b', { uri: '/b' }))
      await eventually('the change', () => idsOf(two.current()) === 'a/a b/b')
      const file = join(folder, `${name}-two.copy`)
      await eventually('the copy', async () => (await readFile(file, 'utf8').catch(() => '')).includes('"/b"'))
      expect((await stat(file)).mode & 0o777).toBe(0o600)
      await two.close()

      await redis.kill()
      await eventually('the failure', () => one.describe().problem !== null)
      const refused = await one.apply([put('c')], one.current().revision, 0)
      expect(refused).toMatchObject({ state: 'unavailable', reason: expect.stringContaining('nothing can be changed until it does') })
      expect(await one.history()).toContain('does not answer')
      expect(idsOf(one.current())).toBe('a/a b/b')
      const log: string[] = []
      const again = serving(await storeOf(name, 'two', log))
      expect(idsOf(again.current())).toBe('a/a b/b')
      expect(log.join()).toMatch(/starting with the copy of revision \d/)
      await expect(storeOf(name, 'new')).rejects.toThrow(/does not answer .* there is no copy of it at/)
      await writeFile(join(folder, `${name}-broken.copy`), '{"format":1')
      await expect(storeOf(name, 'broken')).rejects.toThrow('is damaged')

      // It comes back empty: persistence is off.
      await redis.restart()
      await eventually('recovery', () => one.describe().problem === null && again.describe().problem === null)
      await applied(one, put('d', { uri: '/d' }))
      await eventually('the change', () => idsOf(again.current()) === 'a/a b/b d/d')
      expect(said.join('\n')).toContain('answers again')
      const third = serving(await storeOf(name, 'three'))
      expect(idsOf(third.current())).toBe('a/a b/b d/d')
    })

    test('and hangs: a change is refused, and whatever became of it is the same on all gateways afterwards', async () => {
      const name = newName()
      const one = serving(await storeOf(name, 'one'))
      await eventually('the first revision', async () => (await one.at(1)) !== 'the store is empty')
      const two = serving(await storeOf(name, 'two'))
      await applied(one, put('a'))
      redis.pause()
      const outcome = await one.apply([put('b')], one.current().revision, 0)
      await eventually('the failure', () => one.describe().problem !== null && two.describe().problem !== null)
      redis.resume()
      expect(outcome).toMatchObject({ state: 'unavailable', reason: expect.stringContaining('does not answer') })
      await eventually('recovery', () => one.describe().problem === null && two.describe().problem === null)
      await applied(two, put('c'))
      await eventually('the change', () => idsOf(one.current()) === idsOf(two.current()) && idsOf(two.current()).endsWith('c'))
    })

    test('and comes back with an older revision is brought up to date again', async () => {
      const name = newName()
      const one = serving(await storeOf(name, 'one'))
      await eventually('the first revision', async () => (await one.at(1)) !== 'the store is empty')
      await applied(one, put('a'))
      const keys = ['state', 'resources', 'log'].map((part) => `sluice:{configuration:${name}}:${part}`)
      const dumps = await Promise.all(keys.map((key) => redis.client.dumpBuffer(key)))
      await applied(one, put('b'))
      for (const [index, key] of keys.entries()) await redis.client.restore(key, 0, dumps[index] ?? '', 'REPLACE')
      await eventually('the lost change', async () => (await redis.client.hexists(keys[1] ?? '', 'routes b')) === 1)
      expect(idsOf(one.current())).toBe('a b')
    })
  })
})
