/** The store that rate-limiting's options name. */
import { PluginConfigError, type PrepareKit, type StoreSpec } from '../plugin.js'
import { KONG_REDIS_TIMEOUT_MS } from './kong-options.js'
import { mergeRedis, redisStore } from './redis-options.js'
import type { Conf } from './schema.js'

export function storeOf(conf: Conf, mode: 'exact' | 'lease', kit: PrepareKit): StoreSpec {
  const policy = conf.policy ?? 'local'
  if (policy === 'local') return { kind: 'local' }
  if (policy === 'cluster')
    throw new PluginConfigError('policy cluster needs a database, which this gateway does not have; use redis', 'policy')
  const options = mergeRedis(conf.redis, conf)
  const onFailure = conf.fault_tolerant === false ? 'refuse' : 'allow'
  return redisStore({ policy, options, mode, onFailure, defaultTimeoutMs: KONG_REDIS_TIMEOUT_MS }, kit)
}
