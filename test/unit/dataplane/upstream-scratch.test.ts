import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { rawSockets } from '../../../src/dataplane/tcp/handle.js'
import { takeScratch, writeScratch } from '../../../src/dataplane/upstream/scratch.js'
import { SocketOpener } from '../../../src/dataplane/upstream/socket-opener.js'
import { Taken, type UpstreamSocket } from '../../../src/dataplane/upstream/upstream-socket.js'
import { nodeOf } from './parts.js'

const closing: { destroy(): void }[] = []
afterEach(() => {
  for (const one of closing.splice(0)) one.destroy()
})

const kinds = [
  ['raw', rawSockets()],
  ['stream', null],
] as const

describe.each(kinds)('a %s socket', (_, raw) => {
  async function socketPair(): Promise<[UpstreamSocket, Socket]> {
    const server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const accepted = once(server, 'connection') as Promise<[Socket]>
    const node = nodeOf({ port: (server.address() as AddressInfo).port })
    const near = await new Promise<UpstreamSocket>((resolve) => {
      const opened = new SocketOpener(node, null, Buffer.alloc(65536), raw).open({
        onConnected: () => resolve(opened),
        onBytes: () => true,
        onEnd: () => {},
        onError: () => {},
        onClosed: () => {},
        onDrained: () => {},
      })
    })
    const [far] = await accepted
    server.close()
    closing.push(near, far)
    return [near, far]
  }

  test('a buffer that the kernel took at once serves again, in its size', async () => {
    const [near] = await socketPair()
    const first = takeScratch(20_000)
    expect(first.length).toBe(32_768)
    expect(takeScratch(20_000)).not.toBe(first)
    expect(writeScratch(near, first, 10)).toBe(Taken.Whole)
    expect(takeScratch(32_768)).toBe(first)
    expect(takeScratch(3 << 20).length).toBe(3 << 20)
  })

  test('what a slow socket still holds is not written over', async () => {
    const [near, far] = await socketPair()
    const sent: Buffer[] = []
    // Until the kernel takes no more, and then some, each piece in memory that an earlier one may have had.
    for (let index = 0, full = 0; full < 20; index++) {
      const length = 100_000 + index
      const buffer = takeScratch(length)
      buffer.fill(index % 256, 0, length)
      sent.push(Buffer.from(buffer.subarray(0, length)))
      if (writeScratch(near, buffer, length) === Taken.Full) full++
    }
    const wanted = Buffer.concat(sent)
    const received: Buffer[] = []
    for (let length = 0; length < wanted.length; ) {
      const [chunk] = (await Promise.race([once(far.resume(), 'data'), once(far, 'close')])) as [Buffer]
      received.push(chunk)
      length += chunk.length
    }
    expect(Buffer.concat(received).equals(wanted)).toBe(true)
  })
})
