/** Limits of one request in a chain: what one refuses uses up nothing of the others, wherever they stand and wherever they count. */
import { describe, expect, test } from 'vitest'
import { type LimitGroup, limitAlone } from '../../../src/dataplane/limits/limit-group.js'
import { type Chain, joinChains, linkChain, runSteps } from '../../../src/dataplane/phases/chain.js'
import { type BoundLimiter, Decision, type LimitAsk, type LimiterSpec, type LimitKeys } from '../../../src/limits/contract.js'
import { limitConn } from '../../../src/plugins/limit-conn.js'
import { limitCount } from '../../../src/plugins/limit-count.js'
import { limitReq } from '../../../src/plugins/limit-req.js'
import { type AnyPlugin, definePlugin, type Json, type Reply, Type } from '../../../src/plugins/plugin.js'
import { rateLimit } from '../../../src/plugins/rate-limit.js'
import { rateLimiting } from '../../../src/plugins/rate-limiting.js'
import { type FakeExchange, type FakeRequest, fakeExchange } from '../../support/fake-exchange.js'
import { FakeLimits, type FakeLinkKit, linkKit, prepareKit, problemsOf } from '../../support/link-kit.js'

/** No limit: goes on. */
const between = definePlugin({
  name: 'between',
  priority: 1,
  description: 'For tests.',
  schema: Type.Object({}),
  prepare: () => ({}),
  link: () => ({ access: () => undefined }),
})
const registry = new Map<string, AnyPlugin>(
  [limitConn, limitCount, limitReq, rateLimit, rateLimiting, between].map((plugin) => [plugin.name, plugin]),
)

interface Plugin {
  readonly name: string
  readonly conf?: object
  readonly filter?: Json
  readonly errorResponse?: Json
}

/** Stands for Redis: counts in a table of its own, answers later, can be told to fail, and counts its calls. */
class SlowLimits extends FakeLimits {
  calls = 0
  isDown = false

  override bind(spec: LimiterSpec): BoundLimiter {
    const inner = super.bind(spec)
    const { joint: innerJoint } = inner
    const innerOf = (ask: LimitAsk): LimitAsk => ({ ...ask, limiter: this.inner.get(ask.limiter) ?? inner })
    const limiter: BoundLimiter = {
      spec,
      joint: this.joint((asks, isPeek) => innerJoint?.decide(asks.map(innerOf), isPeek)),
      decision: () => inner.decision(),
      check: async (keys: LimitKeys, cost, out, overrides) => {
        await this.answer([out], () => void inner.check(keys, cost, out, overrides))
        return out
      },
      peek: (keys, cost, out) => inner.peek(keys, cost, out),
      release: (hold) => inner.release(hold),
      giveBack: (ask) => inner.giveBack(innerOf(ask)),
    }
    this.inner.set(limiter, inner)
    return limiter
  }

  readonly inner = new Map<BoundLimiter, BoundLimiter>()
  private decide: ((asks: readonly LimitAsk[], isPeek: boolean) => void) | null = null
  private readonly shared = {
    isImmediate: false,
    placeOf: null,
    decide: (asks: readonly LimitAsk[], isPeek: boolean) =>
      this.answer(
        asks.map(({ out }) => out),
        () => this.decide?.(asks, isPeek),
      ),
  }

  private joint(decide: (asks: readonly LimitAsk[], isPeek: boolean) => void | Promise<void>) {
    this.decide = (asks, isPeek) => void decide(asks, isPeek)
    return this.shared
  }

  private async answer(outs: readonly Decision[], decide: () => void): Promise<void> {
    this.calls++
    await Promise.resolve()
    if (!this.isDown) decide()
    else for (const out of outs) Object.assign(out, { allowed: false, basis: 'refused', refusedBy: -1, isCharged: false, hold: -1 })
  }
}

class Site {
  readonly limits = new FakeLimits()
  readonly remote = new SlowLimits()
  readonly kit: FakeLinkKit
  readonly chain: Chain
  private owners = 0

  constructor(...chains: readonly (readonly Plugin[])[]) {
    const base = linkKit(null, this.limits)
    const own = {
      limiter: (spec: LimiterSpec) => (spec.store.kind === 'local' ? this.limits : this.remote).bind(spec),
      slot: base.slot,
    }
    this.kit = { ...base, ...own, forPlugin: (name) => ({ ...base.forPlugin(name), ...own }) }
    const linked = chains.map((plugins) =>
      linkChain(
        plugins.map((plugin) => this.compile(plugin)),
        registry,
        this.kit,
      ),
    )
    this.chain = linked.slice(1).reduce(joinChains, linked[0] as Chain)
  }

