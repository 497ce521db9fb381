/** One measured case: autocannon makes the load, an HDR histogram keeps the latencies in microseconds. */
import autocannon from 'autocannon'
import { build } from 'hdr-histogram-js'
import { nowMs } from '../../base/clock.js'
import type { BenchCase } from './suites.js'

export interface LoadSettings {
  /** Scheme, host and port, without a path. */
  readonly origin: string
  readonly connections: number
  readonly durationSeconds: number
  /** Requests in flight on one connection; 1 = no pipelining. Always 1 where every request has its own connection. */
  readonly pipelining: number
}

/** Latency percentiles that are reported. */
export const reportedPercentiles = [50, 75, 90, 99, 99.9, 99.99, 100] as const

export interface CaseResult {
  readonly suite: string
  readonly title: string
  readonly requests: number
  readonly requestsPerSecond: number
  /** Bytes of response heads and bodies per second; null where autocannon cannot count them (new connections). */
  readonly bytesPerSecond: number | null
  /** Milliseconds by percentile, in the order of `reportedPercentiles`. */
  readonly latencyMs: readonly { readonly percentile: number; readonly value: number }[]
  readonly meanMs: number
  /** Failed or broken connections. */
  readonly errors: number
  readonly timeouts: number
  readonly non2xx: number
  /** Answers by status code. */
  readonly statuses: Readonly<Record<string, number>>
}

/** True when the case did what it should: answers came, all of them 2xx, and no connection failed. */
export function passed(result: CaseResult): boolean {
  return result.requests > 0 && result.errors === 0 && result.timeouts === 0 && result.non2xx === 0
}

/** Collects what the report needs from single answers. Public for its test. */
export class Recorder {
  readonly #histogram = build({
    bitBucketSize: 32,
    lowestDiscernibleValue: 1,
    highestTrackableValue: 120_000_000,
    numberOfSignificantValueDigits: 3,
  })
  readonly #statuses = new Map<number, number>()

  record(status: number, milliseconds: number): void {
    this.#statuses.set(status, (this.#statuses.get(status) ?? 0) + 1)
    this.#histogram.recordValue(Math.max(1, Math.round(milliseconds * 1000)))
  }

  result(of: BenchCase, seconds: number, failures: { errors: number; timeouts: number; bytes: number | null }): CaseResult {
    let requests = 0
    let non2xx = 0
    for (const [status, count] of this.#statuses) {
      requests += count
      if (status < 200 || status > 299) non2xx += count
    }
    const histogram = this.#histogram
    return {
      suite: of.suite,
      title: of.title,
      requests,
      requestsPerSecond: seconds > 0 ? requests / seconds : 0,
      bytesPerSecond: failures.bytes === null || seconds <= 0 ? null : failures.bytes / seconds,
      latencyMs: reportedPercentiles.map((percentile) => ({
        percentile,
        value: requests === 0 ? 0 : histogram.getValueAtPercentile(percentile) / 1000,
      })),
      meanMs: requests === 0 ? 0 : histogram.mean / 1000,
      errors: failures.errors,
      timeouts: failures.timeouts,
      non2xx,
      statuses: Object.fromEntries([...this.#statuses].sort(([a], [b]) => a - b)),
    }
  }
}

/**
 * Runs one case to its end.
 *
 * @param onSecond called about once a second with the number of answers so far.
 */
export async function measure(benchCase: BenchCase, settings: LoadSettings, onSecond: (answers: number) => void): Promise<CaseResult> {
  const recorder = new Recorder()
  let answers = 0
  const record = (status: number, milliseconds: number): void => {
    answers++
    recorder.record(status, milliseconds)
  }
  const options: autocannon.Options = {
    url: settings.origin,
    connections: settings.connections,
    duration: settings.durationSeconds,
    pipelining: benchCase.reconnect ? 1 : settings.pipelining,
    timeout: 10,
    method: benchCase.method,
    requests: benchCase.paths.map((path) => ({ path })),
  }
  if (benchCase.bodyBytes > 0) options.body = Buffer.alloc(benchCase.bodyBytes, 'x')
  if (benchCase.reconnect) {
    options.reconnectRate = 1
    options.setupClient = (client) => recordByHeaders(client, record)
  }
  const started = nowMs()
  const result = await new Promise<autocannon.Result>((resolve, reject) => {
    const instance = autocannon(options, (error: unknown, done) => {
      if (error) reject(error)
      else resolve(done)
    })
    if (!benchCase.reconnect) instance.on('response', (_client, status, _bytes, milliseconds) => record(status, milliseconds))
    instance.on('tick', () => onSecond(answers))
  })
  const seconds = (nowMs() - started) / 1000
  return recorder.result(benchCase, seconds, {
    errors: result.errors - result.timeouts,
    timeouts: result.timeouts,
    bytes: benchCase.reconnect ? null : result.throughput.total,
  })
}

/**
 * autocannon reports no response where it drops the connection behind each one, so these are timed here: from the start of the
 * connection to the complete response head.
 */
function recordByHeaders(client: autocannon.Client, record: (status: number, milliseconds: number) => void): void {
  let started = nowMs()
  const emitter: NodeJS.EventEmitter = client
  emitter.on('request', () => {
    started = nowMs()
  })
  emitter.on('headers', (head: { readonly statusCode: number }) => record(head.statusCode, nowMs() - started))
}
