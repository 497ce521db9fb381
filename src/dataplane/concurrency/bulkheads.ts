/** The bulkheads of one worker, by the slot of their upstream: they, and what waits at them, outlive snapshots. */
import type { Clock } from '../../base/clock.js'
import type { CompiledConcurrency } from '../../schema/compiled.js'
import type { ConcurrencyCells } from '../../shared/concurrency-cells.js'
import type { Exchange } from '../exchange.js'
import { Bulkhead } from './bulkhead.js'

export interface BulkheadTools {
  readonly cells: ConcurrencyCells
  readonly workers: number
  readonly clock: Clock
  /** An exchange that waited has its place. */
  admitted(exchange: Exchange): void
}

export class Bulkheads {
  private readonly bySlot = new Map<number, Bulkhead<Exchange>>()

  constructor(private readonly tools: BulkheadTools) {}

  get(slot: number, conf: CompiledConcurrency): Bulkhead<Exchange> {
    const known = this.bySlot.get(slot)
    if (known !== undefined) {
      known.configure(conf)
      return known
    }
    const { cells, workers, clock } = this.tools
    const bulkhead = new Bulkhead<Exchange>(conf, slot, workers, cells, clock, (exchange) => this.tools.admitted(exchange))
    this.bySlot.set(slot, bulkhead)
    return bulkhead
  }
}
