/**
 * One worker thread as the primary sees it, from start to exit.
 *
 * A thread with open uWebSockets.js sockets must never be terminated from outside (the whole process aborts), so the only way to end
 * one is to ask: `send({ type: 'close' })`, then wait for `exited`.
 */
import { Worker } from 'node:worker_threads'
import type { FromWorker, ToWorker, WorkerStart } from './protocol.js'

/** Why a worker that was not asked to end is gone. */
export interface WorkerDeath {
  readonly message: string
  readonly stack: string
}

export interface WorkerEvents {
  /** Every message except `failed`, which arrives as part of `onExit`. */
  onMessage(handle: WorkerHandle, message: Exclude<FromWorker, { type: 'failed' }>): void
  /** The worker reported an uncaught error: its sockets are closed, the thread is about to end. */
  onFailed(handle: WorkerHandle, death: WorkerDeath): void
  /** The thread has ended; `death` is null when it was asked to. */
  onExit(handle: WorkerHandle, death: WorkerDeath | null): void
}

export class WorkerHandle {
  /** Slot of the worker; `spareIndex` until a spare is assigned. */
  index: number
  /** It is a spare with everything loaded. */
  isSpareReady = false
  /** Resolves when the thread has ended, for whatever reason. */
  readonly exited: Promise<void>
  /** It has reported ready. */
  isReady = false
  /** It accepts connections. */
  isListening = false
  isDrained = false
  hasExited = false
  private isClosing = false
  private death: WorkerDeath | null = null
  private readonly thread: Worker

  constructor(file: URL, start: WorkerStart, events: WorkerEvents) {
    this.index = start.index
    this.thread = new Worker(file, { workerData: start, name: `worker ${start.index}` })
    this.thread.on('message', (message: FromWorker) => {
      if (message.type === 'failed') {
        this.death = { message: message.message, stack: message.stack }
        events.onFailed(this, this.death)
        return
      }
      if (message.type === 'spare') this.isSpareReady = true
      if (message.type === 'ready') this.isReady = true
      if (message.type === 'listening') this.isListening = true
      if (message.type === 'drained') this.isDrained = true
      events.onMessage(this, message)
    })
    // An error that the worker could not catch itself (a module that does not load, out of memory). 'exit' follows.
    this.thread.on('error', (error) => {
      this.death ??= { message: error.message, stack: error.stack ?? '' }
    })
    this.exited = new Promise((resolve) => {
      this.thread.once('exit', (code) => {
        this.hasExited = true
        const unexpected = this.isClosing ? null : { message: `the thread ended by itself with code ${code}`, stack: '' }
        events.onExit(this, this.death ?? unexpected)
        resolve()
      })
    })
  }

  /** Gives a spare the place of a worker. */
  assign(start: WorkerStart): void {
    this.index = start.index
    this.send({ type: 'assign', start })
  }

  /** Sends a message; a worker that has ended ignores it. */
  send(message: ToWorker): void {
    if (this.hasExited) return
    if (message.type === 'close') this.isClosing = true
    this.thread.postMessage(message)
  }
}
