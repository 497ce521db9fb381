import { expect, test } from 'vitest'
import { LinkedRecords } from '../../../src/dataplane/linked-records.js'
import { packRecords, RecordStore } from '../../../src/shared/packed-records.js'

const records = (count: number) => Array.from({ length: count }, (_, index) => ({ name: `record ${index}` }))

test('a record is linked once, and stays linked over changes of others', () => {
  const packed = packRecords(records(40))
  const store = new RecordStore(packed)
  let links = 0
  const link = (record: { name: string }) => ({ record, link: links++ })
  const first = LinkedRecords.of(packed, link)
  const kept = first.get(3)
  const neighbour = first.get(4)
  first.get(31)
  expect(first.get(3)).toBe(kept)
  expect(links).toBe(3)
  const second = first.with(store.change(new Map([[4, { name: 'another' }]])), link)
  expect(second.get(3)).toBe(kept)
  expect(second.get(4).record.name).toBe('another')
  // Requests that began with the older snapshot go on with what it had.
  expect(first.get(4)).toBe(neighbour)
  // A block that nobody touched is shared: what one of them links, the other has.
  expect(second.get(30)).toBe(first.get(30))
})

test('records come and go at any place', () => {
  const store = new RecordStore(packRecords(records(2)))
  const link = (record: { name: string }) => record.name
  let table = LinkedRecords.of(store.pack(), link)
  table = table.with(
    store.change(
      new Map<number, unknown>([
        [0, null],
        [2, { name: 'third' }],
      ]),
    ),
    link,
  )
  expect(() => table.get(0)).toThrow('record 0 does not exist')
  expect([table.get(1), table.get(2)]).toEqual(['record 1', 'third'])
  table = table.with(store.change(new Map([[40, { name: 'far away' }]])), link)
  expect([table.get(40), table.count]).toEqual(['far away', 41])
  expect(() => table.get(20)).toThrow(RangeError)
  const whole = LinkedRecords.of<{ name: string }, string>(store.pack(), link)
  expect([whole.get(1), whole.get(2), whole.get(40)]).toEqual(['record 1', 'third', 'far away'])
})
