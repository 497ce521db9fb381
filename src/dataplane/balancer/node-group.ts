/** Nodes that one request may go to, tier by tier. Runs on workers. */
import type { Exchange } from '../../plugins/plugin.js'
import type { Balancer } from './balancer.js'
import type { Tier } from './tier.js'

export interface BalancedTier<Target> {
  readonly tier: Tier<Target>
  readonly balancer: Balancer
}

export class NodeGroup<Target> {
  /** Slot of the node that was picked last; read it before anything else picks. */
  pickedSlot = 0

  /** Highest priority first. */
  constructor(private readonly tiers: readonly BalancedTier<Target>[]) {}

  /**
   * The node for the next try: from the first tier that has one that was not tried and, unless `ignoresHealth`, is usable. Null =
   * no tier has.
   */
  pick(exchange: Exchange, tried: readonly Target[] | null, ignoresHealth: boolean): Target | null {
    const { tiers } = this
    for (let place = 0; place < tiers.length; place++) {
      const { tier, balancer } = tiers[place] as BalancedTier<Target>
      tier.tried = tried
      tier.ignoresHealth = ignoresHealth
      const index = balancer.pick(exchange)
      if (index < 0) continue
      this.pickedSlot = tier.slots[index] as number
      return tier.targets[index] as Target
    }
    return null
  }
}
