/**
 * The sections about the process (`sluice`, `apisix`, `nginx_config`, `deployment`) to one ProcessConfig with all defaults. Where two
 * sections say the same, `sluice` wins. Seconds become milliseconds; relative files become absolute, from the folder of the file.
 */
import { readFileSync } from 'node:fs'
import { dirname, isAbsolute, resolve } from 'node:path'
import type { PathPolicy } from '../schema/compiled.js'
import type { ApisixSection, DeploymentSection, NginxSection } from '../schema/gateway-section.js'
import type {
  LimitsConfig,
  ListenerConfig,
  ProcessConfig,
  RealIpConfig,
  RedisConfig,
  SocketAddress,
  WebhookConfig,
} from '../schema/process.js'
import { parseRedisUrl, redisUrlDefaults, redisUrlForm } from '../schema/redis-url.js'
import type { SluiceSection } from '../schema/sluice-section.js'
import type { DocumentPath, IssueList } from './load-issue.js'
import { adminConfig } from './validate-admin.js'
import { pairProblem } from './validate-certificates.js'
import { gatewayListeners, listenerKind } from './validate-listeners.js'
import { checkAddress } from './validate-routes.js'
import { storeConfig } from './validate-store.js'

export interface Sections {
  readonly sluice: SluiceSection
  readonly apisix: ApisixSection
  readonly nginx: NginxSection
  readonly deployment: DeploymentSection
  /** What `plugin_attr` says about the metrics page; null = nothing. */
  readonly metricsAddress: SocketAddress | null
  /** Bounds of latencies in milliseconds that it gives. */
  readonly latencyBoundsMs: readonly number[]
}

export type ServerCertificate = { readonly names: string[]; readonly cert: string; readonly key: string }

/** Builds the process configuration; what is wrong is added to `issues`. `certificates` come from `ssls`. */
export function processConfig(
  sections: Sections,
  file: string,
  certificates: readonly ServerCertificate[],
  issues: IssueList,
): ProcessConfig {
  const { sluice, apisix, nginx } = sections
  const folder = dirname(resolve(file))
  const workers = nginx.worker_processes === 'auto' ? 0 : nginx.worker_processes
  const log = sluice.log ?? {}
  const accessPath = log.access?.path ?? 'stdout'
  checkDeployment(sections.deployment, issues)
  const sharedRedis = redis(sluice, issues)
  return {
    workers: sluice.workers ?? workers ?? 0,
    accept: sluice.accept ?? 'auto',
    listeners: listeners(sections, folder, certificates, issues),
    admin: adminConfig(sections, file, issues),
    metrics: metrics(sections, issues),
    latencyBoundsMs: sections.latencyBoundsMs,
    limits: limits(sections),
    log: {
      level: log.level ?? 'info',
      access: { format: log.access?.format ?? 'off', path: accessPath === 'stdout' ? accessPath : resolve(folder, accessPath) },
    },
    plugins: (sluice.plugins ?? []).map((path) => resolve(folder, path)),
    realIp: realIp(sections, issues),
    router: {
      mode: sluice.router?.mode ?? apisix.router?.http ?? 'radixtree_host_uri',
      path: pathPolicy(sections),
      ...(sluice.error_format === 'kong' && { errors: 'kong' }),
    },
    dns: {
      servers: dnsServers(sluice, issues),
      ttlMs: milliseconds(sluice.dns?.ttl ?? 0),
      timeoutMs: milliseconds(sluice.dns?.timeout ?? 5),
    },
    drainTimeoutMs: milliseconds(sluice.drain_timeout ?? 30),
    trustIdentityHeaders: sluice.trust_identity_headers ?? false,
    pidFile: sluice.pid_file === undefined ? null : resolve(folder, sluice.pid_file),
    redis: sharedRedis,
    store: storeConfig(sections, file, sharedRedis, issues),
    rateLimitTable: { keys: sluice.rate_limit_table?.keys ?? 1_000_000 },
    gatewayNodes: sluice.gateway_nodes ?? 1,
    parallelGc: sluice.parallel_gc ?? false,
    overload: {
      maxLagMs: milliseconds(sluice.overload?.max_lag ?? 0),
      maxMemoryBytes: sluice.overload?.max_memory ?? 0,
      retryAfterSeconds: sluice.overload?.retry_after ?? 1,
    },
    breakers: { webhook: webhook(sluice) },
  }
}

export function milliseconds(seconds: number): number {
  return Math.round(seconds * 1_000)
}

function webhook({ breakers }: SluiceSection): WebhookConfig | null {
  const own = breakers?.webhook
  return own === undefined ? null : { url: own.url, timeoutMs: milliseconds(own.timeout ?? 5), headers: own.headers ?? {} }
}

