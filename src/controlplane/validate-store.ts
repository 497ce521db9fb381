/** Where the resources are kept, from `sluice.store` and `deployment`. */
import { dirname, resolve } from 'node:path'
import type { EtcdConfig, RedisConfig, StoreConfig } from '../schema/process.js'
import { parseRedisUrl, redisUrlDefaults, redisUrlForm } from '../schema/redis-url.js'
import type { DocumentPath, IssueList } from './load-issue.js'
import { milliseconds, readPem, type Sections } from './validate-process.js'

type StoreType = StoreConfig['kind']

/** Options of `sluice.store` that not every type takes. */
const takes: { readonly [option: string]: readonly StoreType[] } = { redis: ['redis'], name: ['redis'], copy: ['redis', 'etcd'] }
const path: DocumentPath = ['sluice', 'store']
const hostForm = /^https?:\/\/[^/@?#\s]+\/?$/
/** Those of the reference gateway. */
const defaultKeyring = ['qeddd145sfvddff3', 'edd1c9f0985e76a2']

/** `shared`: what `sluice.redis` says. What is wrong is added to `issues`. */
export function storeConfig(sections: Sections, file: string, shared: RedisConfig | null, issues: IssueList): StoreConfig {
  const { sluice, deployment } = sections
  const own = sluice.store ?? {}
  const type = own.type ?? typeByDeployment(deployment)
  for (const [name, types] of Object.entries(takes)) {
    if (Object.hasOwn(own, name) && !types.includes(type))
      issues.error([...path, name], `the store ${type} takes no ${name}`, `no ${name}, or the type ${types.join(' or ')}`)
  }
  const copyFile = resolve(dirname(resolve(file)), own.copy ?? `${resolve(file)}.copy`)
  switch (type) {
    case 'file':
      return { kind: 'file' }
    case 'redis': {
      const redis = redisOf(own.redis, shared, issues)
      return { kind: 'redis', redis, isOwnRedis: own.redis !== undefined, name: own.name ?? 'default', copyFile }
    }
    case 'etcd': {
      const etcd = etcdOf(sections, file, issues)
      return etcd === null ? { kind: 'file' } : { kind: 'etcd', etcd, copyFile }
    }
  }
}

function redisOf(url: string | undefined, shared: RedisConfig | null, issues: IssueList): RedisConfig | null {
  if (url === undefined) return shared
  const parsed = parseRedisUrl(url, redisUrlDefaults)
  if (typeof parsed !== 'string') return parsed
  issues.error([...path, 'redis'], parsed, redisUrlForm)
  return null
}

function etcdOf({ deployment, apisix }: Sections, file: string, issues: IssueList): EtcdConfig | null {
  const own = deployment.etcd
  if (own === undefined) {
    issues.error(['deployment'], 'property "etcd" is required, because resources come from etcd', 'etcd: {host: [http://127.0.0.1:2379]}')
    return null
  }
  const folder = dirname(resolve(file))
  const pem = (name: 'cert' | 'key' | 'ca'): string | null => {
    const given = own.tls?.[name]
    if (given === undefined) return null
    const found = resolve(folder, given)
    readPem(found, ['deployment', 'etcd', 'tls', name], issues)
    return found
  }
  if ((own.tls?.cert === undefined) !== (own.tls?.key === undefined))
    issues.error(['deployment', 'etcd', 'tls'], 'cert and key belong together', 'both, or neither')
  if (own.password !== undefined && own.user === undefined)
    issues.error(['deployment', 'etcd', 'password'], 'property "user" is required', 'the user of the password')
  for (const [index, host] of own.host.entries()) {
    // Never repeated: it may hold a password.
    if (!hostForm.test(host))
      issues.error(
        ['deployment', 'etcd', 'host', index],
        'this is no URL of etcd',
        'http://host:port or https://host:port; user and password have fields of their own',
      )
  }
  const { keyring = defaultKeyring, enable_encrypt_fields = true } = apisix.data_encryption ?? {}
  return {
    hosts: own.host.map((host) => host.replace(/\/$/, '')),
    prefix: own.prefix ?? '/apisix',
    timeoutMs: milliseconds(own.timeout ?? 5),
    user: own.user ?? null,
    password: own.password ?? null,
    tls: {
      verify: own.tls?.verify ?? true,
      serverName: own.tls?.sni ?? null,
      certFile: pem('cert'),
      keyFile: pem('key'),
      caFile: pem('ca'),
    },
    keyring: typeof keyring === 'string' ? [keyring] : keyring,
    encryptFields: enable_encrypt_fields,
  }
}

/** As the reference gateway: the provider of the role, which is etcd by default; without anything about etcd, the file. */
function typeByDeployment(deployment: unknown): 'file' | 'etcd' {
  const role = field(deployment, 'role') === 'data_plane' ? 'role_data_plane' : 'role_traditional'
  const providers = ['role_data_plane', 'role_traditional'].map((name) => field(field(deployment, name), 'config_provider'))
  const given =
    field(field(deployment, role), 'config_provider') ?? (field(deployment, 'role') === undefined ? providers.find(Boolean) : undefined)
  if (given !== undefined) return given === 'etcd' ? 'etcd' : 'file'
  return field(deployment, 'etcd') === undefined ? 'file' : 'etcd'
}

/** True when a configuration that has not been validated yet keeps its resources elsewhere than in the file. */
export function asksForSharedStore(root: unknown): boolean {
  const type = field(field(field(root, 'sluice'), 'store'), 'type') ?? typeByDeployment(field(root, 'deployment'))
  return type !== 'file'
}

function field(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null) return undefined
  const inner: unknown = Reflect.get(value, name)
  return inner === null ? undefined : inner
}
