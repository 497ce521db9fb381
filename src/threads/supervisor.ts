/**
 * Starts the workers, keeps their number, publishes to them and ends them.
 *
 *   starting ──► serving ──► draining ──► closing
 *       └───────────┴── failure ────────────┘
 *
 * A worker that dies while serving is replaced at once, by a spare thread if one has finished loading; the replacement gets the current snapshot and the ports that are already
 * bound. Too many deaths are a crash loop, reported once through `onFatal`. Ending always asks the threads first, because a thread
 * that ends with open sockets aborts the process; if one does not answer, the process is killed: nothing softer is safe then.
 */
import type { KeySetNews } from '../auth/key-set-news.js'
import type { UsageError } from '../base/errors.js'
import type { NamedCertificate } from '../schema/process.js'
import type { ProcessLog } from '../telemetry/process-log.js'
import { ListenRefused } from './acceptor.js'
import { CrashLoop } from './crash-loop.js'
import {
  type ChangeMessage,
  type FromWorker,
  type NodesMessage,
  type SnapshotMessage,
  spareIndex,
  type ToWorker,
  type WorkerStart,
} from './protocol.js'
import { type WorkerDeath, WorkerHandle } from './worker-handle.js'

/** The primary's side of the shared epochs (shared/epochs). */
export interface AckBoard {
  publish(epoch: number): void
  /** Before a thread is started in the slot. */
  reserve(index: number): void
  /** After the thread of the slot has ended. */
  release(index: number): void
  /** Resolves true when every worker has acknowledged, false after the timeout. */
  waitAll(epoch: number, timeoutMs: number): Promise<boolean>
}

/** Who accepts for the workers, with accept `primary` (threads/acceptor). */
export interface ConnectionAcceptor {
  /** Hands connections to this worker; again for the same one: nothing. */
  add(worker: number, descriptors: readonly unknown[]): void
  /** Must have returned before the worker may close its apps. Of a worker that is not known: nothing. */
  remove(worker: number): void
  /** Rejects with ListenRefused. */
  open(ports: readonly number[]): Promise<void>
  setAccepting(on: boolean): void
  drain(): Promise<void>
  close(): void
}

export interface SupervisorOptions {
  readonly workers: number
  /** Module of a worker. */
  readonly file: URL
  /** What worker `index` (or `spareIndex`) is started with; `ports` are the real ones, null before they are chosen. */
  readonly startOf: (index: number, replacement: boolean, ports: readonly number[] | null) => WorkerStart
  /** The port of each listener, never 0; asked once, right before the workers listen. */
  readonly choosePorts: () => Promise<readonly number[]>
  /** Absent: the workers listen for themselves. */
  readonly acceptor?: ConnectionAcceptor
  readonly board: AckBoard
  readonly clock: { nowMs(): number }
  readonly log: ProcessLog
  /** Published keys of issuers that are known, for a worker that starts. */
  readonly keySets: () => readonly KeySetNews[]
  /** Messages that are not about the life of the worker. */
  readonly onMessage: (index: number, message: WorkerReport) => void
  /** A thread has ended and nothing writes to its shared memory any more; runs before a replacement starts. */
  readonly onEnded: (index: number) => void
  /** The gateway cannot go on: say why and end it. Called once. */
  readonly onFatal: (reason: string) => void
  /** Turns a refused listen into the error to show. */
  readonly explainListen: (address: string, reason: string) => Promise<UsageError>
  /** Ends this process without running anything more (SIGKILL to itself). */
  readonly killProcess: () => void
  /** Longest wait for a worker to get ready or to acknowledge, milliseconds. */
  readonly startTimeoutMs?: number
  /** Longest wait for a worker to close its sockets and end, milliseconds. */
  readonly closeTimeoutMs?: number
}

export type WorkerReport = Extract<FromWorker, { type: 'log' | 'series' | 'key-set-wanted' | 'breaker' | 'breaker-event' | 'node-news' }>
type Phase = 'starting' | 'serving' | 'draining' | 'closing'

const deathsOfLoop = 5
const loopWindowMs = 10_000

