/**
 * Peak-EWMA with the power of two choices: of two nodes drawn by chance, the one whose expected wait is lower.
 *
 * Expected wait = latency × (1 + in flight) / weight, after Finagle's PeakEwma. The latency rises at once with a slow answer and falls with
 * e^(-age/decay), also while nothing is sent, so that a node that was slow is tried again; but not while requests wait on it.
 * A node without any answer yet is taken for an average one (the median), where the reference gateways take it for the fastest.
 */
import type { Balancer } from './balancer.js'
import type { Tier } from './tier.js'

/** Draws for one of the two, when those before were not allowed. */
const DRAWS_MAX = 8
/** Picks after which the median is looked up again. */
const MEDIAN_PICKS = 256
/** Nodes that the median is taken from. */
const MEDIAN_NODES = 64

export class Ewma implements Balancer {
  private readonly sample: Float64Array
  private readonly stride: number
  private median = 1
  private picks = 0

  constructor(
    private readonly tier: Tier,
    private readonly decayMs: number,
    private readonly nowMs: () => number,
  ) {
    this.sample = new Float64Array(Math.min(tier.size, MEDIAN_NODES))
    this.stride = tier.size / this.sample.length
  }

  pick(): number {
    const { tier } = this
    if (tier.size === 1) return tier.allows(0) ? 0 : -1
    if (this.picks++ % MEDIAN_PICKS === 0) this.median = this.findMedian()
    const now = this.nowMs()
    const one = this.draw(-1)
    if (one === -1) return tier.drawAllowed()
    const other = this.draw(one)
    if (other === -1) return one
    const waitOne = this.expectedWait(one, now)
    const waitOther = this.expectedWait(other, now)
    const better = waitOther < waitOne ? other : one
    const wait = Math.min(waitOne, waitOther)
    if (tier.size < 4 || wait * (tier.weights[better] as number) <= 2 * this.median) return better
    // Both are slow or busy. Two slow nodes of twenty meet in every 190th pick: enough to be the p99.
    const third = this.draw(better)
    return third !== -1 && this.expectedWait(third, now) < wait ? third : better
  }

  /** An allowed node other than `except`; -1 = none was found. */
  private draw(except: number): number {
    const { tier } = this
    for (let draws = 0; draws < DRAWS_MAX; draws++) {
      const index = Math.floor(tier.random() * tier.size)
      if (index !== except && tier.allows(index)) return index
    }
    return -1
  }

  private expectedWait(index: number, now: number): number {
    const { tier } = this
    const { cells } = tier
    const slot = tier.slots[index] as number
    if (slot === 0) return this.median / (tier.weights[index] as number)
    const inFlight = cells.inFlight(slot)
    const known = cells.latencyUs(slot)
    const latency = known === 0 ? this.median : inFlight > 0 ? known : known * this.freshness(cells.latencyAgeMs(slot, now))
    return (latency * (1 + inFlight)) / ((tier.weights[index] as number) * tier.ramp(index))
  }

  /** What is left of a latency of this age, from 0 to 1. */
  private freshness(ageMs: number): number {
    const decays = ageMs / this.decayMs
    // The exponential costs more than all the rest; this close to 1 it changes nothing.
    return decays < 0.01 ? 1 : Math.exp(-decays)
  }

  /** Microseconds; 1 while nothing is known. */
  private findMedian(): number {
    const { tier, sample } = this
    let known = 0
    for (let index = 0; index < sample.length; index++) {
      const slot = tier.slots[Math.floor(index * this.stride)] as number
      const latency = slot === 0 ? 0 : tier.cells.latencyUs(slot)
      if (latency > 0) sample[known++] = latency
    }
    if (known === 0) return 1
    // Unused places go behind.
    sample.fill(Number.POSITIVE_INFINITY, known)
    sample.sort()
    return sample[known >> 1] as number
  }
}
