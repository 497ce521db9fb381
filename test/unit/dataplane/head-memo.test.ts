import { expect, test } from 'vitest'
import { HeadMemo } from '../../../src/dataplane/upstream/head-memo.js'
import { parseResponseHead, type ResponseHead } from '../../../src/dataplane/upstream/response-head.js'

function headOf(text: string): ResponseHead {
  const bytes = Buffer.from(text, 'latin1')
  const head = parseResponseHead(bytes, 0, bytes.length)
  if (typeof head === 'string') throw new Error(head)
  return head
}

/** Heads of every length modulo four. */
const texts = ['', 'a', 'ab', 'abc'].map((value) => `HTTP/1.1 200 OK\r\nX-Value: ${value}\r\nContent-Length: 0\r\n\r\n`)

test.each([0, 1, 4])('a head is known again byte for byte, wherever it lies (buffer at offset %i)', (offset) => {
  const buffer = Buffer.from(new ArrayBuffer(4096), offset, 2048)
  const memo = new HeadMemo(buffer)
  for (const text of texts) {
    const head = headOf(text)
    memo.remember(head)
    for (const start of [0, 1, 4, 700]) {
      const end = start + text.length
      buffer.write(text, start, 'latin1')
      expect(memo.find(buffer, start, end)).toBe(head)
      expect(memo.find(buffer, start, end + 5)).toBe(head)
      expect(memo.find(buffer, start, end - 1)).toBeNull()
      for (let index = start; index < end; index++) {
        buffer[index] = (buffer[index] ?? 0) ^ 1
        expect(memo.find(buffer, start, end)).toBeNull()
        buffer[index] = (buffer[index] ?? 0) ^ 1
        expect(memo.find(buffer, start, end)).toBe(head)
      }
    }
    const elsewhere = Buffer.from(text, 'latin1')
    expect(memo.find(elsewhere, 0, elsewhere.length)).toBe(head)
  }
})

test('it is given up when nothing repeats, until the next sweep', () => {
  const buffer = Buffer.alloc(1024)
  const memo = new HeadMemo(buffer)
  const head = headOf('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
  memo.remember(head)
  for (let count = 0; count < 64; count++) expect(memo.find(buffer, 0, 500)).toBeNull()
  expect(memo.head).toBe(head)
  expect(memo.find(buffer, 0, 500)).toBeNull()
  expect(memo.head).toBeNull()
  memo.remember(head)
  expect(memo.head).toBeNull()
  memo.sweep()
  memo.remember(head)
  expect(memo.head).toBe(head)
})
