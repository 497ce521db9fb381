/**
 * A load generator with a constant rate, whatever the answers do (open loop): each request is timed from the moment at which it was due, so
 * that waiting behind a slow one counts for every request that had to wait.
 */
import { Agent, request } from 'node:http'
import { percentile } from './parse.mjs'
import { wallMs } from './simulated-nodes.mjs'

export class OpenLoop {
  /** One record per request, in the order of sending: { tag, dueMs (epoch), ms (latency; null = under way), status (0 = no answer) }. */
  records = []
  #agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY, maxFreeSockets: 1024 })
  #running = true
  #done

  /**
   * @param rate requests per second.
   * @param next given the number of the request: { port, path, tag, method, body, headers }.
   */
  constructor({ rate, next, timeoutMs = 90_000 }) {
    this.timeoutMs = timeoutMs
    this.#done = this.#run(rate, next)
  }

  /** Sends no more. Waits up to `patienceMs` for what is under way; then it counts as without an answer. */
  async stop(patienceMs = 2000) {
    this.#running = false
    await this.#done
    const end = performance.now() + patienceMs
    while (performance.now() < end && this.records.some(({ ms }) => ms === null)) await pause(10)
    this.#agent.destroy()
    return this.records
  }

  async #run(rate, next) {
    const begun = performance.now()
    const begunWall = wallMs()
    for (let sent = 0; this.#running; ) {
      const due = Math.floor(((performance.now() - begun) * rate) / 1000)
      for (; sent < due; sent++) this.#send(next(sent), begunWall + (sent * 1000) / rate)
      await pause(1)
    }
  }

  #send({ port, path = '/', tag = '', method = 'GET', body, headers = {} }, dueMs) {
    const record = { tag, dueMs, ms: null, status: 0 }
    this.records.push(record)
    const end = (status) => {
      record.ms ??= wallMs() - dueMs
      record.status = status
    }
    const sent = request({ agent: this.#agent, host: '127.0.0.1', port, path, method, headers, timeout: this.timeoutMs }, (response) => {
      response.on('error', () => end(0))
      response.resume().on('end', () => end(response.complete ? response.statusCode : 0))
    })
    sent.on('error', () => end(0))
    sent.on('timeout', () => sent.destroy())
    sent.end(body)
  }
}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

/** What came of some records: percentiles of the answered ones in milliseconds, counts by status, share of 200. */
export function summary(records) {
  const sorted = records.flatMap(({ ms }) => (ms === null ? [] : [ms])).sort((a, b) => a - b)
  const at = (percent) => (sorted.length === 0 ? Number.NaN : percentile(sorted, percent))
  const count = (status) => records.filter((record) => record.status === status).length
  const good = count(200)
  return { requests: records.length, p50: at(50), p90: at(90), p99: at(99), max: at(100), good, share: good / records.length, count }
}
