/** Client connections of a `tcp` listener on fake sockets: what the kernel takes, and when, is decided here. */
import { describe, expect, test, vi } from 'vitest'
import { nowMs } from '../../../src/base/clock.js'
import { connectionOf, FakeListener, ok, readBody, turns } from '../../support/fake-listener.js'
import { ECONNRESET, FakeTcp } from '../../support/fake-natives.js'

const get = (target = '/', ...fields: string[]): string => `${[`GET ${target} HTTP/1.1`, 'Host: a.test', ...fields].join('\r\n')}\r\n\r\n`
/** Bodies behind heads with a length. */
const bodies = (handle: FakeTcp): string[] => handle.text.split(/HTTP\/1\.1 200 OK\r\n(?:[^\r]+\r\n)+\r\n/).slice(1)

/** The clock has moved on. */
async function later(): Promise<void> {
  const beganMs = nowMs()
  while (nowMs() < beganMs + 5) await turns(1)
}

test('requests that are sent ahead wait while the client takes no answers, and memory with them', async () => {
  const listener = new FakeListener()
  const client = listener.connect()
  client.send(get('/0'))
  client.isFull = true
  client.send(Array.from({ length: 1000 }, (_, index) => get(`/${index + 1}`)).join(''))
  await turns()
  // The first that did not fit; what is behind it is not even looked at.
  expect([listener.asked.length, client.waiting]).toEqual([2, 1])
  while (client.isReading) client.send(get('/more').repeat(100))
  await turns()
  expect(listener.asked.length).toBe(2)
  client.drain(1)
  await turns()
  expect([listener.asked.length, client.waiting]).toEqual([3, 1])
  for (let round = 0; round < 10_000 && !client.isReading; round++) {
    client.drain()
    await turns(1)
  }
  client.drain()
  await turns()
  expect(client.isReading).toBe(true)
  client.send(get('/last'))
  await turns()
  expect(listener.last().target).toBe('/last')
  expect(bodies(client).slice(0, 1001)).toEqual(Array.from({ length: 1001 }, (_, index) => `/${index}`))
})

test('an answer that fails to leave in the middle of its head writes nothing into the answer of another', async () => {
  const listener = new FakeListener(() => undefined)
  const [broken, other] = [listener.connect(), listener.connect()]
  broken.send(get('/broken'))
  other.send(get('/other'))
  const [first, second] = listener.asked
  broken.error = ECONNRESET
  second?.client.cork(() => {
    second.client.writeStatus('200 OK').write('one')
    // A head that does not fit behind what is there leaves by itself.
    first?.client.writeStatus(Buffer.from(`200 OK\r\nx-big: ${'b'.repeat(70_000)}`)).end('lost')
  })
  second?.client.end()
  await turns()
  expect(other.text.replace(/Date: [^\r]+/, 'Date: now')).toBe(
    'HTTP/1.1 200 OK\r\nDate: now\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n',
  )
  expect([broken.text, broken.closed]).toEqual(['', 'close'])
})

test('connections that write in turn, one of which fails, keep their answers apart', async () => {
  const listener = new FakeListener(() => undefined)
  const [broken, third, last] = [listener.connect(), listener.connect(), listener.connect()]
  for (const handle of [broken, third, last]) handle.send(get('/x'))
  const [first, second, another] = listener.asked
  let heard = 0
  first?.client.onAborted(() => {
    heard++
    second?.client.writeStatus('200 OK').end('second')
  })
  broken.error = ECONNRESET
  second?.client.cork(() => {
    first?.client.cork(() => {
      first.client.writeStatus('200 OK').write('first')
      another?.client.writeStatus('200 OK').write('third')
      // Told in a turn of its own, not to whoever writes at the moment.
      expect(heard).toBe(0)
      another?.client.end()
    })
  })
  await turns()
  expect(heard).toBe(1)
  expect([bodies(third), bodies(last)]).toEqual([['second'], ['5\r\nthird\r\n0\r\n\r\n']])
})

test('lingering is counted from when the end is out, not from when it was put behind what waits', async () => {
  const listener = new FakeListener()
  const client = listener.connect()
  client.isFull = true
  client.send(get('/', 'Connection: close'))
  const { lingerMs, sendMs } = listener.app.timeouts
  connectionOf(client).sweep(nowMs() + lingerMs * 2)
  expect(client.closed).toBe('')
  const beganMs = nowMs()
  await later()
  client.drain()
  await turns()
  connectionOf(client).sweep(beganMs + lingerMs)
  expect(client.closed).toBe('')
  connectionOf(client).sweep(nowMs() + lingerMs)
  expect(client.closed).toBe('close')
  expect(sendMs).toBeGreaterThan(lingerMs)
})

