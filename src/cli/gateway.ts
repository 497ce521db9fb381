/**
 * The primary: brings the parts up in order, keeps them going, takes them down in order.
 *
 *   status and admin servers → workers → first snapshot acknowledged → listening → ready line
 *   signal, or a failure → (drain) → workers closed → servers closed → exit code
 */
import { randomUUID } from 'node:crypto'
import { systemClock } from '../base/clock.js'
import { UsageError } from '../base/errors.js'
import type { CompiledConsumers } from '../controlplane/compile-consumers.js'
import type { DnsResolver } from '../controlplane/dns.js'
import { SnapshotPacker } from '../controlplane/publish.js'
import { Reloader, type ReloadOutcome } from '../controlplane/reload.js'
import type { PublishOutcome } from '../controlplane/store/configuration-writer.js'
import type { ApplyOutcome } from '../controlplane/store/resource-store.js'
import type { Binding } from '../dataplane/listener/binding.js'
import { compareLimiters, type DeclaredLimiter } from '../limits/declared.js'
import type { CompiledConfig, CompiledRoute, Json } from '../schema/compiled.js'
import type { ProcessConfig } from '../schema/process.js'
import { retireConcurrency } from '../shared/concurrency-cells.js'
import { EpochBoard } from '../shared/epochs.js'
import { MetricsDirectory } from '../shared/metrics-directory.js'
import { createRegions, LIMITER_CAPACITY_DEFAULT, type LimiterCapacity } from '../shared/regions.js'
import type { RouterBlocks } from '../shared/router-tables.js'
import type { ProcessLog } from '../telemetry/process-log.js'
import { type ListenRefused, PrimaryAcceptor } from '../threads/acceptor.js'
import { ConnectionWatch, countOpenFiles } from '../threads/connection-watch.js'
import { findFreePorts } from '../threads/free-ports.js'
import { HeartbeatWatch } from '../threads/heartbeat.js'
import { explainListenFailure } from '../threads/listen-problem.js'
import { notifyServiceManager } from '../threads/notify.js'
import { installSignals } from '../threads/signals.js'
import { supervisorVariable } from '../threads/supervise.js'
import { Supervisor, type WorkerReport } from '../threads/supervisor.js'
import type { ConfigurationSource, PreparedChange, PreparedConfiguration } from './configuration.js'
import { explainQuery } from './explain.js'
import { removePidFile, writePidFile } from './pid-file.js'
import { placeUpstreams } from './place-upstreams.js'
import { PrimaryBreakers } from './primary-breakers.js'
import { PrimaryCertificates } from './primary-certificates.js'
import { PrimaryConcurrency } from './primary-concurrency.js'
import { PrimaryConfiguration } from './primary-configuration.js'
import { PrimaryHealth } from './primary-health.js'
import { PrimaryLimits } from './primary-limits.js'
import { PrimaryNodes } from './primary-nodes.js'
import { PrimaryTokens } from './primary-tokens.js'
import { readyLine } from './ready-line.js'
import { type OperatorServers, startOperatorServers } from './servers.js'
import { version } from './version.js'

export interface GatewayOptions {
  /** Flags already laid over it; `workers` is the real number. */
  readonly config: ProcessConfig
  readonly first: PreparedConfiguration
  readonly source: ConfigurationSource
  readonly accept: 'primary' | 'kernel'
  /** The uWebSockets.js build. */
  readonly binding: Binding
  readonly log: ProcessLog
  readonly resolver: DnsResolver
  readonly environment: NodeJS.ProcessEnv
  /** Prints the ready line. */
  readonly print: (line: string) => void
}

/** Nothing was published, because the store refused. */
interface Refused {
  readonly refusal: Exclude<ApplyOutcome, { state: 'stored' }>
}

interface Published {
  /** Every worker has acknowledged it in time. */
  readonly isEverywhere: boolean
  readonly packMs: number
  readonly swapMs: number
  /** Of the store, if it was stored. */
  readonly revision: number | undefined
}

const heartbeatIntervalMs = 1_000
const connectionIntervalMs = 250
/** Log lines about counters that begin anew, per reload. */
const resetLinesMax = 20

