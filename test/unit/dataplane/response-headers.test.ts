/** Header fields of an answer: the lazy form must be indistinguishable from the list. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { HeaderList } from '../../../src/base/headers.js'
import { NumberFields } from '../../../src/base/number-fields.js'
import { ResponseHeaders } from '../../../src/dataplane/response/response-headers.js'
import { fillHeaderList, parseResponseHead, type ResponseHead } from '../../../src/dataplane/upstream/response-head.js'
import { fieldsOf } from './parts.js'

const SEED = 31337

function headOf(lines: readonly string[]): ResponseHead {
  const bytes = Buffer.from(`HTTP/1.1 200 OK\r\n${lines.map((line) => `${line}\r\n`).join('')}\r\n`, 'latin1')
  const head = parseResponseHead(bytes, 0, bytes.length)
  if (typeof head === 'string') throw new Error(head)
  return head
}

describe('ResponseHeaders', () => {
  test('fields that are set go behind the block as it came', () => {
    const headers = new ResponseHeaders()
    headers.fromHead(headOf(['Server: s', 'X-A:  odd  spacing']))
    headers.set('X-New', '1')
    expect(headers.block(200)).toBe('200 OK\r\nServer: s\r\nX-A:  odd  spacing\r\nX-New: 1')
  })

  test('asking for a field that is not there leaves the block as it came', () => {
    const headers = new ResponseHeaders()
    headers.fromHead(headOf(['Server: s']))
    expect([headers.has('x-new'), headers.has('server')]).toEqual([false, true])
    headers.fromHead(headOf(['Server: s']))
    expect(headers.has('x-new')).toBe(false)
    headers.set('X-New', '1')
    expect(headers.has('x-new')).toBe(true)
    expect(headers.block(200)).toBe('200 OK\r\nServer: s\r\nX-New: 1')
  })

  test('a field that is there already is replaced, whatever its case', () => {
    const headers = new ResponseHeaders()
    headers.fromHead(headOf(['x-ratelimit-limit: 7', 'Server: s']))
    headers.set('X-RateLimit-Limit', '5')
    expect(headers.block(200)).toBeNull()
    expect(fieldsOf(headers)).toEqual([
      ['x-ratelimit-limit', '5'],
      ['server', 's'],
    ])
  })

  test('another status, or bytes beyond ASCII, take the block apart', () => {
    const headers = new ResponseHeaders()
    headers.fromHead(headOf(['Server: s']))
    expect(headers.block(201)).toBeNull()
    headers.fromHead(headOf(['X-Latin: caf\xe9']))
    headers.set('X-New', '1')
    expect(headers.block(200)).toBeNull()
    expect(headers.get('x-latin')).toBe('caf\xe9')
  })

  test('nothing set can end a line or touch framing', () => {
    const headers = new ResponseHeaders()
    headers.fromHead(headOf(['Server: s']))
    headers.set('X-New', 'a\r\nX-Evil: 1')
    expect(headers.block(200)).toBeNull()
    headers.fromHead(headOf(['Server: s']))
    headers.set('Content-Length', '5')
    expect(headers.block(200)).toBeNull()
  })

  test('numbers go behind a head as bytes, whatever their lengths were before', () => {
    const fields = new NumberFields(['X-Limit', 'X-Left', 'X-Reset'], [false, false, true])
    const head = headOf(['Server: s'])
    const headers = new ResponseHeaders()
    const shown: string[] = []
    for (const numbers of [
      [10, 10, 6000],
      [10, 9, 5999],
      [10, 0, 5950],
      [10, 7, 5905],
      [2_147_483_647, 2_147_483_646, 60],
      [4_294_967_296, 5, 0],
    ]) {
      fields.numbers.set(numbers)
      headers.fromHead(head)
      headers.setNumbers(fields)
      shown.push(Buffer.from(headers.bytes(200) ?? []).toString('latin1'))
    }
    expect(shown).toEqual(
      ['10 10 60', '10 9 59.99', '10 0 59.5', '10 7 59.05', '2147483647 2147483646 0.6', '4294967296 5 0'].map((line) => {
        const [limit, left, reset] = line.split(' ')
        return `200 OK\r\nServer: s\r\nX-Limit: ${limit}\r\nX-Left: ${left}\r\nX-Reset: ${reset}`
      }),
    )
  })

  test('numbers of another answer do not show in one that is still being made', () => {
    const fields = new NumberFields(['X-Left'])
    const head = headOf(['Server: s'])
    const [first, second] = [new ResponseHeaders(), new ResponseHeaders()]
    fields.numbers[0] = 5
    first.fromHead(head)
    first.setNumbers(fields)
    fields.numbers[0] = 4
    second.fromHead(head)
    second.setNumbers(fields)
    expect(Buffer.from(second.bytes(200) ?? []).toString()).toContain('X-Left: 4')
    expect(Buffer.from(first.bytes(200) ?? []).toString()).toContain('X-Left: 5')
    first.set('X-More', '1')
    expect(first.bytes(200)).toBeNull()
    expect(first.block(200)).toBe('200 OK\r\nServer: s\r\nX-Left: 5\r\nX-More: 1')
  })

  test(`any sequence of changes gives the same fields as a plain list (seed ${SEED})`, () => {
    const name = fc.constantFrom('X-A', 'x-a', 'X-B', 'Server', 'ETag', 'X-AB', 'X')
    const value = fc.constantFrom('1', 'two', '', 'caf\xe9', 'a: b')
    const change = fc.oneof(
      fc.record({ kind: fc.constant('set' as const), name, value }),
      fc.record({ kind: fc.constant('add' as const), name, value }),
      fc.record({ kind: fc.constant('remove' as const), name, value }),
      fc.record({ kind: fc.constant('get' as const), name, value }),
      fc.record({ kind: fc.constant('has' as const), name, value }),
      fc.record({ kind: fc.constant('numbers' as const), name, value }),
    )
    // They live as long as a binding: what one answer left in them must not show in the next.
    const groups = new Map(
      ['X-A', 'X-B', 'Server', 'ETag', 'X'].map((first) => [first.toLowerCase(), new NumberFields([first, 'X-Left'], [false, true])]),
    )
    let number = 0
    fc.assert(
      fc.property(
        fc.array(fc.tuple(name, value), { maxLength: 4 }),
        fc.array(change, { maxLength: 6 }),
        fc.boolean(),
        (start, changes, upstream) => {
          const plain = new HeaderList()
          const lazy = new ResponseHeaders()
          if (upstream) {
            const head = headOf(start.map(([key, text]) => `${key}: ${text}`))
            fillHeaderList(head, plain)
            lazy.fromHead(head)
          } else {
            for (const [key, text] of start) plain.add(key, text)
            lazy.fromPairs(start)
          }
          for (const item of changes) {
            const group = groups.get(item.name.toLowerCase())
            number = (number * 7919 + 13) % 2_147_483_647
            group?.numbers.set([number % 3 === 0 ? number % 12 : number, number % 4321])
            for (const list of [plain, lazy]) {
              if (item.kind === 'numbers' && group !== undefined) list.setNumbers(group)
              else if (item.kind === 'set') list.set(item.name, item.value)
              else if (item.kind === 'add') list.add(item.name, item.value)
              else if (item.kind === 'remove') list.remove(item.name.toLowerCase())
            }
            if (item.kind === 'has') expect(lazy.has(item.name.toLowerCase())).toBe(plain.has(item.name.toLowerCase()))
            if (item.kind === 'get') expect(lazy.get(item.name.toLowerCase())).toBe(plain.get(item.name.toLowerCase()))
          }
          const bytes = lazy.bytes(200)
          const asText = bytes === null ? null : Buffer.from(bytes).toString('latin1')
          const block = lazy.block(200)
          if (bytes !== null) expect(asText).toBe(block)
          if (block !== null) {
            const again = new HeaderList()
            fillHeaderList(headOf(block.split('\r\n').slice(1)), again)
            expect(fieldsOf(again)).toEqual(fieldsOf(plain))
          }
          expect(fieldsOf(lazy)).toEqual(fieldsOf(plain))
        },
      ),
      { seed: SEED, numRuns: 1000 },
    )
  })
})
