/** Pipelining toward upstreams that close, answer twice or dawdle: every client gets its own answer, or an error. */
import { afterEach, expect, test } from 'vitest'
import { textOf } from '../../src/doctor/raw-connection.js'
import { lengthResponse, type RecordingUpstream } from '../../src/doctor/recording-upstream.js'
import type { StrictRequest } from '../../src/doctor/strict-request.js'
import { type Gateway, proxyTo } from '../support/gateway.js'
import { TestBed } from '../support/test-bed.js'

const CLIENTS = 32
const REQUESTS = 20

const bed = new TestBed()
afterEach(() => bed.close())

const own = (request: StrictRequest): Buffer => lengthResponse(request.target)

async function start(upstream: RecordingUpstream): Promise<Gateway> {
  const config = proxyTo(
    upstream.port,
    { keepalive_pool: { size: 4, pipelining: 16 }, timeout: { connect: 60, send: 60, read: 60 } },
    { log: { level: 'error' } },
  )
  return bed.gateway({ config })
}

/** Every client sends its requests one after another; returns what did not come back as it should. */
async function load(gateway: Gateway, method = 'GET'): Promise<string[]> {
  const wrong: string[] = []
  const one = async (index: number): Promise<void> => {
    const client = await bed.client({ port: gateway.port })
    for (let number = 0; number < REQUESTS; number++) {
      const target = `/${index}/${number}`
      const body = method === 'POST' ? 'Content-Length: 1\r\n\r\nx' : '\r\n'
      const response = await client.request(`${method} ${target} HTTP/1.1\r\nHost: a.test\r\n${body}`)
      if (response.status !== 200 || textOf(response) !== target)
        wrong.push(`${target}: ${response.status} ${textOf(response).slice(0, 60)}`)
    }
  }
  await Promise.all(Array.from({ length: CLIENTS }, (_, index) => one(index)))
  return wrong
}

test('a good upstream: several requests share a connection, answers keep their owners', async () => {
  const upstream = await bed.upstream({ answer: own })
  const gateway = await start(upstream)
  expect(await load(gateway)).toEqual([])
  expect(upstream.requests).toHaveLength(CLIENTS * REQUESTS)
  expect(upstream.connections.length).toBeLessThan(CLIENTS)
})

test('an upstream that closes in the middle of the pipeline: safe requests are sent again', async () => {
  const upstream = await bed.upstream({
    answer: (request, connection) => {
      const count = connection.requests.length
      if (count < 7) return own(request)
      if (count === 7) connection.socket.end(own(request))
      return undefined
    },
  })
  const gateway = await start(upstream)
  expect(await load(gateway)).toEqual([])
})

test('an upstream that announces the close with Connection: close', async () => {
  const upstream = await bed.upstream({
    answer: (request, connection) => {
      const count = connection.requests.length
      if (count < 5) return own(request)
      if (count === 5) connection.socket.end(lengthResponse(request.target, ['Connection: close']))
      return undefined
    },
  })
  const gateway = await start(upstream)
  expect(await load(gateway)).toEqual([])
})

test('POST is never pipelined', async () => {
  const upstream = await bed.upstream({
    answer: (request, connection) => {
      // an answer that comes a turn later would let a second request slip in behind a pipelined one
      setImmediate(() => connection.socket.write(own(request)))
      return undefined
    },
  })
  const gateway = await start(upstream)
  expect(await load(gateway, 'POST')).toEqual([])
  for (const connection of upstream.connections) {
    // with one request at a time, every chunk of bytes on the connection begins a new request
    for (const chunk of connection.chunks) expect(chunk.toString('latin1').match(/POST \//g)?.length ?? 0).toBeLessThanOrEqual(1)
  }
})

test('an extra answer kills the connection and reaches nobody after that', async () => {
  let extra = 1
  const upstream = await bed.upstream({
    answer: (request) => (extra-- > 0 ? Buffer.concat([own(request), lengthResponse('POISON')]) : own(request)),
  })
  const gateway = await start(upstream)
  const client = await bed.client({ port: gateway.port })
  expect(textOf(await client.request('GET /one HTTP/1.1\r\nHost: a.test\r\n\r\n'))).toBe('/one')
  await upstream.until(
    () => upstream.connections[0]?.ended === true || upstream.connections[0]?.closed === true,
    'the end of the poisoned connection',
  )
  expect(await load(gateway)).toEqual([])
})
