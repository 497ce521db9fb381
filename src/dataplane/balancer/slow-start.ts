/**
 * Slow start: the weight of a node that is new, or came back, grows over a window.
 *
 *   share = max(minimum, (time since it opened / window) ^ (1 / aggression))
 *
 * The formula of Envoy's `slow_start_config`, with its names. Runs on workers.
 */
import type { CompiledSlowStart } from '../../schema/compiled.js'
import type { NodeCells } from '../../shared/node-cells.js'

export class SlowStart {
  private readonly windowMs: number
  private readonly exponent: number
  private readonly minimum: number

  constructor(
    options: CompiledSlowStart,
    private readonly nowMs: () => number,
  ) {
    this.windowMs = options.windowMs
    this.exponent = 1 / options.aggression
    this.minimum = options.minWeight
  }

  /** From the minimum to 1. */
  factor(cells: NodeCells, slot: number): number {
    const openMs = cells.openForMs(slot, this.nowMs())
    if (openMs >= this.windowMs) return 1
    const linear = openMs / this.windowMs
    return Math.max(this.minimum, this.exponent === 1 ? linear : linear ** this.exponent)
  }
}
