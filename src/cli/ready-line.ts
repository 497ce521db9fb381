/** The one line on stdout that says the gateway is ready and where; scripts read it, so its shape is fixed. */
import type { ListenerConfig, SocketAddress } from '../schema/process.js'
import { formatAddress } from './address.js'

export interface ReadyFacts {
  readonly version: string
  /** With the real ports. */
  readonly listeners: readonly ListenerConfig[]
  readonly admin: SocketAddress | null
  readonly isAdminTls?: boolean
  readonly metrics: SocketAddress | null
  readonly workers: number
  readonly accept: 'primary' | 'kernel'
  readonly bindingVersion: string
}

/** `sluice 0.1.0 ready: http://127.0.0.1:9080, admin http://…, metrics http://…, workers 2, accept kernel, uWebSockets.js 1.5.0` */
export function readyLine(facts: ReadyFacts): string {
  const parts = facts.listeners.map((listener) => `${listener.tls === null ? 'http' : 'https'}://${formatAddress(listener)}`)
  if (facts.admin !== null) parts.push(`admin ${facts.isAdminTls === true ? 'https' : 'http'}://${formatAddress(facts.admin)}`)
  if (facts.metrics !== null) parts.push(`metrics http://${formatAddress(facts.metrics)}`)
  parts.push(`workers ${facts.workers}`, `accept ${facts.accept}`, `uWebSockets.js ${facts.bindingVersion}`)
  return `sluice ${facts.version} ready: ${parts.join(', ')}`
}
