import { describe, expect, test } from 'vitest'
import { circuitBreaker } from '../../src/plugins/circuit-breaker.js'
import type { Json, PluginInstance, Reply } from '../../src/plugins/plugin.js'
import { type FakeAnswer, type FakeExchange, type FakeRequest, fakeExchange } from '../support/fake-exchange.js'
import { linkKit, linkPlugin, prepareKit } from '../support/link-kit.js'
import { problemsOf } from './configured.js'

const route = { id: '1', name: '', serviceId: '', serviceName: '', labels: {} }

/** How the upstream's part of a request ended. */
interface Ending
  extends Partial<Pick<FakeExchange, 'upstreamFailed' | 'upstreamResponseMs' | 'upstreamStandstillMs' | 'aborted' | 'elapsed'>> {
  readonly status?: number
  readonly source?: FakeAnswer['source']
}

const ok: Ending = { status: 200 }
const failed: Ending = { status: 500 }

class Site {
  readonly kit = linkKit(route)
  private readonly instance: PluginInstance

  constructor(conf: object, owner = 'routes/1') {
    this.instance = linkPlugin(circuitBreaker, conf as Json, this.kit, prepareKit({ owner }))
  }

  begin(request: FakeRequest & { readonly upstream?: string } = {}): {
    readonly exchange: FakeExchange
    readonly reply: Reply | undefined
  } {
    const exchange = fakeExchange({ route, ...request })
    exchange.upstreamIndex = request.upstream === undefined ? 0 : Number(request.upstream)
    exchange.upstreamKey = `upstreams/${exchange.upstreamIndex}`
    const reply = this.instance.access?.(exchange)
    if (reply instanceof Promise) throw new Error('a breaker decides at once')
    return { exchange, reply: reply ?? undefined }
  }

  end(exchange: FakeExchange, { status = 200, source = 'upstream', ...fields }: Ending): void {
    exchange.respond({ status, source })
    if (source === 'upstream') exchange.upstreamLastStatus = status
    Object.assign(exchange, fields)
    this.instance.log?.(exchange)
  }

  /** Status that the client gets. */
  ask(ending: Ending = ok, request: FakeRequest & { readonly upstream?: string } = {}): number {
    const { exchange, reply } = this.begin(request)
    this.end(exchange, reply === undefined ? ending : { status: reply.status, source: 'gateway' })
    return reply?.status ?? ending.status ?? 200
  }

  wait(ms: number): void {
    this.kit.circuits.nowMs += ms
  }

  get transitions(): string[] {
    return this.kit.circuits.events.map(({ from, to, reason }) => `${from} ${to} ${reason}`)
  }
}

test('closed, open, half-open, closed', () => {
  const site = new Site({ consecutive_failures: 3, open_seconds: 30, successes: 2 })
  expect([failed, failed, ok, failed, failed, failed, ok].map((ending) => site.ask(ending))).toEqual([500, 500, 200, 500, 500, 500, 503])
  site.wait(29_000)
  expect(site.begin().reply).toEqual({
    status: 503,
    body: '{"error_msg":"the circuit breaker is open"}\n',
    headers: [['Retry-After', '1']],
  })
  site.wait(1000)
  const [first, second, third] = [site.begin(), site.begin(), site.begin()]
  expect([first.reply, second.reply, third.reply?.status]).toEqual([undefined, undefined, 503])
  site.end(first.exchange, ok)
  site.end(second.exchange, ok)
  expect(site.ask()).toBe(200)
  expect(site.transitions).toEqual([
    'closed open consecutive-failures',
    'open half-open open-time-over',
    'half-open closed probes-succeeded',
  ])
})

