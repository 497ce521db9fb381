/**
 * The parent of the data path: the whole life of an exchange, and all of its branches.
 *
 *   begin → route → rewrite → access → try ⇄ (retry) → head → body → finish
 *
 * What happens between picking a node and its answer is in `tries.ts`; every error edge of it comes to `Tries.fail`, which retries,
 * answers or aborts. `finish` runs the log phase and the accounts, exactly once.
 * Runs on workers.
 */

import { type Clock, nowMs, wallMs } from '../base/clock.js'
import { type Failure, failures } from '../base/errors.js'
import type { Consumer, Reply } from '../plugins/plugin.js'
import type { Counter } from '../shared/metrics-slab.js'
import type { NodeFeed } from './balancer/node-feed.js'
import type { OverlaidChain } from './consumers/overlays.js'
import { Exchange, type ExchangeCallbacks, Stage } from './exchange.js'
import type { ClientResponse } from './listener/binding.js'
import type { Overload } from './overload.js'
import { type RunPhase, runSteps, type Step } from './phases/chain.js'
import { endCollecting, RequestBody } from './request-body.js'
import { gatewayReply, type ReplyParts } from './response/reply.js'
import { discardChanges, type ResponseWriter, type WriterEvents } from './response/writer.js'
import type { LinkedSnapshot } from './snapshot.js'
import { Tries, type TryEndings } from './tries.js'
import type { ConnectionEvents, UpstreamConnection } from './upstream/connection.js'
import type { ResponseHead } from './upstream/response-head.js'

/** Records kept for reuse; more are left to the garbage collector after a burst. */
const SPARE_EXCHANGES_MAX = 2048
/** Unread request bodies up to this length are drained so that the connection can be kept. */
const DRAINED_BODY_BYTES_MAX = 65536

/** What comes behind a phase. */
enum Then {
  Consumer = 0,
  Access = 1,
  Upstream = 2,
}

export interface ProxyLimits {
  readonly maxBodyBytes: number
  readonly maxBufferedBytes: number
  readonly bodyTimeoutMs: number
  readonly sendTimeoutMs: number
}

export interface ProxyAccounts {
  /** `finished` reads addresses. */
  readonly needsAddress: boolean
  requestStarted(): void
  finished(exchange: Exchange): void
  /** Tries after the first one. */
  readonly retries: Counter
  /** Those that the budget did not allow. */
  readonly overBudget: Counter
  /** Second tries beside late ones. */
  readonly hedges: Counter
  readonly pluginErrors: Counter
  pluginFailed(plugin: string, error: unknown): void
}

export class RequestProxy implements ExchangeCallbacks, ConnectionEvents, WriterEvents, TryEndings {
  /** Set before the first request arrives; swapped whole by a reload. */
  snapshot: LinkedSnapshot | null = null
  /** Null = nothing is shed. */
  overload: Overload | null = null
  /** Null = no consumer is ever revoked. */
  revocations: { isConsumerRevoked(consumer: Consumer): boolean } | null = null
  private isEnding = false
  inFlight = 0
  requestCount = 0
  private wallOffsetMs = wallMs() - nowMs()
  private readonly spare: Exchange[] = []
  private first: Exchange | null = null
  private readonly requestBody: RequestBody
  private readonly tries: Tries

  constructor(
    private readonly writer: ResponseWriter,
    private readonly limits: ProxyLimits,
    private readonly accounts: ProxyAccounts,
    private readonly nodes: NodeFeed,
    clock: Clock,
  ) {
    this.requestBody = new RequestBody(limits, nodes)
    this.tries = new Tries(this.requestBody, nodes, accounts, clock, this)
  }

  get isDraining(): boolean {
    return this.isEnding
  }

  /** From now on every answer whose head is not written yet tells its client to close the connection, those in flight included. */
  drain(): void {
    this.isEnding = true
    // A head that is written promised to keep the connection: the answer after it ends that.
    for (let exchange = this.first; exchange !== null; exchange = exchange.next) {
      if (exchange.stage < Stage.Responding) exchange.closeClient = true
    }
  }

