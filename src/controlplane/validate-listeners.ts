/** Listeners in the vocabulary of the reference gateway (`apisix.node_listen`, `apisix.ssl.listen`), and the default one. */
import type { ApisixSection } from '../schema/gateway-section.js'
import type { ListenerConfig } from '../schema/process.js'
import type { DocumentPath, IssueList } from './load-issue.js'
import type { ServerCertificate } from './validate-process.js'

export function gatewayListeners(apisix: ApisixSection, byServerName: readonly ServerCertificate[], issues: IssueList): ListenerConfig[] {
  const plain = apisix.node_listen ?? 9080
  const found: ListenerConfig[] = []
  for (const [index, item] of (Array.isArray(plain) ? plain : [plain]).entries()) {
    found.push({ ...address(item, 9080, ['apisix', 'node_listen', index], issues), tls: null })
  }
  const ssl = apisix.ssl
  if (ssl === undefined || ssl.enable === false) return found
  if (byServerName.length === 0) issues.error(['apisix', 'ssl'], 'the TLS listener has no certificate', 'an entry of ssls', { atKey: true })
  for (const [index, item] of (ssl.listen ?? [9443]).entries()) {
    found.push({ ...address(item, 9443, ['apisix', 'ssl', 'listen', index], issues), tls: { certFile: '', keyFile: '', byServerName } })
  }
  return found
}

/** Which implementation serves a listener of `sluice.listeners`; nothing for the default one. */
export function listenerKind(
  item: { readonly kind?: 'tcp' | 'uws' | 'node'; readonly http2?: boolean; readonly tls?: object; readonly proxy_protocol?: boolean },
  path: DocumentPath,
  issues: IssueList,
): Pick<ListenerConfig, 'node' | 'transport'> {
  if (item.kind === 'node' && item.proxy_protocol === true) {
    issues.error([...path, 'proxy_protocol'], 'a listener of kind node does not read the PROXY protocol', 'kind: uws, or false')
  }
  if (item.kind === 'node') return { node: { http2: item.http2 ?? item.tls !== undefined } }
  if (item.http2 === true)
    issues.error([...path, 'http2'], `a listener of kind ${item.kind ?? 'uws'} speaks HTTP/1.1 only`, 'kind: node beside it, or false')
  if (item.kind !== 'tcp') return item.kind === undefined ? {} : { transport: item.kind }
  if (item.tls !== undefined) issues.error([...path, 'kind'], 'a listener of kind tcp has no TLS', 'kind: uws, or node')
  if (item.proxy_protocol === true) {
    issues.error([...path, 'proxy_protocol'], 'a listener of kind tcp does not read the PROXY protocol', 'kind: uws, or false')
  }
  return { transport: 'tcp' }
}

type Listen = number | { readonly ip?: string; readonly port?: number; readonly enable_http2?: boolean }

function address(item: Listen, fallbackPort: number, path: DocumentPath, issues: IssueList): { host: string; port: number } {
  if (typeof item === 'number') return { host: '0.0.0.0', port: item }
  if (item.enable_http2 === true)
    issues.error(
      [...path, 'enable_http2'],
      'enable_http2 is not supported yet',
      'false, or an entry of sluice.listeners with kind: node and http2: true',
    )
  return { host: (item.ip ?? '0.0.0.0').replace(/^\[(.*)\]$/, '$1'), port: item.port ?? fallbackPort }
}
