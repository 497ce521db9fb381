/**
 * Calls of scripts on one Redis, by one worker thread. Runs wherever it is made; its state is its own.
 *
 * Nothing waits without end: each call is answered within the deadline or rejected, at most CALLS_MAX wait at a time, and after some
 * failures in a row the circuit of that server turns calls away at once (circuit.ts). A reply that comes after its deadline is ignored,
 * or given to `late` by those who must know what was taken. Recovery needs nobody: connections are made anew for ever.
 *
 * On failure `run` rejects with RedisFailure; what then happens to the request is the caller's policy.
 */
import type { Clock } from '../base/clock.js'
import { Circuit } from './circuit.js'
import { ServerConnection } from './connection.js'
import { RedisFailure } from './errors.js'
import type { Script } from './script.js'
import { type RedisSettings, settingsName, settingsProblem } from './settings.js'

/** Calls that wait at a time. At a deadline of 1 s this is far above what one Redis answers in that time over one connection. */
export const CALLS_MAX = 20_000
/** Servers of one cluster are few; a bound all the same, so that nothing grows with what a peer says. */
const CIRCUITS_MAX = 1024
const MESSAGE_MAX = 200
const LOG_PAUSE_MS = 10_000

/** Error replies that mean: this server cannot serve at this time. Others come from one call and say nothing about the server. */
const unavailable =
  /^(LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|BUSY|OOM|MISCONF|NOREPLICAS|NOAUTH|WRONGPASS|NOPERM|UNKILLABLE)\b|Too many Cluster redirections/

export interface RedisClientOptions {
  readonly settings: RedisSettings
  readonly clock: Clock
  /** Process log: one line when trouble begins and one when it ends, at most one such pair in LOG_PAUSE_MS. */
  readonly log: (level: 'info' | 'warn', message: string) => void
}

interface Call {
  readonly dueMs: number
  readonly circuit: Circuit
  readonly resolve: (reply: unknown) => void
  readonly reject: (failure: RedisFailure) => void
  readonly late: ((reply: unknown) => void) | null
  settled: boolean
}

export class RedisClient {
  /** For logs: how Redis is reached, without secrets. */
  readonly name: string
  readonly keyPrefix: string
  private readonly connection: ServerConnection
  private readonly clock: Clock
  private readonly deadlineMs: number
  private readonly log: RedisClientOptions['log']
  private readonly circuits = new Map<string, Circuit>()
  /** Calls in the order of their deadlines, which is the order in which they were made. */
  private calls: Call[] = []
  private firstCall = 0
  private waiting = 0
  private cancelTimer: (() => void) | null = null
  private lastError = ''
  private troubled = false
  private quietUntilMs = 0
  private closed = false

  /** Connects at once. Throws RangeError for settings that cannot work. */
  constructor(options: RedisClientOptions) {
    const problem = settingsProblem(options.settings)
    if (problem !== null) throw new RangeError(problem)
    this.name = settingsName(options.settings)
    this.keyPrefix = options.settings.keyPrefix
    this.clock = options.clock
    this.log = options.log
    this.deadlineMs = options.settings.deadlineMs
    this.connection = new ServerConnection(options.settings, options.clock, (message) => {
      this.lastError = message.slice(0, MESSAGE_MAX)
    })
  }

  /** Calls that wait for their answers now. */
  get pending(): number {
    return this.waiting
  }

  /** False while calls for this key would be turned away at once. */
  available(key: string): boolean {
    return !this.closed && this.circuitOf(key).closed
  }