  /** A record for a new request, in the list of what is in flight. */
  begin(client: ClientResponse): Exchange {
    const exchange = this.spare.pop() ?? new Exchange(this)
    exchange.begin(client)
    this.writer.handledClient = client
    exchange.snapshot = this.snapshot
    exchange.wallOffsetMs = this.wallOffsetMs
    exchange.closeClient = this.isEnding
    exchange.previous = null
    exchange.next = this.first
    if (this.first !== null) this.first.previous = exchange
    this.first = exchange
    this.inFlight++
    this.requestCount++
    this.accounts.requestStarted()
    return exchange
  }

  /**
   * The binding's handler of the request returns. Whatever is not answered by now, such as an answer of the gateway's own that is still being
   * compressed, has a client that may go away; the binding ends the process when nobody wants to know.
   */
  handled(exchange: Exchange): void {
    this.writer.handledClient = null
    if (exchange.stage !== Stage.Done) this.attach(exchange)
  }

  /** Everything from routing on. The listener has filled the request in; the client may still be sending its body. */
  run(exchange: Exchange): void {
    const snapshot = exchange.snapshot as LinkedSnapshot
    exchange.maxRequestBodyBytes = this.limits.maxBodyBytes
    const index = snapshot.router.match(exchange)
    if (index >= 0) {
      const linked = snapshot.route(index)
      exchange.linked = linked
      exchange.uriParams = snapshot.router.params
      exchange.upstreamIndex = linked.upstream
      if (this.overload !== null && this.overload.level > linked.rank) {
        exchange.failure = failures.OVERLOADED
        this.reply(exchange, this.overload.reply)
        return
      }
    }
    if (exchange.linked !== null && exchange.linked.guarded !== null) exchange.linked.guarded.removeFrom(exchange.requestHeaders)
    this.phases(exchange)
  }

  /** A refusal that was decided before routing. */
  refuse(exchange: Exchange, failure: Failure): void {
    if (!failure.closes) {
      this.answerFailure(exchange, failure)
      return
    }
    // Answered inside the handler, the binding would go on to parse what lies behind the refused request in the same read. While an
    // answer is pending it does not: it gives the connection up instead.
    exchange.suspended = true
    exchange.isAttached = true
    exchange.readAddress()
    exchange.client?.onAborted(exchange.onAborted)
    setImmediate(() => this.answerFailure(exchange, failure))
  }

  /** An answer that was decided before routing. */
  answerDirectly(exchange: Exchange, reply: Reply): void {
    this.answer(exchange, reply)
  }

  private phases(exchange: Exchange): void {
    const { chain } = exchange
    if (chain.rewrite.length > 0 && !this.phase(exchange, chain.rewrite, 'rewrite', Then.Consumer)) return
    if (exchange.overlay >= 0) this.withConsumer(exchange)
    else this.access(exchange, chain.access)
  }

  /** The consumer is known: its plugins join the chain, and run the rewrite phase that is over for the others. */
  private withConsumer(exchange: Exchange): void {
    const { linked, snapshot } = exchange
    if (linked === null || snapshot === null || exchange.overlay < 0) {
      this.access(exchange, exchange.chain.access)
      return
    }
    let overlaid: OverlaidChain
    try {
      overlaid = snapshot.overlaid(linked, exchange.overlay)
    } catch (error) {
      this.pluginFailed(exchange, 'link', error)
      return
    }
    exchange.overlaid = overlaid
    if (overlaid.missingGroup !== '') {
      this.answerFailure(exchange, failures.NO_CONSUMER_GROUP)
      return
    }
    if (overlaid.guarded !== null) overlaid.guarded.removeFrom(exchange.requestHeaders)
    if (overlaid.lateRewrite.length > 0 && !this.phase(exchange, overlaid.lateRewrite, 'rewrite', Then.Access)) return
    this.access(exchange, overlaid.chain.access)
  }

  private access(exchange: Exchange, steps: readonly Step[]): void {
    const { consumer } = exchange
    if (consumer !== null && this.revocations?.isConsumerRevoked(consumer) === true) {
      this.answerFailure(exchange, failures.CONSUMER_REVOKED)
      return
    }
    if (steps.length > 0 && !this.phase(exchange, steps, 'access', Then.Upstream)) return
    this.toUpstream(exchange)
  }

