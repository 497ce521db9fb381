/**
 * Connections and pools against a real server on loopback: which connection a request gets, and that no answer goes to the wrong
 * exchange whatever the upstream does. Time is passed in; every wait is for an event.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Exchange } from '../../../src/dataplane/exchange.js'
import { rawSockets } from '../../../src/dataplane/tcp/handle.js'
import type { UpstreamConnection } from '../../../src/dataplane/upstream/connection.js'
import { NodePool } from '../../../src/dataplane/upstream/pool.js'
import type { CompiledKeepalive, CompiledNode } from '../../../src/schema/compiled.js'
import { exchangeOf, nodeOf, silentTally } from './parts.js'

const kinds = [
  ['raw', rawSockets()],
  ['stream', null],
] as const
/** What connections are made of at present. */
let raw = rawSockets()

const cleanups: (() => Promise<void> | void)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

/** A server that hands its sockets and what arrives on them to the test. */
class Upstream {
  readonly sockets: Socket[] = []
  private arrived = ''
  private wake: (() => void) | null = null

  private constructor(
    server: Server,
    readonly port: number,
  ) {
    server.on('connection', (socket) => {
      this.sockets.push(socket)
      socket.on('error', () => {})
      socket.on('data', (chunk) => {
        this.arrived += chunk.toString('latin1')
        this.wake?.()
      })
      socket.on('close', () => this.wake?.())
    })
  }

  static async start(path = ''): Promise<Upstream> {
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(path === '' ? { port: 0, host: '127.0.0.1' } : { path }, resolve))
    const address = server.address()
    const upstream = new Upstream(server, typeof address === 'object' && address !== null ? address.port : 0)
    cleanups.push(() => {
      for (const socket of upstream.sockets) socket.destroy()
      return new Promise((resolve) => server.close(() => resolve()))
    })
    return upstream
  }

  /** Resolves when so many requests arrived in all. */
  async requests(count: number): Promise<void> {
    while (this.arrived.split('\r\n\r\n').length - 1 < count) await new Promise<void>((resolve) => (this.wake = resolve))
  }

  write(text: string, index = 0): void {
    this.sockets[index]?.write(text, 'latin1')
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => (this.wake = resolve))
  }

  /** All that arrived, on all sockets. */
  get text(): string {
    return this.arrived
  }

  get targets(): string[] {
    return [...this.arrived.matchAll(/GET (\S+) HTTP/g)].map((match) => match[1] ?? '')
  }
}

interface Answer {
  status: number
  body: string
  isDone: boolean
  failure: string
  answered: boolean
}

/** A pool whose events are noted per exchange. */
class Bed {
  readonly pool: NodePool
  readonly answers = new Map<Exchange, Answer>()
  drainedCount = 0
  /** Called at the end of each answer, before it is noted. */
  onBody: (exchange: Exchange, isLast: boolean) => void = () => {}
  private readonly waiting: { readonly condition: () => boolean; readonly resolve: () => void }[] = []

  constructor(upstream: Upstream, keepalive: Partial<CompiledKeepalive> = {}, where: Partial<CompiledNode> = {}) {
    const note = (exchange: Exchange, change: (answer: Answer) => void) => {
      const answer = this.answers.get(exchange)
      if (answer === undefined) throw new Error('an event for an exchange that was never sent')
      if (answer.isDone || answer.failure !== '') throw new Error('an event behind the end of an exchange')
      change(answer)
      this.check()
    }
    this.pool = new NodePool(
      {
        node: nodeOf({ port: upstream.port, ...where }),
        tls: null,
        keepalive: { size: 8, idleTimeoutMs: 1000, requests: 1000, pipelining: 1, ...keepalive },
        maxResponseHeaderBytes: 4096,
        tally: silentTally(),
      },
      Buffer.alloc(65536),
      {
        connected: () => this.check(),
        whole: (exchange, head, bytes, start, end) =>
          note(exchange, (answer) => {
            answer.status = head.status
            answer.body = bytes.toString('latin1', start, end)
            answer.isDone = true
            this.onBody(exchange, true)
          }),
        head: (exchange, head) => note(exchange, (answer) => (answer.status = head.status)),
        body: (exchange, bytes, start, end, isLast) =>
          note(exchange, (answer) => {
            answer.body += bytes.toString('latin1', start, end)
            answer.isDone = isLast
            this.onBody(exchange, isLast)
          }),
        failed: (exchange, _, failure, answered) =>
          note(exchange, (answer) => {
            answer.failure = failure.code
            answer.answered = answered
          }),
        drained: () => {
          this.drainedCount++
          this.check()
        },
        turnEnded: () => this.check(),
      },
      raw,
    )
    cleanups.push(() => this.pool.destroy())
  }

