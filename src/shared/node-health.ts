/**
 * Judgements about nodes, made by whichever thread has the news and seen by all with their next pick: the state machine of the health
 * checks, which probes of the primary and answers to requests of the workers drive together, and the ejection of outliers.
 *
 *   health     one compare-exchange per observation that changes something; then the status bit is brought in line with it. Whoever
 *              writes the bit looks at the state again, so that of two threads that contradict each other the later state wins.
 *   ejection   a place is taken in the upstream's count first (compare-exchange, never above what may be ejected at a time), then the
 *              bit is set; whoever finds it set already gives the place back.
 */
import { HEALTH_INITIAL, type HealthEvent, isUsable, observeHealth } from './health-state.js'
import { type NodeCells, NodeStatus } from './node-cells.js'
import { CONSECUTIVE, EJECTED, EJECTED_UNTIL, EJECTIONS, GATEWAY, HEALTH, SLOW, SLOW_IN_A_ROW, stamp } from './node-layout.js'
import { INT32_PER_LINE } from './region.js'

/** What an observation changed for balancers. */
export enum HealthChange {
  None = 0,
  Down = 1,
  Up = 2,
}

/** How long and how many nodes of an upstream may be ejected. */
export interface EjectionRules {
  /** Line of the upstream; 0 = there was none left, nothing is ejected. */
  readonly slot: number
  readonly baseEjectionMs: number
  readonly maxEjectionMs: number
  /** Of all nodes of the upstream; one may go in any case, unless this is 0. */
  readonly maxEjectionPercent: number
}

/** News about a node, for the log of the primary. */
export interface NodeNews {
  /** Key of the upstream. */
  readonly upstream: string
  /** `address:port`. */
  readonly node: string
  readonly change: 'unhealthy' | 'healthy' | 'ejected' | 'returned'
  /** Why, in a few words. */
  readonly reason: string
}

const DOWN = NodeStatus.ActiveDown | NodeStatus.PassiveDown

export class NodeHealth {
  private readonly lines: Int32Array

  /** `region`: the one that `cells` belongs to. */
  constructor(
    region: SharedArrayBuffer,
    private readonly cells: NodeCells,
  ) {
    this.lines = new Int32Array(region)
  }

  // ---------------------------------------------------------------- health checks

  /** State and counters (shared/health-state). */
  health(slot: number): number {
    return Atomics.load(this.lines, slot * INT32_PER_LINE + HEALTH)
  }

  /**
   * Counts an observation. `limit`: how many of its kind decide. `by`: the bit to set if they take the node down. The one thread whose
   * observation decided is told what changed.
   */
  observe(slot: number, event: HealthEvent, limit: number, by: NodeStatus, nowMs: number): HealthChange {
    const { lines } = this
    const at = slot * INT32_PER_LINE + HEALTH
    for (;;) {
      const before = Atomics.load(lines, at)
      const next = observeHealth(before, event, limit)
      if (next === before) return HealthChange.None
      if (Atomics.compareExchange(lines, at, before, next) !== before) continue
      if (isUsable(next) === isUsable(before)) return HealthChange.None
      this.publish(slot, by, nowMs)
      return isUsable(next) ? HealthChange.Up : HealthChange.Down
    }
  }

  /** Forgets everything that checks found: nobody checks the node any more. */
  forgetHealth(slot: number, nowMs: number): void {
    if (this.health(slot) === HEALTH_INITIAL && (this.cells.status(slot) & DOWN) === 0) return
    Atomics.store(this.lines, slot * INT32_PER_LINE + HEALTH, HEALTH_INITIAL)
    this.publish(slot, NodeStatus.ActiveDown, nowMs)
  }

  private publish(slot: number, by: NodeStatus, nowMs: number): void {
    for (;;) {
      const usable = isUsable(this.health(slot))
      if (usable) this.cells.open(slot, DOWN, nowMs)
      else this.cells.close(slot, by)
      if (isUsable(this.health(slot)) === usable) return
    }
  }

  // ---------------------------------------------------------------- outliers

