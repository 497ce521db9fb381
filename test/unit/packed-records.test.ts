import { expect, test } from 'vitest'
import { packRecords, RecordReader } from '../../src/shared/packed-records.js'

test('records come back as they were, in any order', () => {
  const items = [{ a: [1, null, 'ü😀'] }, '', 7, [], { nested: { deep: true } }]
  const reader = new RecordReader(packRecords(items))
  expect(reader.count).toBe(5)
  for (const index of [4, 0, 2, 1, 3]) expect(reader.read(index)).toEqual(items[index])
})

test('what is not there is an error', () => {
  const reader = new RecordReader(packRecords([]))
  expect(reader.count).toBe(0)
  expect(() => reader.read(0)).toThrow('record 0 does not exist: there are 0')
  expect(() => new RecordReader(packRecords([1])).read(-1)).toThrow(RangeError)
  expect(() => packRecords([1, undefined])).toThrow('record 1 cannot be packed')
})
