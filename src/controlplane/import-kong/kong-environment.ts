/**
 * Settings of a Kong process from its environment (`KONG_PROXY_LISTEN` and so on), laid over the section `sluice` of a file, as Kong lays
 * them over its own. Only variables of the list below are looked at.
 */
import type { Environment } from '../environment.js'
import type { IssueList } from '../load-issue.js'

type Fields = { [name: string]: unknown }

/** What the variables say; sections that none of them touches are absent. */
export interface KongEnvironment {
  /** To be laid over `sluice`, field by field. */
  readonly sluice: Fields
  /** Defaults of `keepalive_pool` of upstreams; null = none are set. */
  readonly keepalive: Fields | null
}

/** Variables that are understood, with what they set. */
export const kongVariables: { readonly [name: string]: string } = {
  KONG_PROXY_LISTEN: '`sluice.listeners`',
  KONG_ADMIN_LISTEN: '`sluice.admin.listen`, where the admin server has keys',
  KONG_STATUS_LISTEN: '`sluice.metrics.listen`: /status, /metrics',
  KONG_NGINX_WORKER_PROCESSES: '`sluice.workers`; `auto` = the cores available',
  KONG_UPSTREAM_KEEPALIVE_POOL_SIZE: '`keepalive_pool.size` of the upstreams of a Kong file',
  KONG_UPSTREAM_KEEPALIVE_MAX_REQUESTS: '`keepalive_pool.requests` of them',
  KONG_UPSTREAM_KEEPALIVE_IDLE_TIMEOUT: '`keepalive_pool.idle_timeout` of them',
  KONG_PROXY_ACCESS_LOG: '`sluice.log.access`, in the common format; `off` = none',
  KONG_PROXY_ERROR_LOG: 'nothing: the process log goes to stderr',
  KONG_ADMIN_ACCESS_LOG: 'nothing: requests to the admin server are in the process log',
  KONG_ADMIN_ERROR_LOG: 'nothing: the process log goes to stderr',
  KONG_LOG_LEVEL: '`sluice.log.level`',
  KONG_DATABASE: '`off`, or a warning: there is no database, resources come from the file',
  KONG_DECLARATIVE_CONFIG: 'the file, when the command line names none',
}

const streams: readonly string[] = ['/dev/stdout', '/dev/stderr']
const levels: { readonly [level: string]: string } = {
  debug: 'debug',
  info: 'info',
  notice: 'info',
  warn: 'warn',
  error: 'error',
  crit: 'error',
  alert: 'error',
  emerg: 'error',
}

/** The section `sluice` of a file with what the variables say laid over it. */
export function overlaySluice(section: unknown, over: Fields): Fields {
  const own: Fields = typeof section === 'object' && section !== null ? { ...section } : {}
  for (const [name, value] of Object.entries(over)) {
    const present = own[name]
    const isMerged = name !== 'listeners' && typeof present === 'object' && present !== null && typeof value === 'object'
    own[name] = isMerged ? { ...present, ...value } : value
  }
  return own
}

/** Reads the variables; what cannot be understood is an issue without a line. */
export function readKongEnvironment(env: Environment, hasAdminKeys: boolean, issues: IssueList): KongEnvironment {
  const sluice: Fields = {}
  const read = (name: string): string | undefined => (env[name] === '' ? undefined : env[name])
  const proxy = read('KONG_PROXY_LISTEN')
  if (proxy !== undefined) {
    const listeners = proxy.split(',').map((entry) => listener('KONG_PROXY_LISTEN', entry, issues))
    sluice['listeners'] = listeners.filter((one) => one !== null)
  }
  const admin = read('KONG_ADMIN_LISTEN')
  if (admin !== undefined && admin !== 'off') {
    if (hasAdminKeys) sluice['admin'] = { listen: firstPlain('KONG_ADMIN_LISTEN', admin, issues) }
    else issues.warn([], 'KONG_ADMIN_LISTEN opens nothing: the admin server needs keys', 'sluice.admin.keys, or SLUICE_ADMIN_KEY')
  }
  const status = read('KONG_STATUS_LISTEN')
  if (status === 'off') sluice['metrics'] = { enabled: false }
  else if (status !== undefined) sluice['metrics'] = { listen: firstPlain('KONG_STATUS_LISTEN', status, issues) }
  const workers = read('KONG_NGINX_WORKER_PROCESSES')
  if (workers !== undefined && workers !== 'auto') sluice['workers'] = whole('KONG_NGINX_WORKER_PROCESSES', workers, issues)
  const log = readLog(read, issues)
  if (Object.keys(log).length > 0) sluice['log'] = log
  const database = read('KONG_DATABASE')
  if (database !== undefined && database !== 'off') {
    issues.warn([], `KONG_DATABASE=${database} has no effect: there is no database, resources come from the file`, 'KONG_DATABASE=off')
  }
  return { sluice, keepalive: readKeepalive(read, issues) }
}

