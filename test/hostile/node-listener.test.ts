/**
 * Every framing probe of `sluice doctor` through the strict listener: of all that the uWebSockets.js builds decide unseen
 * (build-limits.ts), nothing is left; one chunk size that no strict reader takes passes llhttp without becoming a message.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { buildLimits } from '../../src/doctor/build-limits.js'
import { probes } from '../../src/doctor/probes.js'
import { type ProbeReport, runProbes } from '../../src/doctor/run-probes.js'
import { proxyTo } from '../support/gateway.js'
import { TestBed } from '../support/test-bed.js'

describe('framing probes with the strict listener', () => {
  const bed = new TestBed()
  const reports = new Map<string, ProbeReport>()

  beforeAll(async () => {
    const upstream = await bed.upstream()
    const listeners = [{ listen: '127.0.0.1:0', kind: 'node' }]
    const limits = { max_header_count: 100 }
    const gateway = await bed.gateway({ config: proxyTo(upstream.port, {}, { listeners, limits, log: { level: 'error' } }), listen: null })
    const all = await runProbes({ host: '127.0.0.1', port: gateway.port, upstream, limits: buildLimits('node'), quietMs: 15 })
    for (const report of all) reports.set(`${report.probe.group}: ${report.probe.name}`, report)
  })
  afterAll(() => bed.close())

  test.each(probes.map((probe) => [`${probe.group}: ${probe.name}`, probe.expect] as const))('%s (%s)', (name) => {
    const report = reports.get(name)
    const { verdict, faults, statuses, closed } = report ?? { verdict: 'not run', faults: [], statuses: [], closed: false }
    const seen = JSON.stringify({ faults, statuses, closed, upstream: report?.upstreamText.slice(0, 300) })
    expect(verdict, seen).toBe(buildLimits('node').has(name) ? 'build limit' : 'covered')
    // no silence either: a client that is refused hears why, unless it left in the middle of a message
    if (report?.probe.expect === 'refuse') expect(statuses.at(-1), seen).toBeGreaterThanOrEqual(400)
  })
})
