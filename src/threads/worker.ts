/**
 * Entry of a worker thread: wires the data path, follows the primary's messages.
 *
 *   started → (snapshot) → serving → draining → closed
 *
 * An uncaught error closes every socket and ends the thread a turn later: a thread that ends with open uWebSockets.js sockets would
 * take the whole process with it. With accept `primary` the primary lets go of the thread's apps before that.
 */
import { hostname } from 'node:os'
import { parentPort, workerData } from 'node:worker_threads'
import { WorkerTokens } from '../auth/worker-tokens.js'
import { nowMs, recentMs, systemClock, wallMs } from '../base/clock.js'
import { version } from '../cli/version.js'
import { NodeFeed } from '../dataplane/balancer/node-feed.js'
import { WorkerBreakers } from '../dataplane/breakers/worker-breakers.js'
import { Bulkheads } from '../dataplane/concurrency/bulkheads.js'
import { WorkerLimits } from '../dataplane/limits/worker-limits.js'
import { createLinkKit } from '../dataplane/link-kit.js'
import { type Binding, loadBinding } from '../dataplane/listener/binding.js'
import { Listener } from '../dataplane/listener/listener.js'
import { nodeBinding } from '../dataplane/listener/node-binding.js'
import { atQuietTurn } from '../dataplane/listener/quiet-turn.js'
import { tcpBinding } from '../dataplane/listener/tcp-binding.js'
import { HttpClients } from '../dataplane/outbound/http-clients.js'
import { Overload } from '../dataplane/overload.js'
import { RequestProxy } from '../dataplane/proxy.js'
import { ResponseWriter } from '../dataplane/response/writer.js'
import { type LinkEnvironment, LinkedSnapshot } from '../dataplane/snapshot.js'
import { isBindable } from '../dataplane/tcp/shared-port.js'
import { PoolRegistry } from '../dataplane/upstream/pool-registry.js'
import { builtinPlugins } from '../plugins/index.js'
import { PluginRegistry } from '../plugins/registry.js'
import { loadUserPlugins } from '../plugins/user-plugins.js'
import type { PathPolicy } from '../schema/compiled.js'
import type { LimitsConfig, ListenerConfig, NamedCertificate } from '../schema/process.js'
import { ConcurrencyCells } from '../shared/concurrency-cells.js'
import { WorkerSlot } from '../shared/epochs.js'
import { WorkerMetrics } from '../shared/metrics-slab.js'
import { NodeCells } from '../shared/node-cells.js'
import { NodeHealth } from '../shared/node-health.js'
import { Rotors } from '../shared/rotors.js'
import { UpstreamCells } from '../shared/upstream-cells.js'
import { AccessLog } from '../telemetry/access-log.js'
import { createAccounts, createPoolTally } from './accounts.js'
import { Collector } from './collector.js'
import { openLimitStores } from './limit-stores.js'
import type { ChangeMessage, FromWorker, ToWorker, WorkerStart } from './protocol.js'
import { RateLimitedLog } from './rate-limited-log.js'

/** Deadlines are checked this often; a wait ends at most so much late. */
const SWEEP_MS = 50
/** Idle upstream connections are looked at this often. */
const IDLE_SWEEP_MS = 1000
/** After changes of routes, remembered tokens are rid of what they know of the old ones this often. */
const FORGET_MS = 10_000
/** While draining: no request for so long means that every kept-alive client has had its last answer. */
const DRAIN_QUIET_MS = 500
const noMemory = { rss: 0, heapTotal: 0, external: 0 }
/** Longest wait for Redis at the end, to give back what was taken from it: far below the supervisor's patience. */
const RETURN_MS = 1000
/** The same after a failure, when a replacement waits for this thread to end. */
const RETURN_AFTER_FAILURE_MS = 100

const start = workerData as WorkerStart
const DEFAULT_BINDING = 'uWebSockets.js'
/** The primary accepts and hands connections to the apps of this thread. */
const isChild = start.accept === 'primary'
const port = parentPort
if (port === null) throw new Error('worker.js must run in a worker thread')

function send(message: FromWorker): void {
  port?.postMessage(message)
}

