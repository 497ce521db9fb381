/**
 * Node state: what all workers know together about a node (`address:port`), whichever upstream it is reached through. In an upstream that
 * judges its nodes (health checks, outlier detection) they have a line of their own, because another upstream may judge otherwise; and
 * the upstream has one, of which only `ejected` is used. Judgements are made in shared/node-health.
 *
 *   one line of 64 bytes per slot, 65,536 slots; behind them one column of int32 per worker, a cell per slot
 *
 *   line                                                                     writer
 *   int32[0]   inFlight      requests sent and not ended                     workers, by atomic add; primary, for a dead worker
 *   int32[1]   status        bits, see `NodeStatus`; 0 = usable              primary (checks); any worker (passive), by atomic or/and
 *   int32[2]   latency       peak-EWMA, microseconds; 0 = nothing known      workers, by compare-exchange
 *   int32[3]   latencyAt     when that was, ms modulo 2^32                   the worker whose exchange succeeded
 *   int32[4]   consecutive   failures since the last success                 workers
 *   int32[5]   gateway       those of them that were no answer of the node,  workers
 *                            or 502, 503, 504
 *   int32[6]   openedAt      new, or back from being down, ms modulo 2^32;   primary (assignment), whoever clears the last status bit
 *                            0 = long ago
 *   int32[7]   successes     counts since the slot was given to its node,    workers, by atomic add
 *   int32[8]   failures      modulo 2^32: readers take differences           workers, by atomic add
 *   int32[9]   ejectedUntil  ms modulo 2^32, while the bit `Ejected` is set  whoever ejects
 *   int32[10]  ejections     ejections in a row; prolongs the next one       whoever ejects or forgives
 *   int32[11]  health        health checks: state and counters, see          workers and primary, by compare-exchange
 *                            shared/health-state
 *   int32[12]  slow          slow calls so far, modulo 2^32                  workers, by atomic add
 *   int32[13]  slowInARow    slow calls since the last quick one             workers
 *   int32[14]  ejected       in the line of an upstream: its ejected nodes   whoever ejects or takes back, by compare-exchange
 *   int32[15]  unused
 *
 *   column of worker i
 *   int32[slot]  its own share of `inFlight`                                 worker i; the primary, after that worker has ended
 *
 * Slot 0 belongs to no node: it stands for nodes that nobody needs to know anything about, and is neither written nor read.
 * A worker that dies leaves its column behind; the primary takes it out of the totals (`NodeBoard.retire`), so that no count is left over.
 * Times are monotonic milliseconds (base/clock), comparable between threads; differences are right for 24 days.
 */
import {
  CONSECUTIVE,
  EJECTED_UNTIL,
  EJECTIONS,
  FAILURES,
  GATEWAY,
  IN_FLIGHT,
  LATENCY,
  LATENCY_AT,
  OPENED_AT,
  SLOW_IN_A_ROW,
  STATUS,
  SUCCESSES,
  stamp,
} from './node-layout.js'
import { allocateRegion, assertRegionSize, CACHE_LINE_BYTES, INT32_PER_LINE } from './region.js'

export const NODE_SLOTS = 65_536
const LINES_BYTES = NODE_SLOTS * CACHE_LINE_BYTES
const COLUMN_BYTES = NODE_SLOTS * Int32Array.BYTES_PER_ELEMENT

/** Reasons for not picking a node; a node without any is usable. */
export enum NodeStatus {
  /** Active health checks say that it is down. */
  ActiveDown = 1,
  /** Passive health checks say so. */
  PassiveDown = 2,
  /** Taken out for a while as an outlier. */
  Ejected = 4,
  /** Switched off by an operator. */
  Disabled = 8,
}

/** How a try ended, for the node that it went to. */
export enum Outcome {
  /** Answered, below 500. */
  Success = 0,
  /** Answered with a status of 500 or above, other than those below. */
  ServerError = 1,
  /** Answered 502, 503 or 504, or broke off, or did not answer in time. */
  GatewayError = 2,
  /** Not reached. */
  ConnectError = 3,
  /** Says nothing about the node: the client went away, or the gateway wanted the answer no more. */
  Neutral = 4,
}

