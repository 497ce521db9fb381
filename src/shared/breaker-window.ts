/**
 * The sliding window of a circuit breaker: part of its slot (shared/breaker-cells), by word of the slot.
 *
 *   6–8     requests, failures, slow calls as they stood when the breaker closed: what came before is not looked at
 *   16–18   requests, failures, slow calls so far, modulo 2^32       19  bucket in which they were last counted
 *   24–63   ring of 10: [bucket, requests, failures, slow calls] as they stood when that bucket began
 *
 * The window is what was counted less what stood at its beginning, so a count is one atomic add, nothing is ever set back, and no
 * count is lost when a bucket begins. A thread that dies in the middle leaves a bucket without its beginning: then nothing is decided
 * on ratios until the next one.
 */
import { type BreakerReason, type BreakerSettings, Outcome } from '../breakers/contract.js'

const BASE = 6
const TOTALS = 16
const BUCKET = 19
const RING = 24
const RING_WORDS = 4

const BUCKETS = 10

/** `base`: first word of the slot. */
export class BreakerWindow {
  constructor(private readonly words: Int32Array) {}

  /** Counts a request; returns the bucket in which it was counted. */
  count(base: number, windowMs: number, outcome: number, nowMs: number): number {
    const { words } = this
    const bucket = this.turn(base, Math.floor((nowMs * BUCKETS) / windowMs) | 0)
    if ((outcome & Outcome.laterOk) === 0) Atomics.add(words, base + TOTALS, 1)
    if ((outcome & Outcome.failed) !== 0) Atomics.add(words, base + TOTALS + 1, 1)
    if ((outcome & Outcome.slow) !== 0) Atomics.add(words, base + TOTALS + 2, 1)
    return bucket
  }

  /** Begins the bucket unless it has begun; returns the one that counts now. */
  private turn(base: number, bucket: number): number {
    const { words } = this
    const last = Atomics.load(words, base + BUCKET)
    const ahead = (bucket - last) | 0
    // One behind: another thread read its clock a moment later. More: the length of the window was changed.
    if (ahead === 0 || ahead === -1) return last
    if (Atomics.compareExchange(words, base + BUCKET, last, bucket) !== last) return Atomics.load(words, base + BUCKET)
    const missing = ahead > 0 && ahead < BUCKETS ? ahead : BUCKETS
    for (let index = missing - 1; index >= 0; index--) this.beginBucket(base, (bucket - index) | 0)
    return bucket
  }

  private beginBucket(base: number, bucket: number): void {
    const { words } = this
    const at = base + ringOf(bucket)
    // Failures before requests: read in between, no share is above 1.
    Atomics.store(words, at + 2, Atomics.load(words, base + TOTALS + 1))
    Atomics.store(words, at + 3, Atomics.load(words, base + TOTALS + 2))
    Atomics.store(words, at + 1, Atomics.load(words, base + TOTALS))
    Atomics.store(words, at, bucket)
  }

  /** The ratio that opens the breaker now, or null. `closedForMs`: time since it closed, before which nothing is looked at. */
  reason(base: number, settings: BreakerSettings, bucket: number, nowMs: number, closedForMs: number): BreakerReason | null {
    const { words } = this
    const first = (bucket - (BUCKETS - 1)) | 0
    let from = base + ringOf(first)
    if (Atomics.load(words, from) !== first) return null
    const bucketMs = settings.windowMs / BUCKETS
    if (closedForMs < (nowMs % bucketMs) + bucketMs * (BUCKETS - 1)) from = base + BASE - 1
    const failures = (Atomics.load(words, base + TOTALS + 1) - Atomics.load(words, from + 2)) >>> 0
    const slow = (Atomics.load(words, base + TOTALS + 2) - Atomics.load(words, from + 3)) >>> 0
    const requests = (Atomics.load(words, base + TOTALS) - Atomics.load(words, from + 1)) >>> 0
    if (requests < settings.minimumRequests) return null
    if (settings.errorRatio > 0 && failures >= settings.errorRatio * requests) return 'error-ratio'
    return settings.slowRatio > 0 && slow >= settings.slowRatio * requests ? 'slow-ratio' : null
  }

  /** What was counted until now is not looked at any more. */
  mark(base: number): void {
    const { words } = this
    for (let index = 0; index < 3; index++) Atomics.store(words, base + BASE + index, Atomics.load(words, base + TOTALS + index))
  }
}

function ringOf(bucket: number): number {
  return RING + ((bucket >>> 0) % BUCKETS) * RING_WORDS
}
