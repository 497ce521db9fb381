/**
 * Metrics of one worker: cells that the worker counts in and that the primary reads.
 *
 *   float64[0…63]                  fixed cells (`fixedCells`)
 *   float64[64…64+FINE_CELLS-1]    durations of all requests, log-linear (base/latency-buckets)
 *   float64[SERIES_START…]         series, allocated upwards as they appear:
 *                                    route series  ROUTE_CELLS: 3 × (LATENCY_BUCKETS counts, sum of ms), ingress, egress bytes
 *                                    status        1 cell
 *                                    counter       1 cell
 *   last RESERVED_CELLS            kept for the overflow series, which take what no longer fits
 *
 * One writer: the worker of this slab. It declares each series once through `onSeries` before it counts in it; what the cells mean
 * is known from that declaration only (shared/metrics-directory keeps them, in the primary).
 *
 * Why plain stores and no Atomics: there is one writer, nothing is decided on these numbers, and an aligned 64-bit store is one
 * instruction on x64 and arm64, so a reader sees the old or the new value of a cell, never half of each. Different cells may be read
 * some nanoseconds apart; the reader derives counts from buckets so that a histogram is consistent in itself.
 */
import { FINE_CELLS, fineCell, LATENCY_BUCKETS, latencyBounds, latencyBoundsMs, latencyBucket } from '../base/latency-buckets.js'
import { assertRegionSize, FLOAT64_PER_LINE } from './region.js'

/** About 19,000 series of routes and nodes per worker. Untouched pages cost nothing. */
export const METRICS_SLAB_BYTES = 8 * 1024 * 1024

/** Fixed cells. `gauge` cells say how it is now and die with the worker; the others only rise. */
export const fixedCells = {
  /** Requests since the start. */
  requests: 0,
  /** Gauge: requests being served. */
  inFlight: 1,
  /** Gauge: open client connections. */
  connections: 2,
  /** Client connections since the start. */
  connectionsAccepted: 3,
  /** Sum of all request durations, milliseconds. */
  durationSumMs: 4,
  /** Records and series that went to an overflow series because the slab is full. */
  overflows: 5,
  /** Gauge: open connections to upstream nodes. */
  upstreamConnections: 6,
  /** Gauge: requests that wait because a limit delays them. */
  queuedByLimits: 7,
  /** Consumers that went to the label value "overflow" because their route names as many as it may. */
  consumerOverflows: 8,
} as const

/** The fixed cells that do not survive their worker. */
export const gaugeCells: readonly number[] = [
  fixedCells.inFlight,
  fixedCells.connections,
  fixedCells.upstreamConnections,
  fixedCells.queuedByLimits,
]

export const FINE_START = 64
export const SERIES_START = Math.ceil((FINE_START + FINE_CELLS) / FLOAT64_PER_LINE) * FLOAT64_PER_LINE

/** Latency types in the order of their blocks. */
export const latencyTypes = ['request', 'upstream', 'apisix'] as const
export const LATENCY_BLOCK = LATENCY_BUCKETS + 1
const UPSTREAM_BLOCK = LATENCY_BLOCK
const APISIX_BLOCK = 2 * LATENCY_BLOCK
export const INGRESS_CELL = 3 * LATENCY_BLOCK
export const EGRESS_CELL = INGRESS_CELL + 1
export const ROUTE_CELLS = EGRESS_CELL + 1

/** Room for the overflow route series, its statuses, and one overflow cell per counter name. */
const RESERVED_CELLS = 2048

/** First label of a declaration: what kind of cells it declares. */
export const seriesKinds = { route: 'route', status: 'status', counter: 'counter' } as const

/** The counters that a worker may have; telemetry/metrics says how each is shown, and with which labels. */
export const counterNames = [
  'upstream_retries',
  'upstream_retries_refused',
  'upstream_hedges',
  'upstream_connects',
  'upstream_reuse',
  'refused',
  'access_log_dropped',
  'plugin_errors',
  'rate_limit_requests',
  'rate_limit_store_errors',
  'rate_limit_store_calls',
  'rate_limit_fallbacks',
  'rate_limit_lease_units',
  'breaker_refusals',
] as const
export type CounterName = (typeof counterNames)[number]

export const OVERFLOW_LABEL = 'overflow'

/**
 * A route names so many consumers in its series, per worker, those that come first; and series with consumers take at most half of the
 * slab. All others are counted together, as the consumer "overflow": a million consumers must not push out routes and nodes.
 */
export const CONSUMERS_PER_ROUTE_MAX = 256
/** Cells of a series with a consumer and of the statuses that it usually has. */
const CONSUMER_SERIES_CELLS = ROUTE_CELLS + 4

/** Declares a series: `labels` are its kind, then what the kind needs. */
export type SeriesDeclared = (slot: number, labels: readonly string[]) => void

export interface RouteSeriesLabels {
  readonly route: string
  readonly matchedUri: string
  readonly matchedHost: string
  readonly service: string
  readonly consumer: string
  readonly node: string
}

/** Who made the answer: 0 the gateway, 1 the upstream. */
export type ResponseSource = 0 | 1

