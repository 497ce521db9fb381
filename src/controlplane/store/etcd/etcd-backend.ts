/**
 * The shared store in etcd, in the layout of the reference gateway, so that both can work on the same keys (etcd-layout.ts).
 *
 * Revisions are those of etcd. A change is one transaction, on the condition that nothing below the prefix is newer than what the writer has
 * read; each also writes `{prefix}/sluice/revision`, so that gateways of this kind notice deletions by each other, too. Changes of more
 * than OPERATIONS_MAX resources are several transactions, in an order in which what is named is there before what names it.
 */
import type { Clock } from '../../../base/clock.js'
import type { ResourceMap } from '../resource-map.js'
import {
  CHANGES_LISTED_MAX,
  type Mutation,
  noRevision,
  REVISIONS_KEPT_MAX,
  type ResourceChange,
  resourceKey,
  type StoredResource,
  type StoreRevision,
} from '../resource-store.js'
import type { StoreBackend, StoreNews, StorePosition } from '../store-backend.js'
import { bytesOf, type EtcdClient, EtcdRefusal, type Message, messageIn, messagesIn, numberIn } from './etcd-client.js'
import { type EtcdRecord, etcdValueOf, keyOfResource, missingIn, nameOfKey, resourceOf } from './etcd-layout.js'
import type { EtcdSecrets } from './etcd-secrets.js'
import { type EtcdEvent, EtcdWatch, recordIn } from './etcd-watch.js'

/** Of a transaction: etcd takes 128 unless it is told otherwise (`--max-txn-ops`), and 1.5 MiB. */
const OPERATIONS_MAX = 100
const TRANSACTION_BYTES_MAX = 1_048_576
const PAGE = 1_000
/** The history ends when nothing has come for so long. */
const HISTORY_QUIET_MS = 500

export interface EtcdBackendOptions {
  readonly client: EtcdClient
  /** Without secrets. */
  readonly hosts: string
  /** Begins with a slash and ends without one. */
  readonly prefix: string
  readonly secrets: EtcdSecrets
  readonly clock: Clock
  /** Names this gateway in etcd. */
  readonly nodeId: string
}

interface Operation {
  readonly key: string
  /** Null = delete. */
  readonly resource: StoredResource | null
  readonly expiresAtMs: number | null
}

/** What is named comes before what names it. */
const order = [
  'upstreams',
  'plugin_configs',
  'consumer_groups',
  'protos',
  'ssls',
  'plugin_metadata',
  'services',
  'global_rules',
  'consumers',
]

export class EtcdBackend implements StoreBackend {
  readonly kind = 'etcd'
  readonly mayLose = false
  readonly pollMs = 1_000
  readonly place: string
  private readonly range: { readonly key: string; readonly rangeEnd: string }
  private readonly stamp: string
  /** Revision that last wrote the stamp, as far as this gateway has read. */
  private stampRevision = 0
  private watch: EtcdWatch | null = null
  private heard: () => void = () => {}
  /** Up to this revision nothing was missed. */
  private covered = 0
  /** Known revision at which the watch seemed to have missed something: once may be a matter of moments. */
  private suspected = -1

  constructor(private readonly options: EtcdBackendOptions) {
    const { prefix, hosts } = options
    this.place = `etcd ${hosts} ${prefix}`
    // All keys that begin with the prefix and a slash: the last byte of the end is the one behind the slash.
    this.range = { key: `${prefix}/`, rangeEnd: `${prefix}0` }
    this.stamp = `${prefix}/sluice/revision`
  }

  async read(known: StorePosition | null): Promise<StoreNews> {
    if (known === null || this.watch === null) return this.readWhole(known)
    const events = this.watch.take()
    if (events === null) return this.readWhole(known)
    const news = events.filter(({ revision }) => revision > known.revision)
    if (news.length > 0) return this.changedBy(news, known)
    return (await this.hasMissed(known)) ? this.readWhole(known) : { state: 'same' }
  }

