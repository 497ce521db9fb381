/**
 * All regions that the primary makes once and hands to every worker: the map of the shared memory.
 *
 * | region     | cells   | bytes                     | writer                              | reader            |
 * |------------|---------|---------------------------|-------------------------------------|-------------------|
 * | epochs     | int32   | 64 × (1 + workers)        | line 0 primary (and every           | primary           |
 * |            |         |                           | acknowledgement); line 1+i worker i |                   |
 * | rotors     | uint32  | 16 × 262,144 = 4 MiB      | all workers, by atomic add          | the adding worker |
 * | metrics[i] | float64 | 8 MiB, touched as it fills| worker i alone; the primary zeroes  | primary           |
 * |            |         |                           | it after that worker has ended      |                   |
 * | limiter    | int32   | 22 B per cell, 4 B per    | all workers and the primary, under  | all               |
 * |            |         | log entry, 1 MiB per      | locks (shared/limiter-locks);       |                   |
 * |            |         | thread; touched as it     | journal and ledger i: thread i, the |                   |
 * |            |         | fills                     | primary is the last                 |                   |
 * | nodes      | int32   | 64 × 65,536, and 4 ×      | see shared/node-cells; column i:    | workers, primary  |
 * |            |         | 65,536 per worker;        | worker i, the primary after that    |                   |
 * |            |         | touched as it fills       | worker has ended                    |                   |
 * | revocations| int32   | 16 MiB, touched as it fills| primary                           | all               |
 * | breakers   | int32   | 384 × 32,768 = 12 MiB,    | all workers and the primary, by     | all               |
 * |            |         | touched as it fills       | compare-and-swap                    |                   |
 * | upstreams  | int32   | 128 × 262,144 = 32 MiB,   | all workers, by compare-and-swap    | all workers       |
 * |            |         | touched as it fills       |                                     |                   |
 * | concurrency| int32   | 64 × 262,144, and 8 ×     | all workers, by compare-and-swap;   | all workers       |
 * |            |         | 262,144 per worker;       | column i: worker i, the primary     |                   |
 * |            |         | touched as it fills       | after that worker has ended         |                   |
 * | paths      | int32   | 256 × 8192 = 2 MiB        | all workers, by compare-and-swap    | all workers       |
 *
 * The regions live as long as the process. A replacement for a failed worker gets the same slot in every region.
 */
import { randomBytes } from 'node:crypto'
import { BREAKERS_BYTES } from './breaker-cells.js'
import { createConcurrencyRegion } from './concurrency-cells.js'
import { epochsBytes } from './epochs.js'
import { createLimiterRegion } from './limiter-layout.js'
import { METRICS_SLAB_BYTES } from './metrics-slab.js'
import { createNodesRegion } from './node-cells.js'
import { createPathBreakersRegion } from './path-breakers.js'
import { allocateRegion } from './region.js'
import { createRevocationsRegion } from './revocations.js'
import { ROTORS_BYTES } from './rotors.js'
import { createUpstreamsRegion } from './upstream-cells.js'

export interface SharedRegions {
  readonly epochs: SharedArrayBuffer
  readonly rotors: SharedArrayBuffer
  /** One slab per worker slot. */
  readonly metrics: readonly SharedArrayBuffer[]
  /** Cells of the local rate limits; member i is worker i, member `workers` the primary. */
  readonly limiter: SharedArrayBuffer
  /** State of the upstream nodes that something is known about. */
  readonly nodes: SharedArrayBuffer
  /** Revoked tokens, subjects and consumers. */
  readonly revocations: SharedArrayBuffer
  /** Circuit breakers. */
  readonly breakers: SharedArrayBuffer
  /** What is known about upstreams as a whole, by the slot of their rotor. */
  readonly upstreams: SharedArrayBuffer
  /** Requests under way and waiting, of upstreams that bound them. */
  readonly concurrency: SharedArrayBuffer
  /** What api-breaker counts by path. */
  readonly pathBreakers: SharedArrayBuffer
}

/** Sizes of the limiter region. */
export interface LimiterCapacity {
  /** Keys × rules; plan half as much again as are live at a time. */
  readonly cells: number
  /** Times in sliding logs, over all keys. */
  readonly logEntries: number
}

/** 23 MB and 4.7 MB when all touched. */
export const LIMITER_CAPACITY_DEFAULT: LimiterCapacity = { cells: 1_000_000, logEntries: 1_000_000 }

/** Workers of one process; far above what a machine has cores for, so that a mistyped number is refused instead of allocated. */
export const WORKERS_MAX = 1024

/** Makes all regions, zeroed. Throws RangeError unless 1 ≤ workers ≤ WORKERS_MAX and the limiter's capacity is possible. */
export function createRegions(workers: number, limiter: LimiterCapacity = LIMITER_CAPACITY_DEFAULT): SharedRegions {
  if (!Number.isInteger(workers) || workers < 1 || workers > WORKERS_MAX) {
    throw new RangeError(`the number of workers is ${workers}; it must be an integer from 1 to ${WORKERS_MAX}`)
  }
  const seed = randomBytes(16)
  const revocationSeed = randomBytes(8)
  return {
    epochs: allocateRegion('epochs', epochsBytes(workers)),
    rotors: allocateRegion('rotors', ROTORS_BYTES),
    metrics: Array.from({ length: workers }, (_, index) => allocateRegion(`metrics[${index}]`, METRICS_SLAB_BYTES)),
    nodes: createNodesRegion(workers),
    upstreams: createUpstreamsRegion(),
    concurrency: createConcurrencyRegion(workers),
    breakers: allocateRegion('breakers', BREAKERS_BYTES),
    pathBreakers: createPathBreakersRegion([seed.readInt32LE(8), seed.readInt32LE(12)]),
    limiter: createLimiterRegion({ ...limiter, members: workers + 1, seed: [seed.readInt32LE(0), seed.readInt32LE(4)] }),
    revocations: createRevocationsRegion([revocationSeed.readInt32LE(0), revocationSeed.readInt32LE(4)]),
  }
}