  private compile({ name, conf = {}, filter = null, errorResponse = null }: Plugin) {
    const plugin = registry.get(name)
    if (plugin === undefined) throw new Error(`no ${name}`)
    const filled = { ...defaults(plugin), ...conf } as Json
    expect(problemsOf(plugin, filled).filter(({ isWarning }) => isWarning !== true)).toEqual([])
    const owner = `routes/${this.owners++}`
    return { name, priority: 1, prepared: plugin.prepare(filled, prepareKit({ owner })), filter, errorResponse, owner }
  }

  set nowMs(ms: number) {
    this.limits.nowMs = ms
    this.remote.nowMs = ms
  }

  async open(request: FakeRequest = {}): Promise<{ readonly exchange: FakeExchange; readonly reply: Reply | undefined }> {
    const exchange = fakeExchange(request)
    return { exchange, reply: (await runSteps(this.chain.access, 'access', exchange)) ?? undefined }
  }

  close(exchange: FakeExchange, status = 200): void {
    exchange.respond({ status })
    for (const { filter, run } of this.chain.headerFilter) if (filter === null || filter(exchange)) run(exchange)
    for (const { instance } of this.chain.log) instance.log?.(exchange)
  }

  /** The status of a whole request, and the quotas that limit-count shows. */
  async ask(request: FakeRequest = {}): Promise<{ status: number; remaining: readonly string[] }> {
    const { exchange, reply } = await this.open(request)
    this.close(exchange, reply?.status)
    return { status: reply?.status ?? 200, remaining: exchange.response.headers.getAll('x-ratelimit-remaining') }
  }

  async statuses(count: number, request: FakeRequest = {}): Promise<number[]> {
    const found: number[] = []
    for (let sent = 0; sent < count; sent++) found.push((await this.ask(request)).status)
    return found
  }

  get groups(): readonly LimitGroup[] {
    return this.chain.limits
  }
}

/** What validation would fill in. */
function defaults(plugin: AnyPlugin): { [name: string]: Json } {
  const found: { [name: string]: Json } = {}
  for (const [name, field] of Object.entries(plugin.schema.properties)) {
    const value: unknown = Reflect.get(field, 'default')
    if (value !== undefined) found[name] = value as Json
  }
  return found
}

const count = (limit: number, more: object = {}): Plugin => ({
  name: 'limit-count',
  conf: { count: limit, time_window: 60, rejected_code: 429, ...more },
})
const bySource = { key: 'http_x_user' }
const redis = { policy: 'redis', redis_host: 'there' }

