/** The balancers behind `type` of an upstream, all of one form. Runs on workers; linked once per upstream and set of addresses. */
import type { Exchange } from '../../plugins/plugin.js'
import type { BalancerType, CompiledBalancing } from '../../schema/compiled.js'
import { Ewma } from './ewma.js'
import { BoundedHash, HashBalancer } from './hash-balancer.js'
import { compileHashKey } from './hash-key.js'
import { KetamaRing } from './ketama.js'
import { LeastConnections } from './least-connections.js'
import { MaglevTable } from './maglev.js'
import { RandomBalancer, RoundRobinBalancer } from './rotation-balancer.js'
import type { Tier } from './tier.js'

export interface Balancer {
  /**
   * Index of the node for the next try, among those that the tier allows; -1 = there is none. Allocates nothing and waits for
   * nothing. Whoever picks sets `tried` and `ignoresHealth` of the tier before.
   */
  pick(exchange: Exchange): number
}

export interface BalancerTools {
  /** Next number of the upstream's shared rotor. */
  next(): number
  nowMs(): number
}

/** The balancer of an upstream over one of its tiers. */
export function createBalancer(type: BalancerType, options: CompiledBalancing, tier: Tier, tools: BalancerTools): Balancer {
  switch (type) {
    case 'roundrobin':
      return new RoundRobinBalancer(tier, tools)
    case 'random':
      return new RandomBalancer(tier)
    case 'least_conn':
      return new LeastConnections(tier)
    case 'ewma':
      return new Ewma(tier, options.ewmaDecayMs, tools.nowMs)
    case 'chash': {
      const { hash } = options
      if (hash === null) throw new Error('an upstream of type chash has no hash options')
      const places = hash.algorithm === 'maglev' ? new MaglevTable(tier) : new KetamaRing(tier)
      const key = compileHashKey(hash)
      return hash.balanceFactor === 0 ? new HashBalancer(tier, places, key) : new BoundedHash(tier, places, key, hash.balanceFactor / 100)
    }
  }
}
