/** TLS listeners: versions, certificates by server name, what upstreams are told. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { RawConnection, textOf } from '../../src/doctor/raw-connection.js'
import { lengthResponse, type RecordingUpstream } from '../../src/doctor/recording-upstream.js'
import { valuesOf } from '../../src/doctor/strict-fields.js'
import { ADMIN_KEY, type Gateway } from '../support/gateway.js'
import { TestBed } from '../support/test-bed.js'
import { TestAuthority } from '../support/tls-certificates.js'

const MEGABYTE = 1024 * 1024

describe.each([1, 2])('TLS with %i workers', (workers) => {
  const bed = new TestBed()
  let authority: TestAuthority
  let upstream: RecordingUpstream
  let gateway: Gateway
  let tlsPort: number

  beforeAll(async () => {
    authority = await TestAuthority.create()
    const standard = await authority.issue('default.test')
    const exact = await authority.issue('exact.test')
    const wild = await authority.issue('*.wild.test')
    const folder = await mkdtemp(join(tmpdir(), 'sluice-tls-'))
    bed.later(() => rm(folder, { recursive: true, force: true }))
    await writeFile(join(folder, 'cert.pem'), standard.cert)
    await writeFile(join(folder, 'key.pem'), standard.key)
    upstream = await bed.upstream()
    const config = {
      routes: [{ id: 'all', uri: '/*', upstream: { nodes: { [`127.0.0.1:${upstream.port}`]: 1 } } }],
      ssls: [
        { id: 'exact', snis: ['exact.test'], cert: exact.cert, key: exact.key },
        { id: 'wild', sni: '*.wild.test', cert: wild.cert, key: wild.key },
      ],
      sluice: {
        listeners: ['127.0.0.1:0', { listen: '127.0.0.1:0', tls: { cert: join(folder, 'cert.pem'), key: join(folder, 'key.pem') } }],
        log: { level: 'error' },
      },
    }
    gateway = await bed.gateway({ config, workers, listen: null, admin: true })
    const url = gateway.process.urls.find((candidate) => candidate.startsWith('https:'))
    tlsPort = Number(new URL(url ?? '').port)
  })
  afterAll(() => bed.close())

  const options = (servername: string, more: ConnectionOptions = {}): ConnectionOptions => ({ servername, ca: authority.cert, ...more })

  /** Protocol and certificate of a handshake, or the code of its error. */
  const handshake = (given: ConnectionOptions): Promise<string> =>
    new Promise((resolve) => {
      const socket: TLSSocket = connect({ port: tlsPort, host: '127.0.0.1', ...given }, () => {
        resolve(`${socket.getProtocol()} ${socket.getPeerCertificate().subject.CN}`)
        socket.destroy()
      })
      socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    })

  test('certificates of further names come by the Admin API at once; what replaces or removes one waits for a restart and says so', async () => {
    const change = async (method: string, body?: object) => {
      const headers = { 'x-api-key': ADMIN_KEY }
      const given = body === undefined ? {} : { body: JSON.stringify(body) }
      const reply = await fetch(`${gateway.adminUrl}/apisix/admin/ssls/live`, { method, headers, ...given })
      return [reply.status, reply.headers.get('x-sluice-needs-restart')]
    }
    // As often as there are workers, so that each is asked.
    const served = async (name: string) => {
      const given = options(name, { checkServerIdentity: () => undefined })
      return [...new Set(await Promise.all(Array.from({ length: 4 * workers }, () => handshake(given))))]
    }
    expect(await served('live.test')).toEqual(['TLSv1.3 default.test'])
    const first = await authority.issue('live.test')
    expect(await change('PUT', { snis: ['live.test', '*.live.test'], ...first })).toEqual([201, null])
    expect(await served('live.test')).toEqual(['TLSv1.3 live.test'])
    expect(await served('a.live.test')).toEqual(['TLSv1.3 live.test'])

    const second = await authority.issue('second.test', 'live.test')
    expect(await change('PUT', { snis: ['live.test', 'further.test'], ...second })).toEqual([
      200,
      'the certificates of live.test and *.live.test',
    ])
    expect(await served('live.test')).toEqual(['TLSv1.3 live.test'])
    expect(await served('further.test')).toEqual(['TLSv1.3 second.test'])
    expect(await served('exact.test')).toEqual(['TLSv1.3 exact.test'])
    expect(await change('DELETE')).toEqual([200, 'the certificates of live.test and *.live.test and further.test'])
    expect(await served('live.test')).toEqual(['TLSv1.3 live.test'])
  })

  test.each(['TLSv1.2', 'TLSv1.3'] as const)('%s is spoken', async (version) => {
    expect(await handshake(options('default.test', { minVersion: version, maxVersion: version }))).toBe(`${version} default.test`)
  })

  test.each(['TLSv1', 'TLSv1.1'] as const)('%s is refused', async (version) => {
    const given = options('default.test', { minVersion: version, maxVersion: version, ciphers: 'DEFAULT:@SECLEVEL=0' })
    expect(await handshake(given)).toMatch(/^E/)
  })

  test.each([
    ['exact.test', 'exact.test'],
    ['a.wild.test', '*.wild.test'],
    ['default.test', 'default.test'],
  ])('server name %s gets the certificate of %s', async (servername, name) => {
    expect(await handshake(options(servername))).toBe(`TLSv1.3 ${name}`)
  })

  test('a server name that nobody configured gets the default certificate', async () => {
    expect(await handshake(options('stranger.test', { checkServerIdentity: () => undefined }))).toBe('TLSv1.3 default.test')
  })

  test.each(['default.test', 'exact.test', 'a.wild.test'])('requests are answered on a connection for %s', async (servername) => {
    const client = await RawConnection.open({ port: tlsPort, tls: options(servername) })
    bed.later(() => client.destroy())
    const response = await client.request(`GET /tls/${servername} HTTP/1.1\r\nHost: ${servername}\r\n\r\n`)
    expect([response.status, textOf(response)]).toEqual([200, 'ok'])
    const fields = upstream.requests.find((request) => request.target === `/tls/${servername}`)?.fields ?? []
    expect(valuesOf(fields, 'x-forwarded-proto')).toEqual(['https'])
    expect(valuesOf(fields, 'x-forwarded-port')).toEqual([String(tlsPort)])
  })

  test('a megabyte each way', async () => {
    upstream.answer = (request) => lengthResponse(Buffer.concat(request.body))
    const body = Buffer.alloc(MEGABYTE, 'tls')
    const client = await RawConnection.open({ port: tlsPort, tls: options('default.test') })
    bed.later(() => client.destroy())
    client.expectMethodOf('POST')
    await client.send(`POST /big HTTP/1.1\r\nHost: default.test\r\nContent-Length: ${body.length}\r\n\r\n`)
    await client.send(body)
    const response = await client.response()
    expect(Buffer.concat(response.body).equals(body)).toBe(true)
  })

  test.each([
    ['a short answer', 'ok'],
    ['an answer in pieces', 'a'.repeat(MEGABYTE)],
  ])('a client that says Connection: close is told so, once, with %s', async (_name, body) => {
    upstream.answer = () => lengthResponse(Buffer.from(body))
    const client = await RawConnection.open({ port: tlsPort, tls: options('default.test') })
    bed.later(() => client.destroy())
    const response = await client.request('GET /closing HTTP/1.1\r\nHost: default.test\r\nConnection: close\r\n\r\n')
    expect([response.status, textOf(response) === body, valuesOf(response.fields, 'connection')]).toEqual([200, true, ['close']])
    expect(await client.untilClosed()).toBe(true)
  })

  test('plain HTTP on the TLS port reaches nobody', async () => {
    const before = upstream.byteCount
    const client = await bed.client({ port: tlsPort })
    await client.send('GET /plain HTTP/1.1\r\nHost: default.test\r\n\r\n')
    expect(await client.untilClosed()).toBe(true)
    expect(upstream.byteCount).toBe(before)
  })

  test('the plain listener beside it says http', async () => {
    const client = await bed.client({ port: gateway.port })
    await client.request('GET /plain-listener HTTP/1.1\r\nHost: default.test\r\n\r\n')
    const fields = upstream.requests.find((request) => request.target === '/plain-listener')?.fields ?? []
    expect(valuesOf(fields, 'x-forwarded-proto')).toEqual(['http'])
  })
})
