/** Listeners of kind tcp over real sockets: two of them in one worker, on IPv4 and on IPv6. */
import { Agent, request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { fieldOf, type RawConnection, textOf } from '../../src/doctor/raw-connection.js'
import { lengthResponse, type RecordingUpstream } from '../../src/doctor/recording-upstream.js'
import { valuesOf } from '../../src/doctor/strict-fields.js'
import { type Gateway, proxyTo } from '../support/gateway.js'
import { fault, logged } from '../support/gateway-life.js'
import { TestBed } from '../support/test-bed.js'

const MEGABYTE = 1024 * 1024

const bed = new TestBed()
const perTest = new TestBed()
let upstream: RecordingUpstream
let gateway: Gateway
let ports: number[]

beforeAll(async () => {
  upstream = await bed.upstream()
  const config = {
    routes: [
      { id: 'all', uri: '/*', upstream: { nodes: { [`127.0.0.1:${upstream.port}`]: 1 }, timeout: { connect: 60, send: 60, read: 60 } } },
      { id: 'mocked', uri: '/mocked', plugins: { mocking: { response_example: '{"mocked":true}' } } },
      { id: 'large', uri: '/large', plugins: { mocking: { response_example: 'ü'.repeat(300_000), content_type: 'text/plain' } } },
    ],
    sluice: {
      listeners: [
        { listen: '127.0.0.1:0', kind: 'tcp' },
        { listen: '[::]:0', kind: 'tcp' },
      ],
      limits: { max_body_size: 10 * MEGABYTE },
      log: { level: 'info' },
    },
  }
  gateway = await bed.gateway({ config, listen: null, admin: true, env: { SLUICE_FAULTS: '1' } })
  ports = gateway.process.urls.map((url) => Number(new URL(url).port))
})
afterAll(() => bed.close())
afterEach(async () => {
  await perTest.close()
  upstream.answer = () => lengthResponse('ok')
})

const client = (index = 0, host = '127.0.0.1'): Promise<RawConnection> => perTest.client({ host, port: ports[index] ?? 0 })
const get = (target: string, ...fields: string[]): string => `${[`GET ${target} HTTP/1.1`, 'Host: a.test', ...fields].join('\r\n')}\r\n\r\n`
/** Everything until the gateway ends the connection. */
async function exchange(bytes: string, index = 0): Promise<RawConnection> {
  const one = await client(index)
  for (const [method] of bytes.matchAll(/(?<=^|\n)[A-Z]+(?= \S+ HTTP\/1\.[01]\r)/g)) one.reader.expect(method)
  await one.send(bytes)
  expect(await one.untilClosed()).toBe(true)
  return one
}
const seen = (target: string) => upstream.requests.filter((request) => request.target === target)

describe('targets', () => {
  test('without a path are refused, also behind one that was good and one that was not', async () => {
    const one = await client()
    expect((await one.request(get('/of-somebody'))).status).toBe(200)
    for (const target of ['?x=1', '?', '/%zz', '?x=1', '/%zz', '?x=1']) {
      const { reader } = await exchange(get(target))
      expect([target, reader.responses[0]?.status]).toEqual([target, 400])
    }
    expect((await one.request(get('/of-somebody'))).status).toBe(200)
    expect([seen('/of-somebody').length, upstream.requests.filter(({ target }) => target.includes('?')).length]).toEqual([2, 0])
  })
})

describe('HTTP/1.0', () => {
  test('is answered and closed, kept on request, and gets bodies of unknown length up to the close', async () => {
    const closed = await exchange('GET /old HTTP/1.0\r\n\r\n')
    expect([textOf(closed.reader.responses[0] ?? { body: [] }), closed.reader.problem]).toEqual(['ok', null])
    const kept = await client()
    const first = await kept.request('GET /old HTTP/1.0\r\nHost: a.test\r\nConnection: Keep-Alive\r\n\r\n')
    expect([fieldOf(first, 'connection'), textOf(first)]).toEqual(['keep-alive', 'ok'])
    upstream.answer = () => 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nonetwo\r\n0\r\n\r\n'
    expect(textOf(await kept.request('GET /old HTTP/1.0\r\nHost: a.test\r\nConnection: Keep-Alive\r\n\r\n'))).toBe('onetwo')
    // In pieces nobody knows how many will come.
    upstream.answer = (_request, { socket }) => {
      socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n')
      setTimeout(() => socket.write('3\r\ntwo\r\n0\r\n\r\n'), 20)
      return undefined
    }
    kept.expectMethodOf('GET')
    await kept.send('GET /old HTTP/1.0\r\nHost: a.test\r\nConnection: Keep-Alive\r\n\r\n')
    expect(await kept.untilClosed()).toBe(true)
    expect(kept.reader.problem).toBeNull()
    expect(kept.reader.responses.map(textOf)).toEqual(['ok', 'onetwo', 'onetwo'])
  })

  test('an answer up to the close that breaks off is reset, not ended', async () => {
    upstream.answer = (_request, { socket }) => {
      socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n')
      setTimeout(() => socket.destroy(), 20)
      return undefined
    }
    const broken = await exchange('GET /broken HTTP/1.0\r\n\r\n')
    await broken.signal.until(() => broken.closed, 30_000, 'the close')
    expect([broken.ended, broken.errorCode]).toEqual([false, 'ECONNRESET'])
  })
})

describe('framing', () => {
  test('a pipeline of all kinds is answered in order, by one worker', async () => {
    upstream.answer = (request) =>
      request.target === '/empty' ? 'HTTP/1.1 204 No Content\r\n\r\n' : lengthResponse(`${request.target} ${textOf(request)}`)
    const all = await exchange(
      get('/1') +
        'HEAD /2 HTTP/1.1\r\nHost: a.test\r\n\r\n' +
        'POST /3 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX-Trailer: x\r\n\r\n' +
        get('/empty') +
        'POST /4 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody' +
        'OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n' +
        'GET http://a.test/5?q HTTP/1.1\r\nHost: a.test\r\n\r\n' +
        get('/mocked') +
        get('/last', 'Connection: close') +
        get('/never'),
    )
    expect(all.reader.problem).toBeNull()
    expect(all.reader.responses.map((response) => `${response.status} ${textOf(response)}`)).toEqual([
      '200 /1 ',
      '200 ',
      '200 /3 abc',
      '204 ',
      '200 /4 body',
      '200 ',
      '200 /5?q ',
      '200 {"mocked":true}',
      '200 /last ',
    ])
    expect(fieldOf(all.reader.responses[1] as never, 'content-length')).toBe('3')
    expect(seen('/never')).toEqual([])
  })

  test('a client that waits for 100 is told to go on, or gets its refusal at once and is not trusted with the rest', async () => {
    upstream.answer = (request) => lengthResponse(textOf(request))
    const one = await client()
    one.expectMethodOf('POST')
    await one.send('POST /continued HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n')
    await one.signal.until(() => one.reader.interim.length > 0, 30_000, '100 Continue')
    await one.send('hello')
    expect(textOf(await one.response())).toBe('hello')
    one.expectMethodOf('POST')
    await one.send('POST /mocked HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n')
    expect((await one.response()).status).toBe(200)
    expect(await one.untilClosed()).toBe(true)
    expect(one.reader.interim).toHaveLength(1)
  })

  test('chunks that break before the answer are 400, and behind its beginning a cut', async () => {
    const before = await exchange('POST /chunks HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX')
    expect(before.reader.responses.map(({ status }) => status)).toEqual([400])
    const early = await perTest.upstream({
      answerOn: 'head',
      answer: () => 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n',
    })
    const other = await perTest.gateway({ config: proxyTo(early.port, {}, { log: { level: 'error' } }) })
    const broken = await perTest.client({ port: other.port })
    broken.expectMethodOf('POST')
    await broken.send('POST /chunks HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n')
    await broken.signal.until(() => (broken.reader.responses[0]?.bodyBytes ?? 0) > 0, 30_000, 'the beginning of the answer')
    await broken.send('X\r\n')
    expect(await broken.untilClosed()).toBe(true)
    expect(broken.reader.responses[0]?.complete).toBe(false)
  })
})

describe('sizes', () => {
  test.each([0, 1, 65_000, 65_536, 65_537, 5 * MEGABYTE])('%i bytes up and down', async (size) => {
    upstream.answer = (request) => lengthResponse(Buffer.concat(request.body))
    const body = Buffer.alloc(size, 'abcdefg')
    const one = await client()
    one.expectMethodOf('POST')
    await one.send(`POST /size HTTP/1.1\r\nHost: a.test\r\nContent-Length: ${size}\r\n\r\n`)
    await one.send(body)
    const response = await one.response()
    expect(Buffer.concat([...response.body]).equals(body)).toBe(true)
    expect(textOf(await one.request(get('/mocked')))).toBe('{"mocked":true}')
  })

  test('a large answer of our own, and a long head of an upstream', async () => {
    const one = await client()
    expect(textOf(await one.request(get('/large')))).toBe('ü'.repeat(300_000))
    const fields = Array.from({ length: 50 }, (_, index) => `X-${index}: ${'h'.repeat(1000)}`)
    for (const body of ['', 'b'.repeat(20_000)]) {
      upstream.answer = () => lengthResponse(body, fields)
      const response = await one.request(get('/long-head'))
      expect([textOf(response).length, fieldOf(response, 'x-49')?.length]).toEqual([body.length, 1000])
    }
  })

  test('a reader that pauses over and over gets everything, in pieces and as a whole', async () => {
    const body = Buffer.alloc(20 * MEGABYTE, 'pause')
    upstream.answer = (request) => {
      const head = request.target === '/length' ? `Content-Length: ${body.length}\r\n\r\n` : 'Connection: close\r\n\r\n'
      const { socket } = upstream.connections.find((one) => one.requests.includes(request)) ?? {}
      socket?.write(`HTTP/1.1 200 OK\r\n${head}`)
      if (request.target === '/length') socket?.write(body)
      else socket?.end(body)
      return undefined
    }
    for (const target of ['/length', '/close']) {
      const one = await client()
      one.expectMethodOf('GET')
      one.socket.on('data', () => {
        one.socket.pause()
        setImmediate(() => one.socket.resume())
      })
      await one.send(get(target))
      const response = await one.response(60_000)
      expect(Buffer.concat([...response.body]).equals(body)).toBe(true)
    }
  })

  test('an answer arrives whole although the client goes on sending what nobody reads', async () => {
    const one = await client()
    one.expectMethodOf('POST')
    const body = Buffer.alloc(4 * MEGABYTE, 'unread')
    await one.send(`POST /large HTTP/1.1\r\nHost: a.test\r\nContent-Length: ${body.length}\r\n\r\n`)
    const sending = one.send(body)
    const response = await one.response()
    expect([response.status, textOf(response).length]).toEqual([200, 300_000])
    await sending
    expect(await one.untilClosed()).toBe(true)
  })

  test('thousands of requests whose answers nobody takes cost no memory', async () => {
    const before = await gateway.residentBytes()
    const greedy = connect(ports[0] ?? 0, '127.0.0.1')
    perTest.later(() => greedy.destroy())
    greedy.on('error', () => undefined)
    greedy.pause()
    // 600 kB of answers each.
    const requests = get('/large').repeat(1000)
    for (let round = 0; round < 20 && greedy.write(requests); round++) await new Promise((resolve) => setImmediate(resolve))
    // Somebody else is served all the time.
    for (let round = 0; round < 20; round++) expect((await (await client()).request(get('/mocked'))).status).toBe(200)
    expect((await gateway.residentBytes()) - before).toBeLessThan(64 * MEGABYTE)
  })
})

describe('addresses', () => {
  test('of clients, in families and mapped; the same request of another client is told apart', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    perTest.later(() => agent.destroy())
    const ask = (localAddress: string): Promise<void> =>
      new Promise((resolve, reject) => {
        const options = { host: '127.0.0.1', port: ports[0], path: '/who', localAddress, agent, headers: { host: 'a.test' } }
        httpRequest(options, (response) => response.resume().once('end', resolve))
          .once('error', reject)
          .end()
      })
    const peers = ['127.0.0.1', '127.0.0.2', '127.0.0.3']
    for (let round = 0; round < 4; round++) for (const peer of peers) await ask(peer)
    expect(seen('/who').map(({ fields }) => valuesOf(fields, 'x-real-ip')[0])).toEqual(Array.from({ length: 4 }, () => peers).flat())
    for (const [host, address] of [
      ['127.0.0.1', '127.0.0.1'],
      ['::1', '::1'],
    ] as const) {
      await (await client(1, host)).request(get(`/from/${address}`))
      expect(valuesOf(seen(`/from/${address}`)[0]?.fields ?? [], 'x-real-ip')).toEqual([address])
    }
  })

  test('that cannot be listened on are named, with the reason', async () => {
    const listeners = [{ listen: 'localhost:12345', kind: 'tcp' }]
    const elsewhere = perTest.gateway({ config: proxyTo(upstream.port), listen: '192.0.2.1:12345' })
    await expect(elsewhere).rejects.toThrow('cannot listen on 192.0.2.1:12345: this machine has no such address')
    await expect(perTest.gateway({ config: proxyTo(upstream.port, {}, { listeners }), listen: null })).rejects.toThrow(
      'kind tcp needs an IP address',
    )
  })
})

