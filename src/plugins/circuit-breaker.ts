/**
 * circuit-breaker: keeps requests from an upstream that fails, and lets them come back carefully.
 *
 *   closed → open (failures in a row, share of failures, share of slow calls) → half-open (so many probes at a time) → ramp → closed
 *
 * Runs on workers: access asks the breaker, log tells it how the request ended. State: shared/breaker-cells, one for all threads, kept
 * over reloads. What the client does (leaving, a body that is too large) and what the gateway refuses itself never counts.
 */
import {
  ADMITTED,
  type BoundBreaker,
  BREAKER_TIME_MAX_MS,
  type BreakerSet,
  type BreakerSpec,
  definePlugin,
  type Exchange,
  jsonReply,
  type LinkKit,
  type NodeGate,
  Outcome,
  PERMIT_EXPIRY_MAX_MS,
  PERMITS_MAX,
  PluginConfigError,
  type PluginInstance,
  type PluginProblem,
  type PrepareKit,
  REFUSED,
  type Reply,
  type SlowWatch,
  type Static,
  SUCCESSES_MAX,
  Type,
} from './plugin.js'

const seconds = (description: string, fallback: number, minimum: number, maximum: number) =>
  Type.Number({ description, default: fallback, minimum, maximum })
const ratio = (description: string) => Type.Optional(Type.Number({ description, exclusiveMinimum: 0, maximum: 1 }))
const NEVER_SLOW = Number.MAX_SAFE_INTEGER
/** In place of the ticket: the request was counted as slow while it was under way. */
const TOLD = -2

const LONGEST = BREAKER_TIME_MAX_MS / 1000

const schema = Type.Object({
  scope: Type.Union([Type.Literal('route'), Type.Literal('upstream'), Type.Literal('node'), Type.Literal('consumer')], {
    description:
      'What has a breaker of its own: each `route`; each `upstream`, shared by all routes that lead to it; each `node` (address and port), which is then passed over in balancing, every try counting for its own node; each `consumer` on each route (requests without a consumer have one together).',
    default: 'route',
  }),
  consecutive_failures: Type.Integer({
    description: 'Failures in a row, over all threads, that open it. 0 = do not look at this.',
    default: 5,
    minimum: 0,
    maximum: 1_000_000,
  }),
  error_ratio: ratio('Share of failures in the window that opens it. Absent = do not look at this.'),
  slow_call_ratio: ratio('Share of slow calls in the window that opens it. Absent = do not look at this. A slow probe then fails, too.'),
  slow_call_seconds: seconds(
    'A call is slow from this time on: until the last byte of the answer. It counts as soon as it has taken so long, not when it ends.',
    5,
    0.001,
    LONGEST,
  ),
  minimum_requests: Type.Integer({
    description: 'Requests in the window below which ratios are not looked at.',
    default: 20,
    minimum: 1,
    maximum: 1_000_000_000,
  }),
  window_seconds: seconds('Length of the sliding window of the ratios, in ten steps.', 10, 1, LONGEST),
  failure_statuses: Type.Array(Type.Integer({ minimum: 400, maximum: 599 }), {
    description:
      'Statuses of the upstream that are failures. Timeouts, refused and broken connections and invalid answers always are; what the client does never is.',
    default: [500, 502, 503, 504],
    uniqueItems: true,
  }),
  open_seconds: seconds('Time for which it stays open before probes may pass.', 30, 0.1, LONGEST),
  backoff: Type.Union([Type.Literal('exponential'), Type.Literal('fixed')], {
    description: '`exponential`: the open time doubles each time that probes fail, up to `max_open_seconds`. `fixed`: it stays the same.',
    default: 'exponential',
  }),
  max_open_seconds: seconds('Longest open time.', 300, 0.1, LONGEST),
  half_open_requests: Type.Optional(
    Type.Integer({
      description: 'Probes at a time while half-open, over all threads; others are refused. Default: as `successes`.',
      minimum: 1,
      maximum: PERMITS_MAX,
    }),
  ),
  successes: Type.Integer({
    description: 'Successful probes in a row that close it. One failed probe opens it again.',
    default: 3,
    minimum: 1,
    maximum: SUCCESSES_MAX,
  }),
  probe_timeout: seconds('The place of a probe that never ended is free after this.', 60, 1, PERMIT_EXPIRY_MAX_MS / 1000),
  ramp_seconds: seconds('After closing, the admitted share grows from a tenth to all within this time. 0 = all at once.', 0, 0, LONGEST),
  rejected_code: Type.Integer({ description: 'Status of refusals.', default: 503, minimum: 200, maximum: 599 }),
  rejected_msg: Type.String({
    description: 'Text of refusals: `{"error_msg": …}`. They carry `Retry-After`.',
    default: 'the circuit breaker is open',
    minLength: 1,
  }),
  policy: Type.Union([Type.Literal('local'), Type.Literal('redis')], {
    description:
      '`local`: one breaker for all threads of this gateway. `redis`: opening and closing are also told to all other gateways that use the Redis of `sluice.redis`; without Redis each goes on alone.',
    default: 'local',
  }),
  dry_run: Type.Boolean({ description: 'Never refuse; only count, log and tell what would happen.', default: false }),
})

