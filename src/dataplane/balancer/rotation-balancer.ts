/** Weighted round robin and weighted random: both visit the places of one cycle, in turn or by chance. */
import type { Balancer, BalancerTools } from './balancer.js'
import { RoundRobin } from './round-robin.js'
import type { Tier } from './tier.js'

/** Draws before the choice among what is left is made by looking at every node. */
const DRAWS_MAX = 32

abstract class RotationBalancer implements Balancer {
  protected readonly rotation: RoundRobin
  private readonly draws: number

  constructor(protected readonly tier: Tier) {
    this.rotation = new RoundRobin([...tier.weights])
    this.draws = Math.min(DRAWS_MAX, 2 * tier.size)
  }

  protected abstract draw(): number

  pick(): number {
    const { tier } = this
    if (tier.isOpen) return tier.size === 1 ? 0 : this.draw()
    if (tier.size === 1) return tier.allows(0) ? 0 : -1
    // A refused place passes its turn on, so that the others keep their proportion to each other.
    for (let draws = 0; draws < this.draws; draws++) {
      const index = this.draw()
      if (!tier.allows(index)) continue
      const share = tier.ramp(index)
      if (share >= 1 || tier.random() < share) return index
    }
    return tier.drawAllowed()
  }
}

/** Exact per cycle over all workers. */
export class RoundRobinBalancer extends RotationBalancer {
  constructor(
    tier: Tier,
    private readonly tools: BalancerTools,
  ) {
    super(tier)
  }

  protected draw(): number {
    return this.rotation.pick(this.tools.next())
  }
}

export class RandomBalancer extends RotationBalancer {
  protected draw(): number {
    return this.rotation.pick(Math.floor(this.tier.random() * this.rotation.cycle))
  }
}
