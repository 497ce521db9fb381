/** `ssls`: certificates by server name. What comes out is what TLS listeners serve. */
import type { SslResource } from '../schema/route.js'
import { type DocumentPath, formatPath, type IssueList } from './load-issue.js'
import { pairProblem, validityWarning } from './validate-certificates.js'
import type { ServerCertificate } from './validate-process.js'

/** Checks all certificates and returns those in use. `nowMs` is the wall clock, for warnings about expiry. */
export function checkSsls(
  ssls: readonly { value: SslResource; path: DocumentPath }[],
  nowMs: number,
  issues: IssueList,
): ServerCertificate[] {
  const found: ServerCertificate[] = []
  const owners = new Map<string, DocumentPath>()
  for (const { value, path } of ssls) {
    const names = checkNames(value, path, issues)
    checkUnsupported(value, path, issues)
    const problem = pairProblem(value.cert, value.key)
    if (problem !== null) issues.error([...path, problem.at], problem.message, 'a PEM certificate with its private key')
    const warning = validityWarning(value.cert, nowMs)
    if (warning !== null) issues.warn([...path, 'cert'], warning, 'a valid certificate')
    if (value.status === 0) continue
    for (const name of names) {
      const owner = owners.get(name)
      if (owner !== undefined)
        issues.error(path, `server name ${name} is there twice`, `another certificate than that of ${formatPath(owner)}`)
      owners.set(name, path)
    }
    found.push({ names, cert: value.cert, key: value.key })
  }
  return found
}

function checkNames(ssl: SslResource, path: DocumentPath, issues: IssueList): string[] {
  if (ssl.sni !== undefined && ssl.snis !== undefined) issues.error(path, 'only one of sni or snis is allowed', 'sni or snis')
  if (ssl.sni === undefined && ssl.snis === undefined && ssl.type !== 'client')
    issues.error(path, 'property "sni" is required', 'sni or snis')
  return [...(ssl.snis ?? (ssl.sni === undefined ? [] : [ssl.sni]))].map((name) => name.toLowerCase())
}

function checkUnsupported(ssl: SslResource, path: DocumentPath, issues: IssueList): void {
  if (ssl.type === 'client') issues.error([...path, 'type'], 'ssl type client is not supported yet', 'server')
  for (const name of ['certs', 'keys', 'client', 'ssl_protocols'] as const) {
    if (ssl[name] !== undefined) issues.error([...path, name], `ssl option ${name} is not supported yet`, `no ${name}`, { atKey: true })
  }
}
