import type { ProcessLog } from '../../../src/telemetry/process-log.js'

/** A process log that keeps its lines as `level message` and can be waited on. */
export class RecordedLog implements ProcessLog {
  readonly lines: string[] = []
  flushes = 0
  private readonly waiting = new Set<() => void>()

  debug(message: string): void {
    this.add('debug', message)
  }
  info(message: string): void {
    this.add('info', message)
  }
  warn(message: string): void {
    this.add('warn', message)
  }
  error(message: string): void {
    this.add('error', message)
  }
  setLevel(): void {}
  flush(): void {
    this.flushes++
  }

  /** Resolves when a line contains `text`, or `condition` holds when a line is added or at the next turn of the event loop. */
  until(text: string, condition: () => boolean = () => false): Promise<void> {
    return new Promise((resolve) => {
      const look = () => {
        if (!condition() && !this.lines.some((line) => line.includes(text))) return
        this.waiting.delete(look)
        resolve()
      }
      this.waiting.add(look)
      look()
    })
  }

  private add(level: string, message: string): void {
    this.lines.push(`${level} ${message}`)
    setImmediate(() => {
      for (const look of [...this.waiting]) look()
    })
  }
}
