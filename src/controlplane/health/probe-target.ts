/** What is probed: the nodes of upstreams with active checks, each with its request made once. */
import { isIPv6 } from 'node:net'
import { createSecureContext, type SecureContext } from 'node:tls'
import type { CompiledActiveCheck, CompiledNode, CompiledUpstream } from '../../schema/compiled.js'
import type { ProbeSpec } from './probe.js'

/** An upstream whose nodes are probed. */
export interface ProbedUpstream {
  readonly key: string
  readonly check: CompiledActiveCheck
  /** Statuses that are a success, and those that are a failure; others are ignored. */
  readonly healthy: ReadonlySet<number>
  readonly unhealthy: ReadonlySet<number>
  readonly targets: readonly ProbeTarget[]
}

export interface ProbeTarget {
  /** Stable over reloads: upstream, address, port and host of the node. */
  readonly key: string
  readonly node: CompiledNode
  /** In shared/node-cells. */
  readonly slot: number
  readonly spec: ProbeSpec
}

/** Null when the upstream has no active checks. */
export function probedUpstream(upstream: CompiledUpstream): ProbedUpstream | null {
  const check = upstream.checks?.active
  if (check === undefined) return null
  const context = check.type === 'https' ? secureContext(upstream) : null
  // A node that stands twice in the list is one node, and one without a slot has no health.
  const nodes = new Map(upstream.nodes.filter((node) => node.address !== '' && (node.slot ?? 0) > 0).map((node) => [node.slot, node]))
  return {
    key: upstream.key,
    check,
    healthy: new Set(check.limits.healthyStatuses),
    unhealthy: new Set(check.limits.unhealthyStatuses),
    targets: [...nodes.values()].map((node) => target(upstream, check, node, context)),
  }
}

function target(upstream: CompiledUpstream, check: CompiledActiveCheck, node: CompiledNode, context: SecureContext | null): ProbeTarget {
  const port = check.port === 0 ? node.port : check.port
  return {
    key: `${upstream.key}\0${node.address}|${node.port}|${node.host}`,
    node,
    slot: node.slot ?? 0,
    spec: {
      address: node.address,
      port,
      request: check.type === 'tcp' ? null : buildRequest(check, hostField(check, node, port)),
      tls: context === null ? null : { context, serverName: check.host === '' ? node.host : check.host, verify: check.verify },
      timeoutMs: check.timeoutMs,
    },
  }
}

/** The configured host as it is; that of the node as a client would send it: with a port that is not the usual one. */
function hostField(check: CompiledActiveCheck, node: CompiledNode, port: number): string {
  if (check.host !== '') return check.host
  const host = isIPv6(node.host) ? `[${node.host}]` : node.host
  return port === 0 || port === (check.type === 'https' ? 443 : 80) ? host : `${host}:${port}`
}

function buildRequest(check: CompiledActiveCheck, host: string): Buffer {
  const own = new Set(check.headers.map((line) => line.slice(0, line.indexOf(':')).toLowerCase()))
  const defaults: [string, string][] = [
    ['Host', host],
    ['User-Agent', 'sluice-health-check'],
    ['Accept', '*/*'],
    ['Connection', 'close'],
  ]
  const bodyBytes = Buffer.byteLength(check.body)
  if (bodyBytes > 0) defaults.push(['Content-Length', String(bodyBytes)])
  const lines = [
    `${check.method} ${check.path} HTTP/1.1`,
    ...defaults.filter(([name]) => !own.has(name.toLowerCase())).map(([name, value]) => `${name}: ${value}`),
    ...check.headers,
  ]
  return Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), Buffer.from(check.body)])
}

function secureContext({ tls }: CompiledUpstream): SecureContext {
  return createSecureContext({
    ...(tls !== null && tls.ca !== '' && { ca: tls.ca }),
    ...(tls !== null && tls.clientCert !== '' && { cert: tls.clientCert, key: tls.clientKey }),
  })
}
