/**
 * Renders the metrics page from the merged slabs of all workers. Runs in the primary, at the time of the scrape: workers are not asked.
 */
import { FINE_CELLS, fineCellBoundUs, LATENCY_BUCKETS, latencyBoundsMs } from '../base/latency-buckets.js'
import type { MergedFixed, MergedSeries, MetricsDirectory } from '../shared/metrics-directory.js'
import { counterNames, EGRESS_CELL, INGRESS_CELL, LATENCY_BLOCK, latencyTypes, seriesKinds } from '../shared/metrics-slab.js'
import { ExpositionWriter, formatValue } from './exposition.js'
import { type Metric, metrics, workerCounters } from './metrics.js'

/** Values that the primary knows itself. Label values in the order of the metric's labels. */
export interface Sample {
  readonly metric: Metric
  readonly values: readonly string[]
  readonly value: number
}

/** request_type, request_llm_model, llm_model: never known here. */
const noLlm: readonly string[] = ['', '', '']

/** Bounds of gateway_request_duration_seconds: 2^7 µs to 2^26 µs, which are exact bounds of the log-linear cells. */
const durationBoundsUs: readonly number[] = Array.from({ length: 20 }, (_, index) => 2 ** (index + 7))
const durationBounds: readonly string[] = durationBoundsUs.map((us) => formatValue(us / 1e6))

/**
 * The page in parts of some 256 KiB, so that a page of 100 MB (many thousand routes) is written between other work of the thread.
 * All values are read at the first step. `boundsMs`: those that the workers count latencies by. Throws RangeError when a sample or a declared series does not fit its metric.
 */
export function* prometheusParts(
  directory: MetricsDirectory,
  samples: readonly Sample[],
  boundsMs: readonly number[] = latencyBoundsMs,
): Generator<string, void, void> {
  const writer = new ExpositionWriter()
  const fixed = directory.fixed()
  const series = directory.series()
  writeFixed(writer, fixed)
  writeCounters(writer, series)
  writeSamples(writer, samples)
  const routes = mergeByRoute(series.filter(({ labels }) => labels[0] === seriesKinds.route))
  for (const write of [
    writeStatuses(writer, series),
    writeLatencies(writer, routes, boundsMs.map(formatValue)),
    writeBandwidth(writer, routes),
  ]) {
    for (const _ of write) if (writer.isPartFull) yield writer.take()
  }
  yield writer.take()
}

/** The whole page as one text. */
export function renderPrometheus(
  directory: MetricsDirectory,
  samples: readonly Sample[],
  boundsMs: readonly number[] = latencyBoundsMs,
): string {
  return [...prometheusParts(directory, samples, boundsMs)].join('')
}

interface RouteTotals {
  readonly values: string[]
  readonly cells: Float64Array
}

/** Each step of a generator below writes the samples of one series. */
type Steps = Generator<void, void, void>

function* writeStatuses(writer: ExpositionWriter, series: readonly MergedSeries[]): Steps {
  writer.family(metrics.httpStatus)
  for (const { labels, cells } of series) {
    if (labels[0] !== seriesKinds.status) continue
    const [, code = '', source = '', ...route] = labels
    writer.sample(metrics.httpStatus, [code, ...route, ...noLlm, source], cells[0] ?? 0)
    yield
  }
}

/** Sums what differs only in labels that the metric does not have (matched_uri, matched_host). Adds into the cells it is given. */
function mergeByRoute(routes: readonly MergedSeries[]): RouteTotals[] {
  const merged = new Map<string, RouteTotals>()
  for (const { labels, cells } of routes) {
    const [, route = '', , , service = '', consumer = '', node = ''] = labels
    const values = [route, service, consumer, node, ...noLlm]
    const key = values.join('\u0000')
    const known = merged.get(key)
    if (known === undefined) merged.set(key, { values, cells })
    else for (let index = 0; index < cells.length; index++) known.cells[index] = (known.cells[index] ?? 0) + (cells[index] ?? 0)
  }
  return [...merged.values()]
}