/** A failed try counts as at least so slow, so that a node that fails fast does not look fast. */
const FAILURE_LATENCY_US = 50_000
/** A minute; more is not told apart. */
const LATENCY_MAX_US = 60_000_000

export function nodesBytes(workers: number): number {
  return LINES_BYTES + workers * COLUMN_BYTES
}

export function createNodesRegion(workers: number): SharedArrayBuffer {
  return allocateRegion('nodes', nodesBytes(workers))
}

/** What one thread reads and writes of the nodes. Slots must be from 1 to NODE_SLOTS - 1. */
export class NodeCells {
  protected readonly cells: Int32Array
  private readonly column: Int32Array

  /** `worker`: index of the worker, or -1 in the primary, which sends no requests. */
  constructor(region: SharedArrayBuffer, workers: number, worker: number) {
    assertRegionSize('nodes', region, nodesBytes(workers))
    this.cells = new Int32Array(region, 0, NODE_SLOTS * INT32_PER_LINE)
    this.column = worker < 0 ? new Int32Array(0) : new Int32Array(region, LINES_BYTES + worker * COLUMN_BYTES, NODE_SLOTS)
  }

  // ---------------------------------------------------------------- the tries of this worker

  /** A try is sent to the node. Must be followed by exactly one `end`. */
  begin(slot: number): void {
    this.column[slot] = (this.column[slot] as number) + 1
    Atomics.add(this.cells, slot * INT32_PER_LINE + IN_FLIGHT, 1)
  }

  /** The try is over. Counts it as `outcome`; a latency is told by `observe` or `penalise`. */
  end(slot: number, outcome: Outcome): void {
    const base = slot * INT32_PER_LINE
    const { cells } = this
    this.column[slot] = (this.column[slot] as number) - 1
    Atomics.sub(cells, base + IN_FLIGHT, 1)
    if (outcome === Outcome.Neutral) return
    if (outcome === Outcome.Success) {
      Atomics.add(cells, base + SUCCESSES, 1)
      // Read first: a line that is only read stays in the caches of all cores.
      if (Atomics.load(cells, base + CONSECUTIVE) !== 0) Atomics.store(cells, base + CONSECUTIVE, 0)
      if (Atomics.load(cells, base + GATEWAY) !== 0) Atomics.store(cells, base + GATEWAY, 0)
      return
    }
    Atomics.add(cells, base + FAILURES, 1)
    Atomics.add(cells, base + CONSECUTIVE, 1)
    if (outcome >= Outcome.GatewayError) Atomics.add(cells, base + GATEWAY, 1)
    else if (Atomics.load(cells, base + GATEWAY) !== 0) Atomics.store(cells, base + GATEWAY, 0)
  }

  /**
   * Feeds a latency into the peak-EWMA: a higher one is taken at once, a lower one pulls the average down with e^(-age/decay).
   * After Finagle's PeakEwma. `onlyUp`: it is a lower bound (the wait was given up), or that of an answer nobody should be drawn by.
   */
  observe(slot: number, latencyMs: number, nowMs: number, decayMs: number, onlyUp = false): void {
    const { cells } = this
    const base = slot * INT32_PER_LINE
    const sample = Math.max(1, Math.min(LATENCY_MAX_US, Math.round(latencyMs * 1000)))
    for (;;) {
      const old = Atomics.load(cells, base + LATENCY)
      let next = sample
      if (sample < old) {
        if (onlyUp) return
        const age = Math.max(0, (Math.floor(nowMs) - Atomics.load(cells, base + LATENCY_AT)) | 0)
        const keep = Math.exp(-age / decayMs)
        next = Math.max(1, Math.round(old * keep + sample * (1 - keep)))
      }
      if (Atomics.compareExchange(cells, base + LATENCY, old, next) !== old) continue
      Atomics.store(cells, base + LATENCY_AT, stamp(nowMs))
      return
    }
  }

