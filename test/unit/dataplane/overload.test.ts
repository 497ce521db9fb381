import { describe, expect, test } from 'vitest'
import { Overload, rankOf } from '../../../src/dataplane/overload.js'

const GiB = 2 ** 30

describe('the level', () => {
  test('follows memory, and is left a tenth below where it began', () => {
    const overload = new Overload({ maxLagMs: 0, maxMemoryBytes: GiB, retryAfterSeconds: 1 })
    const levels = [0.5, 0.71, 0.73, 0.89, 0.91, 1.05, 1.09, 1, 0.98, 0.8, 0.7, 0.62, 0.1].map((share) => {
      overload.observe(1_000_000, share * GiB)
      return overload.level
    })
    expect(levels).toEqual([0, 0, 1, 1, 2, 2, 3, 3, 2, 1, 1, 0, 0])
  })

  test('follows the smoothed lag: one long turn is nothing, several are', () => {
    const overload = new Overload({ maxLagMs: 100, maxMemoryBytes: 0, retryAfterSeconds: 1 })
    expect(overload.observe(250, GiB)).toBe(false)
    for (let turn = 0; turn < 20; turn++) overload.observe(0, GiB)
    expect(overload.level).toBe(0)
    const levels = Array.from({ length: 12 }, () => {
      overload.observe(130, GiB)
      return overload.level
    })
    expect(levels.at(-1)).toBe(3)
    expect([...levels].sort()).toEqual(levels)
    for (let turn = 0; turn < 20; turn++) overload.observe(0, GiB)
    expect(overload.level).toBe(0)
  })

  test('says when it changed', () => {
    const overload = new Overload({ maxLagMs: 0, maxMemoryBytes: 100, retryAfterSeconds: 1 })
    expect([0, 200, 200, 0, 0].map((bytes) => overload.observe(0, bytes))).toEqual([false, true, false, true, false])
  })
})

test('priority of a route by its label', () => {
  expect(['low', 'normal', 'high', 'critical', 'P1'].map((priority) => rankOf({ priority }))).toEqual([0, 1, 2, 3, 1])
  expect(rankOf({})).toBe(1)
})
