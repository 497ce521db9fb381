/**
 * Consumers and credentials of one snapshot, as one worker sees them: found in shared memory, parsed on first use, and kept in bounded
 * caches. A million of them cost a worker nothing but what its own traffic uses.
 */
import type { Credential, CredentialIndex } from '../../plugins/plugin.js'
import type { Json } from '../../schema/compiled.js'
import { ConsumerReader, type ConsumerTables } from '../../shared/consumer-tables.js'
import type { ConsumerSource } from '../link-kit.js'
import type { PluginSource } from '../snapshot-source.js'
import { CredentialCache, LinkedCredential } from './credential-cache.js'
import { IndexCache } from './index-cache.js'
import { LinkedConsumer } from './linked-consumer.js'

/** Consumers and credentials kept per worker; some hundred bytes each. */
const CACHE_CAPACITY = 32_768

const noLabels = Object.freeze({})
const noGroups: readonly string[] = Object.freeze([])

export class ConsumerDirectory implements ConsumerSource {
  private readonly reader: ConsumerReader
  private readonly indexes = new Map<string, CredentialIndex>()
  /** Made when the first consumer is found: most gateways have none. */
  private consumerCache: IndexCache<LinkedConsumer> | null = null
  private credentialCache: CredentialCache | null = null

  constructor(
    tables: ConsumerTables,
    private readonly plugins: PluginSource,
  ) {
    this.reader = new ConsumerReader(tables)
  }

  /** The same object for the same name: routes share what they keep about it. */
  credentials(name: string): CredentialIndex {
    const known = this.indexes.get(name)
    if (known !== undefined) return known
    const index = this.indexOf(name)
    this.indexes.set(name, index)
    return index
  }

  private indexOf(name: string): CredentialIndex {
    const plugin = this.reader.plugin(name)
    const definition = this.plugins.get(name)?.credential
    if (plugin < 0 || definition === undefined) return { find: () => null }
    const link = (prepared: Json): unknown => definition.link(prepared)
    return { find: (key) => this.find(plugin, key, link) }
  }

  consumer(username: string): LinkedConsumer | null {
    const index = this.reader.findConsumer(username)
    return index < 0 ? null : this.consumerAt(index, true)
  }

  private find(plugin: number, key: string, link: (prepared: Json) => unknown): Credential | null {
    const { high, low } = this.reader.hashOf(plugin, key)
    this.credentialCache ??= new CredentialCache(CACHE_CAPACITY)
    const known = this.credentialCache.get(high, low, plugin, key)
    if (known !== undefined) return known
    const index = this.reader.findCredential(plugin, key)
    if (index < 0) return null
    const place = this.credentialCache.placeFor(high)
    const { id, key: own, consumer } = this.reader.credentialHead(index)
    const credential = new LinkedCredential(plugin, id, own, this.consumerAt(consumer, place >= 0), () =>
      link(this.reader.conf(index) as Json),
    )
    if (place >= 0) this.credentialCache.keep(place, low, credential)
    return credential
  }

  private consumerAt(index: number, isKept: boolean): LinkedConsumer {
    this.consumerCache ??= new IndexCache(CACHE_CAPACITY)
    let consumer = this.consumerCache.get(index)
    if (consumer === undefined) {
      const { username, rest, overlay } = this.reader.consumer(index)
      const [id, group, labels, groups] = rest
      consumer = new LinkedConsumer(username, id || '', group || '', labels || noLabels, groups ?? noGroups, overlay)
      if (isKept) this.consumerCache.set(index, consumer)
    }
    return consumer
  }
}
