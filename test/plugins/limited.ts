/** A rate-limit plugin with a clock that the test moves: requests walk through its phases as in the gateway. */
import type { AnyPlugin, BoundLimiter, Decision, Json, LimiterSpec, PluginInstance, Reply } from '../../src/plugins/plugin.js'
import { type FakeAnswer, type FakeExchange, type FakeRequest, fakeExchange } from '../support/fake-exchange.js'
import { FakeLimits, type FakeLinkKit, type FakePrepareOptions, linkKit, linkPlugin, prepareKit } from '../support/link-kit.js'

export interface Answered {
  readonly status: number
  readonly isRefused: boolean
  readonly body: string
  header(name: string): string | undefined
}

/** Begin of a year, and so of every window. */
export const START_MS = Date.UTC(2026, 0, 1)

export class LimitedSite {
  readonly limits: FakeLimits
  readonly kit: FakeLinkKit
  private readonly instance: PluginInstance

  constructor(
    plugin: AnyPlugin,
    conf: Json,
    options: {
      readonly limits?: FakeLimits
      readonly prepare?: FakePrepareOptions
      readonly route?: string
      readonly service?: string
    } = {},
  ) {
    this.limits = options.limits ?? new FakeLimits()
    if (options.limits === undefined) this.limits.nowMs = START_MS
    const route = { id: options.route ?? '1', name: '', serviceId: options.service ?? '', serviceName: '', labels: {} }
    this.kit = linkKit(route, this.limits)
    this.instance = linkPlugin(plugin, conf, this.kit, prepareKit(options.prepare))
  }

  set nowMs(ms: number) {
    this.limits.nowMs = ms
  }

  get nowMs(): number {
    return this.limits.nowMs
  }

  /** Up to the decision, which `reply` resolves with; what is open is ended by `finish` or `end`. */
  open(request: FakeRequest = {}): { readonly exchange: FakeExchange; readonly reply: Promise<Reply | undefined> } {
    const exchange = fakeExchange({ startedAtMs: this.nowMs, ...request })
    const decided = this.instance.access?.(exchange)
    return { exchange, reply: Promise.resolve(decided).then((reply) => reply ?? undefined) }
  }

  /** The request is over without an answer: its client left. */
  end(exchange: FakeExchange): void {
    this.instance.log?.(exchange)
  }

  finish(exchange: FakeExchange, reply: Reply | undefined, upstream: FakeAnswer = {}): Answered {
    exchange.respond(reply === undefined ? { status: 200, ...upstream } : { status: reply.status, source: 'gateway' })
    for (const [name, value] of reply?.headers ?? []) exchange.response.headers.add(name, value)
    this.instance.headerFilter?.(exchange)
    const { status, headers } = exchange.response
    this.instance.log?.(exchange)
    return {
      status,
      isRefused: reply !== undefined,
      body: Buffer.from(reply?.body ?? '').toString(),
      header: (name) => headers.get(name.toLowerCase()),
    }
  }

  async ask(request: FakeRequest = {}, upstream: FakeAnswer = {}): Promise<Answered> {
    const { exchange, reply } = this.open(request)
    return this.finish(exchange, await reply, upstream)
  }

  /** How many of `count` requests at this moment pass. */
  async admitted(count: number, request: FakeRequest = {}): Promise<number> {
    let passed = 0
    for (let index = 0; index < count; index++) if (!(await this.ask(request)).isRefused) passed++
    return passed
  }
}

/** A store that never answers by itself: the test says what it answered, and when. */
export class HeldLimiter extends FakeLimits {
  readonly released: number[] = []
  private readonly waiting: ((change: (decision: Decision) => void) => void)[] = []

  override bind(spec: LimiterSpec): BoundLimiter {
    const inner = super.bind(spec)
    return {
      spec,
      joint: null,
      giveBack: () => undefined,
      decision: () => inner.decision(),
      check: (_keys, _cost, out) =>
        new Promise((resolve) => {
          this.waiting.push((change) => {
            change(out)
            resolve(out)
          })
        }),
      peek: (keys, cost, out) => inner.peek(keys, cost, out),
      release: (hold) => {
        this.released.push(hold)
      },
    }
  }

  /** Answers the oldest open question. */
  answer(change: (decision: Decision) => void): void {
    const settle = this.waiting.shift()
    if (settle === undefined) throw new Error('no decision is waited for')
    settle(change)
  }
}
