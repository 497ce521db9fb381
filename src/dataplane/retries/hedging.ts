/**
 * Hedging: when an answer is late, a second node is asked too, and the first answer counts.
 *
 * The second try runs under a record of its own (`Exchange.hedge`), which no client, plugin or log sees; both are each other's `twin` while both
 * run. Whoever answers first is the exchange's try from then on; the other is cancelled. Each ends once for its node (NodeFeed).
 */
import { type Clock, nowMs } from '../../base/clock.js'
import type { Failure } from '../../base/errors.js'
import type { Counter } from '../../shared/metrics-slab.js'
import type { NodeFeed } from '../balancer/node-feed.js'
import { type Exchange, Stage } from '../exchange.js'
import type { LinkedUpstream } from '../linked-upstream.js'
import { isSafe } from '../semantics.js'
import { buildRequestHead } from '../upstream/request-head.js'

export interface HedgeCounters {
  readonly hedges: Counter
  readonly overBudget: Counter
}

export class Hedging {
  constructor(
    private readonly nodes: NodeFeed,
    private readonly counters: HedgeCounters,
    private readonly clock: Clock,
  ) {}

  /** The first try is under way: arranges a second one, if this request may have one. */
  plan(exchange: Exchange, upstream: LinkedUpstream): void {
    const delayMs = upstream.hedge?.delayMs ?? null
    if (delayMs === null || exchange.requestBodyLength !== 0 || !isSafe(exchange.upstreamMethod)) return
    // A gate counts what is asked of each node, and knows of one at a time.
    if (exchange.connection === null || exchange.nodeGate !== null) return
    exchange.wait = this.clock.after(delayMs, () => {
      exchange.wait = null
      this.begin(exchange, upstream)
    })
  }

  private begin(exchange: Exchange, upstream: LinkedUpstream): void {
    const { pool } = exchange
    if (exchange.stage !== Stage.Upstream || exchange.connection === null || pool === null) return
    const picked = upstream.pick(exchange, exchange.triedNodes === null ? [pool] : [...exchange.triedNodes, pool])
    if (picked === null || picked === pool) return
    const now = nowMs()
    if (!upstream.budget.take(now)) {
      this.counters.overBudget.add(1)
      return
    }
    this.counters.hedges.add(1)
    const hedge = exchange.hedge(picked, exchange.pickedSlot, now)
    exchange.twin = hedge
    this.nodes.begin(hedge, now)
    const connection = picked.exclusive()
    hedge.connection = connection
    hedge.deadlineMs = now + (connection.isConnected ? exchange.readTimeoutMs : exchange.connectTimeoutMs)
    const head = buildRequestHead(exchange, upstream.record, picked.settings.node)
    connection.send(hedge, head, exchange.upstreamMethod === 'HEAD', false)
  }

  /** One of the two has its answer: the other is cancelled. Returns the exchange, whose try it is now. */
  won(winner: Exchange): Exchange {
    const { twin } = winner
    if (twin === null) return winner
    if (!winner.isHedge) {
      this.drop(winner)
      return winner
    }
    const { connection } = twin
    twin.connection = null
    if (connection !== null) {
      this.nodes.dropped(twin)
      connection.cancel(twin)
    }
    this.adopt(twin, winner)
    return twin
  }

  /** A try that has a twin failed. The other goes on alone. */
  failed(exchange: Exchange, failure: Failure): void {
    const { twin } = exchange
    if (twin === null) return
    this.nodes.failed(exchange, failure)
    if (exchange.isHedge) {
      twin.twin = null
      exchange.twin = null
      return
    }
    if (exchange.pool !== null) {
      exchange.triedNodes ??= []
      exchange.triedNodes.push(exchange.pool)
    }
    this.adopt(exchange, twin)
  }

  /** The exchange has no use for its hedge any more. */
  drop(exchange: Exchange): void {
    const hedge = exchange.twin
    if (hedge === null) return
    exchange.twin = null
    hedge.twin = null
    const { connection } = hedge
    hedge.connection = null
    if (connection === null) return
    this.nodes.dropped(hedge)
    connection.cancel(hedge)
  }

  /** The try of the hedge becomes that of the exchange. */
  private adopt(exchange: Exchange, hedge: Exchange): void {
    exchange.twin = null
    hedge.twin = null
    exchange.pool = hedge.pool
    exchange.pickedSlot = hedge.pickedSlot
    exchange.openSlot = hedge.openSlot
    exchange.tryOutcome = hedge.tryOutcome
    exchange.slowAfterMs = hedge.slowAfterMs
    exchange.sentMs = hedge.sentMs
    exchange.stoodStillMs = hedge.stoodStillMs
    exchange.upstreamStartMs = hedge.upstreamStartMs
    exchange.upstreamAddress = hedge.upstreamAddress
    exchange.deadlineMs = hedge.deadlineMs
    if (exchange.perTryMs !== 0 && exchange.isTimed) {
      const tryUntil = hedge.upstreamStartMs + exchange.perTryMs
      exchange.limitMs = exchange.untilMs === 0 ? tryUntil : Math.min(exchange.untilMs, tryUntil)
    }
    const { connection } = hedge
    exchange.connection = connection
    hedge.openSlot = 0
    hedge.connection = null
    connection?.handOver(hedge, exchange)
  }
}
