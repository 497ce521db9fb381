import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, mkdtemp, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readBaseResources } from '../../../src/controlplane/store/base-resources.js'
import type { HistoryLimits } from '../../../src/controlplane/store/file-history.js'
import { baseOf, FileStore } from '../../../src/controlplane/store/file-store.js'
import type { Mutation, ResourceValue, ResourceView } from '../../../src/controlplane/store/resource-store.js'

let folder = ''
let count = 0
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sluice-store-'))
})
afterAll(() => rm(folder, { recursive: true }))

const newFile = () => join(folder, `journal-${++count}`)
const put = (id: string, value: ResourceValue, kind = 'routes'): Mutation => ({
  type: 'put',
  kind,
  id,
  value: { id, ...value },
  expiresAtMs: null,
})
const remove = (id: string, leavesGap = false): Mutation => ({ type: 'delete', kind: 'routes', id, leavesGap })

function base(routes: readonly object[]) {
  const resources = readBaseResources({ routes }, 1_700_000_000_000)
  if (resources === null) throw new Error('the file of the test is wrong')
  return baseOf(resources)
}

async function opened(file: string, routes: readonly object[] = [], limits?: HistoryLimits): Promise<FileStore> {
  const store = await FileStore.open(file, limits)
  store.adopt(store.viewOf(base(routes)))
  return store
}

async function applied(store: FileStore, ...mutations: Mutation[]): Promise<void> {
  const outcome = await store.apply(mutations, store.current().revision, 1_800_000_000_000)
  expect(outcome).toMatchObject({ state: 'stored' })
}

const urisOf = (view: ResourceView) => Object.fromEntries(view.list('routes').map(({ id, value }) => [id, value['uri']]))
const uris = (store: FileStore) => urisOf(store.current())

describe('changes over a file', () => {
  test('are there after a restart, with their times and indexes', async () => {
    const file = newFile()
    const routes = [{ id: 1, uri: '/one' }, { uri: '/two' }]
    const store = await opened(file, routes)
    expect(uris(store)).toEqual({ 1: '/one', arr_2: '/two' })
    await applied(store, put('3', { uri: '/three' }))
    await applied(store, put('1', { uri: '/eins' }), remove('arr_2'))
    expect(uris(store)).toEqual({ 1: '/eins', 3: '/three' })
    expect(store.current().get('routes', '1')).toMatchObject({
      createdIndex: 1,
      modifiedIndex: 4,
      createTime: 1_700_000_000,
      updateTime: 1_800_000_000,
    })
    expect(store.current().get('routes', '3')).toMatchObject({ createdIndex: 3, modifiedIndex: 3 })
    const before = store.current().list('routes')
    await store.close()
    const again = await opened(file, routes)
    expect(again.current().list('routes')).toEqual(before)
    expect(again.current().revision).toBe(4)
    expect((await stat(file)).mode & 0o777).toBe(0o600)
  })

  test('give way to a file that says something else now, are listed, and come back when the file goes back', async () => {
    const file = newFile()
    const before = [
      { id: 'a', uri: '/a' },
      { id: 'b', uri: '/b' },
      { id: 'c', uri: '/c' },
    ]
    const store = await opened(file, before)
    await applied(store, put('a', { uri: '/a-admin' }), remove('b'), put('c', { uri: '/c-admin' }), put('d', { uri: '/d-admin' }))
    const after = [
      { id: 'a', uri: '/a-file' },
      { id: 'b', uri: '/b-file' },
      { id: 'd', uri: '/d-file' },
    ]
    store.adopt(store.viewOf(base(after)))
    expect(uris(store)).toEqual({ a: '/a-file', b: '/b-file', d: '/d-file' })
    expect(store.describe().setAside.map(({ id, reason }) => `${id}: ${reason}`)).toEqual([
      'a: changed by the Admin API (revision 4), was then changed in the file: the file counts',
      'b: deleted by the Admin API (revision 4), was then changed in the file: the file counts',
      'c: changed by the Admin API (revision 4), was then removed from the file: the file counts',
      'd: created by the Admin API (revision 4), was then added to the file: the file counts',
    ])
    expect(store.setAside().find(({ id }) => id === 'd')?.value).toEqual({ id: 'd', uri: '/d-admin' })
    // A later change of the same resource counts again, and what it replaces is forgotten.
    await applied(store, put('a', { uri: '/a-last' }))
    expect(store.describe().setAside.map(({ id }) => id)).toEqual(['b', 'c', 'd'])
    store.adopt(store.viewOf(base(after.map((route) => ({ ...route })))))
    expect(uris(store)).toMatchObject({ a: '/a-last', b: '/b-file' })
    store.adopt(store.viewOf(base(before)))
    expect(uris(store)).toEqual({ a: '/a', c: '/c-admin', d: '/d-admin' })
  })

  test('that the file has taken over are no conflict, whatever the order of its fields', async () => {
    const store = await opened(newFile(), [{ id: 'a', uri: '/a', name: 'x' }])
    await applied(store, put('a', { uri: '/b', name: 'x' }))
    const view = store.viewOf(base([{ name: 'x', id: 'a', uri: '/b' }]))
    store.adopt(view)
    expect(store.describe().setAside).toEqual([])
    expect(view.inForce).toBe(0)
  })

  test('that are set aside can be forgotten for good', async () => {
    const file = newFile()
    const store = await opened(file, [])
    await applied(store, put('a', { uri: '/admin' }), put('b', { uri: '/b' }))
    store.adopt(store.viewOf(base([{ id: 'a', uri: '/file' }])))
    expect(await store.forgetSetAside()).toBe(1)
    await store.close()
    const again = await opened(file, [])
    expect(uris(again)).toEqual({ b: '/b' })
  })

  test('of an old revision change nothing', async () => {
    const store = await opened(newFile())
    await applied(store, put('a', { uri: '/a' }))
    expect(await store.apply([put('a', { uri: '/late' })], 0, 0)).toEqual({ state: 'conflict', revision: 1 })
    expect(uris(store)).toEqual({ a: '/a' })
  })

  test('a deletion that leaves a gap is remembered until the resource is there again', async () => {
    const file = newFile()
    const store = await opened(file)
    await applied(store, put('u', {}))
    await applied(store, remove('u', true))
    expect(store.current().gaps('routes')).toEqual(new Set(['u']))
    await store.close()
    const again = await opened(file)
    expect(again.current().gaps('routes')).toEqual(new Set(['u']))
    await applied(again, put('u', {}))
    expect(again.current().gaps('routes').size).toBe(0)
  })
})

