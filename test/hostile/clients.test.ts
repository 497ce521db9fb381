/** Clients that dawdle, stop, vanish and exaggerate: bounded time, bounded memory, everybody else is served. On our own listener and on uWebSockets.js. */
import { setTimeout as pause, setImmediate as turn } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { type RawConnection, textOf } from '../../src/doctor/raw-connection.js'
import { lengthResponse, type RecordingUpstream } from '../../src/doctor/recording-upstream.js'
import type { Gateway } from '../support/gateway.js'
import { TestBed } from '../support/test-bed.js'

const MEGABYTE = 1024 * 1024
const BODY_LIMIT = 4 * MEGABYTE

const get = (target = '/', ...fields: string[]): string => `${[`GET ${target} HTTP/1.1`, 'Host: a.test', ...fields].join('\r\n')}\r\n\r\n`
const postHead = (length: number, target = '/'): string => `POST ${target} HTTP/1.1\r\nHost: a.test\r\nContent-Length: ${length}\r\n\r\n`
const CHUNKED_POST = 'POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n'

type Kind = 'tcp' | 'uws'

function configWith(kind: Kind, upstreamPort: number, bodyTimeout: number): object {
  const node = { nodes: { [`127.0.0.1:${upstreamPort}`]: 1 }, timeout: { connect: 60, send: 60, read: 60 } }
  return {
    routes: [
      { id: 'all', uri: '/*', upstream: node },
      { id: 'mocked', uri: '/mocked', plugins: { mocking: { response_example: '{"mocked":true}' } } },
    ],
    sluice: {
      listeners: [{ listen: '127.0.0.1:0', kind }],
      limits: {
        max_body_size: BODY_LIMIT,
        body_timeout: bodyTimeout,
        send_timeout: 60,
        max_header_size: 16_384,
        max_header_count: 30,
        max_target_size: 2048,
      },
      log: { level: 'error' },
    },
  }
}