  /** Runs a phase. False = it answered, failed or waits; a wait goes on by itself with what comes `then`. */
  private phase(exchange: Exchange, steps: readonly Step[], phase: RunPhase, then: Then): boolean {
    let result: ReturnType<typeof runSteps>
    try {
      result = runSteps(steps, phase, exchange)
    } catch (error) {
      this.pluginFailed(exchange, phase, error)
      return false
    }
    if (result === undefined) return true
    if (result instanceof Promise) {
      exchange.suspended = true
      this.attach(exchange)
      result
        .then((reply) => this.resumePhases(exchange, reply ?? undefined, then))
        // Also for what goes wrong behind the wait: it concerns this exchange, not the worker.
        .catch((error: unknown) => this.pluginFailed(exchange, phase, error))
      return false
    }
    this.answer(exchange, result)
    return false
  }

  private resumePhases(exchange: Exchange, reply: Reply | undefined, then: Then): void {
    if (exchange.stage === Stage.Done) return
    if (reply !== undefined) {
      this.answer(exchange, reply)
      return
    }
    if (then === Then.Consumer) this.withConsumer(exchange)
    else if (then === Then.Access) this.access(exchange, exchange.chain.access)
    else this.toUpstream(exchange)
  }

  pluginFailed(exchange: Exchange, phase: string, error: unknown): void {
    this.accounts.pluginErrors.add(1)
    this.accounts.pluginFailed(phase, error)
    if (exchange.stage === Stage.Done) return
    this.cancelUpstream(exchange)
    if (exchange.stage < Stage.Responding) this.answerFailure(exchange, failures.PLUGIN_FAILED)
    else this.abortClient(exchange)
  }

  // ---------------------------------------------------------------- upstream tries

  private toUpstream(exchange: Exchange): void {
    if (exchange.linked === null) {
      this.answerFailure(exchange, failures.NO_ROUTE)
      return
    }
    if (exchange.upstreamIndex < 0) {
      this.answerFailure(exchange, failures.NO_UPSTREAM)
      return
    }
    const limit = exchange.maxRequestBodyBytes
    if (limit > 0 && (exchange.requestBodyLength > limit || exchange.bodyReceivedBytes > limit)) {
      this.answerFailure(exchange, failures.BODY_TOO_LARGE)
      return
    }
    this.attach(exchange)
    this.tries.begin(exchange, exchange.linked, (exchange.snapshot as LinkedSnapshot).upstream(exchange.upstreamIndex))
  }

  /** An exchange that waited for a place of its upstream has one. */
  admitted(exchange: Exchange): void {
    this.tries.admitted(exchange)
  }

  connected(connection: UpstreamConnection): void {
    this.tries.connected(connection)
  }

  failed(exchange: Exchange, connection: UpstreamConnection, failure: Failure, answered: boolean): void {
    this.tries.failed(exchange, connection, failure, answered)
  }

  // ---------------------------------------------------------------- request body

  /** Makes sure that the binding tells about aborts and hands over the body; needed before the handler returns. */
  private attach(exchange: Exchange): void {
    const client = exchange.client
    if (client === null || exchange.isAttached) return
    exchange.isAttached = true
    // From here on the client may go away before anybody asks.
    exchange.readAddress()
    client.onAborted(exchange.onAborted)
    if (exchange.requestBodyLength !== 0) {
      exchange.bodyComplete = false
      client.onData(exchange.onData)
    }
  }

  data(exchange: Exchange, chunk: ArrayBuffer | Uint8Array, isLast: boolean): void {
    if (exchange.stage === Stage.Done || exchange.bodyComplete) return
    exchange.bodyReceivedBytes += chunk.byteLength
    exchange.bodyComplete = isLast
    const limit = exchange.maxRequestBodyBytes
    if (limit > 0 && exchange.bodyReceivedBytes > limit) {
      if (exchange.stage < Stage.Responding) {
        this.cancelUpstream(exchange)
        this.answerFailure(exchange, failures.BODY_TOO_LARGE)
      } else this.abortClient(exchange)
      return
    }
    this.requestBody.receive(exchange, chunk, isLast)
  }

  readBody(exchange: Exchange, maxBytes: number): Promise<Buffer | null> {
    this.attach(exchange)
    return this.requestBody.collect(exchange, maxBytes)
  }

  replaceBody(exchange: Exchange, body: Buffer): void {
    this.requestBody.replace(exchange, body)
  }

  drained(exchange: Exchange): void {
    exchange.isUpstreamFull = false
    this.requestBody.pump(exchange)
  }

  // ---------------------------------------------------------------- response

