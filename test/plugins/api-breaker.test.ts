import { describe, expect, test } from 'vitest'
import { apiBreaker } from '../../src/plugins/api-breaker.js'
import type { Json, PluginInstance, Reply } from '../../src/plugins/plugin.js'
import { fakeExchange } from '../support/fake-exchange.js'
import { linkKit } from '../support/link-kit.js'
import { configure, problemsOf } from './configured.js'

const SECOND = 100_000_000

class Site {
  readonly kit = linkKit()
  private readonly instance: PluginInstance

  constructor(conf: object = {}) {
    this.kit.circuits.nowMs = SECOND
    this.instance = configure(apiBreaker, { break_response_code: 502, ...conf } as Json, { kit: this.kit })
  }

  /** What the client gets; the upstream answers with `upstream`, 0 = there was no answer because the client left. */
  ask(upstream: number, target = '/orders', host = 'a.test'): Reply | number {
    const exchange = fakeExchange({ target, host })
    const reply = this.instance.access?.(exchange)
    if (reply !== undefined && reply !== null && !(reply instanceof Promise)) {
      this.instance.log?.(exchange)
      return reply
    }
    exchange.upstreamLastStatus = upstream
    this.instance.log?.(exchange)
    return upstream
  }

  asks(...upstream: readonly number[]): (Reply | number)[] {
    return upstream.map((status) => this.ask(status))
  }

  get isOpen(): boolean {
    return typeof this.ask(0) !== 'number'
  }

  at(ms: number): this {
    this.kit.circuits.nowMs = SECOND + ms
    return this
  }
}

const broken = { status: 502, body: '' }

// semantics §5.1: failures 3, successes 3 unless said otherwise
test.each<[string, object, readonly number[], boolean]>([
  ['three failures', {}, [500, 500, 500], true],
  ['two', {}, [500, 500], false],
  ['a success in between does not help', {}, [500, 500, 200, 500], true],
  ['three successes forget', {}, [500, 500, 200, 200, 200, 500, 500], false],
  ['a failure begins the successes anew', {}, [500, 500, 200, 200, 500], true],
  ['successes before, between failures: only those since the last count', {}, [500, 200, 200, 500, 200, 200, 500], true],
  ['successes when nothing was counted are not saved up', {}, [200, 200, 200, 500, 500, 500], true],
  ['statuses that are in no list count neither way', {}, [500, 404, 500, 302, 502, 503, 504, 404], false],
  ['other lists', { unhealthy: { http_statuses: [503, 504], failures: 2 } }, [504, 500, 503], true],
  ['one failure is enough', { unhealthy: { failures: 1 } }, [500], true],
  ['no answer is no status', {}, [500, 500, 0, 0], false],
])('%s', (_, conf, upstream, isOpen) => {
  const site = new Site(conf)
  site.asks(...upstream)
  expect(site.isOpen).toBe(isOpen)
})

describe('the break', () => {
  test('lasts 2 s, then 4, then 8, up to the bound, and lets everything through in between', () => {
    const site = new Site({ max_breaker_sec: 5 })
    let at = 0
    for (const seconds of [2, 4, 5, 5]) {
      expect(site.at(at).asks(500, 500, 500)).toEqual([500, 500, 500])
      expect(site.isOpen).toBe(true)
      // Whole seconds, inclusive; the longest ends with the moment itself, which is forgotten then.
      const last = seconds === 5 ? at + 4999 : at + seconds * 1000 + 999
      expect(site.at(last).isOpen).toBe(true)
      expect(site.at(last + 1).isOpen).toBe(false)
      at = last + 1
    }
  })

  test('max_breaker_sec 3 in the second round is 3 s', () => {
    const site = new Site({ max_breaker_sec: 3 })
    site.asks(500, 500, 500)
    site.at(3000).asks(500, 500, 500)
    expect([site.at(5999).isOpen, site.at(6000).isOpen]).toEqual([true, false])
  })

  test('whole seconds: a trip late in a second', () => {
    const site = new Site().at(900)
    site.asks(500, 500, 500)
    expect([site.at(2999).isOpen, site.at(3000).isOpen]).toEqual([true, false])
  })

  test('after a full recovery it is short again', () => {
    const site = new Site()
    site.asks(500, 500, 500)
    site.at(3000).asks(500, 500, 500)
    site.at(8000).asks(200, 200, 200, 500, 500, 500)
    expect([site.at(10_999).isOpen, site.at(11_000).isOpen]).toEqual([true, false])
  })

  test('is by host and path', () => {
    const site = new Site()
    site.asks(500, 500, 500)
    expect([site.ask(0, '/orders?x=1'), site.ask(0, '/orders/1'), site.ask(0, '/orders', 'b.test')]).toEqual([broken, 0, 0])
    expect(site.kit.logged).toEqual(['warn: api-breaker: a.test/orders is broken for 2 s'])
  })
})

test('answers with code, body and headers; headers only with a body', () => {
  const headers = [{ key: 'X-Path', value: '$uri' }]
  const answer = (conf: object) => {
    const site = new Site({ unhealthy: { failures: 1 }, ...conf })
    site.ask(500)
    return site.ask(200)
  }
  expect(answer({ break_response_code: 599, break_response_body: '{"m":1}', break_response_headers: headers })).toEqual({
    status: 599,
    body: '{"m":1}',
    headers: [['X-Path', '/orders']],
  })
  expect(answer({ break_response_headers: headers })).toEqual(broken)
})

test('made-up paths find room, and those with the latest breaks are kept', () => {
  const site = new Site({ unhealthy: { failures: 2 } })
  for (let path = 0; path < 70_000; path++) site.ask(500, `/made-up/${path}`)
  site.asks(500, 500)
  expect(site.isOpen).toBe(true)
  for (let path = 0; path < 10_000; path++) site.ask(500, `/more/${path}`)
  expect(site.isOpen).toBe(true)
})

test.each<[string, object, RegExp]>([
  ['no code', { break_response_code: undefined }, /break_response_code/],
  ['code 199', { break_response_code: 199 }, /^break_response_code: /],
  ['max_breaker_sec 2', { max_breaker_sec: 2 }, /^max_breaker_sec: /],
  ['a healthy 500', { healthy: { http_statuses: [500] } }, /^healthy\.http_statuses/],
  ['an unhealthy 404', { unhealthy: { http_statuses: [404] } }, /^unhealthy\.http_statuses/],
  ['statuses twice', { unhealthy: { http_statuses: [500, 500] } }, /^unhealthy\.http_statuses: /],
  ['no statuses', { healthy: { http_statuses: [] } }, /^healthy\.http_statuses: /],
  ['failures 0', { unhealthy: { failures: 0 } }, /^unhealthy\.failures: /],
  ['an unknown variable', { break_response_headers: [{ key: 'a', value: '$post_arg_x' }] }, /^break_response_headers\.0\.value: /],
])('refuses %s', (_, conf, problem) => {
  const { break_response_code: code = 502, ...rest } = conf as { break_response_code?: number }
  const whole = 'break_response_code' in conf && conf.break_response_code === undefined ? rest : { break_response_code: code, ...rest }
  expect(problemsOf(apiBreaker, whole as Json).join('\n')).toMatch(problem)
})
