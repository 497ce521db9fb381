/** PROXY protocol v2 on a listener: the client it names, who may name one, and that it is required. */
import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { lengthResponse, RecordingUpstream } from '../../src/doctor/recording-upstream.js'
import { Gateway, proxyTo } from '../support/gateway.js'

const signature = Buffer.from([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a])

/** A v2 header, command PROXY, TCP over IPv4, from 203.0.113.9:4711. */
const header = Buffer.concat([signature, Buffer.from([0x21, 0x11, 0, 12, 203, 0, 113, 9, 127, 0, 0, 1, 0x12, 0x67, 0, 80])])

/** The answer to one request whose connection begins with `first`. */
function ask(port: number, first: Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1')
    let answer = ''
    socket.setTimeout(60_000, () => socket.destroy(new Error('no answer')))
    socket.on('data', (bytes) => {
      answer += bytes.toString('latin1')
    })
    socket.on('error', reject)
    socket.on('close', () => resolve(answer))
    socket.write(Buffer.concat([first, Buffer.from('GET /p HTTP/1.1\r\nHost: front.test\r\nConnection: close\r\n\r\n')]))
  })
}

describe('PROXY protocol v2', () => {
  let upstream: RecordingUpstream
  let open: Gateway
  let guarded: Gateway

  beforeAll(async () => {
    upstream = await RecordingUpstream.start({ answer: () => lengthResponse('ok') })
    const listeners = [{ listen: '127.0.0.1:0', proxy_protocol: true }]
    open = await Gateway.start({ config: proxyTo(upstream.port, {}, { listeners }), workers: 1, listen: null })
    const realIp = { trusted_addresses: ['192.0.2.0/24'] }
    guarded = await Gateway.start({ config: proxyTo(upstream.port, {}, { listeners, real_ip: realIp }), workers: 1, listen: null })
  })

  afterAll(async () => {
    await open?.discard()
    await guarded?.discard()
    await upstream?.close()
  })

  const lastField = (name: string) => upstream.requests.at(-1)?.fields.find((field) => field.name.toLowerCase() === name)?.value

  test('names the client', async () => {
    expect(await ask(open.port, header)).toMatch(/^HTTP\/1\.1 200 /)
    expect(lastField('x-real-ip')).toBe('203.0.113.9')
    expect(lastField('x-forwarded-for')).toBe('203.0.113.9')
  })

  test('is required', async () => {
    const before = upstream.requests.length
    const answer = await ask(open.port, Buffer.alloc(0))
    expect(answer).toMatch(/^HTTP\/1\.1 400 /)
    expect(answer).toContain('NO_PROXY_HEADER')
    expect(upstream.requests.length).toBe(before)
  })

  test('is not believed from peers that are not trusted', async () => {
    expect(await ask(guarded.port, header)).toMatch(/^HTTP\/1\.1 200 /)
    expect(lastField('x-real-ip')).toBe('127.0.0.1')
  })
})
