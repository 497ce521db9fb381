/** Where the resources are kept, from `sluice.store`. */
import { dirname, resolve } from 'node:path'
import type { RedisConfig, StoreConfig } from '../schema/process.js'
import { parseRedisUrl, redisUrlDefaults, redisUrlForm } from '../schema/redis-url.js'
import type { DocumentPath, IssueList } from './load-issue.js'
import type { Sections } from './validate-process.js'

/** `shared`: what `sluice.redis` says. What is wrong is added to `issues`. */
export function storeConfig({ sluice }: Sections, file: string, shared: RedisConfig | null, issues: IssueList): StoreConfig {
  const own = sluice.store ?? {}
  const path: DocumentPath = ['sluice', 'store']
  const type = own.type ?? 'file'
  for (const name of ['redis', 'name', 'copy'] as const) {
    if (own[name] !== undefined && type === 'file')
      issues.error([...path, name], `the store ${type} takes no ${name}`, `no ${name}, or another type`)
  }
  if (type === 'file') return { kind: 'file' }
  const copyFile = resolve(dirname(resolve(file)), own.copy ?? `${resolve(file)}.copy`)
  return {
    kind: 'redis',
    redis: redisOf(own.redis, shared, path, issues),
    isOwnRedis: own.redis !== undefined,
    name: own.name ?? 'default',
    copyFile,
  }
}

function redisOf(url: string | undefined, shared: RedisConfig | null, path: DocumentPath, issues: IssueList): RedisConfig | null {
  if (url === undefined) return shared
  const parsed = parseRedisUrl(url, redisUrlDefaults)
  if (typeof parsed !== 'string') return parsed
  issues.error([...path, 'redis'], parsed, redisUrlForm)
  return null
}

/** True when a configuration that has not been validated yet keeps its resources elsewhere than in the file. */
export function asksForSharedStore(root: unknown): boolean {
  const type = field(field(field(root, 'sluice'), 'store'), 'type')
  return type !== undefined && type !== 'file'
}

function field(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null) return undefined
  const inner: unknown = Reflect.get(value, name)
  return inner === null ? undefined : inner
}
