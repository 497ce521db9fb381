import { describe, expect, test } from 'vitest'
import { CredentialCache, LinkedCredential } from '../../src/dataplane/consumers/credential-cache.js'
import { IndexCache } from '../../src/dataplane/consumers/index-cache.js'
import { LinkedConsumer } from '../../src/dataplane/consumers/linked-consumer.js'
import { ConsumerBuilder } from '../../src/shared/consumer-builder.js'
import { ConsumerReader, tableBytes } from '../../src/shared/consumer-tables.js'

function credential(reader: ConsumerReader, index: number) {
  return { ...reader.credentialHead(index), conf: reader.conf(index) }
}

const plugins = [
  { name: 'key-auth', key: 'key' },
  { name: 'basic-auth', key: 'username' },
]

describe('consumers and credentials in shared memory', () => {
  test('come back as they were, each under its own plugin and key', () => {
    const builder = new ConsumerBuilder(plugins)
    const jack = builder.addConsumer('jack', ['7', 'gold', { custom_id: 'ü' }, ['a', 'b']])
    const ann = builder.addConsumer('ann', [])
    const keys = ['k', 'kk', 'kü😀', 'k'.repeat(5_000), '']
    for (const key of keys) builder.addCredential(jack, 0, 'one', key, { key, more: [key] })
    builder.addCredential(ann, 1, '', 'k', { username: 'k', password: 'p' })
    builder.addCredential(ann, 1, '', 'only', { username: 'only' })
    builder.addCredential(ann, 1, '', 'text', 'a text')
    builder.setOverlay(jack, 3)
    const reader = new ConsumerReader(builder.finish())
    expect(reader.consumer(reader.findConsumer('jack'))).toEqual({
      username: 'jack',
      rest: ['7', 'gold', { custom_id: 'ü' }, ['a', 'b']],
      overlay: 3,
    })
    expect(reader.consumer(reader.findConsumer('ann'))).toEqual({ username: 'ann', rest: [], overlay: -1 })
    for (const key of keys) {
      expect(credential(reader, reader.findCredential(0, key))).toEqual({ id: 'one', key, conf: { key, more: [key] }, consumer: jack })
    }
    const found = (key: string) => credential(reader, reader.findCredential(1, key))
    expect(found('k')).toEqual({ id: '', key: 'k', conf: { username: 'k', password: 'p' }, consumer: ann })
    expect(found('only').conf).toEqual({ username: 'only' })
    expect(found('text').conf).toBe('a text')
  })

  test('what is nearly there is not there', () => {
    const builder = new ConsumerBuilder(plugins)
    const consumer = builder.addConsumer('jack', [])
    builder.addCredential(consumer, 0, '', 'key-1', { key: 'key-1' })
    builder.addCredential(consumer, 0, '', 'ä', {})
    const reader = new ConsumerReader(builder.finish())
    for (const key of ['', 'key-', 'key-2', 'key-11', 'KEY-1', 'a', 'ã', 'Ã¤', 'key-\u0131']) expect(reader.findCredential(0, key)).toBe(-1)
    expect(reader.findCredential(1, 'key-1')).toBe(-1)
    expect([reader.plugin('basic-auth'), reader.plugin('jwt-auth')]).toEqual([1, -1])
    for (const name of ['', 'jac', 'jackk', 'key-1']) expect(reader.findConsumer(name)).toBe(-1)
    expect(() => reader.consumer(1)).toThrow(RangeError)
    expect(() => credential(reader, -1)).toThrow(RangeError)
  })

  test('nobody is in an empty one', () => {
    const reader = new ConsumerReader(new ConsumerBuilder([]).finish())
    expect([reader.findConsumer('x'), reader.findCredential(0, 'x')]).toEqual([-1, -1])
  })

  test('says which key is there twice', () => {
    const builder = new ConsumerBuilder(plugins)
    for (const name of ['a', 'b', 'a']) builder.addConsumer(name, [])
    builder.addCredential(0, 0, '', 'same', {})
    builder.addCredential(1, 1, '', 'same', {})
    builder.addCredential(1, 0, 'x', 'same', {})
    const pairs: number[][] = []
    builder.indexNames((first, second) => pairs.push([first, second]))
    builder.indexKeys((first, second) => pairs.push([first, second]))
    expect(pairs).toEqual([
      [0, 2],
      [0, 2],
    ])
    expect([builder.usernameOf(1), builder.idOf(2), builder.pluginOf(2), builder.consumerOf(2)]).toEqual(['b', 'x', 0, 1])
    expect(builder.findConsumer('b')).toBe(1)
    expect(builder.findConsumer('c')).toBe(-1)
  })

  test('many fit into several chunks, at less than 200 bytes each', () => {
    const builder = new ConsumerBuilder(plugins)
    const count = 20_000
    // Records of 2 KiB, so that few make several chunks.
    const padding = 'p'.repeat(2_000)
    for (let index = 0; index < count; index++)
      builder.addCredential(builder.addConsumer(`c${index}`, []), 0, '', `key-${index}`, { padding })
    const tables = builder.finish()
    expect(tables.bytes.length).toBeGreaterThan(2)
    const reader = new ConsumerReader(tables)
    for (let index = 0; index < count; index++)
      if (reader.findCredential(0, `key-${index}`) !== index) throw new Error(`key ${index} is lost`)
    expect(credential(reader, count - 1)).toMatchObject({ key: `key-${count - 1}`, conf: { padding } })
    expect(tableBytes(tables) / count - padding.length).toBeLessThan(200)
  })
})

