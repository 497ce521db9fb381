import { expect, test } from 'vitest'
import { AddressSet, addressProblem, parseIPv4 } from '../../src/base/address-set.js'

test('addresses and blocks of both families', () => {
  const set = AddressSet.of(['10.0.0.0/8', '192.0.2.7', '2001:db8::/32', '::1', '172.16.5.4/12'])
  for (const inside of [
    '10.0.0.0',
    '10.255.255.255',
    '192.0.2.7',
    '2001:db8::1',
    '2001:DB8:ffff:ffff:ffff:ffff:ffff:ffff',
    '::1',
    '172.31.0.1',
  ]) {
    expect(set.has(inside), inside).toBe(true)
    expect(set.has(inside), `${inside} again`).toBe(true)
  }
  for (const outside of ['11.0.0.0', '9.255.255.255', '192.0.2.8', '2001:db9::', '::2', '172.32.0.0', '', 'x', '10.0.0.0/8', '1.2.3']) {
    expect(set.has(outside), outside).toBe(false)
  }
})

test('IPv4-mapped IPv6 is the IPv4 address, in items and lookups', () => {
  expect(AddressSet.of(['10.0.0.0/8']).has('::ffff:10.1.1.1')).toBe(true)
  expect(AddressSet.of(['::ffff:10.0.0.0/104']).has('10.1.1.1')).toBe(true)
  expect(AddressSet.of(['::ffff:10.0.0.0/104']).has('11.1.1.1')).toBe(false)
  expect(AddressSet.of(['::/0']).has('10.1.1.1')).toBe(true)
})

test('the edges of the space, overlapping blocks, and nothing', () => {
  expect(AddressSet.of(['0.0.0.0/0']).has('255.255.255.255')).toBe(true)
  const set = AddressSet.of(['10.0.0.0/24', '10.0.0.0/16', '10.1.0.0/16', 'fe80::/10', 'fe80::/64'])
  expect(['10.0.200.1', '10.1.255.255', 'fe80::1%eth0', 'febf::1'].map((item) => set.has(item))).toEqual([true, true, true, true])
  expect(set.has('10.2.0.0')).toBe(false)
  expect(AddressSet.of([]).has('10.0.0.1')).toBe(false)
})

test('what is wrong is named', () => {
  for (const wrong of [
    '',
    '1.2.3',
    '1.2.3.4.5',
    '256.1.1.1',
    '01.2.3.4',
    'localhost',
    '1.2.3.4/33',
    '::1/129',
    '1.2.3.4/',
    '1.2.3.4/x',
    '::g',
    'fe80::1%eth0',
  ]) {
    expect(addressProblem(wrong), wrong).not.toBeNull()
    expect(() => AddressSet.of([wrong])).toThrow()
  }
  expect(addressProblem('10.0.0.0/8')).toBeNull()
  expect(addressProblem('1.2.3.4/33')).toContain('/0 to /32')
})

test('parseIPv4 reads exactly dotted quads', () => {
  expect(parseIPv4('255.255.255.255')).toBe(0xffffffff)
  expect(parseIPv4('0.0.0.0')).toBe(0)
  for (const wrong of ['1.2.3', '1.2.3.4.', '.1.2.3.4', '1..2.3', '1.2.3.256', '1.2.3.04', '::1', '1.2.3.4 '])
    expect(parseIPv4(wrong)).toBe(-1)
})
