/**
 * Configuration version, acknowledgement and life signs of every worker.
 *
 *   line 0 (64 bytes)                          line 1 + i, slot of worker i (64 bytes)
 *   int32[0]  published epoch   writer primary  int32[0]  acknowledged epoch
 *   int32[1]  acknowledgements  added to by     int32[1]  state (see `states`)
 *             so far            every worker    int32[2]  last heartbeat, monotonic ms modulo 2^32
 *   int32[2…15] unused                          int32[3]  requests in flight
 *                                               int32[4]  event loop lag, microseconds
 *                                               int32[5]  level at which load is shed, 0 = none
 *                                               int32[6]  memory held by its engine, KiB
 *                                               int32[7…15] unused
 *
 * A slot is written by its worker while that runs. The primary writes it only when no thread runs in it: before the thread is
 * started (`reserve`) and after it has ended (`release`). All accesses are atomic; each cell stands for itself, so no order
 * between cells is promised, except that the acknowledgement count moves after the acknowledged epoch.
 */
import type { Clock } from '../base/clock.js'
import { CACHE_LINE_BYTES, INT32_PER_LINE } from './region.js'

/** States by the number that stands in the cell. `vacant`: nobody was ever started here. */
const states = ['vacant', 'starting', 'serving', 'draining', 'ended'] as const
export type WorkerState = (typeof states)[number]

const PUBLISHED = 0
const ACKNOWLEDGEMENTS = 1

const EPOCH = 0
const STATE = 1
const BEAT = 2
const IN_FLIGHT = 3
const LOOP_LAG = 4
const SHED_LEVEL = 5
const HELD_KIB = 6

/** Lines before the slots. */
const EPOCHS_LINES_FIXED = 1

/** Recheck interval where Atomics.waitAsync does not exist. */
const POLL_MS = 2

const EPOCH_MAX = 2 ** 31 - 1

export function epochsBytes(workers: number): number {
  return (EPOCHS_LINES_FIXED + workers) * CACHE_LINE_BYTES
}

function slotBase(index: number, length: number): number {
  const base = (EPOCHS_LINES_FIXED + index) * INT32_PER_LINE
  if (!Number.isInteger(index) || index < 0 || base >= length) {
    throw new RangeError(`worker slot ${index} does not exist; slots are 0 to ${length / INT32_PER_LINE - EPOCHS_LINES_FIXED - 1}`)
  }
  return base
}

/** Turns milliseconds into what fits a cell: whole microseconds, bounded (half an hour is as bad as more). */
function toMicroseconds(ms: number): number {
  return Math.max(0, Math.min(EPOCH_MAX, Math.round(ms * 1000)))
}

/** The worker's side of its own slot. */
export class WorkerSlot {
  private readonly cells: Int32Array
  private readonly base: number

  constructor(
    region: SharedArrayBuffer,
    readonly index: number,
  ) {
    this.cells = new Int32Array(region)
    this.base = slotBase(index, this.cells.length)
  }

  /** Says that this worker serves by the configuration of `epoch`, and wakes whoever waits for that. */
  acknowledge(epoch: number): void {
    Atomics.store(this.cells, this.base + EPOCH, epoch)
    Atomics.add(this.cells, ACKNOWLEDGEMENTS, 1)
    Atomics.notify(this.cells, ACKNOWLEDGEMENTS)
  }

  /** Says that the event loop of this worker turns; `nowMs` is the process-wide monotonic time. */
  beat(nowMs: number): void {
    Atomics.store(this.cells, this.base + BEAT, Math.floor(nowMs) | 0)
  }

  setState(state: Exclude<WorkerState, 'vacant'>): void {
    Atomics.store(this.cells, this.base + STATE, states.indexOf(state))
  }

  setInFlight(requests: number): void {
    Atomics.store(this.cells, this.base + IN_FLIGHT, requests)
  }

  /** How late the last timer of this worker's event loop was, in milliseconds. */
  setLoopLag(ms: number): void {
    Atomics.store(this.cells, this.base + LOOP_LAG, toMicroseconds(ms))
  }

  setShedLevel(level: number): void {
    Atomics.store(this.cells, this.base + SHED_LEVEL, level)
  }

  /** Heap and buffers of this worker's engine. */
  setHeldBytes(bytes: number): void {
    Atomics.store(this.cells, this.base + HELD_KIB, Math.min(EPOCH_MAX, Math.ceil(bytes / 1024)))
  }

  /** The same of all workers together. */
  heldBytesOfAll(): number {
    let kibibytes = 0
    for (let at = EPOCHS_LINES_FIXED * INT32_PER_LINE + HELD_KIB; at < this.cells.length; at += INT32_PER_LINE) {
      kibibytes += Atomics.load(this.cells, at)
    }
    return kibibytes * 1024
  }

  /** The newest epoch that the primary has published; 0 before the first. */
  publishedEpoch(): number {
    return Atomics.load(this.cells, PUBLISHED)
  }
}

export interface WorkerView {
  readonly index: number
  readonly state: WorkerState
  /** Acknowledged epoch; 0 before the first. */
  readonly epoch: number
  /** Milliseconds since the last heartbeat. */
  readonly beatAgeMs: number
  readonly inFlight: number
  readonly loopLagMs: number
  /** 0 = serves all requests; up to 3. */
  readonly shedLevel: number
}

