/**
 * Writes the tables of shared/consumer-tables, in the primary: consumers and credentials are added one by one and leave nothing behind
 * in the heap but some numbers, so that a million of them cost little more than what is published in the end.
 */
import { randomBytes } from 'node:crypto'
import { KeyHash } from '../limits/hash.js'
import {
  type ConsumerRest,
  type ConsumerTables,
  chunkBytes,
  consumerHead,
  credentialHead,
  hashKey,
  keyIsOut,
  nameSpace,
  RecordBytes,
} from './consumer-tables.js'

const chunksMax = 256
const textMax = 65_535

/** Pairs of 32-bit numbers, as many as come. */
class PairList {
  private cells = new Uint32Array(64)
  count = 0

  push(first: number, second: number): number {
    if (2 * this.count === this.cells.length) {
      const larger = new Uint32Array(2 * this.cells.length)
      larger.set(this.cells)
      this.cells = larger
    }
    this.cells[2 * this.count] = first
    this.cells[2 * this.count + 1] = second
    return this.count++
  }

  first(index: number): number {
    return this.cells[2 * index] as number
  }

  second(index: number): number {
    return this.cells[2 * index + 1] as number
  }

  setSecond(index: number, value: number): void {
    this.cells[2 * index + 1] = value
  }

  shared(): SharedArrayBuffer {
    const buffer = new SharedArrayBuffer(8 * Math.max(1, this.count))
    new Uint32Array(buffer).set(this.cells.subarray(0, 2 * this.count))
    return buffer
  }
}

/** Told of the first and the second of two equal keys. */
export type OnDuplicate = (first: number, second: number) => void

export class ConsumerBuilder {
  private readonly seed: readonly [number, number]
  private readonly chunks: SharedArrayBuffer[] = []
  private readonly views: Buffer[] = []
  private readonly bytes = new RecordBytes(this.views)
  private used = chunkBytes
  private readonly consumers = new PairList()
  private readonly credentials = new PairList()
  private names: SharedArrayBuffer | null = null
  private keys: SharedArrayBuffer | null = null
  private readonly hash = new KeyHash()

  /** `plugins`: those with credentials, at most 255. */
  constructor(private readonly plugins: ConsumerTables['plugins']) {
    const seed = randomBytes(8)
    this.seed = [seed.readInt32LE(0), seed.readInt32LE(4)]
  }

  get consumerCount(): number {
    return this.consumers.count
  }

  get credentialCount(): number {
    return this.credentials.count
  }

  /** `username`: ASCII. The answer is the consumer's index. RangeError when 4 GiB are full. */
  addConsumer(username: string, rest: ConsumerRest): number {
    const text = rest.length === 0 ? '' : JSON.stringify(rest)
    const restLength = text === '' ? 0 : Buffer.byteLength(text)
    const place = this.room(consumerHead + username.length + restLength)
    const chunk = this.bytes.chunk(place)
    let at = place & (chunkBytes - 1)
    chunk.writeUInt16LE(username.length, at)
    chunk.writeUInt32LE(restLength, at + 2)
    at += consumerHead
    at += chunk.write(username, at, 'latin1')
    if (restLength > 0) chunk.write(text, at, 'utf8')
    return this.consumers.push(place, 0)
  }

  /**
   * `plugin`: index in the list of plugins. `id`: ASCII, at most 127 characters. `conf`: a plain JSON value. The answer is the
   * credential's index. RangeError when the key is longer than 65,535 bytes or 4 GiB are full.
   */
  addCredential(consumer: number, plugin: number, id: string, key: string, conf: unknown): number {
    const stored = withoutKey(conf, this.plugins[plugin]?.key ?? '', key)
    const keyLength = Buffer.byteLength(key)
    if (keyLength > textMax) throw new RangeError(`the key has ${keyLength} bytes; it may have at most ${textMax}`)
    const confLength = stored.text === '' ? 0 : Buffer.byteLength(stored.text)
    const place = this.room(credentialHead + id.length + keyLength + confLength)
    const chunk = this.bytes.chunk(place)
    let at = place & (chunkBytes - 1)
    chunk[at] = plugin
    chunk[at + 1] = id.length | (stored.isOut ? keyIsOut : 0)
    chunk.writeUInt16LE(keyLength, at + 2)
    chunk.writeUInt32LE(confLength, at + 4)
    at += credentialHead
    if (id !== '') at += chunk.write(id, at, 'latin1')
    at += chunk.write(key, at, 'utf8')
    if (confLength > 0) chunk.write(stored.text, at, 'utf8')
    return this.credentials.push(place, consumer)
  }

  /** Index of the plugin that credential `index` is for. */
  pluginOf(index: number): number {
    const place = this.credentials.first(index)
    return this.bytes.chunk(place)[place & (chunkBytes - 1)] as number
  }

  idOf(index: number): string {
    const place = this.credentials.first(index)
    const chunk = this.bytes.chunk(place)
    const offset = place & (chunkBytes - 1)
    const start = offset + credentialHead
    return chunk.toString('latin1', start, start + ((chunk[offset + 1] as number) & ~keyIsOut))
  }

