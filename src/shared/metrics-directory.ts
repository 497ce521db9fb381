/**
 * What the cells of all metrics slabs mean, and their merged values: the primary's side of shared/metrics-slab.
 *
 * Workers declare each series once; the same labels from several workers, and from earlier holders of a slot, are one series here.
 *
 * A worker that has ended leaves its counts behind: `retire` adds them to totals kept here, zeroes the slab and forgets its layout, so
 * that the replacement starts on a clean slab and counters never go backwards. Call it after the thread has ended and before its
 * replacement is started.
 */
import { FINE_CELLS } from '../base/latency-buckets.js'
import { FINE_START, fixedCells, gaugeCells, METRICS_SLAB_BYTES, ROUTE_CELLS, SERIES_START, seriesKinds } from './metrics-slab.js'
import { assertRegionSize } from './region.js'

export interface MergedSeries {
  /** As declared: kind, then what the kind needs. */
  readonly labels: readonly string[]
  /** Sums over all workers: ROUTE_CELLS of them for a route series, else one. */
  readonly cells: Float64Array
}

export interface MergedFixed {
  readonly requests: number
  readonly inFlight: number
  readonly connections: number
  readonly connectionsAccepted: number
  readonly upstreamConnections: number
  readonly queuedByLimits: number
  readonly durationSumMs: number
  readonly overflows: number
  readonly consumerOverflows: number
  /** Counts by log-linear cell (base/latency-buckets). */
  readonly durations: Float64Array
}

interface Declared {
  readonly slot: number
  readonly key: string
  readonly labels: readonly string[]
}

function cellCount(labels: readonly string[]): number {
  return labels[0] === seriesKinds.route ? ROUTE_CELLS : 1
}

export class MetricsDirectory {
  private readonly slabs: readonly Float64Array[]
  private readonly declared: Declared[][]
  private readonly retired = new Map<string, MergedSeries>()
  private readonly retiredHead = new Float64Array(SERIES_START)

  constructor(slabs: readonly SharedArrayBuffer[]) {
    for (const slab of slabs) assertRegionSize('metrics', slab, METRICS_SLAB_BYTES)
    this.slabs = slabs.map((slab) => new Float64Array(slab))
    this.declared = slabs.map(() => [])
  }

  /** Takes the declaration of a series by the worker in this slot. Throws RangeError on what no worker would declare. */
  declare(worker: number, slot: number, labels: readonly string[]): void {
    const slab = this.slabs[worker]
    const list = this.declared[worker]
    if (slab === undefined || list === undefined) throw new RangeError(`worker slot ${worker} has no metrics slab`)
    if (!Number.isInteger(slot) || slot < SERIES_START || slot + cellCount(labels) > slab.length) {
      throw new RangeError(`metric series ${labels.join(',')} at cell ${slot} lies outside the series area of its slab`)
    }
    list.push({ slot, key: JSON.stringify(labels), labels })
  }

  /** Keeps what the ended worker of this slot has counted, and clears its slab for the next one. */
  retire(worker: number): void {
    const slab = this.slabs[worker]
    if (slab === undefined) throw new RangeError(`worker slot ${worker} has no metrics slab`)
    this.mergeWorker(worker, this.retired)
    addCells(this.retiredHead, slab, 0)
    for (const cell of gaugeCells) this.retiredHead[cell] = 0
    slab.fill(0)
    this.declared[worker] = []
  }

  /** All series, summed over workers, in order of declaration. */
  series(): MergedSeries[] {
    const merged = new Map<string, MergedSeries>()
    for (const [key, series] of this.retired) merged.set(key, { labels: series.labels, cells: series.cells.slice() })
    for (let worker = 0; worker < this.slabs.length; worker++) this.mergeWorker(worker, merged)
    return [...merged.values()]
  }

  /** The fixed cells, summed over workers. */
  fixed(): MergedFixed {
    const head = this.retiredHead.slice()
    for (const slab of this.slabs) addCells(head, slab, 0)
    return {
      requests: head[fixedCells.requests] ?? 0,
      inFlight: head[fixedCells.inFlight] ?? 0,
      connections: head[fixedCells.connections] ?? 0,
      connectionsAccepted: head[fixedCells.connectionsAccepted] ?? 0,
      upstreamConnections: head[fixedCells.upstreamConnections] ?? 0,
      queuedByLimits: head[fixedCells.queuedByLimits] ?? 0,
      durationSumMs: head[fixedCells.durationSumMs] ?? 0,
      overflows: head[fixedCells.overflows] ?? 0,
      consumerOverflows: head[fixedCells.consumerOverflows] ?? 0,
      durations: head.slice(FINE_START, FINE_START + FINE_CELLS),
    }
  }

  /** Cells of all slabs that lie in the series area, and how many of them hold a series. */
  usage(): { readonly capacity: number; readonly used: number } {
    let capacity = 0
    let used = 0
    for (const slab of this.slabs) capacity += slab.length - SERIES_START
    for (const list of this.declared) for (const { labels } of list) used += cellCount(labels)
    return { capacity, used }
  }

  private mergeWorker(worker: number, into: Map<string, MergedSeries>): void {
    const slab = this.slabs[worker]
    if (slab === undefined) return
    for (const { slot, key, labels } of this.declared[worker] ?? []) {
      let target = into.get(key)
      if (target === undefined) {
        target = { labels, cells: new Float64Array(cellCount(labels)) }
        into.set(key, target)
      }
      addCells(target.cells, slab, slot)
    }
  }
}

function addCells(target: Float64Array, slab: Float64Array, start: number): void {
  for (let index = 0; index < target.length; index++) target[index] = (target[index] as number) + (slab[start + index] as number)
}
