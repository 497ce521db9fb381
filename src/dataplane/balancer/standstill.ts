/**
 * How long this thread has stood still: collected garbage, ran something heavy, or was not given the processor. Answers that waited
 * meanwhile say nothing about the nodes that sent them. Runs on workers; told of every sweep, which comes every 50 ms when all is well.
 */

/** A sweep that comes later than this after the one before: the thread was busy with something else. */
const EXPECTED_MS = 75

export class Standstill {
  private sumMs = 0
  private dueMs = Number.POSITIVE_INFINITY

  swept(nowMs: number): void {
    this.sumMs = this.totalMs(nowMs)
    this.dueMs = nowMs + EXPECTED_MS
  }

  /** Milliseconds since the start of the thread, the standstill under way included. Never falls. */
  totalMs(nowMs: number): number {
    return nowMs > this.dueMs ? this.sumMs + nowMs - this.dueMs : this.sumMs
  }
}