/** What lib.es2024 declares; the engine has it from Node 16 on. */
type AsyncWaiter = (
  cells: Int32Array,
  index: number,
  value: number,
  timeoutMs: number,
) =>
  | { readonly async: false; readonly value: 'not-equal' | 'timed-out' }
  | { readonly async: true; readonly value: Promise<'ok' | 'timed-out'> }

function engineWaiter(): AsyncWaiter | null {
  const engine: typeof Atomics & { readonly waitAsync?: AsyncWaiter } = Atomics
  return engine.waitAsync ?? null
}

/** The primary's side: publishes epochs, waits for acknowledgements, reads the life signs. */
export class EpochBoard {
  private readonly cells: Int32Array
  private readonly workers: number

  /** `waiter` is replaced by null in tests of the fallback. */
  constructor(
    region: SharedArrayBuffer,
    private readonly clock: Clock,
    private readonly waiter: AsyncWaiter | null = engineWaiter(),
  ) {
    this.cells = new Int32Array(region)
    this.workers = this.cells.length / INT32_PER_LINE - EPOCHS_LINES_FIXED
  }

  /** Announces a new epoch. Epochs rise; throws RangeError otherwise. */
  publish(epoch: number): void {
    if (!Number.isInteger(epoch) || epoch <= this.published() || epoch > EPOCH_MAX) {
      throw new RangeError(`epoch ${epoch} cannot follow ${this.published()}; it must be a larger integer, at most ${EPOCH_MAX}`)
    }
    Atomics.store(this.cells, PUBLISHED, epoch)
  }

  /** The newest published epoch; 0 before the first. */
  published(): number {
    return Atomics.load(this.cells, PUBLISHED)
  }

  /** Marks a slot as starting, with nothing acknowledged. Call before the thread is started, never while one runs in the slot. */
  reserve(index: number): void {
    const base = slotBase(index, this.cells.length)
    Atomics.store(this.cells, base + EPOCH, 0)
    Atomics.store(this.cells, base + BEAT, Math.floor(this.clock.nowMs()) | 0)
    Atomics.store(this.cells, base + IN_FLIGHT, 0)
    Atomics.store(this.cells, base + LOOP_LAG, 0)
    Atomics.store(this.cells, base + SHED_LEVEL, 0)
    Atomics.store(this.cells, base + HELD_KIB, 0)
    Atomics.store(this.cells, base + STATE, states.indexOf('starting'))
  }

  /** Marks a slot as ended and wakes whoever waits for it. Call after the thread has ended, in whatever way. */
  release(index: number): void {
    const base = slotBase(index, this.cells.length)
    Atomics.store(this.cells, base + IN_FLIGHT, 0)
    Atomics.store(this.cells, base + LOOP_LAG, 0)
    Atomics.store(this.cells, base + SHED_LEVEL, 0)
    Atomics.store(this.cells, base + HELD_KIB, 0)
    Atomics.store(this.cells, base + STATE, states.indexOf('ended'))
    Atomics.add(this.cells, ACKNOWLEDGEMENTS, 1)
    Atomics.notify(this.cells, ACKNOWLEDGEMENTS)
  }

  /**
   * Resolves true as soon as every worker that runs has acknowledged `epoch` or a later one, false after `timeoutMs`.
   * Slots without a worker (vacant, ended) are not waited for: a replacement starts with the newest configuration.
   */
  async waitAll(epoch: number, timeoutMs: number): Promise<boolean> {
    const deadline = this.clock.nowMs() + timeoutMs
    for (;;) {
      // Read before the check: an acknowledgement after the check changes this count, and the wait then ends at once.
      const seen = Atomics.load(this.cells, ACKNOWLEDGEMENTS)
      if (this.allReached(epoch)) return true
      const remaining = deadline - this.clock.nowMs()
      if (remaining <= 0) return false
      await this.waitForAcknowledgement(seen, remaining)
    }
  }

  read(index: number): WorkerView {
    const base = slotBase(index, this.cells.length)
    const beat = Atomics.load(this.cells, base + BEAT)
    return {
      index,
      state: states[Atomics.load(this.cells, base + STATE)] ?? 'ended',
      epoch: Atomics.load(this.cells, base + EPOCH),
      // Difference modulo 2^32, so that the wrap of the cell after 49 days of uptime shows nowhere. A beat that another
      // thread wrote after this thread read its clock would be "in the future": that is age 0.
      beatAgeMs: Math.max(0, (Math.floor(this.clock.nowMs()) - beat) | 0),
      inFlight: Atomics.load(this.cells, base + IN_FLIGHT),
      loopLagMs: Atomics.load(this.cells, base + LOOP_LAG) / 1000,
      shedLevel: Atomics.load(this.cells, base + SHED_LEVEL),
    }
  }

  readAll(): WorkerView[] {
    return Array.from({ length: this.workers }, (_, index) => this.read(index))
  }

  private allReached(epoch: number): boolean {
    for (let index = 0; index < this.workers; index++) {
      const base = slotBase(index, this.cells.length)
      const state = states[Atomics.load(this.cells, base + STATE)]
      if (state === 'vacant' || state === 'ended') continue
      if (Atomics.load(this.cells, base + EPOCH) < epoch) return false
    }
    return true
  }

  private async waitForAcknowledgement(seen: number, timeoutMs: number): Promise<void> {
    if (this.waiter === null) {
      await new Promise<void>((resolve) => this.clock.after(Math.min(POLL_MS, timeoutMs), resolve))
      return
    }
    await this.waiter(this.cells, ACKNOWLEDGEMENTS, seen, timeoutMs).value
  }
}
