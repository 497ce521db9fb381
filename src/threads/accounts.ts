/** What a worker counts and logs for each exchange: metrics cells, access log, counters of refusals. */
import type { Exchange } from '../dataplane/exchange.js'
import type { ProxyAccounts } from '../dataplane/proxy.js'
import type { PoolTally } from '../dataplane/upstream/pool.js'
import type { Counter, WorkerMetrics } from '../shared/metrics-slab.js'
import type { AccessLog } from '../telemetry/access-log.js'
import type { RateLimitedLog } from './rate-limited-log.js'

/** Request line, Host and separators that header values do not count. */
const REQUEST_OVERHEAD_BYTES = 12

export function createAccounts(metrics: WorkerMetrics, accessLog: AccessLog | null, log: RateLimitedLog): ProxyAccounts {
  const refusals = new Map<string, Counter>()
  return {
    needsAddress: accessLog !== null,
    retries: metrics.counter('upstream_retries'),
    hedges: metrics.counter('upstream_hedges'),
    overBudget: metrics.counter('upstream_retries_refused'),
    pluginErrors: metrics.counter('plugin_errors'),
    requestStarted: () => metrics.requestStarted(),
    pluginFailed: (plugin, error) => {
      log.write('error', `plugin failed in ${plugin}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
    },
    finished: (exchange) => {
      const totalMs = exchange.elapsedMs()
      metrics.requestEnded(totalMs)
      const { linked, failure, response } = exchange
      const series = linked === null ? exchange.snapshot?.unmatched : linked.series(exchange.upstreamAddress, exchange.consumer)
      // 499 as in nginx: the client went away before it had an answer.
      const status = exchange.aborted && response.status === 0 ? 499 : response.status
      series?.record(
        status,
        response.source === 'upstream' ? 1 : 0,
        totalMs,
        exchange.upstreamResponseMs,
        ingressBytes(exchange),
        exchange.bodyBytesSent,
      )
      if (failure !== null) {
        let counter = refusals.get(failure.code)
        if (counter === undefined) {
          counter = metrics.counter('refused', [failure.code])
          refusals.set(failure.code, counter)
        }
        counter.add(1)
      }
      if (accessLog !== null) {
        if (response.status === 0) response.status = status
        accessLog.append(exchange)
      }
    },
  }
}

export function createPoolTally(metrics: WorkerMetrics): PoolTally {
  const ok = metrics.counter('upstream_connects', ['ok'])
  const failed = metrics.counter('upstream_connects', ['failed'])
  const timeout = metrics.counter('upstream_connects', ['timeout'])
  const reuse = metrics.counter('upstream_reuse')
  return {
    connections: 0,
    opened: () => ok.add(1),
    failed: (timedOut) => (timedOut ? timeout : failed).add(1),
    reused: () => reuse.add(1),
  }
}

function ingressBytes(exchange: Exchange): number {
  const received = exchange.requestBodyLength > 0 && exchange.bodyComplete ? exchange.requestBodyLength : exchange.bodyReceivedBytes
  return exchange.method.length + exchange.rawTarget.length + REQUEST_OVERHEAD_BYTES + received
}
