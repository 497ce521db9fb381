/**
 * Every framing probe of `sluice doctor` through a real gateway in front of a recording upstream, with our own listener and with both
 * uWebSockets.js builds: no byte may reach the upstream that a strict reading of RFC 9112 would not let through, except where a build
 * itself decides (build-limits.ts names each).
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { buildLimits } from '../../src/doctor/build-limits.js'
import { probes } from '../../src/doctor/probes.js'
import { type ProbeReport, runProbes } from '../../src/doctor/run-probes.js'
import { type Gateway, proxyTo } from '../support/gateway.js'
import { TestBed } from '../support/test-bed.js'

const UNOFFICIAL = 'uws-unofficial'

describe.each(['tcp', 'uWebSockets.js', UNOFFICIAL])('framing probes with %s', (server) => {
  const bed = new TestBed()
  const reports = new Map<string, ProbeReport>()

  /** Packages are named, kinds are asked for. */
  function start(upstreamPort: number): Promise<Gateway> {
    const kind = server === 'tcp' ? 'tcp' : 'uws'
    const listeners = [{ listen: '127.0.0.1:0', kind }]
    const limits = server === 'tcp' ? { max_header_count: 100 } : {}
    const config = proxyTo(upstreamPort, {}, { listeners, limits, log: { level: 'error' } })
    const binding = server === UNOFFICIAL ? { binding: server } : {}
    return bed.gateway({ config, listen: null, args: ['--accept', 'kernel'], ...binding })
  }

  beforeAll(async () => {
    const upstream = await bed.upstream()
    const gateway = await start(upstream.port)
    const all = await runProbes({ host: '127.0.0.1', port: gateway.port, upstream, limits: buildLimits(server), quietMs: 15 })
    for (const report of all) reports.set(`${report.probe.group}: ${report.probe.name}`, report)
  })
  afterAll(() => bed.close())

  test.each(probes.map((probe) => [`${probe.group}: ${probe.name}`, probe.expect] as const))('%s (%s)', (name) => {
    const report = reports.get(name)
    const { verdict, faults, statuses, closed } = report ?? { verdict: 'not run', faults: [], statuses: [], closed: false }
    const seen = JSON.stringify({ faults, statuses, closed, upstream: report?.upstreamText.slice(0, 300) })
    // a limit that no longer shows must leave the list: the expectation is exact
    expect(verdict, seen).toBe(buildLimits(server).has(name) ? 'build limit' : 'covered')
    // our own parser is not silent either: a client that is refused hears why
    if (server === 'tcp' && report?.probe.expect === 'refuse') expect(statuses.at(-1), seen).toBeGreaterThanOrEqual(400)
  })
})
