/**
 * Tells a crash from a crash loop: `limit` deaths within `windowMs` are a loop, and replacing once more would only burn CPU and hide
 * the cause. Time is passed in.
 */
export class CrashLoop {
  private readonly deaths: number[] = []

  constructor(
    readonly limit: number,
    readonly windowMs: number,
  ) {}

  /** Records a death at `nowMs` (monotonic milliseconds); true when it completes a loop. */
  record(nowMs: number): boolean {
    this.deaths.push(nowMs)
    while ((this.deaths[0] ?? nowMs) <= nowMs - this.windowMs) this.deaths.shift()
    return this.deaths.length >= this.limit
  }

  /** Deaths that still count at the last recorded one. */
  get count(): number {
    return this.deaths.length
  }
}

/** Waiting times between restarts: `firstMs`, doubled each time up to `maxMs`; `reset` after a life that was long enough. */
export class Backoff {
  private nextMs: number

  constructor(
    readonly firstMs: number,
    readonly maxMs: number,
  ) {
    this.nextMs = firstMs
  }

  next(): number {
    const current = this.nextMs
    this.nextMs = Math.min(this.maxMs, this.nextMs * 2)
    return current
  }

  reset(): void {
    this.nextMs = this.firstMs
  }
}
