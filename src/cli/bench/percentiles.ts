/** Latencies of one measurement: an HDR histogram of microseconds, and the percentiles that are read from it. */
import { build, decodeFromCompressedBase64, encodeIntoCompressedBase64, type Histogram } from 'hdr-histogram-js'

/** Percentiles of the report; 100 = the maximum. */
export const reportedPercentiles = [50, 75, 90, 97.5, 99, 99.9, 99.99, 100] as const

export interface LatencyPoint {
  /** From 0 to 100. */
  readonly percentile: number
  /** Milliseconds. */
  readonly value: number
}

const layout = {
  bitBucketSize: 32,
  lowestDiscernibleValue: 1,
  highestTrackableValue: 120_000_000,
  numberOfSignificantValueDigits: 3,
} as const

/** Points of a curve per power of ten: 90 to 99 %, 99 to 99.9 %, and so on. */
const pointsPerDecade = 15
/** 99.999 %. */
const decadesMax = 5

/** Latencies with three significant digits, from 1 µs to 2 minutes. */
export class Latencies {
  readonly #histogram: Histogram

  constructor(histogram: Histogram = build(layout)) {
    this.#histogram = histogram
  }

  /** @throws Error for a text that `encoded` did not make. */
  static decode(text: string): Latencies {
    return new Latencies(decodeFromCompressedBase64(text, layout.bitBucketSize))
  }

  /** As text, in the compressed form that HDR tools of other languages read. */
  encoded(): string {
    return encodeIntoCompressedBase64(this.#histogram)
  }

  get count(): number {
    return this.#histogram.totalCount
  }

  get meanMs(): number {
    return this.count === 0 ? 0 : this.#histogram.mean / 1000
  }

  record(milliseconds: number): void {
    this.#histogram.recordValue(Math.min(layout.highestTrackableValue, Math.max(1, Math.round(milliseconds * 1000))))
  }

  add(other: Latencies): void {
    this.#histogram.add(other.#histogram)
  }

  /** Milliseconds; 0 when nothing was recorded. */
  at(percentile: number): number {
    return this.count === 0 ? 0 : this.#histogram.getValueAtPercentile(percentile) / 1000
  }

  reported(): LatencyPoint[] {
    return reportedPercentiles.map((percentile) => ({ percentile, value: this.at(percentile) }))
  }

  /**
   * Points for a picture, at equal steps of `decadesOf`: every further decade is a tenth of the requests. It ends where there are no
   * requests left to tell a percentile from the maximum.
   */
  curve(): LatencyPoint[] {
    if (this.count === 0) return []
    const steps = Math.ceil(Math.min(decadesMax, Math.log10(this.count)) * pointsPerDecade)
    return Array.from({ length: steps + 1 }, (_, step) => {
      const percentile = percentileAt(step / pointsPerDecade)
      return { percentile, value: this.at(percentile) }
    })
  }
}

/** How many times nine: 0 for the fastest request, 1 for 90 %, 2 for 99 %. */
export function decadesOf(percentile: number): number {
  return -Math.log10(1 - percentile / 100)
}

export function percentileAt(decades: number): number {
  return 100 * (1 - 10 ** -decades)
}

export function percentileName(percentile: number): string {
  return percentile === 100 ? 'max' : `p${percentile}`
}
