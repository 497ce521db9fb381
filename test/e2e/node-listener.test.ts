/** The strict listener over real sockets: HTTP/1.1 plain and on TLS, HTTP/2 on TLS and by prior knowledge. */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type { ConnectionOptions } from 'node:tls'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { fieldOf, RawConnection, textOf } from '../../src/doctor/raw-connection.js'
import { lengthResponse, type RecordingUpstream } from '../../src/doctor/recording-upstream.js'
import { valuesOf } from '../../src/doctor/strict-fields.js'
import type { StrictRequest } from '../../src/doctor/strict-request.js'
import { ADMIN_KEY, type Gateway } from '../support/gateway.js'
import { type Caller, http1Caller, http2Caller } from '../support/http-clients.js'
import { TestBed } from '../support/test-bed.js'
import { TestAuthority } from '../support/tls-certificates.js'

const MEGABYTE = 1024 * 1024
const BODY_LIMIT = 300 * MEGABYTE

const bed = new TestBed()
const perTest = new TestBed()
let authority: TestAuthority
let upstream: RecordingUpstream
let gateway: Gateway
let ports: number[]

async function startGateway(workers: number, where = bed): Promise<Gateway> {
  const standard = await authority.issue('front.test')
  const wild = await authority.issue('*.wild.test')
  const folder = await mkdtemp(join(tmpdir(), 'sluice-node-'))
  where.later(() => rm(folder, { recursive: true, force: true }))
  const files = { cert: join(folder, 'cert.pem'), key: join(folder, 'key.pem') }
  await writeFile(files.cert, standard.cert)
  await writeFile(files.key, standard.key)
  const config = {
    routes: [
      { id: 'all', uri: '/*', upstream: { nodes: { [`127.0.0.1:${upstream.port}`]: 1 }, timeout: { connect: 60, send: 60, read: 60 } } },
      { id: 'mocked', uri: '/mocked', plugins: { mocking: { response_example: '{"mocked":true}' } } },
      { id: 'nowhere', uri: '/nowhere', plugins: {} },
    ],
    ssls: [{ id: 'wild', sni: '*.wild.test', cert: wild.cert, key: wild.key }],
    sluice: {
      listeners: [
        { listen: '127.0.0.1:0', kind: 'node', http2: true },
        { listen: '127.0.0.1:0', kind: 'node', tls: files },
        '127.0.0.1:0',
        { listen: '127.0.0.1:0', kind: 'node', http2: false, tls: files },
      ],
      limits: { max_body_size: BODY_LIMIT, max_header_size: 16_384, max_header_count: 30, max_target_size: 2048 },
      log: { level: 'error' },
      drain_timeout: 60,
    },
  }
  return where.gateway({ config, workers, listen: null, env: { SLUICE_FAULTS: '1' } })
}

const portsOf = (from: Gateway): number[] => from.process.urls.map((url) => Number(new URL(url).port))
const tls = (more: ConnectionOptions = {}): ConnectionOptions => ({ ca: authority.cert, servername: 'front.test', ...more })

beforeAll(async () => {
  authority = await TestAuthority.create()
  upstream = await bed.upstream()
  gateway = await startGateway(2)
  ports = portsOf(gateway)
})
afterAll(() => bed.close())
afterEach(async () => {
  await perTest.close()
  upstream.answer = () => lengthResponse('ok')
})

const client = (): Promise<RawConnection> => perTest.client({ port: ports[0] ?? 0 })
const arrived = (target: string): StrictRequest => {
  const found = upstream.requests.find((item) => item.target === target)
  if (found === undefined) throw new Error(`${target} did not arrive`)
  return found
}

const protocols: readonly (readonly [string, () => Caller])[] = [
  ['http1', () => http1Caller(perTest, ports[0] ?? 0)],
  ['http1-tls', () => http1Caller(perTest, ports[1] ?? 0, tls())],
  ['http2-tls', () => http2Caller(perTest, ports[1] ?? 0, tls())],
  ['http2-plain', () => http2Caller(perTest, ports[0] ?? 0)],
]

