/** One measured case: autocannon makes the load, an HDR histogram keeps the latencies in microseconds. */
import autocannon from 'autocannon'
import { nowMs } from '../../base/clock.js'
import { Latencies, type LatencyPoint } from './percentiles.js'
import type { BenchCase } from './suites.js'

export interface LoadSettings {
  /** Scheme, host and port, without a path. */
  readonly origin: string
  readonly connections: number
  readonly durationSeconds: number
  /** Requests in flight on one connection; 1 = no pipelining. Always 1 where every request has its own connection. */
  readonly pipelining: number
  /** Further request headers. */
  readonly headers: Readonly<Record<string, string>>
}

export interface CaseResult {
  readonly suite: string
  readonly title: string
  readonly requests: number
  readonly requestsPerSecond: number
  /** Null where they cannot be counted, see `Run.bytes`. */
  readonly bytesPerSecond: number | null
  /** In the order of `reportedPercentiles`. */
  readonly latencyMs: readonly LatencyPoint[]
  /** More points of the same, for a picture. */
  readonly curve: readonly LatencyPoint[]
  readonly meanMs: number
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

/** What is counted of single answers. */
export class Recorder {
  readonly latencies = new Latencies()
  readonly #statuses = new Map<number, number>()

  record(status: number, milliseconds: number): void {
    this.#count(status, 1)
    this.latencies.record(milliseconds)
  }

  /** What another one recorded. */
  add(latencies: Latencies, statuses: Readonly<Record<string, number>>): void {
    this.latencies.add(latencies)
    for (const [status, count] of Object.entries(statuses)) this.#count(Number(status), count)
  }

  #count(status: number, more: number): void {
    this.#statuses.set(status, (this.#statuses.get(status) ?? 0) + more)
  }

  /** Answers by status code. */
  get statuses(): Readonly<Record<string, number>> {
    return Object.fromEntries([...this.#statuses].sort(([a], [b]) => a - b))
  }

  get requests(): number {
    return [...this.#statuses.values()].reduce((sum, count) => sum + count, 0)
  }

  get non2xx(): number {
    return [...this.#statuses].reduce((sum, [status, count]) => (status < 200 || status > 299 ? sum + count : sum), 0)
  }
}

/** What a run of the load generator says besides its answers. */
export interface Run {
  readonly seconds: number
  /** Failed or broken connections. */
  readonly errors: number
  readonly timeouts: number
  /** Bytes of response heads and bodies; null where autocannon cannot count them (new connections). */
  readonly bytes: number | null
}

/** The line of a report. */
export function resultOf(benchCase: BenchCase, recorder: Recorder, { seconds, errors, timeouts, bytes }: Run): CaseResult {
  const { latencies, requests, non2xx, statuses } = recorder
  return {
    suite: benchCase.suite,
    title: benchCase.title,
    requests,
    requestsPerSecond: seconds > 0 ? requests / seconds : 0,
    bytesPerSecond: bytes === null || seconds <= 0 ? null : bytes / seconds,
    latencyMs: latencies.reported(),
    curve: latencies.curve(),
    meanMs: latencies.meanMs,
    errors,
    timeouts,
    non2xx,
    statuses,
  }
}

/**
 * Runs one case to its end.
 *
 * @param recorder gets every answer.
 * @param onSecond called about once a second with the number of answers so far.
 */
export async function load(
  benchCase: BenchCase,
  settings: LoadSettings,
  recorder: Recorder,
  onSecond: (answers: number) => void = () => {},
): Promise<Run> {
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
    headers: settings.headers,
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
  return {
    seconds: (nowMs() - started) / 1000,
    errors: result.errors - result.timeouts,
    timeouts: result.timeouts,
    bytes: benchCase.reconnect ? null : result.throughput.total,
  }
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
