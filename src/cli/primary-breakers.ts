/**
 * The primary's part in circuit breakers: knows their names, tells their changes to log, metrics, webhook and other gateways, and
 * changes them for the operator. Requests never wait for it.
 */
import type { Clock } from '../base/clock.js'
import type { BreakerEvent, DeclaredBreaker } from '../breakers/contract.js'
import type { BreakerNews, BreakerNewsItem } from '../cluster/breaker-news.js'
import type { BreakerActions } from '../controlplane/admin/breakers.js'
import type { RedisConfig, WebhookConfig } from '../schema/process.js'
import { BreakerCells } from '../shared/breaker-cells.js'
import { PathBreakerTable } from '../shared/path-breakers.js'
import { metrics } from '../telemetry/metrics.js'
import type { ProcessLog } from '../telemetry/process-log.js'
import type { Sample } from '../telemetry/prometheus.js'
import { EventWebhook } from '../telemetry/webhook.js'

/** Lines about changes in the log, per second; the rest is in the metrics. */
const LINES_PER_SECOND = 20
/** Breakers of other gateways that are not known here yet. */
const UNKNOWN_MAX = 32_768
/** In the order of their trouble. */
const stateValues = { closed: 0, ramping: 0, 'half-open': 1, open: 2 } as const

interface OpenElsewhere {
  readonly untilMs: number
  readonly openCount: number
  readonly isByHand: boolean
}

export interface PrimaryBreakersOptions {
  readonly region: SharedArrayBuffer
  readonly pathRegion: SharedArrayBuffer
  /** Number of workers: the member that is the primary. */
  readonly member: number
  readonly nodeId: string
  readonly clock: Clock
  readonly log: ProcessLog
  readonly redis: RedisConfig | null
  readonly webhook: WebhookConfig | null
}

export class PrimaryBreakers implements BreakerActions {
  private readonly cells: BreakerCells
  private readonly paths: PathBreakerTable
  private readonly byName = new Map<string, DeclaredBreaker>()
  private readonly names = new Map<number, string>()
  private readonly transitions = new Map<string, Sample & { value: number }>()
  private readonly webhook: EventWebhook | null
  private news: Promise<BreakerNews> | null = null
  /** Open elsewhere, until when; their routes have not been used here yet. */
  private readonly unknown = new Map<string, OpenElsewhere>()
  private secondMs = 0
  private lines = 0

  constructor(private readonly options: PrimaryBreakersOptions) {
    const { clock, log, webhook } = options
    this.cells = new BreakerCells(options.region, (slot, event) => {
      const name = this.names.get(slot)
      if (name !== undefined) this.report({ ...event, name })
    })
    this.paths = new PathBreakerTable(options.pathRegion, options.member)
    this.webhook = webhook === null ? null : new EventWebhook({ config: webhook, clock, log: (message) => log.warn(message) })
  }

  /** A worker has bound a breaker. */
  declare(breaker: DeclaredBreaker): void {
    this.byName.set(breaker.name, breaker)
    this.names.set(breaker.slot, breaker.name)
    if (!breaker.isShared) return
    void this.openNews()
    const elsewhere = this.unknown.get(breaker.name)
    this.unknown.delete(breaker.name)
    if (elsewhere === undefined) return
    const { untilMs, openCount, isByHand } = elsewhere
    this.receive({ name: breaker.name, openMs: untilMs - this.options.clock.nowMs(), openCount, isByHand })
  }

  /** A breaker changed its state. */
  report(event: BreakerEvent): void {
    const { name, from, to, reason, openMs, openCount } = event
    const key = `${name}\u0000${from}\u0000${to}`
    const counted = this.transitions.get(key) ?? { metric: metrics.breakerTransitions, values: [name, from, to], value: 0 }
    counted.value++
    this.transitions.set(key, counted)
    const forSeconds = to === 'open' && openMs > 0 ? ` for ${openMs / 1000} s` : ''
    this.write(to === 'open', `circuit breaker ${name}: ${from} → ${to}${forSeconds} (${reason})`, event)
    this.webhook?.push({ event: 'circuit_breaker', time: new Date(this.options.clock.wallMs()).toISOString(), ...toJson(event) })
    if (reason === 'manual' || reason === 'other-gateway' || this.byName.get(name)?.isShared !== true) return
    if (to === 'open') this.tell({ name, openMs, openCount, isByHand: false })
    else if (from === 'half-open') this.tell({ name, openMs: 0, openCount: 0, isByHand: false })
  }