test.each<[string, Ending, boolean]>([
  ['a listed status', { status: 503 }, true],
  ['another error status', { status: 501 }, false],
  ['a client error', { status: 404 }, false],
  ['an answer that never came', { status: 504, source: 'gateway', upstreamFailed: true }, true],
  ['an answer that broke off in the middle', { status: 200, upstreamFailed: true, aborted: true }, true],
  ['a client that left while it waited', { status: 0, source: 'gateway', aborted: true }, false],
  ['a client that left in the middle of an error', { status: 500, aborted: true }, false],
  ['a refusal by another plugin', { status: 429, source: 'gateway' }, false],
])('%s', (_, ending, counts) => {
  const site = new Site({ consecutive_failures: 1 })
  site.ask(ending)
  expect(site.ask() === 503).toBe(counts)
})

describe('ratios', () => {
  test('errors: from the minimum on, within the window', () => {
    const site = new Site({ consecutive_failures: 0, error_ratio: 0.5, minimum_requests: 4, window_seconds: 10 })
    for (const ending of [failed, failed, failed]) expect(site.ask(ending)).toBe(500)
    site.wait(10_000)
    for (const ending of [failed, ok, ok, failed]) site.ask(ending)
    expect(site.transitions).toEqual(['closed open error-ratio'])
  })

  test('a success may be what reaches the minimum', () => {
    const site = new Site({ consecutive_failures: 0, error_ratio: 0.5, minimum_requests: 3 })
    expect([failed, failed, ok, ok].map((ending) => site.ask(ending))).toEqual([500, 500, 200, 503])
  })

  test('slow calls, and a slow probe', () => {
    const slow: Ending = { status: 200, upstreamResponseMs: 2000, upstreamStandstillMs: 0 }
    const site = new Site({ consecutive_failures: 0, slow_call_ratio: 0.6, slow_call_seconds: 2, minimum_requests: 5, open_seconds: 1 })
    // Three seconds and more of it this thread stood still.
    const held: Ending = { ...ok, upstreamResponseMs: 5000, upstreamStandstillMs: 3001 }
    for (const ending of [slow, held, slow, { ...ok, upstreamResponseMs: 1999, upstreamStandstillMs: 0 }, slow]) site.ask(ending)
    expect(site.transitions).toEqual(['closed open slow-ratio'])
    site.wait(1000)
    site.ask(slow)
    expect(site.transitions.at(-1)).toBe('half-open open probe-failed')
  })
})

describe('slow calls that have not ended', () => {
  const conf = { consecutive_failures: 3, slow_call_ratio: 0.5, slow_call_seconds: 2, minimum_requests: 4, open_seconds: 1 }
  const hang = (site: Site): FakeExchange => {
    const { exchange, reply } = site.begin()
    expect([reply, exchange.slowWatchMs]).toEqual([undefined, 2000])
    exchange.slowWatch?.slow(exchange)
    return exchange
  }

  test('open it while they hang, and do not count again as requests when they end', () => {
    const site = new Site({ ...conf, consecutive_failures: 0, error_ratio: 0.6 })
    for (const ending of [ok, ok]) site.ask(ending)
    const hanging = [hang(site), hang(site)]
    expect(site.transitions).toEqual(['closed open slow-ratio'])
    expect(site.ask()).toBe(503)
    site.wait(1000)
    const probe = hang(site)
    expect(site.transitions.at(-1)).toBe('half-open open probe-failed')
    for (const exchange of [...hanging, probe]) site.end(exchange, { ...failed, elapsed: 5000 })
    expect(site.transitions).toHaveLength(3)
  })

  test('say nothing of failures in a row until they end', () => {
    const site = new Site({ ...conf, minimum_requests: 100 })
    site.ask(failed)
    site.ask(failed)
    const hanging = hang(site)
    expect(site.transitions).toEqual([])
    site.end(hanging, { ...failed, upstreamFailed: true })
    expect(site.transitions).toEqual(['closed open consecutive-failures'])
    const recovered = new Site({ ...conf, minimum_requests: 100 })
    for (const ending of [failed, failed]) recovered.ask(ending)
    recovered.end(hang(recovered), { ...ok, upstreamResponseMs: 3000 })
    recovered.ask(failed)
    expect(recovered.transitions).toEqual([])
  })

  test('are not watched where nothing is said of slow calls', () => {
    expect(new Site({}).begin().exchange.slowWatchMs).toBe(0)
  })
})

