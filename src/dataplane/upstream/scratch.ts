/**
 * Memory in which pieces of requests are put together before they are written: used again for the next, because fresh memory of some
 * ten kilobytes costs more (page faults, and collections, since memory outside the heap counts) than the copy and the write.
 *
 * One buffer per power of two, so that one that a slow socket keeps is at most twice as large as what it holds. One set per worker.
 */
import { Taken, type UpstreamSocket } from './upstream-socket.js'

const SMALLEST_BITS = 14
/** One read of the binding and a head. Larger pieces get memory of their own. */
const LARGEST_BITS = 20

const spare: (Buffer | undefined)[] = new Array<Buffer | undefined>(LARGEST_BITS - SMALLEST_BITS + 1).fill(undefined)

function classOf(length: number): number {
  return Math.max(0, 32 - Math.clz32(Math.max(0, length - 1)) - SMALLEST_BITS)
}

/** At least `length` bytes of unknown content, for the caller alone until `writeScratch` has them. */
export function takeScratch(length: number): Buffer {
  const index = classOf(length)
  const known = spare[index]
  if (known !== undefined) {
    spare[index] = undefined
    return known
  }
  return Buffer.allocUnsafeSlow(index >= spare.length ? length : 2 ** (index + SMALLEST_BITS))
}

/** Writes the first `length` bytes. What the kernel took at once serves again. */
export function writeScratch(socket: UpstreamSocket, buffer: Buffer, length: number): Taken {
  const taken = socket.writeBytes(buffer.subarray(0, length))
  // Otherwise the socket still reads from it.
  const index = classOf(buffer.length)
  if (taken === Taken.Whole && index < spare.length) spare[index] = buffer
  return taken
}
