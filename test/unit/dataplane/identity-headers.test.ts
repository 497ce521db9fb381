import { describe, expect, test } from 'vitest'
import { identityOf, setIdentityHeaders } from '../../../src/dataplane/identity-headers.js'
import { fakeExchange, headerList } from '../../support/fake-exchange.js'
import { fakeConsumer } from '../../support/link-kit.js'

const jack = fakeConsumer({ username: 'jack', groupId: 'staff', labels: { custom_id: 'c-7' } })

function fields(headers: ReturnType<typeof headerList>): string[] {
  return headers.names.slice(0, headers.count).map((name, index) => `${name}: ${headers.values[index]}`)
}

describe('identity headers', () => {
  test('tell who calls, and leave everything else alone', () => {
    const headers = headerList({ Accept: '*/*', 'X-Custom': '1' })
    setIdentityHeaders(headers, identityOf(jack, 'one'))
    expect(fields(headers)).toEqual([
      'Accept: */*',
      'X-Custom: 1',
      'X-Consumer-Username: jack',
      'X-Consumer-Custom-ID: c-7',
      'X-Credential-Identifier: one',
    ])
  })

  test('of an earlier success are replaced, also by less', () => {
    const headers = headerList({ 'X-Consumer-Groups': 'a, b', 'X-Anonymous-Consumer': 'true', Accept: '*/*' })
    setIdentityHeaders(headers, identityOf(fakeConsumer({ username: 'ann', id: 'b3f6', labels: { custom_id: '9' } }), 'two'))
    setIdentityHeaders(headers, identityOf(fakeConsumer({ username: 'bob' }), ''))
    expect(fields(headers)).toEqual(['Accept: */*', 'X-Consumer-Username: bob'])
  })

  test('name the id of a consumer that has one of its own', () => {
    const headers = headerList({})
    setIdentityHeaders(headers, identityOf(fakeConsumer({ username: 'ann', id: 'b3f6' }), ''))
    expect(fields(headers)).toEqual(['X-Consumer-Username: ann', 'X-Consumer-ID: b3f6'])
  })

  test('cannot end a line, wherever their values come from', () => {
    const headers = headerList({})
    const hostile = 'a\r\nevil: 1'
    setIdentityHeaders(headers, identityOf(fakeConsumer({ username: hostile, id: `${hostile}2`, labels: { custom_id: hostile } }), hostile))
    expect(fields(headers)).toEqual([
      'X-Consumer-Username: a%0D%0Aevil: 1',
      'X-Consumer-Custom-ID: a%0D%0Aevil: 1',
      'X-Consumer-ID: a%0D%0Aevil: 12',
      'X-Credential-Identifier: a%0D%0Aevil: 1',
    ])
  })

  test('of a caller who is no consumer are its identifier only', () => {
    const exchange = fakeExchange({ consumer: jack })
    expect([exchange.consumerName, exchange.consumerGroupId]).toEqual(['jack', 'staff'])
    exchange.authenticate(null, null, 'sub-1')
    expect([exchange.consumerName, exchange.consumerGroupId, exchange.credentialId]).toEqual(['', '', 'sub-1'])
    expect(exchange.requestHeaders.get('x-consumer-username')).toBeUndefined()
    expect(exchange.requestHeaders.get('x-credential-identifier')).toBe('sub-1')
  })
})
