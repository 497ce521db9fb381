/**
 * Random UUIDs (RFC 9562 §5.4) for every request: `randomUUID` of Node joins twenty pieces of text for each, which whoever sends the
 * id has to put together again. Here a batch is written as bytes and becomes one text, of which each id is a part.
 */
import { randomFillSync } from 'node:crypto'

/** Ids of a batch; as many as Node keeps random bytes for. */
const BATCH = 128
const BYTES = 16
const CHARACTERS = 36
const DASH = 45

const hexDigits = Buffer.from('0123456789abcdef', 'latin1')

/** A source of UUIDs, version 4. Lives in one thread; keeps one batch. */
export function uuidSource(): () => string {
  const random = Buffer.alloc(BATCH * BYTES)
  const written = Buffer.alloc(BATCH * CHARACTERS, DASH)
  let batch = ''
  let next = 0
  return () => {
    if (next === batch.length) {
      randomFillSync(random)
      for (let index = 0; index < BATCH; index++) writeUuid(random, index * BYTES, written, index * CHARACTERS)
      batch = written.toString('latin1')
      random.fill(0)
      next = 0
    }
    next += CHARACTERS
    return batch.slice(next - CHARACTERS, next)
  }
}

/** The dashes stand there already. */
function writeUuid(random: Buffer, from: number, written: Buffer, to: number): void {
  let place = to
  for (let index = 0; index < BYTES; index++) {
    let byte = random[from + index] as number
    if (index === 6) byte = (byte & 0x0f) | 0x40
    else if (index === 8) byte = (byte & 0x3f) | 0x80
    if (index === 4 || index === 6 || index === 8 || index === 10) place++
    written[place++] = hexDigits[byte >> 4] as number
    written[place++] = hexDigits[byte & 15] as number
  }
}
