/** What clients with open connections are told when the gateway drains. */
import { once } from 'node:events'
import { createServer, type Server, type ServerResponse } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Gateway } from '../support/gateway.js'

const waitMs = 60_000

/** Holds every answer back until the test gives it. */
let upstream: Server
let held: ServerResponse[]
let gateway: Gateway | undefined

beforeEach(async () => {
  held = []
  upstream = createServer((request, response) => {
    request.resume()
    held.push(response)
  })
  upstream.listen(0, '127.0.0.1')
  await once(upstream, 'listening')
})

afterEach(async () => {
  upstream.close()
  upstream.closeAllConnections()
  await gateway?.discard()
  gateway = undefined
})

/** `open`, or the code of the error. */
async function tryConnect(toPort: number): Promise<unknown> {
  const socket = connect(toPort, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return 'open'
  } catch (error) {
    return error instanceof Error && 'code' in error ? error.code : error
  } finally {
    socket.destroy()
  }
}

/** A connection that a client means to keep; `received` grows as bytes arrive. */
async function keptConnection(toPort: number) {
  const socket = connect(toPort, '127.0.0.1')
  const client = { received: '', isClosed: false, send: (text: string) => socket.write(text) }
  socket.setEncoding('latin1')
  socket.on('data', (text: string) => {
    client.received += text
  })
  socket.once('close', () => {
    client.isClosed = true
  })
  await once(socket, 'connect')
  return client
}

describe('SIGTERM', () => {
  for (const [name, request] of [
    ['a request that waits for its upstream', 'GET /held HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['an upload that waits for its upstream', 'POST /held HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab'],
  ] as const) {
    test(`${name} is answered with Connection: close`, async () => {
      const { port } = upstream.address() as AddressInfo
      const config = { routes: [{ id: 'all', uri: '/*', upstream: { nodes: { [`127.0.0.1:${port}`]: 1 } } }] }
      gateway = await Gateway.start({ config })
      const gatewayPort = gateway.port
      const client = await keptConnection(gatewayPort)
      client.send(request)
      await expect.poll(() => held.length, { timeout: waitMs }).toBe(1)
      gateway.process.send('SIGTERM')
      await expect.poll(() => tryConnect(gatewayPort), { timeout: waitMs }).toBe('ECONNREFUSED')
      for (const response of held) response.end('at last')
      await expect.poll(() => client.isClosed, { timeout: waitMs }).toBe(true)
      expect(client.received).toMatch(/^HTTP\/1\.1 200 OK\r\n(?:.+\r\n)*connection: close\r\n(?:.+\r\n)*\r\nat last$/i)
    })
  }
})