describe.each(protocols)('%s', (name, caller) => {
  test.each(['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'PURGE'])('%s arrives as it was sent', async (method) => {
    const target = `/${name}/method/${method}?a=b&c=%20&d=/%2F?`
    const answer = await caller()({ method, target })
    expect([answer.status, answer.body.toString()]).toEqual([200, 'ok'])
    expect(arrived(target).method).toBe(method)
    expect(answer.values('date')).toHaveLength(1)
    expect(answer.values('keep-alive')).toEqual([])
  })

  test('what the upstream is told', async () => {
    const target = `/${name}/fields`
    await caller()({ target, host: 'Front.test:8080', fields: { 'x-own': 'caf\xc3\xa9', 'x-consumer-username': 'root', te: 'trailers' } })
    const { fields } = arrived(target)
    expect(valuesOf(fields, 'host')).toEqual(['Front.test:8080'])
    expect(valuesOf(fields, 'x-own')).toEqual(['caf\xc3\xa9'])
    expect(valuesOf(fields, 'x-consumer-username')).toEqual([])
    expect(valuesOf(fields, 'te')).toEqual([])
    expect(valuesOf(fields, 'x-real-ip')).toEqual(['127.0.0.1'])
    expect(valuesOf(fields, 'x-forwarded-proto')).toEqual([name.endsWith('tls') ? 'https' : 'http'])
  })

  test.each([0, 1, 1000, MEGABYTE])('%i bytes with a length, both ways', async (size) => {
    upstream.answer = (item) => lengthResponse(Buffer.concat(item.body))
    const body = randomBytes(size)
    const target = `/${name}/length/${size}`
    const answer = await caller()({ method: 'POST', target, body })
    expect(answer.status).toBe(200)
    expect(answer.body.equals(body)).toBe(true)
    expect(answer.values('content-length')).toEqual([String(size)])
    expect(arrived(target).framing).toBe(size)
  })

  test.each([1, 1000, MEGABYTE])('%i bytes without a length, both ways', async (size) => {
    const body = randomBytes(size)
    upstream.answer = (item, { socket }) => {
      socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
      for (const piece of item.body) {
        socket.write(`${piece.length.toString(16)}\r\n`)
        socket.write(piece)
        socket.write('\r\n')
      }
      return '0\r\n\r\n'
    }
    const target = `/${name}/chunked/${size}`
    const answer = await caller()({ method: 'POST', target, body, withLength: false })
    expect(answer.body.equals(body)).toBe(true)
    expect(arrived(target).framing).toBe('chunked')
  })

  test('HEAD, 204 and 304 have no body', async () => {
    upstream.answer = (item) => {
      if (item.method === 'HEAD') return 'HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n'
      return item.target.endsWith('204') ? 'HTTP/1.1 204 No Content\r\n\r\n' : 'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n'
    }
    const head = await caller()({ method: 'HEAD', target: `/${name}/head` })
    expect([head.status, head.values('content-length'), head.body.length]).toEqual([200, ['1234'], 0])
    const empty = await caller()({ target: `/${name}/204` })
    expect([empty.status, empty.values('content-length')]).toEqual([204, []])
    const same = await caller()({ target: `/${name}/304` })
    expect([same.status, same.values('etag')]).toEqual([304, ['"a"']])
  })

  test('repeated fields stay apart, in order, byte by byte', async () => {
    upstream.answer = () => lengthResponse('ok', ['Set-Cookie: a=1', 'Set-Cookie: b=2', 'X-Latin: caf\xe9', 'ETag: "a"', 'ETag: "b"'])
    const answer = await caller()({ target: `/${name}/repeated` })
    expect(answer.values('set-cookie')).toEqual(['a=1', 'b=2'])
    expect(answer.values('x-latin')).toEqual(['caf\xe9'])
    expect(answer.values('etag')[0]).toBe('"a"')
  })

  test('answers of the gateway itself', async () => {
    const none = await caller()({ target: `/nowhere` })
    expect([none.status, JSON.parse(none.body.toString()).reason]).toEqual([503, 'NO_UPSTREAM'])
    const mocked = await caller()({ method: 'POST', target: '/mocked', body: randomBytes(1000) })
    expect([mocked.status, mocked.body.toString()]).toEqual([200, '{"mocked":true}'])
    const long = await caller()({ target: `/${'t'.repeat(3000)}` })
    expect(long.status).toBe(414)
    const many = await caller()({
      target: '/many',
      fields: Object.fromEntries(Array.from({ length: 33 }, (_, index) => [`x-${index}`, 'a'])),
    })
    expect(many.status).toBe(431)
    const smuggled = await caller()({ target: '/bad/..%2f../%00' })
    expect(smuggled.status).toBe(400)
  })

  test('an answer that is cut off at the upstream is cut off here', async () => {
    upstream.answer = (_, { socket }) => {
      socket.end('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf')
      return undefined
    }
    await expect(caller()({ target: `/${name}/cut` })).rejects.toThrow(/closed|early|error|INTERNAL/i)
  })

  test('fifty at once', async () => {
    upstream.answer = (item) => lengthResponse(item.target)
    const answers = await Promise.all(
      Array.from({ length: 50 }, async (_, index) => (await caller()({ target: `/${name}/${index}` })).body.toString()),
    )
    expect(answers).toEqual(answers.map((_, index) => `/${name}/${index}`))
  })
})

