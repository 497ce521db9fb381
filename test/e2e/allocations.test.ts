/**
 * What a request allocates in the heap of its worker, in bytes: a real gateway, one connection, one request after the other, no optimising
 * compiler. It is a count, not a time, so it does not depend on the machine.
 *
 * A number above the bound means that a change allocates more per request. If that is meant, raise the baseline in the same change and say
 * why; if a change makes it less, lower it: as long as the baselines are what is found, a tenth more fails. The last test sees that the meter
 * would notice. Different versions of Node allocate differently: the baselines are those of one.
 */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import { SignJWT } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { TestBed } from '../support/test-bed.js'

/** Share above the baseline that passes: numbers repeat to one in a hundred, and a tenth more shall fail. */
const MARGIN = 0.05
/** What the last test adds to a request: a tenth of what a plain one allocates. */
const WASTED = 360
const REQUESTS = 40
const ROUNDS = 25
const WARM_UP = 400
const isBaselineNode = process.versions.node.startsWith('20.')
const secret = 'a secret for this test, not a short one'
const plugins = [fileURLToPath(new URL('../support/heap-plugin.js', import.meta.url))]
const answer = 'HTTP/1.1 200 OK\r\nServer: s\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"id":"17"}'

/** Sends one request at a time over one connection and waits for the whole answer. */
class Client {
  private received = ''
  private wake: () => void = () => {}

  constructor(readonly socket: Socket) {
    socket.setNoDelay(true)
    socket.setEncoding('latin1').on('data', (text: string) => {
      this.received += text
      this.wake()
    })
  }

  async ask(request: string): Promise<string> {
    this.socket.write(request)
    for (;;) {
      const head = this.received.indexOf('\r\n\r\n')
      const length = /^content-length: (\d+)/im.exec(this.received)?.[1]
      if (head !== -1 && length !== undefined && this.received.length >= head + 4 + Number(length)) break
      await new Promise<void>((resolve) => {
        this.wake = resolve
      })
    }
    const { received } = this
    this.received = ''
    return received
  }
}

function requestOf(path: string, fields: readonly string[] = []): string {
  return `GET ${path} HTTP/1.1\r\n${['Host: front.test', 'User-Agent: test', 'Accept: */*', ...fields].join('\r\n')}\r\n\r\n`
}

describe.runIf(isBaselineNode)('bytes allocated per request', () => {
  const bed = new TestBed()
  let client: Client
  let token: string

  beforeAll(async () => {
    const upstream = createServer((socket) => {
      socket.on('error', () => {})
      socket.on('data', () => socket.write(answer))
    }).listen(0, '127.0.0.1')
    bed.later(() => upstream.close())
    await once(upstream, 'listening')
    const nodes = { [`127.0.0.1:${(upstream.address() as AddressInfo).port}`]: 1 }
    const route = (id: string, own: object) => ({
      id,
      uri: `/${id}`,
      plugins: own,
      upstream: { nodes, keepalive_pool: { requests: 1_000_000 } },
    })
    const limit = { count: 1_000_000, time_window: 3600, key: 'consumer_name', rejected_code: 429 }
    const gateway = await bed.gateway({
      config: {
        routes: [
          route('plain', {}),
          route('key', { 'key-auth': {}, 'limit-count': limit }),
          route('token', { 'request-id': {}, 'jwt-auth': {}, 'limit-count': limit, 'circuit-breaker': {} }),
          route('refused', { 'limit-count': { ...limit, count: 1, key: 'remote_addr' } }),
          route('heap', { 'test-heap': {} }),
          route('frugal', { 'test-heap': { wasted: 0 } }),
          route('wasteful', { 'test-heap': { wasted: WASTED } }),
        ],
        consumers: [{ username: 'jack', plugins: { 'key-auth': { key: 'jacks-key' }, 'jwt-auth': { key: 'jack', secret } } }],
        sluice: { plugins, log: { access: { format: 'off' } } },
      },
    })
    token = await new SignJWT({ key: 'jack' }).setExpirationTime('1h').setProtectedHeader({ alg: 'HS256' }).sign(Buffer.from(secret))
    const socket = connect(gateway.port, '127.0.0.1')
    bed.later(() => socket.destroy())
    await once(socket, 'connect')
    client = new Client(socket)
  })
  afterAll(() => bed.close())

  async function heap(): Promise<{ readonly collections: number; readonly bytes: number }> {
    const text = await client.ask(requestOf('/heap'))
    return JSON.parse(text.slice(text.indexOf('\r\n\r\n') + 4)) as { collections: number; bytes: number }
  }

  /** Least of many short rounds without a collection: timers of the gateway allocate too, in some of them. */
  async function bytesPerRequest(request: string, status: number): Promise<number> {
    for (let count = 0; count < WARM_UP; count++) expect(await client.ask(request)).toMatch(new RegExp(`^HTTP/1.1 ${status} `))
    let least = Number.POSITIVE_INFINITY
    for (let round = 0; round < ROUNDS; round++) {
      const before = await heap()
      for (let count = 0; count < REQUESTS; count++) await client.ask(request)
      const after = await heap()
      // A collection may be told late on a busy machine; a heap that has become smaller tells it by itself.
      const isWhole = after.collections === before.collections && after.bytes > before.bytes
      if (isWhole) least = Math.min(least, (after.bytes - before.bytes) / REQUESTS)
    }
    return least
  }

  test.each([
    { what: 'a plain request', path: '/plain', status: 200, baseline: 4400 },
    { what: 'key, limit', path: '/key', fields: () => ['apikey: jacks-key'], status: 200, baseline: 5960 },
    {
      what: 'token, limit, breaker, request id',
      path: '/token',
      fields: () => [`Authorization: Bearer ${token}`],
      status: 200,
      baseline: 7640,
    },
    { what: 'a refusal by a limit', path: '/refused', status: 429, baseline: 4770 },
  ])('$what: at most $baseline and a twentieth', async ({ what, path, fields, status, baseline }) => {
    // The first request uses the limit of the refusals up.
    await client.ask(requestOf('/refused'))
    const found = await bytesPerRequest(requestOf(path, fields?.() ?? []), status)
    expect(found, what).toBeGreaterThan(0)
    expect(found, what).toBeLessThanOrEqual(baseline * (1 + MARGIN))
  })

  test('a tenth more is noticed', async () => {
    const frugal = await bytesPerRequest(requestOf('/frugal'), 200)
    const wasteful = await bytesPerRequest(requestOf('/wasteful'), 200)
    expect(wasteful - frugal).toBeGreaterThan(WASTED * 0.8)
    expect(wasteful - frugal).toBeLessThan(WASTED * 1.2)
    expect(wasteful).toBeGreaterThan(frugal * (1 + MARGIN))
  })
})