export class Supervisor {
  private readonly handles: WorkerHandle[] = []
  /** Loads, or waits to replace a worker. */
  private spare: WorkerHandle | null = null
  private readonly crashes = new CrashLoop(deathsOfLoop, loopWindowMs)
  private readonly waiters = new Set<() => void>()
  private readonly startTimeoutMs: number
  private readonly closeTimeoutMs: number
  private phase: Phase = 'starting'
  /** What serves; all of it is put together when a worker needs it. */
  private snapshot: { readonly epoch: number; readonly whole: () => SnapshotMessage } | null = null
  /** Latest addresses by upstream for the current snapshot: a replacement must not start with those of the snapshot. */
  private nodes = new Map<number, NodesMessage['updates'][number]>()
  private ports: readonly number[] | null = null
  /** Newer ones than those of the start; null = there are none. */
  private certificates: readonly NamedCertificate[] | null = null
  private startFailure: Error | null = null
  private restarts = 0

  constructor(private readonly options: SupervisorOptions) {
    this.startTimeoutMs = options.startTimeoutMs ?? 30_000
    this.closeTimeoutMs = options.closeTimeoutMs ?? 2_000
  }

  /** Workers that were replaced since the start. */
  get restartCount(): number {
    return this.restarts
  }

  /** A spare thread has finished loading. */
  get hasSpare(): boolean {
    return this.spare?.isSpareReady === true
  }

  /**
   * Starts all workers with this first snapshot and resolves with the real port of each listener when all of them accept. Rejects
   * with a UsageError for an address that cannot be listened on, with an Error when a worker fails; the caller then closes.
   */
  async start(snapshot: SnapshotMessage): Promise<readonly number[]> {
    for (let index = 0; index < this.options.workers; index++) this.spawn(index, false)
    this.startSpare()
    await this.waitUntil('start their threads', () => this.handles.every((handle) => handle.isReady))
    for (const handle of this.handles) this.sendKeySets(handle)
    let acknowledged = false
    void this.publish(snapshot).then((all) => {
      acknowledged = all
      this.wake()
    })
    await this.waitUntil('take over the configuration', () => acknowledged)
    const ports = await this.options.choosePorts()
    this.ports = ports
    // One worker first: what is wrong with an address is then said once.
    const first = this.handles[0]
    first?.send({ type: 'listen', ports })
    await this.waitUntil('listen', () => first?.isListening === true)
    for (const handle of this.handles) if (handle !== first) handle.send({ type: 'listen', ports })
    await this.waitUntil('listen', () => this.handles.every((handle) => handle.isListening))
    await this.openAcceptor(ports)
    this.phase = 'serving'
    return ports
  }

  /** Makes a snapshot the current one; true when every worker uses it. */
  publish(snapshot: SnapshotMessage): Promise<boolean> {
    this.nodes = new Map()
    return this.send(snapshot, () => snapshot)
  }

  /** The same with what differs from the current one. `whole`: all of it, for workers that start later. */
  publishChange(change: ChangeMessage, whole: () => SnapshotMessage): Promise<boolean> {
    for (const place of change.upstreams.places) this.nodes.delete(place)
    return this.send(change, whole)
  }

  private send(message: SnapshotMessage | ChangeMessage, whole: () => SnapshotMessage): Promise<boolean> {
    const { epoch } = message
    this.snapshot = { epoch, whole }
    this.options.board.publish(epoch)
    this.sendToReady(message)
    return this.options.board.waitAll(epoch, this.startTimeoutMs)
  }

  /** Passes on new addresses; those of another snapshot than the current one are dropped. */
  updateNodes(message: NodesMessage): void {
    if (message.epoch !== this.snapshot?.epoch) return
    for (const update of message.updates) this.nodes.set(update.upstream, update)
    this.sendToReady(message)
  }

  /** Tells every worker that runs about the published keys of an issuer. */
  tellKeySet(news: KeySetNews): void {
    this.sendToReady({ type: 'key-set', news })
  }

  /** From now on TLS listeners serve these by server name. A snapshot that is published later finds them in use. */
  tellCertificates(certificates: readonly NamedCertificate[]): void {
    this.certificates = certificates
    this.sendToReady({ type: 'certificates', certificates })
  }

  /** Tells every worker that runs to open its log files anew. */
  reopenLogs(): void {
    this.sendToReady({ type: 'reopen-logs' })
  }

  /** Stops accepting, or goes on, because of max_connections. */
  setAccepting(on: boolean): void {
    this.options.acceptor?.setAccepting(on)
    this.sendToReady({ type: 'accepting', on })
  }

