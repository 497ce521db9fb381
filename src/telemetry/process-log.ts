/**
 * The log of the process: start, reload, drain, failures of workers. Owned by the primary; workers send their lines to it. Written
 * synchronously to stderr, because its last line before the end is the one that matters.
 */
import { destination, type Logger, pino } from 'pino'
import pretty from 'pino-pretty'

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'

export interface ProcessLog {
  debug(message: string, fields?: object): void
  info(message: string, fields?: object): void
  warn(message: string, fields?: object): void
  error(message: string, fields?: object): void
  setLevel(level: LogLevel | 'silent'): void
  /** Everything written so far is with the kernel when this returns. */
  flush(): void
}

/** Where lines go; the process log itself writes to file descriptor 2. */
export interface LogTarget {
  write(line: string): void
}

export interface ProcessLogOptions {
  readonly level: LogLevel | 'silent'
  /** Coloured single lines for people; otherwise one JSON object a line. */
  readonly pretty: boolean
  /** Replaces stderr (tests). */
  readonly target?: LogTarget
}

/** Opens the process log. */
export function openProcessLog(options: ProcessLogOptions): ProcessLog {
  const settings = { level: options.level, base: { pid: process.pid } }
  const file = options.target === undefined ? destination({ dest: 2, sync: true }) : null
  const stream = options.target ?? (options.pretty ? pretty({ destination: 2, sync: true, ignore: 'pid,hostname' }) : file)
  const logger: Logger = stream === null ? pino(settings) : pino(settings, stream)
  const writer = (level: LogLevel) => (message: string, fields?: object) => {
    if (fields === undefined) logger[level](message)
    else logger[level](fields, message)
  }
  return {
    debug: writer('debug'),
    info: writer('info'),
    warn: writer('warn'),
    error: writer('error'),
    setLevel(level) {
      logger.level = level
    },
    flush() {
      file?.flushSync()
    },
  }
}
