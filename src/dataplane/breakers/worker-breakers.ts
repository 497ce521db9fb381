/**
 * Where the plugins of one worker get their circuit breakers from: binds names to shared cells, counts refusals, and tells the primary
 * of breakers and of their transitions.
 */
import type {
  BoundBreaker,
  BreakerEvent,
  BreakerSet,
  BreakerSettings,
  BreakerSpec,
  DeclaredBreaker,
  PathBreakerSettings,
  PathBreakers,
} from '../../breakers/contract.js'
import { ADMITTED } from '../../breakers/contract.js'
import { BreakerCells } from '../../shared/breaker-cells.js'
import type { Counter, WorkerMetrics } from '../../shared/metrics-slab.js'
import { PathBreakerTable } from '../../shared/path-breakers.js'

/** Bound breakers of one set (consumers, nodes) that are kept; beyond, they are looked up anew. */
const BOUND_MAX = 10_000

export interface WorkerBreakersOptions {
  readonly region: SharedArrayBuffer
  readonly pathRegion: SharedArrayBuffer
  /** Index of the worker. */
  readonly member: number
  /** Monotonic milliseconds. `recent` may be as old as the last event of the loop, and costs nothing. */
  readonly now: () => number
  readonly recent: () => number
  readonly metrics: WorkerMetrics
  readonly declare: (breaker: DeclaredBreaker) => void
  readonly report: (event: BreakerEvent) => void
  readonly log: (level: 'warn', message: string) => void
}

export class WorkerBreakers {
  private readonly cells: BreakerCells
  private readonly paths: PathBreakerTable
  /** What was declared, by slot: the primary needs to hear of each once, and of changed settings. */
  private readonly declared = new Map<number, DeclaredBreaker>()
  private hasWarned = false

  constructor(private readonly options: WorkerBreakersOptions) {
    this.cells = new BreakerCells(options.region, (slot, event) => {
      const name = this.declared.get(slot)?.name
      if (name !== undefined) options.report({ ...event, name })
    })
    this.paths = new PathBreakerTable(options.pathRegion, options.member)
  }

  /** The breakers of a plugin on a route (empty = no route). */
  bind(plugin: string, routeId: string, spec: BreakerSpec): BreakerSet {
    const counter = (result: string) => this.options.metrics.counter('breaker_refusals', [plugin, routeId, result])
    const refused = counter('refused')
    const dryRun = counter('dry_run')
    const bound = new Map<string, BoundBreaker | null>()
    return {
      get: (key) => {
        const known = bound.get(key)
        if (known !== undefined) return known
        if (bound.size >= BOUND_MAX) bound.clear()
        const slot = this.open(plugin, `${spec.scope}:${key}`, spec)
        const breaker =
          slot < 0 ? null : new CellBreaker(`${spec.scope}:${key}`, slot, spec.settings, this.cells, this.options, refused, dryRun)
        bound.set(key, breaker)
        return breaker
      },
    }
  }

  /** The breakers by path of a plugin on a route. */
  bindPaths(plugin: string, routeId: string, settings: PathBreakerSettings): PathBreakers {
    const refused = this.options.metrics.counter('breaker_refusals', [plugin, routeId, 'refused'])
    const { paths } = this
    const { now, recent } = this.options
    return {
      isOpen: (host, path) => {
        const isOpen = paths.isOpen(host, path, settings, recent())
        if (isOpen) refused.add(1)
        return isOpen
      },
      failed: (host, path) => paths.failed(host, path, settings, now()),
      succeeded: (host, path) => paths.succeeded(host, path, settings),
    }
  }

  private open(plugin: string, name: string, { settings, isShared }: BreakerSpec): number {
    const slot = this.cells.slotOf(name)
    if (slot < 0) {
      if (!this.hasWarned) this.options.log('warn', `the table of circuit breakers is full: "${name}" and others have none`)
      this.hasWarned = true
      return slot
    }
    const known = this.declared.get(slot)
    if (known === undefined || known.settings !== settings) {
      const breaker = { slot, name, plugin, settings, isShared }
      this.declared.set(slot, breaker)
      this.options.declare(breaker)
    }
    return slot
  }
}

class CellBreaker implements BoundBreaker {
  constructor(
    readonly name: string,
    private readonly slot: number,
    private readonly settings: BreakerSettings,
    private readonly cells: BreakerCells,
    private readonly clock: Pick<WorkerBreakersOptions, 'now' | 'recent'>,
    private readonly refused: Counter,
    private readonly dryRun: Counter,
  ) {}

  admit(): number {
    return this.cells.isClosed(this.slot) ? ADMITTED : this.cells.admit(this.slot, this.settings, this.clock.now())
  }

  record(outcome: number, ageMs: number): void {
    // The answer was just read, with the time.
    this.cells.record(this.slot, this.settings, outcome, this.clock.recent(), ageMs)
  }

  settle(ticket: number, outcome: number): void {
    this.cells.settle(this.slot, this.settings, ticket, outcome, this.clock.now())
  }

  retryAfterMs(): number {
    return this.cells.retryAfterMs(this.slot, this.clock.now())
  }

  countRefusal(isDryRun: boolean): void {
    if (isDryRun) this.dryRun.add(1)
    else this.refused.add(1)
  }
}
