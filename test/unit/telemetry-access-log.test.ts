import { mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ManualClock } from '../../src/base/clock.js'
import { UsageError } from '../../src/base/errors.js'
import type { LoggedUpstream } from '../../src/telemetry/access-format.js'
import { AccessLog, type AccessRecord, FLUSH_MS, QUEUE_BYTES_MAX } from '../../src/telemetry/access-log.js'
import type { LogSink } from '../../src/telemetry/log-sink.js'
import { fakeExchange } from '../support/fake-exchange.js'

type Done = (error: NodeJS.ErrnoException | null, written: number) => void

/** A sink that finishes writes only when told to. */
class HeldSink implements LogSink {
  readonly atomicBytes = 64 * 1024
  readonly events: string[] = []
  readonly waiting: { readonly bytes: Uint8Array; readonly done: Done }[] = []

  write(bytes: Uint8Array, done: Done): void {
    this.waiting.push({ bytes, done })
  }

  reopen(done: (error: Error | null) => void): void {
    this.events.push('reopen')
    done(null)
  }

  close(done: () => void): void {
    this.events.push('close')
    done()
  }

  /** Ends the write that is under way: all of it, its first bytes, or with an error. */
  finish(how: { readonly bytes?: number; readonly error?: NodeJS.ErrnoException } = {}): void {
    const write = this.waiting.shift()
    if (write === undefined) throw new Error('nothing is being written')
    const count = how.error === undefined ? (how.bytes ?? write.bytes.length) : 0
    if (count > 0) this.events.push(Buffer.from(write.bytes.subarray(0, count)).toString())
    write.done(how.error ?? null, count)
  }
}

const upstream: LoggedUpstream = { scheme: 'https', passHost: 'pass', upstreamHost: '' }

function setup(format: 'off' | 'common' | 'json' = 'common', path?: string) {
  const clock = new ManualClock()
  const sink = new HeldSink()
  const messages: string[] = []
  const lost = { lines: 0 }
  const log = new AccessLog(
    { format, path: path ?? 'stdout' },
    {
      clock,
      server: { hostname: 'gw', version: '0.1.0' },
      upstreamOf: (index) => (index === 0 ? upstream : undefined),
      dropped: {
        add: (lines) => {
          lost.lines += lines
        },
      },
      log: (message) => messages.push(message),
      ...(path === undefined ? { sink } : {}),
    },
  )
  /** Appends one record and returns what was written for it. */
  const lineOf = (record: AccessRecord): string => {
    log.append(record)
    clock.advance(FLUSH_MS)
    sink.finish()
    return sink.events.at(-1) ?? ''
  }
  return { clock, sink, messages, lost, log, lineOf }
}

function proxied() {
  const exchange = fakeExchange({
    target: '/a?x=1&y=2&x=3',
    host: 'Api.test:9080',
    headers: { Referer: 'http://r.test/', 'User-Agent': 'curl/8', Authorization: 'Basic c2VjcmV0' },
    clientAddress: '10.1.2.3',
    consumerName: 'jack',
    requestId: 'id-1',
    bodyLength: 5,
    route: { id: 'r1', serviceId: 's1' },
    startedAtMs: 1_700_000_000_000,
  })
  exchange.respond({ status: 200 })
  exchange.credentialId = 'laptop'
  exchange.upstreamIndex = 0
  exchange.upstreamPath = '/b'
  exchange.upstreamAddress = '127.0.0.1:80'
  exchange.upstreamStatus = '502, 200'
  exchange.upstreamResponseMs = 12.3456
  exchange.bodyBytesSent = 42
  exchange.elapsed = 15.5
  return exchange
}

