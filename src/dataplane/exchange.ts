/**
 * One request with its response: the per-request record of the data path.
 *
 * All fields are set in the constructor, in one order, and by `begin()`; a record that ended cleanly is reused. The record that
 * plugins see (plugins/plugin.ts) is this class. Runs on workers; lives in one thread.
 *
 * Checklist for a new field: constructor, `begin()`, and `release()` if it holds memory.
 */

import { nowMs } from '../base/clock.js'
import { type Failure, failures } from '../base/errors.js'
import { HeaderList } from '../base/headers.js'
import type { Consumer, Credential, NodeGate, Exchange as PluginExchange, RouteInfo, SlowWatch } from '../plugins/plugin.js'
import { AddressedClient } from './addressed-client.js'
import type { Bulkhead } from './concurrency/bulkhead.js'
import { LinkedCredential } from './consumers/credential-cache.js'
import { LinkedConsumer } from './consumers/linked-consumer.js'
import type { OverlaidChain } from './consumers/overlays.js'
import { identityOf, setIdentityHeaders } from './identity-headers.js'
import type { LinkedUpstream } from './linked-upstream.js'
import type { ClientResponse } from './listener/binding.js'
import { type Chain, noChain } from './phases/chain.js'
import { ResponseState } from './response/response-state.js'
import { defaultRetryPolicy, type RetryPolicy } from './retries/retry-policy.js'
import type { LinkedRoute, LinkedSnapshot } from './snapshot.js'
import type { UpstreamConnection } from './upstream/connection.js'
import type { NodePool } from './upstream/pool.js'

/** Where an exchange is; only grows. */
export enum Stage {
  Request = 0,
  /** A try is under way; nothing of the response was sent. */
  Upstream = 1,
  /** The head of the response went to the client. */
  Responding = 2,
  Done = 3,
}

/** Where the body of an upstream's answer goes. */
export enum Sink {
  Direct = 0,
  Discard = 1,
  Collect = 2,
  Transform = 3,
}

export class Exchange extends AddressedClient implements PluginExchange {
  // client side
  method = ''
  scheme: 'http' | 'https' = 'http'
  host = ''
  hostHeader = ''
  serverPort = 0
  /** Address of the listener as configured. */
  serverAddress = ''
  path = ''
  query = ''
  rawTarget = ''
  readonly requestHeaders = new HeaderList()
  clientPort = 0
  requestBodyLength = 0
  maxRequestBodyBytes = 0
  isHead = false
  /** Close the client connection behind the answer. */
  closeClient = false
  /** The client has said that it sends nothing more on this connection; the answer says so too (RFC 9112 §9.6). */
  clientCloses = false

  // what goes upstream
  upstreamPath = ''
  upstreamQuery = ''
  upstreamMethod = ''
  upstreamHost = ''
  upstreamIndex = -1

  // decisions
  snapshot: LinkedSnapshot | null = null
  linked: LinkedRoute | null = null
  uriParams: ReadonlyMap<string, string> | null = null
  consumerName = ''
  consumerGroupId = ''
  credentialId = ''
  consumer: Consumer | null = null
  credential: Credential | null = null
  tokenClaims: PluginExchange['tokenClaims'] = null
  requestId = ''
  /** Number of the consumer's overlay of plugins; -1 = none. */
  overlay = -1
  /** The chain with the consumer's plugins, once it is in force. */
  overlaid: OverlaidChain | null = null
  /** What plugins keep for this request; the list itself is kept from request to request. */
  private readonly slots: unknown[] = []
  private hasSlots = false

  // request body on its way
  /** Chunks not yet taken by an upstream connection. */
  bodyQueue: Buffer[] | null = null
  bodyQueuedBytes = 0
  bodyReceivedBytes = 0
  bodyComplete = true
  bodyPaused = false
  /** A plugin waits for the whole body; null = nobody does. */
  bodyReader: BodyReader | null = null
  /** The upstream's socket takes no more for now. */
  isUpstreamFull = false
  /** Abort and body callbacks are registered with the binding. */
  isAttached = false
  /** Chunks already sent, kept while the request may still be repeated; null = cannot be repeated any more. */
  bodyReplay: Buffer[] | null = null
  bodyReplayBytes = 0

