/** Settings of the admin server, from `sluice.admin` and `deployment.admin`; what `sluice` says wins. */
import { dirname, resolve } from 'node:path'
import type { AdminConfig } from '../schema/process.js'
import type { DocumentPath, IssueList } from './load-issue.js'
import { pairProblem } from './validate-certificates.js'
import { readPem, type Sections, socketAddress } from './validate-process.js'
import { checkAddress } from './validate-routes.js'

/** What holds for the admin server of a gateway with this configuration file, when nothing else is said. */
export function adminDefaults(file: string): AdminConfig {
  const base = resolve(file)
  return {
    host: '127.0.0.1',
    port: 9180,
    keys: [],
    stateFile: `${base}.journal`,
    keyFile: `${base}.admin-key`,
    allow: [],
    hosts: [],
    origins: [],
    tls: null,
  }
}

/** Null = there is no admin server. What is wrong is added to `issues`. */
export function adminConfig({ sluice, deployment }: Sections, file: string, issues: IssueList): AdminConfig | null {
  const own = sluice.admin
  const theirs = deployment.admin
  if (own === undefined && theirs === undefined) return null
  const defaults = adminDefaults(file)
  const folder = dirname(resolve(file))
  const allow = own?.allow ?? theirs?.allow_admin ?? []
  const allowPath: DocumentPath = own?.allow === undefined ? ['deployment', 'admin', 'allow_admin'] : ['sluice', 'admin', 'allow']
  for (const [index, address] of allow.entries()) checkAddress(address, [...allowPath, index], issues)
  const listen = theirs?.admin_listen
  const fallback = { host: listen?.ip ?? defaults.host, port: listen?.port ?? defaults.port }
  const address = own?.listen === undefined ? fallback : socketAddress(own.listen, defaults.host, ['sluice', 'admin', 'listen'], issues)
  return {
    ...defaults,
    ...address,
    keys: keys({ sluice, deployment }, issues),
    ...(own?.state_file !== undefined && { stateFile: resolve(folder, own.state_file) }),
    allow,
    hosts: (own?.hosts ?? []).map((host) => host.toLowerCase()),
    origins: own?.origins ?? (theirs?.enable_admin_cors === true ? ['*'] : []),
    tls: tls({ sluice, deployment }, folder, issues),
  }
}

function keys({ sluice, deployment }: Pick<Sections, 'sluice' | 'deployment'>, issues: IssueList): AdminConfig['keys'] {
  const own = sluice.admin?.keys
  const list = (own ?? deployment.admin?.admin_key ?? []).map(({ name, key, role }) => ({ name, key, role: role ?? ('admin' as const) }))
  const path: DocumentPath = own === undefined ? ['deployment', 'admin', 'admin_key'] : ['sluice', 'admin', 'keys']
  for (const [index, item] of list.entries()) {
    const first = list.findIndex((other) => other.key === item.key)
    if (first < index) issues.error([...path, index, 'key'], `the same key as that of entry ${first + 1}`, 'a key of its own')
  }
  return list
}

function tls({ sluice, deployment }: Pick<Sections, 'sluice' | 'deployment'>, folder: string, issues: IssueList): AdminConfig['tls'] {
  const theirs = deployment.admin?.https_admin === true ? (deployment.admin.admin_api_mtls ?? {}) : undefined
  const own = sluice.admin?.tls
  if (own === undefined && theirs === undefined && Object.keys(deployment.admin?.admin_api_mtls ?? {}).length > 0) {
    const message = 'admin_api_mtls has no effect without https_admin: the admin server takes keys in clear'
    issues.warn(['deployment', 'admin', 'admin_api_mtls'], message, 'https_admin: true', { atKey: true })
  }
  if (own === undefined && theirs === undefined) return null
  const path: DocumentPath = own === undefined ? ['deployment', 'admin', 'admin_api_mtls'] : ['sluice', 'admin', 'tls']
  const names = own === undefined ? ['admin_ssl_cert', 'admin_ssl_cert_key', 'admin_ssl_ca_cert'] : ['cert', 'key', 'client_ca']
  const [certName = '', keyName = '', caName = ''] = names
  const cert = own?.cert ?? theirs?.admin_ssl_cert ?? ''
  const key = own?.key ?? theirs?.admin_ssl_cert_key ?? ''
  const ca = own?.client_ca ?? theirs?.admin_ssl_ca_cert ?? ''
  for (const [name, value] of [
    [certName, cert],
    [keyName, key],
  ] as const) {
    if (value === '') issues.error(path, `property "${name}" is required`, 'a PEM file')
  }
  if (cert === '' || key === '') return null
  const files = { certFile: resolve(folder, cert), keyFile: resolve(folder, key), clientCaFile: ca === '' ? null : resolve(folder, ca) }
  const certText = readPem(files.certFile, [...path, certName], issues)
  const keyText = readPem(files.keyFile, [...path, keyName], issues)
  if (files.clientCaFile !== null) readPem(files.clientCaFile, [...path, caName], issues)
  if (certText === null || keyText === null) return null
  const problem = pairProblem(certText, keyText)
  if (problem !== null)
    issues.error([...path, problem.at === 'cert' ? certName : keyName], problem.message, 'a PEM certificate with its key')
  return files
}

/** The journal that belongs to a configuration which has not been validated yet. */
export function stateFileOf(root: unknown, file: string): string {
  const admin = field(field(root, 'sluice'), 'admin')
  const own = field(admin, 'state_file')
  return typeof own === 'string' && own !== '' ? resolve(dirname(resolve(file)), own) : adminDefaults(file).stateFile
}

/** True when a configuration that has not been validated yet asks for an admin server. */
export function asksForAdmin(root: unknown): boolean {
  return field(field(root, 'sluice'), 'admin') !== undefined || field(field(root, 'deployment'), 'admin') !== undefined
}

function field(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null) return undefined
  const inner: unknown = Reflect.get(value, name)
  return inner === null ? undefined : inner
}