type Conf = Static<typeof schema>

interface Prepared {
  readonly spec: BreakerSpec
  readonly scope: Conf['scope']
  readonly statuses: readonly number[]
  readonly slowMs: number
  readonly code: number
  readonly message: string
  readonly isDryRun: boolean
}

export const circuitBreaker = definePlugin<Conf, Prepared>({
  name: 'circuit-breaker',
  priority: 960,
  description: 'Keeps requests from an upstream that fails, and lets them come back carefully. One breaker for all threads.',
  schema,
  check,
  prepare,
  link: (prepared, kit) => new CircuitBreaker(prepared, kit),
})

function check(conf: Conf): PluginProblem[] {
  const problems: PluginProblem[] = []
  if (conf.consecutive_failures === 0 && conf.error_ratio === undefined && conf.slow_call_ratio === undefined) {
    const message = 'nothing would ever open the breaker; expected consecutive_failures above 0, error_ratio or slow_call_ratio'
    problems.push({ path: 'consecutive_failures', message })
  }
  if (conf.backoff === 'exponential' && conf.max_open_seconds < conf.open_seconds) {
    const message = `${conf.max_open_seconds} is below open_seconds (${conf.open_seconds}); expected at least as much`
    problems.push({ path: 'max_open_seconds', message })
  }
  return problems
}

function prepare(conf: Conf, kit: PrepareKit): Prepared {
  if (conf.policy === 'redis' && kit.redis === null)
    throw new PluginConfigError('policy redis needs the Redis of the process: expected sluice.redis or --redis', 'policy')
  const ms = (value: number) => Math.round(value * 1000)
  const openMs = ms(conf.open_seconds)
  const isGlobal = kit.owner.startsWith('global_rules/')
  return {
    spec: {
      // A route may have one of its own and one of a global rule.
      scope: isGlobal ? `${kit.owner}:${conf.scope}` : conf.scope,
      isShared: conf.policy === 'redis',
      settings: {
        consecutiveFailures: conf.consecutive_failures,
        errorRatio: conf.error_ratio ?? 0,
        slowRatio: conf.slow_call_ratio ?? 0,
        slowMs: ms(conf.slow_call_seconds),
        minimumRequests: conf.minimum_requests,
        windowMs: ms(conf.window_seconds),
        openMs,
        openMaxMs: conf.backoff === 'fixed' ? openMs : ms(conf.max_open_seconds),
        permits: conf.half_open_requests ?? Math.min(PERMITS_MAX, conf.successes),
        permitExpiryMs: ms(conf.probe_timeout),
        successes: conf.successes,
        rampMs: ms(conf.ramp_seconds),
      },
    },
    scope: conf.scope,
    statuses: conf.failure_statuses,
    slowMs: conf.slow_call_ratio === undefined ? NEVER_SLOW : ms(conf.slow_call_seconds),
    code: conf.rejected_code,
    message: conf.rejected_msg,
    isDryRun: conf.dry_run,
  }
}

class CircuitBreaker implements PluginInstance, NodeGate, SlowWatch {
  readonly keepsHeadSafe = true
  readonly logsNoAddress = true
  private readonly breakers: BreakerSet
  /** Of scope `route`: the only one. */
  private readonly single: BoundBreaker | null
  /** Of scope `upstream`, by index in the snapshot; a hole = not looked up yet. */
  private readonly byUpstream: (BoundBreaker | null)[] = []
  private readonly slot: number
  /** Of scope `node`: the breaker of the try under way. */
  private readonly breakerSlot: number
  private readonly isFailure = new Uint8Array(1000)
  private readonly replies = new Map<number, Reply>()

  constructor(
    private readonly prepared: Prepared,
    kit: LinkKit,
  ) {
    const { spec, scope } = prepared
    const routeId = kit.route?.id ?? ''
    this.breakers = kit.breakers(scope === 'consumer' ? { ...spec, scope: `${spec.scope}:${routeId}` } : spec)
    this.single = scope === 'route' && kit.route !== null ? this.breakers.get(routeId) : null
    this.slot = kit.slot()
    this.breakerSlot = kit.slot()
    for (const status of prepared.statuses) this.isFailure[status] = 1
  }

