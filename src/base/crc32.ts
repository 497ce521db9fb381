/** CRC-32 (ISO 3309, as in zlib) of text, without making buffers: what consistent hashing places nodes and keys by. */

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let state = byte
  for (let bit = 0; bit < 8; bit++) state = state & 1 ? 0xedb88320 ^ (state >>> 1) : state >>> 1
  return state
})

function update(state: number, byte: number): number {
  return (table[(state ^ byte) & 0xff] as number) ^ (state >>> 8)
}

/** Of the UTF-8 bytes of `text`, from 0 to 2^32 - 1. Half of a surrogate pair alone counts as U+FFFD, as in Buffer.from. */
export function crc32(text: string): number {
  let state = 0xffffffff
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index)
    if (unit < 0x80) {
      state = update(state, unit)
      continue
    }
    let point = text.codePointAt(index) ?? unit
    if (point > 0xffff) index++
    else if (point >= 0xd800 && point <= 0xdfff) point = 0xfffd
    if (point < 0x800) {
      state = update(state, 0xc0 | (point >> 6))
    } else if (point < 0x10000) {
      state = update(state, 0xe0 | (point >> 12))
      state = update(state, 0x80 | ((point >> 6) & 0x3f))
    } else {
      state = update(state, 0xf0 | (point >> 18))
      state = update(state, 0x80 | ((point >> 12) & 0x3f))
      state = update(state, 0x80 | ((point >> 6) & 0x3f))
    }
    state = update(state, 0x80 | (point & 0x3f))
  }
  return (state ^ 0xffffffff) >>> 0
}

/** Goes on from `state` over the four bytes of `word`, lowest first, and finishes. */
export function crc32Word(state: number, word: number): number {
  let next = update(state, word & 0xff)
  next = update(next, (word >>> 8) & 0xff)
  next = update(next, (word >>> 16) & 0xff)
  next = update(next, word >>> 24)
  return (next ^ 0xffffffff) >>> 0
}