describe('limits next to each other', () => {
  test('the head for the upstream of a chain of limits need not be checked again', () => {
    const limit = { name: 'limit-count', conf: { count: 1, time_window: 60 } }
    expect(new Site([limit], [limit]).chain.keepsHeadSafe).toBe(true)
    expect(new Site([limit], [{ name: 'between' }, limit]).chain.keepsHeadSafe).toBe(false)
  })

  test('are one step, over global rules and route', () => {
    const site = new Site([count(9), count(9)], [count(9), { name: 'between' }, count(9)])
    expect(site.chain.access.length).toBe(3)
    expect(site.groups.map(({ members }) => members.length)).toEqual([3, 1])
    expect(site.chain.log.length).toBe(2)
  })

  test('that nobody looks at again are not kept until the request is over, unless a later group may undo them', async () => {
    const silent = (limit: number) => count(limit, { show_limit_quota_header: false })
    const alone = new Site([silent(2), silent(3)])
    expect([alone.chain.access.length, alone.chain.log.length, alone.groups.length]).toEqual([1, 0, 0])
    expect(await alone.statuses(4)).toEqual([200, 200, 429, 429])
    expect(new Site([silent(2), count(3)]).chain.log.length).toBe(1)
    expect(
      new Site([{ name: 'limit-count', conf: { count: 2, time_window: 60, show_limit_quota_header: false, ...redis } }]).groups.length,
    ).toBe(1)
    // The second of three requests is refused behind the first group, which gets back what it counted.
    const followed = new Site([silent(2), { name: 'between' }, count(1, { ...bySource, rejected_code: 403 })])
    expect([followed.chain.log.length, followed.groups.length]).toEqual([2, 2])
    const ann = { headers: { 'X-User': 'ann' } }
    expect(await followed.statuses(3, ann)).toEqual([200, 403, 403])
    expect(await followed.statuses(2, { headers: { 'X-User': 'bob' } })).toEqual([200, 429])
  })

  test('what the second refuses uses up nothing of the first', async () => {
    const site = new Site([count(5), count(2, { ...bySource, rejected_code: 403 })])
    const ann = { headers: { 'X-User': 'ann' } }
    expect(await site.statuses(9, ann)).toEqual([200, 200, 403, 403, 403, 403, 403, 403, 403])
    expect(await site.statuses(4, { headers: { 'X-User': 'bob' } })).toEqual([200, 200, 403, 403])
    expect(await site.statuses(2, { headers: { 'X-User': 'cat' } })).toEqual([200, 429])
  })

  test('the first in the order that refuses answers, and shows its quota', async () => {
    const site = new Site([count(1, { rejected_code: 444 }), count(1)])
    expect(await site.statuses(2)).toEqual([200, 444])
    expect((await site.ask()).remaining).toEqual(['0'])
  })

  test('a limit that its filter leaves out is not asked; each has its own error body', async () => {
    const site = new Site([
      { ...count(1), filter: [['http_x_user', '==', 'ann']], errorResponse: { who: 'first' } },
      { ...count(3), errorResponse: 'second' },
    ])
    expect(await site.statuses(2)).toEqual([200, 200])
    const ann = { headers: { 'X-User': 'ann' } }
    expect(await site.statuses(1, ann)).toEqual([200])
    expect((await site.open(ann)).reply?.body).toBe('{"who":"first"}\n')
    expect((await site.open()).reply?.body).toBe('second')
  })

  test('a dry run refuses nobody, and is refused with the others', async () => {
    const dry = { limits: [{ algorithm: 'fixed-window', limit: 1, window: 60 }], dry_run: true }
    const site = new Site([{ name: 'rate-limit', conf: dry }, count(2)])
    expect(await site.statuses(3)).toEqual([200, 200, 429])
    expect(site.kit.logged.length).toBe(2)
  })

  test('what counts refused requests counts those that come as far as it', async () => {
    const counting: Plugin = { name: 'rate-limiting', conf: { minute: 5, count_rejected: true } }
    const before = new Site([counting, count(1)])
    expect(await before.statuses(8)).toEqual([200, 429, 429, 429, 429, 429, 429, 429])
    const reply = (await before.open()).reply
    expect(reply?.body).toContain('API rate limit exceeded')
    const behind = new Site([count(1, { time_window: 30 }), counting])
    expect(await behind.statuses(8)).toEqual([200, 429, 429, 429, 429, 429, 429, 429])
    behind.nowMs = behind.limits.nowMs + 31_000
    expect(await behind.statuses(1)).toEqual([200])
  })

  test('places in flight are given back once, with those of a refused request', async () => {
    const site = new Site([
      { name: 'limit-conn', conf: { conn: 2, burst: 0, default_conn_delay: 1, key: 'host', rejected_code: 429 } },
      count(3, { rejected_code: 403 }),
      { name: 'rate-limit', conf: { limits: [{ algorithm: 'concurrency', limit: 2 }] } },
    ])
    const open = [await site.open(), await site.open(), await site.open()]
    expect(open.map(({ reply }) => reply?.status)).toEqual([undefined, undefined, 429])
    for (const { exchange } of open) site.close(exchange)
    expect(await site.statuses(3)).toEqual([200, 403, 403])
    const early = await site.open()
    expect(early.reply?.status).toBe(403)
  })

  test('places in flight can be given back before the end', async () => {
    const site = new Site([{ name: 'limit-conn', conf: { conn: 1, burst: 0, default_conn_delay: 1, key: 'host' } }])
    const { exchange } = await site.open()
    expect(await site.statuses(1)).toEqual([503])
    for (const group of site.groups) group.release(exchange)
    expect((await site.open()).reply).toBeUndefined()
    site.close(exchange)
    expect(await site.statuses(1)).toEqual([503])
  })

  test('of several delays the longest is waited for', async () => {
    const site = new Site([
      { name: 'limit-req', conf: { rate: 10, burst: 5, key: 'host' } },
      { name: 'limit-req', conf: { rate: 2, burst: 5, key: 'host' } },
    ])
    await site.statuses(3)
    expect(site.kit.delays).toEqual([500, 1000])
  })

  test('a count that the request does not give is an error that is logged', async () => {
    const site = new Site([count(3), count(1, { count: '$http_x_quota' })])
    expect(await site.statuses(2)).toEqual([500, 500])
    expect(site.kit.logged).toEqual(Array(2).fill('warn: limit-count: count "$http_x_quota" gave nothing for a request without a route'))
    const few = { headers: { 'X-Quota': '9' } }
    expect(await site.statuses(4, few)).toEqual([200, 200, 200, 429])
  })
})

