/** The map of digests against a Map, with keys that stand in each other's way. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { DigestMap } from '../../src/base/digest-map.js'

const SEED = 20266

// Few first bytes: most keys want the same places, some have the same mark.
const key = fc
  .tuple(fc.integer({ min: 0, max: 3 }), fc.constantFrom('\u0000', 'a', '\u00ff'), fc.integer({ min: 0, max: 20 }))
  .map(([first, second, rest]) => `${String.fromCharCode(first * 62)}${second}\u0000${String.fromCharCode(rest & 1)}${rest}`)
const step = fc.tuple(fc.constantFrom('set', 'set', 'delete', 'get'), key)

test(`finds what is in it and nothing else (seed ${SEED})`, () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 400, size: 'max' }), (steps) => {
      const map = new DigestMap<{ key: string; turn: number }>()
      const model = new Map<string, { key: string; turn: number }>()
      for (const [turn, [what, name]] of steps.entries()) {
        if (what === 'delete') expect(map.delete(name)).toBe(model.delete(name))
        else if (what === 'get') expect(map.get(name)).toBe(model.get(name))
        else {
          const entry = { key: name, turn }
          map.set(name, entry)
          model.set(name, entry)
        }
        expect(map.size).toBe(model.size)
      }
      for (const [name, entry] of model) expect(map.get(name)).toBe(entry)
      expect(new Set(map.values())).toEqual(new Set(model.values()))
    }),
    { seed: SEED, numRuns: 200 },
  )
})
