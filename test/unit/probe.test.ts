/** Single probes against servers that answer, fail, hang, refuse and speak something else. */
import { afterAll, describe, expect, test } from 'vitest'
import { compileChecks } from '../../src/controlplane/compile-health.js'
import { type ProbeOutcome, type ProbeSpec, probe } from '../../src/controlplane/health/probe.js'
import { probedUpstream } from '../../src/controlplane/health/probe-target.js'
import type { RecordingUpstream, UpstreamAnswer } from '../../src/doctor/recording-upstream.js'
import type { ChecksResource } from '../../src/schema/health.js'
import { ownPort } from '../support/ports.js'
import { TestBed } from '../support/test-bed.js'
import { TestAuthority } from '../support/tls-certificates.js'
import { nodeOf, upstreamOf } from './dataplane/parts.js'

const bed = new TestBed()
afterAll(() => bed.close())

function specOf(port: number, active: ChecksResource['active'] = {}, ca = ''): ProbeSpec {
  const tls = ca === '' ? null : { verify: false, clientCert: '', clientKey: '', ca, serverName: '' }
  const nodes = [nodeOf({ address: '127.0.0.1', host: 'node.test', port, slot: 1 })]
  const spec = probedUpstream(upstreamOf({ nodes, tls, checks: compileChecks({ nodes: {} }, { timeout: 60, ...active }) }))?.targets[0]
    ?.spec
  if (spec === undefined) throw new Error('nothing to probe')
  return spec
}

const run = (spec: ProbeSpec): Promise<ProbeOutcome> => new Promise((resolve) => void probe(spec, resolve))

async function against(answer: UpstreamAnswer, active: ChecksResource['active'] = {}): Promise<[ProbeOutcome, RecordingUpstream]> {
  const upstream = await bed.upstream({ answer })
  return [await run(specOf(upstream.port, active)), upstream]
}

describe('a probe', () => {
  test('sends its request and reads the status line only', async () => {
    const [outcome, upstream] = await against(() => 'HTTP/1.1 204 Fine\r\nbroken header\r\n', { http_path: '/status?full' })
    expect(outcome).toEqual({ kind: 'status', status: 204 })
    expect(upstream.connections[0]?.text).toContain(`GET /status?full HTTP/1.1\r\nHost: node.test:${upstream.port}\r\n`)
  })

  test('reads a status line that comes in pieces', async () => {
    const [outcome] = await against((_, { socket }) => {
      socket.write('HTTP/1.0 50')
      setTimeout(() => socket.write('3 No\r\n'), 20)
      return undefined
    })
    expect(outcome).toEqual({ kind: 'status', status: 503 })
  })

  test('tells what is no HTTP from what is closed, refused, or silent', async () => {
    expect((await against(() => 'SSH-2.0-x\r\n'))[0]).toEqual({ kind: 'no-status' })
    expect((await against(() => Buffer.alloc(20_000, 'x')))[0]).toEqual({ kind: 'no-status' })
    const [closed] = await against((_, { socket }) => {
      socket.end()
      return undefined
    })
    expect(closed).toEqual({ kind: 'broken', reason: 'closed without an answer' })
    expect(await run(specOf(await ownPort()))).toEqual({ kind: 'broken', reason: 'ECONNREFUSED' })
    expect((await against(() => undefined, { timeout: 0.05 }))[0]).toEqual({ kind: 'timeout' })
  })

  test('with type tcp only connects', async () => {
    const [outcome, upstream] = await against(() => undefined, { type: 'tcp' })
    expect([outcome, upstream.requests]).toEqual([{ kind: 'connected' }, []])
  })

  test('with type https verifies the certificate for the host, unless told not to', async () => {
    const authority = await TestAuthority.create()
    const upstream = await bed.upstream({ tls: await authority.issue('node.test'), answer: () => 'HTTP/1.1 200 OK\r\n\r\n' })
    const ask = (active: ChecksResource['active'], ca = authority.cert): Promise<ProbeOutcome> =>
      run(specOf(upstream.port, { type: 'https', ...active }, ca))
    expect(await ask({})).toEqual({ kind: 'status', status: 200 })
    expect(await ask({ host: 'other.test' })).toEqual({ kind: 'broken', reason: 'ERR_TLS_CERT_ALTNAME_INVALID' })
    expect(await ask({}, '')).toMatchObject({ kind: 'broken' })
    expect(await ask({ https_verify_certificate: false, host: 'other.test' })).toEqual({ kind: 'status', status: 200 })
  })

  test('gets the time back that its own thread stood still: the answer that waits is read', async () => {
    const upstream = await bed.upstream({
      answer: () => {
        const endMs = performance.now() + 300
        // The server is in this thread as well: it answers at once, but nobody reads for longer than the probe may take.
        setImmediate(() => {
          while (performance.now() < endMs);
        })
        return 'HTTP/1.1 200 OK\r\n'
      },
    })
    expect(await run(specOf(upstream.port, { timeout: 0.2 }))).toEqual({ kind: 'status', status: 200 })
  })

  test('that is cancelled says nothing', async () => {
    const upstream = await bed.upstream({ answer: () => undefined })
    const outcomes: ProbeOutcome[] = []
    const cancel = probe(specOf(upstream.port), (outcome) => outcomes.push(outcome))
    await upstream.signal.until(() => upstream.requests.length === 1, 60_000, 'the probe')
    cancel()
    await upstream.signal.until(() => upstream.connections[0]?.closed === true, 60_000, 'its end')
    expect(outcomes).toEqual([])
  })
})
