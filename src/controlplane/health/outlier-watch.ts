/**
 * The primary's part in outlier detection: takes ejections back when their time is over, and ejects by what an interval shows of all
 * nodes of an upstream together. Ejections by failures in a row are made in the workers (dataplane/balancer/node-judge); the bits and the
 * count of what is ejected are shared (shared/node-health).
 *
 * Over a reload, nodes that stay keep their ejection. One that goes, or is not judged any more, is taken back at once and watched for
 * another minute, because requests that began before may still eject it.
 */
import type { Clock } from '../../base/clock.js'
import type { CompiledOutlierDetection, CompiledUpstream } from '../../schema/compiled.js'
import type { NodeCells } from '../../shared/node-cells.js'
import type { NodeHealth, NodeNews } from '../../shared/node-health.js'
import { findOutliers, type NodeInterval } from './outlier-statistics.js'

const TICK_MS = 100
const WATCH_AFTER_MS = 60_000

export interface OutlierWatchOptions {
  readonly clock: Clock
  readonly cells: NodeCells
  readonly health: NodeHealth
  readonly tell: (news: NodeNews) => void
}

interface WatchedUpstream {
  readonly key: string
  rules: CompiledOutlierDetection
  /** Nodes that count for the percentage. */
  members: number
  nodes: WatchedNode[]
  intervalEndsMs: number
}

interface WatchedNode {
  readonly key: string
  readonly name: string
  readonly slot: number
  readonly upstreamSlot: number
  readonly upstreamKey: string
  /** Counts at the end of the interval before. */
  successes: number
  failures: number
  slowCalls: number
  leftAtMs: number
  returnedAtMs: number
}

const PRESENT = Number.POSITIVE_INFINITY

export class OutlierWatch {
  private readonly upstreams = new Map<string, WatchedUpstream>()
  private readonly nodes = new Map<string, WatchedNode>()
  private cancelTick: (() => void) | null = null
  private isClosed = false

  constructor(private readonly options: OutlierWatchOptions) {}

  /** From now on these upstreams, with slots assigned, are watched. Those without outlier detection are ignored. */
  follow(upstreams: readonly CompiledUpstream[]): void {
    if (this.isClosed) return
    const now = this.options.clock.nowMs()
    for (const node of this.nodes.values()) if (node.leftAtMs === PRESENT) node.leftAtMs = now
    const kept = new Set<string>()
    for (const { key, outlierDetection: rules, nodes } of upstreams) {
      if (rules === undefined || rules.slot === 0) continue
      kept.add(key)
      const watched = this.upstreams.get(key) ?? { key, rules, members: 0, nodes: [], intervalEndsMs: now + rules.intervalMs }
      watched.intervalEndsMs = Math.min(watched.intervalEndsMs, now + rules.intervalMs)
      watched.rules = rules
      watched.members = nodes.filter((node) => node.weight > 0).length
      watched.nodes = nodes
        .filter((node) => (node.slot ?? 0) > 0)
        .map((node) => this.watch(key, rules.slot, node.slot ?? 0, `${node.address}:${node.port}`, node.host))
      this.upstreams.set(key, watched)
    }
    for (const key of this.upstreams.keys()) if (!kept.has(key)) this.upstreams.delete(key)
    this.takeBackLeft(now)
    if (this.nodes.size > 0) this.cancelTick ??= this.options.clock.after(TICK_MS, () => this.tick())
  }

  close(): void {
    this.isClosed = true
    this.cancelTick?.()
  }

  private watch(upstreamKey: string, upstreamSlot: number, slot: number, name: string, host: string): WatchedNode {
    const key = `${upstreamKey}\0${name}\0${host}`
    const known = this.nodes.get(key)
    if (known !== undefined && known.slot === slot && known.upstreamSlot === upstreamSlot) {
      known.leftAtMs = PRESENT
      return known
    }
    const { cells, health } = this.options
    const counts = { successes: cells.successes(slot), failures: cells.failures(slot), slowCalls: health.slowCalls(slot) }
    const node = { key, name, slot, upstreamSlot, upstreamKey, leftAtMs: PRESENT, returnedAtMs: Number.NEGATIVE_INFINITY, ...counts }
    this.nodes.set(key, node)
    return node
  }

  private tick(): void {
    const { clock, health } = this.options
    const now = clock.nowMs()
    this.cancelTick = this.nodes.size === 0 ? null : clock.after(TICK_MS, () => this.tick())
    this.takeBackLeft(now)
    for (const node of this.nodes.values()) {
      if (!health.isEjectionOver(node.slot, now) || !health.takeBack(node.slot, node.upstreamSlot, now)) continue
      // What was still answered while it was out says nothing about it now.
      this.count(node)
      node.returnedAtMs = now
      this.options.tell({ upstream: node.upstreamKey, node: node.name, change: 'returned', reason: 'its time is over' })
    }
    for (const upstream of this.upstreams.values()) {
      if (now < upstream.intervalEndsMs) continue
      upstream.intervalEndsMs = now + upstream.rules.intervalMs
      this.endInterval(upstream, now)
    }
  }

  private takeBackLeft(now: number): void {
    for (const node of this.nodes.values()) {
      if (node.leftAtMs === PRESENT) continue
      this.options.health.takeBack(node.slot, node.upstreamSlot, now)
      if (now - node.leftAtMs >= WATCH_AFTER_MS) this.nodes.delete(node.key)
    }
  }

  private endInterval(upstream: WatchedUpstream, now: number): void {
    const { health } = this.options
    // One that is out has had its verdict.
    const judged = upstream.nodes.filter((node) => !health.isEjected(node.slot))
    const intervals = judged.map((node) => this.count(node))
    const outliers = findOutliers(upstream.rules, intervals)
    for (const [index, node] of judged.entries()) {
      const reason = outliers.get(index)
      if (reason === undefined) {
        if (now - node.returnedAtMs >= upstream.rules.intervalMs) health.forgive(node.slot)
        continue
      }
      const forMs = health.eject(node.slot, upstream.members, upstream.rules, now)
      if (forMs === 0) continue
      this.options.tell({ upstream: upstream.key, node: node.name, change: 'ejected', reason: `${reason}; for ${forMs / 1000} s` })
    }
  }

  /** What the node did since it was counted last. */
  private count(node: WatchedNode): NodeInterval {
    const { cells, health } = this.options
    const successes = cells.successes(node.slot)
    const failures = cells.failures(node.slot)
    const slowCalls = health.slowCalls(node.slot)
    // Counts go on from zero behind 2^32.
    const interval = {
      successes: (successes - node.successes) >>> 0,
      failures: (failures - node.failures) >>> 0,
      slowCalls: (slowCalls - node.slowCalls) >>> 0,
    }
    node.successes = successes
    node.failures = failures
    node.slowCalls = slowCalls
    return interval
  }
}
