/** Options for failing, late and busy upstreams to their compiled form. */
import type { CompiledConcurrency, CompiledHedge, CompiledResilience, CompiledRetry } from '../schema/compiled.js'
import type { RouteResource } from '../schema/route.js'
import type { UpstreamResource } from '../schema/upstream.js'
import { milliseconds } from './validate-process.js'

type RetryRules = Pick<UpstreamResource, 'retry_on' | 'retry_non_idempotent'>

/** As the reference gateway repeats: failures, never statuses. */
const defaultRetry: CompiledRetry = Object.freeze({
  connectFailure: true,
  reset: true,
  timeout: true,
  statuses: [],
  nonIdempotent: false,
  backoffBaseMs: 0,
  backoffMaxMs: 0,
  retryAfterMaxMs: 1_000,
})

/** Nothing at all when nothing is configured: records of 100,000 upstreams stay small. */
export function compileResilience(value: UpstreamResource): { readonly resilience?: CompiledResilience } {
  const resilience: CompiledResilience = {
    ...compileRetry(value),
    ...(value.retry_budget === undefined
      ? {}
      : { budget: { percent: value.retry_budget.percent ?? 20, minPerSecond: value.retry_budget.min_per_second ?? 3 } }),
    ...(value.deadline === undefined
      ? {}
      : { deadline: { header: value.deadline.header ?? 'X-Request-Deadline-Ms', fromClient: value.deadline.from_client ?? false } }),
    ...compileConcurrency(value),
    ...compileHedge(value),
  }
  return Object.keys(resilience).length === 0 ? {} : { resilience }
}

function compileConcurrency({ concurrency }: UpstreamResource): { readonly concurrency?: CompiledConcurrency } {
  if (concurrency === undefined) return {}
  const { limit, queue, queue_timeout: queueTimeout, adaptive } = concurrency
  return {
    concurrency: {
      limit,
      queue: queue ?? 100,
      queueTimeoutMs: milliseconds(queueTimeout ?? 1),
      adaptive:
        adaptive === undefined ? null : { min: adaptive.min ?? 10, max: adaptive.max ?? 1_000, tolerance: adaptive.tolerance ?? 1.5 },
    },
  }
}

function compileHedge({ hedge }: UpstreamResource): { readonly hedge?: CompiledHedge } {
  if (hedge === undefined) return {}
  const { delay, percentile = delay === undefined ? 95 : 0 } = hedge
  return { hedge: { delayMs: delay === undefined ? 0 : milliseconds(delay), percentile } }
}

function compileRetry(value: UpstreamResource): { readonly retry?: CompiledRetry } {
  const { retry_backoff: backoff, retry_after_max: retryAfterMax } = value
  const rules = ruled(value, defaultRetry)
  if (rules === null && backoff === undefined && retryAfterMax === undefined) return {}
  const base = backoff === undefined ? 0 : (backoff.base ?? 0.025)
  return {
    retry: {
      ...(rules ?? defaultRetry),
      backoffBaseMs: milliseconds(base),
      backoffMaxMs: milliseconds(backoff?.max ?? base * 10),
      retryAfterMaxMs: milliseconds(retryAfterMax ?? 1),
    },
  }
}

/** The rules of a route over those of its upstream. */
export function compileRouteRetry(route: RouteResource, upstream: CompiledRetry | undefined): { readonly retry?: CompiledRetry } {
  const retry = ruled(route, upstream ?? defaultRetry)
  return retry === null ? {} : { retry }
}

/** `base` with what these rules change; null = nothing. */
function ruled(rules: RetryRules, base: CompiledRetry): CompiledRetry | null {
  const { retry_on: causes, retry_non_idempotent: nonIdempotent } = rules
  if (causes === undefined && nonIdempotent === undefined) return null
  const named =
    causes === undefined
      ? {}
      : {
          connectFailure: causes.includes('connect-failure'),
          reset: causes.includes('reset'),
          timeout: causes.includes('timeout'),
          statuses: causes.filter((cause) => typeof cause === 'number').sort((a, b) => a - b),
        }
  return { ...base, ...named, nonIdempotent: nonIdempotent ?? base.nonIdempotent }
}