function redis(sluice: SluiceSection, issues: IssueList): RedisConfig | null {
  if (sluice.redis === undefined) return null
  const own = typeof sluice.redis === 'string' ? { url: sluice.redis } : sluice.redis
  const path: DocumentPath = typeof sluice.redis === 'string' ? ['sluice', 'redis'] : ['sluice', 'redis', 'url']
  const parsed = parseRedisUrl(own.url, {
    timeoutMs: own.timeout === undefined ? redisUrlDefaults.timeoutMs : Math.max(1, milliseconds(own.timeout)),
    tlsVerify: own.tls_verify ?? true,
    tlsServerName: own.tls_server_name ?? null,
    sentinelUsername: own.sentinel_username ?? null,
    sentinelPassword: own.sentinel_password ?? null,
  })
  if (typeof parsed !== 'string') return parsed
  issues.error(path, parsed, redisUrlForm)
  return null
}

function pathPolicy({ sluice, apisix }: Sections): PathPolicy {
  const encoded = apisix.match_uri_encoded_slash === false ? 'decode' : 'keep'
  return {
    encodedSlash: sluice.router?.encoded_slash ?? encoded,
    doubleSlash: sluice.router?.double_slash ?? 'merge',
    deleteTailSlash: sluice.router?.delete_uri_tail_slash ?? apisix.delete_uri_tail_slash ?? false,
    servlet: sluice.router?.normalize_uri_like_servlet ?? apisix.normalize_uri_like_servlet ?? false,
  }
}

function limits({ sluice, nginx }: Sections): LimitsConfig {
  const own = sluice.limits ?? {}
  const http = nginx.http ?? {}
  return {
    maxHeaderBytes: own.max_header_size ?? 65_536,
    maxHeaderCount: own.max_header_count ?? 48,
    maxTargetBytes: own.max_target_size ?? 16_384,
    maxBodyBytes: own.max_body_size ?? sizeInBytes(http.client_max_body_size ?? 0),
    maxBufferedBytes: own.max_buffered_size ?? 1_048_576,
    maxConnections: own.max_connections ?? 65_536,
    bodyTimeoutMs: own.body_timeout === undefined ? durationMs(http.client_body_timeout ?? 60) : milliseconds(own.body_timeout),
    sendTimeoutMs: own.send_timeout === undefined ? durationMs(http.send_timeout ?? 60) : milliseconds(own.send_timeout),
    maxResponseHeaderBytes: own.max_response_header_size ?? 65_536,
  }
}

const sizeUnits: { readonly [unit: string]: number } = { '': 1, k: 1_024, m: 1_048_576, g: 1_073_741_824 }
const timeUnits: { readonly [unit: string]: number } = { '': 1_000, ms: 1, s: 1_000, m: 60_000, h: 3_600_000 }

function sizeInBytes(size: number | string): number {
  const [, digits = '', unit = ''] = /^(\d+)([kmg]?)$/i.exec(String(size)) ?? []
  return Number(digits) * (sizeUnits[unit.toLowerCase()] ?? 1)
}

function durationMs(duration: number | string): number {
  const [, digits = '', unit = ''] = /^([\d.]+)(ms|s|m|h|)$/.exec(String(duration)) ?? []
  return Math.round(Number(digits) * (timeUnits[unit] ?? 1_000))
}

function realIp({ sluice, apisix, nginx }: Sections, issues: IssueList): RealIpConfig {
  const http = nginx.http ?? {}
  const own = sluice.real_ip ?? {}
  const lists: [readonly string[] | undefined, DocumentPath][] = [
    [own.trusted_addresses, ['sluice', 'real_ip', 'trusted_addresses']],
    [apisix.trusted_addresses, ['apisix', 'trusted_addresses']],
    [http.real_ip_from, ['nginx_config', 'http', 'real_ip_from']],
  ]
  for (const [list, path] of lists) for (const [index, item] of (list ?? []).entries()) checkAddress(item, [...path, index], issues)
  return {
    trustedAddresses: [...(own.trusted_addresses ?? apisix.trusted_addresses ?? http.real_ip_from ?? [])],
    header: (sluice.real_ip?.header ?? http.real_ip_header ?? 'x-forwarded-for').toLowerCase(),
    recursive: sluice.real_ip?.recursive ?? http.real_ip_recursive === 'on',
  }
}

function metrics({ sluice, metricsAddress }: Sections, issues: IssueList): SocketAddress | null {
  if (sluice.metrics?.enabled === false) return null
  const listen = sluice.metrics?.listen
  return listen === undefined
    ? (metricsAddress ?? { host: '127.0.0.1', port: 9091 })
    : socketAddress(listen, '127.0.0.1', ['sluice', 'metrics', 'listen'], issues)
}