test('a connection that took its answer late is idle from then on', async () => {
  const listener = new FakeListener()
  const client = listener.connect()
  client.isFull = true
  client.send(get())
  const { keepAliveMs } = listener.app.timeouts
  const beganMs = nowMs()
  await later()
  client.drain()
  connectionOf(client).sweep(beganMs + keepAliveMs)
  expect(client.closed).toBe('')
  connectionOf(client).sweep(nowMs() + keepAliveMs)
  expect(client.closed).toBe('close')
})

test('a client that ends its half takes the rest of its answer; one that waits for an answer counts as gone', async () => {
  const listener = new FakeListener()
  const taking = listener.connect()
  taking.isFull = true
  taking.send(get('/taken'))
  taking.end()
  expect(taking.closed).toBe('')
  taking.drain()
  await turns()
  expect([bodies(taking), taking.hasShutDown, taking.closed]).toEqual([['/taken'], true, 'close'])
  listener.answer = () => undefined
  const waiting = listener.connect()
  waiting.send(get('/waits'))
  waiting.end()
  expect([waiting.closed, listener.last().isAborted]).toEqual(['close', true])
  const broken = listener.connect()
  broken.isFull = true
  listener.answer = ok
  broken.send(get('/broken'))
  broken.end(ECONNRESET)
  expect(broken.closed).toBe('close')
})

test('an answer that is complete cannot stop, cut or pause the connection any more', () => {
  const listener = new FakeListener()
  const client = listener.connect()
  client.send(get('/first'))
  const first = listener.last()
  listener.answer = (asked) => readBody(asked, ok)
  client.send('POST /second HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nab')
  first.client.pause()
  expect(client.isReading).toBe(true)
  listener.last().client.pause()
  first.client.resume()
  expect(client.isReading).toBe(false)
  listener.last().client.resume()
  first.client.close()
  client.send('cd')
  expect(bodies(client)).toEqual(['/first', '/second'])
})

test('a client whose address cannot be told any more is not served', () => {
  const listener = new FakeListener()
  const gone = new FakeTcp()
  gone.peer = null
  listener.connect(gone)
  expect(gone.closed).toBe('close')
  const mapped = new FakeTcp()
  mapped.peer = { address: '::ffff:192.0.2.9', port: 1 }
  const link = new FakeTcp()
  link.peer = { address: 'fe80::1%eth0', port: 1 }
  for (const handle of [mapped, link]) listener.connect(handle).send(get())
  expect(listener.asked.map(({ client }) => client.peerAddress?.())).toEqual(['192.0.2.9', 'fe80::1'])
})

test('a client that takes a large answer slowly is not cut off, one that takes nothing is', () => {
  const listener = new FakeListener(({ client }) => void client.writeStatus('200 OK').end('x'.repeat(1_000_000)))
  const client = listener.connect()
  client.isFull = true
  client.send(get())
  const { sendMs } = listener.app.timeouts
  let now = nowMs()
  const connection = connectionOf(client)
  connection.sweep(now)
  for (let minute = 0; minute < 10; minute++) {
    now += sendMs
    client.take(1)
    connection.sweep(now)
  }
  expect([client.closed, client.waiting]).toEqual(['', 2])
  connection.sweep(now + sendMs - 1)
  expect(client.closed).toBe('')
  connection.sweep(now + sendMs)
  expect(client.closed).toBe('close')
})

test('whoever waits for room can ask whether the client takes anything', () => {
  const listener = new FakeListener(({ client }) => void client.writeStatus('200 OK').write('x'))
  const client = listener.connect()
  client.isFull = true
  client.send(get())
  const asked = listener.last().client
  expect(asked.isTaking?.()).toBe(true)
  client.drain()
  expect(asked.isTaking?.()).toBe(false)
})

test('a long head that comes byte by byte is read a bounded number of times', () => {
  const listener = new FakeListener()
  const parse = vi.spyOn(listener.app.parser, 'parse')
  const client = listener.connect()
  const text = get('/drip', ...Array.from({ length: 40 }, (_, index) => `X-${index}: ${'v'.repeat(500)}`))
  for (const byte of text) client.send(byte)
  expect(bodies(client)).toEqual(['/drip'])
  expect(parse.mock.calls.length).toBeLessThan(4200)
  client.send(`${get('/next')}${get('/after')}`)
  expect(bodies(client)).toEqual(['/drip', '/next', '/after'])
})

