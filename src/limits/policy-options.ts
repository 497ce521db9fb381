/**
 * The options `policy`, `allow_degradation` and `redis_*` as limit-count, limit-req and limit-conn have them, and their translation into
 * the place where counters are kept.
 */
import { type Static, Type } from '@sinclair/typebox'
import { oneOf } from '../schema/common.js'
import type { RedisConnection, StoreSpec } from './contract.js'

const host = (description: string) => Type.String({ minLength: 2, maxLength: 256, description })
const port = (fallback: number) => Type.Integer({ minimum: 1, maximum: 65_535, default: fallback, description: 'Port.' })
const flag = (description: string) => Type.Boolean({ default: false, description })
const noEffect = (what: string) => Type.Optional(Type.Integer({ minimum: 1, description: `${what} No effect here, said in a warning.` }))

export const policyOptions = {
  policy: oneOf(['local', 'redis', 'redis-cluster', 'redis-sentinel'], {
    default: 'local',
    description:
      'Where it is counted: `local` = in this process, exact over its threads; the others = in Redis, exact over all gateways that use it.',
  }),
  allow_degradation: flag('Let requests pass when Redis gives no answer; else they are refused with 500.'),
  redis_host: Type.Optional(host('Policy redis: the server. Without it, the Redis of `sluice.redis` or `--redis`.')),
  redis_port: port(6379),
  redis_username: Type.Optional(Type.String({ minLength: 1, description: 'User of Redis; absent = the default user.' })),
  redis_password: Type.Optional(Type.String({ description: 'Password of Redis; absent or empty = none.' })),
  redis_database: Type.Integer({ minimum: 0, maximum: 65_535, default: 0, description: 'Policies redis, redis-sentinel: database.' }),
  redis_timeout: Type.Integer({
    minimum: 1,
    maximum: 3_600_000,
    default: 1000,
    description: 'Milliseconds to wait for an answer; then allow_degradation decides.',
  }),
  redis_ssl: flag('Policies redis, redis-sentinel: use TLS.'),
  redis_ssl_verify: flag('Policies redis, redis-sentinel: check the certificate of the server.'),
  redis_keepalive_timeout: noEffect('Milliseconds for which idle connections are kept.'),
  redis_keepalive_pool: noEffect('Idle connections that are kept.'),
  redis_cluster_nodes: Type.Optional(
    Type.Array(Type.String({ minLength: 3, maxLength: 300, description: '`host:port`.' }), {
      minItems: 1,
      description: 'Policy redis-cluster: some nodes as `host:port`; the others are found through them.',
    }),
  ),
  redis_cluster_name: Type.Optional(
    Type.String({ minLength: 1, description: 'Policy redis-cluster: a name for people; counters do not depend on it.' }),
  ),
  redis_cluster_ssl: flag('Policy redis-cluster: use TLS.'),
  redis_cluster_ssl_verify: flag('Policy redis-cluster: check the certificates.'),
  redis_sentinels: Type.Optional(
    Type.Array(Type.Object({ host: host('Address of a sentinel.'), port: port(26_379) }), {
      minItems: 1,
      description: 'Policy redis-sentinel: the sentinels.',
    }),
  ),
  redis_master_name: Type.Optional(Type.String({ minLength: 1, description: 'Policy redis-sentinel: name of the master.' })),
  redis_role: oneOf(['master', 'slave'], {
    default: 'master',
    description: 'Policy redis-sentinel: only `master` can count; `slave` is refused.',
  }),
  sentinel_username: Type.Optional(Type.String({ minLength: 1, description: 'User of the sentinels themselves.' })),
  sentinel_password: Type.Optional(Type.String({ minLength: 1, description: 'Password of the sentinels themselves.' })),
}

const schema = Type.Object(policyOptions)
export type PolicyConf = Static<typeof schema>

interface Problem {
  readonly path: string
  readonly message: string
  readonly isWarning?: true
}

const address = /^(\[[0-9a-fA-F:.]+\]|[^:[\]\s]+):(\d{1,5})$/

