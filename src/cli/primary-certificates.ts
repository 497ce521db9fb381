/** The primary's part in certificates by server name: which ones workers are told of, and which have to wait for a restart. */
import { needsRestart } from '../controlplane/reload.js'
import type { NamedCertificate, ProcessConfig } from '../schema/process.js'

export class PrimaryCertificates {
  /** What listeners of the native build serve: the first certificate of each name since the start. */
  private readonly served = new Map<string, string>()
  private last: string

  constructor(private readonly first: ProcessConfig) {
    const certificates = certificatesOf(first)
    this.last = JSON.stringify(certificates)
    this.keep(certificates)
  }

  /** The certificates that workers have to be told, before the snapshot; null when they have them. */
  follow(process: ProcessConfig): readonly NamedCertificate[] | null {
    const certificates = certificatesOf(process)
    const text = JSON.stringify(certificates)
    if (text === this.last) return null
    this.last = text
    this.keep(certificates)
    return certificates
  }

  /** What of these settings takes effect at the next start only, in words; empty = nothing. */
  atNextStart(process: ProcessConfig): string[] {
    return [...needsRestart(this.first, process), ...this.waiting(process)]
  }

  private waiting(process: ProcessConfig): string[] {
    if (!process.listeners.some(({ tls, node }) => tls !== null && node === undefined)) return []
    const next = new Map(certificatesOf(process).flatMap((one) => one.names.map((name) => [name, one.cert + one.key] as const)))
    const names = [...this.served].filter(([name, text]) => next.get(name) !== text).map(([name]) => name)
    return names.length === 0
      ? []
      : [`the certificates of ${names.slice(0, NAMES_MAX).join(' and ')}${names.length > NAMES_MAX ? ' and others' : ''}`]
  }

  private keep(certificates: readonly NamedCertificate[]): void {
    for (const { names, cert, key } of certificates) for (const name of names) if (!this.served.has(name)) this.served.set(name, cert + key)
  }
}

const NAMES_MAX = 5

/** The same for all TLS listeners. */
function certificatesOf(config: ProcessConfig): readonly NamedCertificate[] {
  return config.listeners.find(({ tls }) => tls !== null)?.tls?.byServerName ?? []
}