  /** Test hook: makes one worker fail. False if there is no such worker. */
  injectFault(index: number, kind: 'throw' | 'out-of-memory'): boolean {
    const handle = this.handles[index]
    if (handle === undefined || handle.hasExited) return false
    handle.send({ type: 'fault', kind })
    return true
  }

  /** Stops accepting and waits until nothing is in flight. False when `timeoutMs` passed or `stop` fired before that. */
  async drain(timeoutMs: number, stop: AbortSignal): Promise<boolean> {
    if (this.phase !== 'serving' && this.phase !== 'starting') return false
    this.phase = 'draining'
    await this.options.acceptor?.drain()
    // A replacement that is still loading serves nobody, and from now on gets nothing to serve: there is nothing to wait for.
    const serving = this.handles.filter((handle) => handle.isReady)
    this.sendToReady({ type: 'drain' })
    const isQuiet = () => serving.every((handle) => handle.isDrained || handle.hasExited)
    return this.wait(isQuiet, timeoutMs, stop)
  }

  /** Closes every socket and ends every thread. When a thread does not end in time the process kills itself and this never resolves. */
  async close(): Promise<void> {
    this.phase = 'closing'
    this.options.acceptor?.close()
    const handles = this.spare === null ? this.handles : [...this.handles, this.spare]
    for (const handle of handles) handle.send({ type: 'close' })
    // A thread that is still loading its modules reads the message later, and has no sockets yet that would make haste necessary.
    const isLoading = (handle: WorkerHandle) => !handle.isReady && !handle.isSpareReady
    const loading = handles.filter(isLoading)
    const loaded = handles.filter((handle) => !isLoading(handle))
    const ended =
      (await this.wait(() => loaded.every((handle) => handle.hasExited), this.closeTimeoutMs)) &&
      (await this.wait(() => loading.every((handle) => handle.hasExited), this.startTimeoutMs))
    if (!ended) this.kill('a worker did not close its sockets in time')
  }

  private async openAcceptor(ports: readonly number[]): Promise<void> {
    try {
      await this.options.acceptor?.open(ports)
    } catch (error) {
      if (error instanceof ListenRefused) throw await this.options.explainListen(error.address, error.message)
      throw error
    }
  }

  private spawn(index: number, replacement: boolean): WorkerHandle {
    this.options.board.reserve(index)
    const start = this.options.startOf(index, replacement, this.ports)
    const spare = this.spare
    // One that still loads is ahead of a new thread, too: the assignment waits for it.
    if (replacement && spare !== null) {
      this.spare = null
      this.handles[index] = spare
      spare.assign(start)
      return spare
    }
    const handle = this.createThread(start)
    this.handles[index] = handle
    return handle
  }

  private startSpare(): void {
    if (this.phase === 'starting' || this.phase === 'serving')
      this.spare ??= this.createThread(this.options.startOf(spareIndex, true, this.ports))
  }

  private createThread(start: WorkerStart): WorkerHandle {
    return new WorkerHandle(this.options.file, start, {
      onMessage: (from, message) => this.receive(from, message),
      onFailed: (from) => this.letEnd(from),
      onExit: (from, death) => (from === this.spare ? this.dropSpare(death) : this.bury(from, death)),
    })
  }

  /** A spare that ends is only missed: the next replacement loads for itself, and tries a spare again. */
  private dropSpare(death: WorkerDeath | null): void {
    this.spare = null
    this.wake()
    if (this.phase === 'starting' || this.phase === 'serving')
      this.options.log.warn(`the spare worker ended: ${death?.message ?? 'without a reason'}`)
  }

  private receive(handle: WorkerHandle, message: Exclude<FromWorker, { type: 'failed' }>): void {
    switch (message.type) {
      case 'ready':
        if (this.phase === 'serving') this.catchUp(handle)
        break
      case 'listen-failed':
        this.refuseListen(handle, message.address, message.reason)
        break
      case 'listening':
        this.options.acceptor?.add(handle.index, message.descriptors ?? [])
        break
      case 'spare':
      case 'drained':
        break
      default:
        this.options.onMessage(handle.index, message)
    }
    this.wake()
  }

