import { describe, expect, test } from 'vitest'
import { Lease } from '../../../src/cluster/lease.js'

function lease(): Lease {
  return new Lease({ keys: ['k'], args: [] }, 0, true)
}

function batch(units: number, validUntilMs: number) {
  return { units, validUntilMs, starts: [0] }
}

describe('lease', () => {
  test('spends what it holds, all of a cost or nothing, the first to end first', () => {
    const held = lease()
    held.add(batch(5, 200))
    held.add(batch(3, 100))
    expect(held.spend(9, 0)).toBe(false)
    expect(held.spend(4, 0)).toBe(true)
    expect(held.units(0)).toBe(4)
    // At 100 the earlier batch is over; it was spent first, so nothing is lost.
    expect(held.units(100)).toBe(4)
    expect(held.removeEnded(100)).toEqual([])
    expect(held.spend(4, 100)).toBe(true)
    expect(held.spend(1, 100)).toBe(false)
  })

  test('does not spend a batch from the moment at which it ends', () => {
    const held = lease()
    held.add(batch(5, 100))
    expect(held.spend(1, 99.9)).toBe(true)
    expect(held.spend(1, 100)).toBe(false)
    expect(held.removeEnded(100)).toEqual([batch(4, 100)])
    expect(held.units(0)).toBe(0)
  })

  test('a batch grows step by step to what the rate needs, and shrinks with it', () => {
    const held = lease()
    let now = 0
    const sizes: number[] = []
    const spendFor = (ms: number, perMs: number): void => {
      held.add(batch(ms * perMs, Number.POSITIVE_INFINITY))
      held.spend(ms * perMs, now)
      now += ms
      sizes.push(held.nextSize(500, now))
    }
    for (let round = 0; round < 6; round++) spendFor(100, 1)
    expect(sizes).toEqual([4, 16, 64, 256, 500, 500])
    for (let round = 0; round < 3; round++) spendFor(1000, 0.01)
    expect(sizes.slice(6)).toEqual([125, 31, 7])
  })

  test('asks for more before it is empty, but not for single units', () => {
    const held = lease()
    held.add(batch(100, 1000))
    expect(held.isLow(0)).toBe(false)
    for (let index = 0; index < 4; index++) {
      held.spend(20, index)
      held.nextSize(10, index + 1)
    }
    expect(held.units(4)).toBe(20)
    expect(held.isLow(4)).toBe(true)
  })
})