export class Gateway {
  private readonly options: Omit<GatewayOptions, 'first'>
  private readonly certificates: PrimaryCertificates
  private readonly supervisor: Supervisor
  private readonly board: EpochBoard
  private readonly directory: MetricsDirectory
  private readonly reloader: Reloader
  private readonly connections: ConnectionWatch
  private readonly stopNow = new AbortController()
  private readonly config: ProcessConfig
  private servers: OperatorServers | null = null
  private readonly limits: PrimaryLimits
  private readonly nodes: PrimaryNodes
  private readonly health: PrimaryHealth
  private readonly concurrency: PrimaryConcurrency
  private readonly tokens: PrimaryTokens
  private readonly breakers: PrimaryBreakers
  private readonly configuration: PrimaryConfiguration
  private compiled: CompiledConfig
  private limiters: readonly DeclaredLimiter[]
  /** Of the first configuration, until it is published: they may be large. */
  private consumers: CompiledConsumers | null
  private orders: readonly number[]
  /** `compiled` with addresses, as it was published. */
  private resolved: CompiledConfig | null = null
  private tables: RouterBlocks | null = null
  /** Null = nothing can change but by a whole configuration. */
  private packer: SnapshotPacker | null = null
  private drainTimeoutMs: number
  private epoch = 1
  private reloads = 0
  /** What waits for a restart after the last change by the Admin API. */
  private atNextStart: readonly string[] = []
  private isServing = false
  private isEnding = false
  private exitCode = 0
  private readonly finished: Promise<void>
  private finish: () => void = () => {}
  /** Notifications are programs that run; one after the other, so that they arrive in order. */
  private notified: Promise<void> = Promise.resolve()

  constructor({ first, ...options }: GatewayOptions) {
    const { config, log } = options
    this.options = options
    this.config = config
    this.certificates = new PrimaryCertificates(first.process)
    this.consumers = first.consumers
    this.orders = first.state.orders
    this.compiled = first.compiled
    this.limiters = first.limiters
    this.drainTimeoutMs = config.drainTimeoutMs
    const regions = createRegions(config.workers, tableCapacity(config))
    const nodeId = randomUUID()
    this.limits = new PrimaryLimits({ region: regions.limiter, member: config.workers, nodeId, log })
    this.tokens = new PrimaryTokens({
      region: regions.revocations,
      redis: config.redis,
      clock: systemClock,
      tellKeys: (news) => this.supervisor.tellKeySet(news),
      log,
    })
    this.breakers = new PrimaryBreakers({
      region: regions.breakers,
      pathRegion: regions.pathBreakers,
      member: config.workers,
      nodeId,
      clock: systemClock,
      log,
      redis: config.redis,
      webhook: config.breakers.webhook,
    })
    this.configuration = new PrimaryConfiguration({
      source: options.source,
      publish: (prepared, store) => this.change(prepared, store),
      blocked: () => (this.isServing && !this.isEnding ? null : 'no changes while the gateway is starting or ending'),
      log,
    })
    this.configuration.published(first)
    this.board = new EpochBoard(regions.epochs, systemClock)
    this.directory = new MetricsDirectory(regions.metrics)
    this.nodes = new PrimaryNodes({ region: regions.nodes, workers: config.workers, log })
    this.concurrency = new PrimaryConcurrency(regions.concurrency)
    this.health = new PrimaryHealth({ region: regions.nodes, board: this.nodes.board, clock: systemClock, log })
    this.connections = new ConnectionWatch(
      config.limits.maxConnections,
      {
        reported: () => {
          const { connections, connectionsAccepted } = this.directory.fixed()
          return connectionsAccepted > 0 ? connections : null
        },
        upstreamConnections: () => this.directory.fixed().upstreamConnections,
        openFiles: countOpenFiles,
      },
      (accepting, count) => {
        const limit = config.limits.maxConnections
        if (accepting) log.info(`${count} client connections: accepting again`)
        else log.warn(`${count} client connections reach limits.max_connections (${limit}): no more are accepted until some end`)
        this.supervisor.setAccepting(accepting)
      },
    )
    this.reloader = new Reloader({
      run: () => this.configuration.exclusively(() => this.reload()),
      clock: systemClock,
      startEpoch: this.epoch,
    })
    this.finished = new Promise((resolve) => {
      this.finish = resolve
    })
    this.supervisor = new Supervisor({
      workers: config.workers,
      file: new URL('../threads/worker-entry.js', import.meta.url),
      startOf: (index, replacement, ports) => ({
        index,
        process: ports === null ? config : withPorts(config, ports),
        regions,
        nodeId,
        accept: options.accept,
        binding: options.binding.name,
        replacement,
      }),
      choosePorts: () => findFreePorts(config.listeners),
      ...(options.accept === 'primary' ? { acceptor: this.createAcceptor() } : {}),
      board: this.board,
      clock: systemClock,
      log,
      keySets: () => this.tokens.keySets(),
      onMessage: (index, message) => this.report(index, message),
      onEnded: (index) => {
        this.directory.retire(index)
        this.nodes.workerEnded(index)
        retireConcurrency(regions.concurrency, index)
        this.limits.workerEnded(index)
        this.breakers.workerEnded(index)
      },
      onFatal: (reason) => void this.fail(reason),
      explainListen: explainListenFailure,
      killProcess: () => process.kill(process.pid, 'SIGKILL'),
    })
  }