  /** Gives a replacement what the others have. */
  private catchUp(handle: WorkerHandle): void {
    this.sendKeySets(handle)
    if (this.certificates !== null) handle.send({ type: 'certificates', certificates: this.certificates })
    if (this.snapshot === null) return
    handle.send(this.snapshot.whole())
    if (this.nodes.size > 0) handle.send({ type: 'nodes', epoch: this.snapshot.epoch, updates: [...this.nodes.values()] })
  }

  private sendKeySets(handle: WorkerHandle): void {
    for (const news of this.options.keySets()) handle.send({ type: 'key-set', news })
  }

  private refuseListen(handle: WorkerHandle, address: string, reason: string): void {
    if (this.phase !== 'starting') {
      // Closing counts as a death: tried again, and a crash loop if it stays so.
      this.options.log.error(`worker ${handle.index} cannot listen on ${address}: ${reason}`)
      handle.send({ type: 'close' })
      return
    }
    void this.options.explainListen(address, reason).then((error) => this.failStart(error))
  }

  /** After `failed` the thread ends by itself a turn later; one whose apps were handed connections waits until it is told to. */
  private letEnd(handle: WorkerHandle): void {
    const { acceptor } = this.options
    if (acceptor !== undefined) {
      acceptor.remove(handle.index)
      handle.send({ type: 'close' })
    }
    const timer = setTimeout(() => {
      if (!handle.hasExited) this.kill(`worker ${handle.index} failed and its thread does not end`)
    }, this.closeTimeoutMs)
    void handle.exited.then(() => clearTimeout(timer))
  }

  private bury(handle: WorkerHandle, death: WorkerDeath | null): void {
    this.options.acceptor?.remove(handle.index)
    this.options.board.release(handle.index)
    this.options.onEnded(handle.index)
    this.wake()
    if (this.phase === 'closing') return
    const message = death?.message ?? 'its socket could not listen'
    const { log, clock } = this.options
    log.error(`worker ${handle.index} ended: ${message}`, { worker: handle.index, stack: death?.stack ?? '' })
    if (this.phase === 'starting') this.failStart(new Error(`worker ${handle.index} failed while starting: ${message}`))
    if (this.phase !== 'serving') return
    const diedAtMs = clock.nowMs()
    if (this.crashes.record(diedAtMs)) {
      this.phase = 'closing'
      this.options.onFatal(`crash loop: ${this.crashes.count} workers ended within ${loopWindowMs / 1000} s, the last one by: ${message}`)
      return
    }
    this.restarts++
    const replacement = this.spawn(handle.index, true)
    void this.wait(() => replacement.isListening || replacement.hasExited, this.startTimeoutMs).then(() => {
      this.startSpare()
      if (!replacement.isListening) return
      const tookMs = Math.round(clock.nowMs() - diedAtMs)
      log.info(`worker ${handle.index} was replaced in ${tookMs} ms`, { worker: handle.index, tookMs })
    })
  }

  private failStart(error: Error): void {
    this.startFailure ??= error
    this.wake()
  }

  private sendToReady(message: ToWorker): void {
    for (const handle of this.handles) if (handle.isReady) handle.send(message)
  }

  private async waitUntil(what: string, condition: () => boolean): Promise<void> {
    const done = await this.wait(() => this.startFailure !== null || condition(), this.startTimeoutMs)
    if (this.startFailure !== null) throw this.startFailure
    if (!done) throw new Error(`the workers did not ${what} within ${this.startTimeoutMs} ms`)
  }

  /** Resolves true as soon as the condition holds (looked at after every event), false after the timeout or when `stop` fires. */
  private wait(condition: () => boolean, timeoutMs: number, stop?: AbortSignal): Promise<boolean> {
    if (condition()) return Promise.resolve(true)
    return new Promise((resolve) => {
      const finish = (result: boolean) => {
        clearTimeout(timer)
        this.waiters.delete(look)
        stop?.removeEventListener('abort', abandon)
        resolve(result)
      }
      const look = () => {
        if (condition()) finish(true)
      }
      const abandon = () => finish(condition())
      const timer = setTimeout(abandon, timeoutMs)
      this.waiters.add(look)
      stop?.addEventListener('abort', abandon)
      if (stop?.aborted) abandon()
    })
  }

  private wake(): void {
    for (const look of [...this.waiters]) look()
  }

  private kill(reason: string): void {
    this.options.log.error(`${reason}: killing this process`)
    this.options.log.flush()
    this.options.killProcess()
  }
}
