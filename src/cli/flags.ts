/** The flags of `sluice start` and how they combine with the file: flags beat the file, the file beats defaults. */
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { UsageError } from '../base/errors.js'
import { adminDefaults } from '../controlplane/validate-admin.js'
import type { AcceptMode, LogConfig, ProcessConfig, RedisConfig, SocketAddress } from '../schema/process.js'

export interface StartFlags {
  /** Absolute path of the configuration. */
  readonly file: string
  readonly workers?: number
  /** Replaces the plain listeners of the file; TLS listeners stay. */
  readonly listen: readonly SocketAddress[]
  readonly admin?: SocketAddress
  readonly metrics?: SocketAddress
  readonly accept?: AcceptMode
  readonly pidFile?: string
  readonly drainTimeoutMs?: number
  readonly logLevel?: LogConfig['level']
  readonly redis?: RedisConfig
  /** Run the demo upstreams inside this process. */
  readonly demo: boolean
  /** Package name of the uWebSockets.js build. */
  readonly binding: string
}

/** The flags of commands that only look at a file. */
export function flagsFor(file: string): StartFlags {
  return { file: resolve(file), listen: [], demo: false, binding: 'uWebSockets.js' }
}

/** The process configuration with the flags laid over it. `environmentKey`: an admin key from SLUICE_ADMIN_KEY, or undefined. */
export function applyFlags(config: ProcessConfig, flags: StartFlags, environmentKey?: string): ProcessConfig {
  const listeners =
    flags.listen.length === 0
      ? config.listeners
      : [...flags.listen.map((address) => ({ ...address, tls: null })), ...config.listeners.filter((listener) => listener.tls !== null)]
  const extraKeys = environmentKey ? [{ name: 'SLUICE_ADMIN_KEY', key: environmentKey, role: 'admin' as const }] : []
  const adminAddress = flags.admin ?? config.admin
  return {
    ...config,
    workers: flags.workers ?? config.workers,
    accept: flags.accept ?? config.accept,
    listeners,
    admin: adminAddress && {
      ...(config.admin ?? adminDefaults(flags.file)),
      host: adminAddress.host,
      port: adminAddress.port,
      keys: [...(config.admin?.keys ?? []), ...extraKeys],
    },
    metrics: flags.metrics ?? config.metrics,
    drainTimeoutMs: flags.drainTimeoutMs ?? config.drainTimeoutMs,
    pidFile: flags.pidFile ?? config.pidFile,
    redis: flags.redis ?? config.redis,
    store:
      config.store.kind === 'redis' && !config.store.isOwnRedis ? { ...config.store, redis: flags.redis ?? config.redis } : config.store,
    log: { ...config.log, level: flags.logLevel ?? config.log.level },
  }
}

/** The file to load: the one named, else that of KONG_DECLARATIVE_CONFIG, else ./sluice.yaml, else ./apisix.yaml. `fallback` is used when there is none (demo). */
export function chooseFile(named: string | undefined, fallback: string | null, folder = process.cwd(), env = process.env): string {
  if (named !== undefined) return resolve(folder, named)
  const kong = env['KONG_DECLARATIVE_CONFIG']
  if (kong !== undefined && kong !== '') return resolve(folder, kong)
  for (const name of ['sluice.yaml', 'apisix.yaml']) {
    const file = resolve(folder, name)
    if (existsSync(file)) return file
  }
  if (fallback !== null) return fallback
  throw new UsageError(`no configuration: neither sluice.yaml nor apisix.yaml is in ${folder}; name a file with -c FILE, or try --demo`)
}