export interface Counter {
  /** Adds `amount` ≥ 0. */
  add(amount: number): void
}

const overflowLabels: RouteSeriesLabels = {
  route: OVERFLOW_LABEL,
  matchedUri: OVERFLOW_LABEL,
  matchedHost: OVERFLOW_LABEL,
  service: OVERFLOW_LABEL,
  consumer: OVERFLOW_LABEL,
  node: OVERFLOW_LABEL,
}

function labelValues(labels: RouteSeriesLabels): string[] {
  return [labels.route, labels.matchedUri, labels.matchedHost, labels.service, labels.consumer, labels.node]
}

/** Separates label values in keys. Cannot occur in a header value, a host or a canonical path. */
const SEPARATOR = '\u0000'

/** The worker's side of its slab. Make one per thread, on a slab that is zeroed. */
export class WorkerMetrics {
  /** Of the series of routes. */
  readonly latencyBounds: Float64Array
  private readonly cells: Float64Array
  private readonly routes = new Map<string, RouteSeries>()
  private readonly counters = new Map<string, CounterCell>()
  /** Consumers that series name, by route. */
  private readonly consumers = new Map<string, Set<string>>()
  private consumerCells = 0
  private nextFree = SERIES_START
  private nextReserved: number
  private readonly freeEnd: number
  private overflowSeries: RouteSeries | null = null

  constructor(
    slab: SharedArrayBuffer,
    private readonly onSeries: SeriesDeclared,
    boundsMs: readonly number[] = latencyBoundsMs,
  ) {
    assertRegionSize('metrics', slab, METRICS_SLAB_BYTES)
    this.latencyBounds = latencyBounds(boundsMs)
    this.cells = new Float64Array(slab)
    this.freeEnd = this.cells.length - RESERVED_CELLS
    this.nextReserved = this.freeEnd
  }

  requestStarted(): void {
    const cells = this.cells
    cells[fixedCells.requests] = (cells[fixedCells.requests] as number) + 1
    cells[fixedCells.inFlight] = (cells[fixedCells.inFlight] as number) + 1
  }

  /** Call once for every started request, also for aborted ones. `totalMs` since its arrival. */
  requestEnded(totalMs: number): void {
    const cells = this.cells
    cells[fixedCells.inFlight] = (cells[fixedCells.inFlight] as number) - 1
    cells[fixedCells.durationSumMs] = (cells[fixedCells.durationSumMs] as number) + totalMs
    const cell = FINE_START + fineCell(totalMs)
    cells[cell] = (cells[cell] as number) + 1
  }

  setUpstreamConnections(count: number): void {
    this.cells[fixedCells.upstreamConnections] = count
  }

  connectionOpened(): void {
    const cells = this.cells
    cells[fixedCells.connections] = (cells[fixedCells.connections] as number) + 1
    cells[fixedCells.connectionsAccepted] = (cells[fixedCells.connectionsAccepted] as number) + 1
  }

  connectionClosed(): void {
    const cells = this.cells
    cells[fixedCells.connections] = (cells[fixedCells.connections] as number) - 1
  }

  setQueuedByLimits(count: number): void {
    this.cells[fixedCells.queuedByLimits] = count
  }

  /** Requests being served by this worker. */
  get inFlight(): number {
    return this.cells[fixedCells.inFlight] as number
  }

  /**
   * The series of these labels, made on first use. Look it up once and keep it: this builds a key. When the slab is full, the one
   * overflow series. A consumer that its route may not name any more counts as the consumer "overflow".
   */
  routeSeries(labels: RouteSeriesLabels): RouteSeries {
    const values = labelValues(labels)
    const key = values.join(SEPARATOR)
    const known = this.routes.get(key)
    if (known !== undefined) return known
    if (labels.consumer !== '' && labels.consumer !== OVERFLOW_LABEL && !this.admitsConsumer(labels)) {
      this.cells[fixedCells.consumerOverflows] = (this.cells[fixedCells.consumerOverflows] as number) + 1
      return this.routeSeries({ ...labels, consumer: OVERFLOW_LABEL })
    }
    if (this.nextFree + ROUTE_CELLS > this.freeEnd) {
      this.countOverflow()
      return this.overflow()
    }
    const series = this.makeRouteSeries(this.take(ROUTE_CELLS), values)
    this.routes.set(key, series)
    return series
  }

  /** Whether a further series may name this consumer; notes that it does. */
  private admitsConsumer({ route, consumer }: RouteSeriesLabels): boolean {
    if (this.consumerCells + CONSUMER_SERIES_CELLS > (this.freeEnd - SERIES_START) / 2) return false
    const named = this.consumers.get(route) ?? new Set<string>()
    if (!named.has(consumer) && named.size >= CONSUMERS_PER_ROUTE_MAX) return false
    this.consumers.set(route, named.add(consumer))
    this.consumerCells += CONSUMER_SERIES_CELLS
    return true
  }

