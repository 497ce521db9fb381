/**
 * Answers of any size and kind on connections that share their output: each client reads exactly its own, whatever the kernel takes.
 * Sizes lie around the bounds of the memory that answers are put together in.
 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { OUTPUT_BYTES } from '../../src/dataplane/listener/tcp-output.js'
import { StrictResponseReader } from '../../src/doctor/strict-response.js'
import { type Asked, FakeListener, turns } from '../support/fake-listener.js'
import type { FakeTcp } from '../support/fake-natives.js'

const SEED = 20271
const GET = 'GET / HTTP/1.1\r\nHost: a.test\r\n\r\n'

const size = fc.oneof(
  fc.nat(300),
  fc.integer({ min: 4000, max: 4200 }),
  fc.integer({ min: Math.floor(OUTPUT_BYTES / 3) - 120, max: Math.floor(OUTPUT_BYTES / 3) + 20 }),
  fc.integer({ min: OUTPUT_BYTES - 700, max: OUTPUT_BYTES + 20 }),
  fc.constantFrom(OUTPUT_BYTES, 2 * OUTPUT_BYTES, 200_000),
)
const text = fc.record({ size, kind: fc.constantFrom('ascii', 'utf8', 'bytes', 'buffer') })
const step = fc.record({
  client: fc.nat(2),
  how: fc.constantFrom('answer', 'answer-again', 'answer-again', 'answer-once', 'end', 'write', 'tryEnd', 'head'),
  block: fc.oneof({ arbitrary: fc.constant({ size: 20, kind: 'ascii' }), weight: 3 }, { arbitrary: text, weight: 1 }),
  body: text,
  isFull: fc.nat(3).map((one) => one === 0),
  drains: fc.nat(3),
})
type Piece = { readonly size: number; readonly kind: string }

function pieceOf({ size, kind }: Piece, mark: string): string | Uint8Array | ArrayBuffer {
  if (kind === 'utf8') return (mark + 'ü'.repeat(Math.ceil(size / 2))).slice(0, Math.ceil(size / 2))
  const plain = (mark + 'x'.repeat(size)).slice(0, size)
  if (kind === 'ascii') return plain
  const bytes = Buffer.from(plain)
  return kind === 'bytes' ? bytes : new Uint8Array(bytes).buffer
}

function bytesOf(piece: string | Uint8Array | ArrayBuffer): Buffer {
  if (typeof piece === 'string') return Buffer.from(piece, 'utf8')
  return Buffer.from(piece instanceof ArrayBuffer ? new Uint8Array(piece) : piece)
}

/** A block with one long field; fields are ASCII. */
function blockOf({ size, kind }: Piece): string | Uint8Array {
  const line = `200 OK\r\nX-Long: ${'h'.repeat(Math.min(size, 30_000))}`
  return kind === 'bytes' || kind === 'buffer' ? Buffer.from(line) : line
}

test(`every client gets its own answers, byte for byte (seed ${SEED})`, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 14 }), async (steps) => {
      const listener = new FakeListener(() => undefined)
      const clients: FakeTcp[] = [listener.connect(), listener.connect(), listener.connect()]
      const expected: Buffer[][] = clients.map(() => [])
      let lasting: string | Uint8Array = '200 OK'
      let lastSize = 0
      // As upstreams are read into.
      const readBuffer = Buffer.alloc(4 * OUTPUT_BYTES)
      for (const [number, { client: index, how, block, body, isFull, drains }] of steps.entries()) {
        const handle = clients[index] as FakeTcp
        // Who is behind asks again when it has what it was sent.
        handle.drain()
        await turns(1)
        handle.send(GET)
        handle.isFull = isFull
        const { client } = listener.last() satisfies Asked
        const isAgain = how === 'answer-again'
        const piece = pieceOf(isAgain && drains > 0 ? { ...body, size: lastSize } : body, `${number} to ${index}: `)
        const whole = bytesOf(piece)
        if (how === 'answer') lasting = blockOf(block)
        if (how.startsWith('answer')) {
          const block = how === 'answer-once' ? blockOf({ size: number % 3, kind: 'bytes' }) : lasting
          if (how === 'answer' || drains === 0) lastSize = body.size
          // In the middle of other bytes, as an upstream's answer lies in the buffer that it was read into.
          const start = typeof piece === 'string' ? 0 : 6 + drains
          if (typeof piece !== 'string') readBuffer.set(whole, start)
          const source = typeof piece === 'string' ? piece : readBuffer
          client.answer?.(block, how !== 'answer-once', source, start, start + whole.length, false)
          readBuffer.fill(0)
        } else
          client.cork(() => {
            client.writeStatus(blockOf(block))
            if (how === 'end') client.end(piece)
            else if (how === 'tryEnd') client.tryEnd(piece, whole.length)
            else if (how === 'write') {
              client.write(piece)
              client.write('')
              client.write(piece)
              client.end()
            } else client.end('')
          })
        expected[index]?.push(how === 'head' ? Buffer.alloc(0) : how === 'write' ? Buffer.concat([whole, whole]) : whole)
        for (let drain = 0; drain < drains; drain++) clients[(index + drain) % 3]?.drain(1)
      }
      for (const [index, handle] of clients.entries()) {
        // Short answers wait for the end of the turn.
        await turns(1)
        handle.drain()
        const reader = new StrictResponseReader()
        for (const _ of expected[index] ?? []) reader.expect('GET')
        reader.push(Buffer.concat(handle.written))
        expect(reader.problem).toBeNull()
        expect(reader.responses.filter(({ complete }) => complete)).toHaveLength(expected[index]?.length ?? 0)
        const bodies = reader.responses.map((response) => Buffer.concat([...response.body]))
        expect(bodies.every((found, at) => found.equals(expected[index]?.[at] as Buffer))).toBe(true)
      }
    }),
    { seed: SEED, numRuns: 250 },
  )
})
