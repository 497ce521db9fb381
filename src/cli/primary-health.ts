/**
 * The primary's part in the health of upstream nodes: sends the active probes, ends ejections, tells what changes to the log, and shows
 * the state. Who decides what: docs/health-checks.md.
 */
import { type Clock, nowMs } from '../base/clock.js'
import type { NodesUpdate } from '../controlplane/dns.js'
import { OutlierWatch } from '../controlplane/health/outlier-watch.js'
import { probe } from '../controlplane/health/probe.js'
import { type ProbedUpstream, probedUpstream } from '../controlplane/health/probe-target.js'
import { type ProbeFinding, Prober } from '../controlplane/health/prober.js'
import type { CompiledConfig, CompiledNode, CompiledUpstream, Json } from '../schema/compiled.js'
import { healthCounters, healthNames, healthState, isUsable } from '../shared/health-state.js'
import { type NodeBoard, NodeStatus } from '../shared/node-cells.js'
import { HealthChange, NodeHealth, type NodeNews } from '../shared/node-health.js'
import { metrics } from '../telemetry/metrics.js'
import type { ProcessLog } from '../telemetry/process-log.js'
import type { Sample } from '../telemetry/prometheus.js'

/** Lines about changes in the log, per second; the rest is in the metrics. */
const LINES_PER_SECOND = 20

export interface PrimaryHealthOptions {
  readonly region: SharedArrayBuffer
  readonly board: NodeBoard
  readonly clock: Clock
  readonly log: ProcessLog
}

export class PrimaryHealth {
  private readonly health: NodeHealth
  private readonly prober: Prober
  private readonly outliers: OutlierWatch
  /** With checks or outlier detection, slots assigned, by index in the configuration. */
  private upstreams = new Map<number, CompiledUpstream>()
  /** By index as well; each made when its upstream changes, because that reads certificates. */
  private probed = new Map<number, ProbedUpstream>()
  private readonly ejections = new Map<string, Sample & { value: number }>()
  private secondMs = 0
  private lines = 0

  constructor(private readonly options: PrimaryHealthOptions) {
    const { region, board, clock } = options
    this.health = new NodeHealth(region, board)
    this.prober = new Prober({
      clock,
      probe,
      random: Math.random,
      isUsable: (slot) => isUsable(this.health.health(slot)),
      report: (finding) => this.found(finding),
    })
    this.outliers = new OutlierWatch({ clock, cells: board, health: this.health, tell: (news) => this.tell(news) })
  }

  /** A configuration, slots assigned, is about to be published. */
  follow(config: Pick<CompiledConfig, 'upstreams'>): void {
    const upstreams = new Map<number, CompiledUpstream>()
    for (const [index, upstream] of config.upstreams.entries()) {
      if (upstream.checks !== undefined || upstream.outlierDetection !== undefined) upstreams.set(index, upstream)
    }
    this.upstreams = upstreams
    this.probed = new Map()
    for (const index of upstreams.keys()) this.build(index)
    this.begin()
  }

  /** Addresses of names changed, in the configuration that was followed last. */
  followUpdates(updates: readonly NodesUpdate[]): void {
    let isConcerned = false
    for (const { upstream: index, nodes } of updates) {
      const upstream = this.upstreams.get(index)
      if (upstream === undefined) continue
      isConcerned = true
      this.upstreams.set(index, { ...upstream, nodes })
      this.build(index)
    }
    if (isConcerned) this.begin()
  }

  /** A worker made a judgement. */
  tell(news: NodeNews): void {
    if (news.change === 'ejected') this.countEjection(news)
    const { log, clock } = this.options
    const now = clock.nowMs()
    if (now - this.secondMs >= 1000) {
      this.secondMs = now
      this.lines = 0
    }
    if (++this.lines > LINES_PER_SECOND) return
    const { upstream, node, change, reason } = news
    const isWarning = change === 'unhealthy' || change === 'ejected'
    log[isWarning ? 'warn' : 'info'](`node ${node} of ${upstream}: ${change} (${reason})`, { upstream, node, change, reason })
  }

  /** `/v1/healthcheck`: all upstreams with checks. */
  list(): Json {
    return [...this.checked()].map((upstream) => this.describe(upstream))
  }

