/** Questions of plugins to other services, over real sockets: every way they can go wrong is bounded and says what it was. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import type { HttpSettings } from '../../../src/base/http-client.js'
import { HttpClients } from '../../../src/dataplane/outbound/http-clients.js'

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

async function serve(handler: (request: IncomingMessage, response: ServerResponse) => void): Promise<{ server: Server; origin: string }> {
  const server = createServer(handler)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closing.push(() => {
    server.closeAllConnections()
    server.close()
  })
  return { server, origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

function settings(origin: string, other: Partial<HttpSettings> = {}): HttpSettings {
  return { origin, timeoutMs: 60_000, connections: 4, keepaliveMs: 10_000, verifyTls: true, maxResponseBytes: 1000, ...other }
}

function clients(): HttpClients {
  const made = new HttpClients()
  closing.push(() => made.close())
  return made
}

test('sends method, path, headers and body, and gives status, headers and body', async () => {
  const { origin } = await serve((request, response) => {
    let body = ''
    request.setEncoding('utf8').on('data', (chunk: string) => {
      body += chunk
    })
    request.on('end', () => {
      response.writeHead(418, { 'X-One': '1', 'X-Two': ['a', 'b'] })
      response.end(`${request.method} ${request.url} ${request.headers['x-q']} ${body}`)
    })
  })
  const answer = await clients()
    .client(settings(origin))
    .ask({ method: 'POST', path: '/a?b=c', headers: ['X-Q', 'ä'], body: 'hello' })
  expect(answer.status).toBe(418)
  // Node reads one character per byte: these are the two bytes of the UTF-8 letter.
  expect(answer.body.toString('utf8')).toBe('POST /a?b=c \u00c3\u00a4 hello')
  expect(answer.header('x-one')).toBe('1')
  expect(answer.header('x-two')).toBe('a, b')
  expect(answer.headerLines('x-two')).toEqual(['a', 'b'])
  expect(answer.header('constructor')).toBeUndefined()
})

test('keeps a connection when told to, and only then', async () => {
  const { origin, server } = await serve((_request, response) => response.end('ok'))
  let connections = 0
  server.on('connection', () => connections++)
  const made = clients()
  // A second client with the same settings shares the connections of the first.
  for (let turn = 0; turn < 6; turn++) await made.client(settings(origin)).ask({ method: 'GET', path: '/', headers: [] })
  // The library may open a second one while the first is being freed.
  expect(connections).toBeLessThanOrEqual(2)
  const kept = connections
  const single = made.client(settings(origin, { keepaliveMs: 0 }))
  for (let turn = 0; turn < 3; turn++) await single.ask({ method: 'GET', path: '/', headers: [] })
  expect(connections - kept).toBe(3)
})

test('a service that does not answer costs the deadline, also for those that wait for a connection', async () => {
  const { origin } = await serve(() => {})
  const client = clients().client(settings(origin, { timeoutMs: 100, connections: 1 }))
  const asked = [1, 2, 3].map(() => client.ask({ method: 'GET', path: '/', headers: [] }))
  for (const one of asked) await expect(one).rejects.toMatchObject({ name: 'HttpClientError', failure: 'timeout' })
})

test('an answer that is too long, a closed port, a broken connection, a header that cannot be sent', async () => {
  const { origin } = await serve((request, response) => {
    if (request.url === '/long') response.end('x'.repeat(1001))
    else request.socket.destroy()
  })
  const made = clients()
  const client = made.client(settings(origin))
  await expect(client.ask({ method: 'GET', path: '/long', headers: [] })).rejects.toMatchObject({ failure: 'too-large' })
  await expect(client.ask({ method: 'GET', path: '/cut', headers: [] })).rejects.toMatchObject({ failure: 'unreachable' })
  const bad = client.ask({ method: 'GET', path: '/', headers: ['X-A', 'secret\r\nX-B: 1'] })
  await expect(bad).rejects.toMatchObject({ failure: 'invalid', message: expect.not.stringContaining('secret') })
  const closed = await serve(() => {})
  await new Promise((resolve) => closed.server.close(resolve))
  await expect(made.client(settings(closed.origin)).ask({ method: 'GET', path: '/', headers: [] })).rejects.toMatchObject({
    failure: 'unreachable',
    message: `${closed.origin} could not be asked (ECONNREFUSED)`,
  })
})

test('too many questions at once are refused without waiting', async () => {
  const { origin } = await serve(() => {})
  const made = clients()
  const client = made.client(settings(origin, { connections: 1, timeoutMs: 60_000 }))
  const waiting = Array.from({ length: 1024 }, () => client.ask({ method: 'GET', path: '/', headers: [] }).catch((error: unknown) => error))
  await expect(client.ask({ method: 'GET', path: '/', headers: [] })).rejects.toMatchObject({ failure: 'busy' })
  await made.close()
  expect(await Promise.all(waiting)).toHaveLength(1024)
})