  /** An answer that came later than it should, or has not come yet. Returns how many in a row that makes. */
  slow(slot: number): number {
    Atomics.add(this.lines, slot * INT32_PER_LINE + SLOW, 1)
    return Atomics.add(this.lines, slot * INT32_PER_LINE + SLOW_IN_A_ROW, 1) + 1
  }

  quick(slot: number): void {
    const at = slot * INT32_PER_LINE + SLOW_IN_A_ROW
    if (Atomics.load(this.lines, at) !== 0) Atomics.store(this.lines, at, 0)
  }

  /** Slow calls so far, modulo 2^32 (as uint32). */
  slowCalls(slot: number): number {
    return Atomics.load(this.lines, slot * INT32_PER_LINE + SLOW) >>> 0
  }

  isEjected(slot: number): boolean {
    return (this.cells.status(slot) & NodeStatus.Ejected) !== 0
  }

  /** Nodes of an upstream that are ejected now. */
  ejectedCount(upstreamSlot: number): number {
    return Atomics.load(this.lines, upstreamSlot * INT32_PER_LINE + EJECTED)
  }

  /**
   * Takes the node out, unless it is already or too many others are. `members`: nodes of the upstream. Returns for how many
   * milliseconds: `baseEjectionMs` × ejections in a row, up to `maxEjectionMs`; 0 = not ejected.
   */
  eject(slot: number, members: number, rules: EjectionRules, nowMs: number): number {
    const { lines } = this
    const count = rules.slot * INT32_PER_LINE + EJECTED
    if (rules.slot === 0 || this.isEjected(slot)) return 0
    const most = rules.maxEjectionPercent === 0 ? 0 : Math.max(1, Math.floor((members * rules.maxEjectionPercent) / 100))
    for (;;) {
      const ejected = Atomics.load(lines, count)
      if (ejected >= most) return 0
      if (Atomics.compareExchange(lines, count, ejected, ejected + 1) === ejected) break
    }
    const base = slot * INT32_PER_LINE
    if ((this.cells.close(slot, NodeStatus.Ejected) & NodeStatus.Ejected) !== 0) {
      Atomics.sub(lines, count, 1)
      return 0
    }
    const inARow = Atomics.add(lines, base + EJECTIONS, 1) + 1
    const forMs = Math.min(rules.baseEjectionMs * inARow, Math.max(rules.baseEjectionMs, rules.maxEjectionMs))
    Atomics.store(lines, base + EJECTED_UNTIL, stamp(nowMs + forMs))
    return forMs
  }

  /** True when the time of an ejection is over. One whose end is not written yet is not. */
  isEjectionOver(slot: number, nowMs: number): boolean {
    const until = Atomics.load(this.lines, slot * INT32_PER_LINE + EJECTED_UNTIL)
    return this.isEjected(slot) && until !== 0 && ((until - Math.floor(nowMs)) | 0) <= 0
  }

  /** Takes an ejection back. False = there was none. Only one thread, the primary, does this. */
  takeBack(slot: number, upstreamSlot: number, nowMs: number): boolean {
    if (!this.isEjected(slot)) return false
    const { lines } = this
    const base = slot * INT32_PER_LINE
    for (const cell of [CONSECUTIVE, GATEWAY, SLOW_IN_A_ROW, EJECTED_UNTIL]) Atomics.store(lines, base + cell, 0)
    this.cells.open(slot, NodeStatus.Ejected, nowMs)
    Atomics.sub(lines, upstreamSlot * INT32_PER_LINE + EJECTED, 1)
    return true
  }

  /** Ejections in a row: how much longer the next one will be. */
  ejections(slot: number): number {
    return this.cells.ejections(slot)
  }

  /** An interval went well: the next ejection is shorter by one step. */
  forgive(slot: number): void {
    const at = slot * INT32_PER_LINE + EJECTIONS
    const before = Atomics.load(this.lines, at)
    if (before > 0) Atomics.compareExchange(this.lines, at, before, before - 1)
  }
}
