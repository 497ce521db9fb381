import { describe, expect, test } from 'vitest'
import { createRegions } from '../../src/shared/regions.js'
import { ROTOR_CELLS, RotorAllocator, Rotors } from '../../src/shared/rotors.js'

/** A region whose slot 0 stands before its pick number `turns` (below 2^32), as that many picks would have left it. */
function rotorsAt(turns: number): Rotors {
  const { rotors } = createRegions(1)
  const cells = new Uint32Array(rotors)
  cells[0] = turns
  cells[1] = turns > 3 * 2 ** 30 ? 1 : 0
  cells[2] = turns > 2 ** 30 ? 1 : 0
  return new Rotors(rotors)
}

describe('rotors', () => {
  test('slots count from zero, each for itself', () => {
    const rotors = new Rotors(createRegions(1).rotors)
    expect([rotors.next(0), rotors.next(0), rotors.next(1), rotors.next(0), rotors.next(1)]).toEqual([0, 1, 0, 2, 1])
  })

  test.each([2 ** 30, 2 ** 31, 3 * 2 ** 30, 2 ** 32])('no number is left out or repeated around pick %d', (mark) => {
    const start = mark - 5
    const rotors = rotorsAt(start)
    expect(Array.from({ length: 10 }, () => rotors.next(0))).toEqual(Array.from({ length: 10 }, (_, index) => start + index))
  })

  test('stays exact through later rounds', () => {
    const { rotors: region } = createRegions(1)
    const cells = new Uint32Array(region)
    const rotors = new Rotors(region)
    // The state at the end of round 6: `turns` at its last value, both wrap counts moved in every round so far.
    cells.set([2 ** 32 - 2, 7, 7])
    const picks = Array.from({ length: 4 }, () => rotors.next(0))
    const first = 6 * 2 ** 32 + 2 ** 32 - 2
    expect(picks).toEqual([first, first + 1, first + 2, first + 3])
  })

  test('the cycle of a length that does not divide 2^32 is whole across the wrap', () => {
    const rotors = rotorsAt(2 ** 32 - 7)
    const seen = new Array<number>(10).fill(0)
    for (let pick = 0; pick < 1000; pick++) {
      const position = rotors.next(0) % 10
      seen[position] = (seen[position] ?? 0) + 1
    }
    expect(seen).toEqual(new Array(10).fill(100))
  })

  test('a region of another layout is refused', () => {
    expect(() => new Rotors(new SharedArrayBuffer(64 * ROTOR_CELLS))).toThrow('shared region "rotors" has 256 bytes')
  })
})

describe('rotor allocator', () => {
  test('a key keeps its slot', () => {
    const allocator = new RotorAllocator(() => expect.unreachable())
    expect([allocator.slot('a'), allocator.slot('b'), allocator.slot('a'), allocator.slot('c')]).toEqual([0, 1, 0, 2])
  })

  test('when full, keys share slots stably and say so once', () => {
    const shared: [string, number][] = []
    const allocator = new RotorAllocator((key, slot) => shared.push([key, slot]), 2)
    allocator.slot('a')
    allocator.slot('b')
    const slot = allocator.slot('c')
    expect(slot === 0 || slot === 1).toBe(true)
    expect(allocator.slot('c')).toBe(slot)
    expect(shared).toEqual([['c', slot]])
  })
})