  // tries
  upstream: LinkedUpstream | null = null
  pool: NodePool | null = null
  /** Slot of the node that was picked last (shared/node-cells); 0 = it has none. */
  pickedSlot = 0
  /** Slot that this exchange counts in at the moment; 0 = none. The node feed keeps it. */
  openSlot = 0
  /** How the try under way has gone so far, an `Outcome`. */
  tryOutcome = 0
  /** When the request, as far as it is known to be complete, was sent: latency is measured from there. */
  sentMs = 0
  /** Without an answer for so long, the try under way counts as slow; 0 = it does not, or has been counted. The node feed keeps it. */
  slowAfterMs = 0
  /** How long the thread had stood still in its life when the request was sent; the node feed keeps it. */
  stoodStillMs = 0
  connection: UpstreamConnection | null = null
  triesLeft = 0
  tryCount = 0
  triedNodes: NodePool[] | null = null
  nodeGate: NodeGate | null = null
  slowWatch: SlowWatch | null = null
  slowWatchMs = 0
  /** This try went out on a reused connection and may be repeated once without counting. */
  staleRetryUsed = false
  retryUntilMs = 0
  retry: RetryPolicy = defaultRetryPolicy
  /** Holds a place of its upstream there; null = it needs none, or has given it back. */
  place: Bulkhead<Exchange> | null = null
  /** Waits for a place there. */
  waitsAt: Bulkhead<Exchange> | null = null
  /** The try that runs beside this one: the hedge of an exchange, or the exchange of a hedge. */
  twin: Exchange | null = null
  /** It only stands for the second try of its twin: no client, no plugins, no log. */
  isHedge = false
  /** Ends a wait before the next try, or before a hedge; null = there is none. */
  wait: (() => void) | null = null
  /** Something below bounds the tries, or has to be told to the upstream. */
  isTimed = false
  /** Longest time of a try up to its head; 0 = no limit. */
  perTryMs = 0
  /** Moment at which the request must have been answered; 0 = none. */
  untilMs = 0
  /** It is the client who wants it answered by then. */
  isClientDeadline = false
  /** The earlier of both for the present try; 0 = neither. Read by the worker's sweep. */
  limitMs = 0
  connectTimeoutMs = 0
  sendTimeoutMs = 0
  readTimeoutMs = 0
  upstreamStatus = ''
  upstreamLastStatus = 0
  /** The upstream broke off, or stood still, in the middle of an answer that the client was being given. */
  upstreamCut = false
  upstreamAddress = ''
  upstreamStartMs = 0
  upstreamResponseMs = -1
  upstreamStandstillMs = 0

  // answer
  readonly response = new ResponseState()
  stage: Stage = Stage.Request
  failure: Failure | null = null
  bodyBytesSent = 0
  /** Declared length of the answer being streamed; -1 = chunked. */
  answerLength = 0
  /** Bytes that a slow client did not take yet. */
  unsent: Buffer | null = null
  unsentIsLast = false
  /** Offset in the answer's body at which `unsent` begins. */
  unsentOffset = 0
  collected: Buffer[] | null = null
  collectedBytes = 0
  /** Where body bytes of the upstream go. */
  sink: Sink = Sink.Direct
  /** The client takes no more for now. */
  isClientFull = false
  /** Reasons for which the upstream is not read at the moment: a slow client, transforms that are behind. */
  upstreamHolds = 0
  /** Times the header filters ran: an answer made because one of them failed is not filtered again. */
  filterRuns = 0

  // life
  aborted = false
  /** A promise of a plugin is outstanding: the record must not be reused. */
  suspended = false
  startMs = 0
  /** Added to a monotonic time it gives the wall clock; renewed by the proxy's sweep. */
  wallOffsetMs = 0
  /** Moment at which the present wait ends with a failure; 0 = no wait. Read by the worker's sweep. */
  deadlineMs = 0
  previous: Exchange | null = null
  next: Exchange | null = null

  /** Bound once per record: the binding wants functions, and a closure per request would be garbage per request. */
  readonly onAborted: () => void
  readonly onData: (chunk: ArrayBuffer | Uint8Array, isLast: boolean) => void
  readonly onWritable: (offset: number) => boolean
  private readonly callbacks: ExchangeCallbacks

  constructor(callbacks: ExchangeCallbacks) {
    super()
    this.callbacks = callbacks
    this.onAborted = () => callbacks.aborted(this)
    this.onData = (chunk, isLast) => callbacks.data(this, chunk, isLast)
    this.onWritable = (offset) => callbacks.writable(this, offset)
  }

  /** A record for a second try of this exchange. */
  hedge(pool: NodePool, slot: number, now: number): Exchange {
    const hedge = new Exchange(this.callbacks)
    hedge.isHedge = true
    hedge.twin = this
    hedge.stage = Stage.Upstream
    hedge.upstream = this.upstream
    hedge.upstreamMethod = this.upstreamMethod
    hedge.readTimeoutMs = this.readTimeoutMs
    hedge.pool = pool
    hedge.pickedSlot = slot
    hedge.upstreamAddress = pool.address
    hedge.upstreamStartMs = now
    return hedge
  }

