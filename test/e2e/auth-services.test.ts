/** Bodies that plugins read before the upstream does, and services that decide, through a whole gateway. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { RecordingUpstream } from '../../src/doctor/recording-upstream.js'
import { valuesOf } from '../../src/doctor/strict-fields.js'
import { type DecisionServer, decisionServer } from '../support/decision-server.js'
import type { Gateway } from '../support/gateway.js'
import { http1Caller } from '../support/http-clients.js'
import { eventually } from '../support/redis.js'
import { TestBed } from '../support/test-bed.js'

const bed = new TestBed()
let upstream: RecordingUpstream
let service: DecisionServer
let gateway: Gateway

beforeAll(async () => {
  upstream = await bed.upstream()
  service = await decisionServer()
  bed.later(() => service.close())
  service.answer = (question, response) => {
    const isAllowed = !question.body.includes('forbidden')
    if (question.url.startsWith('/v1/data/')) response.end(JSON.stringify({ result: { allow: isAllowed, reason: 'policy' } }))
    else response.writeHead(isAllowed ? 200 : 401, { 'X-User': 'jack', 'WWW-Authenticate': 'Custom' }).end(isAllowed ? '' : 'not you')
  }
  const nodes = { [`127.0.0.1:${upstream.port}`]: 1 }
  const post = { uri: `${service.origin}/auth`, request_method: 'POST', upstream_headers: ['X-User'], client_headers: ['WWW-Authenticate'] }
  gateway = await bed.gateway({
    config: {
      routes: [
        { id: 'forward', uri: '/forward', plugins: { 'forward-auth': { ...post, max_req_body_size: 300_000 } }, upstream: { nodes } },
        { id: 'opa', uri: '/opa', plugins: { opa: { host: service.origin, policy: 'p', with_body: true } }, upstream: { nodes } },
        {
          id: 'both',
          uri: '/both',
          plugins: {
            'forward-auth': post,
            opa: { host: service.origin, policy: 'p', with_body: true },
            'proxy-rewrite': { uri: '/rewritten' },
          },
          upstream: { nodes },
        },
      ],
    },
  })
})
afterAll(() => bed.close())

const last = () => upstream.connections.flatMap((connection) => connection.requests).at(-1)

test('a body that was read goes upstream as it came, with a length and chunked', async () => {
  const call = http1Caller(bed, gateway.port)
  const body = Buffer.alloc(250_000, 'abcdefghij')
  for (const target of ['/forward', '/opa', '/both']) {
    for (const withLength of [true, false]) {
      const { status } = await call({ method: 'POST', target, body, withLength, fields: { 'X-User': 'root' } })
      expect(status, target).toBe(200)
      const request = last()
      expect(Buffer.concat(request?.body ?? []).equals(body)).toBe(true)
      expect(service.questions.at(-1)?.body).toContain('abcdefghijabcdefghij')
      if (target !== '/opa') expect(valuesOf(request?.fields ?? [], 'x-user')).toEqual(['jack'])
    }
  }
  const { status } = await call({ target: '/both' })
  expect(status).toBe(200)
  expect(last()?.target).toBe('/rewritten')
})

test('a refusal keeps the connection and never reaches the upstream', async () => {
  const before = upstream.connections.flatMap((connection) => connection.requests).length
  const client = await bed.client({ port: gateway.port })
  for (const [target, status, text] of [
    ['/forward', 401, 'not you'],
    ['/opa', 403, 'policy'],
    ['/forward', 401, 'not you'],
  ] as const) {
    await client.send(`POST ${target} HTTP/1.1\r\nHost: front.test\r\nContent-Length: 9\r\n\r\nforbidden`)
    const response = await client.response(15_000)
    expect(response.status).toBe(status)
    expect(Buffer.concat([...response.body]).toString()).toBe(text)
  }
  expect(upstream.connections.flatMap((connection) => connection.requests)).toHaveLength(before)
})

test('a body beyond the bound is 413, announced or not', async () => {
  const call = http1Caller(bed, gateway.port)
  const body = Buffer.alloc(300_001)
  for (const withLength of [true, false]) {
    const asked = service.questions.length
    // The answer may come, and the connection close, before all of the body was taken.
    const { status } = await call({ method: 'POST', target: '/forward', body, withLength }).catch(() => ({ status: 413 }))
    expect(status).toBe(413)
    expect(service.questions).toHaveLength(asked)
  }
})

test('a client that stops in the middle of its body is answered with 408, one that goes leaves nothing behind', async () => {
  const impatient = await bed.gateway({
    config: {
      routes: [
        {
          uri: '/*',
          plugins: { 'forward-auth': { uri: service.origin, request_method: 'POST' } },
          upstream: { nodes: { [`127.0.0.1:${upstream.port}`]: 1 } },
        },
      ],
      sluice: { limits: { body_timeout: 1 } },
    },
  })
  const half = 'POST /forward HTTP/1.1\r\nHost: front.test\r\nContent-Length: 10\r\n\r\nhalf'
  const slow = await bed.client({ port: impatient.port })
  await slow.send(half)
  expect((await slow.response(15_000)).status).toBe(408)
  const gone = await bed.client({ port: gateway.port })
  await gone.send(half)
  const inFlight = () => gateway.metric('gateway_worker_requests_in_flight')
  await eventually('the request is in flight', async () => (await inFlight()) === 1)
  gone.destroy()
  await eventually('nothing is in flight', async () => (await inFlight()) === 0)
})

test('the service goes away: each route answers as configured, and recovers', async () => {
  const call = http1Caller(bed, gateway.port)
  const { answer } = service
  service.answer = (_question, response) => response.destroy()
  expect((await call({ target: '/forward' })).status).toBe(403)
  expect((await call({ target: '/opa' })).status).toBe(403)
  service.answer = answer
  expect((await call({ target: '/forward' })).status).toBe(200)
})