describe('scope', () => {
  const one = { consecutive_failures: 1 }

  test('upstream: whichever route leads there', () => {
    const site = new Site({ ...one, scope: 'upstream' })
    site.ask(failed, { upstream: '3' })
    expect([site.ask(ok, { upstream: '3' }), site.ask(ok, { upstream: '4' })]).toEqual([503, 200])
    expect(site.kit.circuits.declared.map(({ name }) => name)).toEqual(['upstream:upstreams/3', 'upstream:upstreams/4'])
  })

  test('node: every try counts for its own node, and an open one is not admitted', () => {
    const site = new Site({ ...one, scope: 'node', open_seconds: 1, successes: 1 })
    const tried = (addresses: readonly string[], ending: Ending): boolean[] => {
      const { exchange, reply } = site.begin()
      expect(reply).toBeUndefined()
      const admitted = addresses.map((address) => exchange.nodeGate?.admit(exchange, address) ?? false)
      site.end(exchange, ending)
      return admitted
    }
    expect(tried(['a:1', 'b:2'], ok)).toEqual([true, true])
    expect(tried(['a:1', 'b:2'], ok)).toEqual([false, true])
    site.wait(1000)
    expect(tried(['a:1'], ok)).toEqual([true])
    expect(tried(['a:1'], ok)).toEqual([true])
    expect(site.transitions).toEqual([
      'closed open consecutive-failures',
      'open half-open open-time-over',
      'half-open closed probes-succeeded',
    ])
  })

  test('consumer: each on each route', () => {
    const site = new Site({ ...one, scope: 'consumer' })
    site.ask(failed, { consumerName: 'jack' })
    expect([site.ask(ok, { consumerName: 'jack' }), site.ask(ok, { consumerName: 'jill' }), site.ask(ok)]).toEqual([503, 200, 200])
    expect(site.kit.circuits.declared.map(({ name }) => name)).toEqual(['consumer:1:jack', 'consumer:1:jill', 'consumer:1:'])
  })

  test('a global rule has breakers of its own', () => {
    const site = new Site(one, 'global_rules/g')
    site.ask(failed)
    expect(site.kit.circuits.declared.map(({ name }) => name)).toEqual(['global_rules/g:route:1'])
  })
})

test('a dry run refuses nothing and goes through the states all the same', () => {
  const site = new Site({ consecutive_failures: 1, successes: 1, open_seconds: 1, dry_run: true })
  expect([failed, ok, ok].map((ending) => site.ask(ending))).toEqual([500, 200, 200])
  site.wait(1000)
  expect(site.ask()).toBe(200)
  expect(site.transitions.at(-1)).toBe('half-open closed probes-succeeded')
})

test('the refusal is as configured', () => {
  const site = new Site({ consecutive_failures: 1, open_seconds: 12.5, rejected_code: 429, rejected_msg: 'later' })
  site.ask(failed)
  expect(site.begin().reply).toEqual({ status: 429, body: '{"error_msg":"later"}\n', headers: [['Retry-After', '13']] })
})

test('policy redis needs the Redis of the process', () => {
  expect(() => new Site({ policy: 'redis' })).toThrow('expected sluice.redis or --redis')
})

test.each<[string, object, RegExp]>([
  ['nothing that opens it', { consecutive_failures: 0 }, /^consecutive_failures: nothing would ever open/],
  ['a ratio of 0', { error_ratio: 0 }, /^error_ratio: /],
  ['a ratio above 1', { slow_call_ratio: 1.1 }, /^slow_call_ratio: /],
  ['a longest time below the first', { open_seconds: 400 }, /^max_open_seconds: 300 is below/],
  ['33 probes', { half_open_requests: 33 }, /^half_open_requests: /],
  ['a status of 200', { failure_statuses: [200] }, /^failure_statuses/],
])('refuses %s', (_, conf, problem) => expect(problemsOf(circuitBreaker, conf as Json).join('\n')).toMatch(problem))
