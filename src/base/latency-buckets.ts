/**
 * The two ways in which latencies are counted. Both are pure arithmetic without allocation; the cells live elsewhere.
 *
 * - Per route and type: the buckets of the reference gateway, in milliseconds, because dashboards rely on them; or as many others as a
 *   process is configured with.
 * - For the whole process: log-linear cells in microseconds, 16 per power of two (6.25 % wide), from which exact power-of-two
 *   Prometheus buckets and percentiles are derived by the reader.
 *
 * Upper bounds belong to their bucket, as `le` means.
 */

/** Upper bounds in milliseconds of `apisix_http_latency`, unless others are configured; one more bucket (+Inf) follows. */
export const latencyBoundsMs: readonly number[] = Object.freeze([1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 30000, 60000])

/** Cells of a histogram; with less bounds the last ones stay empty. */
export const LATENCY_BUCKETS = latencyBoundsMs.length + 1
/** So many bounds may be configured. */
export const LATENCY_BOUNDS_MAX = LATENCY_BUCKETS - 1

/** Bounds as `latencyBucket` takes them; at most LATENCY_BOUNDS_MAX, ascending. Compiled code reads frozen arrays by a call. */
export function latencyBounds(boundsMs: readonly number[]): Float64Array {
  const bounds = new Float64Array(LATENCY_BOUNDS_MAX).fill(Number.POSITIVE_INFINITY)
  bounds.set(boundsMs)
  return bounds
}

/** Index of the bucket that `ms` falls into. The common answers are fast, so a scan from below beats a search. */
export function latencyBucket(ms: number, bounds: Float64Array): number {
  let index = 0
  while (index < LATENCY_BUCKETS - 1 && ms > (bounds[index] as number)) index++
  return index
}

/** Cells per power of two. */
const SUB_BITS = 4
const SUB_CELLS = 1 << SUB_BITS
/** The last finite bound is 2^26 µs, a little over a minute. */
const OCTAVE_MAX = 26

/** Log-linear cells, and one more for everything slower. */
export const FINE_CELLS = (OCTAVE_MAX - SUB_BITS + 1) * SUB_CELLS + 1

/** Index of the log-linear cell of a latency in milliseconds; the last one takes everything above 2^26 µs. */
export function fineCell(ms: number): number {
  // One less than the whole microseconds above: cell boundaries then include their upper end.
  const value = Math.ceil(ms * 1000) - 1
  if (value < SUB_CELLS) return Math.max(value, 0)
  if (value >= 2 ** OCTAVE_MAX) return FINE_CELLS - 1
  const octave = 31 - Math.clz32(value)
  return (octave - SUB_BITS) * SUB_CELLS + (value >>> (octave - SUB_BITS))
}

/** Upper bound of a log-linear cell in microseconds, inclusive; Infinity for the last. */
export function fineCellBoundUs(cell: number): number {
  if (cell >= FINE_CELLS - 1) return Number.POSITIVE_INFINITY
  if (cell < SUB_CELLS) return cell + 1
  const octave = (cell >>> SUB_BITS) + SUB_BITS - 1
  const step = 2 ** (octave - SUB_BITS)
  return ((cell & (SUB_CELLS - 1)) + SUB_CELLS + 1) * step
}