describe('common format', () => {
  test('is the default line of the reference gateway', () => {
    const { lineOf, clock } = setup()
    const line = lineOf(proxied())
    const time = /\[(\d\d\/[A-Z][a-z]{2}\/\d{4}:\d\d:\d\d:\d\d) ([+-]\d\d)(\d\d)\]/.exec(line)
    expect(line.replace(time?.[0] ?? '', '[TIME]')).toBe(
      '10.1.2.3 - jack [TIME] Api.test:9080 "GET /a?x=1&y=2&x=3 HTTP/1.1" 200 42 0.015 "http://r.test/" "curl/8" 127.0.0.1:80 502, 200 0.012 "https://Api.test:9080/b?x=1&y=2&x=3"\n'.replace(
        ' 0.015 ',
        ` ${(15.5 / 1000).toFixed(3)} `,
      ),
    )
    const [day = '', month = '', rest = ''] = (time?.[1] ?? '').split('/')
    const [year = '', ...clockTime] = rest.split(':')
    const shown = Date.parse(`${day} ${month} ${year} ${clockTime.join(':')} ${time?.[2]}${time?.[3]}`)
    expect(Math.floor(clock.wallMs() / 1000) * 1000 - shown).toBe(0)
  })

  test('what is missing is a dash', () => {
    const { lineOf } = setup()
    const exchange = fakeExchange({ route: null, host: '' })
    exchange.respond({ status: 404 })
    expect(lineOf(exchange).replace(/\[.*?\]/, '[]')).toBe('127.0.0.1 - - [] - "GET / HTTP/1.1" 404 0 0.000 "-" "-" - - - "-"\n')
  })

  test('hostile values stay in their field and their line', () => {
    const { lineOf } = setup()
    const exchange = fakeExchange({
      host: 'a b"c',
      consumerName: 'x\n1.2.3.4 - - [] y',
      headers: { 'User-Agent': 'x" 200 0\r\n6.6.6.6 - - \\ \u0000\u001b[31m ü\u2028', Referer: '\u007f' },
    })
    exchange.respond({ status: 200 })
    const line = lineOf(exchange)
    expect([...line].filter((character) => character < ' ' || character > '~')).toEqual(['\n'])
    expect(line).toContain('"x\\x22 200 0\\x0D\\x0A6.6.6.6 - - \\x5C \\x00\\x1B[31m \\xC3\\xBC\\xE2\\x80\\xA8"')
    expect(line).toContain(' - x\\x0A1.2.3.4\\x20-\\x20-\\x20[]\\x20y [')
    expect(line).toContain('] a\\x20b\\x22c "GET')
    expect(line.match(/"/g)).toHaveLength(8)
  })
})

describe('json format', () => {
  test('is the default log object, without secrets', () => {
    const { lineOf } = setup('json')
    const line = lineOf(proxied())
    expect(line).not.toContain('c2VjcmV0')
    expect(JSON.parse(line)).toEqual({
      request: {
        id: 'id-1',
        method: 'GET',
        uri: '/a?x=1&y=2&x=3',
        url: 'http://api.test:9080/a?x=1&y=2&x=3',
        querystring: { x: ['1', '3'], y: '2' },
        headers: { host: 'Api.test:9080', referer: 'http://r.test/', 'user-agent': 'curl/8' },
        size: 5,
      },
      response: { status: 200, size: 42 },
      server: { hostname: 'gw', version: '0.1.0' },
      upstream: '127.0.0.1:80',
      upstream_status: '502, 200',
      service_id: 's1',
      route_id: 'r1',
      consumer: { username: 'jack' },
      credential_id: 'laptop',
      client_ip: '10.1.2.3',
      start_time: 1_700_000_000_000,
      latency: 15.5,
      upstream_latency: 12.346,
      apisix_latency: 3.154,
    })
  })

  test('an unmatched request names its host, and control bytes cannot make a second line', () => {
    const { lineOf } = setup('json')
    const exchange = fakeExchange({ route: null, target: '/?__proto__=1', headers: { 'User-Agent': 'a\r\n{"b":1}' } })
    const line = lineOf(exchange.respond({ status: 404 }))
    expect(line.match(/\n/g)).toHaveLength(1)
    const parsed: unknown = JSON.parse(line)
    expect(parsed).toMatchObject({ service_id: 'example.test', request: { headers: { 'user-agent': 'a\r\n{"b":1}' } } })
    expect(parsed).not.toHaveProperty('route_id')
    expect(line).toContain('"querystring":{"__proto__":"1"}')
  })
})

describe('writing', () => {
  test('lines wait for the timer, then go out together, one write at a time', () => {
    const { log, sink, clock } = setup()
    log.append(proxied())
    log.append(proxied())
    clock.advance(FLUSH_MS - 1)
    expect(sink.waiting).toHaveLength(0)
    clock.advance(1)
    expect(sink.waiting).toHaveLength(1)
    log.append(proxied())
    clock.advance(FLUSH_MS)
    expect(sink.waiting).toHaveLength(1)
    sink.finish()
    sink.finish()
    expect(sink.events.map((text) => text.split('\n').length - 1)).toEqual([2, 1])
    expect(clock.pending).toBe(0)
  })

  test('a chunk goes out without the timer when it is full, as whole lines', () => {
    const { log, sink } = setup()
    while (sink.waiting.length === 0) log.append(proxied())
    const { bytes } = sink.waiting[0] ?? { bytes: new Uint8Array() }
    expect(bytes.length).toBeLessThanOrEqual(sink.atomicBytes)
    expect(bytes.at(-1)).toBe(10)
  })

  test('a partial write is continued, and a full pipe is tried again', () => {
    const { log, sink, clock } = setup()
    log.append(proxied())
    clock.advance(FLUSH_MS)
    sink.finish({ bytes: 10 })
    sink.finish({ error: Object.assign(new Error('again'), { code: 'EAGAIN' }) })
    expect(sink.waiting).toHaveLength(0)
    clock.advance(10)
    sink.finish()
    expect(sink.events.join('')).toMatch(/^10\.1\.2\.3 - jack .*\n$/)
    expect(sink.events).toHaveLength(2)
  })

  test('a stuck sink costs bounded memory: further lines are dropped, counted, and reported once', async () => {
    const { log, sink, messages, lost } = setup()
    const record = proxied()
    let appended = 0
    while (lost.lines < 3) {
      log.append(record)
      appended++
    }
    expect(messages).toEqual(['access log lines are being dropped: it is not written as fast as it grows'])
    const flushed = log.flush()
    while (sink.waiting.length > 0) sink.finish()
    await flushed
    const written = sink.events.join('')
    expect(written.length).toBeLessThan(QUEUE_BYTES_MAX + sink.atomicBytes)
    expect(written.split('\n').length - 1).toBe(appended - 3)
    expect(messages.at(-1)).toBe('access log has caught up; 3 lines were dropped')
  })

  test('a failing disk drops what it refuses, reports once, and is used again when it works', () => {
    const { log, sink, clock, messages, lost } = setup()
    const full = Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' })
    for (let round = 0; round < 3; round++) {
      log.append(proxied())
      clock.advance(FLUSH_MS)
      sink.finish({ error: full })
    }
    expect([lost.lines, messages]).toEqual([3, ['access log lines are being dropped: ENOSPC: no space left on device']])
    log.append(proxied())
    clock.advance(FLUSH_MS)
    sink.finish()
    expect(sink.events).toHaveLength(1)
    expect(messages).toHaveLength(2)
  })

  test('a file is reopened between chunks, never inside one', () => {
    const { log, sink, clock } = setup()
    log.append(proxied())
    clock.advance(FLUSH_MS)
    sink.finish({ bytes: 5 })
    log.reopen()
    log.append(proxied())
    clock.advance(FLUSH_MS)
    sink.finish()
    sink.finish()
    expect(sink.events.map((event) => (event === 'reopen' ? event : event.length))).toEqual([
      5,
      expect.any(Number),
      'reopen',
      expect.any(Number),
    ])
  })

  test('off costs nothing: no timer, no write', async () => {
    const { log, sink, clock } = setup('off')
    log.append(proxied())
    log.reopen()
    expect(clock.pending).toBe(0)
    await log.close()
    expect([sink.events, sink.waiting]).toEqual([[], []])
  })
})

describe('files', () => {
  let folder = ''
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'access-log-'))
  })
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  test('appends, follows a rotation, and closes', async () => {
    const path = join(folder, 'access.log')
    const first = setup('common', path)
    const second = setup('common', path)
    first.log.append(proxied())
    second.log.append(proxied())
    await Promise.all([first.log.flush(), second.log.flush()])
    renameSync(path, `${path}.1`)
    first.log.reopen()
    first.log.append(proxied())
    await first.log.close()
    await second.log.close()
    expect(readFileSync(`${path}.1`, 'utf8').split('\n')).toHaveLength(3)
    expect(readFileSync(path, 'utf8').split('\n')).toHaveLength(2)
  })

  test('a file that cannot be opened is one clear line', () => {
    const path = join(folder, 'missing', 'access.log')
    expect(() => setup('common', path)).toThrow(UsageError)
    expect(() => setup('common', path)).toThrow(`access log ${path} cannot be opened`)
  })
})
