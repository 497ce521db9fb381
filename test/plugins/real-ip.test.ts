import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Json } from '../../src/plugins/plugin.js'
import { realIp } from '../../src/plugins/real-ip.js'
import { type FakeHeaders, fakeExchange } from '../support/fake-exchange.js'
import { linkKit } from '../support/link-kit.js'
import { configure, problemsOf, requestPhases } from './configured.js'

const peer = '10.0.0.1'

interface Seen {
  readonly address: string
  readonly port: number
  readonly warnings: string[]
}

async function ask(conf: Json, headers: FakeHeaders, target = '/'): Promise<Seen> {
  const warnings: string[] = []
  const kit = { ...linkKit(), log: (level: string, message: string) => void warnings.push(`${level}: ${message}`) }
  const exchange = fakeExchange({ target, headers, clientAddress: peer, clientPort: 4000 })
  expect(await requestPhases(configure(realIp, conf, { kit }), exchange)).toBeUndefined()
  return { address: exchange.clientAddress, port: exchange.clientPort, warnings }
}

const forwarded = { source: 'http_x_forwarded_for', trusted_addresses: ['10.0.0.0/8', '2001:db8::/32'] }

describe('real-ip', () => {
  test.each([
    ['1.2.3.4', '1.2.3.4', 0],
    [' 1.2.3.4 ', '1.2.3.4', 0],
    ['1.2.3.4:8080', '1.2.3.4', 8080],
    ['::1', '::1', 0],
    ['[::1]', '::1', 0],
    ['[::1]:443', '::1', 443],
    ['2001:DB8:0:0:0:0:0:1', '2001:db8::1', 0],
    ['::ffff:1.2.3.4', '1.2.3.4', 0],
    ['[::ffff:1.2.3.4]:9', '1.2.3.4', 9],
  ])('reads %s', async (value, address, port) => {
    expect(await ask({ source: 'http_x_real_ip' }, { 'X-Real-IP': value })).toEqual({ address, port, warnings: [] })
    expect(await ask({ source: 'arg_ip' }, {}, `/?ip=${encodeURIComponent(value)}`)).toEqual({ address, port, warnings: [] })
  })

  test.each([
    'x',
    '1.2.3',
    '1.2.3.4.5',
    '01.2.3.4',
    '1.2.3.4:0',
    '1.2.3.4:65536',
    '1.2.3.4:',
    '[1.2.3.4]',
    '[::1',
    '[::1]:x',
    'fe80::1%eth0',
    'a\tb',
  ])('leaves the address as it is and warns on %j', async (value) => {
    const seen = await ask({ source: 'http_x_real_ip' }, { 'X-Real-IP': value })
    expect(seen).toEqual({
      address: peer,
      port: 4000,
      warnings: [`warn: real-ip: bad address in http_x_real_ip: ${JSON.stringify(value)}`],
    })
  })

  test('a missing value warns and changes nothing', async () => {
    const expected = { address: peer, port: 4000 }
    expect(await ask({ source: 'http_x_real_ip' }, {})).toEqual({
      ...expected,
      warnings: ['warn: real-ip: missing real address in http_x_real_ip'],
    })
    expect(await ask({ source: 'arg_ip' }, {})).toEqual({ ...expected, warnings: ['warn: real-ip: missing real address in arg_ip'] })
    expect(await ask(forwarded, {})).toEqual({ ...expected, warnings: ['warn: real-ip: missing real address in http_x_forwarded_for'] })
  })

  test('a peer that is not trusted is not believed', async () => {
    const conf = { source: 'http_x_real_ip', trusted_addresses: ['192.168.0.0/16'] }
    expect(await ask(conf, { 'X-Real-IP': '1.2.3.4' })).toEqual({ address: peer, port: 4000, warnings: [] })
    const trusting = { ...conf, trusted_addresses: ['192.168.0.0/16', '10.0.0.1'] }
    expect((await ask(trusting, { 'X-Real-IP': '1.2.3.4' })).address).toBe('1.2.3.4')
  })

  test('trust is in the peer, not in an address that was taken before', async () => {
    const exchange = fakeExchange({ headers: { 'X-Real-IP': '1.2.3.4' }, clientAddress: '5.5.5.5', peerAddress: peer })
    await requestPhases(configure(realIp, { source: 'http_x_real_ip', trusted_addresses: [peer] }), exchange)
    expect(exchange.clientAddress).toBe('1.2.3.4')
  })

  test.each<[string | string[], string, string]>([
    ['1.1.1.1', '1.1.1.1', '1.1.1.1'],
    ['1.1.1.1, 2.2.2.2', '2.2.2.2', '2.2.2.2'],
    ['1.1.1.1,2.2.2.2,10.1.1.1', '10.1.1.1', '2.2.2.2'],
    ['1.1.1.1, 2.2.2.2:99, 10.1.1.1:80, [2001:db8::5]:80', '2001:db8::5', '2.2.2.2'],
    ['10.3.3.3, 10.2.2.2, 10.1.1.1', '10.1.1.1', '10.3.3.3'],
    [['1.1.1.1, 2.2.2.2', '10.1.1.1'], '10.1.1.1', '2.2.2.2'],
    ['garbage, 2.2.2.2, 10.1.1.1', '10.1.1.1', '2.2.2.2'],
  ])('X-Forwarded-For %j: last element %s, recursive %s', async (value, last, recursive) => {
    expect((await ask(forwarded, { 'X-Forwarded-For': value })).address).toBe(last)
    expect((await ask({ ...forwarded, recursive: true }, { 'X-Forwarded-For': value })).address).toBe(recursive)
  })

  test.each(['garbage, 10.1.1.1', ', 10.1.1.1', '1.1.1.1, , 10.1.1.1', '1.1.1.1,'])(
    'the walk stops at what is no address: %j',
    async (value) => {
      const seen = await ask({ ...forwarded, recursive: true }, { 'X-Forwarded-For': value })
      expect(seen.address).toBe(peer)
      expect(seen.warnings).toHaveLength(1)
    },
  )

  test('recursive without trusted addresses takes the last element', async () => {
    const conf = { source: 'http_x_forwarded_for', recursive: true }
    expect((await ask(conf, { 'X-Forwarded-For': '1.1.1.1, 2.2.2.2' })).address).toBe('2.2.2.2')
  })

  test('the port goes with the address', async () => {
    const seen = await ask({ ...forwarded, recursive: true }, { 'X-Forwarded-For': '2.2.2.2:99, 10.1.1.1:80' })
    expect(seen).toEqual({ address: '2.2.2.2', port: 99, warnings: [] })
  })

  test('property: nothing that clients prepend changes what the last untrusted hop is', async () => {
    const instance = configure(realIp, { ...forwarded, recursive: true })
    const hop = fc.ipV4().filter((address) => !address.startsWith('10.'))
    const proxy = fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255)).map(([a, b, c]) => `10.${a}.${b}.${c}`)
    await fc.assert(
      fc.asyncProperty(fc.string(), hop, fc.array(proxy, { maxLength: 5 }), async (forged, client, proxies) => {
        const exchange = fakeExchange({ clientAddress: peer, headers: { 'X-Forwarded-For': [forged, client, ...proxies].join(', ') } })
        await requestPhases(instance, exchange)
        expect(exchange.clientAddress).toBe(client)
      }),
      { seed: 20260101, numRuns: 500, verbose: 1 },
    )
  })

  test('refuses sources and addresses that cannot work', () => {
    expect(problemsOf(realIp, {})).toHaveLength(1)
    expect(problemsOf(realIp, { source: 'proxy_protocol_addr' })).toEqual([
      'source: source "proxy_protocol_addr" is not supported by this listener: it does not read the PROXY protocol',
    ])
    expect(problemsOf(realIp, { source: 'cookie_ip' })[0]).toMatch(/^source: source "cookie_ip" is not supported; expected http_<header>/)
    expect(problemsOf(realIp, { source: 'http_x', trusted_addresses: [] })).toHaveLength(1)
    expect(problemsOf(realIp, { source: 'http_x', trusted_addresses: ['1.1.1.1', 'nope'] })[0]).toMatch(/^trusted_addresses\.1: /)
  })
})
