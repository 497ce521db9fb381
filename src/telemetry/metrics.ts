/**
 * Every metric of the gateway, declared once: name, type, unit, labels, help. Whoever counts or shows a metric takes it from here.
 *
 * Names and labels with the prefix `apisix_` are those of Apache APISIX, so that dashboards made for it keep working; `gateway_` is
 * what it does not have. The three LLM labels are always empty here; dashboards group by them.
 */

import type { CounterName } from '../shared/metrics-slab.js'

export type MetricType = 'counter' | 'gauge' | 'histogram'
export type MetricUnit = 'none' | 'milliseconds' | 'seconds' | 'bytes'

export interface Metric {
  readonly name: string
  readonly type: MetricType
  readonly unit: MetricUnit
  readonly labels: readonly string[]
  readonly help: string
}

function metric(name: string, type: MetricType, unit: MetricUnit, labels: readonly string[], help: string): Metric {
  return Object.freeze({ name, type, unit, labels: Object.freeze([...labels]), help })
}

const llmLabels = ['request_type', 'request_llm_model', 'llm_model'] as const

export const metrics = {
  // from the series of routes
  httpStatus: metric(
    'apisix_http_status',
    'counter',
    'none',
    ['code', 'route', 'matched_uri', 'matched_host', 'service', 'consumer', 'node', ...llmLabels, 'response_source'],
    'HTTP answers by status code.',
  ),
  httpLatency: metric(
    'apisix_http_latency',
    'histogram',
    'milliseconds',
    ['type', 'route', 'service', 'consumer', 'node', ...llmLabels],
    'Latency in milliseconds: of the whole request, of the upstream, and what the gateway added.',
  ),
  bandwidth: metric(
    'apisix_bandwidth',
    'counter',
    'bytes',
    ['type', 'route', 'service', 'consumer', 'node', ...llmLabels],
    'Bytes of bodies received from clients (ingress) and sent to them (egress).',
  ),
  // from the fixed cells
  httpRequests: metric('apisix_http_requests_total', 'gauge', 'none', [], 'Requests since the start of the process.'),
  connections: metric(
    'apisix_nginx_http_current_connections',
    'gauge',
    'none',
    ['state'],
    'Client connections: active, waiting (without a request) and writing (with one) now; accepted and handled since the start.',
  ),
  requestDuration: metric('gateway_request_duration_seconds', 'histogram', 'seconds', [], 'Duration of all requests.'),
  seriesOverflow: metric(
    'gateway_metric_series_overflow_total',
    'counter',
    'none',
    [],
    'Series that found no room; what they would have counted stands under the label value "overflow".',
  ),
  consumerOverflow: metric(
    'gateway_metric_consumer_overflow_total',
    'counter',
    'none',
    [],
    'Consumers counted as consumer="overflow": a route names the first 256 per worker, and consumers take at most half of the room.',
  ),
  upstreamConnections: metric('gateway_upstream_connections', 'gauge', 'none', [], 'Open connections to upstream nodes.'),
  clientSockets: metric(
    'gateway_client_connections',
    'gauge',
    'none',
    [],
    'Open client connections: exact where the uWebSockets.js build reports them, else counted from the open files of the process.',
  ),
  // counted by name in the workers
  upstreamHedges: metric('gateway_upstream_hedges_total', 'counter', 'none', [], 'Second tries beside late ones.'),
  upstreamRetriesRefused: metric(
    'gateway_upstream_retries_refused_total',
    'counter',
    'none',
    [],
    'Tries that the retry budget of the upstream did not allow.',
  ),
  upstreamRetries: metric('gateway_upstream_retries_total', 'counter', 'none', [], 'Tries after the first one.'),
  upstreamConnects: metric(
    'gateway_upstream_connects_total',
    'counter',
    'none',
    ['result'],
    'Connections to upstream nodes that were tried, by result (ok, failed, timeout).',
  ),
  upstreamReuse: metric(
    'gateway_upstream_connection_reuse_total',
    'counter',
    'none',
    [],
    'Upstream requests sent on a connection that was kept open.',
  ),
  refused: metric(
    'gateway_refused_requests_total',
    'counter',
    'none',
    ['reason'],
    'Requests that the gateway itself refused, by failure code.',
  ),
  logDropped: metric(
    'gateway_access_log_dropped_lines_total',
    'counter',
    'none',
    [],
    'Access log lines dropped because the disk or pipe did not keep up, or failed.',
  ),
  rateLimitRequests: metric(
    'gateway_rate_limit_requests_total',
    'counter',
    'none',
    ['plugin', 'route', 'result'],
    'Decisions of rate limits: allowed, limited, dry_run (would have been limited), error (the store failed and the policy decided).',
  ),
  rateLimitStoreErrors: metric(
    'gateway_rate_limit_store_errors_total',
    'counter',
    'none',
    ['reason'],
    'Decisions of rate limits that Redis did not make, by reason.',
  ),
  rateLimitStoreCalls: metric('gateway_rate_limit_store_calls_total', 'counter', 'none', ['store'], 'Calls to Redis for rate limits.'),
  rateLimitFallbacks: metric(
    'gateway_rate_limit_fallbacks_total',
    'counter',
    'none',
    ['policy'],
    'Requests decided by the failure policy of their limit (refuse, allow, local) because Redis gave no answer.',
  ),
  rateLimitLeaseUnits: metric(
    'gateway_rate_limit_lease_units_total',
    'counter',
    'none',
    ['event'],
    'Units of batches taken from Redis (taken), and what became of them: spent, returned or lost. spent / taken is the efficiency.',
  ),
  upstreamStatus: metric(
    'apisix_upstream_status',
    'gauge',
    'none',
    ['name', 'ip', 'port'],
    'Health of an upstream node by its checks: 1 healthy, 0 unhealthy.',
  ),
  storeHealthy: metric(
    'gateway_config_store_healthy',
    'gauge',
    'none',
    ['store'],
    'Whether the store of the configuration can be written and what it holds serves: 1 yes, 0 no; /status says why.',
  ),
  storeRevision: metric('gateway_config_store_revision', 'gauge', 'none', ['store'], 'Revision of the resources that were read last.'),
  storeInvalidItems: metric(
    'gateway_config_store_invalid_items',
    'gauge',
    'none',
    ['store'],
    'Resources of the store that do not serve because they, or what they need, are not valid on this gateway; /status names them.',
  ),
  etcdReachable: metric('apisix_etcd_reachable', 'gauge', 'none', [], 'Whether etcd answers: 1 yes, 0 no. Only with the store etcd.'),
  upstreamEjected: metric(
    'gateway_upstream_node_ejected',
    'gauge',
    'none',
    ['name', 'ip', 'port'],
    'Whether an upstream node is ejected as an outlier: 1 it is, 0 it is not.',
  ),
  upstreamEjections: metric(
    'gateway_upstream_node_ejections_total',
    'counter',
    'none',
    ['name', 'ip', 'port'],
    'Ejections of an upstream node as an outlier.',
  ),
  upstreamPlaces: metric(
    'gateway_upstream_concurrency',
    'gauge',
    'none',
    ['name'],
    'Requests that have a place at an upstream with a bound.',
  ),
  upstreamWaiting: metric(
    'gateway_upstream_queue',
    'gauge',
    'none',
    ['name'],
    'Requests that wait for a place at an upstream with a bound.',
  ),
  upstreamLimit: metric(
    'gateway_upstream_concurrency_limit',
    'gauge',
    'none',
    ['name'],
    'Places at an upstream with a bound; with an adaptive bound, as it is now.',
  ),
  breakerRefusals: metric(
    'gateway_circuit_breaker_refusals_total',
    'counter',
    'none',
    ['plugin', 'route', 'result'],
    'Requests that a circuit breaker refused (refused), or would have refused (dry_run).',
  ),
  breakerState: metric(
    'gateway_circuit_breaker_state',
    'gauge',
    'none',
    ['breaker'],
    'State of a circuit breaker: 0 closed (also while the admitted share grows), 1 half-open, 2 open.',
  ),
  breakerTransitions: metric(
    'gateway_circuit_breaker_transitions_total',
    'counter',
    'none',
    ['breaker', 'from', 'to'],
    'Changes of state of circuit breakers.',
  ),
  breakerEventsLost: metric(
    'gateway_circuit_breaker_webhook_lost_total',
    'counter',
    'none',
    [],
    'Events of circuit breakers that the webhook did not take in time.',
  ),
  pluginErrors: metric('gateway_plugin_errors_total', 'counter', 'none', [], 'Plugin calls that threw an error.'),
  rateLimitQueue: metric('gateway_rate_limit_queued_requests', 'gauge', 'none', [], 'Requests that wait because a rate limit delays them.'),
  // read by the primary at the time of the scrape
  rateLimitTableFill: metric(
    'gateway_rate_limit_table_fill_ratio',
    'gauge',
    'none',
    [],
    'Share of the cells of the table of local rate limits that are in use, 0 to 1, by sampling.',
  ),
  rateLimitTableFull: metric(
    'gateway_rate_limit_table_full_total',
    'counter',
    'none',
    ['outcome'],
    'Decisions for keys that found no cell of their own in the table: counted together with others (shared), or refused. Nothing is evicted.',
  ),
  configEpoch: metric('gateway_config_epoch', 'gauge', 'none', [], 'Version of the newest published configuration.'),
  configReloads: metric('gateway_config_reloads_total', 'counter', 'none', [], 'Reloads that were published.'),
  configReloadFailures: metric('gateway_config_reload_failures_total', 'counter', 'none', [], 'Reloads that were refused.'),
  workerEpoch: metric('gateway_worker_config_epoch', 'gauge', 'none', ['worker'], 'Version of the configuration by which a worker serves.'),
  workerLag: metric(
    'gateway_worker_event_loop_lag_seconds',
    'gauge',
    'seconds',
    ['worker'],
    "How late a worker's event loop ran its last timer.",
  ),
  workerShedLevel: metric(
    'gateway_overload_level',
    'gauge',
    'none',
    ['worker'],
    'Level at which a worker sheds load: 0 nothing, 1 routes of priority low, 2 normal, 3 high. What it refused: gateway_refused_requests_total{reason="OVERLOADED"}.',
  ),
  workerInFlight: metric('gateway_worker_requests_in_flight', 'gauge', 'none', ['worker'], 'Requests being served by a worker.'),
  workerRestarts: metric('gateway_worker_restarts_total', 'counter', 'none', [], 'Workers replaced after a failure.'),
  nodeInfo: metric('apisix_node_info', 'gauge', 'none', ['hostname', 'version'], 'Always 1; the labels say who answers.'),
  sharedCapacity: metric('apisix_shared_dict_capacity_bytes', 'gauge', 'bytes', ['name'], 'Size of a region of shared memory.'),
  sharedFree: metric('apisix_shared_dict_free_space_bytes', 'gauge', 'bytes', ['name'], 'Free part of a region of shared memory.'),
} as const satisfies Record<string, Metric>

/** How the counters of the workers are shown. Label values come in the order of the metric's labels. */
export const workerCounters: Readonly<Record<CounterName, Metric>> = {
  upstream_retries: metrics.upstreamRetries,
  upstream_hedges: metrics.upstreamHedges,
  upstream_retries_refused: metrics.upstreamRetriesRefused,
  upstream_connects: metrics.upstreamConnects,
  upstream_reuse: metrics.upstreamReuse,
  refused: metrics.refused,
  access_log_dropped: metrics.logDropped,
  plugin_errors: metrics.pluginErrors,
  rate_limit_requests: metrics.rateLimitRequests,
  rate_limit_store_errors: metrics.rateLimitStoreErrors,
  rate_limit_store_calls: metrics.rateLimitStoreCalls,
  rate_limit_fallbacks: metrics.rateLimitFallbacks,
  rate_limit_lease_units: metrics.rateLimitLeaseUnits,
  breaker_refusals: metrics.breakerRefusals,
}
