import { describe, expect, test } from 'vitest'
import { Overload, rankOf } from '../../../src/dataplane/overload.js'

const GiB = 2 ** 30

describe('the level', () => {
  test('follows memory, and is left a tenth below where it began', () => {
    const overload = new Overload({ maxLagMs: 0, maxMemoryBytes: GiB, retryAfterSeconds: 1 })
    const levels = [0.5, 0.71, 0.73, 0.89, 0.91, 1.05, 1.09, 1, 0.98, 0.8, 0.7, 0.62, 0.1].map((share) => {
      overload.observe(1_000_000, share * GiB, 0)
      return overload.level
    })
    expect(levels).toEqual([0, 0, 1, 1, 2, 2, 3, 3, 2, 1, 1, 0, 0])
  })

  test('follows the smoothed lag: one long turn is nothing, several are', () => {
    const overload = new Overload({ maxLagMs: 100, maxMemoryBytes: 0, retryAfterSeconds: 1 })
    expect(overload.observe(250, GiB, 0)).toBe(false)
    for (let turn = 0; turn < 20; turn++) overload.observe(0, GiB, 0)
    expect(overload.level).toBe(0)
    const levels = Array.from({ length: 12 }, () => {
      overload.observe(130, GiB, 0)
      return overload.level
    })
    expect(levels.at(-1)).toBe(3)
    expect([...levels].sort()).toEqual(levels)
    for (let turn = 0; turn < 20; turn++) overload.observe(0, GiB, 0)
    expect(overload.level).toBe(0)
  })

  test('memory that the engine has given back, but not the allocator, is there for the next requests', () => {
    const overload = new Overload({ maxLagMs: 0, maxMemoryBytes: 1000, retryAfterSeconds: 1 })
    const level = (resident: number, held: number): number => {
      overload.observe(0, resident, held)
      return overload.level
    }
    expect([level(500, 100), level(950, 500)]).toEqual([0, 2])
    expect(overload.isShortOfMemory).toBe(true)
    // Freed, and the process is as large as before; some of it goes back to the system.
    expect([level(950, 480), level(950, 100), level(800, 100)]).toEqual([2, 0, 0])
    expect(overload.isShortOfMemory).toBe(false)
    // Filled again: as at first. A little above the former peak it still is; much beyond, it is something else that grows.
    expect([level(950, 500), level(940, 100), level(960, 100)]).toEqual([2, 0, 0])
    expect([level(1010, 100), level(1100, 100), level(1100, 0), level(1000, 0)]).toEqual([1, 3, 3, 3])
  })

  test('says when it changed', () => {
    const overload = new Overload({ maxLagMs: 0, maxMemoryBytes: 100, retryAfterSeconds: 1 })
    expect([0, 200, 200, 0, 0].map((bytes) => overload.observe(0, bytes, 0))).toEqual([false, true, false, true, false])
  })
})

test('priority of a route by its label', () => {
  expect(['low', 'normal', 'high', 'critical', 'P1'].map((priority) => rankOf({ priority }))).toEqual([0, 1, 2, 3, 1])
  expect(rankOf({})).toBe(1)
})