  whole(asked: Exchange, head: ResponseHead, bytes: Buffer, start: number, end: number): void {
    const exchange = asked.twin === null ? asked : this.tries.hedging.won(asked)
    if (!this.tries.answered(exchange, head, true, 0)) return
    this.letClientEnd(exchange)
    this.writer.whole(exchange, head, bytes, start, end)
  }

  head(asked: Exchange, head: ResponseHead, length: number): void {
    const exchange = asked.twin === null ? asked : this.tries.hedging.won(asked)
    if (!this.tries.answered(exchange, head, false, length)) return
    this.letClientEnd(exchange)
    this.writer.head(exchange, head, length)
  }

  body(exchange: Exchange, bytes: Buffer, start: number, end: number, isLast: boolean): void {
    this.tries.progressed(exchange, isLast)
    this.writer.body(exchange, bytes, start, end, isLast)
  }

  /** The rest of an upload that nobody waits for must not hold the answer up; the connection is not kept behind it. */
  private letClientEnd(exchange: Exchange): void {
    if (exchange.bodyComplete) return
    exchange.closeClient = true
    this.requestBody.resumeClient(exchange)
  }

  /** The answer of a plugin. */
  answer(exchange: Exchange, reply: Reply): void {
    this.reply(exchange, gatewayReply(exchange, reply))
  }

  answerFailure(exchange: Exchange, failure: Failure): void {
    exchange.failure = failure
    if (failure.closes) exchange.closeClient = true
    this.reply(exchange, gatewayReply(exchange, failure, this.snapshot?.hasKongErrors === true))
  }

  private reply(exchange: Exchange, parts: ReplyParts): void {
    if (exchange.stage === Stage.Done) return
    // The binding reads the rest of a short body and drops it. For a long one, or one without a length that nobody bounds, ending the
    // connection is cheaper than reading what nobody wants.
    const length = exchange.requestBodyLength
    const unread = length !== 0 && !(exchange.isAttached && exchange.bodyComplete)
    if (unread && (length > DRAINED_BODY_BYTES_MAX || (length < 0 && exchange.client?.dropsBody !== true))) exchange.closeClient = true
    if (exchange.bodyPaused) {
      exchange.bodyPaused = false
      exchange.client?.resume()
    }
    exchange.bodyQueue = null
    exchange.deadlineMs = 0
    exchange.response.source = 'gateway'
    this.writer.reply(exchange, parts)
  }

  turnEnded(): void {
    this.writer.flushHead()
  }

  writable(exchange: Exchange, offset: number): boolean {
    return this.writer.writable(exchange, offset)
  }

  // ---------------------------------------------------------------- endings

  /** The client went away, at any stage. */
  aborted(exchange: Exchange): void {
    if (exchange.stage === Stage.Done) return
    exchange.aborted = true
    exchange.client = null
    this.cancelUpstream(exchange)
    this.finish(exchange)
  }

  /** The answer cannot be completed: the client must see that it is cut off. */
  abortClient(exchange: Exchange): void {
    if (exchange.stage === Stage.Done) return
    const client = exchange.client
    exchange.aborted = true
    exchange.client = null
    this.cancelUpstream(exchange)
    this.finish(exchange)
    client?.close()
  }

  cancelUpstream(exchange: Exchange): void {
    this.tries.cancel(exchange)
  }

  responseTooLarge(exchange: Exchange): void {
    this.cancelUpstream(exchange)
    this.answerFailure(exchange, failures.RESPONSE_TOO_LARGE)
  }

  /** Places in flight are free before the client can know that its request is over. */
  ending(exchange: Exchange): void {
    const { chain } = exchange
    if (this.accounts.needsAddress || chain.logsAddress) exchange.readAddress()
    for (const group of chain.limits) group.release(exchange)
  }

  /** The writer handed the last byte to the client. */
  completed(exchange: Exchange): void {
    if (exchange.connection !== null) this.cancelUpstream(exchange)
    this.finish(exchange)
  }