class WorkerThread {
  private readonly slot = new WorkerSlot(start.regions.epochs, start.index)
  private readonly log = new RateLimitedLog(send, nowMs)
  private readonly metrics: WorkerMetrics
  private readonly accessLog: AccessLog
  /** Null = memory is not bounded. */
  private readonly collector: Collector | null
  private readonly pools: PoolRegistry
  private readonly http = new HttpClients()
  private readonly tokens: WorkerTokens
  private readonly pluginStates = new Map<string, unknown>()
  private readonly proxy: RequestProxy
  private readonly environment: LinkEnvironment
  private readonly stores: ReturnType<typeof openLimitStores>
  /** By index in the configuration. */
  private readonly listeners = new Map<number, Listener>()
  /** Newer ones than those of the start; null = there are none. */
  private certificates: readonly NamedCertificate[] | null = null
  private ports: readonly number[] | undefined
  private policy: PathPolicy = { encodedSlash: 'keep', doubleSlash: 'merge', deleteTailSlash: false, servlet: false }
  private snapshot: LinkedSnapshot | null = null
  private lastSweepMs = nowMs()
  private lastIdleSweepMs = nowMs()
  private lastForgottenMs = nowMs()
  /** Tokens may know routes that are gone. */
  private hasOldBindings = false
  private lastRequests = 0
  private quietSinceMs = 0
  private isDrained = false
  private isEnding = false
  private hasFailed = false
  /** Not accepting because of max_connections. */
  private isPaused = false
  private readonly timer: NodeJS.Timeout

  constructor(registry: PluginRegistry) {
    const slab = start.regions.metrics[start.index]
    if (slab === undefined) throw new Error(`no metrics slab for worker ${start.index}`)
    this.metrics = new WorkerMetrics(slab, (slot, labels) => send({ type: 'series', slot, labels }), start.process.latencyBoundsMs)
    const { limits, log } = start.process
    this.accessLog = new AccessLog(log.access, {
      clock: systemClock,
      dropped: this.metrics.counter('access_log_dropped'),
      log: (message) => this.log.write('warn', message),
      upstreamOf: (index) => (this.snapshot !== null && index >= 0 ? this.snapshot.upstream(index).record : undefined),
      server: { hostname: hostname(), version },
    })
    const writer = new ResponseWriter(limits.sendTimeoutMs)
    const accounts = createAccounts(this.metrics, log.access.format === 'off' ? null : this.accessLog, this.log)
    const nodes = new NodeCells(start.regions.nodes, start.process.workers, start.index)
    this.proxy = new RequestProxy(writer, limits, accounts, new NodeFeed(nodes), systemClock)
    writer.events = this.proxy
    const { overload } = start.process
    if (overload.maxLagMs > 0 || overload.maxMemoryBytes > 0) this.proxy.overload = new Overload(overload)
    this.collector = overload.maxMemoryBytes > 0 ? Collector.ofEngine(nowMs) : null
    this.pools = new PoolRegistry(this.proxy, limits.maxResponseHeaderBytes, createPoolTally(this.metrics))
    this.stores = openLimitStores({
      region: start.regions.limiter,
      member: start.index,
      workers: start.process.workers,
      nodeId: start.nodeId,
      metrics: this.metrics,
      log: (level, message) => this.log.write(level, message),
    })
    const breakers = new WorkerBreakers({
      region: start.regions.breakers,
      pathRegion: start.regions.pathBreakers,
      member: start.index,
      now: nowMs,
      recent: recentMs,
      metrics: this.metrics,
      declare: (breaker) => send({ type: 'breaker', breaker }),
      report: (event) => send({ type: 'breaker-event', event }),
      log: (level, message) => this.log.write(level, message),
    })
    const rateLimits = new WorkerLimits(this.stores, this.metrics, (ms, callback) => systemClock.after(ms, callback))
    this.tokens = new WorkerTokens({
      revocations: start.regions.revocations,
      clock: systemClock,
      askForKeys: (id) => send({ type: 'key-set-wanted', id }),
      log: (level, message) => this.log.write(level, message),
    })
    this.proxy.revocations = this.tokens
    this.environment = {
      plugins: registry,
      pools: this.pools,
      rotors: new Rotors(start.regions.rotors),
      nodes,
      nodeHealth: new NodeHealth(start.regions.nodes, nodes),
      nodeNews: (news) => send({ type: 'node-news', news }),
      upstreams: new UpstreamCells(start.regions.upstreams),
      bulkheads: new Bulkheads({
        cells: new ConcurrencyCells(start.regions.concurrency, start.process.workers, start.index),
        workers: start.process.workers,
        clock: systemClock,
        admitted: (exchange) => this.proxy.admitted(exchange),
      }),
      metrics: this.metrics,
      kitFor: (route, consumers) =>
        createLinkKit(route, {
          plugins: registry,
          consumers,
          delay,
          limits: rateLimits,
          breakers,
          http: this.http,
          tokens: this.tokens,
          states: this.pluginStates,
          log: (level, message) => this.log.write(level, message),
        }),
    }
    this.timer = setInterval(() => this.sweep(), SWEEP_MS)
  }

