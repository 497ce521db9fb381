/** The nodes of one priority, and which of them the pick under way may take. Runs on workers. */
import type { NodeCells } from '../../shared/node-cells.js'
import type { SlowStart } from './slow-start.js'

/** What is known about a node before any request. */
export interface TierMember<Target> {
  /** What a pick gives: a pool of connections. */
  readonly target: Target
  /** `address:port`; hashing places nodes by it. */
  readonly address: string
  readonly weight: number
  /** In shared/node-cells; 0 = nothing is known. */
  readonly slot: number
}

/**
 * `tried` and `ignoresHealth` are set by whoever asks a balancer, for the length of one pick, and keep the balancers free of
 * parameters and closures.
 */
export class Tier<Target = unknown> {
  readonly size: number
  readonly targets: readonly Target[]
  readonly addresses: readonly string[]
  readonly weights: Float64Array
  readonly slots: Int32Array
  /** Something is known about at least one of the nodes. */
  readonly isObserved: boolean
  tried: readonly unknown[] | null = null
  ignoresHealth = false

  /** Members must not be empty and have weights above 0. */
  constructor(
    members: readonly TierMember<Target>[],
    readonly cells: NodeCells,
    readonly slowStart: SlowStart | null,
    /** From 0 to below 1. */
    readonly random: () => number = Math.random,
  ) {
    this.size = members.length
    this.targets = members.map((member) => member.target)
    this.addresses = members.map((member) => member.address)
    this.weights = Float64Array.from(members, (member) => member.weight)
    this.slots = Int32Array.from(members, (member) => member.slot)
    this.isObserved = this.slots.some((slot) => slot !== 0)
  }

  /** Every node may be picked: no try has failed, and nothing is known that could speak against one. */
  get isOpen(): boolean {
    return this.tried === null && !this.isObserved
  }

  /** Whether the pick under way may take this node. */
  allows(index: number): boolean {
    if (this.tried !== null && this.tried.includes(this.targets[index])) return false
    const slot = this.slots[index] as number
    return slot === 0 || this.ignoresHealth || this.cells.status(slot) === 0
  }

  inFlight(index: number): number {
    const slot = this.slots[index] as number
    return slot === 0 ? 0 : this.cells.inFlight(slot)
  }

  /** Requests in flight of a node that the pick under way may take, -1 of others. For sums over all nodes: read once, and not atomically. */
  loadIfAllowed(index: number): number {
    const slot = this.slots[index] as number
    if (this.tried !== null && this.tried.includes(this.targets[index])) return -1
    if (slot === 0) return 0
    const load = this.cells.load(slot)
    return (load & 2) === 0 || this.ignoresHealth ? load >> 2 : -1
  }

  /** Share of its weight that the node has at the moment: below 1 while it starts slowly. */
  ramp(index: number): number {
    const slot = this.slots[index] as number
    return this.slowStart === null || slot === 0 ? 1 : this.slowStart.factor(this.cells, slot)
  }

  /** Any allowed node, drawn by weight; -1 = there is none. For balancers whose own way led nowhere. */
  drawAllowed(): number {
    let total = 0
    for (let index = 0; index < this.size; index++) if (this.allows(index)) total += this.weights[index] as number
    if (total === 0) return -1
    let rest = this.random() * total
    let last = -1
    for (let index = 0; index < this.size; index++) {
      if (!this.allows(index)) continue
      last = index
      rest -= this.weights[index] as number
      if (rest < 0) break
    }
    // Another thread may have closed the last one between the two passes.
    return last
  }
}