  /** The thread of a worker has ended, and none has taken its place yet. */
  workerEnded(index: number): void {
    this.paths.recoverMember(index)
  }

  list(): object {
    const now = this.options.clock.nowMs()
    const breakers = [...this.byName.values()].map(({ name, slot, plugin, settings, isShared }) => {
      const view = this.cells.view(slot, settings, now)
      return {
        name,
        plugin,
        policy: isShared ? 'redis' : 'local',
        state: view.state,
        held_open: view.isHeldOpen,
        open_count: view.openCount,
        open_seconds_left: view.openMs / 1000,
        failures_in_a_row: view.failuresInARow,
        probes: view.probes,
      }
    })
    return { total: breakers.length, breakers: breakers.sort((a, b) => (a.name < b.name ? -1 : 1)) }
  }

  change(name: string, action: 'open' | 'close'): boolean {
    const breaker = this.byName.get(name)
    if (breaker === undefined) return false
    this.byHand(breaker.slot, action, 'manual')
    // Also when nothing changed here: elsewhere it may stand otherwise.
    if (breaker.isShared) this.tell({ name, openMs: 0, openCount: action === 'open' ? 1 : 0, isByHand: true })
    return true
  }

  private byHand(slot: number, action: 'open' | 'close', reason: 'manual' | 'other-gateway'): void {
    const now = this.options.clock.nowMs()
    if (action === 'open') this.cells.openNow(slot, 0, 1, true, now, reason)
    else this.cells.closeNow(slot, now, reason, { isHeldToo: true, rampMs: 0 })
  }

  samples(): Sample[] {
    const now = this.options.clock.nowMs()
    const samples: Sample[] = [...this.transitions.values()]
    for (const { name, slot, settings } of this.byName.values())
      samples.push({ metric: metrics.breakerState, values: [name], value: stateValues[this.cells.view(slot, settings, now).state] })
    if (this.webhook !== null) samples.push({ metric: metrics.breakerEventsLost, values: [], value: this.webhook.lost })
    return samples
  }

  async close(): Promise<void> {
    this.webhook?.close()
    const news = await this.news
    news?.close()
  }

  private write(isWarning: boolean, message: string, event: BreakerEvent): void {
    const { clock, log } = this.options
    const now = clock.nowMs()
    if (now - this.secondMs >= 1000) {
      this.secondMs = now
      this.lines = 0
    }
    if (++this.lines > LINES_PER_SECOND) return
    if (isWarning) log.warn(message, toJson(event))
    else log.info(message, toJson(event))
  }

  private tell(item: BreakerNewsItem): void {
    void this.openNews()?.then((news) => news.changed(item))
  }

  /** News from another gateway. */
  private receive({ name, openMs, openCount, isByHand }: BreakerNewsItem): void {
    const breaker = this.byName.get(name)
    const now = this.options.clock.nowMs()
    if (breaker === undefined) {
      this.unknown.delete(name)
      const isOpen = openMs > 0 || (isByHand && openCount > 0)
      if (isOpen && this.unknown.size < UNKNOWN_MAX) this.unknown.set(name, { untilMs: now + openMs, openCount, isByHand })
      return
    }
    if (!breaker.isShared) return
    if (isByHand) this.byHand(breaker.slot, openCount > 0 ? 'open' : 'close', 'other-gateway')
    else if (openMs > 0) this.cells.openNow(breaker.slot, openMs, openCount, false, now, 'other-gateway')
    else if (openCount === 0) this.cells.closeNow(breaker.slot, now, 'other-gateway', { isHeldToo: false, rampMs: breaker.settings.rampMs })
  }

  /** The client library is loaded, and Redis asked, from the first shared breaker on. */
  private openNews(): Promise<BreakerNews> | null {
    const { redis, clock, nodeId, log } = this.options
    if (redis === null) return null
    this.news ??= Promise.all([
      import('../cluster/breaker-news.js'),
      import('../cluster/client.js'),
      import('../cluster/redis-store.js'),
    ]).then(([{ BreakerNews: News }, { RedisClient }, { settingsOf }]) => {
      const settings = settingsOf({ ...redis, mode: 'exact', onFailure: 'allow' })
      const client = new RedisClient({ settings, clock, log: (level, message) => log[level](`circuit breakers: ${message}`) })
      return new News({ client, clock, nodeId, receive: (item) => this.receive(item) })
    })
    return this.news
  }
}

function toJson({ name, from, to, reason, openMs, openCount }: BreakerEvent): object {
  return { breaker: name, from, to, reason, open_seconds: openMs / 1000, open_count: openCount }
}
