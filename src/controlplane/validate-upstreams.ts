/** Rules for upstreams that a schema cannot say, wherever the upstream stands. What is not built yet is refused by name. */
import type { UpstreamResource } from '../schema/upstream.js'
import { readNodes } from './compile-nodes.js'
import type { DocumentPath, IssueList } from './load-issue.js'
import { checkBalancing } from './validate-balancing.js'
import { pairProblem, parseCertificate } from './validate-certificates.js'
import { checkHealth } from './validate-health.js'
import { checkResilience } from './validate-resilience.js'

export function checkUpstream(value: UpstreamResource, path: DocumentPath, issues: IssueList): void {
  checkUnsupported(value, path, issues)
  checkBalancing(value, path, issues)
  checkHealth(value, path, issues)
  checkResilience(value, path, issues)
  checkNodes(value, path, issues)
  checkHost(value, path, issues)
  checkTls(value, path, issues)
}

/** The scheme that nodes are reached with; others were refused. */
export function plainScheme(value: UpstreamResource): 'http' | 'https' {
  return value.scheme === 'https' ? 'https' : 'http'
}

function checkUnsupported(value: UpstreamResource, path: DocumentPath, issues: IssueList): void {
  const scheme = value.scheme ?? 'http'
  if (scheme !== 'http' && scheme !== 'https')
    issues.error([...path, 'scheme'], `upstream scheme ${scheme} is not supported yet`, 'http or https')
  const instead: [keyof UpstreamResource, string][] = [
    ['service_name', 'nodes'],
    ['discovery_type', 'nodes'],
    ['discovery_args', 'nodes'],
  ]
  for (const [name, right] of instead) {
    if (value[name] !== undefined) issues.error([...path, name], `upstream option ${name} is not supported yet`, right, { atKey: true })
  }
  if (value.tls?.client_cert_id !== undefined) {
    issues.error(
      [...path, 'tls', 'client_cert_id'],
      'upstream option tls.client_cert_id is not supported yet',
      'client_cert and client_key',
      { atKey: true },
    )
  }
}

function checkNodes(value: UpstreamResource, path: DocumentPath, issues: IssueList): void {
  if (value.nodes === undefined) {
    if (value.service_name === undefined)
      issues.error(path, 'property "nodes" is required', 'a map "host:port": weight, or a list of {host, port, weight}')
    return
  }
  const read = readNodes(value.nodes, plainScheme(value))
  for (const problem of read.problems) {
    issues.error([...path, 'nodes', ...problem.path], problem.message, problem.expected, { atKey: !Array.isArray(value.nodes) })
  }
  if (read.nodes.length > 0 && read.nodes.every((node) => node.weight === 0)) {
    issues.warn([...path, 'nodes'], 'all nodes have weight 0, so every request is answered 503', 'a weight above 0')
  }
}

function checkHost(value: UpstreamResource, path: DocumentPath, issues: IssueList): void {
  if (value.pass_host === 'rewrite' && value.upstream_host === undefined) {
    issues.error([...path, 'pass_host'], "`upstream_host` can't be empty when `pass_host` is `rewrite`", 'an upstream_host')
  } else if (value.upstream_host !== undefined && value.pass_host !== 'rewrite') {
    issues.warn([...path, 'upstream_host'], 'upstream_host has no effect', 'pass_host: rewrite', { atKey: true })
  }
}

function checkTls(value: UpstreamResource, path: DocumentPath, issues: IssueList): void {
  const tls = value.tls
  if (tls === undefined) return
  const at = (name: string): DocumentPath => [...path, 'tls', name]
  if (value.scheme !== 'https') issues.warn([...path, 'tls'], 'tls has no effect without scheme https', 'scheme: https', { atKey: true })
  if (tls.client_cert !== undefined && tls.client_key !== undefined) {
    const problem = pairProblem(tls.client_cert, tls.client_key)
    if (problem !== null) issues.error(at(`client_${problem.at}`), problem.message, 'a PEM certificate with its private key')
  } else if (tls.client_cert !== undefined) {
    issues.error([...path, 'tls'], 'property "client_key" is required', 'the key of client_cert')
  } else if (tls.client_key !== undefined) {
    issues.error([...path, 'tls'], 'property "client_cert" is required', 'the certificate of client_key')
  }
  if (tls.ca !== undefined && parseCertificate(tls.ca) === null) {
    issues.error(at('ca'), 'failed to parse cert: it is not a PEM certificate', 'PEM certificates')
  }
}
