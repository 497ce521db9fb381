/**
 * Raw sockets against `node:net` on the other side, on loopback and a unix socket: what the callers may rely on, and that a Node
 * without them is recognised. Every wait is for an event.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import {
  errorName,
  findRawSockets,
  QUEUED,
  type RawSockets,
  rawSockets,
  type StreamHandle,
  type TcpHandle,
  WRITTEN,
} from '../../../src/dataplane/tcp/handle.js'

const cleanups: (() => void)[] = []
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup()
})

function sockets(): RawSockets {
  const raw = rawSockets()
  if (raw === null) throw new Error('this Node has no raw sockets')
  return raw
}

/** A raw side with its own notes of what happened on it. */
class Side {
  readonly buffer = Buffer.alloc(65536)
  readonly pieces: Buffer[] = []
  readonly statuses: { readonly status: number; readonly bytes: Uint8Array | null }[] = []
  end: number | null = null
  isClosed = false
  onPiece: () => void = () => {}
  private wake: () => void = () => {}

  constructor(readonly handle: StreamHandle) {
    cleanups.push(() => this.close())
  }

  read(): number {
    return sockets().read(this.handle, this.buffer, this)
  }

  onRead(length: number): void {
    this.pieces.push(Buffer.from(this.buffer.subarray(0, length)))
    this.onPiece()
    this.wake()
  }

  onReadEnd(error: number): void {
    this.end = error
    this.wake()
  }

  written(status: number, bytes: Uint8Array | null): void {
    this.statuses.push({ status, bytes })
    this.wake()
  }

  get text(): string {
    return Buffer.concat(this.pieces).toString('latin1')
  }

  close(): void {
    if (this.isClosed) return
    this.isClosed = true
    this.handle.close()
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => (this.wake = resolve))
  }
}

/** A raw server that hands out its connections. */
function listen(): { readonly port: number; accepted(): Promise<Side & { readonly handle: TcpHandle }> } {
  const raw = sockets()
  const server = raw.server()
  cleanups.push(() => server.close())
  expect(server.bind('127.0.0.1', 0)).toBe(0)
  const waiting: ((handle: TcpHandle) => void)[] = []
  const come: TcpHandle[] = []
  const acceptor = {
    accepted(handle: TcpHandle) {
      const first = waiting.shift()
      if (first === undefined) come.push(handle)
      else first(handle)
    },
    acceptFailed(error: number) {
      throw new Error(errorName(error))
    },
  }
  expect(raw.listen(server, 16, acceptor)).toBe(0)
  const port = raw.local(server)?.port ?? 0
  expect(port).toBeGreaterThan(0)
  return {
    port,
    async accepted() {
      const handle = come.shift() ?? (await new Promise<TcpHandle>((resolve) => waiting.push(resolve)))
      return new Side(handle) as Side & { readonly handle: TcpHandle }
    },
  }
}

function client(port: number): Socket {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  socket.on('error', () => {})
  cleanups.push(() => socket.destroy())
  return socket
}

async function pair(): Promise<[Side & { readonly handle: TcpHandle }, Socket]> {
  const server = listen()
  const far = client(server.port)
  await once(far, 'connect')
  return [await server.accepted(), far]
}

async function connected(connecting: (done: (status: number) => void) => number): Promise<number> {
  return await new Promise<number>((resolve) => {
    const error = connecting(resolve)
    if (error < 0) resolve(error)
  })
}

