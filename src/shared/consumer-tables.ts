/**
 * Consumers and credentials of one configuration in shared memory: one copy for all workers, however many there are. Written by the
 * primary before publishing (shared/consumer-builder), read by workers (`ConsumerReader`), never changed: no Atomics.
 *
 *   bytes       records one after another, in chunks of 16 MiB; none reaches over the end of its chunk. A place is
 *               chunk << 24 | offset, 32 bits.
 *                 consumer    u16 name length   u32 rest length   name (ASCII)   rest: JSON [id, group, labels, groups], or nothing
 *                 credential  u8 plugin   u8 id length | 128 if `conf` lacks the key   u16 key length   u32 conf length
 *                             id (ASCII)   key (UTF-8)   conf (JSON)
 *   consumers   Uint32[2·C]  place of consumer i, overlay + 1 (0 = no plugins of its own)
 *   credentials Uint32[2·K]  place of credential i, index of its consumer
 *   names       Uint32[2·S]  open addressing, S a power of two ≥ 1.5 × entries: [low lane of the hash, consumer index + 1]; 0 = free
 *   keys        Uint32[2·S]  the same over (plugin, key), for credentials
 *
 * The hash is keyed per configuration and has 64 bits: the high lane says where to begin, the low lane is compared. Then the
 * whole key is compared, in a time that does not depend on where it differs.
 */
import { hashText, KeyHash, mix } from '../limits/hash.js'

export interface ConsumerTables {
  /** Plugins with credentials, and the field of their conf that is the key; by the number that records name. */
  readonly plugins: readonly { readonly name: string; readonly key: string }[]
  readonly seed: readonly [number, number]
  readonly consumerCount: number
  readonly credentialCount: number
  readonly bytes: readonly SharedArrayBuffer[]
  readonly consumers: SharedArrayBuffer
  readonly credentials: SharedArrayBuffer
  readonly names: SharedArrayBuffer
  readonly keys: SharedArrayBuffer
}

export const chunkBits = 24
export const chunkBytes = 2 ** chunkBits
export const consumerHead = 6
export const credentialHead = 8
/** Flag beside the length of the id: the field that holds the key was taken out of the conf. */
export const keyIsOut = 128
/** Space of names; those of keys follow. */
export const nameSpace = 0

/** Hashes a name or key within its space. */
export function hashKey(text: string, space: number, seed: readonly [number, number], out: KeyHash): void {
  hashText(text, seed[0] ^ mix(space + 0x51ed), seed[1], out)
}

/** What is stored about a consumer: absent parts are 0, and trailing ones left out. */
export type ConsumerRest = readonly [
  id?: string | 0,
  group?: string | 0,
  labels?: { readonly [key: string]: string } | 0,
  groups?: readonly string[],
]

export interface ConsumerRecord {
  readonly username: string
  readonly rest: ConsumerRest
  /** -1 = none. */
  readonly overlay: number
}

export interface CredentialHead {
  readonly id: string
  readonly key: string
  /** Index of its consumer. */
  readonly consumer: number
}

/** Bytes of records, by place. */
export class RecordBytes {
  constructor(readonly chunks: readonly Buffer[]) {}

  chunk(place: number): Buffer {
    return this.chunks[place >>> chunkBits] as Buffer
  }

  /** Whether the bytes at `offset` are `text` in UTF-8; looks at all of them. */
  static equal(chunk: Buffer, offset: number, length: number, text: string): boolean {
    if (text.length > length) return false
    if (text.length < length) return !isAscii(text) && RecordBytes.equalUtf8(chunk, offset, length, text)
    let difference = 0
    for (let index = 0; index < length; index++) difference |= (chunk[offset + index] as number) ^ text.charCodeAt(index)
    return difference === 0
  }

  private static equalUtf8(chunk: Buffer, offset: number, length: number, text: string): boolean {
    const bytes = Buffer.from(text, 'utf8')
    if (bytes.length !== length) return false
    let difference = 0
    for (let index = 0; index < length; index++) difference |= (chunk[offset + index] as number) ^ (bytes[index] as number)
    return difference === 0
  }
}

function isAscii(text: string): boolean {
  for (let index = 0; index < text.length; index++) if (text.charCodeAt(index) > 127) return false
  return true
}

/** Finds and reads. Construction costs the same for one consumer and for a million. */
export class ConsumerReader {
  private readonly bytes: RecordBytes
  private readonly consumers: Uint32Array
  private readonly credentials: Uint32Array
  private readonly names: Uint32Array
  private readonly keys: Uint32Array
  private readonly hash = new KeyHash()

  constructor(private readonly tables: ConsumerTables) {
    this.bytes = new RecordBytes(tables.bytes.map((chunk) => Buffer.from(chunk)))
    this.consumers = new Uint32Array(tables.consumers)
    this.credentials = new Uint32Array(tables.credentials)
    this.names = new Uint32Array(tables.names)
    this.keys = new Uint32Array(tables.keys)
  }

