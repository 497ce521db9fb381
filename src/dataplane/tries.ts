/**
 * The tries of an exchange: from picking a node to its answer, with every edge on which a try fails. Part of the parent (proxy.ts).
 *
 *   begin → send → (connected) → answered → progressed*
 *             ▲        │ failed, timed out
 *             └─ fail ─┘ → or the failure is the answer
 *
 * Each try begins once and ends once for its node (NodeFeed), on whatever path. Runs on workers.
 */
import { nowMs, recentMs } from '../base/clock.js'
import { type Failure, failures } from '../base/errors.js'
import type { Reply } from '../plugins/plugin.js'
import type { Counter } from '../shared/metrics-slab.js'
import type { NodeFeed } from './balancer/node-feed.js'
import { type Exchange, Stage } from './exchange.js'
import type { LinkedUpstream } from './linked-upstream.js'
import { pickAdmitted } from './node-gate.js'
import type { RequestBody } from './request-body.js'
import { isIdempotent, isSafe, statusText } from './semantics.js'
import type { LinkedRoute } from './snapshot.js'
import type { UpstreamConnection } from './upstream/connection.js'
import type { NodePool } from './upstream/pool.js'
import { buildRequestHead } from './upstream/request-head.js'
import type { ResponseHead } from './upstream/response-head.js'

/** How an exchange goes on when its tries come to nothing. */
export interface TryEndings {
  answer(exchange: Exchange, reply: Reply): void
  answerFailure(exchange: Exchange, failure: Failure): void
  abortClient(exchange: Exchange): void
}

export class Tries {
  constructor(
    private readonly requestBody: RequestBody,
    private readonly nodes: NodeFeed,
    private readonly retries: Counter,
    private readonly endings: TryEndings,
  ) {}

  /** The first try. */
  begin(exchange: Exchange, route: LinkedRoute, upstream: LinkedUpstream): void {
    const { record } = upstream
    exchange.upstream = upstream
    exchange.connectTimeoutMs = route.connectMs >= 0 ? route.connectMs : record.timeout.connectMs
    exchange.sendTimeoutMs = route.sendMs >= 0 ? route.sendMs : record.timeout.sendMs
    exchange.readTimeoutMs = route.readMs >= 0 ? route.readMs : record.timeout.readMs
    exchange.triesLeft = upstream.retries
    exchange.retryUntilMs = record.retryTimeoutMs === 0 ? 0 : nowMs() + record.retryTimeoutMs
    if (exchange.requestBodyLength !== 0 && isIdempotent(exchange.upstreamMethod)) exchange.bodyReplay = []
    exchange.stage = Stage.Upstream
    const pool = pickAdmitted(exchange, upstream)
    if (pool === undefined && exchange.nodeGate !== null) this.endings.answer(exchange, exchange.nodeGate.refuse(exchange))
    else this.send(exchange, pool ?? null, false)
  }

  private send(exchange: Exchange, pool: NodePool | null, fresh: boolean): void {
    if (pool === null) {
      this.endings.answerFailure(exchange, failures.NO_NODES)
      return
    }
    // Nothing was waited for on the way here, unless a plugin did or this is another try.
    const now = exchange.suspended || exchange.tryCount > 0 || exchange.staleRetryUsed ? nowMs() : recentMs()
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
    const upstream = exchange.upstream
    if (upstream === null) return
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

  /** The head of the answer is here; `isWhole`: and its body. */
  answered(exchange: Exchange, head: ResponseHead, isWhole: boolean): void {
    this.nodes.answered(exchange, head.status)
    if (isWhole) {
      exchange.connection = null
      exchange.upstreamResponseMs = nowMs() - exchange.upstreamStartMs
      this.nodes.completed(exchange)
    } else exchange.deadlineMs = nowMs() + exchange.readTimeoutMs
    exchange.response.status = head.status
    exchange.response.source = 'upstream'
    this.note(exchange, head.status)
  }

  /** A part of the answer's body is here. */
  progressed(exchange: Exchange, isLast: boolean): void {
    if (!isLast) {
      exchange.deadlineMs = nowMs() + exchange.readTimeoutMs
      return
    }
    exchange.connection = null
    exchange.upstreamResponseMs = nowMs() - exchange.upstreamStartMs
    this.nodes.completed(exchange)
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

  /** The answer takes longer than the upstream allows before it counts as slow; the wait goes on. */
  slow(exchange: Exchange, now: number): void {
    this.nodes.slow(exchange, now)
  }

  /** Nobody wants the answer any more. */
  cancel(exchange: Exchange): void {
    const connection = exchange.connection
    if (connection === null) return
    exchange.connection = null
    this.nodes.dropped(exchange)
    connection.cancel(exchange)
  }

  /** The one place where a failed try is repeated, answered or cut off. */
  private fail(exchange: Exchange, connection: UpstreamConnection, failure: Failure, answered: boolean): void {
    if (exchange.stage === Stage.Done) return
    exchange.upstreamResponseMs = nowMs() - exchange.upstreamStartMs
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
    const nothingSent = !connection.isConnected
    const bodyIntact = exchange.requestBodyLength === 0 || nothingSent || this.requestBody.rewind(exchange)
    const repeatable = bodyIntact && (nothingSent || isIdempotent(exchange.upstreamMethod))
    // The upstream closed a connection that it had kept open, just as we used it: not a failure of the node.
    if (repeatable && !answered && connection.isReused && failure === failures.UPSTREAM_RESET && !exchange.staleRetryUsed) {
      exchange.staleRetryUsed = true
      this.nodes.dropped(exchange)
      exchange.tryCount--
      this.retries.add(1)
      this.send(exchange, pool, true)
      return
    }
    this.nodes.failed(exchange, failure)
    this.note(exchange, failure.status)
    exchange.triedNodes ??= []
    exchange.triedNodes.push(pool)
    if (!repeatable || exchange.triesLeft <= 0) {
      this.endings.answerFailure(exchange, failure)
      return
    }
    if (exchange.retryUntilMs !== 0 && nowMs() >= exchange.retryUntilMs) {
      this.endings.answerFailure(exchange, failures.UPSTREAM_RETRIES_TIMEOUT)
      return
    }
    exchange.triesLeft--
    this.retries.add(1)
    const next = exchange.upstream === null ? null : pickAdmitted(exchange, exchange.upstream)
    if (next === undefined) this.endings.answerFailure(exchange, failure)
    else this.send(exchange, next, false)
  }

  /** How a try ended, for `$upstream_status` and those who judge the upstream. */
  private note(exchange: Exchange, status: number): void {
    exchange.upstreamLastStatus = status
    exchange.upstreamStatus = exchange.upstreamStatus === '' ? statusText(status) : `${exchange.upstreamStatus}, ${status}`
  }
}
