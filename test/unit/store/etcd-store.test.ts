/** The store in etcd, in the layout of APISIX, over a real etcd: what others write there is read, and the other way round. */
import { createCipheriv } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../../src/base/clock.js'
import { ConfigurationSource } from '../../../src/cli/configuration.js'
import { readBaseResources } from '../../../src/controlplane/store/base-resources.js'
import { EtcdBackend } from '../../../src/controlplane/store/etcd/etcd-backend.js'
import { EtcdClient } from '../../../src/controlplane/store/etcd/etcd-client.js'
import { EtcdSecrets } from '../../../src/controlplane/store/etcd/etcd-secrets.js'
import { baseOf } from '../../../src/controlplane/store/file-store.js'
import { LastCopy } from '../../../src/controlplane/store/last-copy.js'
import type { Mutation, ResourceView } from '../../../src/controlplane/store/resource-store.js'
import { SharedStore } from '../../../src/controlplane/store/shared-store.js'
import { EtcdServer, etcdMissing } from '../../support/etcd.js'
import { eventually } from '../../support/redis.js'
import { applied, putOf as put } from '../../support/shared-stores.js'

const KEY = 'qeddd145sfvddff3'
const idsOf = (view: ResourceView | string, kind = 'routes') => (typeof view === 'string' ? view : view.list(kind).map(({ id }) => id))

function encrypted(text: string, key = KEY): string {
  const cipher = createCipheriv('aes-128-cbc', key, key)
  return Buffer.concat([cipher.update(text), cipher.final()]).toString('base64')
}

