/** Upstreams that change while the rest of the configuration stays: addresses, slots, and those who watch them. */
import { goneUpstream } from '../controlplane/compile-upstreams.js'
import type { DnsResolver } from '../controlplane/dns.js'
import type { CompiledConfig, CompiledUpstream } from '../schema/compiled.js'
import type { PrimaryConcurrency } from './primary-concurrency.js'
import type { PrimaryHealth } from './primary-health.js'
import type { PrimaryNodes } from './primary-nodes.js'

export interface UpstreamWatchers {
  readonly resolver: DnsResolver
  readonly nodes: PrimaryNodes
  readonly health: PrimaryHealth
  readonly concurrency: PrimaryConcurrency
}

/**
 * Puts upstreams by their index (null = there is none any more) into `resolved`, the configuration that serves; their names are known.
 * Returns them with addresses and slots, together with others whose slots are different for it.
 */
export function placeUpstreams(
  changed: ReadonlyMap<number, CompiledUpstream | null>,
  resolved: CompiledConfig,
  { resolver, nodes, health, concurrency }: UpstreamWatchers,
): ReadonlyMap<number, CompiledUpstream | null> {
  if (changed.size === 0) return changed
  const before = [...changed.keys()].map((index) => resolved.upstreams[index] ?? null)
  const expanded = resolver.replace(new Map([...changed].map(([index, upstream]) => [index, upstream ?? goneUpstream])))
  const now = new Map([...changed].map(([index, upstream]) => [index, upstream === null ? null : (expanded.get(index) ?? upstream)]))
  const assigned = nodes.assignChanges(resolved, now)
  const concerned = [...before, ...assigned.values()].filter((upstream) => upstream !== null)
  if (concerned.some(({ checks, outlierDetection }) => checks !== undefined || outlierDetection !== undefined))
    health.follow(nodes.current())
  if (concerned.some(({ resilience }) => resilience?.concurrency !== undefined)) concurrency.follow(nodes.current())
  return assigned
}
