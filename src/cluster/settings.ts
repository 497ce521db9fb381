/**
 * How one Redis is reached: what a plugin or the `sluice:` section configures, and its translation for the client library.
 *
 * Times in milliseconds. Passwords live in here and nowhere else: `settingsName` is what logs and errors may show.
 */
import { createHash } from 'node:crypto'
import type { ClusterNode, ClusterOptions, RedisOptions } from 'ioredis'

export interface RedisAddress {
  readonly host: string
  readonly port: number
}

export interface RedisTls {
  /** Check the certificate of the server. */
  readonly verify: boolean
  /** Name expected in the certificate and sent as SNI; empty = the host. */
  readonly serverName: string
}

interface CommonSettings {
  /** Empty = the default user. */
  readonly username: string
  /** Empty = no authentication. */
  readonly password: string
  readonly tls: RedisTls | null
  /** Longest wait for one call, from the moment it was made; the policy of the limit applies afterwards. */
  readonly deadlineMs: number
  /** Put before the name of every key, outside its hash tag. */
  readonly keyPrefix: string
}

export interface SingleRedisSettings extends CommonSettings, RedisAddress {
  readonly mode: 'redis'
  readonly database: number
}

export interface RedisClusterSettings extends CommonSettings {
  readonly mode: 'redis-cluster'
  /** Some masters or replicas; the others are found through them. */
  readonly nodes: readonly RedisAddress[]
}

export interface RedisSentinelSettings extends CommonSettings {
  readonly mode: 'redis-sentinel'
  readonly sentinels: readonly RedisAddress[]
  /** Name of the master as the sentinels know it. */
  readonly masterName: string
  readonly sentinelUsername: string
  readonly sentinelPassword: string
  readonly database: number
}

export type RedisSettings = SingleRedisSettings | RedisClusterSettings | RedisSentinelSettings

export const redisDefaults = {
  username: '',
  password: '',
  tls: null,
  deadlineMs: 1000,
  keyPrefix: 'sluice:',
} as const satisfies CommonSettings

/** A wait for the TCP and TLS handshake longer than this is a failure; the next attempt follows by itself. */
const CONNECT_TIMEOUT_MAX_MS = 2000
/** A connection on which an answer is overdue for so many deadlines is closed and made anew: the peer may be gone without a word. */
const SILENT_DEADLINES = 2
const SILENT_MIN_MS = 250
const RECONNECT_STEP_MS = 50
const RECONNECT_MAX_MS = 500
/** MOVED and ASK answers followed for one call. */
const REDIRECTIONS_MAX = 5
const SLOTS_REFRESH_MS = 5000

/** What is wrong with the settings, or null. Values come from validated configuration; this catches what a schema cannot say. */
export function settingsProblem(settings: RedisSettings): string | null {
  if (!(settings.deadlineMs > 0)) return `the deadline of Redis calls is ${settings.deadlineMs} ms; it must be above 0`
  if (/[{}]/.test(settings.keyPrefix))
    return 'the key prefix of Redis contains "{" or "}", which would change how keys are spread over a cluster'
  switch (settings.mode) {
    case 'redis':
      return null
    case 'redis-cluster':
      return settings.nodes.length > 0 ? null : 'a Redis cluster needs at least one node as host and port'
    case 'redis-sentinel':
      if (settings.sentinels.length === 0) return 'Redis Sentinel needs at least one sentinel as host and port'
      return settings.masterName === '' ? 'Redis Sentinel needs the name of the master' : null
  }
}

/** The settings without secrets, for logs and errors. */
export function settingsName(settings: RedisSettings): string {
  const list = (addresses: readonly RedisAddress[]) => addresses.map((address) => `${address.host}:${address.port}`).join(', ')
  switch (settings.mode) {
    case 'redis':
      return `redis ${settings.host}:${settings.port}/${settings.database}`
    case 'redis-cluster':
      return `redis-cluster ${list(settings.nodes)}`
    case 'redis-sentinel':
      return `redis-sentinel "${settings.masterName}" of ${list(settings.sentinels)}`
  }
}

