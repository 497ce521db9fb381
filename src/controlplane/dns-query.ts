/**
 * One resolution of one name: A and AAAA from the resolvers, and the hosts file where these have nothing.
 *
 * A family that fails is told apart from one that has no records: an outage must not look like an answer.
 */
import { Resolver } from 'node:dns/promises'
import { UsageError } from '../base/errors.js'
import type { DnsConfig } from '../schema/process.js'

export interface Addresses {
  readonly v4: readonly string[]
  readonly v6: readonly string[]
}

export interface Resolution {
  /** Addresses by family; null = this family could not be asked, what was known of it still stands. */
  readonly v4: readonly string[] | null
  readonly v6: readonly string[] | null
  /** Smallest TTL of the records, milliseconds. */
  readonly ttlMs: number
}

/** The system's way (hosts file): `dns.promises.lookup` with `all`. Rejects when the name is unknown. */
export type Lookup = (name: string) => Promise<readonly { readonly address: string; readonly family: number }[]>

/** Resolver answers that mean "there is no such record", as opposed to "I could not find out". */
const absentCodes: ReadonlySet<string> = new Set(['ENODATA', 'ENOTFOUND'])

interface Family {
  readonly addresses: readonly string[] | null
  readonly ttlMs: number
  readonly error: string
}

function errorCode(error: unknown): string {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code
  return String(error)
}

async function readFamily(records: Promise<readonly { readonly address: string; readonly ttl: number }[]>): Promise<Family> {
  try {
    const found = await records
    const ttlMs = 1000 * Math.min(...found.map((record) => record.ttl))
    // Sorted, because resolvers rotate their answers, and an order that changes is not a change of the nodes.
    return { addresses: [...new Set(found.map((record) => record.address))].sort(), ttlMs, error: '' }
  } catch (error) {
    const code = errorCode(error)
    return { addresses: absentCodes.has(code) ? [] : null, ttlMs: Number.POSITIVE_INFINITY, error: code }
  }
}

function setServers(resolver: Resolver, servers: readonly string[]): void {
  try {
    resolver.setServers(servers)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new UsageError(`sluice.dns.servers: ${reason}; write addresses as 10.0.0.2, 10.0.0.2:5353 or [fd00::2]:53`)
  }
}

/** Asks resolvers; reusable and without state of its own. */
export class DnsQuery {
  private readonly resolver: Resolver

  /** Throws a UsageError when an entry of `servers` is not `ip` or `ip:port`. */
  constructor(
    config: Pick<DnsConfig, 'servers' | 'timeoutMs'>,
    private readonly lookup: Lookup,
  ) {
    this.resolver = new Resolver({ timeout: config.timeoutMs, tries: 1 })
    if (config.servers.length > 0) setServers(this.resolver, config.servers)
  }

  /** What the resolvers say. Throws an Error with their code when neither family has an address. */
  async askResolvers(name: string): Promise<Resolution> {
    const [v4, v6] = await Promise.all([
      readFamily(this.resolver.resolve4(name, { ttl: true })),
      readFamily(this.resolver.resolve6(name, { ttl: true })),
    ])
    if ((v4.addresses ?? []).length + (v6.addresses ?? []).length === 0) {
      throw new Error(v4.addresses === null ? v4.error : v6.addresses === null ? v6.error : v4.error)
    }
    return { v4: v4.addresses, v6: v6.addresses, ttlMs: Math.min(v4.ttlMs, v6.ttlMs) }
  }

  /** What the system says, which includes the hosts file. Rejects when it knows nothing. */
  async askSystem(name: string): Promise<Addresses> {
    const found = await this.lookup(name)
    const family = (number: number) => [...new Set(found.filter((entry) => entry.family === number).map((entry) => entry.address))].sort()
    if (found.length === 0) throw new Error('ENOTFOUND')
    return { v4: family(4), v6: family(6) }
  }

  /** Ends what is under way; its promises reject. */
  cancel(): void {
    this.resolver.cancel()
  }
}
