/**
 * Choosing and reaching upstream nodes over real sockets, with 1, 2 and 4 workers: weights, Host, TLS, Unix sockets, retries, timeouts.
 * Two of them have to do without raw sockets.
 */
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { fieldOf, type RawConnection, textOf } from '../../src/doctor/raw-connection.js'
import { lengthResponse, type RecordingUpstream } from '../../src/doctor/recording-upstream.js'
import { valuesOf } from '../../src/doctor/strict-fields.js'
import type { StrictResponse } from '../../src/doctor/strict-response.js'
import type { Gateway } from '../support/gateway.js'
import { ownPort } from '../support/ports.js'
import { TestBed } from '../support/test-bed.js'
import { TestAuthority } from '../support/tls-certificates.js'

const withoutRawSockets = fileURLToPath(new URL('../support/without-raw-sockets.cjs', import.meta.url))

describe.each([1, 2, 4])('upstreams with %i workers', (workers) => {
  const bed = new TestBed()
  const perTest = new TestBed()
  let nodes: RecordingUpstream[]
  let good: RecordingUpstream
  let secure: RecordingUpstream
  let gateway: Gateway

  beforeAll(async () => {
    const authority = await TestAuthority.create()
    const stranger = await TestAuthority.create('A Stranger')
    const server = await authority.issue('secure.test')
    const clientPair = await authority.issue('gateway.test')
    const path = join(tmpdir(), `sluice-unix-${process.pid}-${workers}.sock`)
    nodes = await Promise.all([0, 1, 2].map((index) => bed.upstream({ answer: () => lengthResponse(`node ${index}`) })))
    good = await bed.upstream()
    await bed.upstream({ path, answer: () => lengthResponse('unix') })
    secure = await bed.upstream({
      tls: { ...server, ca: authority.cert, requestCert: true, rejectUnauthorized: true },
      answer: () => lengthResponse('secure'),
    })
    const dead = await ownPort()
    const at = (port: number): string => `127.0.0.1:${port}`
    const goodNode = { [at(good.port)]: 1 }
    const secureNode = { scheme: 'https', nodes: { [at(secure.port)]: 1 }, pass_host: 'rewrite', upstream_host: 'secure.test' }
    const certs = { client_cert: clientPair.cert, client_key: clientPair.key }
    const routes = {
      weighted: { nodes: Object.fromEntries(nodes.map((node, index) => [at(node.port), [5, 3, 2][index]])) },
      'weight-zero': { nodes: { [at(good.port)]: 1, [at(dead)]: 0 } },
      'host-pass': { nodes: goodNode },
      'host-node': { nodes: goodNode, pass_host: 'node' },
      'host-rewrite': { nodes: goodNode, pass_host: 'rewrite', upstream_host: 'inner.test:81' },
      unix: { nodes: [{ host: `unix:${path}`, weight: 1 }] },
      retries: { nodes: { [at(dead)]: 1, [at(good.port)]: 1 } },
      'no-retries': { nodes: { [at(dead)]: 1, [at(good.port)]: 1 }, retries: 0 },
      dead: { nodes: { [at(dead)]: 1 } },
      backup: {
        nodes: [
          { host: '127.0.0.1', port: dead, weight: 1, priority: 1 },
          { host: '127.0.0.1', port: good.port, weight: 1, priority: 0 },
        ],
      },
      empty: { nodes: {} },
      slow: { nodes: goodNode, timeout: { connect: 60, send: 60, read: 0.3 } },
      trickle: { nodes: goodNode, timeout: { connect: 60, send: 60, read: 1 } },
      name: { nodes: { [`localhost:${good.port}`]: 1 } },
      'tls-verified': { ...secureNode, tls: { verify: true, ca: authority.cert, ...certs } },
      'tls-unverified': { ...secureNode, tls: { verify: false, ...certs } },
      'tls-stranger': { ...secureNode, tls: { verify: true, ca: stranger.cert, ...certs } },
      'tls-wrong-name': { ...secureNode, upstream_host: 'other.test', tls: { verify: true, ca: authority.cert, ...certs } },
      'tls-no-certificate': { ...secureNode, tls: { verify: true, ca: authority.cert } },
      'tls-on-plain': { ...secureNode, nodes: goodNode, timeout: { connect: 0.3, send: 60, read: 60 } },
    }
    const config = {
      routes: Object.entries(routes).map(([id, upstream]) => ({ id, uri: `/${id}/*`, upstream })),
      sluice: { log: { level: 'error' } },
    }
    const env = workers === 2 ? { NODE_OPTIONS: `--require ${withoutRawSockets}` } : {}
    gateway = await bed.gateway({ config, workers, env })
  })
  afterAll(() => bed.close())
  afterEach(async () => {
    await perTest.close()
    good.answer = () => lengthResponse('ok')
  })

  const client = (): Promise<RawConnection> => perTest.client({ port: gateway.port })
  const get = async (target: string): Promise<StrictResponse> =>
    (await client()).request(`GET ${target} HTTP/1.1\r\nHost: front.test\r\n\r\n`)

  test('the sockets are what this Node has', async () => {
    expect(textOf(await get('/host-pass/x'))).toBe('ok')
    expect(gateway.process.stderr.includes('no tcp_wrap in this Node')).toBe(workers === 2)
  })

  test('weights are exact over whole cycles, over all workers and connections together', async () => {
    const cycles = 20
    const counts = [0, 0, 0]
    const one = async (): Promise<void> => {
      const connection = await client()
      for (let number = 0; number < 10; number++) {
        const response = await connection.request('GET /weighted/x HTTP/1.1\r\nHost: front.test\r\n\r\n')
        const index = Number(textOf(response).slice(-1))
        counts[index] = (counts[index] ?? 0) + 1
      }
    }
    await Promise.all(Array.from({ length: cycles }, one))
    expect(counts).toEqual([5 * cycles, 3 * cycles, 2 * cycles])
  })

  test('a node of weight 0 is never picked', async () => {
    for (let number = 0; number < 10; number++) expect((await get('/weight-zero/x')).status).toBe(200)
  })

  test.each([
    ['pass', 'front.test'],
    ['node', '127.0.0.1:PORT'],
    ['rewrite', 'inner.test:81'],
  ])('pass_host: %s', async (mode, expected) => {
    expect((await get(`/host-${mode}/x`)).status).toBe(200)
    const request = good.requests.find((item) => item.target === `/host-${mode}/x`)
    expect(valuesOf(request?.fields ?? [], 'host')).toEqual([expected.replace('PORT', String(good.port))])
  })

  test('a Unix socket', async () => {
    expect(textOf(await get('/unix/x'))).toBe('unix')
  })

  test('a name', async () => {
    expect((await get('/name/x')).status).toBe(200)
  })

  test('a refused connection is tried at the next node, also for POST', async () => {
    for (let number = 0; number < 4; number++) {
      expect((await get('/retries/x')).status).toBe(200)
      const post = 'POST /retries/post HTTP/1.1\r\nHost: front.test\r\nContent-Length: 5\r\n\r\nabcde'
      expect((await (await client()).request(post)).status).toBe(200)
    }
    const posts = good.requests.filter((item) => item.target === '/retries/post')
    expect(posts.map((item) => Buffer.concat(item.body).toString())).toEqual(posts.map(() => 'abcde'))
    expect(posts).toHaveLength(4)
  })

  test('retries: 0 means none', async () => {
    const statuses = [(await get('/no-retries/x')).status, (await get('/no-retries/x')).status]
    expect(statuses.sort()).toEqual([200, 502])
  })

  test('nobody there: 502 that says so', async () => {
    const response = await get('/dead/x')
    expect(response.status).toBe(502)
    expect(JSON.parse(textOf(response))).toMatchObject({ reason: 'UPSTREAM_CONNECT_FAILED', request_id: expect.stringMatching(/.+/) })
    expect(fieldOf(response, 'content-type')).toContain('application/json')
  })

  test('a lower priority is used when the higher one fails', async () => {
    expect((await get('/backup/x')).status).toBe(200)
  })

  test('no nodes: 503', async () => {
    const response = await get('/empty/x')
    expect([response.status, JSON.parse(textOf(response)).reason]).toEqual([503, 'NO_NODES'])
  })

  test('no answer in time: 504', async ({ annotate }) => {
    good.answer = () => undefined
    const started = performance.now()
    const response = await get('/slow/x')
    expect([response.status, JSON.parse(textOf(response)).reason]).toEqual([504, 'UPSTREAM_READ_TIMEOUT'])
    await annotate(`504 after ${Math.round(performance.now() - started)} ms`, 'time')
  })

  test('a slow answer within the time is no timeout, however long the body takes', async () => {
    let longestMs = 0
    good.answer = (_, { socket }) => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n')
      longestMs = 0
      let sent = 0
      let lastMs = performance.now()
      const timer = setInterval(() => {
        socket.write('x')
        longestMs = Math.max(longestMs, performance.now() - lastMs)
        lastMs = performance.now()
        if (++sent === 5) clearInterval(timer)
      }, 250)
      return undefined
    }
    const ask = () => get('/trickle/body').then(textOf, () => 'cut')
    // An attempt at which this process itself stood still says nothing about the gateway.
    let body = await ask()
    while (longestMs > 700) body = await ask()
    expect(body).toBe('xxxxx')
  })

  test.each(['tls-verified', 'tls-unverified'])('%s: reached, with a client certificate', async (id) => {
    const response = await get(`/${id}/x`)
    expect([response.status, textOf(response)]).toEqual([200, 'secure'])
    expect(valuesOf(secure.requests.at(-1)?.fields ?? [], 'host')).toEqual(['secure.test'])
  })

  test.each(['tls-stranger', 'tls-wrong-name', 'tls-no-certificate', 'tls-on-plain'])(
    '%s: an error, and no request goes out',
    async (id) => {
      const before = secure.requests.length + good.requests.length
      const response = await get(`/${id}/x`)
      // a server that never answers the handshake shows as a timeout
      expect(response.status).toBe(id === 'tls-on-plain' ? 504 : 502)
      expect(secure.requests.length + good.requests.length).toBe(before)
    },
  )
})
