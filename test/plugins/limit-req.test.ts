import { describe, expect, test } from 'vitest'
import { limitReq } from '../../src/plugins/limit-req.js'
import type { Json, PluginInstance } from '../../src/plugins/plugin.js'
import { type FakeRequest, fakeExchange } from '../support/fake-exchange.js'
import { FakeLimits, linkKit } from '../support/link-kit.js'
import { configure, problemsOf, requestPhases } from './configured.js'

async function statuses(instance: PluginInstance, count: number, request: FakeRequest = {}): Promise<number[]> {
  const found: number[] = []
  for (let sent = 0; sent < count; sent++) found.push((await requestPhases(instance, fakeExchange(request)))?.status ?? 200)
  return found
}

function harness(conf: object) {
  const limits = new FakeLimits()
  const kit = linkKit(null, limits)
  return { limits, kit, instance: configure(limitReq, conf as Json, { kit }) }
}

const byAddress = { key: 'remote_addr' }

test('burst 0 admits one per 1/rate s, without waiting', async () => {
  const { limits, kit, instance } = harness({ ...byAddress, rate: 4, burst: 0 })
  expect(await statuses(instance, 2)).toEqual([200, 503])
  limits.nowMs += 249
  expect(await statuses(instance, 1)).toEqual([503])
  limits.nowMs += 1
  expect(await statuses(instance, 2)).toEqual([200, 503])
  expect(kit.delays).toEqual([])
})

test('burst b queues b more, each for its own time; a refusal changes nothing', async () => {
  const { limits, kit, instance } = harness({ ...byAddress, rate: 10, burst: 3 })
  expect(await statuses(instance, 6)).toEqual([200, 200, 200, 200, 503, 503])
  expect(kit.delays).toEqual([100, 200, 300])
  limits.nowMs += 250
  expect(await statuses(instance, 3)).toEqual([200, 200, 503])
  expect(kit.delays.slice(3)).toEqual([150, 250])
})

test('delays below a millisecond are none', async () => {
  const { kit, instance } = harness({ ...byAddress, rate: 2000, burst: 3 })
  await statuses(instance, 4)
  expect(kit.delays).toEqual([1, 1.5])
})

test('nodelay lets the burst through at once', async () => {
  const { kit, instance } = harness({ ...byAddress, rate: 1, burst: 2, nodelay: true })
  expect(await statuses(instance, 4)).toEqual([200, 200, 200, 503])
  expect(kit.delays).toEqual([])
})

test('rates below one per second', async () => {
  const { limits, instance } = harness({ ...byAddress, rate: 0.1, burst: 0 })
  expect(await statuses(instance, 1)).toEqual([200])
  limits.nowMs += 9_999
  expect(await statuses(instance, 1)).toEqual([503])
  limits.nowMs += 1
  expect(await statuses(instance, 1)).toEqual([200])
})

test('a refusal says when to come again', async () => {
  const { instance } = harness({ ...byAddress, rate: 0.5, burst: 0, rejected_code: 429, rejected_msg: 'slow down' })
  await statuses(instance, 1)
  expect(await requestPhases(instance, fakeExchange())).toEqual({
    status: 429,
    body: '{"error_msg":"slow down"}\n',
    headers: [['Retry-After', '2']],
  })
})

describe('keys', () => {
  test('count for themselves', async () => {
    const { instance } = harness({ rate: 1, burst: 0, key: '$remote_addr $http_x_id', key_type: 'var_combination' })
    const ask = (clientAddress: string, id: string) => statuses(instance, 1, { clientAddress, headers: { 'X-Id': id } })
    expect([await ask('::1', 'a'), await ask('::1', 'b'), await ask('::2', 'a'), await ask('::1', 'a')]).toEqual([
      [200],
      [200],
      [200],
      [503],
    ])
  })

  test('without a value are the address, with one warning', async () => {
    const { kit, instance } = harness({ rate: 1, burst: 0, key: 'http_x_id' })
    const from = (clientAddress: string) => statuses(instance, 1, { clientAddress })
    expect([await from('10.0.0.1'), await from('10.0.0.2'), await from('10.0.0.1')]).toEqual([[200], [200], [503]])
    expect(kit.logged).toEqual(['warn: limit-req: key "http_x_id" has no value; such requests are counted by the address of the client'])
  })
})

test.each<[string, object, RegExp]>([
  ['no rate', { burst: 0, key: 'host' }, /rate/],
  ['rate 0', { rate: 0, burst: 0, key: 'host' }, /^rate: /],
  ['no burst', { rate: 1, key: 'host' }, /burst/],
  ['a negative burst', { rate: 1, burst: -1, key: 'host' }, /^burst: /],
  ['no key', { rate: 1, burst: 0 }, /key/],
  ['a constant key', { rate: 1, burst: 0, key: 'a', key_type: 'constant' }, /^key_type: /],
  ['an unknown policy', { rate: 1, burst: 0, key: 'host', policy: 'cluster' }, /^policy: /],
])('refuses %s', (_, conf, problem) => expect(problemsOf(limitReq, conf as Json).join('\n')).toMatch(problem))
