/** Rules for health checks that a schema cannot say. */
import type { UpstreamResource } from '../schema/upstream.js'
import type { DocumentPath, IssueList } from './load-issue.js'

export function checkHealth(value: UpstreamResource, path: DocumentPath, issues: IssueList): void {
  const { checks, outlier_detection: outliers } = value
  if (checks !== undefined) checkChecks(checks, [...path, 'checks'], issues)
  if (outliers === undefined) return
  const at = [...path, 'outlier_detection']
  if ((outliers.slow_call_duration ?? 0) === 0) {
    for (const name of ['consecutive_slow_calls', 'slow_call_percentage', 'slow_call_request_volume'] as const) {
      if (outliers[name] !== undefined)
        issues.warn([...at, name], `${name} has no effect without slow_call_duration`, 'slow_call_duration', { atKey: true })
    }
  }
  const base = outliers.base_ejection_time ?? 30
  if (outliers.max_ejection_time !== undefined && outliers.max_ejection_time < base) {
    issues.warn(
      [...at, 'max_ejection_time'],
      `max_ejection_time is below base_ejection_time (${base}), which is the least`,
      `${base} or more`,
    )
  }
}

function checkChecks(checks: NonNullable<UpstreamResource['checks']>, at: DocumentPath, issues: IssueList): void {
  const { active, passive } = checks
  if (active === undefined) {
    // The text of the reference gateway, which scripts look for.
    issues.error(at, 'object matches none of the required: ["active"] or ["active","passive"]', 'active, which brings nodes back', {
      atKey: true,
    })
    return
  }
  const both: [readonly number[] | undefined, readonly number[] | undefined, DocumentPath][] = [
    [active.healthy?.http_statuses, active.unhealthy?.http_statuses, [...at, 'active']],
    [passive?.healthy?.http_statuses, passive?.unhealthy?.http_statuses, [...at, 'passive']],
  ]
  for (const [healthy, unhealthy, where] of both) {
    const twice = (healthy ?? []).filter((status) => unhealthy?.includes(status))
    if (twice.length > 0) {
      const message = `status ${twice.join(', ')} is both healthy and unhealthy; it counts as healthy`
      issues.warn([...where, 'unhealthy', 'http_statuses'], message, 'every status in one list')
    }
  }
  if (active.type === 'tcp' || active.type === undefined || active.type === 'http') {
    if (active.https_verify_certificate !== undefined)
      issues.warn([...at, 'active', 'https_verify_certificate'], 'https_verify_certificate has no effect', 'type: https', { atKey: true })
  }
}
