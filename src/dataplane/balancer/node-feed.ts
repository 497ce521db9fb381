/**
 * Tells the shared state of the nodes what happens to tries: each begins once and ends once, on whatever path. Runs on workers.
 *
 * `exchange.openSlot` is the slot of the try under way; every end sets it back to 0, so that no try ends twice. Where nothing needs to be
 * known about a node its slot is 0, and all calls return at once.
 */
import { nowMs, recentMs } from '../../base/clock.js'
import { type Failure, failures } from '../../base/errors.js'
import { type NodeCells, Outcome } from '../../shared/node-cells.js'
import type { Exchange } from '../exchange.js'
import { Standstill } from './standstill.js'

/** Failures of tries that never reached the node. */
const unreached: ReadonlySet<Failure> = new Set([
  failures.UPSTREAM_CONNECT_FAILED,
  failures.UPSTREAM_CONNECT_TIMEOUT,
  failures.UPSTREAM_TLS_FAILED,
])

export class NodeFeed {
  private readonly standstill = new Standstill()

  constructor(private readonly cells: NodeCells) {}

  /** A try is about to be sent to the node that was picked. */
  begin(exchange: Exchange, now: number): void {
    this.sent(exchange, now)
    const slot = exchange.pickedSlot
    if (slot === 0) return
    exchange.openSlot = slot
    exchange.tryOutcome = Outcome.Neutral
    exchange.slowAfterMs = exchange.upstream?.judge?.slowMs ?? 0
    this.cells.begin(slot)
  }

  /** All that is known of the request has been sent: from now on the node is waited for. */
  sent(exchange: Exchange, now: number): void {
    exchange.sentMs = now
    exchange.stoodStillMs = this.standstill.totalMs(now)
  }

  /** The head of the answer is here: the moment that latency is measured to, because a long body says nothing about the node. */
  answered(exchange: Exchange, status: number): void {
    const slot = exchange.openSlot
    if (slot === 0) return
    exchange.tryOutcome = status < 500 ? Outcome.Success : status >= 502 && status <= 504 ? Outcome.GatewayError : Outcome.ServerError
    const now = nowMs()
    // An error is often quick; it must not draw further requests.
    this.cells.observe(slot, this.waitedMs(exchange, now), now, decayOf(exchange), status >= 500)
    const judge = exchange.upstream?.judge ?? null
    if (judge === null) return
    judge.answered(slot, exchange.upstreamAddress, status, this.waitedMs(exchange, now), exchange.slowAfterMs === 0, now)
    exchange.slowAfterMs = 0
  }

  /** Every sweep of the thread, behind the reading of sockets. */
  swept(now: number): void {
    this.standstill.swept(now)
  }

  /** A call that may be slow is still without an answer. Once it is slow it is counted, without waiting for the end. */
  unanswered(exchange: Exchange, now: number): void {
    if (!exchange.bodyComplete || this.waitedMs(exchange, now) < exchange.slowAfterMs) return
    exchange.slowAfterMs = 0
    exchange.upstream?.judge?.slow(exchange.openSlot, exchange.upstreamAddress, now)
  }

  /** How long the node has taken so far; the time in which nobody here looked is not held against it. */
  waitedMs(exchange: Exchange, now: number): number {
    return now - exchange.sentMs - this.standstillMs(exchange, now)
  }

  /** How long this thread has stood still since the request was sent. */
  standstillMs(exchange: Exchange, now: number): number {
    return this.standstill.totalMs(now) - exchange.stoodStillMs
  }

  /** Notes how long the try took, and for how much of that nobody here looked. */
  time(exchange: Exchange, now: number): void {
    exchange.upstreamResponseMs = now - exchange.upstreamStartMs
    exchange.upstreamStandstillMs = this.standstillMs(exchange, now)
  }

  /** The answer is complete. */
  completed(exchange: Exchange): void {
    this.end(exchange, exchange.tryOutcome as Outcome)
  }

  failed(exchange: Exchange, failure: Failure): void {
    const slot = exchange.openSlot
    if (slot === 0) return
    const now = nowMs()
    this.cells.penalise(slot, this.waitedMs(exchange, now), now)
    exchange.upstream?.judge?.failed(slot, exchange.upstreamAddress, failure, now)
    this.end(exchange, unreached.has(failure) ? Outcome.ConnectError : Outcome.GatewayError)
  }

  /** Nobody wants the answer any more, or the try is repeated for a reason that is none of the node's. */
  dropped(exchange: Exchange): void {
    const slot = exchange.openSlot
    if (slot === 0) return
    // Whoever waited in vain waited at least so long: a node that hangs is known by it even if no client stays to the end.
    if (exchange.tryOutcome === Outcome.Neutral && exchange.bodyComplete) {
      const now = recentMs()
      this.cells.observe(slot, this.waitedMs(exchange, now), now, decayOf(exchange), true)
    }
    this.end(exchange, exchange.tryOutcome as Outcome)
  }

  private end(exchange: Exchange, outcome: Outcome): void {
    const slot = exchange.openSlot
    if (slot === 0) return
    exchange.openSlot = 0
    exchange.slowAfterMs = 0
    this.cells.end(slot, outcome)
    if (outcome === Outcome.Success || outcome === Outcome.Neutral) return
    exchange.upstream?.judge?.counted(slot, exchange.upstreamAddress, recentMs())
  }
}

function decayOf(exchange: Exchange): number {
  return exchange.upstream?.record.balancing.ewmaDecayMs ?? 1
}
