/** Consistent hashing: the same key goes to the same node, as long as that may be picked. */

import { crc32 } from '../../base/crc32.js'
import type { Exchange } from '../../plugins/plugin.js'
import type { Balancer } from './balancer.js'
import type { Tier } from './tier.js'

/** Nodes whose load a pick sums up, on average. */
const RECKONED_NODES = 8

/** Where keys belong: a ring or a table. */
export interface HashPlaces {
  /** Begins a walk at the place of a hash (uint32) and returns its node. */
  first(hash: number): number
  /** The node of the next place of the walk; may repeat earlier ones. */
  next(): number
  /** Places after which a walk has seen all that it will see. */
  readonly length: number
}

export class HashBalancer implements Balancer {
  /** Walk in which a node was refused last. */
  private readonly refusedIn: Float64Array
  private walk = 0

  constructor(
    protected readonly tier: Tier,
    private readonly places: HashPlaces,
    private readonly key: (exchange: Exchange) => string,
  ) {
    this.refusedIn = new Float64Array(tier.size)
  }

  pick(exchange: Exchange): number {
    const { tier, places } = this
    if (tier.size === 1) return tier.allows(0) ? 0 : -1
    const home = places.first(crc32(this.key(exchange)))
    if (tier.isOpen) return home
    return this.walkFrom(home)
  }

  /** The first node from `home` on that is allowed and fits; a node that only does not fit is taken when no other does. */
  protected walkFrom(home: number): number {
    const { tier, places, refusedIn } = this
    const walk = ++this.walk
    let index = home
    let full = -1
    let refused = 0
    for (let place = 0; place < places.length; place++) {
      if (refusedIn[index] !== walk) {
        if (tier.allows(index)) {
          if (this.fits(index)) return index
          if (full === -1) full = index
        }
        refusedIn[index] = walk
        if (++refused === tier.size) return full
      }
      index = places.next()
    }
    return full === -1 ? tier.drawAllowed() : full
  }

  protected fits(_index: number): boolean {
    return true
  }
}

/**
 * With bounded loads (Mirrokni, Thorup, Zadimoghaddam 2016; `hash-balance-factor` in HAProxy): a node whose requests in flight would
 * pass `factor` times its fair share lets the key walk on.
 */
export class BoundedHash extends HashBalancer {
  /** Requests in flight per unit of weight that a node may have. */
  private bound = 0
  /** Picks until the bound is reckoned anew: every time with few nodes; with many, what all do changes slowly. */
  private picksLeft = 0

  constructor(
    tier: Tier,
    places: HashPlaces,
    key: (exchange: Exchange) => string,
    private readonly factor: number,
  ) {
    super(tier, places, key)
  }

  protected override walkFrom(home: number): number {
    if (--this.picksLeft <= 0) this.reckonBound()
    return super.walkFrom(home)
  }

  private reckonBound(): void {
    const { tier } = this
    this.picksLeft = Math.ceil(tier.size / RECKONED_NODES)
    let inFlight = this.picksLeft
    let weight = 0
    for (let index = 0; index < tier.size; index++) {
      const nodeLoad = tier.loadIfAllowed(index)
      if (nodeLoad === -1) continue
      inFlight += nodeLoad
      weight += tier.weights[index] as number
    }
    this.bound = weight === 0 ? 0 : (this.factor * inFlight) / weight
  }

  protected override fits(index: number): boolean {
    return this.tier.inFlight(index) < Math.ceil(this.bound * (this.tier.weights[index] as number))
  }
}
