import { createServer, request as httpRequest, type Server } from 'node:http'
import { connect, createServer as createNetServer, type Server as NetServer } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { type Probe, probes } from '../../src/doctor/probes.js'
import { RecordingUpstream } from '../../src/doctor/recording-upstream.js'
import { type ProbeReport, runProbes } from '../../src/doctor/run-probes.js'
import { readRequests } from '../../src/doctor/strict-request.js'

const closing: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

async function upstreamForTest(): Promise<RecordingUpstream> {
  const upstream = await RecordingUpstream.start()
  closing.push(() => upstream.close())
  return upstream
}

async function listen(server: Server | NetServer): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closing.push(() => new Promise((resolve) => server.close(() => resolve())))
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('the server has no port')
  return address.port
}

/** A "gateway" that passes every byte on: the worst that can stand in front of an upstream. */
function splice(port: number): NetServer {
  return createNetServer((client) => {
    const upstream = connect(port, '127.0.0.1')
    client.pipe(upstream).pipe(client)
    for (const socket of [client, upstream]) {
      socket.on('error', () => undefined)
      socket.on('close', () => {
        client.destroy()
        upstream.destroy()
      })
    }
  })
}

/** A gateway on Node's strict parser that buffers bodies and frames them anew. */
function strictProxy(port: number): Server {
  return createServer((incoming, outgoing) => {
    const chunks: Buffer[] = []
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
    incoming.on('error', () => undefined)
    incoming.on('end', () => {
      const body = Buffer.concat(chunks)
      const { method = 'GET', url = '/' } = incoming
      const headers = { host: incoming.headers.host ?? '', 'content-length': String(body.length) }
      const proxied = httpRequest({ port, host: '127.0.0.1', method, path: url, headers, agent: false }, (response) => {
        outgoing.writeHead(response.statusCode ?? 502)
        response.pipe(outgoing)
      })
      proxied.on('error', () => outgoing.destroy())
      proxied.end(body)
    })
  })
}

function named(...names: string[]): Probe[] {
  const chosen = probes.filter((probe) => names.includes(`${probe.group}: ${probe.name}`))
  expect(chosen).toHaveLength(names.length)
  return chosen
}

async function run(server: (port: number) => Server | NetServer, chosen: readonly Probe[]): Promise<ProbeReport[]> {
  const upstream = await upstreamForTest()
  const port = await listen(server(upstream.port))
  return runProbes({ host: '127.0.0.1', port, upstream, probes: chosen, quietMs: 15 })
}

describe('the probe list', () => {
  test('names are unique within a group', () => {
    const names = probes.map((probe) => `${probe.group}: ${probe.name}`)
    expect(new Set(names).size).toBe(names.length)
    expect(names.length).toBeGreaterThan(150)
  })

  test.each(probes.map((probe) => [`${probe.group}: ${probe.name}`, probe] as const))(
    '%s is expected as a strict reader reads it',
    (_, probe) => {
      const reading = readRequests(Buffer.from(probe.pieces.join(''), 'latin1'))
      const [first] = reading.requests
      if (probe.expect === 'refuse') {
        expect(reading.requests).toEqual([])
        expect(reading.problem).not.toBeNull()
      } else if (probe.expect === 'cut') {
        expect(reading.requests).toHaveLength(1)
        expect(first?.complete).toBe(false)
      } else if (probe.expect === 'forward') {
        expect(first?.complete).toBe(true)
      }
    },
  )
})

describe('runProbes', () => {
  test('finds the smuggling of a gateway that passes bytes on', async () => {
    const chosen = named(
      'content-length: repeated, 0 then 5',
      'content-length: with Transfer-Encoding, length first',
      'transfer-encoding: chunked in two fields',
      'transfer-encoding: space before the colon',
      'chunked: data longer than its size',
      'host: repeated, different',
      'header: bare LF in a value',
      'request line: fragment in the target',
    )
    const reports = await run(splice, chosen)
    expect(reports.map((report) => report.verdict)).toEqual(chosen.map(() => 'leak'))
    for (const report of reports) expect(report.faults).not.toEqual([])
  })

  test('calls a gateway with a strict parser covered, with what it answered', async () => {
    const chosen = named(
      'content-length: plain length',
      'content-length: repeated, 0 then 5',
      'content-length: with Transfer-Encoding, length first',
      'chunked: 0x prefix',
      'chunked: chunk extension',
      'pipelining: two requests at once',
      'header: bare CR in a value',
    )
    const reports = await run(strictProxy, chosen)
    expect(reports.map((report) => [report.probe.name, report.verdict, report.faults])).toEqual(
      chosen.map((probe) => [probe.name, 'covered', []]),
    )
    expect(reports.map((report) => report.statuses)).toEqual([[200], [400], [400], [400], [200], [200, 200], [400]])
  })

  test('notices a changed body and a lost request', async () => {
    const chosen = named('content-length: plain length')
    const upstream = await upstreamForTest()
    const lossy = createServer((incoming, outgoing) => {
      incoming.resume()
      if (incoming.url === '/probe') return outgoing.end('answered without asking the upstream')
      return httpRequest({ port: upstream.port, path: incoming.url }, (response) => response.pipe(outgoing)).end()
    })
    const changing = createServer((incoming, outgoing) => {
      incoming.resume()
      const body = incoming.method === 'POST' ? 'other' : ''
      const headers = { host: incoming.headers.host ?? '', 'content-length': String(body.length) }
      const options = { port: upstream.port, path: incoming.url, method: incoming.method, headers, agent: false } as const
      httpRequest(options, (response) => response.pipe(outgoing)).end(body)
    })
    const verdicts: string[] = []
    for (const server of [lossy, changing]) {
      const port = await listen(server)
      const reports = await runProbes({ host: '127.0.0.1', port, upstream, probes: chosen, quietMs: 15 })
      verdicts.push(...reports.map((report) => report.verdict))
    }
    expect(verdicts).toEqual(['lost', 'body changed'])
  })
})