  /** Forgets the previous request. */
  begin(client: ClientResponse): void {
    this.client = client
    this.requestHeaders.reset()
    this.clientPort = 0
    this.maxRequestBodyBytes = 0
    this.closeClient = false
    this.clientCloses = false
    this.upstreamHost = ''
    this.upstreamIndex = -1
    this.linked = null
    this.uriParams = null
    this.consumerName = ''
    this.consumerGroupId = ''
    this.credentialId = ''
    this.consumer = null
    this.credential = null
    this.tokenClaims = null
    this.requestId = ''
    this.overlay = -1
    this.overlaid = null
    if (this.hasSlots) this.clearSlots()
    this.bodyQueue = null
    this.bodyQueuedBytes = 0
    this.bodyReceivedBytes = 0
    this.bodyComplete = true
    this.bodyPaused = false
    this.bodyReader = null
    this.isUpstreamFull = false
    this.isAttached = false
    this.bodyReplay = null
    this.bodyReplayBytes = 0
    this.upstream = null
    this.pool = null
    this.pickedSlot = 0
    this.openSlot = 0
    this.tryOutcome = 0
    this.sentMs = 0
    this.slowAfterMs = 0
    this.connection = null
    this.triesLeft = 0
    this.tryCount = 0
    this.triedNodes = null
    this.nodeGate = null
    this.slowWatch = null
    this.slowWatchMs = 0
    this.staleRetryUsed = false
    this.retryUntilMs = 0
    this.wait = null
    this.twin = null
    this.place = null
    this.waitsAt = null
    this.isTimed = false
    this.limitMs = 0
    this.upstreamStatus = ''
    this.upstreamLastStatus = 0
    this.upstreamCut = false
    this.upstreamAddress = ''
    this.upstreamStartMs = 0
    this.upstreamResponseMs = -1
    this.upstreamStandstillMs = 0
    this.response.begin()
    this.stage = Stage.Request
    this.failure = null
    this.bodyBytesSent = 0
    this.answerLength = 0
    this.unsent = null
    this.unsentIsLast = false
    this.unsentOffset = 0
    this.sink = Sink.Direct
    this.isClientFull = false
    this.upstreamHolds = 0
    this.filterRuns = 0
    this.collected = null
    this.collectedBytes = 0
    this.aborted = false
    this.suspended = false
    this.deadlineMs = 0
    this.startMs = nowMs()
  }

  get startedAtMs(): number {
    return Math.round(this.startMs + this.wallOffsetMs)
  }

  /** Plugins that run for this exchange: with those of the consumer, of the route, or of the global rules alone. */
  get chain(): Chain {
    return this.overlaid?.chain ?? this.linked?.chain ?? this.snapshot?.globals ?? noChain
  }

  get route(): RouteInfo | null {
    return this.linked
  }

  get upstreamFailed(): boolean {
    const { failure } = this
    // An answer that is too large for a plugin here is no fault of the upstream.
    return this.upstreamCut || (failure !== null && failure.source === 'upstream' && failure !== failures.RESPONSE_TOO_LARGE)
  }

  get upstreamKey(): string {
    return this.upstreamIndex < 0 ? '' : (this.snapshot?.upstream(this.upstreamIndex).record.key ?? '')
  }

  elapsedMs(): number {
    return nowMs() - this.startMs
  }

  authenticate(consumer: Consumer | null, credential: Credential | null, identifier = credential?.id ?? ''): void {
    this.consumer = consumer
    this.credential = credential
    this.consumerName = consumer?.username ?? ''
    this.consumerGroupId = consumer?.groupId ?? ''
    this.credentialId = identifier
    this.overlay = consumer instanceof LinkedConsumer ? consumer.overlay : -1
    // What says who it is lies ready with the credential.
    const isUsual = credential instanceof LinkedCredential && credential.consumer === consumer && credential.id === identifier
    setIdentityHeaders(this.requestHeaders, isUsual ? credential.identity : identityOf(consumer, identifier))
  }

  readRequestBody(maxBytes: number): Promise<Buffer | null> {
    return this.callbacks.readBody(this, maxBytes)
  }

  replaceRequestBody(body: Buffer): void {
    this.callbacks.replaceBody(this, body)
  }

  getSlot(slot: number): unknown {
    return this.slots[slot]
  }

  setSlot(slot: number, value: unknown): void {
    while (this.slots.length <= slot) this.slots.push(undefined)
    this.slots[slot] = value
    this.hasSlots = true
  }

  private clearSlots(): void {
    const { slots } = this
    for (let index = 0; index < slots.length; index++) slots[index] = undefined
    this.hasSlots = false
  }
}

/** What collects a request body for a plugin. */
export interface BodyReader {
  readonly maxBytes: number
  /** The whole body, or null: it is too long, or the client has gone. */
  readonly resolve: (body: Buffer | null) => void
}

export interface ExchangeCallbacks {
  readBody(exchange: Exchange, maxBytes: number): Promise<Buffer | null>
  replaceBody(exchange: Exchange, body: Buffer): void
  aborted(exchange: Exchange): void
  data(exchange: Exchange, chunk: ArrayBuffer | Uint8Array, isLast: boolean): void
  writable(exchange: Exchange, offset: number): boolean
}
