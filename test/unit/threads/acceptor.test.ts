/** Accept `primary` with a binding of plain objects: which child is known to which app, and when there is a listen socket. */
import { describe, expect, test } from 'vitest'
import type { Binding, UwsApp } from '../../../src/dataplane/listener/binding.js'
import type { ListenerConfig } from '../../../src/schema/process.js'
import { ListenRefused, PrimaryAcceptor } from '../../../src/threads/acceptor.js'

interface RecordedApp {
  readonly kind: 'plain' | 'tls'
  readonly children: unknown[]
  port: number | null
  isClosed: boolean
}

const plain: ListenerConfig = { host: '127.0.0.1', port: 0, tls: null }
const tls: ListenerConfig = {
  host: '127.0.0.1',
  port: 0,
  tls: { certFile: 'a.crt', keyFile: 'a.key', byServerName: [] },
}
const strict: ListenerConfig = { ...plain, node: { http2: true } }

function setUp(listeners: readonly ListenerConfig[] = [plain]) {
  const apps: RecordedApp[] = []
  const refused: string[] = []
  const state = { refuses: false }
  const createApp = (kind: RecordedApp['kind']): UwsApp => {
    const record: RecordedApp = { kind, children: [], port: null, isClosed: false }
    apps.push(record)
    const app: UwsApp = {
      any: () => app,
      addServerName: () => app,
      domain: () => app,
      listen: (_host, port, _options, callback) => {
        if (record.children.length === 0) throw new Error('listens without children')
        if (!state.refuses) record.port = port
        callback(state.refuses ? false : record)
        return app
      },
      close: () => {
        if (record.port !== null || record.children.length > 0) throw new Error('closed before its children were let go')
        if (record.isClosed) throw new Error('closed twice')
        record.isClosed = true
        return app
      },
      addChildAppDescriptor: (descriptor) => {
        record.children.push(descriptor)
        return app
      },
      removeChildAppDescriptor: (descriptor) => {
        if (record.port !== null && record.children.length === 1) throw new Error('accepts without children')
        record.children.splice(record.children.indexOf(descriptor), 1)
        return app
      },
    }
    return app
  }
  const binding: Binding = {
    name: 'recorded',
    version: '1',
    features: { childApps: true, connectionEvents: false },
    createApp: (files) => createApp(files === null ? 'plain' : 'tls'),
    closeListenSocket: (socket) => {
      const record = apps.find((app) => app === socket)
      if (record !== undefined) record.port = null
    },
    localPort: () => 0,
    forEachHeader: () => {},
  }
  const acceptor = new PrimaryAcceptor({ binding, listeners, onRefused: ({ address }) => refused.push(address) })
  const ports = () => apps.map(({ port }) => port)
  return { acceptor, apps, refused, state, ports }
}

describe('PrimaryAcceptor', () => {
  test('knows the descriptor of each worker at the app of its listener, and listens only when it is opened', async () => {
    const { acceptor, apps, ports } = setUp([plain, tls])
    acceptor.add(0, ['a0', 'b0'])
    acceptor.add(1, ['a1', 'b1'])
    acceptor.add(1, ['a1', 'b1'])
    expect(apps.map(({ kind, children }) => [kind, children])).toEqual([
      ['plain', ['a0', 'a1']],
      ['tls', ['b0', 'b1']],
    ])
    expect(ports()).toEqual([null, null])
    await acceptor.open([8080, 8443])
    expect(ports()).toEqual([8080, 8443])
  })

  test('leaves the strict listener to worker 0', async () => {
    const { acceptor, apps, ports } = setUp([strict, plain])
    acceptor.add(0, [null, 'b0'])
    await acceptor.open([9000, 9001])
    expect(apps.map(({ children }) => children)).toEqual([['b0']])
    expect(ports()).toEqual([9001])
  })

  test('a worker that goes takes its descriptor with it; without workers nothing is accepted until there is one again', async () => {
    const { acceptor, apps, ports } = setUp()
    acceptor.add(0, ['a0'])
    acceptor.add(1, ['a1'])
    await acceptor.open([8080])
    acceptor.remove(0)
    acceptor.remove(0)
    expect(apps[0]?.children).toEqual(['a1'])
    expect(ports()).toEqual([8080])
    acceptor.remove(1)
    expect([apps[0]?.children, ports()]).toEqual([[], [null]])
    acceptor.add(1, ['a1 again'])
    expect([apps[0]?.children, ports()]).toEqual([['a1 again'], [8080]])
  })

  test('max_connections closes the door and opens it again on the same port', async () => {
    const { acceptor, ports } = setUp()
    acceptor.add(0, ['a0'])
    await acceptor.open([8080])
    acceptor.setAccepting(false)
    await expect.poll(ports, { timeout: 60_000 }).toEqual([null])
    acceptor.add(1, ['a1'])
    expect(ports()).toEqual([null])
    acceptor.setAccepting(true)
    expect(ports()).toEqual([8080])
  })

  test('what is opened again before it was closed stays open', async () => {
    const { acceptor, ports } = setUp()
    acceptor.add(0, ['a0'])
    await acceptor.open([8080])
    acceptor.setAccepting(false)
    acceptor.setAccepting(true)
    for (let turn = 0; turn < 1000; turn++) await new Promise((resolve) => setImmediate(resolve))
    expect(ports()).toEqual([8080])
  })

  test('a drained acceptor never opens again; a closed one lets go of everybody first', async () => {
    const { acceptor, apps, ports } = setUp()
    acceptor.add(0, ['a0'])
    await acceptor.open([8080])
    await acceptor.drain()
    expect(ports()).toEqual([null])
    acceptor.setAccepting(true)
    acceptor.add(1, ['a1'])
    expect(ports()).toEqual([null])
    acceptor.close()
    acceptor.close()
    expect(apps).toMatchObject([{ children: [], isClosed: true }])
  })

  test('an address that is refused is named: at the start by rejecting, later through onRefused', async () => {
    const { acceptor, refused, state } = setUp()
    acceptor.add(0, ['a0'])
    state.refuses = true
    await expect(acceptor.open([8080])).rejects.toBeInstanceOf(ListenRefused)
    await expect(acceptor.open([8080])).rejects.toMatchObject({ address: '127.0.0.1:8080' })
    state.refuses = false
    await acceptor.open([8080])
    acceptor.remove(0)
    state.refuses = true
    acceptor.add(0, ['a0'])
    await expect.poll(() => refused, { timeout: 60_000 }).toEqual(['127.0.0.1:8080'])
  })
})