  receive(message: ToWorker): void {
    switch (message.type) {
      case 'certificates':
        this.certificates = message.certificates
        for (const listener of this.listeners.values()) listener.setCertificates(message.certificates)
        break
      case 'snapshot':
        if (this.snapshot !== null && message.epoch <= this.snapshot.epoch) break
        this.policy = message.router.path
        this.adopt(LinkedSnapshot.of(message, this.environment))
        this.tokens.configurationChanged()
        break
      case 'change':
        this.change(message)
        break
      case 'nodes':
        if (this.snapshot?.epoch === message.epoch) {
          for (const update of message.updates) this.snapshot.updateNodes(update.upstream, update.nodes)
        }
        break
      case 'listen':
        this.ports = message.ports
        void this.listen()
        break
      case 'accepting':
        this.isPaused = !message.on
        if (message.on) void this.listen()
        else for (const listener of this.listeners.values()) void atQuietTurn(() => this.isPaused && listener.stopListening())
        break
      case 'drain':
        this.slot.setState('draining')
        this.proxy.drain()
        this.quietSinceMs = nowMs()
        for (const listener of this.listeners.values()) void atQuietTurn(() => listener.drain())
        break
      case 'key-set':
        this.tokens.learnKeys(message.news)
        break
      case 'reopen-logs':
        this.accessLog.reopen()
        break
      case 'close':
        if (isChild) this.endBehindConnections()
        else this.end(0)
        break
      case 'fault':
        setImmediate(() => fault(message.kind))
        break
    }
  }

  private change(message: ChangeMessage): void {
    if (this.snapshot !== null && message.epoch <= this.snapshot.epoch) return
    // Messages arrive in order, so this cannot be; going on with a snapshot that nobody wanted would be worse than ending.
    if (this.snapshot?.epoch !== message.base) {
      throw new Error(`epoch ${message.epoch} changes epoch ${message.base}, but this worker has ${this.snapshot?.epoch ?? 'none'}`)
    }
    this.hasOldBindings = true
    this.adopt(this.snapshot.with(message))
  }

  private adopt(snapshot: LinkedSnapshot): void {
    this.snapshot = snapshot
    this.proxy.snapshot = snapshot
    this.slot.acknowledge(snapshot.epoch)
    if (start.replacement && this.listeners.size === 0) void this.listen()
  }

  private async listen(): Promise<void> {
    if (this.isEnding || this.proxy.isDraining || [...this.listeners.values()].some((listener) => listener.isListening)) return
    const { listeners, limits, realIp, trustIdentityHeaders } = start.process
    const ports: number[] = []
    const descriptors: unknown[] = []
    for (const [index, listener] of listeners.entries()) {
      descriptors[index] = null
      // Sockets of Node cannot share a port between threads: the strict listener is worker 0's.
      if (listener.node !== undefined && start.index !== 0) {
        ports.push(this.ports?.[index] ?? listener.port)
        continue
      }
      try {
        const opened =
          this.listeners.get(index) ??
          new Listener(
            bindingOf(listener, limits),
            this.proxy,
            { listener, limits, realIp, trustIdentityHeaders, connections: this.metrics },
            () => this.policy,
          )
        this.listeners.set(index, opened)
        if (this.certificates !== null) opened.setCertificates(this.certificates)
        if (isChild && listener.node === undefined) {
          const port = this.ports?.[index] ?? listener.port
          descriptors[index] = opened.adopt(port)
          ports.push(port)
          continue
        }
        ports.push(await opened.listen(this.ports?.[index] ?? listener.port))
      } catch (error) {
        send({
          type: 'listen-failed',
          address: `${listener.host}:${listener.port}`,
          reason: error instanceof Error ? error.message : String(error),
        })
        return
      }
    }
    this.ports = ports
    this.slot.setState('serving')
    send({ type: 'listening', ports, ...(isChild ? { descriptors } : {}) })
  }

  private sweep(): void {
    const now = nowMs()
    const late = now - this.lastSweepMs - SWEEP_MS
    this.lastSweepMs = now
    this.slot.beat(now)
    this.slot.setLoopLag(Math.max(0, late))
    this.watchLoad(Math.max(0, late))
    this.slot.setInFlight(this.proxy.inFlight)
    this.metrics.setUpstreamConnections(this.pools.tally.connections)
    // Timers run before sockets are read: what came in time, while this thread stood still, is read before a wait is ended.
    setImmediate(this.endWaits)
    if (now - this.lastIdleSweepMs >= IDLE_SWEEP_MS) {
      this.lastIdleSweepMs = now
      this.pools.sweepIdle(now)
      this.forgetBindings(now)
    }
    if (this.proxy.isDraining && !this.isDrained) this.checkDrained(now)
  }