describe.skipIf(etcdMissing !== null)(etcdMissing ?? 'a store in etcd', () => {
  let etcd: EtcdServer
  let folder = ''
  let prefixes = 0
  const open: SharedStore[] = []

  beforeAll(async () => {
    etcd = await EtcdServer.start()
    folder = await mkdtemp(join(tmpdir(), 'sluice-etcd-'))
  }, 120_000)
  afterAll(async () => {
    await Promise.all(open.map((store) => store.close()))
    await etcd.close()
    await rm(folder, { recursive: true })
  })

  const newPrefix = () => `/apisix${++prefixes}`

  async function storeOf(prefix: string, gateway = 'one', hosts = [etcd.url], user: string | null = null): Promise<SharedStore> {
    const tls = { verify: true, serverName: null, certFile: null, keyFile: null, caFile: null }
    const client = new EtcdClient({ hosts, timeoutMs: 5_000, user, password: user === null ? null : 'secret', tls })
    const secrets = new EtcdSecrets([KEY, 'edd1c9f0985e76a2'], true)
    const backend = new EtcdBackend({ client, hosts: hosts.join(), prefix, secrets, clock: systemClock, nodeId: gateway })
    const copy = new LastCopy(join(folder, `${prefix.slice(1)}-${gateway}.copy`), backend.place)
    const store = await SharedStore.open({ backend, copy, clock: systemClock, log: () => {} })
    open.push(store)
    store.watch(() => store.served(store.current()))
    return store
  }

  test('reads what APISIX has written, with its folders, times and encrypted secrets', async () => {
    const prefix = newPrefix()
    await etcd.put(`${prefix}/routes/`, 'init_dir')
    await etcd.put(`${prefix}/plugins`, [{ name: 'cors' }])
    await etcd.put(`${prefix}/data_plane/server_info/x`, { id: 'x' })
    await etcd.put(`${prefix}/routes/1`, {
      id: '1',
      uri: '/x',
      priority: 0,
      upstream_id: '9',
      create_time: 1_700_000_000,
      update_time: 1_700_000_001,
    })
    await etcd.put(`${prefix}/consumers/jack`, {
      username: 'jack',
      plugins: { 'basic-auth': { username: 'j', password: encrypted('pass') } },
    })
    const other = encrypted('one-key', 'edd1c9f0985e76a2')
    await etcd.put(`${prefix}/consumers/jack/credentials/c1`, { id: 'c1', plugins: { 'key-auth': { key: other } } })
    await etcd.put(`${prefix}/ssls/1`, { id: '1', sni: 'a.test', cert: 'CERT', key: encrypted('---KEY---'), keys: ['---plain---'] })
    const revision = await etcd.put(`${prefix}/plugin_metadata/http-logger`, { log_format: {} })
    const view = (await storeOf(prefix)).current()
    expect(view.get('routes', '1')).toMatchObject({ value: { id: '1', uri: '/x' }, createTime: 1_700_000_000, updateTime: 1_700_000_001 })
    expect(view.get('routes', '1')?.value).not.toHaveProperty('create_time')
    expect(view.list('routes')).toHaveLength(1)
    expect(view.get('consumers', 'jack')?.value).toEqual({
      username: 'jack',
      plugins: { 'basic-auth': { username: 'j', password: 'pass' } },
    })
    expect(view.get('credentials', 'jack/credentials/c1')?.value).toEqual({
      id: 'jack/credentials/c1',
      plugins: { 'key-auth': { key: 'one-key' } },
    })
    expect(view.get('ssls', '1')?.value).toMatchObject({ key: '---KEY---', keys: ['---plain---'] })
    expect(view.get('plugin_metadata', 'http-logger')).toMatchObject({ value: { id: 'http-logger' }, modifiedIndex: revision })
    // The upstream is not there: what names it is 503, and all else serves.
    expect([...view.gaps('upstreams')]).toEqual(['9'])
  })

  test('writes what APISIX can read', async () => {
    const prefix = newPrefix()
    const store = await storeOf(prefix)
    store.adopt(store.viewOf(baseOf(readBaseResources({ routes: [{ id: 'seed', uri: '/s' }] }, 5_000) ?? [])))
    await eventually('the seed', async () => (await etcd.get(`${prefix}/routes/seed`)) !== null)
    expect(JSON.parse((await etcd.get(`${prefix}/routes/seed`)) ?? '')).toEqual({ id: 'seed', uri: '/s', create_time: 5, update_time: 5 })
    await applied(
      store,
      put('credentials', 'jack/credentials/c1', { plugins: { 'key-auth': { key: 'one-key' } } }),
      { ...put('consumers', 'jack'), value: { username: 'jack', plugins: { 'jwt-auth': { key: 'k', secret: '$env://JWT' } } } } as Mutation,
      put('ssls', '1', { sni: 'a.test', cert: 'CERT', key: '---KEY---' }),
    )
    expect(JSON.parse((await etcd.get(`${prefix}/consumers/jack/credentials/c1`)) ?? '')).toMatchObject({
      id: 'c1',
      plugins: { 'key-auth': { key: encrypted('one-key') } },
    })
    expect(JSON.parse((await etcd.get(`${prefix}/consumers/jack`)) ?? '')).toMatchObject({
      username: 'jack',
      plugins: { 'jwt-auth': { key: 'k', secret: '$env://JWT' } },
    })
    expect((await etcd.get(`${prefix}/ssls/1`)) ?? '').toContain(encrypted('---KEY---'))
    // What is read back is what was written.
    const again = await storeOf(prefix, 'two')
    for (const kind of ['routes', 'ssls', 'credentials'])
      expect(
        again
          .current()
          .list(kind)
          .map(({ value }) => value),
      ).toEqual(
        store
          .current()
          .list(kind)
          .map(({ value }) => value),
      )
  })

  test('follows others at once, and refuses changes that were made for what they have changed', async () => {
    const prefix = newPrefix()
    await etcd.put(`${prefix}/routes/a`, { uri: '/a' })
    const [one, two] = [await storeOf(prefix), await storeOf(prefix, 'two')]
    await applied(one, put('routes', 'b', { uri: '/b' }))
    await eventually('the change', () => idsOf(two.current()).length === 2)
    // Between the reading and the writing somebody else writes: the watch may have told, or not.
    const seen = two.current().revision
    const [first, second] = await Promise.all([
      one.apply([put('routes', 'c')], one.current().revision, 0),
      two.apply([{ type: 'delete', kind: 'routes', id: 'b', leavesGap: false }], seen, 0),
    ])
    expect([first, second].map(({ state }) => state).sort()).toEqual(['conflict', 'stored'])
    await etcd.put(`${prefix}/routes/d`, { uri: '/d' })
    await etcd.delete(`${prefix}/routes/a`)
    await eventually('the deletion', () =>
      [one, two].every((store) => !idsOf(store.current()).includes('a') && idsOf(store.current()).includes('d')),
    )
    // What is none of the gateway changes nothing, and hinders nobody.
    const before = one.current()
    await etcd.put(`${prefix}/data_plane/server_info/x`, { id: 'x' })
    await applied(two, put('routes', 'e'))
    await eventually('the change', () => idsOf(one.current()).includes('e'))
    expect(before.get('routes', 'd')).toBe(one.current().get('routes', 'd'))
  })

  test('changes of more resources than one transaction takes', async () => {
    const prefix = newPrefix()
    await etcd.put(`${prefix}/routes/old`, { uri: '/old', upstream_id: 'u0' })
    const store = await storeOf(prefix)
    const routes = Array.from({ length: 250 }, (_, index) => put('routes', `r${index}`, { uri: `/${index}`, upstream_id: 'u1' }))
    await applied(store, { type: 'delete', kind: 'routes', id: 'old', leavesGap: false }, ...routes, put('upstreams', 'u1'))
    const again = await storeOf(prefix, 'two')
    expect(idsOf(again.current())).toHaveLength(250)
    expect(again.current().list('upstreams')[0]?.createdIndex).toBeLessThan(again.current().get('routes', 'r249')?.createdIndex ?? 0)
  })

  test('ttl is a lease: etcd deletes it, also when no gateway runs', async () => {
    const prefix = newPrefix()
    await etcd.put(`${prefix}/routes/a`, { uri: '/a' })
    const store = await storeOf(prefix)
    await applied(store, { ...put('routes', 'short'), expiresAtMs: Date.now() + 1_000 } as Mutation)
    await eventually('the end of the lease', async () => (await etcd.get(`${prefix}/routes/short`)) === null)
    await eventually('the news', () => !idsOf(store.current()).includes('short'))
  })

  test('history, until etcd compacts it; after that everything is read anew', async () => {
    const prefix = newPrefix()
    await etcd.put(`${prefix}/routes/a`, { uri: '/1', update_time: 1_700_000_000 })
    const store = await storeOf(prefix)
    const first = store.current().revision
    await applied(store, put('routes', 'b'), put('routes', 'a', { uri: '/2' }))
    const second = store.current().revision
    await applied(store, { type: 'delete', kind: 'routes', id: 'a', leavesGap: false })
    expect(idsOf(await store.at(first))).toEqual(['a'])
    expect(idsOf(await store.at(second))).toEqual(['a', 'b'])
    const history = await store.history()
    expect(history).toMatchObject([
      { revision: store.current().revision, changes: [{ type: 'delete', kind: 'routes', id: 'a' }] },
      { revision: second, changeCount: 2 },
      { changes: [{ type: 'put', id: 'a' }], atMs: 1_700_000_000_000 },
    ])
    const copyBefore = store.current().revision
    await store.close()
    for (let turn = 0; turn < 3; turn++) await etcd.put(`${prefix}/routes/n${turn}`, { uri: `/n${turn}` })
    const newest = await etcd.put(`${prefix}/routes/last`, { uri: '/last' })
    await etcd.call('kv/compaction', { revision: String(newest) })
    const again = await storeOf(prefix)
    expect(idsOf(again.current())).toContain('last')
    expect(await again.at(copyBefore)).toBe(`there is no revision ${copyBefore} any more: etcd has compacted it`)
    expect(await again.history()).toMatchObject([{ revision: newest }])
  })

  test('while etcd is away reads go on and changes are refused; what was changed meanwhile is read afterwards', async () => {
    const prefix = newPrefix()
    await etcd.put(`${prefix}/routes/a`, { uri: '/a' })
    // A host that is not there is left out.
    const store = await storeOf(prefix, 'one', ['http://127.0.0.1:1', etcd.url])
    store.adopt(store.viewOf(baseOf([])))
    await applied(store, put('routes', 'b'))
    store.served(store.current())
    const other = await storeOf(prefix, 'two')
    await etcd.kill()
    await eventually('the failure', () => store.describe().problem !== null && other.describe().problem !== null)
    expect(await store.apply([put('routes', 'c')], store.current().revision, 0)).toMatchObject({
      state: 'unavailable',
      reason: expect.stringMatching(/^etcd .* does not answer \(.*\): nothing can be changed until it does/),
    })
    expect(idsOf(store.current())).toEqual(['a', 'b'])
    await store.close()
    const again = await storeOf(prefix, 'one', ['http://127.0.0.1:1', etcd.url])
    expect(idsOf(again.current())).toEqual(['a', 'b'])
    await etcd.restart()
    await etcd.put(`${prefix}/routes/d`, { uri: '/d' })
    await eventually('recovery', () => [again, other].every((one) => idsOf(one.current()).includes('d') && one.describe().problem === null))
    await applied(again, put('routes', 'c'))
    await eventually('the change', () => idsOf(other.current()).includes('c'))
  })

  test('beside what is left out, changes are compiled one by one; those of what is left out, or named by it, are not', async () => {
    const prefix = newPrefix()
    const mocking = { plugins: { mocking: { response_example: 'x' } } }
    await etcd.put(`${prefix}/routes/good`, { uri: '/good', ...mocking })
    await etcd.put(`${prefix}/routes/bad`, { uri: '/bad', plugins: { 'no-such-plugin': {} } })
    const file = join(folder, 'left-out.yaml')
    await writeFile(
      file,
      JSON.stringify({ deployment: { etcd: { host: [etcd.url], prefix } }, sluice: { store: { type: 'etcd' }, admin: {} } }),
    )
    const source = new ConfigurationSource(
      { file, listen: [], demo: false, binding: 'uWebSockets.js' },
      {},
      () => 0,
      () => {},
    )
    const adopted = async () => {
      const result = await source.prepare()
      if (!result.ok) throw new Error(result.errors.join())
      source.adopt(result.prepared)
      return source.leftOut().map(({ resource }) => resource.id)
    }
    const changed = (mutation: Mutation) => {
      const view = source.store()?.current()
      const result = view && source.prepareChange(view.revision, view.with([mutation], view.revision + 1, 0), [mutation], true)
      return result?.ok ? ('touched' in result.prepared ? 'one by one' : 'as a whole') : result?.errors[0]?.message
    }
    try {
      expect(await adopted()).toEqual(['bad'])
      expect(changed(put('routes', 'good', { uri: '/better', ...mocking }))).toBe('one by one')
      source.rollBack()
      expect(changed(put('routes', 'bad', { uri: '/bad', ...mocking }))).toBe('as a whole')
      expect(changed(put('routes', 'good', { uri: '/x', plugins: { 'no-such-plugin': {} } }))).toContain('unknown plugin')
      await etcd.put(`${prefix}/upstreams/u`, { nodes: 1 })
      await eventually('the upstream', async () => (await adopted()).includes('u'))
      expect(changed(put('routes', 'good', { uri: '/better', upstream_id: 'u' }))).toBe('as a whole')
    } finally {
      await source.close()
    }
  })

  test('users and passwords', async () => {
    for (const name of ['root', 'gateway']) await etcd.call('auth/user/add', { name, password: 'secret' })
    await etcd.call('auth/role/add', { name: 'root' })
    await etcd.call('auth/user/grant', { user: 'root', role: 'root' })
    await etcd.call('auth/enable', {})
    const prefix = newPrefix()
    const store = await storeOf(prefix, 'one', [etcd.url], 'root')
    store.adopt(store.viewOf(baseOf([])))
    await applied(store, put('routes', 'a'))
    await expect(storeOf(prefix, 'new', [etcd.url])).rejects.toThrow(/does not answer \(etcd says: .*user name is empty/)
    await expect(storeOf(prefix, 'new', [etcd.url], 'gateway')).rejects.toThrow('permission denied')
  })
})