  /** The counter of this name and these label values, made on first use. Look it up once and keep it. */
  counter(name: CounterName, labels: readonly string[] = []): Counter {
    const key = [name, ...labels].join(SEPARATOR)
    const known = this.counters.get(key)
    if (known !== undefined) return known
    if (this.nextFree < this.freeEnd) return this.makeCounter(key, this.take(1), name, labels)
    this.countOverflow()
    const overflowKey = `${name}${SEPARATOR}${SEPARATOR}${OVERFLOW_LABEL}`
    const shared = this.counters.get(overflowKey)
    if (shared !== undefined) return shared
    return this.makeCounter(
      overflowKey,
      this.takeReserved(),
      name,
      labels.map(() => OVERFLOW_LABEL),
    )
  }

  /** For RouteSeries: the cell that counts answers of one status, or -1 when there is no room. */
  statusCell(status: number, source: ResponseSource, values: readonly string[]): number {
    const isOverflow = this.overflowSeries?.values === values
    if (!isOverflow && this.nextFree >= this.freeEnd) {
      this.countOverflow()
      return this.overflow().cellOf(status, source)
    }
    const cell = isOverflow ? this.takeReserved() : this.take(1)
    this.onSeries(cell, [seriesKinds.status, String(status), source === 1 ? 'upstream' : 'apisix', ...values])
    return cell
  }

  private makeRouteSeries(base: number, values: readonly string[]): RouteSeries {
    this.onSeries(base, [seriesKinds.route, ...values])
    return new RouteSeries(this.cells, base, values, this)
  }

  private makeCounter(key: string, cell: number, name: CounterName, labels: readonly string[]): Counter {
    this.onSeries(cell, [seriesKinds.counter, name, ...labels])
    const counter = new CounterCell(this.cells, cell)
    this.counters.set(key, counter)
    return counter
  }

  private overflow(): RouteSeries {
    if (this.overflowSeries === null) {
      const base = this.nextReserved
      this.nextReserved += ROUTE_CELLS
      this.overflowSeries = this.makeRouteSeries(base, labelValues(overflowLabels))
    }
    return this.overflowSeries
  }

  private take(count: number): number {
    const cell = this.nextFree
    this.nextFree += count
    return cell
  }

  /** The reserve holds every status of one series (2 × 900) and one cell for each counter name: running out is a mistake in this file. */
  private takeReserved(): number {
    if (this.nextReserved >= this.cells.length) throw new RangeError('the reserve of the metrics slab is used up; raise RESERVED_CELLS')
    return this.nextReserved++
  }

  private countOverflow(): void {
    const cells = this.cells
    cells[fixedCells.overflows] = (cells[fixedCells.overflows] as number) + 1
  }
}

class CounterCell implements Counter {
  constructor(
    private readonly cells: Float64Array,
    private readonly cell: number,
  ) {}

  add(amount: number): void {
    this.cells[this.cell] = (this.cells[this.cell] as number) + amount
  }
}

/** Statuses, latencies and bytes of one combination of labels. */
export class RouteSeries {
  private readonly statusCells = new Map<number, number>()
  private lastStatus = -1
  private lastCell = -1
  private readonly bounds: Float64Array

  constructor(
    private readonly cells: Float64Array,
    private readonly base: number,
    readonly values: readonly string[],
    private readonly owner: WorkerMetrics,
  ) {
    this.bounds = owner.latencyBounds
  }

  /**
   * Counts one finished exchange. `upstreamMs` is -1 when no upstream was asked. No allocation, except when a status is seen for the
   * first time.
   */
  record(status: number, source: ResponseSource, totalMs: number, upstreamMs: number, ingressBytes: number, egressBytes: number): void {
    const cells = this.cells
    const { base, bounds } = this
    const statusCell = this.cellOf(status, source)
    cells[statusCell] = (cells[statusCell] as number) + 1
    observe(cells, base, totalMs, bounds)
    if (upstreamMs < 0) {
      observe(cells, base + APISIX_BLOCK, totalMs, bounds)
    } else {
      observe(cells, base + UPSTREAM_BLOCK, upstreamMs, bounds)
      observe(cells, base + APISIX_BLOCK, totalMs > upstreamMs ? totalMs - upstreamMs : 0, bounds)
    }
    cells[base + INGRESS_CELL] = (cells[base + INGRESS_CELL] as number) + ingressBytes
    cells[base + EGRESS_CELL] = (cells[base + EGRESS_CELL] as number) + egressBytes
  }

  /** The cell that counts this status; made on first use. */
  cellOf(status: number, source: ResponseSource): number {
    const wanted = status * 2 + source
    if (wanted === this.lastStatus) return this.lastCell
    let cell = this.statusCells.get(wanted)
    if (cell === undefined) {
      cell = this.owner.statusCell(status, source, this.values)
      this.statusCells.set(wanted, cell)
    }
    this.lastStatus = wanted
    this.lastCell = cell
    return cell
  }
}

function observe(cells: Float64Array, block: number, ms: number, bounds: Float64Array): void {
  const bucket = block + latencyBucket(ms, bounds)
  cells[bucket] = (cells[bucket] as number) + 1
  const sum = block + LATENCY_BUCKETS
  cells[sum] = (cells[sum] as number) + ms
}