/** Equal settings give equal keys: users of the same Redis share one connection. Holds a digest, never a password. */
export function settingsKey(settings: RedisSettings): string {
  const entries = Object.entries(settings).sort(([a], [b]) => (a < b ? -1 : 1))
  return createHash('sha256').update(JSON.stringify(entries)).digest('base64url')
}

/** Replies in the shapes of RESP2, which is all that is spoken here. */
interface ReplyShape {
  readonly replyMapping: 'legacy'
}

type NodeOptions = NonNullable<ClusterOptions['redisOptions']> & ReplyShape

function tlsOptions(tls: RedisTls): NonNullable<RedisOptions['tls']> {
  return {
    rejectUnauthorized: tls.verify,
    ...(tls.serverName === '' ? {} : { servername: tls.serverName }),
  }
}

function commonOptions(settings: RedisSettings): RedisOptions & ReplyShape {
  return {
    // Works with every server, also those that refuse HELLO.
    protocol: 2,
    replyMapping: 'legacy',
    disableClientInfo: true,
    connectTimeout: Math.min(CONNECT_TIMEOUT_MAX_MS, Math.max(SILENT_MIN_MS, settings.deadlineMs * SILENT_DEADLINES)),
    socketTimeout: Math.max(SILENT_MIN_MS, settings.deadlineMs * SILENT_DEADLINES),
    keepAlive: 10_000,
    // A call whose answer was lost may have been executed: sending it again would count a request twice.
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    retryStrategy: reconnectDelay,
    // A master that became a replica keeps its connections: leave it, and ask the sentinel or the name again.
    reconnectOnError: (error) => (error.message.startsWith('READONLY') ? 1 : false),
    ...(settings.username === '' ? {} : { username: settings.username }),
    ...(settings.password === '' ? {} : { password: settings.password }),
    ...(settings.tls === null ? {} : { tls: tlsOptions(settings.tls) }),
  }
}

function reconnectDelay(attempt: number): number {
  return Math.min(RECONNECT_MAX_MS, attempt * RECONNECT_STEP_MS)
}

export function singleOptions(settings: SingleRedisSettings): RedisOptions & ReplyShape {
  return { ...commonOptions(settings), host: settings.host, port: settings.port, db: settings.database }
}

export function sentinelOptions(settings: RedisSentinelSettings): RedisOptions & ReplyShape {
  const { tls } = settings
  return {
    ...commonOptions(settings),
    sentinels: settings.sentinels.map(({ host, port }) => ({ host, port })),
    name: settings.masterName,
    db: settings.database,
    sentinelRetryStrategy: reconnectDelay,
    sentinelReconnectStrategy: reconnectDelay,
    sentinelCommandTimeout: Math.max(SILENT_MIN_MS, settings.deadlineMs * SILENT_DEADLINES),
    // Follow +switch-master as it is announced, instead of noticing the loss of the old master.
    failoverDetector: true,
    ...(settings.sentinelUsername === '' ? {} : { sentinelUsername: settings.sentinelUsername }),
    ...(settings.sentinelPassword === '' ? {} : { sentinelPassword: settings.sentinelPassword }),
    ...(tls === null ? {} : { enableTLSForSentinelMode: true, sentinelTLS: tlsOptions(tls) }),
  }
}

export function clusterOptions(settings: RedisClusterSettings): {
  readonly nodes: ClusterNode[]
  readonly options: ClusterOptions & { redisOptions: NodeOptions }
} {
  const { retryStrategy: _perNode, ...redisOptions } = commonOptions(settings)
  return {
    nodes: settings.nodes.map(({ host, port }) => ({ host, port })),
    options: {
      clusterRetryStrategy: reconnectDelay,
      clusterNodeRetryStrategy: reconnectDelay,
      maxRedirections: REDIRECTIONS_MAX,
      // 0 = a call that was cut off is not sent again (see autoResendUnfulfilledCommands); the circuit and the policy decide.
      retryDelayOnFailover: 0,
      retryDelayOnClusterDown: 0,
      slotsRefreshTimeout: Math.max(SILENT_MIN_MS, settings.deadlineMs * SILENT_DEADLINES),
      slotsRefreshInterval: SLOTS_REFRESH_MS,
      redisOptions,
    },
  }
}