/** `host:port`, `[v6]:port` or `port`; the schema has checked the form. */
export function socketAddress(text: string, fallbackHost: string, path: DocumentPath, issues: IssueList): SocketAddress {
  const colon = text.lastIndexOf(':')
  const port = Number(text.slice(colon + 1))
  if (port > 65_535) issues.error(path, `expected port ${port} to be at most 65535`, 'a port from 0 to 65535')
  const host = text.slice(0, Math.max(colon, 0)).replace(/^\[(.*)\]$/, '$1')
  return { host: host === '' || host === '*' ? fallbackHost : host, port }
}

function listeners(sections: Sections, folder: string, byServerName: readonly ServerCertificate[], issues: IssueList): ListenerConfig[] {
  const own = sections.sluice.listeners
  if (own === undefined) return gatewayListeners(sections.apisix, byServerName, issues)
  return own.map((item, index): ListenerConfig => {
    const path: DocumentPath = ['sluice', 'listeners', index]
    if (typeof item === 'string') return { ...socketAddress(item, '0.0.0.0', path, issues), tls: null }
    const address = { ...socketAddress(item.listen, '0.0.0.0', [...path, 'listen'], issues), ...listenerKind(item, path, issues) }
    const proxyProtocol = item.proxy_protocol ?? false
    if (item.tls === undefined) return { ...address, tls: null, proxyProtocol }
    const file = (name: string | undefined): string => (name === undefined ? '' : isAbsolute(name) ? name : resolve(folder, name))
    const tls = { certFile: file(item.tls.cert), keyFile: file(item.tls.key), byServerName }
    checkListenerTls(tls, [...path, 'tls'], issues)
    return { ...address, tls, proxyProtocol }
  })
}

function checkListenerTls(
  tls: { certFile: string; keyFile: string; byServerName: readonly ServerCertificate[] },
  path: DocumentPath,
  issues: IssueList,
): void {
  if (tls.certFile === '' && tls.keyFile === '') {
    if (tls.byServerName.length === 0) issues.error(path, 'the TLS listener has no certificate', 'cert and key, or an entry of ssls')
    return
  }
  if (tls.certFile === '') issues.error(path, 'property "cert" is required', 'the certificate of this key')
  if (tls.keyFile === '') issues.error(path, 'property "key" is required', 'the key of this certificate')
  if (tls.certFile === '' || tls.keyFile === '') return
  const cert = readPem(tls.certFile, [...path, 'cert'], issues)
  const key = readPem(tls.keyFile, [...path, 'key'], issues)
  if (cert === null || key === null) return
  const problem = pairProblem(cert, key)
  if (problem !== null) issues.error([...path, problem.at], problem.message, 'a PEM certificate with its private key')
}

export function readPem(file: string, path: DocumentPath, issues: IssueList): string | null {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unreadable'
    issues.error(path, `the file ${file} cannot be read (${code})`, 'a readable PEM file')
    return null
  }
}

function dnsServers(sluice: SluiceSection, issues: IssueList): string[] {
  return (sluice.dns?.servers ?? []).map((server, index) => {
    const path: DocumentPath = ['sluice', 'dns', 'servers', index]
    const [, host = server, port = '53'] = /^(\[[^\]]*\]|[^:]*):(\d{1,5})$/.exec(server) ?? []
    const bare = host.replace(/^\[(.*)\]$/, '$1')
    checkAddress(bare, path, issues)
    if (Number(port) > 65_535 || Number(port) === 0) issues.error(path, `expected port ${port} to be from 1 to 65535`, 'address:port')
    return bare.includes(':') ? `[${bare}]:${port}` : `${bare}:${port}`
  })
}

function checkDeployment(deployment: DeploymentSection, issues: IssueList): void {
  if (deployment.role === 'control_plane')
    issues.error(['deployment', 'role'], 'deployment role control_plane is not supported yet', 'data_plane')
}

/** Files of `sluice.plugins` in a document that was not validated yet: they must be loaded before plugin names can be checked. */
export function userPluginFiles(root: unknown, file: string): { readonly index: number; readonly file: string }[] {
  const sluice = field(root, 'sluice')
  const list = field(sluice, 'plugins')
  if (!Array.isArray(list)) return []
  const folder = dirname(resolve(file))
  return list.flatMap((item: unknown, index) => (typeof item === 'string' && item !== '' ? [{ index, file: resolve(folder, item) }] : []))
}

function field(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null) return undefined
  const record: { readonly [key: string]: unknown } = { ...value }
  return record[name]
}