  /** A try failed after `latencyMs`: the latency at least doubles, or a node that refuses at once would look like the fastest. */
  penalise(slot: number, latencyMs: number, nowMs: number): void {
    const doubled = (2 * Atomics.load(this.cells, slot * INT32_PER_LINE + LATENCY)) / 1000
    this.observe(slot, Math.max(latencyMs, doubled, FAILURE_LATENCY_US / 1000), nowMs, 1, true)
  }

  // ---------------------------------------------------------------- what balancers read

  inFlight(slot: number): number {
    return Atomics.load(this.cells, slot * INT32_PER_LINE + IN_FLIGHT)
  }

  /**
   * What least_conn compares, in one number: 4 × requests in flight, + 2 when the node is not usable, + 1 when no latency of it is
   * known. Plain reads: a comparison is out of date as soon as it is made, and three loads of one line are all that it costs.
   */
  load(slot: number): number {
    const { cells } = this
    const base = slot * INT32_PER_LINE
    return (cells[base] as number) * 4 + (cells[base + STATUS] === 0 ? 0 : 2) + (cells[base + LATENCY] === 0 ? 1 : 0)
  }

  /** NodeStatus bits; 0 = usable. */
  status(slot: number): number {
    return Atomics.load(this.cells, slot * INT32_PER_LINE + STATUS)
  }

  /** Peak-EWMA in microseconds as last observed; 0 = nothing known. */
  latencyUs(slot: number): number {
    return Atomics.load(this.cells, slot * INT32_PER_LINE + LATENCY)
  }

  /** Milliseconds since the latency was observed. */
  latencyAgeMs(slot: number, nowMs: number): number {
    return Math.max(0, (Math.floor(nowMs) - Atomics.load(this.cells, slot * INT32_PER_LINE + LATENCY_AT)) | 0)
  }

  /** Milliseconds since the node came, or came back; Infinity = long ago. */
  openForMs(slot: number, nowMs: number): number {
    const opened = Atomics.load(this.cells, slot * INT32_PER_LINE + OPENED_AT)
    return opened === 0 ? Number.POSITIVE_INFINITY : Math.max(0, (Math.floor(nowMs) - opened) | 0)
  }

  // ---------------------------------------------------------------- what judges and pages read and write

  consecutiveFailures(slot: number): number {
    return Atomics.load(this.cells, slot * INT32_PER_LINE + CONSECUTIVE)
  }

  consecutiveGatewayFailures(slot: number): number {
    return Atomics.load(this.cells, slot * INT32_PER_LINE + GATEWAY)
  }

  /** Successes so far, modulo 2^32 (as uint32). */
  successes(slot: number): number {
    return Atomics.load(this.cells, slot * INT32_PER_LINE + SUCCESSES) >>> 0
  }

  failures(slot: number): number {
    return Atomics.load(this.cells, slot * INT32_PER_LINE + FAILURES) >>> 0
  }

  /** Sets reasons for not picking the node; returns the bits before. All workers see it with their next pick. */
  close(slot: number, bits: NodeStatus): number {
    return Atomics.or(this.cells, slot * INT32_PER_LINE + STATUS, bits)
  }

  /**
   * Takes reasons away; returns the bits before. When the last one goes, the node is new again: slow start begins, its failures in a
   * row and its latency are forgotten.
   */
  open(slot: number, bits: NodeStatus, nowMs: number): number {
    const { cells } = this
    const base = slot * INT32_PER_LINE
    const before = Atomics.and(cells, base + STATUS, ~bits)
    if (before !== 0 && (before & ~bits) === 0) {
      Atomics.store(cells, base + CONSECUTIVE, 0)
      Atomics.store(cells, base + GATEWAY, 0)
      Atomics.store(cells, base + SLOW_IN_A_ROW, 0)
      Atomics.store(cells, base + LATENCY, 0)
      Atomics.store(cells, base + OPENED_AT, stamp(nowMs))
    }
    return before
  }

  /** Milliseconds until the ejection ends, 0 or below = over. Means something while the bit `Ejected` is set. */
  ejectedForMs(slot: number, nowMs: number): number {
    return (Atomics.load(this.cells, slot * INT32_PER_LINE + EJECTED_UNTIL) - Math.floor(nowMs)) | 0
  }

