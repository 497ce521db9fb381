/**
 * Hash of keys: 64 bits in two 32-bit lanes, seeded per process, so that nobody outside can make keys collide. Two keys that collide all
 * the same (at 10 million live keys: once in 370,000 tables) share one counter, which is the stricter side.
 */

/** Two lanes; reused. */
export class KeyHash {
  high = 0
  low = 0
}

/** Finalizer: every bit of the input moves every bit of the output. */
export function mix(value: number): number {
  let mixed = Math.imul(value ^ (value >>> 16), 0x21f0aaad)
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97)
  return mixed ^ (mixed >>> 15)
}

/** Hashes `text` into `out`, starting from a seed of two lanes. */
export function hashText(text: string, seedHigh: number, seedLow: number, out: KeyHash): void {
  const { length } = text
  let high = seedHigh ^ length
  let low = seedLow
  // Two characters a step: what costs is the chain of multiplications.
  for (let index = 0; index < length; index += 2) {
    const code = text.charCodeAt(index) | (index + 1 < length ? text.charCodeAt(index + 1) << 16 : 0)
    high = Math.imul(high ^ code, 0x9e3779b1)
    high ^= high >>> 15
    low = Math.imul(((low << 13) | (low >>> 19)) ^ code, 0x85ebca6b)
  }
  out.high = mix(high ^ Math.imul(low, 0x2c1b3c6d))
  out.low = mix(low + high)
}