describe('a server', () => {
  test('reads and writes bytes and text, and knows both addresses', async () => {
    const [near, far] = await pair()
    expect(sockets().peer(near.handle)).toEqual({ address: '127.0.0.1', port: far.localPort })
    expect(sockets().local(near.handle)).toEqual({ address: '127.0.0.1', port: far.remotePort })
    expect([near.handle.setNoDelay(true), near.handle.setKeepAlive(true, 60), near.read()]).toEqual([0, 0, 0])
    far.write('ping')
    await near.until(() => near.text === 'ping')
    expect(sockets().writeLatin1(near.handle, 'a\u00e9', near)).toBe(WRITTEN)
    expect(sockets().writeUtf8(near.handle, 'b\u00e9', near)).toBe(WRITTEN)
    expect(sockets().writeBytes(near.handle, Buffer.from('c'), near)).toBe(WRITTEN)
    expect(near.statuses).toEqual([])
    near.close()
    expect(Buffer.concat(await far.toArray()).toString('latin1')).toBe('a\u00e9b\u00c3\u00a9c')
  })

  test('stops and starts reading', async () => {
    const [near, far] = await pair()
    near.read()
    near.onPiece = () => near.handle.readStop()
    far.write('first')
    await near.until(() => near.pieces.length === 1)
    await new Promise((resolve) => far.write('second', resolve))
    // Somebody else's bytes come behind it.
    const [other, late] = await pair()
    other.read()
    late.write('late')
    await other.until(() => other.text === 'late')
    expect(near.text).toBe('first')
    near.handle.readStart()
    await near.until(() => near.text === 'firstsecond')
  })

  test('is told how the other side ends, and can still answer an end', async () => {
    const [near, far] = await pair()
    near.read()
    far.end('bye')
    await near.until(() => near.end !== null)
    expect([near.text, near.end]).toEqual(['bye', 0])
    const ended = once(far, 'end')
    far.resume()
    expect(sockets().writeLatin1(near.handle, 'answer', near)).toBe(WRITTEN)
    expect(await connected((done) => sockets().shutdown(near.handle, done))).toBe(0)
    await ended

    const [other, broken] = await pair()
    other.read()
    broken.resetAndDestroy()
    await other.until(() => other.end !== null)
    expect(errorName(other.end ?? 0)).toBe('ECONNRESET')
    expect(sockets().writeLatin1(other.handle, 'x', other)).toBeLessThan(0)
  })

  test('resets', async () => {
    const [near, far] = await pair()
    const failed = once(far, 'error')
    near.isClosed = true
    sockets().reset(near.handle)
    expect(await failed).toMatchObject([{ code: 'ECONNRESET' }])
  })

  test('may close within a read, which then is the last one', async () => {
    const [near, far] = await pair()
    near.onPiece = () => near.close()
    near.read()
    far.write('x'.repeat(500_000))
    const closed = new Promise((resolve) => far.once('close', resolve))
    await near.until(() => near.pieces.length === 1)
    await closed
    expect([near.pieces.length, near.end]).toEqual([1, null])
  })

  test('what a read throws is an uncaught exception', async () => {
    const [near, far] = await pair()
    near.onPiece = () => {
      throw new Error('thrown in a read')
    }
    near.read()
    const others = process.listeners('uncaughtException')
    process.removeAllListeners('uncaughtException')
    const caught = once(process, 'uncaughtException')
    far.write('x')
    expect(await caught).toMatchObject([{ message: 'thrown in a read' }, 'uncaughtException'])
    for (const other of others) process.on('uncaughtException', other)
    near.onPiece = () => {}
    far.write('y')
    await near.until(() => near.text === 'xy')
  })

  test('takes over a file descriptor that listens', async () => {
    const listening = createServer().listen(0, '127.0.0.1')
    await once(listening, 'listening')
    const { port } = listening.address() as AddressInfo
    const descriptor: unknown = Reflect.get(Object(Reflect.get(listening, '_handle')), 'fd')
    const file = new URL('../../../dist/dataplane/tcp/handle.js', import.meta.url).href
    const script = `
      const { rawSockets } = await import(${JSON.stringify(file)})
      const raw = rawSockets()
      const server = raw.server()
      const errors = [server.open(3)]
      const acceptor = { acceptFailed() {}, accepted(handle) {
        raw.writeLatin1(handle, errors.join() + ' ' + raw.local(server).port + ' ' + raw.peer(handle).port, acceptor)
        handle.close()
        server.close()
      } }
      errors.push(raw.listen(server, 16, acceptor))`
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'inherit', 'inherit', Number(descriptor)],
    })
    cleanups.push(() => child.kill())
    const exit = once(child, 'exit')
    // Only the child accepts.
    listening.close()
    const far = connect({ port, host: '127.0.0.1' })
    cleanups.push(() => far.destroy())
    await once(far, 'connect')
    const ownPort = far.localPort
    expect(Buffer.concat(await far.toArray()).toString()).toBe(`0,0 ${port} ${ownPort}`)
    expect(await exit).toEqual([0, null])
  })
})

describe('a queued write', () => {
  /** Writes until the kernel takes no more; what was written. */
  function fill(near: Side): { readonly sent: Buffer[]; readonly queued: Buffer[] } {
    const sent: Buffer[] = []
    const queued: Buffer[] = []
    while (queued.length < 3) {
      const piece = Buffer.alloc(300_000 + sent.length, sent.length)
      const result = sockets().writeBytes(near.handle, piece, near)
      sent.push(piece)
      if (result === QUEUED) queued.push(piece)
      else expect(result).toBe(WRITTEN)
    }
    return { sent, queued }
  }

  test('is called back when its memory is free, in order', async () => {
    const [near, far] = await pair()
    const { sent, queued } = fill(near)
    expect(sockets().writeLatin1(near.handle, 'the end', near)).toBe(QUEUED)
    expect(near.statuses).toEqual([])
    const all = far.toArray()
    await near.until(() => near.statuses.length === 4)
    expect(near.statuses.map(({ status }) => status)).toEqual([0, 0, 0, 0])
    for (const [index, piece] of [...queued, null].entries()) expect(near.statuses[index]?.bytes).toBe(piece)
    near.close()
    expect(Buffer.concat(await all).equals(Buffer.concat([...sent, Buffer.from('the end')]))).toBe(true)
  })

  test('fails with the handle', async () => {
    const [near] = await pair()
    fill(near)
    near.close()
    await near.until(() => near.statuses.length === 3)
    expect(near.statuses.map(({ status }) => errorName(status))).toEqual(['ECANCELED', 'ECANCELED', 'ECANCELED'])

    const [other, far] = await pair()
    fill(other)
    far.resetAndDestroy()
    await other.until(() => other.statuses.length === 3)
    expect(['EPIPE', 'ECONNRESET']).toContain(errorName(other.statuses[0]?.status ?? 0))
  })
})