  ejections(slot: number): number {
    return Atomics.load(this.cells, slot * INT32_PER_LINE + EJECTIONS)
  }
}

/** The primary's side: gives slots their nodes, and cleans up behind workers that died. */
export class NodeBoard extends NodeCells {
  constructor(
    private readonly region: SharedArrayBuffer,
    workers: number,
  ) {
    super(region, workers, -1)
  }

  /** Begins a slot anew for a node. `nowMs` 0: it was there before anybody looked, so that no slow start begins. */
  reset(slot: number, nowMs: number): void {
    const base = slot * INT32_PER_LINE
    for (let cell = 0; cell < INT32_PER_LINE; cell++) if (cell !== IN_FLIGHT) Atomics.store(this.cells, base + cell, 0)
    if (nowMs > 0) Atomics.store(this.cells, base + OPENED_AT, stamp(nowMs))
  }

  /** Takes what a worker that has ended had in flight out of the totals. Nothing must run in the slot of that worker any more. */
  retire(worker: number): void {
    const column = new Int32Array(this.region, LINES_BYTES + worker * COLUMN_BYTES, NODE_SLOTS)
    for (let slot = 1; slot < NODE_SLOTS; slot++) {
      const left = column[slot] as number
      if (left === 0) continue
      Atomics.sub(this.cells, slot * INT32_PER_LINE + IN_FLIGHT, left)
      column[slot] = 0
    }
  }
}

/** A slot that no configuration has used for so long may serve another node. */
const UNUSED_SLOT_MS = 300_000

interface Assigned {
  readonly slot: number
  /** When a configuration used it last; Infinity = the present one does. */
  unusedSinceMs: number
}

/**
 * Slots by node key, in the primary. A key keeps its slot, and so its counts, as long as configurations use it, and for five minutes after.
 * When all slots are taken, further nodes get slot 0: they are picked without any knowledge of them, and `onFull` is told once per key.
 */
export class NodeSlots {
  private readonly assigned = new Map<string, Assigned>()
  private readonly free: number[] = []
  private readonly refused = new Set<string>()
  private used = 1

  constructor(
    private readonly board: NodeBoard,
    private readonly onFull: (key: string) => void,
    private readonly capacity = NODE_SLOTS,
  ) {}

  /** Slots in use, also those that wait to be freed. */
  get size(): number {
    return this.assigned.size
  }

  /** The slot of a node, given anew if it has none. `openedMs`: see `NodeBoard.reset`. */
  slot(key: string, openedMs: number): number {
    const known = this.assigned.get(key)
    if (known !== undefined) {
      known.unusedSinceMs = Number.POSITIVE_INFINITY
      return known.slot
    }
    const slot = this.free.pop() ?? (this.used < this.capacity ? this.used++ : 0)
    if (slot === 0) {
      if (!this.refused.has(key)) this.onFull(key)
      this.refused.add(key)
      return 0
    }
    this.refused.delete(key)
    this.board.reset(slot, openedMs)
    this.assigned.set(key, { slot, unusedSinceMs: Number.POSITIVE_INFINITY })
    return slot
  }

  /** Keys with their slots, also those that wait to be freed. */
  entries(): [string, number][] {
    return [...this.assigned].map(([key, { slot }]) => [key, slot])
  }

  /** The slot of a node that has one, else 0. */
  known(key: string): number {
    return this.assigned.get(key)?.slot ?? 0
  }

  /** Says which keys are used now; frees the slots of those that have not been for a while and have nothing in flight. */
  retain(keys: ReadonlySet<string>, nowMs: number): void {
    this.refused.clear()
    for (const [key, entry] of this.assigned) {
      if (keys.has(key)) {
        entry.unusedSinceMs = Number.POSITIVE_INFINITY
      } else if (entry.unusedSinceMs === Number.POSITIVE_INFINITY) {
        entry.unusedSinceMs = nowMs
      } else if (nowMs - entry.unusedSinceMs >= UNUSED_SLOT_MS && this.board.inFlight(entry.slot) === 0) {
        this.assigned.delete(key)
        this.free.push(entry.slot)
      }
    }
  }
}