  usernameOf(consumer: number): string {
    const place = this.consumers.first(consumer)
    const chunk = this.bytes.chunk(place)
    const start = (place & (chunkBytes - 1)) + consumerHead
    return chunk.toString('latin1', start, start + chunk.readUInt16LE(start - consumerHead))
  }

  consumerOf(credential: number): number {
    return this.credentials.second(credential)
  }

  /** `overlay`: -1 = none. */
  setOverlay(consumer: number, overlay: number): void {
    this.consumers.setSecond(consumer, overlay + 1)
  }

  /** Makes the names findable; call when all consumers are there. */
  indexNames(onDuplicate: OnDuplicate): void {
    this.names = this.index(this.consumers, onDuplicate, (index) => [nameSpace, this.usernameOf(index)])
  }

  /** Makes the keys findable; call when all credentials are there. */
  indexKeys(onDuplicate: OnDuplicate): void {
    this.keys = this.index(this.credentials, onDuplicate, (index) => [this.pluginOf(index) + 1, this.keyOf(index)])
  }

  /** Index of the consumer of this name, or -1; behind `indexNames`. */
  findConsumer(username: string): number {
    if (this.names === null) throw new Error('names are not indexed yet')
    const slots = new Uint32Array(this.names)
    hashKey(username, nameSpace, this.seed, this.hash)
    const { low } = this.hash
    const mask = slots.length / 2 - 1
    for (let slot = this.hash.high & mask; ; slot = (slot + 1) & mask) {
      const found = slots[2 * slot + 1] as number
      if (found === 0) return -1
      if (slots[2 * slot] === low >>> 0 && this.usernameOf(found - 1) === username) return found - 1
    }
  }

  /** The tables as workers receive them; nothing may be added afterwards. */
  finish(): ConsumerTables {
    const none = (): void => undefined
    if (this.names === null) this.indexNames(none)
    if (this.keys === null) this.indexKeys(none)
    const last = this.chunks.at(-1)
    if (this.names === null || this.keys === null) throw new Error('the index was not made')
    return {
      plugins: this.plugins,
      seed: this.seed,
      consumerCount: this.consumers.count,
      credentialCount: this.credentials.count,
      bytes: last === undefined ? [] : [...this.chunks.slice(0, -1), last.slice(0, Math.max(1, this.used))],
      consumers: this.consumers.shared(),
      credentials: this.credentials.shared(),
      names: this.names,
      keys: this.keys,
    }
  }

  private keyOf(index: number): string {
    const place = this.credentials.first(index)
    const chunk = this.bytes.chunk(place)
    const offset = place & (chunkBytes - 1)
    const start = offset + credentialHead + ((chunk[offset + 1] as number) & ~keyIsOut)
    return chunk.toString('utf8', start, start + chunk.readUInt16LE(offset + 2))
  }

  private index(entries: PairList, onDuplicate: OnDuplicate, keyOf: (index: number) => [space: number, key: string]): SharedArrayBuffer {
    let slotCount = 4
    while (slotCount < 1.5 * entries.count) slotCount *= 2
    const buffer = new SharedArrayBuffer(8 * slotCount)
    const slots = new Uint32Array(buffer)
    const mask = slotCount - 1
    const { hash } = this
    for (let index = 0; index < entries.count; index++) {
      const [space, key] = keyOf(index)
      hashKey(key, space, this.seed, hash)
      const low = hash.low >>> 0
      let slot = hash.high & mask
      for (let found = slots[2 * slot + 1] as number; found !== 0; found = slots[2 * slot + 1] as number) {
        if (slots[2 * slot] === low) {
          const [otherSpace, other] = keyOf(found - 1)
          if (otherSpace === space && other === key) break
        }
        slot = (slot + 1) & mask
      }
      const taken = slots[2 * slot + 1] as number
      if (taken !== 0) onDuplicate(taken - 1, index)
      else {
        slots[2 * slot] = low
        slots[2 * slot + 1] = index + 1
      }
    }
    return buffer
  }

  /** A place for `length` bytes. */
  private room(length: number): number {
    if (length > chunkBytes) throw new RangeError(`a consumer or credential has ${length} bytes; it may have at most ${chunkBytes}`)
    if (this.used + length > chunkBytes) {
      if (this.chunks.length === chunksMax) throw new RangeError('consumers and credentials need more than 4 GiB')
      const chunk = new SharedArrayBuffer(chunkBytes)
      this.chunks.push(chunk)
      this.views.push(Buffer.from(chunk))
      this.used = 0
    }
    const place = (this.chunks.length - 1) * chunkBytes + this.used
    this.used += length
    return place
  }
}

/** The JSON text of `conf`, without the field that repeats the key; empty = `{}` is left. */
function withoutKey(conf: unknown, field: string, key: string): { readonly text: string; readonly isOut: boolean } {
  if (typeof conf !== 'object' || conf === null || Array.isArray(conf) || Reflect.get(conf, field) !== key) {
    const text: string | undefined = JSON.stringify(conf)
    if (text === undefined) throw new Error('credential.prepare returned nothing that JSON can hold')
    return { text, isOut: false }
  }
  if (Object.keys(conf).length === 1) return { text: '', isOut: true }
  const { [field]: _key, ...rest } = conf as { readonly [name: string]: unknown }
  return { text: JSON.stringify(rest), isOut: true }
}