describe('a client', () => {
  test('connects over TCP and a unix socket', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'raw-'))
    cleanups.push(() => rmSync(folder, { recursive: true }))
    const path = join(folder, 'socket')
    for (const where of [{ port: 0, host: '127.0.0.1' }, { path }]) {
      const server = createServer((socket) => socket.pipe(socket)).listen(where)
      await once(server, 'listening')
      cleanups.push(() => server.close())
      const address = server.address()
      const raw = sockets()
      const tcp = raw.tcp()
      const isTcp = typeof address === 'object' && address !== null
      const near = new Side(isTcp ? tcp : raw.pipe())
      if (!isTcp) tcp.close()
      const connecting = (done: (status: number) => void) =>
        isTcp ? raw.connect(tcp, address.address, address.port, done) : raw.connectPipe(near.handle, path, done)
      expect(await connected(connecting)).toBe(0)
      expect(near.read()).toBe(0)
      expect(raw.writeUtf8(near.handle, 'ping', near)).toBe(WRITTEN)
      await near.until(() => near.text === 'ping')
    }
  })

  test('is told why it could not', async () => {
    const raw = sockets()
    const { port } = listen()
    for (const cleanup of cleanups.splice(0)) cleanup()
    const refused = raw.tcp()
    expect(errorName(await connected((done) => raw.connect(refused, '127.0.0.1', port, done)))).toBe('ECONNREFUSED')
    refused.close()
    const nowhere = raw.tcp()
    expect(errorName(await connected((done) => raw.connect(nowhere, 'localhost', 80, done)))).toBe('EINVAL')
    nowhere.close()
    const pipe = raw.pipe()
    expect(errorName(await connected((done) => raw.connectPipe(pipe, '/nowhere/at/all', done)))).toBe('ENOENT')
    pipe.close()
    const six = raw.tcp()
    expect(await connected((done) => raw.connect(six, '::1', port, done))).toBeLessThan(0)
    six.close()
    const early = raw.tcp()
    const status = connected((done) => raw.connect(early, '127.0.0.1', port, done))
    early.close()
    expect(errorName(await status)).toBe('ECANCELED')
  })
})

describe('a Node without', () => {
  const real = (name: string): unknown => Reflect.apply(Reflect.get(process, 'binding') as (name: string) => unknown, process, [name])

  test('is recognised, whatever is missing', () => {
    expect(findRawSockets(real)).not.toBeNull()
    for (const missing of ['tcp_wrap', 'pipe_wrap', 'stream_wrap']) {
      expect(findRawSockets((name) => (name === missing ? undefined : real(name)))).toBeNull()
      for (const field of [
        'TCP',
        'TCPConnectWrap',
        'Pipe',
        'WriteWrap',
        'ShutdownWrap',
        'streamBaseState',
        'kLastWriteWasAsync',
        'constants',
      ]) {
        const binding = Object(real(missing)) as object
        if (!(field in binding)) continue
        expect(findRawSockets((name) => (name === missing ? { ...binding, [field]: undefined } : real(name)))).toBeNull()
        expect(findRawSockets((name) => (name === missing ? { ...binding, [field]: 'other' } : real(name)))).toBeNull()
      }
    }
    const { TCP } = real('tcp_wrap') as { readonly TCP: { readonly prototype: object } }
    for (const method of ['reset', 'useUserBuffer', 'writeLatin1String', 'readStop']) {
      const prototype = Object.create(TCP.prototype, { [method]: { value: undefined } })
      const other = Object.assign(() => {}, { prototype })
      expect(findRawSockets((name) => (name === 'tcp_wrap' ? { ...Object(real(name)), TCP: other } : real(name)))).toBeNull()
    }
    const forbidden = findRawSockets(() => {
      throw new Error('Access to this API has been restricted')
    })
    expect(forbidden).toBeNull()
  })
})