  async write(known: StorePosition, mutations: readonly Mutation[], after: ResourceMap): Promise<StorePosition | null> {
    const touched = new Map(mutations.map((mutation) => [resourceKey(mutation.kind, mutation.id), mutation]))
    const operations = [...touched.values()].map((mutation): Operation => {
      const resource = after.get(mutation.kind, mutation.id) ?? null
      const expiresAtMs = mutation.type === 'put' ? mutation.expiresAtMs : null
      return { key: keyOfResource(this.options.prefix, mutation), resource, expiresAtMs }
    })
    return this.commit(known, operations)
  }

  replace(known: StorePosition | null, _id: string | null, map: ResourceMap): Promise<StorePosition | null> {
    const operations = [...map.all()].flatMap(({ kind, id, resource }): Operation[] =>
      resource === null || resource === 'gap'
        ? []
        : [{ key: keyOfResource(this.options.prefix, { kind, id }), resource, expiresAtMs: resource.expiresAtMs }],
    )
    return this.commit(known ?? { id: '', revision: this.covered, token: '' }, operations)
  }

  gapsOf(map: ResourceMap): ReadonlySet<string> {
    return missingIn(map)
  }

  async at(revision: number, known: StorePosition, current: ResourceMap): Promise<ResourceMap | string> {
    if (revision < 1 || revision > known.revision) return noRevision(revision, 1, known.revision)
    try {
      const { records } = await this.readRange(revision)
      const gone = [...current.all()].map(({ kind, id }): ResourceChange => ({ kind, id, resource: null }))
      const map = current.changed([...gone, ...this.changesOf(records)], revision)
      return map.withGaps(missingIn(map))
    } catch (error) {
      if (error instanceof EtcdRefusal && error.isCompacted) return `there is no revision ${revision} any more: etcd has compacted it`
      throw error
    }
  }

  /** As far back as etcd knows it. */
  async history(): Promise<readonly StoreRevision[]> {
    const revisions = new Map<number, { readonly atMs: number | null; readonly changes: StoreRevision['changes'][number][] }>()
    const ending = new AbortController()
    let cancelQuiet = (): void => {}
    let from = 1
    const expect = (): void => {
      cancelQuiet()
      cancelQuiet = this.options.clock.after(HISTORY_QUIET_MS, () => ending.abort())
    }
    try {
      for (let isTold = false; !isTold; ) {
        isTold = true
        expect()
        const create = { key: bytesOf(this.range.key), range_end: bytesOf(this.range.rangeEnd), start_revision: String(from) }
        for await (const message of this.options.client.stream('watch', { create_request: create }, ending.signal)) {
          expect()
          const compacted = numberIn(message['compact_revision'])
          if (message['canceled'] === true && compacted > from) {
            from = compacted
            isTold = false
            break
          }
          for (const event of messagesIn(message['events'])) this.enterInto(revisions, event)
        }
      }
    } catch (error) {
      if (!ending.signal.aborted) throw error
    } finally {
      cancelQuiet()
      ending.abort()
    }
    return [...revisions]
      .map(([revision, { atMs, changes }]) => ({
        revision,
        atMs,
        changes: changes.slice(0, CHANGES_LISTED_MAX),
        changeCount: changes.length,
      }))
      .sort((a, b) => b.revision - a.revision)
  }

  listen(heard: () => void): void {
    this.heard = heard
  }

  close(): void {
    this.watch?.close()
    this.options.client.close()
  }

