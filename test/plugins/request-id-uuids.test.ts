import { expect, test } from 'vitest'
import { uuidSource } from '../../src/plugins/request-id/uuids.js'

test('identifiers are version 4 of RFC 9562, and no two are the same, over many batches and sources', () => {
  const sources = [uuidSource(), uuidSource()]
  const seen = new Set<string>()
  const varied = new Set<string>()
  for (let count = 0; count < 2000; count++) {
    for (const next of sources) {
      const id = next()
      expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
      seen.add(id)
      for (let place = 0; place < id.length; place++) varied.add(`${place}${id[place]}`)
    }
  }
  expect(seen.size).toBe(4000)
  // 30 places with all 16 digits, the version, 4 digits of the variant, 4 dashes: nothing stands still that should be random.
  expect(varied.size).toBe(30 * 16 + 1 + 4 + 4)
})