  private createAcceptor(): PrimaryAcceptor {
    return new PrimaryAcceptor({
      binding: this.options.binding,
      listeners: this.config.listeners,
      onRefused: (refusal: ListenRefused) => void this.fail(`cannot listen on ${refusal.address} any more: ${refusal.message}`),
    })
  }

  /** Runs until the end; resolves with the exit code. Rejects, after everything is closed, when the start fails. */
  async run(): Promise<number> {
    const { log } = this.options
    const removeSignals = installSignals({
      reload: () => void this.requestReload(),
      drain: (signal) => void this.drain(signal),
      endNow: (signal) => {
        log.warn(`${signal} again: ending at once`)
        this.stopNow.abort()
      },
      reopenLogs: () => this.supervisor.reopenLogs(),
    })
    const crash = (error: unknown) =>
      void this.fail(`unexpected error: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
    const orphaned = () => void this.drain('the end of the supervising process')
    process.on('uncaughtException', crash)
    process.on('unhandledRejection', crash)
    if (this.options.environment[supervisorVariable] !== undefined) process.once('disconnect', orphaned)
    const heartbeat = new HeartbeatWatch(log)
    const heartbeatTimer = setInterval(() => heartbeat.check(this.board.readAll()), heartbeatIntervalMs)
    const connectionTimer = setInterval(() => {
      if (this.isServing && !this.isEnding) void this.connections.look()
    }, connectionIntervalMs)
    try {
      const failure = await Promise.race([this.bringUp(), this.finished.then(() => null)])
      if (failure !== null) {
        this.isEnding = true
        await this.takeDown()
        throw failure
      }
      await this.finished
      return this.exitCode
    } finally {
      clearInterval(heartbeatTimer)
      clearInterval(connectionTimer)
      removeSignals()
      process.off('uncaughtException', crash)
      process.off('unhandledRejection', crash)
      process.off('disconnect', orphaned)
    }
  }

  /** The error of a start that failed, or null. */
  private async bringUp(): Promise<unknown> {
    const { options, config } = this
    try {
      this.servers = await startOperatorServers({
        config,
        board: this.board,
        directory: this.directory,
        state: () => ({
          version,
          draining: this.isEnding,
          reloads: this.reloads,
          reloadFailures: this.reloader.state.failures,
          workerRestarts: this.supervisor.restartCount,
          clientConnections: this.connections.count,
          store: this.configuration.state(),
          lastReload:
            this.reloads + this.reloader.state.failures === 0
              ? null
              : { error: this.reloader.state.lastError, atMs: this.reloader.state.at },
        }),
        explain: (query) => {
          if (this.tables === null) throw new UsageError('no configuration has been published yet')
          return explainQuery(query, this.routes(), this.compiled.router, this.tables)
        },
        limits: (query) => {
          const routes = this.routes().filter((route) => route !== null)
          return this.limits.lookUp(query, options.source.liveParts()?.limiters ?? this.limiters, routes)
        },
        limitTable: () => this.limits.tableState(),
        nodes: () => this.nodes.state(),
        healthchecks: () => this.health.list(),
        healthcheck: (key) => this.health.one(key),
        samples: () => [...this.breakers.samples(), ...this.health.samples(), ...this.concurrency.samples()],
        breakers: this.breakers,
        configuration: this.configuration,
        reload: () => this.requestReload(),
        revocations: this.tokens,
        fault: options.environment['SLUICE_FAULTS'] === '1' ? (worker, kind) => this.supervisor.injectFault(worker, kind) : null,
        log: options.log,
      })
      this.tokens.follow(this.compiled.keySets)
      // Nobody is served before this node knows what the others have revoked.
      const [resolved] = await Promise.all([options.resolver.resolveAll(this.compiled), this.tokens.begin()])
      this.resolved = resolved
      options.resolver.onChange((updates, of) => {
        // Between the resolution and the publication of a reload, changes belong to a snapshot that nobody has yet.
        if (of !== this.resolved) return
        const assigned = this.nodes.assignUpdates(updates, of)
        this.supervisor.updateNodes({ type: 'nodes', epoch: this.epoch, updates: assigned })
        this.health.followUpdates(assigned)
      })
      if (this.consumers === null) throw new Error('the first configuration was published before')
      const assigned = this.nodes.assign(resolved)
      const packer = new SnapshotPacker(assigned, this.consumers, this.epoch, this.orders)
      this.consumers = null
      this.orders = []
      this.keep(packer)
      this.health.follow(assigned)
      this.concurrency.follow(assigned)
      const ports = await this.supervisor.start({ type: 'snapshot', ...packer.whole() })
      await this.connections.begin()
      if (this.isEnding) return null
      this.announce(ports)
      return null
    } catch (error) {
      return error
    }
  }

  private announce(ports: readonly number[]): void {
    const { options, config } = this
    if (config.pidFile !== null) writePidFile(config.pidFile, this.operatorPid)
    this.isServing = true
    this.configuration.begin()
    options.print(
      readyLine({
        version,
        listeners: withPorts(config, ports).listeners,
        admin: this.servers?.admin ?? null,
        isAdminTls: config.admin?.tls != null,
        metrics: this.servers?.metrics ?? null,
        workers: config.workers,
        accept: options.accept,
        bindingVersion: options.binding.version,
      }),
    )
    this.notify('READY=1')
  }

  /** The pid to signal: the supervising parent's, if there is one. */
  private get operatorPid(): number {
    return Number(this.options.environment[supervisorVariable] ?? process.pid)
  }

  private async requestReload(): Promise<ReloadOutcome> {
    if (!this.isServing || this.isEnding) {
      const reason = 'no reload while the gateway is starting or ending'
      this.options.log.warn(reason)
      return { ok: false, errors: [reason] }
    }
    this.notify('RELOADING=1')
    const outcome = await this.reloader.request()
    this.notify('READY=1')
    return outcome
  }

  private async reload(): Promise<ReloadOutcome> {
    const { options } = this
    const { log } = options
    const startedMs = systemClock.nowMs()
    const result = await options.source.prepare()
    if (!result.ok) {
      for (const error of result.errors) log.error(`reload refused: ${error}`)
      log.error(`reload refused: ${result.errors.length} error(s); epoch ${this.epoch} keeps serving`)
      return { ok: false, errors: result.errors }
    }
    const { prepared } = result
    for (const warning of prepared.warnings) log.warn(warning)
    const waiting = this.certificates.atNextStart(prepared.process)
    if (waiting.length > 0) log.warn(`changed, but in effect only after a restart: ${waiting.join(', ')}`, { waiting })
    const checkMs = systemClock.nowMs() - startedMs
    const published = await this.publish(prepared)
    this.configuration.published(prepared)
    this.reloads++
    const fields = {
      epoch: this.epoch,
      routes: prepared.compiled.routes.length,
      checkMs: Math.round(checkMs),
      packMs: published.packMs,
      swapMs: published.swapMs,
    }
    log.info(
      `reloaded: epoch ${fields.epoch} with ${fields.routes} routes serves; check ${fields.checkMs} ms, pack ${fields.packMs} ms, swap ${fields.swapMs} ms`,
      fields,
    )
    return { ok: true, epoch: this.epoch }
  }

  /** A change by the Admin API: in force when it is stored. */
  private async change(prepared: PreparedConfiguration | PreparedChange, store: () => Promise<ApplyOutcome>): Promise<PublishOutcome> {
    const published = 'touched' in prepared ? await this.publishChange(prepared, store) : await this.publish(prepared, store)
    if ('refusal' in published) return published.refusal
    if (!('touched' in prepared) && 'revision' in published) {
      this.options.source.adopt(prepared, published.revision)
      this.sayRestart(this.certificates.atNextStart(prepared.process))
    }
    return { state: 'published', epoch: this.epoch, isEverywhere: published.isEverywhere, atNextStart: this.atNextStart }
  }

  private sayRestart(waiting: readonly string[]): void {
    if (waiting.join() !== this.atNextStart.join() && waiting.length > 0) {
      this.options.log.warn(`changed, but in effect only after a restart: ${waiting.join(', ')}`)
    }
    this.atNextStart = waiting
  }

  private publish(prepared: PreparedConfiguration): Promise<Published>
  private publish(prepared: PreparedConfiguration, store: () => Promise<ApplyOutcome>): Promise<Published | Refused>
  /** Makes everything ready, then (when `store` allows it) hands it to all workers and waits for them. */
  private async publish(prepared: PreparedConfiguration, store?: () => Promise<ApplyOutcome>): Promise<Published | Refused> {
    const { resolver, source } = this.options
    const startedMs = systemClock.nowMs()
    const resolved = await resolver.resolveAll(prepared.compiled)
    const assigned = this.nodes.assign(resolved)
    const packer = new SnapshotPacker(assigned, prepared.consumers, this.epoch + 1, prepared.state.orders)
    const outcome = await store?.()
    if (outcome !== undefined && outcome.state !== 'stored') {
      // The resolver and the nodes follow again what serves.
      source.rollBack()
      this.resolved = await resolver.resolveAll(this.compiled)
      this.nodes.assign(this.resolved)
      return { refusal: outcome }
    }
    this.health.follow(assigned)
    this.concurrency.follow(assigned)
    this.epoch++
    this.resolved = resolved
    this.keep(packer)
    this.compiled = prepared.compiled
    this.tokens.follow(prepared.compiled.keySets)
    this.sayCounters(source.liveParts()?.limiters ?? this.limiters, prepared.limiters, store === undefined)
    this.limiters = prepared.limiters
    this.drainTimeoutMs = prepared.process.drainTimeoutMs
    const certificates = this.certificates.follow(prepared.process)
    if (certificates !== null) this.supervisor.tellCertificates(certificates)
    const packedMs = systemClock.nowMs()
    const isEverywhere = await this.sent(this.supervisor.publish({ type: 'snapshot', ...packer.whole() }))
    return {
      isEverywhere,
      packMs: Math.round(packedMs - startedMs),
      swapMs: Math.round(systemClock.nowMs() - packedMs),
      revision: outcome?.revision,
    }
  }

  /** The same for some resources that change in what serves: everything that does not change stays as it is, here and in the workers. */
  private async publishChange(prepared: PreparedChange, store: () => Promise<ApplyOutcome>): Promise<{ isEverywhere: boolean } | Refused> {
    const { resolver, source, log } = this.options
    const { packer } = this
    if (packer === null || this.resolved === null) throw new Error('there is no configuration that could change')
    const change = source.applyChange(prepared)
    const upstreams = new Map([...change.upstreams].map(([index, { after }]) => [index, after]))
    await resolver.learnNames([...upstreams.values()].filter((upstream) => upstream !== null))
    const outcome = await store()
    if (outcome.state !== 'stored') {
      source.rollBack()
      resolver.forgetUnused()
      return { refusal: outcome }
    }
    source.adoptChange(outcome.revision)
    try {
      const { nodes, health, concurrency } = this
      const assigned = placeUpstreams(upstreams, this.resolved, { resolver, nodes, health, concurrency })
      const packed = packer.change(this.epoch + 1, change.routes, assigned)
      this.epoch++
      this.tables = packer.tables
      if (change.keySets !== null) this.tokens.follow(change.keySets)
      this.sayCounters(change.limiters.before, change.limiters.after, false)
      const whole = () => ({ type: 'snapshot' as const, ...packer.whole() })
      return { isEverywhere: await this.sent(this.supervisor.publishChange({ type: 'change', ...packed }, whole)) }
    } catch (error) {
      // It is stored, so it must come into force: by the way that does not build upon what went wrong here.
      log.error(
        `a change was published as a whole configuration: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
      )
      const whole = source.prepareWhole(prepared.view)
      if (!whole.ok) throw error
      const published = await this.publish(whole.prepared)
      source.adopt(whole.prepared, outcome.revision)
      return published
    }
  }

  private async sent(acknowledged: Promise<boolean>): Promise<boolean> {
    const isEverywhere = await acknowledged
    if (!isEverywhere) this.options.log.error(`epoch ${this.epoch} was published, but not every worker has acknowledged it`)
    return isEverywhere
  }

  private keep(packer: SnapshotPacker): void {
    this.packer = this.options.source.store() === null ? null : packer
    this.tables = packer.tables
  }

  /** Routes by the numbers that the router has for them. */
  private routes(): readonly (CompiledRoute | null)[] {
    return this.options.source.liveParts()?.compiledRoutes ?? this.compiled.routes
  }

  /** Says which counters of limits go on with a new configuration, and which begin anew. */
  private sayCounters(before: readonly DeclaredLimiter[], next: readonly DeclaredLimiter[], isReload: boolean): void {
    const { kept, reset } = compareLimiters(before, next)
    const { log } = this.options
    for (const { limiter, reason } of reset.slice(0, resetLinesMax)) {
      log.info(`the counters of ${limiter.plugin} in ${limiter.owner} begin anew: ${reason}`)
    }
    if (reset.length > resetLinesMax) log.info(`the counters of ${reset.length - resetLinesMax} further limits begin anew`)
    if (kept > 0 && isReload) log.info(`the counters of ${kept} limit(s) go on`)
  }

  private report(index: number, message: WorkerReport): void {
    if (message.type === 'key-set-wanted') this.tokens.keysWanted(message.id)
    else if (message.type === 'series') this.directory.declare(index, message.slot, message.labels)
    else if (message.type === 'breaker') this.breakers.declare(message.breaker)
    else if (message.type === 'breaker-event') this.breakers.report(message.event)
    else if (message.type === 'node-news') this.health.tell(message.news)
    else this.options.log[message.level](message.message, { worker: index, ...toFields(message.fields) })
  }

  private async drain(cause: string): Promise<void> {
    if (this.isEnding) return
    this.isEnding = true
    this.notify('STOPPING=1')
    const { log } = this.options
    if (this.isServing) {
      log.info(`${cause}: draining for up to ${this.drainTimeoutMs / 1000} s`)
      const isDone = await this.supervisor.drain(this.drainTimeoutMs, this.stopNow.signal)
      if (isDone) log.info('drained: nothing was in flight any more')
      else log.warn('not everything in flight was finished; it is cut off now')
    }
    await this.takeDown()
    this.finish()
  }

  private async fail(reason: string): Promise<void> {
    this.options.log.error(reason)
    this.exitCode = 1
    if (this.isEnding) return
    this.isEnding = true
    await this.takeDown()
    this.finish()
  }

  private async takeDown(): Promise<void> {
    await this.supervisor.close()
    this.options.resolver.close()
    this.health.close()
    await this.servers?.close()
    await this.configuration.close()
    await this.limits.close()
    await this.tokens.close()
    await this.breakers.close()
    if (this.config.pidFile !== null) removePidFile(this.config.pidFile, this.operatorPid)
    this.options.log.flush()
  }

  private notify(state: 'READY=1' | 'RELOADING=1' | 'STOPPING=1'): void {
    const { log, environment } = this.options
    this.notified = this.notified.then(() => notifyServiceManager(state, (message) => log.warn(message), environment))
  }
}

/** Half as many cells again as keys, so that a key finds one near its home. */
function tableCapacity(config: ProcessConfig): LimiterCapacity {
  return { ...LIMITER_CAPACITY_DEFAULT, cells: Math.ceil(config.rateLimitTable.keys * 1.5) }
}

function withPorts(config: ProcessConfig, ports: readonly number[]): ProcessConfig {
  return { ...config, listeners: config.listeners.map((listener, index) => ({ ...listener, port: ports[index] ?? listener.port })) }
}

function toFields(value: Json): object {
  if (value === null) return {}
  return typeof value === 'object' && !Array.isArray(value) ? value : { detail: value }
}
