/** Rules for retries, deadlines and bounds of upstreams that a schema cannot say. */
import type { UpstreamResource } from '../schema/upstream.js'
import type { DocumentPath, IssueList } from './load-issue.js'

/** Fields that the gateway writes itself, or that belong to one connection: none of them can carry a deadline. */
const ownFields: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'host',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-port',
  'x-forwarded-proto',
  'x-real-ip',
])

export function checkResilience(value: UpstreamResource, path: DocumentPath, issues: IssueList): void {
  const { timeout, deadline, retry_backoff: backoff } = value
  if (deadline?.header !== undefined && ownFields.has(deadline.header.toLowerCase())) {
    issues.error([...path, 'deadline', 'header'], `${deadline.header} is written by the gateway`, 'a field of its own')
  }
  const base = backoff?.base ?? 0.025
  if (backoff?.max !== undefined && backoff.max < base) {
    issues.error([...path, 'retry_backoff', 'max'], `max (${backoff.max}) is below base (${base})`, 'a max of at least base')
  }
  if (timeout?.total !== undefined && timeout.per_try !== undefined && timeout.per_try > timeout.total) {
    issues.warn([...path, 'timeout', 'per_try'], 'per_try has no effect: it is longer than total', 'a per_try below total')
  }
  checkConcurrency(value, path, issues)
  if (value.retries !== 0) return
  for (const name of ['retry_on', 'retry_non_idempotent', 'retry_backoff', 'retry_after_max'] as const) {
    if (value[name] !== undefined) issues.warn([...path, name], `${name} has no effect with retries: 0`, 'retries above 0', { atKey: true })
  }
}

function checkConcurrency({ concurrency }: UpstreamResource, path: DocumentPath, issues: IssueList): void {
  if (concurrency?.adaptive === undefined) return
  const { min = 10, max = 1_000 } = concurrency.adaptive
  const at = [...path, 'concurrency']
  if (min > max) issues.error([...at, 'adaptive'], `min (${min}) is above max (${max})`, 'a min of at most max')
  else if (concurrency.limit < min || concurrency.limit > max) {
    issues.error(
      [...at, 'limit'],
      `limit (${concurrency.limit}) is not between min (${min}) and max (${max}) of adaptive`,
      'a limit between them',
    )
  }
}
