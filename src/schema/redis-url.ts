/**
 * URLs of Redis, as in `sluice.redis` and `--redis`:
 *
 *   redis://[user:password@]host[:port][/database]            one server; `rediss:` = TLS
 *   redis+cluster://[user:password@]host[:port],…             nodes of a cluster; `rediss+cluster:` = TLS
 *   redis+sentinel://[user:password@]host[:port],…/name[/db]  sentinels, and the name of the master; user and password are those of Redis
 *
 * User, password and name are percent-decoded. IPv6 addresses stand in brackets.
 */
import type { RedisConfig, SocketAddress } from './process.js'

export interface RedisUrlOptions {
  readonly timeoutMs: number
  readonly tlsVerify: boolean
  readonly tlsServerName: string | null
  readonly sentinelUsername: string | null
  readonly sentinelPassword: string | null
}

export const redisUrlDefaults: RedisUrlOptions = {
  timeoutMs: 1000,
  tlsVerify: true,
  tlsServerName: null,
  sentinelUsername: null,
  sentinelPassword: null,
}

export const redisUrlForm =
  'redis://[user:password@]host[:port][/database], redis+cluster://host:port,… or redis+sentinel://host:port,…/name'

const form = /^redis(s?)(?:\+(cluster|sentinel))?:\/\/(?:([^@/]*)@)?([^@/]+)(?:\/(.*))?$/
const node = /^(\[[0-9a-fA-F:.]+\]|[^:[\]\s]+)(?::(\d{1,5}))?$/
const kinds = { '': 'redis', cluster: 'redis-cluster', sentinel: 'redis-sentinel' } as const

/** The settings of a URL, or a text that says what is wrong with it and never repeats it: it may hold a password. */
export function parseRedisUrl(url: string, options: RedisUrlOptions): RedisConfig | string {
  const found = form.exec(url)
  if (found === null) return 'this is no URL of Redis'
  const [, secure = '', mode = '', login = '', hosts = '', rest = ''] = found
  const kind = kinds[mode as keyof typeof kinds]
  const nodes = readNodes(hosts, kind === 'redis-sentinel' ? 26_379 : 6_379)
  if (typeof nodes === 'string') return nodes
  if (kind === 'redis' && nodes.length !== 1) return `${nodes.length} hosts are named, but redis:// is one server`
  const path = rest.split('/').filter((part) => part !== '')
  const masterName = kind === 'redis-sentinel' ? path.shift() : undefined
  if (kind === 'redis-sentinel' && masterName === undefined) return 'the name of the master is missing after the sentinels'
  if (kind === 'redis-cluster' && path.length > 0) return 'a cluster has no databases, but the URL names one'
  const [database = '0', ...more] = path
  if (!/^\d{1,5}$/.test(database) || more.length > 0) return 'the database is not a number'
  const colon = login.indexOf(':')
  const decoded = [colon < 0 ? login : login.slice(0, colon), colon < 0 ? '' : login.slice(colon + 1), masterName ?? ''].map(decode)
  const [username, password, name] = decoded
  if (username === undefined || password === undefined || name === undefined || decoded.includes(undefined))
    return 'the percent-encoding of the URL is wrong'
  return {
    kind,
    connection: {
      nodes,
      username: username === '' ? null : username,
      password: password === '' ? null : password,
      database: Number(database),
      tls: secure === '' ? null : { verify: options.tlsVerify, serverName: options.tlsServerName },
      timeoutMs: options.timeoutMs,
      sentinel:
        kind === 'redis-sentinel'
          ? { masterName: name, role: 'master', username: options.sentinelUsername, password: options.sentinelPassword }
          : null,
    },
  }
}

function readNodes(hosts: string, defaultPort: number): SocketAddress[] | string {
  const nodes: SocketAddress[] = []
  for (const text of hosts.split(',')) {
    const found = node.exec(text)
    const port = Number(found?.[2] ?? defaultPort)
    if (found === null || port < 1 || port > 65_535) return 'a host of the URL is not host:port'
    nodes.push({ host: (found[1] ?? '').replace(/^\[(.*)\]$/, '$1'), port })
  }
  return nodes
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}