  private check(): void {
    for (const entry of [...this.waiting]) {
      if (!entry.condition()) continue
      this.waiting.splice(this.waiting.indexOf(entry), 1)
      entry.resolve()
    }
  }

  /** Resolves when the condition holds; it is looked at after every event. */
  until(condition: () => boolean): Promise<void> {
    return condition() ? Promise.resolve() : new Promise((resolve) => this.waiting.push({ condition, resolve }))
  }

  send(connection: UpstreamConnection, target = '/', nowMs = 0, bodyLength = 0): Exchange {
    const exchange = exchangeOf({ target })
    exchange.upstreamStartMs = nowMs
    exchange.connection = connection
    this.answers.set(exchange, { status: 0, body: '', isDone: false, failure: '', answered: false })
    const length = bodyLength === 0 ? '' : `content-length: ${bodyLength}\r\n`
    connection.send(exchange, `GET ${target} HTTP/1.1\r\nhost: a\r\n${length}\r\n`, false, bodyLength > 0)
    return exchange
  }

  answer(exchange: Exchange): Answer {
    const answer = this.answers.get(exchange)
    if (answer === undefined) throw new Error('never sent')
    return answer
  }

  ended(...exchanges: Exchange[]): Promise<void> {
    return this.until(() => exchanges.every((exchange) => this.answer(exchange).isDone || this.answer(exchange).failure !== ''))
  }
}

const ok = (body: string): string => `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`