describe('a request that waits in a queue', () => {
  function queueing() {
    const limits = new FakeLimits()
    const spec: LimiterSpec = {
      scope: 'q',
      rules: [{ algorithm: 'leaky-bucket', rate: 1, burst: 9 }],
      countRefused: false,
      dryRun: false,
      store: { kind: 'local' },
    }
    const limiter = limits.bind(spec)
    const left: number[] = []
    let places = 0
    const queue = () => {
      const place = places++
      let end = (): void => undefined
      const over = new Promise<void>((resolve) => {
        end = resolve
      })
      const leave = (): void => {
        left.push(place)
        end()
      }
      return { over, leave }
    }
    const limit = { ask: () => ({ limiter, keys: 'k', cost: 1 }), conclude: (_: unknown, { delayMs }: Decision) => delayMs }
    const instance = limitAlone({ limit }, 0, queue)
    const enter = () => {
      const exchange = fakeExchange()
      return { exchange, reply: instance.access?.(exchange) }
    }
    return { instance, enter, left, queued: async () => (await limiter.peek('k', 1, limiter.decision())).delayMs / 1000 }
  }

  test('leaves it when its client goes, and gives the last place back', async () => {
    const { instance, enter, left, queued } = queueing()
    enter()
    const [second, third] = [enter(), enter()]
    expect(await queued()).toBe(3)
    instance.log?.(third.exchange)
    expect([await queued(), left]).toEqual([2, [1]])
    // Ends the phase: nothing behind it runs for a request that is over.
    expect(await third.reply).toEqual({ status: 499 })
    const fourth = enter()
    expect(await queued()).toBe(3)
    // Somebody stands behind this one.
    instance.log?.(second.exchange)
    expect([await queued(), left]).toEqual([3, [1, 0]])
    instance.log?.(fourth.exchange)
    instance.log?.(fourth.exchange)
    expect([await queued(), left]).toEqual([2, [1, 0, 2]])
  })
})

describe('limits apart from each other', () => {
  test('what a later one refuses is given back by the earlier ones', async () => {
    const site = new Site([count(3, { rejected_code: 444 }), { name: 'between' }, count(1, { ...bySource })])
    const ann = { headers: { 'X-User': 'ann' } }
    expect(await site.statuses(6, ann)).toEqual([200, 429, 429, 429, 429, 429])
    expect(await site.statuses(2, { headers: { 'X-User': 'bob' } })).toEqual([200, 429])
    expect(await site.statuses(2, { headers: { 'X-User': 'cat' } })).toEqual([200, 444])
  })
})

describe('limits in several stores', () => {
  test('on one server they are one call', async () => {
    const site = new Site([count(3, redis), count(9, redis), count(1, { ...redis, ...bySource })])
    expect(await site.statuses(2, { headers: { 'X-User': 'ann' } })).toEqual([200, 429])
    expect(site.remote.calls).toBe(2)
    expect(await site.statuses(1, { headers: { 'X-User': 'bob' } })).toEqual([200])
    expect(await site.statuses(2, { headers: { 'X-User': 'cat' } })).toEqual([200, 429])
  })

  test('what is refused here is not asked there', async () => {
    const site = new Site([count(3, { ...redis, rejected_code: 444 }), count(1, bySource)])
    const ann = { headers: { 'X-User': 'ann' } }
    expect(await site.statuses(5, ann)).toEqual([200, 429, 429, 429, 429])
    expect(site.remote.calls).toBe(1)
    expect(await site.statuses(1, { headers: { 'X-User': 'bob' } })).toEqual([200])
    expect(await site.statuses(1, { headers: { 'X-User': 'cat' } })).toEqual([200])
    expect(await site.statuses(1, { headers: { 'X-User': 'dan' } })).toEqual([444])
  })

  test('what is refused there uses up nothing here', async () => {
    const site = new Site([count(2, { rejected_code: 444 }), count(1, { ...redis, ...bySource })])
    expect(await site.statuses(4, { headers: { 'X-User': 'ann' } })).toEqual([200, 429, 429, 429])
    expect(await site.statuses(2, { headers: { 'X-User': 'bob' } })).toEqual([200, 444])
  })

  test('requests at once: what was taken there is given back when there is no room here any more', async () => {
    const site = new Site([count(9, { ...redis, rejected_code: 444 }), count(2)])
    const replies = await Promise.all(Array.from({ length: 5 }, () => site.open()))
    expect(replies.filter(({ reply }) => reply === undefined).length).toBe(2)
    site.nowMs = site.limits.nowMs + 10_000
    const other = new Decision(1)
    const [remote] = [...site.remote.inner.values()]
    remote?.peek('127.0.0.1', 1, other)
    expect(other.rules[0]?.used).toBe(2)
  })

  test('a store that fails uses up nothing of the others', async () => {
    const site = new Site([count(2, { rejected_code: 444 }), count(9, redis)])
    site.remote.isDown = true
    expect(await site.statuses(3)).toEqual([500, 500, 500])
    site.remote.isDown = false
    expect(await site.statuses(3)).toEqual([200, 200, 444])
  })
})
