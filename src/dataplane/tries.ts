/**
 * The tries of an exchange: from picking a node to its answer, with every edge on which a try fails. Part of the parent (proxy.ts).
 *
 *   begin → send → (connected) → answered → progressed*
 *             ▲        │ failed, timed out
 *             └─ fail ─┘ → or the failure is the answer
 *
 * Each try begins once and ends once for its node (NodeFeed), on whatever path. Runs on workers.
 */
import { type Clock, nowMs, recentMs, wallMs } from '../base/clock.js'
import { type Failure, failures } from '../base/errors.js'
import type { Reply } from '../plugins/plugin.js'
import type { Counter } from '../shared/metrics-slab.js'
import type { NodeFeed } from './balancer/node-feed.js'
import type { Bulkhead } from './concurrency/bulkhead.js'
import { type Exchange, Stage } from './exchange.js'
import type { LinkedUpstream } from './linked-upstream.js'
import { pickAdmitted } from './node-gate.js'
import type { RequestBody } from './request-body.js'
import { type HedgeCounters, Hedging } from './retries/hedging.js'
import { retryAfterMs } from './retries/retry-policy.js'
import { deadlineFailure, isOver, limitTry, setLimits } from './retries/time-limits.js'
import { isIdempotent, isSafe, statusText } from './semantics.js'
import type { LinkedRoute } from './snapshot.js'
import type { UpstreamConnection } from './upstream/connection.js'
import type { NodePool } from './upstream/pool.js'
import { buildRequestHead } from './upstream/request-head.js'
import { fieldOfHead, type ResponseHead } from './upstream/response-head.js'

/** How an exchange goes on when its tries come to nothing. */
export interface TryEndings {
  answer(exchange: Exchange, reply: Reply): void
  answerFailure(exchange: Exchange, failure: Failure): void
  abortClient(exchange: Exchange): void
}

/** What is counted of tries. */
export interface TryCounters extends HedgeCounters {
  /** Tries after the first one. */
  readonly retries: Counter
}

/** The rest of an answer that is tried again is read up to this length, so that the connection can be kept. */
const DISCARDED_BYTES_MAX = 65_536

export class Tries {
  readonly hedging: Hedging

  constructor(
    private readonly requestBody: RequestBody,
    private readonly nodes: NodeFeed,
    private readonly counters: TryCounters,
    private readonly clock: Clock,
    private readonly endings: TryEndings,
  ) {
    this.hedging = new Hedging(nodes, counters, clock)
  }

  /** The first try. */
  begin(exchange: Exchange, route: LinkedRoute, upstream: LinkedUpstream): void {
    const { timeout, retryTimeoutMs } = upstream.record
    const retry = route.retry ?? upstream.retry
    exchange.upstream = upstream
    exchange.retry = retry
    exchange.connectTimeoutMs = route.connectMs >= 0 ? route.connectMs : timeout.connectMs
    exchange.sendTimeoutMs = route.sendMs >= 0 ? route.sendMs : timeout.sendMs
    exchange.readTimeoutMs = route.readMs >= 0 ? route.readMs : timeout.readMs
    exchange.triesLeft = upstream.retries
    exchange.retryUntilMs = retryTimeoutMs === 0 ? 0 : nowMs() + retryTimeoutMs
    if (exchange.requestBodyLength !== 0 && (retry.nonIdempotent || isIdempotent(exchange.upstreamMethod))) exchange.bodyReplay = []
    exchange.stage = Stage.Upstream
    if (upstream.isTimed || route.isTimed) setLimits(exchange, route, upstream)
    if (upstream.bulkhead !== null && !this.enter(exchange, upstream.bulkhead)) return
    this.first(exchange, upstream)
  }

  /** Takes a place of the upstream; false = it waits for one, or there is no room to wait either. */
  private enter(exchange: Exchange, bulkhead: Bulkhead<Exchange>): boolean {
    const entered = bulkhead.enter(exchange)
    if (entered === 'in') exchange.place = bulkhead
    else if (entered === 'full') this.endings.answerFailure(exchange, failures.UPSTREAM_BUSY)
    else {
      exchange.waitsAt = bulkhead
      exchange.suspended = true
      exchange.deadlineMs = nowMs() + bulkhead.queueTimeoutMs
      exchange.limitMs = exchange.untilMs
    }
    return entered === 'in'
  }

  /** An exchange that waited has its place. */
  admitted(exchange: Exchange): void {
    const { waitsAt, upstream } = exchange
    exchange.place = waitsAt
    exchange.waitsAt = null
    exchange.deadlineMs = 0
    if (exchange.stage === Stage.Upstream && upstream !== null) this.first(exchange, upstream)
    else this.leave(exchange)
  }

