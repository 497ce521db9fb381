/** Options of health checks and outlier detection: what is refused, what is warned about, and what the defaults are. */
import { describe, expect, test } from 'vitest'
import { compileChecks, compileOutlierDetection } from '../../src/controlplane/compile-health.js'
import { loadSource } from '../../src/controlplane/load.js'
import { SourceDocument } from '../../src/controlplane/load-source.js'
import { builtinPlugins } from '../../src/plugins/index.js'
import { PluginRegistry } from '../../src/plugins/registry.js'

const registry = PluginRegistry.of(builtinPlugins)

function issues(fields: string): { readonly errors: string[]; readonly warnings: string[] } {
  const parsed = SourceDocument.parse('sluice.yaml', `upstreams: [{ id: u, nodes: {}, ${fields} }]`, {})
  if (!parsed.ok) throw new Error(parsed.errors.map((error) => error.message).join())
  const result = loadSource(parsed.source, registry)
  const short = (list: readonly { readonly path: string; readonly message: string }[]): string[] =>
    list.map(({ path, message }) => `${path.replace('upstreams[0].', '')}: ${message}`)
  return { errors: result.ok ? [] : short(result.errors), warnings: short(result.warnings) }
}

test('the smallest checks are fine, and so are all options', () => {
  expect(issues('checks: { active: {} }')).toEqual({ errors: [], warnings: [] })
  const active =
    '{ type: https, timeout: 0.5, concurrency: 2, host: a.test, port: 81, http_path: "/h?x=1", http_method: HEAD, https_verify_certificate: false,' +
    ' req_headers: ["X-A: 1"], healthy: { interval: 2, http_statuses: [204], successes: 254 }, unhealthy: { interval: 1, http_failures: 254 } }'
  expect(issues(`checks: { active: ${active}, passive: { unhealthy: { timeouts: 0 } } }, outlier_detection: {}`)).toEqual({
    errors: [],
    warnings: [],
  })
})

describe('refused', () => {
  const cases: [string, string][] = [
    ['checks: {}', 'checks: object matches none of the required: ["active"] or ["active","passive"]'],
    ['checks: { passive: {} }', 'checks: object matches none of the required: ["active"] or ["active","passive"]'],
    ['checks: { active: { type: udp } }', 'checks.active.type: '],
    ['checks: { active: { healthy: { successes: 0 } } }', 'checks.active.healthy.successes: '],
    ['checks: { active: { unhealthy: { timeouts: 255 } } }', 'checks.active.unhealthy.timeouts: '],
    ['checks: { active: { http_path: no-slash } }', 'checks.active.http_path: '],
    ['checks: { active: { http_path: "/a b" } }', 'checks.active.http_path: '],
    ['checks: { active: { http_method: "GET /x" } }', 'checks.active.http_method: '],
    ['checks: { active: { req_headers: ["a: b\\r\\nc: d"] } }', 'checks.active.req_headers[0]: '],
    ['checks: { active: { healthy: { http_statuses: [] } } }', 'checks.active.healthy.http_statuses: '],
    ['checks: { active: { healthy: { http_statuses: [199] } } }', 'checks.active.healthy.http_statuses[0]: '],
    ['checks: { active: { interval: 1 } }', 'checks.active.interval: '],
    ['outlier_detection: { max_ejection_percent: 101 }', 'outlier_detection.max_ejection_percent: '],
    ['outlier_detection: { consecutive_5xx: -1 }', 'outlier_detection.consecutive_5xx: '],
    ['outlier_detection: { enforcing_consecutive_5xx: 100 }', 'outlier_detection.enforcing_consecutive_5xx: '],
  ]
  test.each(cases)('%s', (fields, start) => {
    const { errors } = issues(fields)
    expect(errors).toHaveLength(1)
    expect(errors[0]?.startsWith(start), errors[0]).toBe(true)
  })
})

test('warned about: options without effect, and statuses in both lists', () => {
  expect(issues('checks: { active: { https_verify_certificate: true } }').warnings).toEqual([
    'checks.active.https_verify_certificate: https_verify_certificate has no effect',
  ])
  expect(issues('checks: { active: { healthy: { http_statuses: [200, 404] }, unhealthy: { http_statuses: [404] } } }').warnings).toEqual([
    'checks.active.unhealthy.http_statuses: status 404 is both healthy and unhealthy; it counts as healthy',
  ])
  expect(issues('outlier_detection: { consecutive_slow_calls: 3, base_ejection_time: 60, max_ejection_time: 30 }').warnings).toEqual([
    'outlier_detection.consecutive_slow_calls: consecutive_slow_calls has no effect without slow_call_duration',
    'outlier_detection.max_ejection_time: max_ejection_time is below base_ejection_time (60), which is the least',
  ])
})

test('defaults are those of APISIX and Envoy', () => {
  const { active, passive } = compileChecks({ nodes: {}, checks: { active: {}, passive: {} } }, {})
  expect(active).toMatchObject({ type: 'http', timeoutMs: 1000, concurrency: 10, path: '/', method: 'GET', verify: true })
  expect([active.healthyIntervalMs, active.unhealthyIntervalMs]).toEqual([1000, 1000])
  expect(active.limits).toEqual({
    healthyStatuses: [200, 302],
    unhealthyStatuses: [429, 404, 500, 501, 502, 503, 504, 505],
    successes: 2,
    httpFailures: 5,
    tcpFailures: 2,
    timeouts: 3,
  })
  expect(passive?.limits).toMatchObject({ unhealthyStatuses: [429, 500, 503], successes: 5, httpFailures: 5, tcpFailures: 2, timeouts: 7 })
  expect(passive?.limits.healthyStatuses).toHaveLength(19)
  expect(compileChecks({ nodes: {}, checks: { active: {} } }, {}).passive).toBeNull()
  expect(compileOutlierDetection({})).toMatchObject({
    consecutive5xx: 5,
    consecutiveGatewayFailure: 0,
    successRateStdevFactor: 1.9,
    successRateMinimumHosts: 5,
    successRateRequestVolume: 100,
    intervalMs: 10_000,
    baseEjectionMs: 30_000,
    maxEjectionMs: 300_000,
    maxEjectionPercent: 10,
  })
})
