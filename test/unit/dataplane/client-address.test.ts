/** Text of addresses, and whom forwarding headers of trusted peers name. */
import fc from 'fast-check'
import ipaddr from 'ipaddr.js'
import { describe, expect, test } from 'vitest'
import { AddressBook, TrustedProxies } from '../../../src/dataplane/listener/client-address.js'

const SEED = 20264

function binary(bytes: readonly number[]): ArrayBuffer {
  return Uint8Array.from(bytes).buffer
}

function ipv6(text: string): ArrayBuffer {
  return binary(ipaddr.parse(text).toByteArray())
}

describe('text of an address', () => {
  test.each([
    [[127, 0, 0, 1], '127.0.0.1'],
    [[0, 0, 0, 0], '0.0.0.0'],
    [[255, 255, 255, 255], '255.255.255.255'],
    [[1, 2, 3], ''],
    [[], ''],
  ])('%j is %s', (bytes, text) => {
    expect(new AddressBook().text(binary(bytes))).toBe(text)
  })

  test.each([
    '::',
    '::1',
    '1::',
    '2001:db8::1',
    'fe80::1:2:3:4',
    '1:2:3:4:5:6:7:8',
    '1:0:3:4:5:6:7:8',
    '1::4:0:0:7:8',
    '0:0:1::',
    '64:ff9b::102:304',
  ])('%s', (text) => {
    expect(new AddressBook().text(ipv6(text))).toBe(text)
  })

  test('mapped IPv4 is IPv4', () => {
    expect(new AddressBook().text(ipv6('::ffff:192.0.2.7'))).toBe('192.0.2.7')
  })

  test(`any IPv6 address reads as RFC 5952 says (seed ${SEED})`, () => {
    const group = fc.oneof(fc.constant(0), fc.constant(0), fc.integer({ min: 0, max: 0xffff }))
    const book = new AddressBook()
    fc.assert(
      fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), (groups) => {
        const bytes = groups.flatMap((value) => [value >> 8, value & 255])
        const address = new ipaddr.IPv6(bytes)
        if (address.isIPv4MappedAddress()) return
        expect(book.text(binary(bytes))).toBe(address.toRFC5952String())
      }),
      { seed: SEED, numRuns: 1000 },
    )
  })

  test('more addresses than are remembered', () => {
    const book = new AddressBook()
    for (const round of [1, 2]) {
      for (let index = 0; index < 5000; index++) {
        expect(book.text(binary([10, round, index >> 8, index & 255]))).toBe(`10.${round}.${index >> 8}.${index & 255}`)
      }
    }
    expect(book.text(binary([10, 1, 0, 0]))).toBe('10.1.0.0')
  })
})

describe('trusted proxies', () => {
  const config = (recursive: boolean, trustedAddresses = ['10.0.0.0/8', '::1']) => ({
    trustedAddresses,
    header: 'x-forwarded-for',
    recursive,
  })
  const PEER = '10.0.0.1'

  test('nobody is trusted when none are configured', () => {
    const proxies = new TrustedProxies(config(true, []))
    expect([proxies.isOff, proxies.trusts('10.0.0.1'), proxies.trusts('127.0.0.1')]).toEqual([true, false, false])
  })

  test('peers are trusted by address and block', () => {
    const proxies = new TrustedProxies(config(true))
    expect([proxies.isOff, proxies.trusts('10.9.9.9'), proxies.trusts('::1'), proxies.trusts('11.0.0.1'), proxies.trusts('')]).toEqual([
      false,
      true,
      true,
      false,
      false,
    ])
  })

  test.each([
    ['the last one', ['1.1.1.1, 2.2.2.2'], '2.2.2.2', '2.2.2.2'],
    ['several lines', ['1.1.1.1', '2.2.2.2'], '2.2.2.2', '2.2.2.2'],
    ['behind trusted ones', ['6.6.6.6, 2.2.2.2, 10.1.1.1, 10.2.2.2'], '10.2.2.2', '2.2.2.2'],
    ['all trusted', ['10.3.3.3, 10.2.2.2'], '10.2.2.2', '10.3.3.3'],
    ['with a port', ['2.2.2.2:4711'], '2.2.2.2', '2.2.2.2'],
    ['IPv6', ['2001:DB8::7'], '2001:db8::7', '2001:db8::7'],
    ['IPv6 with a port', ['[2001:DB8::7]:80'], '2001:db8::7', '2001:db8::7'],
    ['IPv6 in brackets', ['[2001:db8::7]'], '2001:db8::7', '2001:db8::7'],
    ['nothing', [''], PEER, PEER],
    ['a word', ['unknown'], PEER, PEER],
    ['a comma at the end', ['2.2.2.2,'], PEER, PEER],
    ['no address at all', ['2.2.2.2, 999.1.1.1'], PEER, PEER],
    ['octal', ['2.2.2.2, 010.1.1.1'], PEER, PEER],
    ['colons', ['2.2.2.2, ::::'], PEER, PEER],
    ['a zone', ['fe80::1%eth0'], PEER, PEER],
    ['a word behind trusted ones', ['2.2.2.2, evil, 10.1.1.1'], '10.1.1.1', PEER],
    ['a header injection', ['2.2.2.2, a\r\nb'], PEER, PEER],
    ['brackets around IPv4', ['[2.2.2.2]'], PEER, PEER],
  ])('%s', (_, lines, last, walked) => {
    expect(new TrustedProxies(config(false)).clientBehind(PEER, lines)).toBe(last)
    expect(new TrustedProxies(config(true)).clientBehind(PEER, lines)).toBe(walked)
  })
})
