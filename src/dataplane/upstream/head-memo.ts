/**
 * The last head that a node answered with, and what it parsed to: upstreams repeat themselves, within a second byte for byte. One per
 * pool.
 */
import { sameWords, wordsOf } from '../../base/byte-words.js'
import type { ResponseHead } from './response-head.js'

/** Consecutive misses after which nothing is looked for until the next sweep. */
const MISSES_MAX = 64

export class HeadMemo {
  head: ResponseHead | null = null
  private misses = 0
  /** Both four bytes at a time: half the time of `compare`. Null where they do not lie so. */
  private readonly bufferWords: Int32Array | null
  private headWords: Int32Array | null = null

  constructor(private readonly readBuffer: Buffer) {
    this.bufferWords = wordsIn(readBuffer)
  }

  /** The head at `start`, if it is the one that is known. */
  find(bytes: Buffer, start: number, end: number): ResponseHead | null {
    const { head } = this
    if (head === null) return null
    const { raw } = head
    if (end - start >= raw.length && (start === 0 && bytes === this.readBuffer ? this.isAtStart(raw) : isAt(bytes, start, raw))) {
      this.misses = 0
      return head
    }
    if (++this.misses > MISSES_MAX) this.head = null
    return null
  }

  private isAtStart(raw: Uint8Array): boolean {
    const { bufferWords, headWords, readBuffer } = this
    if (bufferWords === null || headWords === null) return isAt(readBuffer, 0, raw)
    const count = headWords.length
    if (sameWords(bufferWords, headWords, count) < count) return false
    for (let index = count << 2; index < raw.length; index++) if (readBuffer[index] !== raw[index]) return false
    return true
  }

  remember(head: ResponseHead): void {
    if (this.misses > MISSES_MAX) return
    this.head = head
    this.headWords = wordsIn(head.raw)
  }

  /** Looks for repetitions again. */
  sweep(): void {
    this.misses = 0
  }
}

function wordsIn(bytes: Uint8Array): Int32Array | null {
  return bytes.byteOffset % 4 === 0 ? wordsOf(bytes) : null
}

function isAt(bytes: Buffer, start: number, raw: Uint8Array): boolean {
  return bytes.compare(raw, 0, raw.length, start, start + raw.length) === 0
}
