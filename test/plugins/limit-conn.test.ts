import { describe, expect, test } from 'vitest'
import { limitConn } from '../../src/plugins/limit-conn.js'
import type { BoundLimiter, Decision, Json, PluginInstance } from '../../src/plugins/plugin.js'
import { type FakeExchange, type FakeRequest, fakeExchange } from '../support/fake-exchange.js'
import { linkKit } from '../support/link-kit.js'
import { configure, problemsOf, requestPhases } from './configured.js'

const byAddress = { key: 'remote_addr', default_conn_delay: 0.1 }

interface Sent {
  readonly status: number
  readonly exchange: FakeExchange
}

async function send(instance: PluginInstance, request: FakeRequest = {}): Promise<Sent> {
  const exchange = fakeExchange(request)
  return { status: (await requestPhases(instance, exchange))?.status ?? 200, exchange }
}

async function sendAll(instance: PluginInstance, count: number): Promise<Sent[]> {
  const all: Sent[] = []
  for (let sent = 0; sent < count; sent++) all.push(await send(instance))
  return all
}

test('conn at a time; a place that is given back is free for the next, refusals hold none', async () => {
  const instance = configure(limitConn, { ...byAddress, conn: 2, burst: 0 })
  const [first, second, third] = await sendAll(instance, 3)
  expect([first, second, third].map((sent) => sent?.status)).toEqual([200, 200, 503])
  if (third !== undefined) instance.log?.(third.exchange)
  expect((await send(instance)).status).toBe(503)
  if (first !== undefined) instance.log?.(first.exchange)
  expect((await sendAll(instance, 2)).map((sent) => sent.status)).toEqual([200, 503])
})

test('burst is delayed in steps of conn', async () => {
  const kit = linkKit()
  const instance = configure(limitConn, { ...byAddress, conn: 2, burst: 4 }, { kit })
  expect((await sendAll(instance, 7)).map((sent) => sent.status)).toEqual([200, 200, 200, 200, 200, 200, 503])
  // the 3rd and 4th, then the 5th and 6th
  expect(kit.delays).toEqual([100, 100, 200, 200])
})

describe('the delay', () => {
  async function delaysAfter(conf: object, upstreamResponseMs: number): Promise<readonly number[]> {
    const kit = linkKit()
    const instance = configure(limitConn, { ...byAddress, conn: 1, burst: 1, ...conf }, { kit })
    const { exchange } = await send(instance)
    exchange.upstreamResponseMs = upstreamResponseMs
    exchange.elapsed = 500
    instance.log?.(exchange)
    await sendAll(instance, 2)
    return kit.delays
  }

  test('follows what the upstream takes', async () => expect(await delaysAfter({}, 300)).toEqual([200]))
  test('follows the whole request when no upstream was asked', async () => expect(await delaysAfter({}, -1)).toEqual([300]))
  test('stays with only_use_default_delay', async () => expect(await delaysAfter({ only_use_default_delay: true }, 300)).toEqual([100]))
})

test('a refusal says when to come again', async () => {
  const instance = configure(limitConn, {
    ...byAddress,
    conn: 1,
    burst: 0,
    default_conn_delay: 1.2,
    rejected_code: 429,
    rejected_msg: 'full',
  })
  await send(instance)
  expect(await requestPhases(instance, fakeExchange())).toEqual({
    status: 429,
    body: '{"error_msg":"full"}\n',
    headers: [['Retry-After', '2']],
  })
})

test('rules are decided together; one without a key is left out', async () => {
  const rules = [
    { conn: 1, burst: 0, key: '$http_x_user' },
    { conn: 2, burst: 0, key: '$remote_addr' },
  ]
  const instance = configure(limitConn, { default_conn_delay: 0.1, rules })
  const headers = { 'X-User': 'a' }
  const first = await send(instance, { headers })
  const others = [await send(instance, { headers }), await send(instance), await send(instance)]
  expect([first, ...others].map((sent) => sent.status)).toEqual([200, 503, 200, 503])
  instance.log?.(first.exchange)
  expect((await send(instance, { headers })).status).toBe(200)
})

test('the log phase is asked for whatever the filter says by then', () => {
  expect(configure(limitConn, { ...byAddress, conn: 1, burst: 0 }).alwaysLogs).toBe(true)
})

test('a request that ends while the store is asked holds no place', async () => {
  const kit = linkKit()
  const released: number[] = []
  let answer: (() => void) | null = null
  const limiter: typeof kit.limiter = (spec): BoundLimiter => ({
    spec,
    joint: null,
    giveBack: () => undefined,
    decision: () => kit.limits.bind(spec).decision(),
    peek: (_keys, _cost, out) => out,
    release: (hold) => released.push(hold),
    check: (_keys, _cost, out) =>
      new Promise<Decision>((resolve) => {
        answer = () => resolve(Object.assign(out, { hold: 7 }))
      }),
  })
  const instance = configure(
    limitConn,
    { ...byAddress, conn: 1, burst: 0, policy: 'redis', redis_host: 'there' },
    { kit: { ...kit, limiter } },
  )
  const exchange = fakeExchange()
  const pending = instance.access?.(exchange)
  instance.log?.(exchange)
  expect(released).toEqual([])
  const go: (() => void) | null = answer
  if (go !== null) (go as () => void)()
  // Ends the phase; there is nobody to answer.
  expect(await pending).toEqual({ status: 499 })
  expect(released).toEqual([7])
})

test.each<[string, object, RegExp]>([
  ['no conn', { burst: 0, ...byAddress }, /property "conn" is required/],
  ['no burst', { conn: 1, ...byAddress }, /property "burst" is required/],
  ['no key', { conn: 1, burst: 0, default_conn_delay: 1 }, /property "key" is required/],
  ['no delay', { conn: 1, burst: 0, key: 'host' }, /default_conn_delay/],
  ['a delay of 0', { conn: 1, burst: 0, key: 'host', default_conn_delay: 0 }, /^default_conn_delay: /],
  ['conn 0', { ...byAddress, conn: 0, burst: 0 }, /^conn: /],
  ['rules and conn', { ...byAddress, conn: 1, rules: [{ conn: 1, burst: 0, key: 'a' }] }, /^conn: conn and rules exclude each other/m],
])('refuses %s', (_, conf, problem) => expect(problemsOf(limitConn, conf as Json).join('\n')).toMatch(problem))