describe.each(kinds)('exclusive connections on %s sockets', (_, kind) => {
  beforeAll(() => {
    raw = kind
  })

  test('rest and are used again, the latest first; the pool keeps so many', async () => {
    const upstream = await Upstream.start()
    const bed = new Bed(upstream, { size: 2, idleTimeoutMs: 60_000 })
    const connections = [bed.pool.exclusive(), bed.pool.exclusive(), bed.pool.exclusive()]
    expect(new Set(connections).size).toBe(3)
    const sent = connections.map((connection) => bed.send(connection))
    await upstream.requests(3)
    for (const index of [0, 1, 2]) upstream.write(ok('x'), index)
    await bed.ended(...sent)
    bed.pool.sweepIdle(Math.max(...connections.map(({ idleSinceMs }) => idleSinceMs)) + 1000)
    expect([bed.pool.idleCount, bed.pool.connectionCount]).toEqual([2, 2])
    const kept = connections.filter((connection) => !connection.isClosed)
    const again = bed.pool.exclusive()
    expect(kept).toContain(again)
    expect(again.isReused).toBe(true)
    expect(bed.pool.fresh().isReused).toBe(false)
  })

  test('no more requests than allowed', async () => {
    const upstream = await Upstream.start()
    const bed = new Bed(upstream, { requests: 2 })
    const connection = bed.pool.exclusive()
    for (const number of [1, 2]) {
      const exchange = bed.send(number === 1 ? connection : bed.pool.exclusive())
      await upstream.requests(number)
      upstream.write(ok('x'))
      await bed.ended(exchange)
    }
    expect(connection.served).toBe(2)
    expect(connection.isClosed).toBe(true)
    expect(bed.pool.idleCount).toBe(0)
  })

  test('idle ones are closed when their time is over', async () => {
    const upstream = await Upstream.start()
    const bed = new Bed(upstream)
    const connection = bed.pool.exclusive()
    const exchange = bed.send(connection)
    await upstream.requests(1)
    upstream.write(ok('x'))
    await bed.ended(exchange)
    bed.pool.sweepIdle(connection.idleSinceMs + 999)
    expect(bed.pool.idleCount).toBe(1)
    bed.pool.sweepIdle(connection.idleSinceMs + 1000)
    expect([bed.pool.idleCount, connection.isClosed]).toEqual([0, true])
  })

  test('more than the pool keeps rest for a second, and may be used before', async () => {
    const upstream = await Upstream.start()
    const bed = new Bed(upstream, { size: 1, idleTimeoutMs: 60_000 })
    const connections = [bed.pool.exclusive(), bed.pool.exclusive(), bed.pool.exclusive()]
    for (const connection of connections) bed.pool.release(connection, 5000)
    expect(bed.pool.exclusive()).toBe(connections[2])
    bed.pool.release(connections[2] as UpstreamConnection, 5500)
    bed.pool.sweepIdle(5999)
    expect(bed.pool.idleCount).toBe(3)
    bed.pool.sweepIdle(6000)
    expect(connections.map(({ isClosed }) => isClosed)).toEqual([true, true, false])
    bed.pool.sweepIdle(9000)
    expect(bed.pool.idleCount).toBe(1)
  })

  test('a byte on an idle connection ends it', async () => {
    const upstream = await Upstream.start()
    const bed = new Bed(upstream)
    const connection = bed.pool.exclusive()
    const exchange = bed.send(connection)
    await upstream.requests(1)
    upstream.write(ok('x'))
    await bed.ended(exchange)
    expect(bed.pool.idleCount).toBe(1)
    upstream.write('H')
    await bed.until(() => connection.isClosed)
    expect(bed.pool.idleCount).toBe(0)
  })

  test.each([
    ['length', 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab', 'cd'],
    ['chunked', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n', '2\r\ncd\r\n0\r\n\r\n'],
  ])('bytes behind a %s answer are never the answer of what its end starts', async (_, first, rest) => {
    const upstream = await Upstream.start()
    const bed = new Bed(upstream)
    const connection = bed.pool.exclusive()
    const victim = bed.send(connection)
    let next: Exchange | null = null
    bed.onBody = (exchange, isLast) => {
      if (exchange === victim && isLast) next = bed.send(bed.pool.exclusive(), '/next')
    }
    await upstream.requests(1)
    upstream.write(first)
    await bed.until(() => bed.answer(victim).body === 'ab')
    upstream.write(`${rest}${ok('evil')}`)
    await bed.ended(victim)
    expect(bed.answer(victim).body).toBe('abcd')
    expect(connection.isClosed).toBe(true)
    await upstream.requests(2)
    if (next === null) throw new Error('nothing was sent at the end of the answer')
    expect(bed.answer(next)).toMatchObject({ status: 0, isDone: false, failure: '' })
    upstream.write(ok('good'), 1)
    await bed.ended(next)
    expect(bed.answer(next).body).toBe('good')
  })

  test('an exchange that gives up within its chunked body leaves no closed connection behind', async () => {
    const upstream = await Upstream.start()
    const bed = new Bed(upstream)
    const connection = bed.pool.exclusive()
    const exchange = bed.send(connection)
    bed.onBody = (_, isLast) => {
      if (isLast) return
      // As the proxy does: forget the connection, then cancel.
      bed.answers.set(exchange, { status: 0, body: '', isDone: false, failure: '', answered: false })
      connection.cancel(exchange)
    }
    await upstream.requests(1)
    upstream.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n')
    await bed.until(() => connection.isClosed)
    expect(bed.pool.idleCount).toBe(0)
    expect(bed.pool.connectionCount).toBe(0)
    expect(bed.pool.exclusive().isClosed).toBe(false)
  })

  test('the end of a close-delimited answer is its end; a reset is not', async () => {
    const upstream = await Upstream.start()
    const bed = new Bed(upstream)
    const [good, bad] = [bed.send(bed.pool.fresh(), '/good'), bed.send(bed.pool.fresh(), '/bad')]
    await upstream.requests(2)
    for (const socket of upstream.sockets) socket.write('HTTP/1.1 200 OK\r\n\r\nabc')
    await bed.until(() => bed.answer(good).body === 'abc' && bed.answer(bad).body === 'abc')
    const ports = [good, bad].map((exchange) => upstream.sockets.findIndex((_, index) => upstream.targets[index] === exchange.path))
    upstream.sockets[ports[0] ?? -1]?.end()
    upstream.sockets[ports[1] ?? -1]?.resetAndDestroy()
    await bed.ended(good, bad)
    expect(bed.answer(good)).toMatchObject({ isDone: true, failure: '' })
    expect(bed.answer(bad)).toMatchObject({ isDone: false, failure: 'UPSTREAM_RESET', answered: true })
  })

  test('a refused connection says so', async () => {
    const upstream = await Upstream.start()
    const bed = new Bed(upstream)
    for (const cleanup of cleanups.splice(0, 1)) await cleanup()
    const exchange = bed.send(bed.pool.exclusive())
    await bed.ended(exchange)
    expect(bed.answer(exchange)).toMatchObject({ failure: 'UPSTREAM_CONNECT_FAILED', answered: false })
    expect(bed.pool.connectionCount).toBe(0)
  })
})

describe.each(kinds)('what leaves at the end of a turn, on %s sockets', (_, kind) => {
  beforeAll(() => {
    raw = kind
  })

  /** A connection that has answered one request. */
  async function warm() {
    const upstream = await Upstream.start()
    const bed = new Bed(upstream, { idleTimeoutMs: 60_000 })
    const connection = bed.pool.exclusive()
    const first = bed.send(connection, '/first')
    await upstream.requests(1)
    upstream.write(ok('x'))
    await bed.ended(first)
    return { upstream, bed, connection }
  }

  test('a request that is given up in its turn is never written', async () => {
    const { upstream, bed, connection } = await warm()
    expect(bed.pool.exclusive()).toBe(connection)
    const exchange = bed.send(connection, '/given-up')
    connection.cancel(exchange)
    expect(connection.isClosed).toBe(true)
    await upstream.until(() => upstream.sockets[0]?.destroyed === true)
    const connecting = bed.pool.exclusive()
    const early = bed.send(connecting, '/early')
    connecting.cancel(early)
    const last = bed.send(bed.pool.exclusive(), '/last')
    await upstream.requests(2)
    upstream.write(ok('x'), upstream.sockets.length - 1)
    await bed.ended(last)
    expect(upstream.targets).toEqual(['/first', '/last'])
  })

  test('bytes that came before the request left are not its answer, and nothing of it was sent', async () => {
    const { upstream, bed, connection } = await warm()
    expect(bed.pool.exclusive()).toBe(connection)
    const exchange = bed.send(connection, '/unsent')
    const evil = Buffer.from(ok('evil'))
    connection.onBytes(evil, evil.length)
    await bed.ended(exchange)
    expect(bed.answer(exchange)).toMatchObject({ failure: 'UPSTREAM_RESET', answered: false, status: 0 })
    expect([connection.isReused, connection.closedUnsent]).toEqual([true, true])
    await upstream.until(() => upstream.sockets[0]?.destroyed === true)
    expect(upstream.targets).toEqual(['/first'])
  })

  test('a request that left is sent, however its connection ends', async () => {
    const { upstream, bed, connection } = await warm()
    expect(bed.pool.exclusive()).toBe(connection)
    const exchange = bed.send(connection, '/sent')
    await upstream.requests(2)
    upstream.sockets[0]?.end()
    await bed.ended(exchange)
    expect([bed.answer(exchange).failure, connection.closedUnsent]).toEqual(['UPSTREAM_RESET', false])
  })

  test('a head and the first piece of its body leave together, also behind a connect', async () => {
    const upstream = await Upstream.start()
    const bed = new Bed(upstream)
    const connection = bed.pool.exclusive()
    bed.send(connection, '/body', 0, 4)
    await bed.until(() => connection.isConnected)
    expect(connection.sendBody(Buffer.from('ab'), false, false)).toBe(true)
    expect(connection.sendBody(Buffer.from('cd'), false, true, true)).toBe(true)
    await upstream.until(() => upstream.text.endsWith('\r\n\r\nabcd'))
    expect(upstream.targets).toEqual(['/body'])
  })

  test('a full socket says so, and when it is empty again; nothing is lost or doubled', async () => {
    const upstream = await Upstream.start()
    const bed = new Bed(upstream)
    const connection = bed.pool.exclusive()
    const pieces = Array.from({ length: 200 }, (_, index) => Buffer.alloc(50_000, 65 + (index % 26)))
    const total = pieces.length * 50_000
    bed.send(connection, '/upload', 0, total)
    await bed.until(() => connection.isConnected)
    await upstream.until(() => upstream.sockets.length === 1)
    upstream.sockets[0]?.pause()
    const queue = [...pieces]
    const lent = Buffer.alloc(50_000)
    let waits = 0
    for (let piece = queue.shift(); piece !== undefined; piece = queue.shift()) {
      // Half of them in memory that is another's right after the call.
      const isLent = queue.length % 2 === 0
      if (isLent) lent.set(piece)
      const taken = connection.sendBody(isLent ? lent : piece, false, queue.length === 0, isLent)
      if (isLent) lent.fill(0)
      if (taken) continue
      const seen = bed.drainedCount
      waits++
      upstream.sockets[0]?.resume()
      await bed.until(() => bed.drainedCount > seen)
    }
    expect(waits).toBeGreaterThan(0)
    upstream.sockets[0]?.resume()
    await upstream.until(() => upstream.text.length - upstream.text.indexOf('\r\n\r\n') - 4 === total)
    expect(upstream.text.slice(upstream.text.indexOf('\r\n\r\n') + 4) === Buffer.concat(pieces).toString('latin1')).toBe(true)
  })

  test('a write that fails ends the connection, but not within the call', async () => {
    const upstream = await Upstream.start()
    const bed = new Bed(upstream)
    const connection = bed.pool.exclusive()
    const exchange = bed.send(connection, '/upload', 0, 1e9)
    await bed.until(() => connection.isConnected)
    await upstream.requests(1)
    // Whoever reads learns of the reset that way.
    connection.pause()
    const closed = new Promise((resolve) => upstream.sockets[0]?.once('close', resolve))
    upstream.sockets[0]?.resetAndDestroy()
    await closed
    const piece = Buffer.alloc(1000)
    while (!connection.isClosed) {
      const { failure } = bed.answer(exchange)
      connection.sendBody(piece, false, false)
      expect(bed.answer(exchange).failure).toBe(failure)
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(bed.answer(exchange)).toMatchObject({ failure: 'UPSTREAM_RESET', answered: false })
    expect(connection.sendBody(piece, false, false)).toBe(true)
  })

  test.each([
    ['an IPv6 address', { address: '::1', port: 9 }],
    ['a path that is not there', { address: '/nowhere/at/all', port: 0 }],
    ['a name', { address: 'localhost', port: 9 }],
    ['an address that cannot be reached', { address: '255.255.255.255', port: 9 }],
  ])('%s that nobody listens at: the connect fails, behind the call', async (_, where) => {
    const upstream = await Upstream.start()
    const bed = new Bed(upstream, {}, where)
    const connection = bed.pool.exclusive()
    const exchange = bed.send(connection)
    expect([connection.isClosed, bed.answer(exchange).failure]).toEqual([false, ''])
    await bed.ended(exchange)
    expect(bed.answer(exchange)).toMatchObject({ failure: 'UPSTREAM_CONNECT_FAILED', answered: false })
    expect([connection.closedUnsent, bed.pool.connectionCount]).toEqual([true, 0])
  })

  test('an upstream behind a unix socket', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'upstream-'))
    cleanups.push(() => rmSync(folder, { recursive: true }))
    const path = join(folder, 'socket')
    const upstream = await Upstream.start(path)
    const bed = new Bed(upstream, {}, { address: path, port: 0 })
    const exchange = bed.send(bed.pool.exclusive(), '/unix')
    await upstream.requests(1)
    upstream.write(ok('over a path'))
    await bed.ended(exchange)
    expect([bed.answer(exchange).body, upstream.targets]).toEqual(['over a path', ['/unix']])
  })
})