  /** What changes of some routes leave behind in the tokens that are remembered is cleared away together. */
  private forgetBindings(now: number): void {
    if (!this.hasOldBindings || now - this.lastForgottenMs < FORGET_MS) return
    this.hasOldBindings = false
    this.lastForgottenMs = now
    this.tokens.configurationChanged()
  }

  private readonly endWaits = (): void => this.proxy.sweep(nowMs())

  private watchLoad(lagMs: number): void {
    const { overload } = this.proxy
    if (overload === null) return
    let memory = noMemory
    if (this.collector !== null) {
      memory = process.memoryUsage()
      this.slot.setHeldBytes(memory.heapTotal + memory.external)
      if (overload.isShortOfMemory) this.collector.wanted()
    }
    if (!overload.observe(lagMs, memory.rss, this.slot.heldBytesOfAll())) return
    this.slot.setShedLevel(overload.level)
    if (overload.level > 0) this.log.write('warn', `overloaded: requests are refused at level ${overload.level} of 3`)
    else this.log.write('info', 'not overloaded any more: all requests are served')
  }

  private checkDrained(now: number): void {
    const requests = this.proxy.requestCount
    if (requests !== this.lastRequests || this.proxy.inFlight > 0) {
      this.lastRequests = requests
      this.quietSinceMs = now
      return
    }
    if (now - this.quietSinceMs < DRAIN_QUIET_MS) return
    this.isDrained = true
    send({ type: 'drained' })
  }

  /** Reports an uncaught error and ends. A child application stays open until the primary has let go of it, and says so by `close`. */
  fail(error: Error): void {
    if (this.hasFailed) return
    this.hasFailed = true
    send({ type: 'failed', message: error.message, stack: error.stack ?? '' })
    if (!isChild) this.end(1)
  }

  /** The primary hands over nothing more, but what it did hand over may have reached this loop together with the message. */
  private endBehindConnections(): void {
    setImmediate(() => setImmediate(() => this.end(this.hasFailed ? 1 : 0)))
  }

  /** Closes every socket, then ends the thread a turn later. */
  private end(code: number): void {
    if (this.isEnding) return
    this.isEnding = true
    clearInterval(this.timer)
    this.slot.setState('ended')
    for (const listener of this.listeners.values()) listener.close()
    this.pools.destroy()
    const returned = Promise.race([this.stores.redis.close(), delay(code === 0 ? RETURN_MS : RETURN_AFTER_FAILURE_MS)])
    void Promise.allSettled([this.accessLog.close(), returned, this.http.close(), this.tokens.close()]).then(() =>
      setImmediate(() => process.exit(code)),
    )
  }
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** What serves a listener; throws where its kind cannot. */
function bindingOf(listener: ListenerConfig, limits: LimitsConfig): Binding {
  const { node, transport } = listener
  if (node !== undefined) return nodeBinding({ limits, http2: node.http2 })
  if (transport === 'uws' || (transport === undefined && !isForTcp(listener))) return binding
  const found = isBindable(listener.host) ? tcpOf(limits) : null
  if (found === null && transport === 'tcp') {
    throw new Error('kind tcp needs an IP address, Linux on x64 or arm64, and the package koffi: take kind uws')
  }
  return found ?? binding
}

/** Whoever asks for a build of uWebSockets.js, or for a primary that accepts, wants that build to serve. */
function isForTcp({ tls, proxyProtocol }: ListenerConfig): boolean {
  return tls === null && proxyProtocol !== true && !isChild && start.binding === DEFAULT_BINDING
}

/** Made once: its listeners share memory. Null = not possible here. */
function tcpOf(limits: LimitsConfig): Binding | null {
  if (tcp === undefined) tcp = tcpBinding(limits)
  return tcp
}

function fault(kind: 'throw' | 'out-of-memory'): void {
  if (kind === 'throw') throw new Error('fault injected by the test hook')
  const hoard: number[][] = []
  for (;;) hoard.push(new Array<number>(1_000_000).fill(wallMs()))
}

const binding = loadBinding(start.binding)
let tcp: Binding | null | undefined
const registry = PluginRegistry.of([...builtinPlugins, ...(await loadUserPlugins(start.process.plugins))])
const worker = new WorkerThread(registry)

process.on('uncaughtException', (error) => worker.fail(error))
process.on('unhandledRejection', (reason) => {
  throw reason instanceof Error ? reason : new Error(String(reason))
})
port.on('message', (message: ToWorker) => worker.receive(message))
send({ type: 'ready' })
