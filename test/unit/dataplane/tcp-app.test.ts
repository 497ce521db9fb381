/** Listeners of kind tcp on real sockets of this process: what holds beyond one connection. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { nowMs } from '../../../src/base/clock.js'
import type { NodeLimits } from '../../../src/dataplane/listener/node-app.js'
import { shareAmongListeners, TcpApp, type TcpShared, type TcpTimeouts } from '../../../src/dataplane/listener/tcp-app.js'
import { tcpBinding } from '../../../src/dataplane/listener/tcp-binding.js'
import { findRawSockets, rawSockets } from '../../../src/dataplane/tcp/handle.js'
import { bindSharedPort, canSharePorts, isBindable } from '../../../src/dataplane/tcp/shared-port.js'

const limits: NodeLimits = {
  maxHeaderBytes: 65_536,
  maxHeaderCount: 48,
  maxTargetBytes: 16_384,
  maxConnections: 1000,
  bodyTimeoutMs: 60_000,
  sendTimeoutMs: 60_000,
}
const GET = 'GET / HTTP/1.1\r\nHost: a.test\r\n\r\n'

const apps: TcpApp[] = []
const sockets: Socket[] = []
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy()
  for (const app of apps.splice(0)) app.close()
})

function shared(): TcpShared {
  const found = rawSockets()
  if (found === null) throw new Error('this Node has no raw sockets')
  return shareAmongListeners(found)
}

/** A listener that answers with `said`. */
function listen(said: string, host = '127.0.0.1', of = shared()): TcpApp {
  const app = new TcpApp(of, limits)
  apps.push(app)
  app.any('/*', (client) => void client.writeStatus('200 OK').end(said))
  let hasOpened = false
  app.listen(host, 0, 0, (socket) => {
    hasOpened = socket !== false
  })
  expect(hasOpened).toBe(true)
  return app
}

/** The answer to each request on one connection. */
async function client(port: number, host = '127.0.0.1'): Promise<{ socket: Socket; ask(): Promise<string> }> {
  const socket = connect(port, host)
  sockets.push(socket)
  await once(socket, 'connect')
  return {
    socket,
    ask: async () => {
      socket.write(GET)
      const [bytes] = (await once(socket, 'data')) as [Buffer]
      return bytes.toString().split('\r\n\r\n')[1] ?? ''
    },
  }
}

test('listeners of one thread share their memory and keep apart', async () => {
  const of = shared()
  const [one, two] = [listen('one', '127.0.0.1', of), listen('two', '::', of)]
  const clients = await Promise.all([client(one.port), client(two.port, '::1'), client(two.port)])
  for (let round = 0; round < 5; round++) {
    expect(await Promise.all(clients.map((each) => each.ask()))).toEqual(['one', 'two', 'two'])
  }
  one.close()
  await once((clients[0] as (typeof clients)[0]).socket, 'close')
  expect(await clients[1]?.ask()).toBe('two')
})

test('what came in time, while the thread stood still, is answered and not timed out', async () => {
  const app = listen('in time')
  const timeouts: { -readonly [Key in keyof TcpTimeouts]: number } = app.timeouts
  const [busy, fresh] = await Promise.all([client(app.port), client(app.port)])
  expect(await busy.ask()).toBe('in time')
  timeouts.keepAliveMs = 300
  timeouts.headMs = 300
  // As the sweep of a worker does.
  const clock = setInterval(nowMs, 20)
  const answers = Promise.all([busy.ask(), fresh.ask()])
  // Longer than it takes until timeouts are looked at.
  for (const endMs = nowMs() + 1500; nowMs() < endMs; );
  expect(await answers).toEqual(['in time', 'in time'])
  // Then they are idle, and closed.
  await Promise.all([once(busy.socket, 'close'), once(fresh.socket, 'close')])
  clearInterval(clock)
})

describe('addresses', () => {
  test('that are not free, or not of this machine, fail with the reason of the system', () => {
    const app = listen('here')
    expect(bindSharedPort('192.0.2.1', 0)).toBe(-99)
    // Sharing is for sockets that all ask for it.
    const taken = bindSharedPort('127.0.0.1', app.port)
    expect(taken).toBeGreaterThan(0)
    let answer: unknown = null
    new TcpApp(shared(), limits).listen('192.0.2.1', 0, 0, (socket) => {
      answer = socket
    })
    expect(answer).toBe(false)
  })

  test('are bound by number, not by name', () => {
    expect(['0.0.0.0', '::', '::1', '127.0.0.1'].every(isBindable)).toBe(true)
    expect(['localhost', '', '1.2.3', '/path'].some(isBindable)).toBe(false)
  })
})

test('without the insides of Node there is no such listener, and no exception', () => {
  expect(canSharePorts()).toBe(true)
  expect(tcpBinding(limits, null)).toBeNull()
  expect(
    tcpBinding(
      limits,
      findRawSockets(() => undefined),
    ),
  ).toBeNull()
  const binding = tcpBinding(limits)
  expect(binding?.name).toBe('tcp')
  expect(() => binding?.createApp({ key_file_name: 'x', cert_file_name: 'x' })).toThrow('has no TLS')
})