  /**
   * Runs the script on the server of the first key; all keys must carry one hash tag. Rejects with RedisFailure, and with nothing
   * else, within the deadline. `late` gets the reply if it comes after that.
   */
  run(
    script: Script,
    keys: readonly [string, ...string[]],
    args: readonly (string | number)[],
    late?: (reply: unknown) => void,
  ): Promise<unknown> {
    const [key] = keys
    const circuit = this.circuitOf(key)
    const refusal = this.refusal(circuit, key)
    if (refusal !== null) return Promise.reject(refusal)
    return new Promise((resolve, reject) => {
      const call: Call = { dueMs: this.clock.nowMs() + this.deadlineMs, circuit, resolve, reject, late: late ?? null, settled: false }
      this.enter(call)
      this.connection
        .evalsha(script.sha, keys, args)
        .catch((error: unknown) => {
          // Scripts are forgotten by a restart, a failover, or SCRIPT FLUSH: send the text, which stores it again.
          if (call.settled || !(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error
          return this.connection.eval(script.source, keys, args)
        })
        .then(
          (reply) => this.answered(call, reply),
          (error: unknown) => this.failed(call, error),
        )
    })
  }

  /** Closes the connection at once and rejects what waits. */
  close(): void {
    if (this.closed) return
    this.closed = true
    for (const call of this.calls.slice(this.firstCall))
      this.settle(call, new RedisFailure('closed', `the client of ${this.name} was closed`))
    this.sweep()
    this.connection.close()
  }

  private refusal(circuit: Circuit, key: string): RedisFailure | null {
    if (this.closed) return new RedisFailure('closed', `the client of ${this.name} was closed`)
    const admission = circuit.admit(this.clock.nowMs())
    if (admission === 'probe') this.probe(circuit, key)
    if (admission !== 'call') return new RedisFailure('circuit-open', `${this.name} failed repeatedly and is left alone for a moment`)
    if (this.waiting >= CALLS_MAX) return new RedisFailure('busy', `${CALLS_MAX} calls are waiting for ${this.name}`)
    if (this.connection.down) {
      this.countFailure(circuit, `no connection: ${this.lastError}`)
      return new RedisFailure('connection', `no connection to ${this.name}: ${this.lastError}`)
    }
    return null
  }

  private circuitOf(key: string): Circuit {
    const server = this.connection.serverOf(key)
    const known = this.circuits.get(server)
    if (known !== undefined) return known
    if (this.circuits.size >= CIRCUITS_MAX) this.circuits.clear()
    const circuit = new Circuit()
    this.circuits.set(server, circuit)
    return circuit
  }

  private enter(call: Call): void {
    this.calls.push(call)
    this.waiting++
    this.cancelTimer ??= this.clock.after(this.deadlineMs, this.onTimer)
  }

  private answered(call: Call, reply: unknown): void {
    if (call.settled) {
      call.late?.(reply)
      return
    }
    this.countSuccess(call.circuit)
    call.settled = true
    this.waiting--
    call.resolve(reply)
  }

  private failed(call: Call, error: unknown): void {
    if (call.settled) return
    const isReply = error instanceof Error && error.name === 'ReplyError'
    const told = (error instanceof Error ? error.message : String(error)).slice(0, MESSAGE_MAX)
    // The client library's words for "the connection is gone" speak of its options, which no operator has set.
    const isGone = error instanceof Error && error.name === 'MaxRetriesPerRequestError'
    const message = isGone ? `connection lost${this.lastError === '' ? '' : `: ${this.lastError}`}` : told
    if (isReply && !unavailable.test(message)) this.countSuccess(call.circuit)
    else this.countFailure(call.circuit, message)
    if (!isReply || unavailable.test(message)) this.connection.refresh()
    this.settle(call, new RedisFailure(isReply ? 'reply' : 'connection', `${this.name}: ${message}`))
  }

  private settle(call: Call, failure: RedisFailure): void {
    if (call.settled) return
    call.settled = true
    this.waiting--
    call.reject(failure)
  }

  private countFailure(circuit: Circuit, message: string): void {
    const now = this.clock.nowMs()
    circuit.failed(now)
    if (this.troubled || now < this.quietUntilMs) return
    this.troubled = true
    this.quietUntilMs = now + LOG_PAUSE_MS
    this.log('warn', `${this.name} failed (${message}); the failure policy of each limit decides until it answers`)
  }

  private countSuccess(circuit: Circuit): void {
    circuit.succeeded()
    if (!this.troubled || !circuit.closed) return
    this.troubled = false
    this.lastError = ''
    this.log('info', `${this.name} answers again`)
  }

  private probe(circuit: Circuit, key: string): void {
    let ended = false
    const end = (answered: boolean): void => {
      if (ended) return
      ended = true
      if (circuit.probed(answered, this.clock.nowMs())) this.countSuccess(circuit)
      else this.connection.refresh()
    }
    this.clock.after(this.deadlineMs, () => end(false))
    this.connection.probe(key).then(
      () => end(true),
      (error: unknown) => end(error instanceof Error && error.name === 'ReplyError' && !unavailable.test(error.message)),
    )
  }

  /**
   * A turn of the event loop runs its timers before it reads its sockets. Deadlines are looked at behind the reading: after a stall of
   * this thread, answers that came in time are taken, not refused.
   */
  private readonly onTimer = (): void => {
    setImmediate(this.endOverdue)
  }

  private readonly endOverdue = (): void => {
    this.cancelTimer = null
    const now = this.clock.nowMs()
    for (let index = this.firstCall; index < this.calls.length; index++) {
      const call = this.calls[index]
      if (call === undefined || (!call.settled && call.dueMs > now)) break
      if (call.settled) continue
      this.countFailure(call.circuit, `no answer in ${this.deadlineMs} ms`)
      this.settle(call, new RedisFailure('deadline', `${this.name} gave no answer in ${this.deadlineMs} ms`))
    }
    this.sweep()
    const next = this.calls[this.firstCall]
    if (next !== undefined && !this.closed) this.cancelTimer = this.clock.after(Math.max(1, next.dueMs - now), this.onTimer)
  }

  /** Forgets settled calls at the head. They are dropped in bulk, so that a call costs O(1). */
  private sweep(): void {
    while (this.calls[this.firstCall]?.settled === true) this.firstCall++
    if (this.closed) {
      this.cancelTimer?.()
      this.cancelTimer = null
    }
    if (this.firstCall * 2 < this.calls.length) return
    this.calls = this.calls.slice(this.firstCall)
    this.firstCall = 0
  }
}
