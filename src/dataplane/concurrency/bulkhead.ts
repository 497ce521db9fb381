/**
 * Bounds the requests that an upstream has at a time, over all workers, with a queue in front of it: an upstream that has become slow takes
 * no more of the gateway than its places.
 *
 * Places and waiting requests are counted in shared memory; each worker has its own queue, first in, first out. A worker that frees a place gives it
 * to its own next request, unless requests of other workers wait and it already has its fair share of the places (limit / workers): then the place
 * stays free, and whoever waits looks for one every 2 ms. So no worker starves, and once each has its share, no place is ever idle.
 */
import type { Clock } from '../../base/clock.js'
import type { CompiledConcurrency } from '../../schema/compiled.js'
import { type ConcurrencyCells, Held } from '../../shared/concurrency-cells.js'
import { afterWindow } from './gradient.js'

/** A worker with waiting requests looks for free places this often. */
const LOOK_MS = 2
const WINDOW_MS = 250
const WINDOW_SAMPLES_MIN = 10

/** The bound that applies. `learned`: the adaptive limit, with fraction; 0 = nothing was learned yet. */
export function placesOf({ limit, adaptive }: CompiledConcurrency, learned: number): number {
  if (adaptive === null) return limit
  return Math.floor(Math.max(adaptive.min, Math.min(adaptive.max, learned === 0 ? limit : learned)))
}

export class Bulkhead<T> {
  private readonly queue: T[] = []
  private stopLooking: (() => void) | null = null
  private willWake = false

  constructor(
    private conf: CompiledConcurrency,
    private readonly slot: number,
    private readonly workers: number,
    private readonly cells: ConcurrencyCells,
    private readonly clock: Clock,
    private readonly admitted: (guest: T) => void,
  ) {}

  get queueTimeoutMs(): number {
    return this.conf.queueTimeoutMs
  }

  /** A reload keeps what waits. */
  configure(conf: CompiledConcurrency): void {
    this.conf = conf
  }

  /** `in`: it has a place. `waits`: `admitted` will be called with it, unless it gives up. `full`: neither. */
  enter(guest: T): 'in' | 'waits' | 'full' {
    // Nobody overtakes those who wait, in whichever worker.
    if (this.cells.count(this.slot, Held.Waiting) === 0 && this.takePlace()) return 'in'
    if (!this.cells.take(this.slot, Held.Waiting, this.conf.queue)) return 'full'
    this.queue.push(guest)
    this.look()
    return 'waits'
  }

  /** The guest waits no longer. */
  giveUp(guest: T): void {
    const index = this.queue.indexOf(guest)
    if (index === -1) return
    this.queue.splice(index, 1)
    this.cells.give(this.slot, Held.Waiting)
    if (this.queue.length === 0) this.endLooking()
  }

  /** A guest gives its place back. Who gets it is told in a later turn of the event loop, so that callers may be in the middle of anything. */
  leave(): void {
    const { cells, slot } = this
    cells.give(slot, Held.Place)
    if (this.queue.length === 0 || this.willWake) return
    const othersWait = cells.count(slot, Held.Waiting) > this.queue.length
    if (othersWait && cells.own(slot, Held.Place) >= Math.floor(this.limit / this.workers)) return
    this.willWake = true
    setImmediate(() => {
      this.willWake = false
      this.admitWaiting()
    })
  }

  /** How long an answer took to begin, or how long was waited in vain. */
  took(latencyMs: number, nowMs: number): void {
    const { adaptive } = this.conf
    if (adaptive === null) return
    const { cells, slot } = this
    const window = cells.sample(slot, latencyMs, nowMs, WINDOW_MS, WINDOW_SAMPLES_MIN)
    if (window === null) return
    const busy = cells.count(slot, Held.Place) + cells.count(slot, Held.Waiting)
    const next = afterWindow({ limit: cells.limit(slot, this.conf.limit), ...window }, window.meanMs, busy, adaptive)
    cells.setLongTerm(slot, next.longTermMs, next.windows)
    cells.setLimit(slot, next.limit)
  }

  private get limit(): number {
    const { conf } = this
    return conf.adaptive === null ? conf.limit : placesOf(conf, this.cells.limit(this.slot, conf.limit))
  }

  private takePlace(): boolean {
    return this.cells.take(this.slot, Held.Place, this.limit)
  }

  private admitWaiting(): void {
    while (this.queue.length > 0 && this.takePlace()) {
      const guest = this.queue.shift() as T
      this.cells.give(this.slot, Held.Waiting)
      this.admitted(guest)
    }
    if (this.queue.length === 0) this.endLooking()
  }

  private look(): void {
    if (this.stopLooking !== null) return
    this.stopLooking = this.clock.after(LOOK_MS, () => {
      this.stopLooking = null
      this.admitWaiting()
      if (this.queue.length > 0) this.look()
    })
  }

  private endLooking(): void {
    this.stopLooking?.()
    this.stopLooking = null
  }
}
