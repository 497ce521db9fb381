/**
 * What a client connection makes of bytes does not depend on the reads they come in, on when answers come, or on when the kernel takes
 * them: the same requests with the same bodies, and the same answers in the same order.
 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Asked, FakeListener, readBody, turns } from '../support/fake-listener.js'
import { ECONNRESET, type FakeTcp } from '../support/fake-natives.js'

const SEED = 20269
const LONG = 'l'.repeat(3000)

const fields = 'Host: a.test\r\n'
const chunked = (...chunks: string[]): string =>
  `${[...chunks, ''].map((data) => `${data.length.toString(16)}${data.length > 2 ? ';x=y' : ''}\r\n${data}${data === '' ? '' : '\r\n'}`).join('')}\r\n`

/** The words decide how it is answered: see `answer`. */
const request = fc.constantFrom(
  `GET /plain HTTP/1.1\r\n${fields}\r\n`,
  `GET /plain HTTP/1.1\r\n${fields}\r\n`,
  `GET /late HTTP/1.1\r\n${fields}X: y\r\n\r\n`,
  `GET /stream/late HTTP/1.1\r\n${fields}\r\n`,
  `GET /stream HTTP/1.1\r\n${fields}X-Long: ${LONG}\r\n\r\n`,
  `HEAD /plain HTTP/1.1\r\n${fields}\r\n`,
  `POST /body HTTP/1.1\r\n${fields}Content-Length: 10\r\n\r\n0123456789`,
  `POST /body HTTP/1.1\r\n${fields}Content-Length: 3000\r\n\r\n${LONG}`,
  `POST /body/late HTTP/1.1\r\n${fields}Transfer-Encoding: chunked\r\n\r\n${chunked('abc', 'd', 'efghijklmnopqrstuvwxyz')}`,
  `POST /body HTTP/1.1\r\n${fields}Transfer-Encoding: chunked\r\n\r\n${chunked()}`,
  `POST /body HTTP/1.1\r\n${fields}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n`,
  `POST /early HTTP/1.1\r\n${fields}Content-Length: 20\r\n\r\nGET /smuggled HTTP/1`,
  `POST /early HTTP/1.1\r\n${fields}Transfer-Encoding: chunked\r\n\r\n${chunked('GET /smuggled HTTP/1.1\r\n\r\n', LONG)}`,
  `GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n`,
)
/** These end the connection. */
const last = fc.constantFrom(
  '',
  '',
  'GET /broken\r\n\r\n',
  `GET /close HTTP/1.1\r\n${fields}Connection: close\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n`,
  'GET /stream HTTP/1.0\r\n\r\n',
  `POST /early HTTP/1.1\r\n${fields}Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello`,
  `POST /body HTTP/1.1\r\n${fields}Expect: 100-continue\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello`,
  `POST /body HTTP/1.1\r\n${fields}Transfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n0\r\n\r\n`,
  `POST /body HTTP/1.1\r\n${fields}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello`,
  // More than is dropped behind an answer.
  `POST /early HTTP/1.1\r\n${fields}Transfer-Encoding: chunked\r\n\r\n${chunked(...Array.from({ length: 30 }, () => LONG))}GET /smuggled HTTP/1.1\r\n\r\n`,
  `POST /early HTTP/1.1\r\n${fields}Transfer-Encoding: chunked\r\n\r\n3\r\nabcX`,
  'GET /never',
)

function answer(asked: Asked): void {
  const { client, target, method, failure } = asked
  const finish = (): void => {
    if (asked.isAborted) return
    client.cork(() => {
      client.writeStatus(failure === '' ? '200 OK' : '400 Bad Request')
      if (target.includes('stream')) {
        client.write('one')
        client.write('two')
        client.end()
      } else if (method === 'HEAD') client.writeHeader('content-length', '5').endWithoutBody()
      else client.end(failure === '' ? `${target} ${asked.body}` : failure, failure !== '')
    })
  }
  const next = target.includes('late') ? () => setImmediate(finish) : finish
  if (failure !== '') setImmediate(finish)
  else if (target.includes('body')) readBody(asked, next)
  else next()
}

interface Seen {
  readonly asked: readonly string[]
  readonly received: string
  readonly hasEnded: boolean
}

async function settle(client: FakeTcp, isHeldUp: boolean): Promise<void> {
  for (let round = 0; round < 3 || client.waiting > 0; round++) {
    if (isHeldUp) client.drain(1)
    else client.drain()
    await turns(2)
  }
}

/** Sends the pieces; `gaps`: whether the loop turns between them; `isSlow`: the kernel takes answers one by one, later. */
async function run(pieces: readonly string[], gaps: readonly boolean[], isSlow: boolean): Promise<Seen> {
  const listener = new FakeListener(answer)
  const client = listener.connect()
  for (const [index, piece] of pieces.entries()) {
    client.isFull = isSlow
    client.send(piece)
    if (gaps[index % gaps.length] === true) await settle(client, isSlow)
  }
  for (let round = 0; round < 100; round++) {
    const before = client.text.length + listener.asked.length
    client.isFull = isSlow
    await settle(client, isSlow)
    if (client.text.length + listener.asked.length === before && round > 2) break
  }
  return {
    asked: listener.asked.map(({ said }) => said),
    received: client.text.replaceAll(/Date: [^\r]+/g, 'Date: now'),
    hasEnded: client.hasShutDown || client.closed !== '',
  }
}

test(`the same whatever the reads, the turns and the kernel do (seed ${SEED})`, async () => {
  let endings = 0
  await fc.assert(
    fc.asyncProperty(
      fc.array(request, { maxLength: 6 }),
      last,
      fc.array(fc.nat(20_000), { maxLength: 12 }),
      fc.array(fc.boolean(), { minLength: 1, maxLength: 5 }),
      fc.boolean(),
      async (requests, ending, cuts, gaps, isSlow) => {
        const text = requests.join('') + ending
        const expected = await run([text], [false], false)
        const places = [0, ...cuts.map((cut) => cut % (text.length + 1)).sort((a, b) => a - b), text.length]
        const pieces = places.slice(1).map((end, index) => text.slice(places[index], end))
        expect(await run(pieces, gaps, isSlow)).toEqual(expected)
        expect(expected.asked.join()).not.toContain('smuggled')
        expect(expected.asked.length).toBeGreaterThanOrEqual(requests.length)
        if (expected.hasEnded) endings++
      },
    ),
    { seed: SEED, numRuns: 400 },
  )
  expect(endings).toBeGreaterThan(100)
})

test(`a client that breaks off anywhere leaves nothing behind (seed ${SEED})`, async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(request, { maxLength: 4 }),
      fc.nat(20_000),
      fc.constantFrom(0, ECONNRESET),
      fc.boolean(),
      async (requests, cut, error, isFull) => {
        const text = requests.join('')
        const listener = new FakeListener(answer)
        const client = listener.connect()
        client.isFull = isFull
        client.send(text.slice(0, cut % (text.length + 1)))
        if (error === 0) client.end()
        else client.end(error)
        await settle(client, false)
        expect(client.closed).not.toBe('')
        expect(client.waiting).toBe(0)
        // Another client of the same thread gets its own answer and nothing else.
        const other = listener.connect()
        other.send(`GET /other HTTP/1.1\r\n${fields}\r\n`)
        expect(other.text.split('\r\n\r\n')[1]).toBe('/other ')
        expect(other.text.match(/HTTP\/1\.1/g)).toHaveLength(1)
      },
    ),
    { seed: SEED, numRuns: 300 },
  )
})