test('the cache forgets the least used of a full set, and nothing else', () => {
  const cache = new IndexCache<string>(8)
  for (const number of [0, 2, 4, 6]) cache.set(number, `v${number}`)
  cache.set(1, 'odd')
  expect(cache.get(0)).toBe('v0')
  cache.set(8, 'v8')
  expect([0, 2, 4, 6, 8, 1].map((number) => cache.get(number))).toEqual(['v0', undefined, 'v4', 'v6', 'v8', 'odd'])
})

describe('the cache of credentials', () => {
  const consumer = new LinkedConsumer('jack', '', '', {}, [], -1)

  const named = (plugin: number, key: string) => new LinkedCredential(plugin, '', key, consumer, () => key)

  test('knows a credential by plugin, hash and the whole key', () => {
    const cache = new CredentialCache(8)
    for (const key of ['a', 'b', 'c', 'd']) cache.keep(cache.placeFor(2), 7, named(0, key))
    expect(['a', 'b', 'c', 'd'].map((key) => cache.get(2, 7, 0, key)?.conf)).toEqual(['a', 'b', 'c', 'd'])
    expect([cache.get(2, 7, 1, 'c'), cache.get(2, 8, 0, 'c'), cache.get(3, 7, 0, 'c'), cache.get(2, 7, 0, 'cc')]).toEqual(
      Array(4).fill(undefined),
    )
  })

  test('a full set gives its places up one after another, to one in eight that ask', () => {
    const cache = new CredentialCache(8)
    for (const key of ['a', 'b', 'c', 'd']) cache.keep(cache.placeFor(2), 7, named(0, key))
    expect(Array.from({ length: 32 }, () => cache.placeFor(2)).filter((place) => place >= 0)).toEqual([0, 1, 2, 3])
    expect(cache.placeFor(3)).toBe(4)
    cache.keep(cache.placeFor(2), 7, named(0, 'e'))
    expect(['a', 'b', 'c', 'd', 'e'].map((key) => cache.get(2, 7, 0, key)?.conf)).toEqual([undefined, 'b', 'c', 'd', 'e'])
  })

  test('a conf is read once, and not before it is asked for', () => {
    let reads = 0
    const credential = new LinkedCredential(0, 'one', 'k', consumer, () => ({ read: ++reads }))
    expect(reads).toBe(0)
    expect([credential.conf, credential.conf]).toEqual([{ read: 1 }, { read: 1 }])
    expect(Object.isFrozen(credential)).toBe(true)
  })
})