describe.each(['tcp', 'uws'] as const)('listeners of kind %s', (kind) => {
  const bed = new TestBed()
  const perTest = new TestBed()
  let upstream: RecordingUpstream
  let gateway: Gateway
  /** Gives up a body of which nothing comes for a second. */
  let impatient: Gateway

  beforeAll(async () => {
    upstream = await bed.upstream()
    gateway = await bed.gateway({ config: configWith(kind, upstream.port, 60), listen: null })
    impatient = await bed.gateway({ config: configWith(kind, upstream.port, 1), listen: null })
  })
  afterAll(() => bed.close())
  afterEach(async () => {
    await perTest.close()
    upstream.answer = () => lengthResponse('ok')
  })

  const client = (of = gateway): Promise<RawConnection> => perTest.client({ port: of.port })

  async function expectHealthy(): Promise<void> {
    const after = await (await client()).request(get('/after'))
    expect([after.status, textOf(after)]).toEqual([200, 'ok'])
  }

  const completed = (target: string): number => upstream.requests.filter((request) => request.target === target && request.complete).length

  describe('slow', () => {
    test('a body that stops is 408 or a close, and the upstream is let go', async () => {
      const slow = await client(impatient)
      slow.expectMethodOf('POST')
      await slow.send(`${postHead(100, '/stops')}half`)
      expect(await slow.untilClosed()).toBe(true)
      for (const response of slow.reader.responses) expect(response.status).toBe(408)
      expect(completed('/stops')).toBe(0)
      await upstream.until(
        () => upstream.connections.every((item) => item.closed || item.ended || item.requests.every((request) => request.complete)),
        'the end of the upstream connection with half a body',
      )
      await expectHealthy()
    })

    test('a reader that stops does not make memory grow; the rest arrives when it goes on', async () => {
      const total = 120 * MEGABYTE
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
      await expectHealthy()
      const before = await gateway.residentBytes()
      const reader = await client()
      let received = 0
      reader.socket.removeAllListeners('data')
      reader.socket.on('data', (bytes: Buffer) => {
        received += bytes.length
      })
      reader.socket.pause()
      await reader.send(get('/big'))
      // the stream has stalled when a second passes without the upstream being able to write
      let last = -1
      while (last !== written) {
        last = written
        await pause(1000)
      }
      const grown = (await gateway.residentBytes()) - before
      expect(written).toBeLessThan(64 * MEGABYTE)
      expect(grown).toBeLessThan(64 * MEGABYTE)
      await expectHealthy()
      reader.socket.resume()
      reader.socket.on('data', () => reader.signal.notify())
      await reader.signal.until(() => received >= total, 60_000, 'the whole body')
      expect(received).toBeLessThan(total + 4096)
      expect((await gateway.residentBytes()) - before).toBeLessThan(96 * MEGABYTE)
    })

    test('a slow upload does not block others', async () => {
      const slow = await client()
      await slow.send(postHead(1000, '/upload'))
      const others = await Promise.all(Array.from({ length: 20 }, async () => (await (await client()).request(get('/others'))).status))
      expect(others).toEqual(others.map(() => 200))
      slow.expectMethodOf('POST')
      await slow.send('x'.repeat(1000))
      expect((await slow.response()).status).toBe(200)
    })

    test('an upload that takes longer than the time for a body is taken as long as it goes on', async () => {
      const pieces = 10
      /** Milliseconds between two pieces at the most, and the status. */
      const upload = async (): Promise<readonly [number, number]> => {
        const slow = await client(impatient)
        slow.expectMethodOf('POST')
        await slow.send(postHead(pieces, '/upload'))
        let longestMs = 0
        for (let sent = 0; sent < pieces; sent++) {
          const beganMs = performance.now()
          await pause(150)
          await slow.send('x')
          longestMs = Math.max(longestMs, performance.now() - beganMs)
        }
        return [longestMs, (await slow.response().catch(() => ({ status: 0 }))).status]
      }
      // An attempt at which this process itself stood still says nothing about the gateway.
      let [longestMs, status] = await upload()
      while (longestMs > 600) [longestMs, status] = await upload()
      expect(status).toBe(200)
    })
  })

  describe('gone', () => {
    test('after the connect', async () => {
      const gone = await client()
      gone.reset()
      await expectHealthy()
    })

    test('inside the header', async () => {
      const gone = await client()
      await gone.send('GET /gone-header HTTP/1.1\r\nHo')
      gone.reset()
      await expectHealthy()
      expect(upstream.requests.some((request) => request.target === '/gone-header')).toBe(false)
    })

    test('inside the body: the upstream never sees a complete request', async () => {
      const gone = await client()
      await gone.send(`${postHead(1000, '/gone-body')}half`)
      await upstream
        .until(() => upstream.requests.some((request) => request.target === '/gone-body'), 'the head at the upstream')
        .catch(() => undefined)
      gone.reset()
      await upstream.until(
        () => upstream.connections.every((item) => item.closed || item.ended || item.requests.every((request) => request.complete)),
        'the end of the upstream connection with half a body',
      )
      expect(completed('/gone-body')).toBe(0)
      await expectHealthy()
    })

    test.each(['reset', 'end'] as const)('while it waits for the answer (%s): the upstream work is cancelled', async (how) => {
      upstream.answer = (request) => (request.target === '/waits' ? undefined : lengthResponse('ok'))
      const gone = await client()
      const before = completed('/waits')
      await gone.send(get('/waits'))
      await upstream.until(() => completed('/waits') > before, 'the request at the upstream')
      const carrier = upstream.connections.find((item) => item.requests.at(-1)?.target === '/waits' && !item.closed)
      if (how === 'reset') gone.reset()
      else gone.destroy()
      await upstream.until(() => carrier?.closed === true || carrier?.ended === true, 'the end of the upstream connection')
      await expectHealthy()
    })

    test('inside the answer: the upstream work is cancelled', async () => {
      upstream.answer = (request, { socket }) => {
        if (request.target !== '/streams') return lengthResponse('ok')
        socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
        const go = (): void => {
          while (!socket.destroyed && socket.write(`1000\r\n${'x'.repeat(4096)}\r\n`));
          if (!socket.destroyed) socket.once('drain', go)
        }
        go()
        return undefined
      }
      const gone = await client()
      await gone.send(get('/streams'))
      await gone.signal.until(() => gone.receivedBytes > MEGABYTE, 60_000, 'a megabyte of the stream')
      const carrier = upstream.connections.find((item) => item.requests.at(-1)?.target === '/streams' && !item.closed)
      gone.reset()
      await upstream.until(() => carrier?.closed === true || carrier?.ended === true, 'the end of the stream')
      await expectHealthy()
    })

    test('half closed behind the request: a whole answer or a clean end, never half of one', async () => {
      const half = await client()
      half.expectMethodOf('GET')
      await half.send(get('/half'))
      half.halfClose()
      expect(await half.untilClosed()).toBe(true)
      for (const response of half.reader.responses) expect([response.status, response.complete]).toEqual([200, true])
      await expectHealthy()
    })

    test('a hundred at every stage leave nothing behind', async () => {
      upstream.answer = (request) => (request.target === '/waits' ? undefined : lengthResponse('ok'))
      const stages = ['', 'GET / HT', get('/waits'), `${postHead(50, '/waits')}half`, get('/fine')]
      for (let round = 0; round < 20; round++) {
        const clients = await Promise.all(stages.map(async (bytes) => ({ bytes, gone: await client() })))
        for (const { bytes, gone } of clients) {
          if (bytes !== '') await gone.send(bytes)
          gone.reset()
        }
      }
      await upstream.until(
        () =>
          upstream.connections.every(
            (item) => item.closed || item.ended || item.requests.every((request) => request.complete && request.target !== '/waits'),
          ),
        'the end of all abandoned upstream connections',
      )
      await expectHealthy()
    })
  })

  describe('too much', () => {
    test.each([
      ['one header of 20 KB', get('/bomb', `X-Bomb: ${'b'.repeat(20_000)}`), 431],
      [
        'many headers that are too large together',
        get('/bomb', ...Array.from({ length: 25 }, (_, index) => `X-${index}: ${'b'.repeat(700)}`)),
        431,
      ],
      ['40 headers where 30 are allowed', get('/bomb', ...Array.from({ length: 40 }, (_, index) => `X-${index}: b`)), 431],
      ['a target of 3,000 bytes', get(`/bomb${'t'.repeat(3000)}`), 414],
      ['a length beyond the body limit', postHead(BODY_LIMIT + 1, '/bomb'), 413],
    ] as const)('%s', async (_, bytes, status) => {
      const bomb = await client()
      expect((await bomb.request(bytes)).status).toBe(status)
      expect(await bomb.untilClosed()).toBe(true)
      expect(upstream.requests.some((request) => request.target.startsWith('/bomb'))).toBe(false)
      await expectHealthy()
    })

    test('an endless header ends', async () => {
      const bomb = await client()
      await bomb.send('GET /bomb HTTP/1.1\r\nHost: a.test\r\n')
      let sent = 0
      while (!bomb.ended && !bomb.closed && sent < 10 * MEGABYTE) {
        if (!(await bomb.send(`X-Bomb: ${'b'.repeat(4000)}\r\n`))) break
        sent += 4000
        // Writes that the kernel takes at once do not let the answer be read.
        await turn()
      }
      expect(await bomb.untilClosed()).toBe(true)
      expect(sent).toBeLessThan(10 * MEGABYTE)
      await expectHealthy()
    })

    test('a chunked body beyond the limit: 413 or a close, never complete at the upstream', async () => {
      const big = await client()
      big.expectMethodOf('POST')
      await big.send(CHUNKED_POST.replace('POST /', 'POST /toobig'))
      const chunk = `10000\r\n${'x'.repeat(65_536)}\r\n`
      for (let sent = 0; sent < 2 * BODY_LIMIT && !big.ended && !big.closed; sent += 65_536) await big.send(chunk)
      expect(await big.untilClosed()).toBe(true)
      for (const response of big.reader.responses) expect(response.status).toBe(413)
      expect(completed('/toobig')).toBe(0)
      await expectHealthy()
    })

    test('a great many tiny chunks arrive, in bounded time and memory', async () => {
      const count = kind === 'tcp' ? 1_000_000 : 250_000
      const before = await gateway.residentBytes()
      const tiny = await client()
      tiny.expectMethodOf('POST')
      await tiny.send(CHUNKED_POST.replace('POST /', 'POST /tiny'))
      const thousand = '1\r\na\r\n'.repeat(1000)
      for (let sent = 0; sent < count; sent += 1000) await tiny.send(thousand)
      await tiny.send('0\r\n\r\n')
      expect((await tiny.response()).status).toBe(200)
      const request = upstream.requests.find((item) => item.target === '/tiny')
      expect([request?.complete, request?.bodyBytes]).toEqual([true, count])
      expect((await gateway.residentBytes()) - before).toBeLessThan(128 * MEGABYTE)
    })

    test('500 pipelined requests: answers in order; uWebSockets.js may close in the middle', async () => {
      upstream.answer = (request) => lengthResponse(request.target)
      const eager = await client()
      const targets = Array.from({ length: 500 }, (_, index) => `/order/${index}`)
      for (const target of targets) eager.expectMethodOf(get(target))
      await eager.send(targets.map((target) => get(target)).join(''))
      const answered = (): number => eager.reader.responses.filter((response) => response.complete).length
      await eager.signal.until(() => eager.ended || eager.closed || answered() === targets.length, 60_000, 'all answers or a close')
      const bodies = eager.reader.responses.filter((response) => response.complete).map(textOf)
      expect(bodies).toEqual(kind === 'tcp' ? targets : targets.slice(0, bodies.length))
      upstream.answer = () => lengthResponse('ok')
      await expectHealthy()
    })
  })

  describe('early answers with an unread body leave the connection in a known state', () => {
    const smuggled = 'GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n'

    test.each([
      ['an answer of a plugin', '/mocked', 200],
      ['a body that is too large', '/large', 413],
    ])('%s', async (_, target, status) => {
      const early = await client()
      early.expectMethodOf('POST')
      const body = smuggled.repeat(Math.ceil((status === 413 ? BODY_LIMIT + 1 : MEGABYTE) / smuggled.length))
      const sending = early.send(postHead(body.length, target)).then(() => early.send(body))
      const settled = (): boolean => early.ended || early.closed || early.reader.responses[0]?.complete === true
      await early.signal.until(settled, 60_000, 'an answer or a close')
      await sending
      // closing with unread bytes may reset the connection before the client has read the answer
      const [response] = early.reader.responses
      if (response === undefined) expect(['ECONNRESET', 'EPIPE']).toContain(early.errorCode)
      else expect(response.status).toBe(status)
      early.expectMethodOf('GET')
      await early.send(get('/second'))
      const isSettled = () => early.ended || early.closed || early.reader.responses[1]?.complete === true
      await early.signal.until(isSettled, 60_000, 'the second answer, or a close')
      if (early.reader.responses[1] !== undefined) expect(early.reader.responses[1].status).toBe(200)
      expect(upstream.requests.some((request) => request.target === '/smuggled')).toBe(false)
      expect(early.reader.problem).toBeNull()
      await expectHealthy()
    })

    test('the upstream answers before it has read the body', async () => {
      const early = await bed.upstream({ answerOn: 'head', answer: () => lengthResponse('early', [], '403 Forbidden') })
      const other = await perTest.gateway({ config: configWith(kind, early.port, 60), listen: null })
      const sender = await perTest.client({ port: other.port })
      sender.expectMethodOf('POST')
      const body = smuggled.repeat(5000)
      const sending = sender.send(postHead(body.length)).then(() => sender.send(body))
      const response = await sender.response()
      expect([response.status, textOf(response)]).toEqual([403, 'early'])
      await sending
      const second = await sender.request(get('/second')).catch(() => null)
      if (second === null) expect(sender.ended || sender.closed).toBe(true)
      else expect(second.status).toBe(403)
      expect(early.requests.some((request) => request.target === '/smuggled')).toBe(false)
    })
  })
})