  /** Number of a plugin for `findCredential`; -1 = it has no credentials here. */
  plugin(name: string): number {
    return this.tables.plugins.findIndex((plugin) => plugin.name === name)
  }

  /** Index of the consumer of this name, or -1. */
  findConsumer(username: string): number {
    const { hash, names } = this
    hashKey(username, nameSpace, this.tables.seed, hash)
    const mask = names.length / 2 - 1
    for (let slot = hash.high & mask; ; slot = (slot + 1) & mask) {
      const found = names[2 * slot + 1] as number
      if (found === 0) return -1
      if (names[2 * slot] !== hash.low >>> 0) continue
      const place = this.consumers[2 * (found - 1)] as number
      const chunk = this.bytes.chunk(place)
      const offset = place & (chunkBytes - 1)
      if (RecordBytes.equal(chunk, offset + consumerHead, chunk.readUInt16LE(offset), username)) return found - 1
    }
  }

  /** Hash of a credential's plugin and key. The same object for every call. */
  hashOf(plugin: number, key: string): KeyHash {
    hashKey(key, plugin + 1, this.tables.seed, this.hash)
    return this.hash
  }

  /** Index of the credential of this plugin and key, or -1. */
  findCredential(plugin: number, key: string): number {
    const { keys } = this
    const hash = this.hashOf(plugin, key)
    const mask = keys.length / 2 - 1
    for (let slot = hash.high & mask; ; slot = (slot + 1) & mask) {
      const found = keys[2 * slot + 1] as number
      if (found === 0) return -1
      if (keys[2 * slot] !== hash.low >>> 0) continue
      const place = this.credentials[2 * (found - 1)] as number
      const chunk = this.bytes.chunk(place)
      const offset = place & (chunkBytes - 1)
      const start = offset + credentialHead + ((chunk[offset + 1] as number) & ~keyIsOut)
      const isSame = RecordBytes.equal(chunk, start, (chunk[offset + 2] as number) | ((chunk[offset + 3] as number) << 8), key)
      if (isSame && chunk[offset] === plugin) return found - 1
    }
  }

  /** Reads consumer `index`. Throws RangeError when there is none. */
  consumer(index: number): ConsumerRecord {
    const place = this.consumers[2 * index]
    if (place === undefined) throw new RangeError(`consumer ${index} does not exist: there are ${this.tables.consumerCount}`)
    const chunk = this.bytes.chunk(place)
    const offset = place & (chunkBytes - 1)
    const nameEnd = offset + consumerHead + chunk.readUInt16LE(offset)
    const restLength = chunk.readUInt32LE(offset + 2)
    return {
      username: chunk.toString('latin1', offset + consumerHead, nameEnd),
      rest: restLength === 0 ? [] : (JSON.parse(textOf(chunk, nameEnd, restLength)) as ConsumerRest),
      overlay: (this.consumers[2 * index + 1] as number) - 1,
    }
  }

  /** Reads credential `index`, all but its conf. Throws RangeError when there is none. */
  credentialHead(index: number): CredentialHead {
    const place = this.placeOf(index)
    const chunk = this.bytes.chunk(place)
    const offset = place & (chunkBytes - 1)
    const idStart = offset + credentialHead
    const keyStart = idStart + ((chunk[offset + 1] as number) & ~keyIsOut)
    return {
      id: keyStart === idStart ? '' : chunk.toString('latin1', idStart, keyStart),
      key: textOf(chunk, keyStart, chunk.readUInt16LE(offset + 2)),
      consumer: this.credentials[2 * index + 1] as number,
    }
  }

  /** The conf of credential `index`, as the plugin's `credential.prepare` gave it. Throws RangeError when there is none. */
  conf(index: number): unknown {
    const place = this.placeOf(index)
    const chunk = this.bytes.chunk(place)
    const offset = place & (chunkBytes - 1)
    const flags = chunk[offset + 1] as number
    const keyStart = offset + credentialHead + (flags & ~keyIsOut)
    const keyLength = chunk.readUInt16LE(offset + 2)
    const confLength = chunk.readUInt32LE(offset + 4)
    const conf: unknown = confLength === 0 ? {} : JSON.parse(textOf(chunk, keyStart + keyLength, confLength))
    const field = this.tables.plugins[chunk[offset] as number]?.key
    if ((flags & keyIsOut) !== 0 && field !== undefined) Object.assign(conf as object, { [field]: textOf(chunk, keyStart, keyLength) })
    return conf
  }

  private placeOf(credential: number): number {
    const place = this.credentials[2 * credential]
    if (place === undefined) throw new RangeError(`credential ${credential} does not exist: there are ${this.tables.credentialCount}`)
    return place
  }
}

function textOf(chunk: Buffer, start: number, length: number): string {
  return chunk.toString('utf8', start, start + length)
}

/** Bytes that the tables take, for those who measure. */
export function tableBytes(tables: ConsumerTables): number {
  const buffers = [...tables.bytes, tables.consumers, tables.credentials, tables.names, tables.keys]
  return buffers.reduce((sum, buffer) => sum + buffer.byteLength, 0)
}
