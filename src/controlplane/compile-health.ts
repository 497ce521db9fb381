/** Health checks and outlier detection of an upstream to their compiled form, all defaults filled in. */
import type { CompiledActiveCheck, CompiledChecks, CompiledOutlierDetection, CompiledPassiveCheck } from '../schema/compiled.js'
import { type ChecksResource, checkDefaults, type OutlierDetectionResource } from '../schema/health.js'
import type { UpstreamResource } from '../schema/upstream.js'
import { milliseconds } from './validate-process.js'

type Active = NonNullable<ChecksResource['active']>

export function compileChecks(upstream: UpstreamResource, active: Active): CompiledChecks {
  return { active: compileActive(upstream, active), passive: compilePassive(upstream.checks?.passive) }
}

function compileActive(upstream: UpstreamResource, active: Active): CompiledActiveCheck {
  const { healthy, unhealthy } = active
  return {
    type: active.type ?? 'http',
    timeoutMs: Math.max(1, milliseconds(active.timeout ?? 1)),
    concurrency: active.concurrency ?? 10,
    host: active.host ?? (upstream.pass_host === 'rewrite' ? (upstream.upstream_host ?? '') : ''),
    port: active.port ?? 0,
    path: active.http_path ?? '/',
    method: active.http_method ?? 'GET',
    body: active.http_req_body ?? '',
    headers: active.req_headers ?? [],
    verify: active.https_verify_certificate ?? true,
    healthyIntervalMs: milliseconds(healthy?.interval ?? 1),
    unhealthyIntervalMs: milliseconds(unhealthy?.interval ?? 1),
    limits: {
      healthyStatuses: healthy?.http_statuses ?? [...checkDefaults.active.healthy],
      unhealthyStatuses: unhealthy?.http_statuses ?? [...checkDefaults.active.unhealthy],
      successes: healthy?.successes ?? 2,
      httpFailures: unhealthy?.http_failures ?? 5,
      tcpFailures: unhealthy?.tcp_failures ?? 2,
      timeouts: unhealthy?.timeouts ?? 3,
    },
  }
}

function compilePassive(passive: ChecksResource['passive']): CompiledPassiveCheck | null {
  if (passive === undefined) return null
  const { healthy, unhealthy } = passive
  return {
    type: passive.type ?? 'http',
    limits: {
      healthyStatuses: healthy?.http_statuses ?? [...checkDefaults.passive.healthy],
      unhealthyStatuses: unhealthy?.http_statuses ?? [...checkDefaults.passive.unhealthy],
      successes: healthy?.successes ?? 5,
      httpFailures: unhealthy?.http_failures ?? 5,
      tcpFailures: unhealthy?.tcp_failures ?? 2,
      timeouts: unhealthy?.timeouts ?? 7,
    },
  }
}

export function compileOutlierDetection(value: OutlierDetectionResource): CompiledOutlierDetection {
  return {
    slot: 0,
    consecutive5xx: value.consecutive_5xx ?? 5,
    consecutiveGatewayFailure: value.consecutive_gateway_failure ?? 0,
    successRateMinimumHosts: value.success_rate_minimum_hosts ?? 5,
    successRateRequestVolume: value.success_rate_request_volume ?? 100,
    successRateStdevFactor: (value.success_rate_stdev_factor ?? 1_900) / 1_000,
    failurePercentageThreshold: value.failure_percentage_threshold ?? 0,
    failurePercentageMinimumHosts: value.failure_percentage_minimum_hosts ?? 5,
    failurePercentageRequestVolume: value.failure_percentage_request_volume ?? 50,
    slowCallMs: milliseconds(value.slow_call_duration ?? 0),
    consecutiveSlowCalls: value.consecutive_slow_calls ?? 5,
    slowCallPercentage: value.slow_call_percentage ?? 50,
    slowCallRequestVolume: value.slow_call_request_volume ?? 20,
    intervalMs: milliseconds(value.interval ?? 10),
    baseEjectionMs: milliseconds(value.base_ejection_time ?? 30),
    maxEjectionMs: milliseconds(value.max_ejection_time ?? 300),
    maxEjectionPercent: value.max_ejection_percent ?? 10,
  }
}