  /** The upstream has nothing more to do for this exchange. */
  leave(exchange: Exchange): void {
    const { place, waitsAt } = exchange
    exchange.place = null
    exchange.waitsAt = null
    place?.leave()
    waitsAt?.giveUp(exchange)
  }

  private first(exchange: Exchange, upstream: LinkedUpstream): void {
    upstream.budget.counted(recentMs())
    const pool = pickAdmitted(exchange, upstream)
    if (pool === undefined && exchange.nodeGate !== null) this.endings.answer(exchange, exchange.nodeGate.refuse(exchange))
    else if (pool === undefined || pool === null) this.endings.answerFailure(exchange, upstream.noNodeFailure(exchange))
    else {
      this.send(exchange, pool, false)
      if (upstream.hedge !== null) this.hedging.plan(exchange, upstream)
    }
  }

  private send(exchange: Exchange, pool: NodePool, fresh: boolean): void {
    // Nothing was waited for on the way here, unless a plugin did or this is another try.
    const now = exchange.suspended || exchange.tryCount > 0 || exchange.staleRetryUsed ? nowMs() : recentMs()
    const { upstream } = exchange
    if (upstream === null) return
    if (exchange.isTimed && !limitTry(exchange, upstream, now)) {
      this.endings.answerFailure(exchange, deadlineFailure(exchange))
      return
    }
    exchange.pool = pool
    exchange.tryCount++
    exchange.upstreamStartMs = now
    exchange.upstreamAddress = pool.address
    this.nodes.begin(exchange, now)
    const hasBody = exchange.requestBodyLength !== 0
    const pipelined = pool.keepalive.pipelining > 1 && !hasBody && !fresh && isSafe(exchange.upstreamMethod)
    const connection = fresh ? pool.fresh() : pipelined ? pool.lane(now) : pool.exclusive()
    exchange.connection = connection
    exchange.deadlineMs =
      now + (connection.isConnected ? (hasBody ? exchange.sendTimeoutMs : exchange.readTimeoutMs) : exchange.connectTimeoutMs)
    const head = buildRequestHead(exchange, upstream.record, pool.settings.node)
    connection.send(exchange, head, exchange.upstreamMethod === 'HEAD', hasBody)
    if (hasBody && connection.isConnected) this.requestBody.pump(exchange)
  }

  connected(connection: UpstreamConnection): void {
    const now = nowMs()
    connection.forEachWaiting((exchange) => {
      const sending = exchange.requestBodyLength !== 0 && !connection.requestComplete
      exchange.deadlineMs = now + (sending ? exchange.sendTimeoutMs : exchange.readTimeoutMs)
      if (exchange.requestBodyLength !== 0) this.requestBody.pump(exchange)
    })
  }

  /**
   * The head of the answer is here, with its body or (`exchange.connection` is still set) before it, of this length; -1 = unknown. False:
   * it is not the answer, another try was begun.
   */
  answered(exchange: Exchange, head: ResponseHead, isWhole: boolean, length: number): boolean {
    this.nodes.answered(exchange, head.status)
    if (isWhole) {
      exchange.connection = null
      this.nodes.time(exchange, nowMs())
      this.nodes.completed(exchange)
    } else exchange.deadlineMs = nowMs() + exchange.readTimeoutMs
    if (exchange.wait !== null) this.endWait(exchange)
    if (exchange.retry.statuses !== null && this.repeatsAnswer(exchange, head, length)) return false
    if (exchange.upstream !== null && exchange.upstream.hedge !== null) {
      exchange.upstream.hedge.took(this.nodes.waitedMs(exchange, nowMs()))
    }
    if (exchange.isTimed) exchange.limitMs = exchange.untilMs
    if (exchange.place !== null) {
      const now = nowMs()
      exchange.place.took(this.nodes.waitedMs(exchange, now), now)
      if (isWhole) this.leave(exchange)
    }
    exchange.response.status = head.status
    exchange.response.source = 'upstream'
    this.note(exchange, head.status)
    return true
  }