  private enterInto(
    revisions: Map<number, { readonly atMs: number | null; readonly changes: StoreRevision['changes'][number][] }>,
    event: Message,
  ): void {
    const record = recordIn(messageIn(event['kv']))
    const name = nameOfKey(this.options.prefix, record.key)
    const isPut = event['type'] !== 'DELETE'
    const resource = name !== null && isPut ? resourceOf(name, record) : null
    if (name === null || (isPut && resource === null)) return
    let known = revisions.get(record.modRevision)
    if (known === undefined) {
      known = { atMs: resource === null ? null : resource.updateTime * 1000, changes: [] }
      revisions.set(record.modRevision, known)
      const [oldest] = revisions.keys()
      if (revisions.size > REVISIONS_KEPT_MAX && oldest !== undefined) revisions.delete(oldest)
    }
    known.changes.push({ type: isPut ? 'put' : 'delete', ...name })
  }

  private async readWhole(known: StorePosition | null): Promise<StoreNews> {
    const { records, revision, id } = await this.readRange(0)
    this.stampRevision = records.find(({ key }) => key === this.stamp)?.modRevision ?? 0
    this.covered = revision
    this.watch?.close()
    this.watch = new EtcdWatch(this.options.client, this.range, revision + 1, this.options.clock, () => this.heard())
    const changes = this.changesOf(records)
    if (changes.length === 0 && this.stampRevision === 0 && known === null) return { state: 'empty' }
    return { state: 'changed', position: { id, revision, token: String(revision) }, isWhole: true, changes }
  }

  /** Everything below the prefix; `at` 0 = as it is now. */
  private async readRange(at: number): Promise<{ records: EtcdRecord[]; revision: number; id: string }> {
    const records: EtcdRecord[] = []
    let key = this.range.key
    let revision = at
    for (;;) {
      const page = await this.options.client.call('kv/range', {
        key: bytesOf(key),
        range_end: bytesOf(this.range.rangeEnd),
        limit: String(PAGE),
        revision: String(revision),
      })
      const header = messageIn(page['header'])
      // All pages are of one moment.
      if (revision === 0) revision = numberIn(header['revision'])
      const found = messagesIn(page['kvs']).map(recordIn)
      records.push(...found)
      const last = found.at(-1)
      if (page['more'] !== true || last === undefined) return { records, revision, id: String(header['cluster_id'] ?? '') }
      key = `${last.key}\0`
    }
  }

  private changesOf(records: readonly EtcdRecord[]): ResourceChange[] {
    return records.flatMap((record) => {
      const name = nameOfKey(this.options.prefix, record.key)
      const resource = name === null ? null : this.resourceIn(record)
      return name === null || resource === null ? [] : [{ ...name, resource }]
    })
  }

  private resourceIn(record: EtcdRecord): StoredResource | null {
    const name = nameOfKey(this.options.prefix, record.key)
    const resource = name === null ? null : resourceOf(name, record)
    return resource === null ? null : { ...resource, value: this.options.secrets.opened(resource.kind, resource.value) }
  }

  private changedBy(events: readonly EtcdEvent[], known: StorePosition): StoreNews {
    const changes: ResourceChange[] = []
    let { revision } = known
    for (const event of events) {
      revision = Math.max(revision, event.revision)
      if (event.key === this.stamp) this.stampRevision = event.record === null ? 0 : event.revision
      const name = nameOfKey(this.options.prefix, event.key)
      if (name !== null) changes.push({ ...name, resource: event.record === null ? null : this.resourceIn(event.record) })
    }
    this.covered = Math.max(this.covered, revision)
    return { state: 'changed', position: { ...known, revision, token: String(revision) }, isWhole: false, changes }
  }

  /** Whether something has changed that the watch did not tell: it may hang without a word. */
  private async hasMissed(known: StorePosition): Promise<boolean> {
    const now = await this.count(0)
    if (now.revision <= Math.max(this.covered, known.revision)) return false
    const newer = await this.options.client.call('kv/range', {
      ...this.rangeFields(),
      min_mod_revision: String(known.revision + 1),
      limit: '1',
      keys_only: true,
    })
    let isSame = messagesIn(newer['kvs']).length === 0
    try {
      isSame = isSame && (await this.count(known.revision)).count === now.count
    } catch (error) {
      if (!(error instanceof EtcdRefusal && error.isCompacted)) throw error
      isSame = false
    }
    if (isSame) {
      this.covered = now.revision
      return false
    }
    const isSuspectedAgain = this.suspected === known.revision
    this.suspected = isSuspectedAgain ? -1 : known.revision
    return isSuspectedAgain
  }