describe('the longest head', () => {
  const listener = new FakeListener(ok, undefined, 10_000)
  const most = listener.app.maxHeadBytes
  const ofLength = (length: number): string => get('/', `X: ${'x'.repeat(length - get('/', 'X: ').length)}`)

  test.each([1, 2, 1000, 100_000])('in pieces of %d bytes', (size) => {
    for (const [length, said] of [
      [most, 'GET /  '],
      [most + 1, '-  HEADERS_TOO_LARGE '],
    ] as const) {
      const client = listener.connect()
      const text = ofLength(length)
      expect(text).toHaveLength(length)
      for (let start = 0; start < length; start += size) client.send(text.slice(start, start + size))
      expect(listener.last().said.trimEnd()).toBe(said.trimEnd())
    }
  })

  test('one that never ends is refused as soon as it is too long', () => {
    const client = listener.connect()
    const before = listener.asked.length
    client.send(ofLength(most + 100).slice(0, most))
    expect(listener.asked.length).toBe(before)
    client.send('x')
    expect(listener.last().failure).toBe('HEADERS_TOO_LARGE')
  })
})

test('a head that stalls is 408, whenever its last byte came; an idle connection is closed without a word', async () => {
  const listener = new FakeListener(({ client, failure }) => void client.writeStatus('400 x').end(failure, true))
  const { headMs, keepAliveMs } = listener.app.timeouts
  const stalled = listener.connect()
  const beganMs = nowMs()
  stalled.send('GET / HTTP/1.1\r\n')
  await later()
  stalled.send('Host: a.test\r\n')
  connectionOf(stalled).sweep(beganMs + headMs - 1)
  expect(listener.asked).toEqual([])
  connectionOf(stalled).sweep(beganMs + headMs)
  expect(stalled.text).toContain('REQUEST_TIMEOUT')
  expect(stalled.hasShutDown).toBe(true)
  // What comes too late is read and dropped.
  stalled.send('\r\nGET / HTTP/1.1\r\n')
  expect(listener.asked).toHaveLength(1)

  const silent = listener.connect()
  connectionOf(silent).sweep(nowMs() + headMs)
  expect([silent.closed, silent.text]).toEqual(['close', ''])

  listener.answer = ok
  const idle = listener.connect()
  idle.send(get())
  connectionOf(idle).sweep(nowMs() + keepAliveMs - 1000)
  expect(idle.closed).toBe('')
  // The second head has its own time.
  idle.send('GET /second')
  connectionOf(idle).sweep(nowMs() + headMs - 100)
  expect(idle.closed).toBe('')
  idle.send(' HTTP/1.1\r\nHost: a.test\r\n\r\n')
  connectionOf(idle).sweep(nowMs() + keepAliveMs)
  expect([idle.closed, bodies(idle)]).toEqual(['close', ['/', '/second']])
})

test('who goes on sending behind its last answer is not read for ever, and gets the answer nevertheless', async () => {
  const listener = new FakeListener()
  const client = listener.connect()
  client.isFull = true
  client.send(get('/last', 'Connection: close'))
  let sent = 0
  while (client.isReading && sent < 10_000_000) {
    client.send('x'.repeat(100_000))
    sent += 100_000
  }
  expect(sent).toBeLessThan(1_000_000)
  expect(client.closed).toBe('')
  client.drain()
  await turns()
  expect(bodies(client)).toEqual(['/last'])
  expect(client.hasShutDown).toBe(true)
  connectionOf(client).sweep(nowMs() + listener.app.timeouts.lingerMs)
  expect(client.closed).toBe('close')
})

describe('an answer that waits for the end of the turn leaves when', () => {
  const chunks = 'POST /early HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n'

  test.each<readonly [string, string, (client: FakeTcp, listener: FakeListener) => void]>([
    ['its client ends its half', get('/early'), (client) => client.end()],
    ['the listener closes', get('/early'), (_client, listener) => void listener.app.close()],
    ['the body behind it breaks', `${chunks}3\r\nabcX`, () => undefined],
    ['the answer behind it is cut off', get('/early') + get('/cut'), () => undefined],
    ['the request behind it is refused', `${get('/early')}GET\r\n\r\n`, () => undefined],
  ])('%s', async (_what, text, then) => {
    const listener = new FakeListener((asked) => {
      if (asked.target === '/cut') asked.client.close()
      else if (asked.failure !== '') asked.client.writeStatus('400 Bad Request').end(asked.failure, true)
      else ok(asked)
    })
    const client = listener.connect()
    client.send(text)
    then(client, listener)
    await turns()
    expect(client.text.split('\r\n\r\n')[1]?.slice(0, 6)).toBe('/early')
    expect(client.closed !== '' || client.hasShutDown).toBe(true)
  })
})

test('one connection that asks without end does not keep the others waiting for their answers', async () => {
  const listener = new FakeListener()
  const [greedy, other] = [listener.connect(), listener.connect()]
  greedy.send(get('/greedy').repeat(3000))
  other.send(get('/other'))
  await turns(1)
  expect(bodies(other)).toEqual(['/other'])
  await turns()
  expect(bodies(greedy)).toHaveLength(3000)
})
