/** A block of fields in a header list is what its fields would be one by one, whoever looks and whenever. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { HeaderBlock, HeaderList } from '../../src/base/headers.js'

const SEED = 20271
const block = new HeaderBlock(['X-Consumer-Username', 'X-Two'], ['jack', '2'])

type Operation = (headers: HeaderList) => unknown

const names = fc.constantFrom('Accept', 'X-Two', 'X-Consumer-Username', 'x-two')
const operation: fc.Arbitrary<Operation> = fc.oneof(
  names.map(
    (name): Operation =>
      (headers) =>
        headers.get(name.toLowerCase()),
  ),
  names.map(
    (name): Operation =>
      (headers) =>
        headers.getAll(name.toLowerCase()),
  ),
  names.map(
    (name): Operation =>
      (headers) =>
        headers.has(name.toLowerCase()),
  ),
  names.map(
    (name): Operation =>
      (headers) =>
        headers.remove(name.toLowerCase()),
  ),
  fc.tuple(names, fc.string({ maxLength: 3 })).map(
    ([name, value]): Operation =>
      (headers) =>
        headers.set(name, value),
  ),
  fc.tuple(names, fc.string({ maxLength: 3 })).map(
    ([name, value]): Operation =>
      (headers) =>
        headers.add(name, value),
  ),
  fc.constant<Operation>((headers) => headers.count),
)

/** A checked list with one field of a client, and the block: in one piece, or field by field. */
function listWith(isWhole: boolean): HeaderList {
  const headers = new HeaderList()
  headers.push('accept', 'Accept', '*/*')
  headers.allChecked()
  if (isWhole) headers.setBlock(block)
  else for (const [index, key] of block.keys.entries()) headers.push(key, block.names[index] ?? '', block.values[index] ?? '')
  return headers
}

function fields(headers: HeaderList): string[] {
  const { count, keys, names: spelt, values } = headers
  return Array.from({ length: count }, (_, index) => `${keys[index]} ${spelt[index]}: ${values[index]}`)
}

describe('a block of fields', () => {
  test(`answers and changes as its fields do (seed ${SEED})`, () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 6 }), (operations) => {
        const [whole, apart] = [listWith(true), listWith(false)]
        for (const run of operations) expect(run(whole)).toEqual(run(apart))
        expect(fields(whole)).toEqual(fields(apart))
        expect(whole.checkedCount).toBe(apart.checkedCount)
        expect(whole.blockLines).toBe('')
      }),
      { seed: SEED, numRuns: 300 },
    )
  })

  test('stays in one piece until somebody asks for fields', () => {
    const headers = listWith(true)
    expect([headers.countBeforeBlock, headers.blockLines]).toEqual([1, 'X-Consumer-Username: jack\r\nX-Two: 2\r\n'])
    expect(headers.count).toBe(3)
    expect([headers.countBeforeBlock, headers.blockLines]).toEqual([3, ''])
  })

  test('is replaced by the next one, and forgotten with the request', () => {
    const headers = listWith(true)
    headers.setBlock(new HeaderBlock(['X-Three'], ['3']))
    expect(headers.blockLines).toBe('X-Three: 3\r\n')
    headers.reset()
    expect([headers.blockLines, headers.count]).toEqual(['', 0])
  })
})