test('cut off at any byte, the journal gives one of the acknowledged states, and never an older one than the last whole record', async () => {
  const file = newFile()
  const routes = [{ id: 'a', uri: '/a' }]
  const store = await opened(file, routes)
  const states = [uris(store)]
  const ends = [0]
  for (const mutations of [[put('b', { uri: '/b' })], [put('a', { uri: '/x' }), remove('b')], [remove('a')], [put('c', { uri: '/c' })]]) {
    await applied(store, ...mutations)
    states.push(uris(store))
    ends.push((await stat(file)).size)
  }
  await store.close()
  const size = (await stat(file)).size
  const copy = newFile()
  for (let length = 0; length <= size; length++) {
    await copyFile(file, copy)
    await truncate(copy, length)
    const whole = ends.filter((end) => end <= length).length - 1
    expect(uris(await opened(copy, routes)), `${length} bytes`).toEqual(states[whole])
  }
})

test('a journal that has grown is compacted to what still counts', async () => {
  const file = newFile()
  const store = await opened(file, [{ id: 'f', uri: '/f' }], { revisions: 3, bytes: 10_000_000 })
  const text = 'x'.repeat(300_000)
  for (let turn = 0; turn < 12; turn++) await applied(store, put('big', { uri: '/big', desc: `${turn}${text}` }))
  await applied(store, put('small', { uri: '/s' }), remove('f'))
  expect((await stat(file)).size).toBeLessThan(2_400_000)
  await store.close()
  const again = await opened(file, [{ id: 'f', uri: '/f' }])
  expect(uris(again)).toEqual({ big: '/big', small: '/s' })
  expect(again.current().get('routes', 'big')?.value['desc']).toBe(`11${text}`)
})

describe('history', () => {
  const at = async (store: FileStore, revision: number) => {
    const view = await store.at(revision)
    return typeof view === 'string' ? view : urisOf(view)
  }

  test('every revision can be had again, also after a restart', async () => {
    const file = newFile()
    const routes = [{ id: 'f', uri: '/f' }]
    const store = await opened(file, routes)
    expect(await store.history()).toEqual([])
    await applied(store, put('a', { uri: '/a' }), put('b', { uri: '/b' }))
    await applied(store, put('a', { uri: '/other' }), remove('f'))
    await applied(store, remove('b'))
    for (const each of [store, await opened(file, routes)]) {
      expect(await at(each, 1)).toEqual({ f: '/f' })
      expect(await at(each, 2)).toEqual({ f: '/f', a: '/a', b: '/b' })
      expect(await at(each, 3)).toEqual({ a: '/other', b: '/b' })
      expect(await at(each, 4)).toEqual({ a: '/other' })
      expect(await at(each, 5)).toBe('there is no revision 5: the store keeps 0 to 4')
      expect(await each.history()).toEqual([
        { revision: 4, atMs: 1_800_000_000_000, changes: [{ type: 'delete', kind: 'routes', id: 'b' }], changeCount: 1 },
        expect.objectContaining({ revision: 3, changeCount: 2 }),
        expect.objectContaining({ revision: 2, changeCount: 2 }),
      ])
    }
  })

  test('is bounded: older revisions are gathered into one', async () => {
    const file = newFile()
    const store = await opened(file, [], { revisions: 2, bytes: 10_000_000 })
    const text = 'x'.repeat(300_000)
    await applied(store, put('gone', { uri: '/gone' }))
    await applied(store, remove('gone'))
    for (let turn = 3; turn <= 6; turn++) await applied(store, put('big', { uri: `/${turn}`, desc: text }))
    for (const each of [store, await opened(file)]) {
      expect((await each.history()).map(({ revision, atMs, changeCount }) => [revision, atMs === null, changeCount])).toEqual([
        [6, false, 1],
        [5, false, 1],
        [4, true, 1],
      ])
      expect(await at(each, 4)).toEqual({ big: '/4' })
      expect(await at(each, 5)).toEqual({ big: '/5' })
      expect(await at(each, 3)).toBe('there is no revision 3: the store keeps 4 to 6')
    }
    await store.close()
    const small = await opened(file, [], { revisions: 9, bytes: 700_000 })
    await applied(small, put('big', { uri: '/7', desc: `${text}${text}${text}` }), put('other', { uri: '/o', desc: text }))
    await applied(small, put('big', { uri: '/8', desc: `${text}${text}` }))
    expect((await small.history()).map(({ revision }) => revision)).toEqual([8, 7])
    expect(await at(small, 7)).toEqual({ big: '/7', other: '/o' })
  })

  test('knows nothing more of changes that were set aside and forgotten', async () => {
    const file = newFile()
    const store = await opened(file, [{ id: 'f', uri: '/f' }])
    await applied(store, put('f', { uri: '/changed' }), put('a', { uri: '/a' }))
    store.adopt(store.viewOf(base([{ id: 'f', uri: '/new' }])))
    expect(await store.forgetSetAside()).toBe(1)
    expect(await at(store, 2)).toEqual({ f: '/new', a: '/a' })
    expect(await store.history()).toMatchObject([{ revision: 2, changes: [{ id: 'a' }] }])
  })
})