  /** Begins another try in the place of an answer whose status says so. */
  private repeatsAnswer(exchange: Exchange, head: ResponseHead, length: number): boolean {
    const { retry, upstream, pool, connection } = exchange
    if (upstream === null || pool === null || retry.statuses?.has(head.status) !== true || exchange.triesLeft <= 0) return false
    if (!retry.nonIdempotent && !isIdempotent(exchange.upstreamMethod)) return false
    const now = nowMs()
    const asked = retry.retryAfterMaxMs === 0 ? null : retryAfterMs(fieldOfHead(head, 'retry-after'), wallMs())
    if (asked !== null && asked > retry.retryAfterMaxMs) return false
    const delay = Math.max(asked ?? 0, this.backoff(exchange))
    if (isOver(exchange.retryUntilMs, now + delay) || isOver(exchange.untilMs, now + delay)) return false
    if (exchange.requestBodyLength !== 0 && exchange.bodyReplay === null) return false
    if (!this.takeRetry(upstream, now)) return false
    exchange.triedNodes ??= []
    exchange.triedNodes.push(pool)
    const next = pickAdmitted(exchange, upstream)
    if (next === undefined || next === null) return false
    if (exchange.requestBodyLength !== 0) this.requestBody.rewind(exchange)
    this.note(exchange, head.status)
    if (connection !== null) {
      exchange.connection = null
      this.nodes.completed(exchange)
      if (length >= 0 && length <= DISCARDED_BYTES_MAX && connection.requestComplete) connection.discard(exchange)
      else connection.cancel(exchange)
    }
    this.again(exchange, next, delay)
    return true
  }

  /** A part of the answer's body is here. */
  progressed(exchange: Exchange, isLast: boolean): void {
    if (!isLast) {
      exchange.deadlineMs = nowMs() + exchange.readTimeoutMs
      return
    }
    exchange.connection = null
    this.nodes.time(exchange, nowMs())
    this.nodes.completed(exchange)
    if (exchange.place !== null) this.leave(exchange)
  }

  failed(exchange: Exchange, connection: UpstreamConnection, failure: Failure, answered: boolean): void {
    if (exchange.connection !== connection) return
    exchange.connection = null
    this.fail(exchange, connection, failure, answered)
  }

  /** The wait for the upstream is over. */
  timedOut(exchange: Exchange, connection: UpstreamConnection): void {
    exchange.connection = null
    connection.hasTimedOut = true
    connection.cancel(exchange)
    const failure = !connection.isConnected
      ? failures.UPSTREAM_CONNECT_TIMEOUT
      : connection.requestComplete
        ? failures.UPSTREAM_READ_TIMEOUT
        : failures.UPSTREAM_SEND_TIMEOUT
    this.fail(exchange, connection, failure, false)
  }

  /** There is no answer yet, of a node that is judged by how long it takes. */
  unanswered(exchange: Exchange, now: number): void {
    this.nodes.unanswered(exchange, now)
  }

  /** The limit of this try, or of the whole request, is over (`exchange.limitMs`). */
  overrun(exchange: Exchange, now: number): void {
    if (exchange.untilMs !== 0 && now >= exchange.untilMs) this.hedging.drop(exchange)
    const { connection } = exchange
    if (exchange.untilMs === 0 || now < exchange.untilMs) {
      if (connection === null) return
      exchange.connection = null
      connection.hasTimedOut = true
      connection.cancel(exchange)
      this.fail(exchange, connection, connection.isConnected ? failures.UPSTREAM_TRY_TIMEOUT : failures.UPSTREAM_CONNECT_TIMEOUT, false)
      return
    }
    exchange.limitMs = 0
    if (exchange.stage === Stage.Responding) {
      // With everything in hand only the client is slow.
      if (connection === null) return
      exchange.upstreamCut = !exchange.isClientFull
      this.endings.abortClient(exchange)
      return
    }
    if (connection !== null) {
      exchange.connection = null
      this.nodes.time(exchange, now)
      exchange.place?.took(this.nodes.waitedMs(exchange, now), now)
      // A client that has no patience says nothing about the node.
      if (exchange.isClientDeadline) this.nodes.dropped(exchange)
      else {
        this.nodes.failed(exchange, failures.UPSTREAM_DEADLINE)
        this.note(exchange, failures.UPSTREAM_DEADLINE.status)
      }
      connection.cancel(exchange)
    }
    this.endings.answerFailure(exchange, deadlineFailure(exchange))
  }

  /** Nobody wants the answer any more. */
  cancel(exchange: Exchange): void {
    if (exchange.twin !== null) this.hedging.drop(exchange)
    const connection = exchange.connection
    if (connection === null) return
    exchange.connection = null
    this.nodes.dropped(exchange)
    connection.cancel(exchange)
  }

