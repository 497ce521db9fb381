/**
 * Least connections: the node with the fewest requests in flight for its weight, counted over all workers.
 *
 * The score is (1 + in flight) / weight, as in APISIX; ties fall by chance. Up to 16 nodes are all compared, of more the best of 5
 * drawn ones is taken (Mitzenmacher: two choices already do most of the work; reading hundreds of lines that other cores write
 * costs more than it gains). A node that has not answered yet counts as loaded as the average one: it gets its turns, not a rush.
 */
import type { Balancer } from './balancer.js'
import type { Tier } from './tier.js'

const COMPARED_MAX = 16
const CHOICES = 5

export class LeastConnections implements Balancer {
  // Of the comparison under way.
  private best = -1
  private bestScore = 0
  private newcomer = -1
  private newcomerScore = 0
  private seen = 0
  private load = 0

  constructor(private readonly tier: Tier) {}

  pick(): number {
    const { tier } = this
    const { size } = tier
    this.best = -1
    this.newcomer = -1
    this.seen = 0
    this.load = 0
    if (size <= COMPARED_MAX) {
      this.compareAll()
    } else {
      let index = Math.floor(tier.random() * size)
      const stride = 1 + Math.floor(tier.random() * (size - 1))
      for (let choice = 0; choice < CHOICES; choice++) {
        this.compare(index)
        index += stride
        if (index >= size) index -= size
      }
      if (this.best === -1 && this.newcomer === -1) this.compareAll()
    }
    if (this.newcomer === -1) return this.best
    if (this.best === -1) return this.newcomer
    const average = this.load / this.seen
    const score = this.newcomerScore + average / (tier.weights[this.newcomer] as number)
    return score < this.bestScore || (score === this.bestScore && tier.random() * (this.seen + 1) < 1) ? this.newcomer : this.best
  }

  /** From a place drawn by chance, so that equal ones take turns. */
  private compareAll(): void {
    const { size } = this.tier
    const start = Math.floor(this.tier.random() * size)
    for (let index = start; index < size; index++) this.compare(index)
    for (let index = 0; index < start; index++) this.compare(index)
  }

  private compare(index: number): void {
    const { tier } = this
    const slot = tier.slots[index] as number
    const load = slot === 0 ? 0 : tier.cells.load(slot)
    if ((load & 2) !== 0 && !tier.ignoresHealth) return
    if (tier.tried?.includes(tier.targets[index]) === true) return
    const inFlight = load >> 2
    const weight = tier.weights[index] as number
    const score = (1 + inFlight) / (tier.slowStart === null ? weight : weight * tier.ramp(index))
    if ((load & 1) !== 0) {
      if (this.newcomer !== -1 && score >= this.newcomerScore) return
      this.newcomer = index
      this.newcomerScore = score
      return
    }
    this.seen++
    this.load += inFlight
    if (this.best !== -1 && score >= this.bestScore) return
    this.best = index
    this.bestScore = score
  }
}
