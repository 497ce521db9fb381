/** The upstreams of a snapshot: each compiled once, on first use, under a key that is stable across reloads. */
import { createHash } from 'node:crypto'
import { defaultTimeout, type TimeoutResource } from '../schema/common.js'
import type { CompiledTimeout, CompiledUpstream, CompiledUpstreamTls, Json } from '../schema/compiled.js'
import type { UpstreamResource } from '../schema/upstream.js'
import { compileBalancing } from './compile-balancing.js'
import { compileChecks, compileOutlierDetection } from './compile-health.js'
import { readNodes } from './compile-nodes.js'
import { compileResilience } from './compile-resilience.js'
import type { Entry } from './load-types.js'
import { milliseconds } from './validate-process.js'
import { plainScheme } from './validate-upstreams.js'

export class UpstreamTable {
  readonly compiled: CompiledUpstream[] = []
  private readonly indexes = new Map<string, number>()

  constructor(
    private readonly named: ReadonlyMap<string, Entry<UpstreamResource>>,
    private readonly rotorSlot: (key: string) => number,
  ) {}

  /** Index of the upstream with this id, or -1 when there is none. */
  byId(id: string): number {
    const entry = this.named.get(id)
    return entry === undefined ? -1 : this.inline(`upstreams/${id}`, entry.value)
  }

  /** Index of an upstream that stands inside another resource, under `key`. */
  inline(key: string, value: UpstreamResource): number {
    const known = this.indexes.get(key)
    if (known !== undefined) return known
    const index = this.compiled.length
    this.compiled.push(compileUpstream(key, value, this.rotorSlot(key)))
    this.indexes.set(key, index)
    return index
  }

  at(index: number): CompiledUpstream | undefined {
    return this.compiled[index]
  }
}

/** Key of an upstream that only its content names: equal contents are one upstream. */
export function contentKey(prefix: string, value: Json): string {
  return `${prefix}:${createHash('sha256').update(canonical(value)).digest('hex').slice(0, 16)}`
}

function canonical(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const fields = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${fields.map(([name, inner]) => `${JSON.stringify(name)}:${canonical(inner)}`).join(',')}}`
}

function compileUpstream(key: string, value: UpstreamResource, rotor: number): CompiledUpstream {
  const scheme = plainScheme(value)
  const pool = value.keepalive_pool ?? {}
  return {
    key,
    name: value.name ?? '',
    type: value.type ?? 'roundrobin',
    balancing: compileBalancing(value),
    scheme,
    nodes: readNodes(value.nodes, scheme).nodes,
    passHost: value.pass_host ?? 'pass',
    upstreamHost: value.pass_host === 'rewrite' ? (value.upstream_host ?? '') : '',
    retries: value.retries ?? -1,
    retryTimeoutMs: milliseconds(value.retry_timeout ?? 0),
    timeout: compileTimeout(value.timeout, defaultTimeout),
    keepalive: {
      size: pool.size ?? 320,
      idleTimeoutMs: milliseconds(pool.idle_timeout ?? 60),
      requests: pool.requests ?? 1_000,
      pipelining: pool.pipelining ?? 1,
    },
    tls: scheme === 'https' ? compileTls(value) : null,
    rotor,
    ...(value.checks?.active !== undefined && { checks: compileChecks(value, value.checks.active) }),
    ...(value.outlier_detection !== undefined && { outlierDetection: compileOutlierDetection(value.outlier_detection) }),
    ...compileResilience(value),
  }
}

/** Seconds to milliseconds, at least one; parts that are missing keep those of `base`. */
export function compileTimeout(timeout: TimeoutResource | undefined, base: CompiledTimeout): CompiledTimeout {
  const part = (seconds: number | undefined, fallback: number): number =>
    seconds === undefined ? fallback : Math.max(1, milliseconds(seconds))
  return {
    connectMs: part(timeout?.connect, base.connectMs),
    sendMs: part(timeout?.send, base.sendMs),
    readMs: part(timeout?.read, base.readMs),
    ...limit('perTryMs', timeout?.per_try, base.perTryMs),
    ...limit('totalMs', timeout?.total, base.totalMs),
  }
}

/** A limit that may be absent. */
function limit<Name extends 'perTryMs' | 'totalMs'>(
  name: Name,
  seconds: number | undefined,
  fallback: number | undefined,
): Partial<Record<Name, number>> {
  const ms = seconds === undefined ? fallback : Math.max(1, milliseconds(seconds))
  return ms === undefined ? {} : ({ [name]: ms } as Record<Name, number>)
}

function compileTls(value: UpstreamResource): CompiledUpstreamTls {
  const tls = value.tls ?? {}
  return {
    verify: tls.verify ?? false,
    clientCert: tls.client_cert ?? '',
    clientKey: tls.client_key ?? '',
    ca: tls.ca ?? '',
    serverName: tls.server_name ?? '',
  }
}