/** What is wrong across the options. */
export function policyProblems(conf: PolicyConf): Problem[] {
  const problems: Problem[] = []
  for (const [index, node] of (conf.redis_cluster_nodes ?? []).entries()) {
    const port = Number(address.exec(node)?.[2] ?? 0)
    if (port < 1 || port > 65_535)
      problems.push({ path: `redis_cluster_nodes.${index}`, message: `${JSON.stringify(node)} is no address; expected host:port` })
  }
  if (conf.policy === 'redis-sentinel' && conf.redis_role === 'slave')
    problems.push({ path: 'redis_role', message: 'slave: limits are counted by writing, which a replica refuses; expected master' })
  for (const name of ['redis_keepalive_timeout', 'redis_keepalive_pool'] as const)
    if (conf[name] !== undefined)
      problems.push({ path: name, message: 'has no effect: each worker keeps one connection to Redis open', isWarning: true })
  return problems
}

/** What `policyStore` says when a conf names no server and there is no default. */
export interface MissingOption {
  readonly missing: keyof PolicyConf
}

/**
 * The store of a conf. `defaults`: the Redis of the process, used when the conf names no server and its kind is that of the policy.
 * `mode`: `lease` = batches are taken from Redis ahead.
 */
export function policyStore(
  conf: PolicyConf,
  defaults: { readonly kind: string; readonly connection: RedisConnection } | null,
  mode: 'exact' | 'lease',
): StoreSpec | MissingOption {
  if (conf.policy === 'local') return { kind: 'local' }
  const onFailure = conf.allow_degradation ? 'allow' : 'refuse'
  const named = namedConnection(conf)
  if (!('missing' in named)) return { kind: conf.policy, mode, connection: named, onFailure }
  const server = { redis: conf.redis_host, 'redis-cluster': conf.redis_cluster_nodes, 'redis-sentinel': conf.redis_sentinels }[conf.policy]
  if (server !== undefined || defaults?.kind !== conf.policy) return named
  return { kind: conf.policy, mode, connection: defaults.connection, onFailure }
}

function namedConnection(conf: PolicyConf): RedisConnection | MissingOption {
  const common = {
    username: conf.redis_username ?? null,
    password: conf.redis_password === undefined || conf.redis_password === '' ? null : conf.redis_password,
    timeoutMs: conf.redis_timeout,
  }
  const tls = (isOn: boolean, verify: boolean) => (isOn ? { verify, serverName: null } : null)
  if (conf.policy === 'redis-cluster') {
    if (conf.redis_cluster_nodes === undefined) return { missing: 'redis_cluster_nodes' }
    if (conf.redis_cluster_name === undefined) return { missing: 'redis_cluster_name' }
    const nodes = conf.redis_cluster_nodes.map(readAddress)
    return { ...common, nodes, database: 0, tls: tls(conf.redis_cluster_ssl, conf.redis_cluster_ssl_verify), sentinel: null }
  }
  const single = { ...common, database: conf.redis_database, tls: tls(conf.redis_ssl, conf.redis_ssl_verify) }
  if (conf.policy === 'redis-sentinel') {
    if (conf.redis_sentinels === undefined) return { missing: 'redis_sentinels' }
    if (conf.redis_master_name === undefined) return { missing: 'redis_master_name' }
    const sentinel = {
      masterName: conf.redis_master_name,
      role: 'master' as const,
      username: conf.sentinel_username ?? null,
      password: conf.sentinel_password ?? null,
    }
    return { ...single, nodes: conf.redis_sentinels, sentinel }
  }
  if (conf.redis_host === undefined) return { missing: 'redis_host' }
  return { ...single, nodes: [{ host: conf.redis_host, port: conf.redis_port }], sentinel: null }
}

function readAddress(text: string): { readonly host: string; readonly port: number } {
  const found = address.exec(text)
  return { host: (found?.[1] ?? '').replace(/^\[(.*)\]$/, '$1'), port: Number(found?.[2] ?? 0) }
}
