/**
 * The access log of one worker: lines are collected and written in chunks of whole lines, asynchronously. Nothing here ever waits.
 *
 *   append → text buffer ─(chunk full, or FLUSH_MS after the first line)→ queue of chunks ─(one write at a time)→ sink
 *
 * All workers append to the same file; the kernel puts each write at the end, so chunks of several workers do not mix. When the sink
 * does not keep up, up to QUEUE_BYTES_MAX wait; further lines are dropped and counted, and the process log says so once per episode.
 */
import type { Clock } from '../base/clock.js'
import type { LogConfig } from '../schema/process.js'
import { type AccessRecord, commonLine, type FormatOptions, jsonLine, type LineRenderer } from './access-format.js'
import type { LogSink } from './log-sink.js'
import { openFileSink, openStdoutSink } from './log-sink.js'

export type { AccessRecord } from './access-format.js'

/** Longest wait of a line for its write to begin. */
export const FLUSH_MS = 100

/** Bytes that may wait for the sink. */
export const QUEUE_BYTES_MAX = 8 * 1024 * 1024

/** Pause before a full pipe is tried again. */
const RETRY_MS = 10

export interface AccessLogOptions extends Omit<FormatOptions, 'wallMs'> {
  readonly clock: Clock
  /** Counts dropped lines. */
  readonly dropped: { add(lines: number): void }
  /** Writes to the process log. */
  readonly log: (message: string) => void
  /** Replaces the file or stdout of the configuration (tests). */
  readonly sink?: LogSink
}

interface Chunk {
  /** What is still to be written. */
  bytes: Uint8Array
  isBegun: boolean
  readonly lines: number
}

export class AccessLog {
  private readonly render: LineRenderer | null
  private readonly sink: LogSink | null
  private readonly options: AccessLogOptions
  private text = ''
  private textLines = 0
  private readonly queue: Chunk[] = []
  private queuedBytes = 0
  private busy = false
  private wantsReopen = false
  private cancelTimer: (() => void) | null = null
  private episodeDrops = 0
  private readonly idleWaiters: (() => void)[] = []

  /** Opens the file. Throws a UsageError that names it when that fails. */
  constructor(config: LogConfig['access'], options: AccessLogOptions) {
    this.options = options
    const format = { ...options, wallMs: () => options.clock.wallMs() }
    this.render = config.format === 'off' ? null : config.format === 'json' ? jsonLine(format) : commonLine(format)
    this.sink = config.format === 'off' ? null : (options.sink ?? (config.path === 'stdout' ? openStdoutSink() : openFileSink(config.path)))
  }

  /** Takes one finished exchange; its values are read now. */
  append(record: AccessRecord): void {
    if (this.render === null || this.sink === null) return
    if (this.queuedBytes + this.text.length >= QUEUE_BYTES_MAX) {
      this.drop(1, 'it is not written as fast as it grows')
      return
    }
    const line = this.render(record)
    // Cut before a line that would make the chunk larger than what is written in one piece.
    if (this.text.length + line.length > this.sink.atomicBytes) this.cut(this.sink)
    this.text += line
    this.textLines++
    if (this.text.length >= this.sink.atomicBytes) {
      this.cut(this.sink)
      return
    }
    this.cancelTimer ??= this.options.clock.after(FLUSH_MS, () => {
      this.cancelTimer = null
      if (this.sink !== null) this.cut(this.sink)
    })
  }

  /** Continues in a new file of the same path, after the chunk that is being written. */
  reopen(): void {
    if (this.sink === null) return
    this.wantsReopen = true
    this.advance(this.sink)
  }

  /** Resolves when everything appended so far was written or dropped. Bound the wait: a stuck disk takes as long as it takes. */
  async flush(): Promise<void> {
    if (this.sink === null) return
    this.cut(this.sink)
    if (!this.busy && this.queue.length === 0) return
    await new Promise<void>((resolve) => this.idleWaiters.push(resolve))
  }

  /** Flushes and closes. Append nothing afterwards. */
  async close(): Promise<void> {
    await this.flush()
    const sink = this.sink
    if (sink !== null) await new Promise<void>((resolve) => sink.close(resolve))
  }

  private cut(sink: LogSink): void {
    this.cancelTimer?.()
    this.cancelTimer = null
    if (this.text === '') return
    const bytes = Buffer.from(this.text)
    this.queue.push({ bytes, isBegun: false, lines: this.textLines })
    this.queuedBytes += bytes.length
    this.text = ''
    this.textLines = 0
    this.advance(sink)
  }

  private advance(sink: LogSink): void {
    if (this.busy) return
    const chunk = this.queue[0]
    // A file is changed between chunks only, so that no line is torn; and before the next one, so that load cannot put it off.
    if (this.wantsReopen && chunk?.isBegun !== true) {
      this.wantsReopen = false
      this.busy = true
      sink.reopen((error) => {
        if (error !== null) this.options.log(`access log cannot be reopened, the old file is kept: ${error.message}`)
        this.busy = false
        this.advance(sink)
      })
    } else if (chunk !== undefined) {
      this.busy = true
      sink.write(chunk.bytes, (error, written) => this.wrote(sink, chunk, error, written))
    } else {
      for (const resolve of this.idleWaiters.splice(0)) resolve()
    }
  }

  private wrote(sink: LogSink, chunk: Chunk, error: NodeJS.ErrnoException | null, written: number): void {
    if (error?.code === 'EAGAIN') {
      this.options.clock.after(RETRY_MS, () => {
        this.busy = false
        this.advance(sink)
      })
      return
    }
    this.busy = false
    this.queuedBytes -= error === null ? written : chunk.bytes.length
    if (error !== null) {
      this.queue.shift()
      this.drop(chunk.lines, error.message)
    } else if (written < chunk.bytes.length) {
      chunk.bytes = chunk.bytes.subarray(written)
      chunk.isBegun = true
    } else {
      this.queue.shift()
      if (this.queue.length === 0) this.endEpisode()
    }
    this.advance(sink)
  }

  private drop(lines: number, reason: string): void {
    if (this.episodeDrops === 0) this.options.log(`access log lines are being dropped: ${reason}`)
    this.episodeDrops += lines
    this.options.dropped.add(lines)
  }

  /** A write succeeded and nothing waits: if lines were lost before, say how many, and begin anew. */
  private endEpisode(): void {
    if (this.episodeDrops === 0) return
    this.options.log(`access log has caught up; ${this.episodeDrops} lines were dropped`)
    this.episodeDrops = 0
  }
}