describe('two processes', () => {
  test('the one that came second is told who writes; after the end of that one it must read first, and then may write', async () => {
    const file = newFile()
    const other = spawn(process.execPath, ['-e', 'process.stdin.resume()'], { stdio: ['pipe', 'ignore', 'ignore'] })
    const ended = once(other, 'exit')
    const start = (await readFile(`/proc/${other.pid}/stat`, 'latin1')).split(') ')[1]?.split(' ')[19]
    await writeFile(`${file}.lock`, `${other.pid} ${start}\n`)
    const store = await opened(file)
    const refused = await store.apply([put('a', {})], 0, 0)
    expect(refused).toMatchObject({ state: 'unavailable', reason: expect.stringContaining(`is written by process ${other.pid}`) })
    expect(store.describe().problem).toContain('is written by process')
    other.kill('SIGKILL')
    await ended
    await applied(store, put('a', {}))
    expect(store.describe().problem).toBeNull()
    await store.close()

    const late = await opened(file)
    const fast = await opened(file)
    await applied(fast, put('b', {}))
    await fast.close()
    expect(await late.apply([put('c', {})], late.current().revision, 0)).toMatchObject({ state: 'unavailable' })
    await late.refresh()
    late.adopt(late.viewOf(base([])))
    await applied(late, put('c', {}))
    expect(Object.keys(uris(late))).toEqual(['a', 'b', 'c'])
  })

  test('a journal that cannot be written is said, and nothing changes', async () => {
    const store = await opened(join(folder, 'no-such-folder', 'journal'))
    expect(await store.apply([put('a', {})], 0, 0)).toMatchObject({ state: 'unavailable', reason: expect.stringContaining('ENOENT') })
    expect(uris(store)).toEqual({})
  })
})

describe('resources of a file', () => {
  test('credentials are apart from consumers wherever they stand, ids are those of the validation', () => {
    const resources = readBaseResources(
      {
        routes: [{ uri: '/a', name: null }],
        consumers: [
          { username: 'jack', credentials: [{ id: 'one', plugins: { 'key-auth': { key: 'a' } } }] },
          { id: 'jack/credentials/two', plugins: { 'key-auth': { key: 'b' } } },
        ],
        credentials: [{ id: 'three', consumer: 'jack', plugins: { 'key-auth': { key: 'c' } } }],
      },
      0,
    )
    expect(resources?.map(({ kind, id, value, origin }) => [kind, id, value, origin])).toEqual([
      ['routes', 'arr_1', { id: 'arr_1', uri: '/a' }, ['routes', 0]],
      ['consumers', 'jack', { username: 'jack' }, ['consumers', 0]],
      [
        'credentials',
        'jack/credentials/one',
        { id: 'jack/credentials/one', plugins: { 'key-auth': { key: 'a' } } },
        ['consumers', 0, 'credentials', 0],
      ],
      ['credentials', 'jack/credentials/two', { id: 'jack/credentials/two', plugins: { 'key-auth': { key: 'b' } } }, ['consumers', 1]],
      [
        'credentials',
        'jack/credentials/three',
        { id: 'jack/credentials/three', plugins: { 'key-auth': { key: 'c' } } },
        ['credentials', 0],
      ],
    ])
  })

  test.each([
    ['a list that is none', { routes: 'x' }],
    ['an entry that is none', { routes: ['x'] }],
    ['an id twice', { routes: [{ id: 1 }, { id: '1' }] }],
    ['a consumer without a name', { consumers: [{ plugins: {} }] }],
    ['a credential of nobody', { credentials: [{ id: 'x' }] }],
  ])('%s is left to the validation', (_, root) => {
    expect(readBaseResources(root, 0)).toBeNull()
  })
})
