/** When probes are sent, on a clock of the test; and what their outcomes mean. */
import { describe, expect, test } from 'vitest'
import { ManualClock } from '../../src/base/clock.js'
import { compileChecks } from '../../src/controlplane/compile-health.js'
import type { ProbeOutcome, ProbeSpec } from '../../src/controlplane/health/probe.js'
import { type ProbedUpstream, probedUpstream } from '../../src/controlplane/health/probe-target.js'
import { type ProbeFinding, Prober } from '../../src/controlplane/health/prober.js'
import type { ChecksResource } from '../../src/schema/health.js'
import type { UpstreamResource } from '../../src/schema/upstream.js'
import { HealthEvent } from '../../src/shared/health-state.js'
import { nodeOf, upstreamOf } from './dataplane/parts.js'

type Active = NonNullable<ChecksResource['active']>

interface Sent {
  readonly atMs: number
  readonly port: number
  readonly spec: ProbeSpec
  readonly isCancelled: () => boolean
  answer(outcome: ProbeOutcome): void
}

function probed(count: number, active: Active = {}, fields: Partial<UpstreamResource> = {}): ProbedUpstream {
  const nodes = Array.from({ length: count }, (_, index) =>
    nodeOf({ host: 'api.test', address: '10.0.0.1', port: 8001 + index, slot: index + 1 }),
  )
  const found = probedUpstream(upstreamOf({ nodes, checks: compileChecks({ nodes: {}, ...fields }, active) }))
  if (found === null) throw new Error('the upstream has no checks')
  return found
}

function bench() {
  const clock = new ManualClock()
  const sent: Sent[] = []
  const found: ProbeFinding[] = []
  const down = new Set<number>()
  const startMs = clock.nowMs()
  const prober = new Prober({
    clock,
    random: () => 0.5,
    isUsable: (slot) => !down.has(slot),
    report: (finding) => found.push(finding),
    probe: (spec, done) => {
      let isCancelled = false
      sent.push({ atMs: clock.nowMs() - startMs, port: spec.port, spec, isCancelled: () => isCancelled, answer: done })
      return () => {
        isCancelled = true
      }
    },
  })
  /** Lets time pass, answering every probe at once. */
  const run = (ms: number, outcome: ProbeOutcome = { kind: 'connected' }): void => {
    for (let passed = 0; passed < ms; passed += 50) {
      clock.advance(50)
      for (const one of sent.splice(0)) {
        seen.push(one)
        one.answer(outcome)
      }
    }
  }
  const seen: Sent[] = []
  return { clock, prober, sent, seen, found, down, run }
}

describe('schedule', () => {
  test('the first probe comes after one interval, the others follow; an unusable node has an interval of its own', () => {
    const { prober, seen, run, down } = bench()
    prober.follow([probed(1, { healthy: { interval: 2 }, unhealthy: { interval: 0.5 } })])
    run(1950)
    expect(seen).toEqual([])
    run(4100)
    expect(seen.map(({ atMs }) => atMs)).toEqual([2000, 4000, 6000])
    // News that did not come from probes counts as well.
    down.add(1)
    run(1500)
    expect(seen.slice(3).map(({ atMs }) => atMs)).toEqual([6500, 7000, 7500])
  })

  test('never two for one node, never more of an upstream than its concurrency; what waits is next', () => {
    const { prober, sent, clock } = bench()
    prober.follow([probed(5, { concurrency: 2 })])
    clock.advance(5000)
    expect(sent.map(({ port }) => port)).toEqual([8001, 8002])
    sent[0]?.answer({ kind: 'connected' })
    expect(sent.map(({ port }) => port)).toEqual([8001, 8002, 8003])
    for (let index = 1; index < 4; index++) sent[index]?.answer({ kind: 'timeout' })
    expect(sent.map(({ port }) => port).slice(0, 5)).toEqual([8001, 8002, 8003, 8004, 8005])
  })

  test('over a reload a node keeps its place in time and its probe; one that goes is cancelled and not reported', () => {
    const { prober, sent, clock, found } = bench()
    prober.follow([probed(2)])
    clock.advance(700)
    prober.follow([probed(3)])
    clock.advance(350)
    expect(sent.map(({ port }) => port)).toEqual([8001, 8002])
    prober.follow([probed(1)])
    expect(sent.map(({ isCancelled }) => isCancelled())).toEqual([false, true])
    sent[0]?.answer({ kind: 'status', status: 500 })
    expect(found.map(({ target, event }) => [target.node.port, event])).toEqual([[8001, HealthEvent.HttpFailure]])
    prober.close()
    clock.advance(10_000)
    expect([sent.length, clock.pending]).toEqual([2, 0])
  })
})

describe('outcomes', () => {
  const cases: [ProbeOutcome, HealthEvent, number][] = [
    [{ kind: 'status', status: 200 }, HealthEvent.Success, 2],
    [{ kind: 'status', status: 302 }, HealthEvent.Success, 2],
    [{ kind: 'status', status: 404 }, HealthEvent.HttpFailure, 5],
    [{ kind: 'status', status: 505 }, HealthEvent.HttpFailure, 5],
    [{ kind: 'status', status: 201 }, HealthEvent.None, 0],
    [{ kind: 'no-status' }, HealthEvent.HttpFailure, 5],
    [{ kind: 'broken', reason: 'ECONNREFUSED' }, HealthEvent.TcpFailure, 2],
    [{ kind: 'timeout' }, HealthEvent.Timeout, 3],
    [{ kind: 'connected' }, HealthEvent.Success, 2],
  ]
  test.each(cases)('%j', (outcome, event, limit) => {
    const { prober, found, run } = bench()
    prober.follow([probed(1)])
    run(1050, outcome)
    expect(found).toMatchObject([{ event, limit, upstream: 'upstreams/1' }])
  })
})

describe('requests', () => {
  const requestOf = (active: Active, fields: Partial<UpstreamResource> = {}): string | undefined =>
    probed(1, active, fields).targets[0]?.spec.request?.toString('latin1')

  test('say the host of the node, or the configured one, or that of pass_host: rewrite', () => {
    expect(requestOf({})).toBe(
      'GET / HTTP/1.1\r\nHost: api.test:8001\r\nUser-Agent: sluice-health-check\r\nAccept: */*\r\nConnection: close\r\n\r\n',
    )
    expect(requestOf({ port: 80 })).toContain('Host: api.test\r\n')
    expect(requestOf({ host: 'probe.test' }, { pass_host: 'rewrite', upstream_host: 'up.test' })).toContain('Host: probe.test\r\n')
    expect(requestOf({}, { pass_host: 'rewrite', upstream_host: 'up.test' })).toContain('Host: up.test\r\n')
  })

  test('have the configured method, path, headers and body; own headers take the place of ours', () => {
    const request = requestOf({ http_method: 'POST', http_path: '/h?x=1', http_req_body: 'ö', req_headers: ['user-agent: me', 'X-A:1'] })
    expect(request?.split('\r\n')[0]).toBe('POST /h?x=1 HTTP/1.1')
    expect(request).toContain('Content-Length: 2\r\nuser-agent: me\r\nX-A:1\r\n\r\n')
    expect(request).not.toContain('sluice')
    expect(probed(1, { type: 'tcp' }).targets[0]?.spec.request).toBeNull()
  })
})
