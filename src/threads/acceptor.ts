/**
 * Accepting in the primary (`--accept primary`): one app per listener accepts, and the binding hands each connection to the app of a
 * worker, in turn.
 *
 * A worker's app is known here by its descriptor, a raw pointer. A connection handed to an app that is gone is the end of the process,
 * so `remove` comes before a worker may close; and an app without children would serve connections itself, so without workers
 * nothing is accepted. The strict listener (`kind: node`) cannot be handed connections: worker 0 listens for it.
 */
import type { Binding, ListenSocket, UwsApp } from '../dataplane/listener/binding.js'
import { createApp } from '../dataplane/listener/listener.js'
import { atQuietTurn } from '../dataplane/listener/quiet-turn.js'
import type { ListenerConfig } from '../schema/process.js'

const LISTEN_DEFAULT = 0

/** An address that could not be listened on. */
export class ListenRefused extends Error {
  constructor(
    /** `host:port`. */
    readonly address: string,
    reason: string,
  ) {
    super(reason)
  }
}

export interface PrimaryAcceptorOptions {
  /** A build with `features.childApps`. */
  readonly binding: Binding
  readonly listeners: readonly ListenerConfig[]
  /** A listener could not be opened again, after a pause in which there were no workers or too many connections. */
  readonly onRefused: (refusal: ListenRefused) => void
}

export class PrimaryAcceptor {
  private readonly doors: readonly (Door | null)[]
  /** Descriptors by worker, one per listener. */
  private readonly children = new Map<number, readonly unknown[]>()
  private isOpened = false
  private isAccepting = true
  /** Never accepts again. */
  private isEnded = false
  private isClosed = false

  constructor(private readonly options: PrimaryAcceptorOptions) {
    this.doors = options.listeners.map((listener) => (listener.node === undefined ? new Door(options.binding, listener) : null))
  }

  /** Hands connections to this worker from now on, one descriptor per listener. A worker that is already known stays as it is. */
  add(worker: number, descriptors: readonly unknown[]): void {
    if (this.isEnded || this.children.has(worker)) return
    this.children.set(worker, descriptors)
    this.doors.forEach((door, index) => {
      door?.app.addChildAppDescriptor?.(descriptors[index])
    })
    this.reopen()
  }

  /** When this returns, no further connection is handed to the worker. Those on their way reach its loop before any later message does. */
  remove(worker: number): void {
    const descriptors = this.children.get(worker)
    if (descriptors === undefined) return
    this.children.delete(worker)
    // First, so that the app never accepts without children.
    if (this.children.size === 0) this.shut()
    this.doors.forEach((door, index) => {
      door?.app.removeChildAppDescriptor?.(descriptors[index])
    })
  }

  /** Begins to accept on these ports, one per listener, never 0. Rejects with ListenRefused. */
  async open(ports: readonly number[]): Promise<void> {
    for (const [index, door] of this.doors.entries()) await door?.open(ports[index])
    this.isOpened = true
    if (!this.shouldListen) this.shut()
  }

  /** Stops, or goes on, because of max_connections. */
  setAccepting(on: boolean): void {
    this.isAccepting = on
    if (on) this.reopen()
    else void atQuietTurn(() => this.shutUnlessWanted())
  }

  /** Stops accepting for good; resolves when that is done. */
  async drain(): Promise<void> {
    this.isEnded = true
    for (const door of this.doors) await atQuietTurn(() => door?.shut())
  }

  /** Stops accepting at once, lets go of all workers, and closes what it has. */
  close(): void {
    if (this.isClosed) return
    this.isEnded = true
    this.isClosed = true
    for (const worker of [...this.children.keys()]) this.remove(worker)
    this.shut()
    for (const door of this.doors) door?.app.close()
  }

  private get shouldListen(): boolean {
    return this.isOpened && this.isAccepting && !this.isEnded && this.children.size > 0
  }

  private reopen(): void {
    if (!this.shouldListen) return
    for (const door of this.doors) {
      void door?.open().then(
        () => this.shutUnlessWanted(),
        (error: unknown) => {
          if (error instanceof ListenRefused) this.options.onRefused(error)
          else throw error
        },
      )
    }
  }

  private shutUnlessWanted(): void {
    if (!this.shouldListen) this.shut()
  }

  private shut(): void {
    for (const door of this.doors) door?.shut()
  }
}

/** One listener: its app has no routes, it only hands on. */
class Door {
  readonly app: UwsApp
  private socket: ListenSocket | null = null
  private opening: Promise<void> | null = null
  private port: number

  constructor(
    private readonly binding: Binding,
    private readonly listener: ListenerConfig,
  ) {
    this.port = listener.port
    // A TLS listener needs an app of the same kind; the handshake happens in the worker.
    this.app = createApp(binding, listener)
  }

  /** Opens unless it is open; `port` replaces the configured one for good. */
  async open(port = this.port): Promise<void> {
    this.port = port
    if (this.socket !== null) return
    this.opening ??= this.listen().finally(() => {
      this.opening = null
    })
    await this.opening
  }

  shut(): void {
    if (this.socket === null) return
    this.binding.closeListenSocket(this.socket)
    this.socket = null
  }

  private listen(): Promise<void> {
    const { host } = this.listener
    return new Promise((resolve, reject) => {
      this.app.listen(host, this.port, LISTEN_DEFAULT, (socket) => {
        if (socket === false) {
          reject(new ListenRefused(`${host}:${this.port}`, `cannot listen on ${host}:${this.port}`))
          return
        }
        this.socket = socket
        resolve()
      })
    })
  }
}