  access(exchange: Exchange): Reply | undefined {
    if (this.prepared.scope === 'node') {
      exchange.nodeGate = this
      return undefined
    }
    const breaker = this.breakerOf(exchange)
    if (breaker === null) return undefined
    const ticket = breaker.admit()
    if (ticket !== REFUSED) {
      if (ticket !== ADMITTED) exchange.setSlot(this.slot, ticket)
      this.watch(exchange)
      return undefined
    }
    breaker.countRefusal(this.prepared.isDryRun)
    return this.prepared.isDryRun ? undefined : this.reply(breaker.retryAfterMs())
  }

  admit(exchange: Exchange, address: string): boolean {
    const previous = this.breakerOf(exchange)
    if (previous !== null) this.tell(exchange, previous, Outcome.failed)
    exchange.setSlot(this.breakerSlot, undefined)
    exchange.setSlot(this.slot, undefined)
    const breaker = this.breakers.get(address)
    if (breaker === null) return true
    const ticket = breaker.admit()
    if (ticket === REFUSED) {
      breaker.countRefusal(this.prepared.isDryRun)
      return this.prepared.isDryRun
    }
    exchange.setSlot(this.breakerSlot, breaker)
    if (ticket !== ADMITTED) exchange.setSlot(this.slot, ticket)
    this.watch(exchange)
    return true
  }

  refuse(): Reply {
    return this.reply(0)
  }

  log(exchange: Exchange): void {
    const breaker = this.breakerOf(exchange)
    if (breaker !== null) this.tell(exchange, breaker, this.outcomeOf(exchange))
  }

  /** An upstream that hangs must not stay undetected until the read timeout. */
  private watch(exchange: Exchange): void {
    if (this.prepared.slowMs === NEVER_SLOW) return
    exchange.slowWatch = this
    exchange.slowWatchMs = this.prepared.slowMs
  }

  slow(exchange: Exchange): void {
    const breaker = this.breakerOf(exchange)
    if (breaker === null) return
    this.tell(exchange, breaker, Outcome.slowSoFar)
    exchange.setSlot(this.slot, TOLD)
  }

  private tell(exchange: Exchange, breaker: BoundBreaker, outcome: number): void {
    const ticket = exchange.getSlot(this.slot)
    if (ticket === TOLD) {
      // That it was slow is counted; how it ended is not. A probe was settled: the record of it comes too late to be looked at.
      if (outcome !== Outcome.none)
        breaker.record((outcome & Outcome.failed) !== 0 ? Outcome.laterFailed : Outcome.laterOk, exchange.elapsedMs())
    } else if (typeof ticket === 'number') breaker.settle(ticket, outcome)
    else if (outcome !== Outcome.none) breaker.record(outcome, outcome === Outcome.ok ? 0 : exchange.elapsedMs())
  }

  private breakerOf(exchange: Exchange): BoundBreaker | null {
    if (this.single !== null) return this.single
    switch (this.prepared.scope) {
      case 'upstream':
        return this.upstreamBreaker(exchange)
      case 'node': {
        const breaker = exchange.getSlot(this.breakerSlot)
        return isBreaker(breaker) ? breaker : null
      }
      case 'consumer':
        return this.breakers.get(exchange.consumerName)
      default:
        return null
    }
  }

  private upstreamBreaker(exchange: Exchange): BoundBreaker | null {
    const index = exchange.upstreamIndex
    if (index < 0) return null
    const known = this.byUpstream[index]
    if (known !== undefined) return known
    const breaker = this.breakers.get(exchange.upstreamKey)
    this.byUpstream[index] = breaker
    return breaker
  }

  private outcomeOf(exchange: Exchange): number {
    const { response, upstreamFailed } = exchange
    if (!upstreamFailed && (response.source === 'gateway' || exchange.aborted)) return Outcome.none
    const hasFailed = upstreamFailed || this.isFailure[exchange.upstreamLastStatus] === 1
    const isSlow = exchange.upstreamResponseMs - exchange.upstreamStandstillMs >= this.prepared.slowMs
    return (hasFailed ? Outcome.failed : 0) | (isSlow ? Outcome.slow : 0)
  }

  private reply(retryAfterMs: number): Reply {
    const after = Math.max(1, Math.ceil(retryAfterMs / 1000))
    const known = this.replies.get(after)
    if (known !== undefined) return known
    const reply = jsonReply(this.prepared.code, 'error_msg', this.prepared.message, [['Retry-After', String(after)]])
    // One per second of the longest open time that was ever seen; bounded all the same.
    if (this.replies.size > 1000) this.replies.clear()
    this.replies.set(after, reply)
    return reply
  }
}

function isBreaker(value: unknown): value is BoundBreaker {
  return typeof value === 'object' && value !== null && 'admit' in value
}
