/**
 * Sends the active probes, in the primary, for all workers.
 *
 * Looks at all nodes every 50 ms: one is due when the interval of its present state has passed since its last probe began, a tenth more
 * or less so that probes do not march in step. The first comes after one interval. At most `concurrency` probes of an upstream and 512 of
 * all run at a time; what is due waits in line, and no node has two. State that decides (usable or not) is shared memory, so news from the
 * traffic counts at once. Over a reload a node that stays keeps its place in time, and its probe under way goes on.
 */
import type { Clock } from '../../base/clock.js'
import type { CompiledActiveCheck } from '../../schema/compiled.js'
import { HealthEvent } from '../../shared/health-state.js'
import type { Probe, ProbeOutcome } from './probe.js'
import type { ProbedUpstream, ProbeTarget } from './probe-target.js'

const TICK_MS = 50
const PROBES_MAX = 512
const JITTER = 0.1

export interface ProberOptions {
  readonly clock: Clock
  readonly probe: Probe
  /** From 0 to below 1. */
  readonly random: () => number
  readonly isUsable: (slot: number) => boolean
  /** What a probe found; `limit` observations of this kind decide. */
  readonly report: (finding: ProbeFinding) => void
}

export interface ProbeFinding {
  readonly upstream: string
  readonly target: ProbeTarget
  readonly event: HealthEvent
  readonly limit: number
  /** In a few words. */
  readonly reason: string
}

interface Watched {
  target: ProbeTarget
  lane: Lane
  /** When its last probe began; at first, when it came. */
  sinceMs: number
  /** Of the interval. */
  jitter: number
  isWaiting: boolean
  cancel: (() => void) | null
}

interface Lane {
  upstream: ProbedUpstream
  running: number
  readonly waiting: Watched[]
}

export class Prober {
  private readonly watched = new Map<string, Watched>()
  private readonly lanes = new Map<string, Lane>()
  private running = 0
  private cancelTick: (() => void) | null = null
  private isClosed = false

  constructor(private readonly options: ProberOptions) {}

  /** From now on these and no others are probed. */
  follow(upstreams: readonly ProbedUpstream[]): void {
    if (this.isClosed) return
    const now = this.options.clock.nowMs()
    const kept = new Set<string>()
    const lanes = new Set<string>()
    for (const upstream of upstreams) {
      lanes.add(upstream.key)
      const lane = this.lanes.get(upstream.key) ?? { upstream, running: 0, waiting: [] }
      lane.upstream = upstream
      this.lanes.set(upstream.key, lane)
      for (const target of upstream.targets) {
        kept.add(target.key)
        const known = this.watched.get(target.key)
        if (known !== undefined) {
          known.target = target
          continue
        }
        this.watched.set(target.key, { target, lane, sinceMs: now, jitter: this.jitter(), isWaiting: false, cancel: null })
      }
    }
    for (const [key, watched] of this.watched) if (!kept.has(key)) this.forget(key, watched)
    for (const key of this.lanes.keys()) if (!lanes.has(key)) this.lanes.delete(key)
    if (this.watched.size === 0) this.stopTicking()
    else this.cancelTick ??= this.options.clock.after(TICK_MS, () => this.tick())
  }

  /** Cancels all probes; nothing is reported afterwards. */
  close(): void {
    this.isClosed = true
    this.stopTicking()
    for (const [key, watched] of this.watched) this.forget(key, watched)
  }

  private tick(): void {
    const { clock } = this.options
    this.cancelTick = clock.after(TICK_MS, () => this.tick())
    const now = clock.nowMs()
    for (const watched of this.watched.values()) {
      if (watched.isWaiting || watched.cancel !== null || now < this.dueMs(watched)) continue
      watched.isWaiting = true
      watched.lane.waiting.push(watched)
    }
    for (const lane of this.lanes.values()) this.startWaiting(lane)
  }

  private dueMs({ target, lane, sinceMs, jitter }: Watched): number {
    const { check } = lane.upstream
    const interval = this.options.isUsable(target.slot) ? check.healthyIntervalMs : check.unhealthyIntervalMs
    return sinceMs + interval * jitter
  }

  private startWaiting(lane: Lane): void {
    while (lane.waiting.length > 0 && lane.running < lane.upstream.check.concurrency && this.running < PROBES_MAX) {
      const watched = lane.waiting.shift()
      if (watched !== undefined) this.start(watched)
    }
  }

  private start(watched: Watched): void {
    const { lane, target } = watched
    watched.isWaiting = false
    watched.sinceMs = this.options.clock.nowMs()
    watched.jitter = this.jitter()
    lane.running++
    this.running++
    watched.cancel = this.options.probe(target.spec, (outcome) => {
      this.ended(watched)
      this.options.report(judge(lane.upstream, watched.target, outcome))
      this.startWaiting(lane)
    })
  }

  private ended(watched: Watched): void {
    watched.cancel = null
    watched.lane.running--
    this.running--
  }

  private forget(key: string, watched: Watched): void {
    this.watched.delete(key)
    const place = watched.lane.waiting.indexOf(watched)
    if (place >= 0) watched.lane.waiting.splice(place, 1)
    if (watched.cancel === null) return
    watched.cancel()
    this.ended(watched)
  }

  private stopTicking(): void {
    this.cancelTick?.()
    this.cancelTick = null
  }

  private jitter(): number {
    return 1 - JITTER + 2 * JITTER * this.options.random()
  }
}

/** What an outcome means by the lists and limits of the upstream. */
export function judge(upstream: ProbedUpstream, target: ProbeTarget, outcome: ProbeOutcome): ProbeFinding {
  const event = eventOf(upstream, outcome)
  return { upstream: upstream.key, target, event, limit: limitOf(upstream.check, event), reason: reasonOf(outcome) }
}

function eventOf({ healthy, unhealthy }: ProbedUpstream, outcome: ProbeOutcome): HealthEvent {
  switch (outcome.kind) {
    case 'connected':
      return HealthEvent.Success
    case 'status':
      if (healthy.has(outcome.status)) return HealthEvent.Success
      return unhealthy.has(outcome.status) ? HealthEvent.HttpFailure : HealthEvent.None
    case 'no-status':
      return HealthEvent.HttpFailure
    case 'broken':
      return HealthEvent.TcpFailure
    case 'timeout':
      return HealthEvent.Timeout
  }
}

function limitOf({ limits }: CompiledActiveCheck, event: HealthEvent): number {
  switch (event) {
    case HealthEvent.None:
      return 0
    case HealthEvent.Success:
      return limits.successes
    case HealthEvent.HttpFailure:
      return limits.httpFailures
    case HealthEvent.TcpFailure:
      return limits.tcpFailures
    case HealthEvent.Timeout:
      return limits.timeouts
  }
}

function reasonOf(outcome: ProbeOutcome): string {
  switch (outcome.kind) {
    case 'connected':
      return 'probe: connected'
    case 'status':
      return `probe: status ${outcome.status}`
    case 'no-status':
      return 'probe: no HTTP answer'
    case 'broken':
      return `probe: ${outcome.reason}`
    case 'timeout':
      return 'probe: no answer in time'
  }
}