  /** The one place where a failed try is repeated, answered or cut off. */
  private fail(exchange: Exchange, connection: UpstreamConnection, failure: Failure, answered: boolean): void {
    if (exchange.stage === Stage.Done) return
    if (exchange.twin !== null) {
      if (!exchange.isHedge) this.note(exchange, failure.status)
      this.hedging.failed(exchange, failure)
      return
    }
    // A hedge that was to come is not for the next try.
    if (exchange.wait !== null) this.endWait(exchange)
    this.nodes.time(exchange, nowMs())
    // Whoever was not answered in time waited at least so long.
    if (exchange.place !== null && failure.status === 504) exchange.place.took(this.nodes.waitedMs(exchange, nowMs()), nowMs())
    if (exchange.stage === Stage.Responding) {
      this.nodes.failed(exchange, failure)
      exchange.upstreamCut = true
      this.endings.abortClient(exchange)
      return
    }
    if (exchange.response.source === 'upstream') {
      this.nodes.failed(exchange, failure)
      // Its head was accepted and plugins saw it; only the body was held back.
      this.endings.answerFailure(exchange, failure)
      return
    }
    const pool = connection.pool
    const nothingSent = !connection.isConnected || connection.closedUnsent
    const bodyIntact = exchange.requestBodyLength === 0 || nothingSent || this.requestBody.rewind(exchange)
    const repeatable = bodyIntact && (nothingSent || exchange.retry.nonIdempotent || isIdempotent(exchange.upstreamMethod))
    // The upstream closed a connection that it had kept open, just as we used it: not a failure of the node.
    const isStale = repeatable && !answered && connection.isReused && failure === failures.UPSTREAM_RESET && !exchange.staleRetryUsed
    // Requests that were pipelined all fail with their connection: none is given up for that.
    if (isStale && exchange.upstream !== null && (nothingSent || this.takeRetry(exchange.upstream, nowMs(), connection.isLane))) {
      exchange.staleRetryUsed = true
      this.nodes.dropped(exchange)
      exchange.tryCount--
      this.counters.retries.add(1)
      this.send(exchange, pool, true)
      return
    }
    this.nodes.failed(exchange, failure)
    this.note(exchange, failure.status)
    exchange.triedNodes ??= []
    exchange.triedNodes.push(pool)
    const { upstream, retry } = exchange
    if (upstream === null || !repeatable || exchange.triesLeft <= 0 || !retry.repeats(failure)) {
      this.endings.answerFailure(exchange, failure)
      return
    }
    const now = nowMs()
    const delay = this.backoff(exchange)
    if (isOver(exchange.retryUntilMs, now + delay)) {
      this.endings.answerFailure(exchange, failures.UPSTREAM_RETRIES_TIMEOUT)
      return
    }
    // What was never sent is no further load.
    if (isOver(exchange.untilMs, now + delay) || (!nothingSent && !this.takeRetry(upstream, now))) {
      this.endings.answerFailure(exchange, failure)
      return
    }
    const next = pickAdmitted(exchange, upstream)
    // With nothing left to try, what happened says more than that.
    if (next === undefined || next === null) this.endings.answerFailure(exchange, failure)
    else this.again(exchange, next, delay)
  }

  private backoff(exchange: Exchange): number {
    return exchange.retry.backoffMs(exchange.triedNodes?.length ?? 1, Math.random())
  }

  private takeRetry(upstream: LinkedUpstream, now: number, inAnyCase = false): boolean {
    if (inAnyCase) upstream.budget.spend(now)
    if (inAnyCase || upstream.budget.take(now)) return true
    this.counters.overBudget.add(1)
    return false
  }

  /** The next try, at once or after a wait. */
  private again(exchange: Exchange, pool: NodePool, delayMs: number): void {
    exchange.triesLeft--
    this.counters.retries.add(1)
    if (delayMs < 1) {
      this.send(exchange, pool, false)
      return
    }
    // Not reused while somebody may call back.
    exchange.suspended = true
    exchange.deadlineMs = 0
    exchange.limitMs = exchange.untilMs
    exchange.wait = this.clock.after(delayMs, () => {
      exchange.wait = null
      if (exchange.stage === Stage.Upstream) this.send(exchange, pool, false)
    })
  }

  endWait(exchange: Exchange): void {
    exchange.wait?.()
    exchange.wait = null
  }

  /** How a try ended, for `$upstream_status` and those who judge the upstream. */
  private note(exchange: Exchange, status: number): void {
    exchange.upstreamLastStatus = status
    exchange.upstreamStatus = exchange.upstreamStatus === '' ? statusText(status) : `${exchange.upstreamStatus}, ${status}`
  }
}
