/** The store that rate-limit's options name. */
import { PluginConfigError, type PrepareKit, type RedisConnection, type StoreSpec } from '../plugin.js'
import { addresses } from '../rate-limiting/redis-options.js'
import type { Conf, RedisConf } from './schema.js'

type RedisKind = Exclude<StoreSpec['kind'], 'local'>

/** Throws PluginConfigError when the options do not name one Redis of the kind that `store` asks for. */
export function storeOf(conf: Conf, kit: PrepareKit): StoreSpec {
  if (conf.store === 'local') {
    if (conf.redis !== undefined) throw new PluginConfigError('redis has no meaning with store local', 'redis')
    return { kind: 'local' }
  }
  const mode = conf.store === 'lease' ? 'lease' : 'exact'
  const found = conf.redis === undefined ? kit.redis : named(conf.redis)
  if (found === null) {
    throw new PluginConfigError(`store ${conf.store} needs redis.address, redis.cluster or redis.sentinels, or sluice.redis`, 'redis')
  }
  if (conf.store !== 'lease' && found.kind !== conf.store) {
    throw new PluginConfigError(`store is ${conf.store}, but the Redis configured is of the kind ${found.kind}`, 'store')
  }
  return { kind: found.kind, mode, connection: found.connection, onFailure: conf.on_store_error }
}

function named(redis: RedisConf): { readonly kind: RedisKind; readonly connection: RedisConnection } {
  const { address, cluster, sentinels } = redis
  const given = [address, cluster, sentinels].filter((one) => one !== undefined).length
  if (given !== 1) {
    throw new PluginConfigError(`exactly one of address, cluster and sentinels is required, but ${given} are given`, 'redis')
  }
  if (cluster !== undefined) {
    if (redis.database !== 0) throw new PluginConfigError('a Redis Cluster has only database 0', 'redis.database')
    return { kind: 'redis-cluster', connection: connection(redis, addresses(cluster), null) }
  }
  if (address !== undefined) return { kind: 'redis', connection: connection(redis, addresses([address]), null) }
  if (redis.master_name === undefined) throw new PluginConfigError('sentinels need the name of the master', 'redis.master_name')
  const sentinel = {
    masterName: redis.master_name,
    role: 'master',
    username: redis.sentinel_username ?? null,
    password: redis.sentinel_password ?? null,
  } as const
  return { kind: 'redis-sentinel', connection: connection(redis, addresses(sentinels), sentinel) }
}

function connection(redis: RedisConf, nodes: RedisConnection['nodes'], sentinel: RedisConnection['sentinel']): RedisConnection {
  return {
    nodes,
    username: redis.username ?? null,
    password: redis.password ?? null,
    database: redis.database,
    tls: redis.tls ? { verify: redis.tls_verify, serverName: redis.server_name ?? null } : null,
    timeoutMs: redis.timeout_ms,
    sentinel,
  }
}