  private async count(at: number): Promise<{ readonly count: number; readonly revision: number }> {
    const answer = await this.options.client.call('kv/range', { ...this.rangeFields(), count_only: true, revision: String(at) })
    return { count: numberIn(answer['count']), revision: numberIn(messageIn(answer['header'])['revision']) }
  }

  private rangeFields(): Message {
    return { key: bytesOf(this.range.key), range_end: bytesOf(this.range.rangeEnd) }
  }

  private async commit(known: StorePosition, operations: readonly Operation[]): Promise<StorePosition | null> {
    let position: StorePosition | null = known
    for (const part of await this.parts(operations)) {
      position = await this.transact(position, part)
      if (position === null) return null
    }
    return position
  }

  private async transact(known: StorePosition, operations: readonly Message[]): Promise<StorePosition | null> {
    const compare = [
      { key: bytesOf(this.stamp), target: 'MOD', result: 'EQUAL', mod_revision: String(this.stampRevision) },
      { ...this.rangeFields(), target: 'MOD', result: 'LESS', mod_revision: String(known.revision + 1) },
    ]
    const stamp = { request_put: { key: bytesOf(this.stamp), value: bytesOf(JSON.stringify({ gateway: this.options.nodeId })) } }
    const answer = await this.options.client.call('kv/txn', { compare, success: [...operations, stamp] }, true)
    if (answer['succeeded'] !== true) return null
    const header = messageIn(answer['header'])
    const revision = numberIn(header['revision'])
    this.stampRevision = revision
    return { id: String(header['cluster_id'] ?? ''), revision, token: String(revision) }
  }

  /** Operations of one transaction each. */
  private async parts(operations: readonly Operation[]): Promise<Message[][]> {
    const leases = new Map<number, string>()
    const parts: Message[][] = [[]]
    let bytes = 0
    for (const operation of [...operations].sort((a, b) => this.rankOf(a) - this.rankOf(b))) {
      const message = await this.messageOf(operation, leases)
      const size = JSON.stringify(message).length
      const last = parts.at(-1) ?? []
      if (last.length > 0 && (last.length >= OPERATIONS_MAX || bytes + size > TRANSACTION_BYTES_MAX)) {
        parts.push([message])
        bytes = size
      } else {
        last.push(message)
        bytes += size
      }
    }
    return parts
  }

  private rankOf({ key, resource }: Operation): number {
    const kind = nameOfKey(this.options.prefix, key)?.kind ?? ''
    const rank = order.includes(kind) ? order.indexOf(kind) : order.length
    return resource === null ? 2 * order.length - rank + 1 : rank
  }

  private async messageOf({ key, resource, expiresAtMs }: Operation, leases: Map<number, string>): Promise<Message> {
    if (resource === null) return { request_delete_range: { key: bytesOf(key) } }
    const value = bytesOf(JSON.stringify(this.options.secrets.closed(resource.kind, etcdValueOf(resource))))
    if (expiresAtMs === null) return { request_put: { key: bytesOf(key), value } }
    const lease = leases.get(expiresAtMs) ?? (await this.grant(expiresAtMs))
    leases.set(expiresAtMs, lease)
    return { request_put: { key: bytesOf(key), value, lease } }
  }

  private async grant(expiresAtMs: number): Promise<string> {
    const seconds = Math.max(1, Math.ceil((expiresAtMs - this.options.clock.wallMs()) / 1000))
    const answer = await this.options.client.call('lease/grant', { TTL: String(seconds) })
    return String(answer['ID'] ?? '0')
  }
}
