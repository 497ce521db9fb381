/**
 * Every framing probe of `sluice doctor` through a real gateway in front of a recording upstream, with both uWebSockets.js builds: no
 * byte may reach the upstream that a strict reading of RFC 9112 would not let through, except where the build itself decides
 * (build-limits.ts names each).
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { buildLimits } from '../../src/doctor/build-limits.js'
import { probes } from '../../src/doctor/probes.js'
import { type ProbeReport, runProbes } from '../../src/doctor/run-probes.js'
import { proxyTo } from '../support/gateway.js'
import { TestBed } from '../support/test-bed.js'

describe.each(['uWebSockets.js', 'uws-unofficial'])('framing probes with %s', (binding) => {
  const bed = new TestBed()
  const reports = new Map<string, ProbeReport>()

  beforeAll(async () => {
    const upstream = await bed.upstream()
    const config = proxyTo(upstream.port, {}, { log: { level: 'error' } })
    const gateway = await bed.gateway({ config, binding, args: ['--accept', 'kernel'] })
    const all = await runProbes({ host: '127.0.0.1', port: gateway.port, upstream, limits: buildLimits(binding), quietMs: 15 })
    for (const report of all) reports.set(`${report.probe.group}: ${report.probe.name}`, report)
  })
  afterAll(() => bed.close())

  test.each(probes.map((probe) => [`${probe.group}: ${probe.name}`, probe.expect] as const))('%s (%s)', (name) => {
    const report = reports.get(name)
    const { verdict, faults, statuses, closed } = report ?? { verdict: 'not run', faults: [], statuses: [], closed: false }
    const seen = JSON.stringify({ faults, statuses, closed, upstream: report?.upstreamText.slice(0, 300) })
    // a limit that no longer shows must leave the list: the expectation is exact
    expect(verdict, seen).toBe(buildLimits(binding).has(name) ? 'build limit' : 'covered')
  })
})
