/** Opens the store that several gateways share, or reads it once, as it is configured. Its client library is loaded only here. */
import { hostname } from 'node:os'
import { systemClock } from '../base/clock.js'
import { UsageError } from '../base/errors.js'
import { LastCopy } from '../controlplane/store/last-copy.js'
import { RedisBackend } from '../controlplane/store/redis-backend.js'
import { ResourceMap } from '../controlplane/store/resource-map.js'
import { REVISIONS_KEPT_MAX } from '../controlplane/store/resource-store.js'
import { SharedStore, type SharedStoreOptions } from '../controlplane/store/shared-store.js'
import { StoreAway, type StoreBackend, type StorePosition } from '../controlplane/store/store-backend.js'
import type { EtcdConfig, StoreConfig } from '../schema/process.js'

export type SharedStoreConfig = Exclude<StoreConfig, { kind: 'file' }>

/** Rejects with UsageError when neither the store nor the copy of it on this disk can be read. */
export async function openSharedStore(config: SharedStoreConfig, log: SharedStoreOptions['log']): Promise<SharedStore> {
  const backend = await backendOf(config)
  return SharedStore.open({ backend, copy: new LastCopy(config.copyFile, backend.place), clock: systemClock, log })
}

/** What a shared store holds at one moment. */
export interface SharedReading {
  readonly place: string
  readonly kind: StoreBackend['kind']
  /** Null = the store has never had anything. */
  readonly position: StorePosition | null
  readonly map: ResourceMap
  readonly backend: StoreBackend
}

/** Reads the store once, for a command; nothing is written unless `use` does. Rejects with UsageError when it does not answer. */
export async function withSharedStore<T>(config: SharedStoreConfig, use: (reading: SharedReading) => Promise<T>): Promise<T> {
  const backend = await backendOf(config)
  const { place, kind } = backend
  try {
    const news = await backend.read(null)
    if (news.state !== 'changed') return await use({ place, kind, position: null, map: ResourceMap.empty, backend })
    const whole = ResourceMap.empty.changed(news.changes, news.position.revision)
    const gaps = backend.gapsOf?.(whole)
    return await use({ place, kind, position: news.position, map: gaps === undefined ? whole : whole.withGaps(gaps), backend })
  } catch (error) {
    if (!(error instanceof StoreAway)) throw error
    const uncertain = error.isUncertain ? '; it is not known whether the change was made' : ''
    throw new UsageError(
      `${place} does not answer (${error.message})${uncertain}; expected a store that can be reached from here; check and lint look at the file alone with --no-store`,
    )
  } finally {
    backend.close()
  }
}

function backendOf(config: SharedStoreConfig): Promise<StoreBackend> {
  return config.kind === 'redis' ? redisBackend(config) : etcdBackend(config.etcd)
}

const nodeId = `${hostname()}:${process.pid}`

async function etcdBackend(config: EtcdConfig): Promise<StoreBackend> {
  const [{ EtcdClient }, { EtcdBackend }, { EtcdSecrets }] = await Promise.all([
    import('../controlplane/store/etcd/etcd-client.js'),
    import('../controlplane/store/etcd/etcd-backend.js'),
    import('../controlplane/store/etcd/etcd-secrets.js'),
  ])
  return new EtcdBackend({
    client: new EtcdClient(config),
    hosts: config.hosts.join(', '),
    prefix: config.prefix,
    secrets: new EtcdSecrets(config.keyring, config.encryptFields),
    clock: systemClock,
    nodeId,
  })
}

async function redisBackend({ redis, name }: Extract<StoreConfig, { kind: 'redis' }>): Promise<StoreBackend> {
  if (redis === null) {
    throw new UsageError('sluice.store: no Redis is named; expected a URL in sluice.store.redis, in sluice.redis or behind --redis')
  }
  const [{ SharedConfiguration }, { RedisFailure }, { settingsOf }] = await Promise.all([
    import('../cluster/shared-configuration.js'),
    import('../cluster/errors.js'),
    import('../cluster/redis-store.js'),
  ])
  const keeper = new SharedConfiguration({
    settings: settingsOf(redis),
    name,
    clock: systemClock,
    nodeId,
    revisionsMax: REVISIONS_KEPT_MAX,
  })
  return new RedisBackend(keeper, (error): error is Error => error instanceof RedisFailure)
}