describe('HTTP/1', () => {
  const get = (target: string, ...fields: string[]): string =>
    `${[`GET ${target} HTTP/1.1`, 'Host: a.test', ...fields].join('\r\n')}\r\n\r\n`

  test('HTTP/1.0 is answered and closed, and kept open when the client asks', async () => {
    const old = await client()
    const response = await old.request('GET /old HTTP/1.0\r\n\r\n')
    expect([response.status, textOf(response)]).toEqual([200, 'ok'])
    expect(await old.untilClosed()).toBe(true)
    upstream.answer = (item) =>
      item.target === '/old-chunked' ? 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n' : lengthResponse('ok')
    const endless = await client()
    endless.expectMethodOf('GET')
    await endless.send('GET /old-chunked HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n')
    await endless.signal.until(
      () => endless.receivedBytes > 0 && upstream.connections.some((item) => item.requests.at(-1)?.target === '/old-chunked'),
      60_000,
      'the head',
    )
    upstream.connections.find((item) => item.requests.at(-1)?.target === '/old-chunked')?.socket.write('0\r\n\r\n')
    const closing = await endless.response()
    expect([textOf(closing), fieldOf(closing, 'connection'), fieldOf(closing, 'transfer-encoding')]).toEqual(['ok', 'close', undefined])
    const kept = await client()
    for (let round = 0; round < 3; round++) {
      const next = await kept.request('GET /old HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n')
      expect([next.status, fieldOf(next, 'connection')]).toEqual([200, 'keep-alive'])
    }
  })

  const odd = [
    ['GET http://a.test/absolute?x=1 HTTP/1.1\r\nHost: A.test', 200],
    ['GET http://b.test/absolute-other HTTP/1.1\r\nHost: a.test', 400],
    ['GET http://a.test@b.test/absolute-user HTTP/1.1\r\nHost: a.test@b.test', 400],
    ['GET ftp://a.test/absolute-ftp HTTP/1.1\r\nHost: a.test', 400],
    ['OPTIONS * HTTP/1.1\r\nHost: a.test', 200],
    ['OPTIONS http://a.test HTTP/1.1\r\nHost: a.test', 200],
    ['GET * HTTP/1.1\r\nHost: a.test', 400],
    ['CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443', 501],
    ['FOO /foo HTTP/1.1\r\nHost: a.test', 501],
    ['MKCOL /mkcol HTTP/1.1\r\nHost: a.test', 501],
    ['GET /version HTTP/2.0\r\nHost: a.test', 505],
    ['GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket', 501],
    ['GET /expect HTTP/1.1\r\nHost: a.test\r\nExpect: 200-maybe', 417],
    [`GET /large HTTP/1.1\r\nHost: a.test\r\nX-Large: ${'x'.repeat(20_000)}`, 431],
    [`GET /larger HTTP/1.1\r\nHost: a.test\r\nX-Large: ${'x'.repeat(200_000)}`, 431],
    ['{"no": "request"}', 400],
  ] as const

  test.each(odd.map(([head, status], index) => [index, head.slice(0, 40).split('\r\n')[0], status, head] as const))(
    '%i: %s is %i',
    async (_, __, status, head) => {
      const before = upstream.requests.length
      const connection = await client()
      const response = await connection.request(`${head}\r\n\r\n`)
      expect(response.status).toBe(status)
      if (status >= 400) {
        expect(JSON.parse(textOf(response)).request_id).toMatch(/^[0-9a-f]{28}$/)
        expect(await connection.untilClosed()).toBe(true)
      } else if (head.startsWith('OPTIONS')) expect(textOf(response)).toBe('')
      const isForwarded = status === 200 && head.startsWith('GET')
      expect(upstream.requests.length - before).toBe(isForwarded ? 1 : 0)
      if (isForwarded) expect(valuesOf(arrived('/absolute?x=1').fields, 'host')).toEqual(['A.test'])
    },
  )

  test('a pipeline is answered in order; behind a refused request nothing is looked at', async () => {
    upstream.answer = (item) => lengthResponse(`${item.target}:${Buffer.concat(item.body).toString()}`)
    const eager = await client()
    const targets = Array.from({ length: 100 }, (_, index) => `/pipe/${index}`)
    const post = (target: string): string => `POST ${target} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc`
    const bytes = targets.map((target, index) => (index % 2 === 0 ? get(target) : post(target)))
    for (const item of bytes) eager.expectMethodOf(item)
    await eager.send(bytes.join(''))
    const bodies: string[] = []
    for (const _ of targets) bodies.push(textOf(await eager.response()))
    expect(bodies).toEqual(targets.map((target, index) => `${target}:${index % 2 === 0 ? '' : 'abc'}`))
    eager.expectMethodOf('GET')
    eager.expectMethodOf('GET')
    await eager.send(`${get('/pipe/last')}${get('/bad%00')}${get('/pipe/hidden')}`)
    expect([(await eager.response()).status, (await eager.response()).status]).toEqual([200, 400])
    expect(await eager.untilClosed()).toBe(true)
    expect(upstream.requests.some((item) => item.target === '/pipe/hidden')).toBe(false)
  })

  test('100 comes when the body is wanted, and not when it is not', async () => {
    const wanted = await client()
    wanted.expectMethodOf('POST')
    const head = (target: string, length: number): string =>
      `POST ${target} HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: ${length}\r\n\r\n`
    await wanted.send(head('/expects', 5))
    await wanted.signal.until(() => wanted.receivedBytes > 0, 60_000, '100 Continue')
    await wanted.send('abcde')
    const response = await wanted.response()
    expect([response.status, Buffer.concat(arrived('/expects').body).toString()]).toEqual([200, 'abcde'])
    for (const [target, length, status] of [
      ['/mocked', 5, 200],
      ['/expects-too-much', BODY_LIMIT + 1, 413],
    ] as const) {
      const unwanted = await client()
      const answer = await unwanted.request(head(target, length))
      expect([answer.status, fieldOf(answer, 'connection')]).toEqual([status, 'close'])
      expect(await unwanted.untilClosed()).toBe(true)
    }
  })

  test('many requests on one connection, with the bodies of refused ones dropped', async () => {
    const kept = await client()
    for (let round = 0; round < 20; round++) {
      const body = 'GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n'
      const answer = await kept.request(`POST /mocked HTTP/1.1\r\nHost: a.test\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
      expect(answer.status).toBe(200)
    }
    expect(upstream.requests.some((item) => item.target === '/smuggled')).toBe(false)
  })

  test('a header section that never ends is 408 or a close', async () => {
    const slow = await client()
    slow.expectMethodOf('GET')
    await slow.send('GET /slow HTTP/1.1\r\nHost: a.test\r\nX-Slow: ')
    const silent = await client()
    expect(await slow.untilClosed()).toBe(true)
    for (const response of slow.reader.responses) expect(response.status).toBe(408)
    expect(await silent.untilClosed()).toBe(true)
  })

  test('a chunked body that breaks never completes at the upstream', async () => {
    const broken = await client()
    broken.expectMethodOf('POST')
    await broken.send('POST /broken HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n')
    await upstream.until(() => upstream.requests.some((item) => item.target === '/broken'), 'the beginning of the request')
    await broken.send('zz\r\n')
    expect((await broken.response()).status).toBe(400)
    expect(await broken.untilClosed()).toBe(true)
    expect(arrived('/broken').complete).toBe(false)
  })
})

describe('HTTP/2', () => {
  const session = async (port = ports[1] ?? 0): Promise<ClientHttp2Session> => {
    const opened = connectHttp2(`https://127.0.0.1:${port}`, tls())
    perTest.later(() => opened.destroy())
    await new Promise<void>((resolve, reject) => {
      opened.once('remoteSettings', () => resolve())
      opened.once('error', reject)
    })
    return opened
  }
  const status = (from: ClientHttp2Session, headers: Record<string, string | string[]>): Promise<number> =>
    new Promise((resolve, reject) => {
      const stream = from.request(headers)
      stream.once('response', (received) => resolve(Number(received[':status'])))
      stream.once('error', reject)
      stream.resume()
    })

  test('cookie crumbs become one field', async () => {
    expect(await status(await session(), { ':path': '/crumbs', cookie: ['a=1', 'b=2'] })).toBe(200)
    expect(valuesOf(arrived('/crumbs').fields, 'cookie')).toEqual(['a=1; b=2'])
  })

  test('a Host that differs from :authority is refused', async () => {
    const from = await session()
    expect(await status(from, { ':path': '/host', ':authority': 'a.test', host: 'b.test' })).toBe(400)
    expect(await status(from, { ':path': '/host', ':authority': 'a.test', host: 'a.test' })).toBe(200)
    expect(valuesOf(arrived('/host').fields, 'host')).toEqual(['a.test'])
  })

  test('a refused stream leaves its session alone', async () => {
    const from = await session()
    expect(await status(from, { ':path': '/../..' })).toBe(400)
    expect(await status(from, { ':path': '/after-refusal' })).toBe(200)
    expect(from.closed).toBe(false)
  })

  test('ALPN decides; where HTTP/2 is off, HTTP/1.1 is spoken', async () => {
    for (const [port, protocol] of [
      [ports[1], 'h2'],
      [ports[3], 'http/1.1'],
    ] as const) {
      const connection = await perTest.client({ port: port ?? 0, tls: tls({ ALPNProtocols: ['h2', 'http/1.1'] }) })
      expect('alpnProtocol' in connection.socket ? connection.socket.alpnProtocol : null).toBe(protocol)
    }
  })

  test('server names choose certificates', async () => {
    const connection = await perTest.client({ port: ports[3] ?? 0, tls: tls({ servername: 'A.wild.test' }) })
    expect((await connection.request('GET /wild HTTP/1.1\r\nHost: a.wild.test\r\n\r\n')).status).toBe(200)
  })

  test('an upload that is reset without an error is never completed at the upstream', async () => {
    // Node's client ends a stream before it resets it without an error: the frames are written by hand.
    const frame = (type: number, flags: number, stream: number, payload: Buffer): Buffer => {
      const head = Buffer.alloc(9)
      head.writeUIntBE(payload.length, 0, 3)
      head.writeUInt8(type, 3)
      head.writeUInt8(flags, 4)
      head.writeUInt32BE(stream, 5)
      return Buffer.concat([head, payload])
    }
    // :method POST, :scheme http from the static table; :path and :authority as literals
    const fields = Buffer.from('\x83\x86\x04\x0d/reset-upload\x01\x06a.test', 'latin1')
    const raw = await client()
    const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
    await raw.send(Buffer.concat([preface, frame(4, 0, 0, Buffer.alloc(0)), frame(1, 4, 1, fields), frame(0, 0, 1, Buffer.from('half'))]))
    await upstream.until(() => upstream.requests.some((item) => item.target === '/reset-upload'), 'the beginning of the upload')
    await raw.send(frame(3, 0, 1, Buffer.alloc(4)))
    const carrier = upstream.connections.find((item) => item.requests.at(-1)?.target === '/reset-upload')
    await upstream.until(() => carrier?.closed === true || carrier?.ended === true, 'the end of the upstream connection')
    expect(arrived('/reset-upload').complete).toBe(false)
  })

  test('streams that are reset at once leave nothing behind', async () => {
    upstream.answer = (item) => (item.target === '/reset' ? undefined : lengthResponse('ok'))
    for (let round = 0; round < 5; round++) {
      const from = await session()
      const streams = Array.from({ length: 20 }, () => from.request({ ':path': '/reset' }))
      await Promise.all(
        streams.map(
          (stream) =>
            new Promise<void>((resolve) => {
              stream.once('error', () => undefined)
              stream.once('close', () => resolve())
              stream.close(8)
            }),
        ),
      )
      expect(await status(from, { ':path': '/after-reset' })).toBe(200)
    }
    await upstream.until(
      () => upstream.connections.every((item) => item.closed || item.ended || item.requests.at(-1)?.target !== '/reset'),
      'the end of the upstream connections of reset streams',
    )
  })
})

describe('slow peers', () => {
  /** An upstream that sends without end as far as it is taken; says how much it could write. */
  function flood(total: number): () => number {
    const block = Buffer.alloc(64 * 1024, 'x')
    let written = 0
    upstream.answer = (request, { socket }) => {
      if (request.target !== '/big') return lengthResponse('ok')
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${total}\r\n\r\n`)
      const go = (): void => {
        while (written < total && !socket.destroyed) {
          const piece = block.subarray(0, Math.min(block.length, total - written))
          written += piece.length
          if (!socket.write(piece)) return
        }
      }
      socket.on('drain', go)
      go()
      return undefined
    }
    return () => written
  }

  /** Waits until a second passes without progress. */
  async function stalled(progress: () => number): Promise<number> {
    let last = -1
    while (last !== progress()) {
      last = progress()
      await pause(1000)
    }
    return last
  }

  test('an HTTP/1 reader that stops does not make memory grow; the rest arrives when it goes on', async () => {
    const total = 100 * MEGABYTE
    const written = flood(total)
    const before = await gateway.residentBytes()
    const reader = await client()
    let received = 0
    reader.socket.removeAllListeners('data')
    reader.socket.pause()
    await reader.send('GET /big HTTP/1.1\r\nHost: a.test\r\n\r\n')
    expect(await stalled(written)).toBeLessThan(48 * MEGABYTE)
    expect((await gateway.residentBytes()) - before).toBeLessThan(48 * MEGABYTE)
    reader.socket.on('data', (bytes: Buffer) => {
      received += bytes.length
      reader.signal.notify()
    })
    reader.socket.resume()
    await reader.signal.until(() => received >= total, 60_000, 'the whole body')
    expect(received).toBeLessThan(total + 4096)
  })

  test('an HTTP/2 reader that stops does not make memory grow; the rest arrives when it goes on', async () => {
    const total = 100 * MEGABYTE
    const written = flood(total)
    const before = await gateway.residentBytes()
    const from = connectHttp2(`http://127.0.0.1:${ports[0]}`)
    perTest.later(() => from.destroy())
    const stream = from.request({ ':path': '/big' })
    let received = 0
    stream.pause()
    expect(await stalled(written)).toBeLessThan(48 * MEGABYTE)
    expect((await gateway.residentBytes()) - before).toBeLessThan(48 * MEGABYTE)
    stream.on('data', (bytes: Buffer) => {
      received += bytes.length
    })
    const ended = new Promise((resolve) => stream.once('end', resolve))
    stream.resume()
    await ended
    expect(received).toBe(total)
  })

  test.each([
    ['http1', () => http1Caller(perTest, ports[0] ?? 0)],
    ['http2', () => http2Caller(perTest, ports[0] ?? 0)],
  ] as const)('an upstream that does not read an upload over %s stops the client', async (name, caller) => {
    const target = `/unread/${name}`
    const total = 100 * MEGABYTE
    const held = await perTest.upstream({ answerOn: 'complete', onConnect: ({ socket }) => socket.pause() })
    const slow = await perTest.gateway({
      config: {
        routes: [
          { id: 'all', uri: '/*', upstream: { nodes: { [`127.0.0.1:${held.port}`]: 1 }, timeout: { connect: 60, send: 60, read: 60 } } },
        ],
        sluice: { listeners: [{ listen: '127.0.0.1:0', kind: 'node', http2: true }], log: { level: 'error' } },
      },
      listen: null,
    })
    const before = await slow.residentBytes()
    const own = name === 'http1' ? http1Caller(perTest, slow.port) : http2Caller(perTest, slow.port)
    void caller
    const answer = own({ method: 'POST', target, body: Buffer.alloc(total, 'u') })
    await held.until(() => held.connections.length > 0, 'a connection')
    let most = 0
    for (let round = 0; round < 10; round++) {
      await pause(100)
      most = Math.max(most, (await slow.residentBytes()) - before)
    }
    expect(most).toBeLessThan(64 * MEGABYTE)
    for (const { socket } of held.connections) socket.resume()
    expect((await answer).status).toBe(200)
    expect(held.requests.at(-1)?.bodyBytes).toBe(total)
  })

  test.each(['http1', 'http2'] as const)('a client that leaves over %s ends the upstream work', async (name) => {
    const target = `/waits/${name}`
    upstream.answer = (request) => (request.target === target ? undefined : lengthResponse('ok'))
    const seen = (): boolean => upstream.requests.some((item) => item.target === target && item.complete)
    if (name === 'http1') {
      const gone = await client()
      await gone.send(`GET ${target} HTTP/1.1\r\nHost: a.test\r\n\r\n`)
      await upstream.until(seen, 'the request')
      gone.destroy()
    } else {
      const from = connectHttp2(`http://127.0.0.1:${ports[0]}`)
      from.once('error', () => undefined)
      const stream = from.request({ ':path': target })
      stream.once('error', () => undefined)
      await upstream.until(seen, 'the request')
      from.destroy()
    }
    const carrier = upstream.connections.find((item) => item.requests.at(-1)?.target === target)
    await upstream.until(() => carrier?.closed === true || carrier?.ended === true, 'the end of the upstream connection')
  })
})

describe('life of the process', () => {
  test('the worker of the strict listener is replaced, and the port serves again', async () => {
    const config = {
      routes: [{ id: 'all', uri: '/*', upstream: { nodes: { [`127.0.0.1:${upstream.port}`]: 1 } } }],
      sluice: { listeners: [{ listen: '127.0.0.1:0', kind: 'node' }], log: { level: 'info' } },
    }
    const own = await perTest.gateway({ config, workers: 2, listen: null, admin: true, env: { SLUICE_FAULTS: '1' } })
    const call = http1Caller(perTest, own.port)
    expect((await call({ target: '/before' })).status).toBe(200)
    const answer = await fetch(`${own.adminUrl}/v1/faults`, {
      method: 'POST',
      headers: { 'x-api-key': ADMIN_KEY, 'content-type': 'application/json' },
      body: JSON.stringify({ worker: 0, kind: 'throw' }),
    })
    expect(answer.status).toBe(202)
    await own.process.signal.until(() => own.stderr.includes('was replaced'), 60_000, 'the replacement')
    expect((await call({ target: '/after' })).status).toBe(200)
    expect(await own.stop()).toEqual({ code: 0, signal: null })
  })

  test('a drain finishes what is in flight, says so to HTTP/1 and HTTP/2, and exits 0', async () => {
    const draining = await startGateway(2, perTest)
    const own = portsOf(draining)
    let release: () => void = () => undefined
    upstream.answer = (item, { socket }) => {
      if (!item.target.startsWith('/drain')) return lengthResponse('ok')
      const earlier = release
      release = () => {
        earlier()
        socket.write(lengthResponse('late'))
      }
      return undefined
    }
    const one = await perTest.client({ port: own[0] ?? 0 })
    one.expectMethodOf('GET')
    await one.send('GET /drain/1 HTTP/1.1\r\nHost: a.test\r\n\r\n')
    const two = connectHttp2(`https://127.0.0.1:${own[1]}`, tls())
    perTest.later(() => two.destroy())
    let goaway = false
    two.once('goaway', () => {
      goaway = true
    })
    const answered = new Promise<string>((resolve, reject) => {
      const stream = two.request({ ':path': '/drain/2' })
      let text = ''
      stream.on('data', (bytes: Buffer) => {
        text += bytes.toString()
      })
      stream.once('end', () => resolve(text))
      stream.once('error', reject)
    })
    await upstream.until(() => upstream.requests.filter((item) => item.target.startsWith('/drain')).length === 2, 'both requests')
    draining.process.send('SIGTERM')
    const refused = async (): Promise<boolean> => {
      try {
        ;(await RawConnection.open({ port: own[0] ?? 0 })).destroy()
        return false
      } catch {
        return true
      }
    }
    await expect.poll(refused).toBe(true)
    await expect.poll(() => goaway).toBe(true)
    release()
    const response = await one.response()
    expect([response.status, textOf(response), fieldOf(response, 'connection')]).toEqual([200, 'late', 'close'])
    expect(await answered).toBe('late')
    expect(await draining.stop()).toEqual({ code: 0, signal: null })
  })
})
