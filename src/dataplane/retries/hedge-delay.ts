/**
 * How long a try may take before a second one is sent beside it: a fixed time, or a percentile of the latencies that this worker saw of
 * the upstream. Latencies lie in buckets that grow by a fifth; old ones fade, because all counts are halved now and then.
 */
import type { CompiledHedge } from '../../schema/compiled.js'

const BUCKETS = 80
const FIRST_MS = 0.5
const GROWTH = 1.2
/** Before so many latencies are known there is no percentile, and so no hedge. */
const SAMPLES_MIN = 100
const SAMPLES_MAX = 2_000

export class HedgeDelay {
  private readonly counts = new Float64Array(BUCKETS)
  private total = 0

  constructor(private readonly conf: CompiledHedge) {}

  took(latencyMs: number): void {
    if (this.conf.percentile === 0) return
    const bucket = Math.ceil(Math.log(Math.max(FIRST_MS, latencyMs) / FIRST_MS) / Math.log(GROWTH))
    const index = Math.min(BUCKETS - 1, bucket)
    this.counts[index] = (this.counts[index] as number) + 1
    if (++this.total < SAMPLES_MAX) return
    this.total /= 2
    for (let each = 0; each < BUCKETS; each++) this.counts[each] = (this.counts[each] as number) / 2
  }

  /** Milliseconds; null = nothing is known yet. */
  get delayMs(): number | null {
    const { percentile, delayMs } = this.conf
    if (percentile === 0) return delayMs
    if (this.total < SAMPLES_MIN) return null
    let below = 0
    for (let index = 0; index < BUCKETS; index++) {
      below += this.counts[index] as number
      if (below * 100 >= this.total * percentile) return Math.max(delayMs, FIRST_MS * GROWTH ** index)
    }
    return null
  }
}