  /** Log phase and accounts, exactly once; then the record may serve again. */
  private finish(exchange: Exchange): void {
    if (exchange.stage === Stage.Done) return
    exchange.stage = Stage.Done
    exchange.deadlineMs = 0
    exchange.limitMs = 0
    if (exchange.wait !== null) this.tries.endWait(exchange)
    if (exchange.twin !== null) this.tries.hedging.drop(exchange)
    if (exchange.place !== null || exchange.waitsAt !== null) this.tries.leave(exchange)
    this.inFlight--
    if (exchange.previous !== null) exchange.previous.next = exchange.next
    else this.first = exchange.next
    if (exchange.next !== null) exchange.next.previous = exchange.previous
    exchange.previous = null
    exchange.next = null
    if (exchange.bodyReader !== null) endCollecting(exchange, null)
    exchange.endAddress()
    discardChanges(exchange)
    const { log } = exchange.chain
    if (log.length > 0) this.runLog(exchange, log)
    this.accounts.finished(exchange)
    // A transform that is behind will call back.
    if (exchange.upstreamHolds > 0) exchange.suspended = true
    // A body still on its way, a waiting promise or an abort may call back later: such records are not reused.
    if (!exchange.aborted && !exchange.suspended && exchange.bodyComplete && this.spare.length < SPARE_EXCHANGES_MAX) {
      exchange.snapshot = null
      exchange.client = null
      this.spare.push(exchange)
    }
  }

  private runLog(exchange: Exchange, steps: readonly Step[]): void {
    for (const step of steps) {
      try {
        if (step.filter === null || step.filter(exchange)) step.instance.log?.(exchange)
      } catch (error) {
        this.accounts.pluginErrors.add(1)
        this.accounts.pluginFailed(step.name, error)
      }
    }
  }

  /** Ends waits that are over. Called every few ten milliseconds. */
  sweep(now: number): void {
    this.wallOffsetMs = wallMs() - now
    this.nodes.swept(now)
    let exchange = this.first
    while (exchange !== null) {
      const next: Exchange | null = exchange.next
      if (exchange.slowWatchMs !== 0) this.watchSlow(exchange, now)
      if (exchange.slowAfterMs !== 0) this.tries.unanswered(exchange, now)
      if (exchange.limitMs !== 0 && now >= exchange.limitMs) this.overrun(exchange, now)
      else if (exchange.deadlineMs !== 0 && now >= exchange.deadlineMs) this.expire(exchange)
      exchange = next
    }
  }

  /** Tells whoever wants to know that the upstream takes long. What the client holds up says nothing about it. */
  private watchSlow(exchange: Exchange, now: number): void {
    const { slowWatch, slowWatchMs } = exchange
    const isHeldUp = exchange.connection === null || exchange.isClientFull || !exchange.bodyComplete
    if (slowWatch === null || isHeldUp || now - exchange.upstreamStartMs - this.nodes.standstillMs(exchange, now) < slowWatchMs) return
    exchange.slowWatchMs = 0
    slowWatch.slow(exchange)
  }

  private expire(exchange: Exchange): void {
    const connection = exchange.connection
    if (exchange.stage === Stage.Responding) {
      if (exchange.isClientFull && exchange.client?.isTaking?.() === true) {
        exchange.deadlineMs = nowMs() + this.limits.sendTimeoutMs
        return
      }
      exchange.upstreamCut = connection !== null && !exchange.isClientFull
      this.abortClient(exchange)
      return
    }
    if (connection === null) {
      if (exchange.bodyReader !== null) this.answerFailure(exchange, failures.REQUEST_TIMEOUT)
      else if (exchange.waitsAt !== null) this.answerFailure(exchange, failures.UPSTREAM_BUSY)
      return
    }
    if (this.isClientSlow(exchange, connection)) this.giveUpOnClient(exchange)
    else this.tries.timedOut(exchange, connection)
  }

  /** A try has run for too long, or the whole request. */
  private overrun(exchange: Exchange, now: number): void {
    const { connection } = exchange
    if (connection !== null && this.isClientSlow(exchange, connection)) this.giveUpOnClient(exchange)
    else this.tries.overrun(exchange, now)
  }

  /** The upstream would take more of the request than the client has sent. */
  private isClientSlow(exchange: Exchange, connection: UpstreamConnection): boolean {
    return exchange.stage === Stage.Upstream && connection.isConnected && !connection.requestComplete && !exchange.isUpstreamFull
  }

  private giveUpOnClient(exchange: Exchange): void {
    this.cancelUpstream(exchange)
    this.answerFailure(exchange, failures.REQUEST_TIMEOUT)
  }
}
