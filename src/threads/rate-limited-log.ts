/**
 * A worker's way to the process log: at most so many lines a second go to the primary, and what was left out is said afterwards.
 * A flood of failing requests must not become a flood of messages.
 */
import type { FromWorker } from './protocol.js'

const LINES_PER_SECOND_MAX = 20

export class RateLimitedLog {
  private windowStartMs = 0
  private lines = 0
  private suppressed = 0

  constructor(
    private readonly send: (message: FromWorker) => void,
    private readonly nowMs: () => number,
  ) {}

  write(level: 'debug' | 'info' | 'warn' | 'error', message: string): void {
    const now = this.nowMs()
    if (now - this.windowStartMs >= 1000) {
      const { suppressed } = this
      this.windowStartMs = now
      this.lines = 0
      this.suppressed = 0
      if (suppressed > 0) this.post('warn', `${suppressed} further log lines of this worker were left out`)
    }
    if (this.lines >= LINES_PER_SECOND_MAX) {
      this.suppressed++
      return
    }
    this.lines++
    this.post(level, message)
  }

  private post(level: 'debug' | 'info' | 'warn' | 'error', message: string): void {
    this.send({ type: 'log', level, message, fields: {} })
  }
}
