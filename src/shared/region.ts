/**
 * The little vocabulary in which regions of shared memory are declared.
 *
 * A region is one SharedArrayBuffer with one cell width. Each region's own file draws its layout and says who writes and who reads
 * every cell; sizes are derived from the constants here, never written twice.
 */

/** Cells that different threads write lie at least this far apart, so that one core's writes do not evict another core's reads. */
export const CACHE_LINE_BYTES = 64
export const INT32_PER_LINE = CACHE_LINE_BYTES / Int32Array.BYTES_PER_ELEMENT
export const FLOAT64_PER_LINE = CACHE_LINE_BYTES / Float64Array.BYTES_PER_ELEMENT

/** Makes a zeroed region. Throws when `bytes` is not a whole number of cache lines, which would be a wrong layout. */
export function allocateRegion(name: string, bytes: number): SharedArrayBuffer {
  if (!Number.isSafeInteger(bytes) || bytes <= 0 || bytes % CACHE_LINE_BYTES !== 0) {
    throw new RangeError(`shared region "${name}" has ${bytes} bytes; it must have a positive multiple of ${CACHE_LINE_BYTES}`)
  }
  return new SharedArrayBuffer(bytes)
}

/** Checks a region that came from another thread against the layout that this thread was compiled with. */
export function assertRegionSize(name: string, region: SharedArrayBuffer, bytes: number): void {
  if (region.byteLength === bytes) return
  throw new RangeError(`shared region "${name}" has ${region.byteLength} bytes where this thread expects ${bytes}`)
}