function* writeLatencies(writer: ExpositionWriter, routes: readonly RouteTotals[], bounds: readonly string[]): Steps {
  writer.family(metrics.httpLatency)
  for (const { values, cells } of routes) {
    for (const [index, type] of latencyTypes.entries()) {
      const block = cells.subarray(index * LATENCY_BLOCK, (index + 1) * LATENCY_BLOCK)
      const counts = block.subarray(0, bounds.length + 1)
      // A route that was never proxied has no upstream latency; an empty histogram would only cost the reader.
      if (counts.every((count) => count === 0)) continue
      writer.histogram(metrics.httpLatency, [type, ...values], bounds, counts, block[LATENCY_BUCKETS] ?? 0)
    }
    yield
  }
}

function* writeBandwidth(writer: ExpositionWriter, routes: readonly RouteTotals[]): Steps {
  writer.family(metrics.bandwidth)
  for (const { values, cells } of routes) {
    writer.sample(metrics.bandwidth, ['ingress', ...values], cells[INGRESS_CELL] ?? 0)
    writer.sample(metrics.bandwidth, ['egress', ...values], cells[EGRESS_CELL] ?? 0)
    yield
  }
}

function writeFixed(writer: ExpositionWriter, fixed: MergedFixed): void {
  writer.family(metrics.httpRequests)
  writer.sample(metrics.httpRequests, [], fixed.requests)
  writer.family(metrics.connections)
  // Not every uWebSockets.js build tells when connections come and go. Where none was ever reported, only requests are known.
  if (fixed.connectionsAccepted > 0) {
    writer.sample(metrics.connections, ['active'], fixed.connections)
    writer.sample(metrics.connections, ['waiting'], Math.max(0, fixed.connections - fixed.inFlight))
    writer.sample(metrics.connections, ['accepted'], fixed.connectionsAccepted)
    writer.sample(metrics.connections, ['handled'], fixed.connectionsAccepted)
  }
  writer.sample(metrics.connections, ['writing'], fixed.inFlight)
  writer.family(metrics.upstreamConnections)
  writer.sample(metrics.upstreamConnections, [], fixed.upstreamConnections)
  writer.family(metrics.rateLimitQueue)
  writer.sample(metrics.rateLimitQueue, [], fixed.queuedByLimits)
  writer.family(metrics.requestDuration)
  writer.histogram(metrics.requestDuration, [], durationBounds, durationCounts(fixed.durations), fixed.durationSumMs / 1000)
  writer.family(metrics.seriesOverflow)
  writer.sample(metrics.seriesOverflow, [], fixed.overflows)
  writer.family(metrics.consumerOverflow)
  writer.sample(metrics.consumerOverflow, [], fixed.consumerOverflows)
}

/** Sums log-linear cells between the exported bounds. */
function durationCounts(cells: Float64Array): Float64Array {
  const counts = new Float64Array(durationBoundsUs.length + 1)
  let bucket = 0
  for (let cell = 0; cell < FINE_CELLS; cell++) {
    while (bucket < durationBoundsUs.length && fineCellBoundUs(cell) > (durationBoundsUs[bucket] ?? 0)) bucket++
    counts[bucket] = (counts[bucket] ?? 0) + (cells[cell] ?? 0)
  }
  return counts
}

function writeCounters(writer: ExpositionWriter, series: readonly MergedSeries[]): void {
  for (const name of counterNames) {
    const metric = workerCounters[name]
    writer.family(metric)
    for (const { labels, cells } of series) {
      if (labels[0] === seriesKinds.counter && labels[1] === name) writer.sample(metric, labels.slice(2), cells[0] ?? 0)
    }
  }
}

function writeSamples(writer: ExpositionWriter, samples: readonly Sample[]): void {
  for (const metric of new Set(samples.map((sample) => sample.metric))) {
    writer.family(metric)
    for (const sample of samples) if (sample.metric === metric) writer.sample(metric, sample.values, sample.value)
  }
}