test('where Node has no raw sockets uWebSockets.js serves, and a listener that insists on kind tcp says what it needs', async () => {
  const without = fileURLToPath(new URL('../support/without-raw-sockets.cjs', import.meta.url))
  const env = { NODE_OPTIONS: `--require ${without}` }
  const fallen = await perTest.gateway({ config: proxyTo(upstream.port), env })
  const one = await perTest.client({ port: fallen.port })
  expect((await one.request(get('/served'))).status).toBe(200)
  // That one speaks HTTP/1.1 only.
  const old = await perTest.client({ port: fallen.port })
  expect((await old.request('GET / HTTP/1.0\r\nHost: a.test\r\n\r\n')).status).toBe(505)
  const listeners = [{ listen: '127.0.0.1:0', kind: 'tcp' }]
  const insisting = perTest.gateway({ config: proxyTo(upstream.port, {}, { listeners }), listen: null, env })
  await expect(insisting).rejects.toThrow(/kind tcp needs .* take kind uws/)
})

describe('life of the process', () => {
  test('a worker that fails with open connections is replaced; both ports serve again', async () => {
    const idle = await client()
    expect((await idle.request(get('/mocked'))).status).toBe(200)
    upstream.answer = (request) => (request.target === '/waits' ? undefined : lengthResponse('ok'))
    const waiting = await client(1, '::1')
    await waiting.send(get('/waits'))
    await upstream.until(() => seen('/waits').length === 1, 'the request')
    const half = await client()
    await half.send('GET /half HTTP/1.1\r\nHo')
    expect(await fault(gateway, 0, 'throw')).toBe(202)
    await logged(gateway, 'was replaced')
    for (const one of [idle, waiting, half]) expect(await one.untilClosed()).toBe(true)
    expect((await (await client()).request(get('/after'))).status).toBe(200)
    expect((await (await client(1, '::1')).request(get('/after'))).status).toBe(200)
  })

  test('at max_connections nothing more is accepted until some have ended; then it drains', async () => {
    const config = proxyTo(upstream.port, {}, { limits: { max_connections: 20 }, log: { level: 'info' } })
    const small = await perTest.gateway({ config })
    const idle = Array.from({ length: 40 }, () => connect(small.port, '127.0.0.1').on('error', () => undefined))
    await logged(small, 'no more are accepted until some end')
    for (const socket of idle) socket.destroy()
    await logged(small, 'accepting again')
    await expect.poll(() => fetch(`${small.url}/again`).then(({ status }) => status, String)).toBe(200)
    const one = await perTest.client({ port: small.port })
    expect((await one.request(get('/kept'))).status).toBe(200)
    let release: () => void = () => undefined
    upstream.answer = (request, { socket }) => {
      if (request.target !== '/late') return lengthResponse('ok')
      release = () => socket.write(lengthResponse('late'))
      return undefined
    }
    one.expectMethodOf('GET')
    await one.send(get('/late'))
    await upstream.until(() => seen('/late').length === 1, 'the request')
    const stopped = small.stop()
    await expect
      .poll(() =>
        fetch(`${small.url}/new`).then(
          ({ status }) => status,
          () => 'refused',
        ),
      )
      .toBe('refused')
    release()
    const last = await one.response()
    expect([textOf(last), fieldOf(last, 'connection')]).toEqual(['late', 'close'])
    expect(await stopped).toEqual({ code: 0, signal: null })
  })
})