/** Ten seconds for both together. */
test('a header that never ends, or comes one byte at a time, is given up; others are served meanwhile', async () => {
  const bed = new TestBed()
  const upstream = await bed.upstream()
  const probe = async (kind: Kind): Promise<void> => {
    const gateway = await bed.gateway({ config: configWith(kind, upstream.port, 60), listen: null })
    const slow = await bed.client({ port: gateway.port })
    const dripping = await bed.client({ port: gateway.port })
    await slow.send('GET /slow HTTP/1.1\r\nHost: a.test\r\nX-Slow: ')
    await dripping.send('GET /drip HTTP/1.1\r\nHost: a.test\r\nX-Slow: ')
    expect((await (await bed.client({ port: gateway.port })).request(get('/other'))).status).toBe(200)
    // Two minutes in all; it takes ten seconds.
    for (let sent = 0; sent < 480 && !(await dripping.untilClosed(250)); sent++) await dripping.send('a')
    expect(dripping.ended || dripping.closed).toBe(true)
    expect(await slow.untilClosed()).toBe(true)
    for (const response of slow.reader.responses) expect(response.status).toBe(408)
    if (kind === 'tcp') expect([slow.reader.responses.length, dripping.reader.responses[0]?.status]).toEqual([1, 408])
  }
  try {
    await Promise.all([probe('tcp'), probe('uws')])
    expect(upstream.requests.map((request) => request.target)).toEqual(['/other', '/other'])
  } finally {
    await bed.close()
  }
})