function readLog(read: (name: string) => string | undefined, issues: IssueList): Fields {
  const log: Fields = {}
  const access = read('KONG_PROXY_ACCESS_LOG')
  // A format may follow the path.
  const [path = '', format] = access?.split(/\s+/) ?? []
  if (path === 'off') log['access'] = { format: 'off' }
  else if (path === '/dev/stderr') issues.error([], 'KONG_PROXY_ACCESS_LOG=/dev/stderr is not supported', '/dev/stdout, a file, or off')
  else if (path !== '') log['access'] = { format: 'common', path: path === '/dev/stdout' ? 'stdout' : path }
  if (format !== undefined)
    issues.warn([], `KONG_PROXY_ACCESS_LOG: the format ${format} is not known; the log is in the common format`, 'a path alone')
  const level = read('KONG_LOG_LEVEL')
  if (level !== undefined && levels[level] === undefined) {
    issues.error([], `KONG_LOG_LEVEL=${level} is not a level`, Object.keys(levels).join(', '))
  } else if (level !== undefined) log['level'] = levels[level]
  for (const name of ['KONG_PROXY_ERROR_LOG', 'KONG_ADMIN_ERROR_LOG', 'KONG_ADMIN_ACCESS_LOG']) {
    const target = read(name)
    if (target !== undefined && target !== 'off' && !streams.includes(target)) {
      issues.warn([], `${name}=${target} has no effect: the process log goes to stderr`, 'stderr redirected to the file')
    }
  }
  return log
}

function readKeepalive(read: (name: string) => string | undefined, issues: IssueList): Fields | null {
  const keepalive: Fields = {}
  for (const [name, field] of [
    ['KONG_UPSTREAM_KEEPALIVE_POOL_SIZE', 'size'],
    ['KONG_UPSTREAM_KEEPALIVE_MAX_REQUESTS', 'requests'],
    ['KONG_UPSTREAM_KEEPALIVE_IDLE_TIMEOUT', 'idle_timeout'],
  ] as const) {
    const value = read(name)
    if (value !== undefined) keepalive[field] = whole(name, value, issues)
  }
  return Object.keys(keepalive).length === 0 ? null : keepalive
}

/** `0.0.0.0:8443 http2 ssl reuseport backlog=16384`. Words that change nothing here are let pass. */
function listener(name: string, entry: string, issues: IssueList): Fields | null {
  const [address = '', ...words] = entry.trim().split(/\s+/)
  if (!/:\d{1,5}$/.test(address)) {
    issues.error([], `${name}: ${JSON.stringify(entry.trim())} is not an address`, 'ADDRESS:PORT, and perhaps ssl')
    return null
  }
  for (const word of words) {
    if (
      ['proxy_protocol', 'http2', 'deferred', 'bind', 'reuseport', 'ssl'].includes(word) ||
      /^(backlog|ipv6only|so_keepalive)=/.test(word)
    )
      continue
    issues.error(
      [],
      `${name}: ${JSON.stringify(word)} is not understood`,
      'ssl, http2, proxy_protocol, reuseport, deferred, bind or backlog=N',
    )
  }
  if (words.includes('http2')) {
    issues.warn(
      [],
      `${name}: http2 at ${address} has no effect, HTTP/1.1 is served`,
      'a listener of kind node in sluice.listeners, for HTTP/2',
    )
  }
  return {
    listen: address,
    ...(words.includes('proxy_protocol') && { proxy_protocol: true }),
    // Certificates come from the file.
    ...(words.includes('ssl') && { tls: {} }),
  }
}

/** The first address of a list that is not for TLS. */
function firstPlain(name: string, value: string, issues: IssueList): string {
  const plain = value.split(',').filter((entry) => !/\sssl\b/.test(entry))
  const first = plain[0] === undefined ? null : listener(name, plain[0], issues)
  if (plain[0] === undefined)
    issues.error([], `${name}: only addresses with ssl are given`, 'an address without ssl: this server has no TLS yet')
  return String(first?.['listen'] ?? '')
}

function whole(name: string, text: string, issues: IssueList): number {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : 0
  if (value === 0) issues.error([], `${name}=${text} is not a number`, 'a whole number from 1')
  return value
}
