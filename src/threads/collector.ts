/**
 * Asks the engine to collect garbage when memory is short: a worker that refuses requests allocates little, so nothing else would make it
 * free what the requests before have left. Collecting stops the thread, hence at most a twentieth of the time is spent on it.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

const LEAST_INTERVAL_MS = 1000
/** Time between two collections, by the time that the last one took. */
const REST_FACTOR = 20

export class Collector {
  private nextMs = 0

  /** `collect` null = the engine does not let itself be asked. */
  constructor(
    private readonly now: () => number,
    private readonly collect: (() => void) | null,
  ) {}

  /** The garbage collector of this thread's engine. */
  static ofEngine(now: () => number): Collector {
    setFlagsFromString('--expose-gc')
    const collect: unknown = runInNewContext('typeof gc === "function" ? gc : null')
    return new Collector(now, typeof collect === 'function' ? () => collect() : null)
  }

  /** Memory is short. */
  wanted(): void {
    const begun = this.now()
    if (this.collect === null || begun < this.nextMs) return
    this.collect()
    const ended = this.now()
    this.nextMs = ended + Math.max(LEAST_INTERVAL_MS, REST_FACTOR * (ended - begun))
  }
}
