import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { takeScratch, writeScratch } from '../../../src/dataplane/upstream/scratch.js'

const closing: { destroy(): void }[] = []
afterEach(() => {
  for (const one of closing.splice(0)) one.destroy()
})

async function socketPair(): Promise<[Socket, Socket]> {
  const server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const accepted = once(server, 'connection') as Promise<[Socket]>
  const near = connect((server.address() as AddressInfo).port, '127.0.0.1')
  await once(near, 'connect')
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
  writeScratch(near, first, 10)
  expect(near.writableLength).toBe(0)
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
    if (!writeScratch(near, buffer, length)) full++
  }
  expect(near.writableLength).toBeGreaterThan(0)
  near.end()
  const received: Buffer[] = []
  for await (const chunk of far) received.push(chunk as Buffer)
  expect(Buffer.concat(received).equals(Buffer.concat(sent))).toBe(true)
})
