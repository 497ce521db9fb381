/**
 * The ketama ring of APISIX (lua-resty-balancer) and of `hash … consistent` in nginx: 160 points per unit of weight, weights divided by
 * their greatest common divisor, chained CRC-32 from `address NUL port`. A key belongs to the first point at or above its hash. Same
 * nodes, same placement as there.
 */
import { crc32, crc32Word } from '../../base/crc32.js'
import type { HashPlaces } from './hash-balancer.js'
import { greatestCommonDivisor } from './round-robin.js'
import type { Tier } from './tier.js'

const POINTS_PER_WEIGHT = 160
/** Beyond so many points, weights are rounded: a ring of 2 MiB has a resolution that nobody misses. */
const POINTS_MAX = 2 ** 18

export class KetamaRing implements HashPlaces {
  readonly length: number
  private readonly hashes: Uint32Array
  private readonly owners: Uint32Array
  /** First point at or above each stretch of the ring; stretches are 2^shift wide. */
  private readonly entries: Uint32Array
  private readonly shift: number
  private position = 0

  constructor(tier: Tier) {
    const { weights, addresses } = tier
    const divisor = weights.reduce(greatestCommonDivisor, 0)
    const total = weights.reduce((sum, weight) => sum + weight / divisor, 0) * POINTS_PER_WEIGHT
    const scale = Math.min(1, POINTS_MAX / total)
    const counts = Array.from(weights, (weight) => Math.max(1, Math.round((weight / divisor) * POINTS_PER_WEIGHT * scale)))
    this.length = counts.reduce((sum, count) => sum + count, 0)
    // Hash and owner in one exact double, so that the native sort of numbers orders both.
    const points = new Float64Array(this.length)
    let filled = 0
    for (const [owner, count] of counts.entries()) {
      // Not finished, as in nginx: the points go on from it.
      const base = ~crc32(identityOf(addresses[owner] as string))
      let previous = 0
      for (let point = 0; point < count; point++) {
        previous = crc32Word(base, previous)
        points[filled++] = previous * 2 ** 20 + owner
      }
    }
    points.sort()
    this.hashes = Uint32Array.from(points, (point) => Math.floor(point / 2 ** 20))
    this.owners = Uint32Array.from(points, (point) => point % 2 ** 20)
    // About one point per stretch.
    this.shift = Math.clz32(this.length - 1)
    this.entries = new Uint32Array(2 ** (32 - this.shift))
    let position = 0
    for (let stretch = 0; stretch < this.entries.length; stretch++) {
      while (position < this.length && (this.hashes[position] as number) < stretch * 2 ** this.shift) position++
      this.entries[stretch] = position
    }
  }

  first(hash: number): number {
    const { hashes } = this
    let position = this.entries[hash >>> this.shift] as number
    while (position < this.length && (hashes[position] as number) < hash) position++
    this.position = position === this.length ? 0 : position
    return this.owners[this.position] as number
  }

  next(): number {
    this.position = this.position + 1 === this.length ? 0 : this.position + 1
    return this.owners[this.position] as number
  }
}

/** `10.0.0.1:80` as APISIX names it on the ring. */
function identityOf(address: string): string {
  return address.replaceAll(':', '\0')
}
