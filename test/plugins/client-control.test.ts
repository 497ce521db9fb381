import { describe, expect, test } from 'vitest'
import { clientControl } from '../../src/plugins/client-control.js'
import { fakeExchange } from '../support/fake-exchange.js'
import { configure, problemsOf, requestPhases } from './configured.js'

describe('client-control', () => {
  test.each([
    [0, undefined],
    [5, undefined],
    [6, { status: 413 }],
    [-1, undefined],
  ])('an announced length of %i against a limit of 5', async (bodyLength, expected) => {
    const exchange = fakeExchange({ method: 'POST', bodyLength })
    expect(await requestPhases(configure(clientControl, { max_body_size: 5 }), exchange)).toEqual(expected)
  })

  test('hands the limit to the proxy, which counts bodies of unknown length', async () => {
    const exchange = fakeExchange({ method: 'POST', bodyLength: -1 })
    exchange.maxRequestBodyBytes = 1000
    await requestPhases(configure(clientControl, { max_body_size: 5 }), exchange)
    expect(exchange.maxRequestBodyBytes).toBe(5)
  })

  test('0 lifts the limit', async () => {
    const exchange = fakeExchange({ method: 'POST', bodyLength: 1e9 })
    exchange.maxRequestBodyBytes = 1000
    expect(await requestPhases(configure(clientControl, { max_body_size: 0 }), exchange)).toBeUndefined()
    expect(exchange.maxRequestBodyBytes).toBe(0)
  })

  test('without the option the limit of the gateway stays', async () => {
    const exchange = fakeExchange({ method: 'POST', bodyLength: 10 })
    exchange.maxRequestBodyBytes = 1000
    expect(await requestPhases(configure(clientControl, {}), exchange)).toBeUndefined()
    expect(exchange.maxRequestBodyBytes).toBe(1000)
  })

  test('refuses sizes that are none', () => {
    expect(problemsOf(clientControl, { max_body_size: -1 })).toHaveLength(1)
    expect(problemsOf(clientControl, { max_body_size: 1.5 })).toHaveLength(1)
    expect(problemsOf(clientControl, { max_body_size: '1m' })).toHaveLength(1)
  })
})
