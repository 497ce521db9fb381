/** Opens the store that several gateways share, as it is configured. Its client library is loaded only here. */
import { hostname } from 'node:os'
import { systemClock } from '../base/clock.js'
import { UsageError } from '../base/errors.js'
import { LastCopy } from '../controlplane/store/last-copy.js'
import { RedisBackend } from '../controlplane/store/redis-backend.js'
import { REVISIONS_KEPT_MAX } from '../controlplane/store/resource-store.js'
import { SharedStore, type SharedStoreOptions } from '../controlplane/store/shared-store.js'
import type { StoreBackend } from '../controlplane/store/store-backend.js'
import type { EtcdConfig, StoreConfig } from '../schema/process.js'

type SharedStoreConfig = Exclude<StoreConfig, { kind: 'file' }>

/** Rejects with UsageError when neither the store nor the copy of it on this disk can be read. */
export async function openSharedStore(config: SharedStoreConfig, log: SharedStoreOptions['log']): Promise<SharedStore> {
  const backend = config.kind === 'redis' ? await redisBackend(config) : await etcdBackend(config.etcd)
  return SharedStore.open({ backend, copy: new LastCopy(config.copyFile, backend.place), clock: systemClock, log })
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
