/** The Redis of a limit, as Kong and its older versions write it, and its translation for the stores. */
import {
  nullable,
  nullableOneOf,
  PluginConfigError,
  type PrepareKit,
  type RedisConnection,
  type Static,
  type StoreSpec,
  Type,
} from '../plugin.js'

const port = Type.Integer({ minimum: 1, maximum: 65_535 })
const text = Type.String({ minLength: 1 })
const timeout = Type.Integer({ minimum: 1, maximum: 60_000 })

/** `redis` of the Kong plugins. Sizes of connection pools have no place here: one connection of a worker carries all its calls. */
export const kongRedis = nullable(
  Type.Object({
    host: nullable(text, { description: 'Name or address of the server.' }),
    port: nullable(port, { description: 'Port of the server.', default: 6379 }),
    username: nullable(text, { description: 'User for ACL authentication.' }),
    password: nullable(Type.String(), { description: 'Password; empty = none.' }),
    database: nullable(Type.Integer({ minimum: 0 }), { description: 'Number of the database; only 0 in a cluster.', default: 0 }),
    ssl: nullable(Type.Boolean(), { description: 'Connect with TLS.', default: false }),
    ssl_verify: nullable(Type.Boolean(), { description: 'Check the certificate of the server.', default: false }),
    server_name: nullable(text, { description: 'Name sent as SNI and expected in the certificate; unset = the host.' }),
    timeout: nullable(timeout, {
      description: 'Longest wait for one answer, milliseconds; unset = 2000. `fault_tolerant` or the like decides afterwards.',
    }),
    connect_timeout: nullable(timeout, { description: 'As `timeout`; the largest of the timeouts given is the deadline of a call.' }),
    send_timeout: nullable(timeout, { description: 'As `timeout`.' }),
    read_timeout: nullable(timeout, { description: 'As `timeout`.' }),
    cluster_nodes: nullable(
      Type.Array(
        Type.Object({
          ip: Type.String({ minLength: 1, default: '127.0.0.1', description: 'Name or address.' }),
          port: Type.Integer({ minimum: 1, maximum: 65_535, default: 6379, description: 'Port.' }),
        }),
        { minItems: 1 },
      ),
      { description: 'Some nodes of a Redis Cluster; the others are found through them.' },
    ),
    cluster_addresses: nullable(Type.Array(text, { minItems: 1 }), { description: 'As `cluster_nodes`, written as `host:port`.' }),
    sentinel_master: nullable(text, { description: 'Name of the master, as the sentinels know it.' }),
    sentinel_nodes: nullable(
      Type.Array(
        Type.Object({
          host: Type.String({ minLength: 1, default: '127.0.0.1', description: 'Name or address.' }),
          port: Type.Integer({ minimum: 1, maximum: 65_535, default: 6379, description: 'Port.' }),
        }),
        { minItems: 1 },
      ),
      { description: 'The sentinels.' },
    ),
    sentinel_addresses: nullable(Type.Array(text, { minItems: 1 }), { description: 'As `sentinel_nodes`, written as `host:port`.' }),
    sentinel_role: nullableOneOf(['master', 'slave', 'any'], {
      description: 'Counters are written, so only `master` is possible.',
    }),
    sentinel_username: nullable(text, { description: 'User for the sentinels.' }),
    sentinel_password: nullable(Type.String(), { description: 'Password for the sentinels; empty = none.' }),
  }),
  { description: 'Where the counters are kept with `redis`. Unset: the Redis of `sluice.redis`.' },
)

/** The flat spelling of older files and of the APISIX plugins. */
export const flatRedis = {
  redis_host: nullable(text, { description: 'As `redis.host`.' }),
  redis_port: nullable(port, { description: 'As `redis.port`.' }),
  redis_username: nullable(text, { description: 'As `redis.username`.' }),
  redis_password: nullable(Type.String(), { description: 'As `redis.password`.' }),
  redis_database: nullable(Type.Integer({ minimum: 0 }), { description: 'As `redis.database`.' }),
  redis_ssl: nullable(Type.Boolean(), { description: 'As `redis.ssl`.' }),
  redis_ssl_verify: nullable(Type.Boolean(), { description: 'As `redis.ssl_verify`.' }),
  redis_server_name: nullable(text, { description: 'As `redis.server_name`.' }),
  redis_timeout: nullable(timeout, { description: 'As `redis.timeout`.' }),
  redis_cluster_nodes: nullable(Type.Array(text, { minItems: 1 }), {
    description: 'With `redis-cluster`: some nodes, written as `host:port`; the others are found through them.',
  }),
  redis_cluster_ssl: nullable(Type.Boolean(), { description: 'As `redis.ssl`, with `redis-cluster`.' }),
  redis_cluster_ssl_verify: nullable(Type.Boolean(), { description: 'As `redis.ssl_verify`, with `redis-cluster`.' }),
}
const flatSchema = Type.Object(flatRedis)

export type KongRedis = NonNullable<Static<typeof kongRedis>>
export type FlatRedis = Static<typeof flatSchema>

type RedisStore = Extract<StoreSpec, { readonly connection: unknown }>
type Address = RedisConnection['nodes'][number]

export interface RedisChoice {
  /** The word that chose Redis; `redis-cluster` insists on a cluster, `redis` takes what the options name. */
  readonly policy: 'redis' | 'redis-cluster'
  readonly options: KongRedis
  readonly mode: RedisStore['mode']
  readonly onFailure: RedisStore['onFailure']
  /** Taken when `timeout` and its relatives are not set, milliseconds. */
  readonly defaultTimeoutMs: number
}

