/**
 * Weighted round robin, exact over a cycle across all workers.
 *
 * A cycle is the sum of the weights divided by their greatest common divisor. The shared rotor gives every pick of every thread its own
 * number; a number's place in the cycle decides the node, so that any `cycle` consecutive picks, whoever makes them, hit each node
 * exactly in proportion. Places are visited in steps of about 0.618 × cycle (coprime to it), which spreads a heavy node's turns.
 */
export class RoundRobin {
  readonly cycle: number
  private readonly step: number
  /** cumulative[i] = places before node i + its own. Doubles: a few thousand heavy nodes leave 32 bits. */
  private readonly cumulative: Float64Array
  /** Node by place, when the cycle is short enough to be written out. */
  private readonly table: Uint16Array | null

  /** Weights ≥ 0, at least one > 0. */
  constructor(weights: readonly number[]) {
    const divisor = weights.reduce(greatestCommonDivisor, 0)
    if (divisor === 0) throw new Error('all weights are 0')
    this.cumulative = new Float64Array(weights.length)
    let total = 0
    weights.forEach((weight, index) => {
      total += weight / divisor
      this.cumulative[index] = total
    })
    this.cycle = total
    this.step = coprimeStep(total)
    this.table =
      total <= 65536 && weights.length <= 65535 ? Uint16Array.from({ length: total }, (_, turn) => this.search(this.place(turn))) : null
  }

  /** Index of the node for pick number `turn` (any integer ≥ 0). */
  pick(turn: number): number {
    const position = turn % this.cycle
    return this.table !== null ? (this.table[position] as number) : this.search(this.place(position))
  }

  private place(position: number): number {
    // The product of both factors leaves the exact range of a double when the cycle is above 2^26.
    return this.cycle < 67108864 ? (position * this.step) % this.cycle : Number((BigInt(position) * BigInt(this.step)) % BigInt(this.cycle))
  }

  private search(place: number): number {
    let low = 0
    let high = this.cumulative.length - 1
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.cumulative[middle] as number) > place) high = middle
      else low = middle + 1
    }
    return low
  }
}

export function greatestCommonDivisor(a: number, b: number): number {
  let x = a
  let y = b
  while (y !== 0) [x, y] = [y, x % y]
  return x
}

function coprimeStep(cycle: number): number {
  if (cycle <= 2) return 1
  let step = Math.max(1, Math.round(cycle * 0.6180339887))
  while (greatestCommonDivisor(step, cycle) !== 1) step++
  return step
}