describe.each(kinds)('lanes on %s sockets', (_, kind) => {
  beforeAll(() => {
    raw = kind
  })

  /** So many requests on one lane, which has arrived at the server. */
  async function lane(count: number, keepalive: { readonly requests?: number } = {}) {
    const upstream = await Upstream.start()
    const bed = new Bed(upstream, { pipelining: 16, ...keepalive })
    const connection = bed.pool.lane(0)
    const exchanges = Array.from({ length: count }, (_, index) => bed.send(connection, `/${index}`))
    await upstream.requests(count)
    expect(upstream.sockets).toHaveLength(1)
    return { upstream, bed, connection, exchanges }
  }

  test('requests share lanes when there are enough of them, up to their depth, never behind a stalled one', async () => {
    const upstream = await Upstream.start()
    const bed = new Bed(upstream, { pipelining: 3 })
    const used = Array.from({ length: 12 }, () => {
      const connection = bed.pool.lane(0)
      bed.send(connection)
      return connection
    })
    expect(new Set(used).size).toBe(4)
    for (const connection of used) expect(connection.inFlight).toBe(3)
    expect(used).not.toContain(bed.pool.lane(0))
  })

  test('a slow answer at the head of a lane is not joined', async () => {
    const upstream = await Upstream.start()
    const bed = new Bed(upstream, { pipelining: 16 })
    const lanes = Array.from({ length: 4 }, () => {
      const connection = bed.pool.lane(0)
      bed.send(connection, '/', 100)
      return connection
    })
    expect(new Set(lanes).size).toBe(4)
    expect(lanes).toContain(bed.pool.lane(120))
    expect(lanes).not.toContain(bed.pool.lane(121))
  })

  test('answers go to their exchanges in order, however they are cut', async () => {
    const { upstream, bed, connection, exchanges } = await lane(4)
    const bytes = ['a', 'bb', '', 'dddd'].map(ok).join('')
    for (const byte of bytes) upstream.write(byte)
    await bed.ended(...exchanges)
    expect(exchanges.map((exchange) => bed.answer(exchange).body)).toEqual(['a', 'bb', '', 'dddd'])
    expect([connection.inFlight, connection.isClosed, connection.served]).toEqual([0, false, 4])
  })

  test.each([
    ['closes', (upstream: Upstream) => upstream.sockets[0]?.end()],
    ['resets', (upstream: Upstream) => upstream.sockets[0]?.resetAndDestroy()],
  ])('an upstream that %s in the middle: the answered one is answered, the others fail unanswered', async (_, end) => {
    const { upstream, bed, exchanges } = await lane(3)
    upstream.write(ok('first'))
    await bed.until(() => bed.answers.values().next().value?.isDone === true)
    end(upstream)
    await bed.ended(...exchanges)
    const [first, ...others] = exchanges.map((exchange) => bed.answer(exchange))
    expect(first).toMatchObject({ body: 'first', isDone: true })
    for (const other of others) expect(other).toMatchObject({ failure: 'UPSTREAM_RESET', answered: false, status: 0 })
    expect(bed.pool.connectionCount).toBe(0)
  })

  test('a cut answer fails as answered, those behind it as unanswered', async () => {
    const { upstream, bed, exchanges } = await lane(2)
    upstream.write('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf')
    await bed.until(() => exchanges.some((exchange) => bed.answer(exchange).status === 200))
    upstream.sockets[0]?.end()
    await bed.ended(...exchanges)
    expect(exchanges.map((exchange) => bed.answer(exchange).answered)).toEqual([true, false])
  })

  test('Connection: close on an answer fails those behind it, and their bytes reach nobody', async () => {
    const { upstream, bed, connection, exchanges } = await lane(2)
    upstream.write(`HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx${ok('evil')}`)
    await bed.ended(...exchanges)
    expect(exchanges.map((exchange) => bed.answer(exchange))).toMatchObject([
      { body: 'x' },
      { failure: 'UPSTREAM_RESET', status: 0, body: '' },
    ])
    expect(connection.isClosed).toBe(true)
  })

  test('more answers than requests: the lane ends', async () => {
    const { upstream, bed, connection, exchanges } = await lane(2)
    upstream.write(`${ok('a')}${ok('b')}${ok('evil')}`)
    await bed.ended(...exchanges)
    expect(exchanges.map((exchange) => bed.answer(exchange).body)).toEqual(['a', 'b'])
    expect(connection.isClosed).toBe(true)
    expect(bed.pool.lane(0)).not.toBe(connection)
  })

  test('garbage between answers fails all that wait', async () => {
    const { upstream, bed, exchanges } = await lane(3)
    upstream.write(`${ok('a')}garbage\r\n\r\n${ok('evil')}`)
    await bed.ended(...exchanges)
    expect(exchanges.map((exchange) => bed.answer(exchange))).toMatchObject([
      { body: 'a' },
      { failure: 'UPSTREAM_BAD_RESPONSE', status: 0 },
      { failure: 'UPSTREAM_RESET', status: 0 },
    ])
  })

  test('the answer for a client that went away is dropped, its neighbours get theirs', async () => {
    const { upstream, bed, connection, exchanges } = await lane(3)
    const [first, second, third] = exchanges
    if (first === undefined || second === undefined || third === undefined) throw new Error('three were sent')
    connection.cancel(first)
    connection.cancel(second)
    upstream.write(`${ok('a')}${ok('b')}${ok('c')}`)
    await bed.ended(third)
    expect(bed.answer(third).body).toBe('c')
    expect([bed.answer(first).status, bed.answer(second).status]).toEqual([0, 0])
    expect(connection.isClosed).toBe(false)
  })

  test('a lane on which nobody waits any more is closed', async () => {
    const { bed, connection, exchanges } = await lane(3)
    for (const exchange of exchanges) connection.cancel(exchange)
    expect(connection.isClosed).toBe(true)
    expect(bed.pool.connectionCount).toBe(0)
  })

  test('a client that was too slow for the last bytes of its answer does not hold up the next', async () => {
    const { upstream, bed, connection, exchanges } = await lane(2)
    bed.onBody = (exchange, isLast) => {
      if (exchange === exchanges[0] && !isLast) connection.pause()
    }
    upstream.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n')
    await bed.until(() => exchanges[0] !== undefined && bed.answer(exchanges[0]).isDone)
    expect(connection.isPaused).toBe(false)
    upstream.write(ok('next'))
    await bed.ended(...exchanges)
    expect(exchanges.map((exchange) => bed.answer(exchange).body)).toEqual(['abcd', 'next'])
  })

  test('the last request that a connection may carry is its last', async () => {
    const { upstream, bed, connection, exchanges } = await lane(2, { requests: 2 })
    expect(bed.pool.lane(0)).not.toBe(connection)
    upstream.write(`${ok('a')}${ok('b')}`)
    await bed.ended(...exchanges)
    expect(exchanges.map((exchange) => bed.answer(exchange).body)).toEqual(['a', 'b'])
    expect(connection.isClosed).toBe(true)
  })
})