/** The nested options, completed from the flat ones. Where both say something, the nested one counts. */
export function mergeRedis(nested: KongRedis | null | undefined, flat: FlatRedis): KongRedis {
  const addresses = flat.redis_cluster_nodes
  return {
    ...nested,
    host: nested?.host ?? flat.redis_host ?? null,
    // The nested port has a default, so that it counts only beside a nested host.
    port: (nested?.host ?? null) !== null ? (nested?.port ?? null) : (flat.redis_port ?? nested?.port ?? null),
    username: nested?.username ?? flat.redis_username ?? null,
    password: nested?.password ?? flat.redis_password ?? null,
    database: firstSet(nested?.database, flat.redis_database, 0),
    ssl: firstSet(nested?.ssl, flat.redis_ssl ?? flat.redis_cluster_ssl, false),
    ssl_verify: firstSet(nested?.ssl_verify, flat.redis_ssl_verify ?? flat.redis_cluster_ssl_verify, false),
    server_name: nested?.server_name ?? flat.redis_server_name ?? null,
    timeout: nested?.timeout ?? flat.redis_timeout ?? null,
    cluster_addresses: nested?.cluster_addresses ?? addresses ?? null,
  }
}

/** The nested value unless it is unset or what its default filled in. */
function firstSet<T>(nested: T | null | undefined, flat: T | null | undefined, filledIn: T): T {
  if (nested !== null && nested !== undefined && nested !== filledIn) return nested
  return flat ?? filledIn
}

/** Where the options lead; throws PluginConfigError when they lead nowhere. Without a server: the Redis of `sluice.redis`. */
export function redisStore(choice: RedisChoice, kit: PrepareKit): StoreSpec {
  const { options, mode, onFailure } = choice
  const shared = { mode, onFailure }
  const nodes = [
    ...(options.cluster_nodes ?? []).map(({ ip, port: at }) => ({ host: ip, port: at })),
    ...addresses(options.cluster_addresses),
  ]
  const sentinels = [...(options.sentinel_nodes ?? []), ...addresses(options.sentinel_addresses)]
  const named = [options.host ?? null, nodes[0] ?? null, sentinels[0] ?? null].filter((one) => one !== null).length
  if (named > 1) throw new PluginConfigError('a server, a cluster and sentinels exclude each other; expected one of them', 'redis')
  if (named === 0 && kit.redis !== null) return { ...kit.redis, ...shared }
  if (choice.policy === 'redis-cluster' && nodes.length === 0) {
    throw new PluginConfigError(
      'policy redis-cluster needs redis_cluster_nodes, such as ["127.0.0.1:7000"], or sluice.redis',
      'redis_cluster_nodes',
    )
  }
  if (named === 0) {
    throw new PluginConfigError(
      'policy redis needs a server: redis.host, redis.cluster_nodes, redis.sentinel_nodes, or sluice.redis',
      'redis',
    )
  }
  if (nodes.length > 0) {
    if ((options.database ?? 0) !== 0) throw new PluginConfigError('a Redis Cluster has only database 0', 'redis.database')
    return { kind: 'redis-cluster', ...shared, connection: connection(choice, nodes, null) }
  }
  if (sentinels.length > 0) return { kind: 'redis-sentinel', ...shared, connection: connection(choice, sentinels, sentinelOf(options)) }
  return { kind: 'redis', ...shared, connection: connection(choice, [{ host: options.host ?? '', port: options.port ?? 6379 }], null) }
}

function sentinelOf(options: KongRedis): NonNullable<RedisConnection['sentinel']> {
  const role = options.sentinel_role ?? 'master'
  if (role !== 'master') {
    throw new PluginConfigError(
      `sentinel_role ${role} is not supported: counters are written, which only the master takes`,
      'redis.sentinel_role',
    )
  }
  if ((options.sentinel_master ?? null) === null) {
    throw new PluginConfigError('sentinels need the name of the master in redis.sentinel_master', 'redis.sentinel_master')
  }
  return {
    masterName: options.sentinel_master ?? '',
    role,
    username: options.sentinel_username ?? null,
    password: secret(options.sentinel_password),
  }
}

function connection(choice: RedisChoice, nodes: readonly Address[], sentinel: RedisConnection['sentinel']): RedisConnection {
  const { options, defaultTimeoutMs } = choice
  const timeouts = [options.timeout, options.connect_timeout, options.send_timeout, options.read_timeout].filter(
    (one) => typeof one === 'number',
  )
  return {
    nodes,
    username: options.username ?? null,
    password: secret(options.password),
    database: options.database ?? 0,
    tls: options.ssl === true ? { verify: options.ssl_verify ?? false, serverName: options.server_name ?? null } : null,
    timeoutMs: timeouts.length === 0 ? defaultTimeoutMs : Math.max(...timeouts),
    sentinel,
  }
}

function secret(password: string | null | undefined): string | null {
  return password === undefined || password === '' ? null : password
}

/** `host:port` texts; IPv6 addresses stand in brackets. */
export function addresses(texts: readonly string[] | null | undefined): Address[] {
  return (texts ?? []).map((one) => {
    const found = /^(?:\[([^\]]+)\]|([^:\s]+)):(\d{1,5})$/.exec(one)
    const at = Number(found?.[3] ?? 0)
    if (found === null || at < 1 || at > 65_535) {
      throw new PluginConfigError(`"${one}" is not the address of a Redis server; expected host:port, such as 127.0.0.1:6379`, 'redis')
    }
    return { host: found[1] ?? found[2] ?? '', port: at }
  })
}
