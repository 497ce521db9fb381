/**
 * What the tries of an upstream say about its nodes: passive health checks, and outliers that stand out by failures or slow calls in a
 * row. Decided where the news is, in the worker; seen by all with their next pick (shared/node-health). What needs a comparison of nodes
 * or a percentage over time is judged in the primary (controlplane/health/outlier-watch). Linked once per upstream.
 */
import { type Failure, failures } from '../../base/errors.js'
import type { CompiledOutlierDetection, CompiledPassiveCheck, CompiledUpstream } from '../../schema/compiled.js'
import { HealthEvent } from '../../shared/health-state.js'
import { type NodeCells, NodeStatus } from '../../shared/node-cells.js'
import { HealthChange, type NodeHealth, type NodeNews } from '../../shared/node-health.js'

export interface JudgeTools {
  readonly cells: NodeCells
  readonly health: NodeHealth
  /** Told of every change, for the log of the primary. */
  tell(news: NodeNews): void
}

/** Statuses end at 599; what is above is in no list. */
const STATUS_MAX = 600

export class NodeJudge {
  /** Nodes of the upstream; kept by whoever sets them. */
  members = 0
  /** A call without an answer for so long is slow; 0 = none is. */
  readonly slowMs: number
  private readonly passive: CompiledPassiveCheck | null
  private readonly outliers: CompiledOutlierDetection | null
  /** HealthEvent by status. */
  private readonly events = new Uint8Array(STATUS_MAX)
  /** By HealthEvent. */
  private readonly limits: Int32Array

  private constructor(
    private readonly upstream: string,
    { checks, outlierDetection }: CompiledUpstream,
    private readonly tools: JudgeTools,
  ) {
    this.passive = checks?.passive ?? null
    this.outliers = outlierDetection ?? null
    this.slowMs = this.outliers?.slowCallMs ?? 0
    const { limits, type } = this.passive ?? { limits: null, type: 'http' }
    this.limits = Int32Array.of(0, limits?.successes ?? 0, limits?.httpFailures ?? 0, limits?.tcpFailures ?? 0, limits?.timeouts ?? 0)
    if (limits === null) return
    if (type === 'tcp') this.events.fill(HealthEvent.Success)
    else {
      for (const status of limits.unhealthyStatuses) this.events[status] = HealthEvent.HttpFailure
      for (const status of limits.healthyStatuses) this.events[status] = HealthEvent.Success
    }
  }

  /** Null when nothing judges the nodes of this upstream by its traffic. */
  static of(record: CompiledUpstream, tools: JudgeTools): NodeJudge | null {
    const judges = record.outlierDetection !== undefined || (record.checks !== undefined && record.checks.passive !== null)
    return judges ? new NodeJudge(record.key, record, tools) : null
  }

  /** The head of an answer is here. `isCounted`: the call was found to be slow already. */
  answered(slot: number, node: string, status: number, latencyMs: number, isCounted: boolean, nowMs: number): void {
    if (this.passive !== null && status < STATUS_MAX) {
      const event = this.events[status] as HealthEvent
      if (event !== HealthEvent.None) this.observe(slot, node, event, nowMs, status)
    }
    if (this.slowMs === 0 || isCounted) return
    if (latencyMs >= this.slowMs) this.slow(slot, node, nowMs)
    else this.tools.health.quick(slot)
  }

  /** A try got no answer, or broke off. */
  failed(slot: number, node: string, failure: Failure, nowMs: number): void {
    if (this.passive === null) return
    this.observe(slot, node, eventOf(failure), nowMs, 0)
  }

  /** A try was counted as a failure of the node. */
  counted(slot: number, node: string, nowMs: number): void {
    const { outliers } = this
    if (outliers === null) return
    const { cells } = this.tools
    if (outliers.consecutive5xx > 0 && cells.consecutiveFailures(slot) >= outliers.consecutive5xx) {
      this.eject(outliers, slot, node, nowMs, `${outliers.consecutive5xx} failures in a row`)
    } else if (outliers.consecutiveGatewayFailure > 0 && cells.consecutiveGatewayFailures(slot) >= outliers.consecutiveGatewayFailure) {
      this.eject(outliers, slot, node, nowMs, `${outliers.consecutiveGatewayFailure} gateway failures in a row`)
    }
  }

  /** A call takes longer than it should. */
  slow(slot: number, node: string, nowMs: number): void {
    const inARow = this.tools.health.slow(slot)
    const { outliers } = this
    if (outliers === null || outliers.consecutiveSlowCalls === 0 || inARow < outliers.consecutiveSlowCalls) return
    this.eject(outliers, slot, node, nowMs, `${outliers.consecutiveSlowCalls} slow calls in a row`)
  }

  private observe(slot: number, node: string, event: HealthEvent, nowMs: number, status: number): void {
    const { health } = this.tools
    const change = health.observe(slot, event, this.limits[event] as number, NodeStatus.PassiveDown, nowMs)
    if (change === HealthChange.None) return
    const reason = `traffic: ${status > 0 ? `status ${status}` : event === HealthEvent.Timeout ? 'no answer in time' : 'connection failed'}`
    this.tools.tell({ upstream: this.upstream, node, change: change === HealthChange.Up ? 'healthy' : 'unhealthy', reason })
  }

  private eject(outliers: CompiledOutlierDetection, slot: number, node: string, nowMs: number, reason: string): void {
    const forMs = this.tools.health.eject(slot, this.members, outliers, nowMs)
    if (forMs === 0) return
    this.tools.tell({ upstream: this.upstream, node, change: 'ejected', reason: `${reason}; for ${forMs / 1000} s` })
  }
}

function eventOf(failure: Failure): HealthEvent {
  if (failure.status === 504) return HealthEvent.Timeout
  return failure === failures.UPSTREAM_BAD_RESPONSE ? HealthEvent.HttpFailure : HealthEvent.TcpFailure
}
