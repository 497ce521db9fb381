/** Bytes looked at four at a time say what single ones say. */
import { expect, test } from 'vitest'
import { isPlainByte, isPlainWord, sameWords, wordsOf } from '../../src/base/byte-words.js'

test('a word is plain exactly if all of its bytes are', () => {
  const bytes = new Uint8Array(4)
  const words = wordsOf(bytes)
  // Every byte at every place, among neighbours at the edges of what is plain, whose borrows and carries could tell a lie.
  const neighbours = [0x00, 0x1f, 0x20, 0x41, 0x7e, 0x7f, 0x80, 0xa0, 0xff]
  for (let place = 0; place < 4; place++) {
    for (let byte = 0; byte < 256; byte++) {
      for (const left of neighbours) {
        for (const right of neighbours) {
          bytes.fill(left, 0, place)
          bytes[place] = byte
          bytes.fill(right, place + 1)
          const wanted = bytes.every(isPlainByte)
          if (isPlainWord(words[0] as number) !== wanted) expect.fail(`${[...bytes]} is ${wanted ? '' : 'not '}plain`)
        }
      }
    }
  }
})

test('words are compared up to the first that differs', () => {
  const words = wordsOf(Buffer.from(Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8, 9])))
  const others = Int32Array.from(words)
  expect(sameWords(words, others, 2)).toBe(2)
  others[1] = 0
  expect(sameWords(words, others, 2)).toBe(1)
  expect(sameWords(words, others, 0)).toBe(0)
})
