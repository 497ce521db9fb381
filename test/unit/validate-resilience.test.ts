/** Options for retries, deadlines and bounds of upstreams: what they compile to, and what is refused by name. */
import { describe, expect, test } from 'vitest'
import { compileResilience, compileRouteRetry } from '../../src/controlplane/compile-resilience.js'
import { compileTimeout } from '../../src/controlplane/compile-upstreams.js'
import { loadSource } from '../../src/controlplane/load.js'
import { SourceDocument } from '../../src/controlplane/load-source.js'
import { builtinPlugins } from '../../src/plugins/index.js'
import { PluginRegistry } from '../../src/plugins/registry.js'

const registry = PluginRegistry.of(builtinPlugins)

function load(fields: string) {
  const read = SourceDocument.parse('f', `upstreams: [{ id: u, nodes: { "10.0.0.1:80": 1 }, ${fields} }]`, {})
  if (!read.ok) throw new Error('the test is no YAML')
  return loadSource(read.source, registry, { nowMs: 0 })
}
const errors = (fields: string): string[] => {
  const result = load(fields)
  return result.ok ? [] : result.errors.map((issue) => `${issue.path}: ${issue.message}`)
}
const warnings = (fields: string): string[] => load(fields).warnings.map((issue) => `${issue.path}: ${issue.message}`)

describe('what is refused', () => {
  test.each([
    ['retry_on: [sometimes]', 'retry_on'],
    ['retry_on: [200]', 'retry_on'],
    ['retry_on: [503, 503]', 'retry_on'],
    ['retry_backoff: { base: 0.1, max: 0.05 }', 'retry_backoff.max: max (0.05) is below base (0.1)'],
    ['retry_budget: { percent: -1 }', 'retry_budget.percent'],
    ['deadline: { header: "X Y" }', 'deadline.header'],
    ['deadline: { header: Host }', 'deadline.header: Host is written by the gateway'],
    ['timeout: { per_try: 0 }', 'timeout.per_try'],
    ['concurrency: { queue: 5 }', 'limit'],
    ['hedge: { percentile: 100 }', 'hedge.percentile'],
    ['concurrency: { limit: 5, adaptive: { min: 6 } }', 'concurrency.limit: limit (5) is not between min (6) and max (1000)'],
    ['concurrency: { limit: 5, adaptive: { min: 6, max: 5 } }', 'concurrency.adaptive: min (6) is above max (5)'],
  ])('%s', (fields, where) => {
    expect(errors(fields)[0]).toContain(where)
  })

  test('what has no effect is told', () => {
    expect(warnings('retries: 0, retry_on: [503]')).toEqual([expect.stringContaining('retry_on has no effect with retries: 0')])
    expect(warnings('timeout: { per_try: 5, total: 2 }')).toEqual([expect.stringContaining('per_try has no effect')])
  })
})

describe('what they compile to', () => {
  const nodes = { 'a:1': 1 }

  test('nothing, when nothing is configured', () => {
    expect(compileResilience({ nodes })).toEqual({})
    expect(compileRouteRetry({ uri: '/a' }, undefined)).toEqual({})
  })

  test('rules of a route replace those of the upstream, and keep its waits', () => {
    const { resilience } = compileResilience({ nodes, retry_on: ['reset', 503, 502], retry_backoff: {}, retry_after_max: 0 })
    expect(resilience?.retry).toEqual({
      connectFailure: false,
      reset: true,
      timeout: false,
      statuses: [502, 503],
      nonIdempotent: false,
      backoffBaseMs: 25,
      backoffMaxMs: 250,
      retryAfterMaxMs: 0,
    })
    const own = compileRouteRetry({ uri: '/a', retry_on: ['timeout', 429] }, resilience?.retry)
    expect(own.retry).toMatchObject({ reset: false, timeout: true, statuses: [429], backoffBaseMs: 25 })
    expect(compileRouteRetry({ uri: '/a', retry_non_idempotent: true }, undefined).retry).toMatchObject({
      connectFailure: true,
      reset: true,
      timeout: true,
      statuses: [],
      nonIdempotent: true,
    })
  })

  test('budget, deadline and limits, with their defaults', () => {
    expect(compileResilience({ nodes, retry_budget: {}, deadline: {} })).toEqual({
      resilience: {
        budget: { percent: 20, minPerSecond: 3 },
        deadline: { header: 'X-Request-Deadline-Ms', fromClient: false },
      },
    })
    expect(compileResilience({ nodes, hedge: {} }).resilience?.hedge).toEqual({ delayMs: 0, percentile: 95 })
    expect(compileResilience({ nodes, hedge: { delay: 0.02 } }).resilience?.hedge).toEqual({ delayMs: 20, percentile: 0 })
    const base = { connectMs: 3000, sendMs: 10_000, readMs: 30_000, totalMs: 5_000 }
    expect(compileTimeout({ per_try: 0.5 }, base)).toEqual({ ...base, perTryMs: 500 })
    expect(compileTimeout({ total: 1 }, base)).toEqual({ ...base, totalMs: 1_000 })
  })
})
