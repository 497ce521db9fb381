/** The upstreams of a snapshot: each compiled once, on first use, under a key that is stable across reloads. */
import { createHash } from 'node:crypto'
import { defaultTimeout, type TimeoutResource } from '../schema/common.js'
import type { CompiledTimeout, CompiledUpstream, CompiledUpstreamTls, Json } from '../schema/compiled.js'
import type { UpstreamResource } from '../schema/upstream.js'
import { compileBalancing } from './compile-balancing.js'
import { compileChecks, compileOutlierDetection } from './compile-health.js'
import { readNodes } from './compile-nodes.js'
import { compileResilience } from './compile-resilience.js'
import type { UndoLog } from './live/undo-log.js'
import type { Entry } from './load-types.js'
import { milliseconds } from './validate-process.js'
import { plainScheme } from './validate-upstreams.js'

/** Stands where an upstream was that nothing uses any more. */
export const goneUpstream: CompiledUpstream = Object.freeze({ ...compileUpstream('', { nodes: {} } as UpstreamResource, 0), nodes: [] })

export class UpstreamTable {
  /** By index. Indexes that are not in use hold an upstream without key and nodes. */
  readonly compiled: CompiledUpstream[] = []
  private readonly indexes = new Map<string, number>()
  private readonly free: number[] = []
  private undo: UndoLog | null = null
  private touched = new Map<number, CompiledUpstream | null>()

  constructor(
    private named: ReadonlyMap<string, Entry<UpstreamResource>>,
    private readonly rotorSlot: (key: string) => number,
    /** Ids that are not there and may be named all the same; changes that come later are not given any. */
    private gaps: ReadonlySet<string> = new Set(),
  ) {}

  /**
   * From now on changes are noted in `undo`, ids are looked up in `named`, and the indexes that change stand in the map that comes back,
   * with what was there before (null = nothing).
   */
  begin(undo: UndoLog, named: ReadonlyMap<string, Entry<UpstreamResource>>): ReadonlyMap<number, CompiledUpstream | null> {
    this.undo = undo
    this.named = named
    this.gaps = new Set()
    this.touched = new Map()
    return this.touched
  }

  /** Index of the upstream with this id, or -1 when there is none. */
  byId(id: string): number {
    const entry = this.named.get(id)
    return entry === undefined ? -1 : this.inline(`upstreams/${id}`, entry.value)
  }

  /** The same for a plugin, which cannot do without: an upstream that was taken away by force has no nodes until it is there again. */
  ofPlugin(id: string): number {
    const index = this.byId(id)
    return index < 0 && this.gaps.has(id) ? this.inline(`upstreams/${id}`, { nodes: {} }) : index
  }

  /** Index of an upstream that stands inside another resource, under `key`. */
  inline(key: string, value: UpstreamResource): number {
    const known = this.indexes.get(key)
    if (known !== undefined) return known
    const compiled = compileUpstream(key, value, this.rotorSlot(key))
    const { undo } = this
    if (undo === null) {
      this.indexes.set(key, this.compiled.length)
      return this.compiled.push(compiled) - 1
    }
    const index = undo.pop(this.free) ?? this.compiled.length
    undo.set(this.indexes, key, index)
    this.assign(undo, index, compiled)
    return index
  }

  /** The upstream with this key means something else now. Nothing happens when nothing uses it. */
  update(key: string, value: UpstreamResource): void {
    const index = this.indexes.get(key)
    if (index === undefined) return
    const before = this.compiled[index]
    const after = compileUpstream(key, value, this.rotorSlot(key))
    if (this.undo !== null && JSON.stringify(before) !== JSON.stringify(after)) this.assign(this.undo, index, after)
  }

  /** Nothing uses this index any more. */
  release(index: number): void {
    const { undo } = this
    const upstream = this.compiled[index]
    if (undo === null || upstream === undefined || upstream === goneUpstream) return
    undo.delete(this.indexes, upstream.key)
    this.assign(undo, index, goneUpstream)
    undo.push(this.free, index)
  }

  private assign(undo: UndoLog, index: number, upstream: CompiledUpstream): void {
    const before = this.compiled[index]
    if (!this.touched.has(index)) this.touched.set(index, before === undefined || before === goneUpstream ? null : before)
    undo.assign(this.compiled, index, upstream)
  }

  at(index: number): CompiledUpstream | undefined {
    return this.compiled[index]
  }
}

/** True for what stands at indexes that are not in use. */
export function isGone(upstream: CompiledUpstream): boolean {
  return upstream === goneUpstream
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