  /** `/v1/healthcheck/<key>`; null = there is none of this key with checks. */
  one(key: string): Json | null {
    for (const upstream of this.checked()) if (upstream.key === key) return this.describe(upstream)
    return null
  }

  samples(): Sample[] {
    const samples: Sample[] = [...this.ejections.values()]
    for (const upstream of this.upstreams.values()) {
      // Labels do not tell nodes apart that differ in their host only.
      const places = new Map(knownNodes(upstream).map((node) => [`${node.address}:${node.port}`, node]))
      for (const node of places.values()) {
        const values = [resourceName(upstream), node.address, String(node.port)]
        const slot = node.slot ?? 0
        if (upstream.checks !== undefined)
          samples.push({ metric: metrics.upstreamStatus, values, value: isUsable(this.health.health(slot)) ? 1 : 0 })
        if (upstream.outlierDetection !== undefined)
          samples.push({ metric: metrics.upstreamEjected, values, value: this.health.isEjected(slot) ? 1 : 0 })
      }
    }
    return samples
  }

  close(): void {
    this.prober.close()
    this.outliers.close()
  }

  private build(index: number): void {
    const upstream = this.upstreams.get(index)
    const probed = upstream === undefined ? null : probedUpstream(upstream)
    if (probed === null) this.probed.delete(index)
    else this.probed.set(index, probed)
  }

  private begin(): void {
    const now = nowMs()
    for (const upstream of this.upstreams.values()) {
      if (upstream.checks !== undefined) continue
      // Checked before: nobody would bring these nodes back.
      for (const node of knownNodes(upstream)) this.health.forgetHealth(node.slot ?? 0, now)
    }
    this.forgetEjections()
    this.prober.follow([...this.probed.values()])
    this.outliers.follow([...this.upstreams.values()])
  }

  private found({ upstream, target, event, limit, reason }: ProbeFinding): void {
    const change = this.health.observe(target.slot, event, limit, NodeStatus.ActiveDown, nowMs())
    if (change === HealthChange.None) return
    const { address, port } = target.node
    this.tell({ upstream, node: `${address}:${port}`, change: change === HealthChange.Up ? 'healthy' : 'unhealthy', reason })
  }

  private *checked(): Iterable<CompiledUpstream> {
    for (const upstream of this.upstreams.values()) if (upstream.checks !== undefined) yield upstream
  }

  private describe(upstream: CompiledUpstream): Json {
    return {
      name: resourceName(upstream),
      type: upstream.checks?.active.type ?? 'http',
      nodes: knownNodes(upstream).map((node) => {
        const word = this.health.health(node.slot ?? 0)
        const counters = healthCounters(word)
        return {
          ip: node.address,
          port: node.port,
          hostname: node.host,
          status: healthNames[healthState(word)] ?? 'healthy',
          counter: {
            success: counters.success,
            http_failure: counters.httpFailure,
            tcp_failure: counters.tcpFailure,
            timeout_failure: counters.timeoutFailure,
          },
        }
      }),
    }
  }

  /** Counts of nodes that are not there any more. */
  private forgetEjections(): void {
    if (this.ejections.size === 0) return
    const kept = new Set<string>()
    for (const upstream of this.upstreams.values()) {
      if (upstream.outlierDetection === undefined) continue
      for (const { address, port } of knownNodes(upstream)) kept.add(`${upstream.key}\0${address}:${port}`)
    }
    for (const key of this.ejections.keys()) if (!kept.has(key)) this.ejections.delete(key)
  }

  private countEjection({ upstream, node }: NodeNews): void {
    const split = node.lastIndexOf(':')
    const key = `${upstream}\0${node}`
    const values = [resourceName({ key: upstream }), node.slice(0, split), node.slice(split + 1)]
    const counted = this.ejections.get(key) ?? { metric: metrics.upstreamEjections, values, value: 0 }
    counted.value++
    this.ejections.set(key, counted)
  }
}

/** As the reference gateway names resources: `/apisix/upstreams/1`. */
function resourceName({ key }: Pick<CompiledUpstream, 'key'>): string {
  return `/apisix/${key}`
}

function knownNodes(upstream: CompiledUpstream): CompiledNode[] {
  return upstream.nodes.filter((node) => (node.slot ?? 0) > 0)
}
