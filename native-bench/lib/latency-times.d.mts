/** Microseconds. */
export interface Percentiles {
  readonly p50: number
  readonly p90: number
  readonly p99: number
  readonly p999: number
  readonly max: number
}

export interface Times {
  readonly requests: number
  /** From the moment a request was due to its complete answer. */
  readonly latency: Percentiles
  /** The generator's own: from the moment it could send to the moment it sent. */
  readonly lateness: Percentiles
  /** Requests that waited because all connections were busy when they were due. */
  readonly waited: number
}

export interface Drive extends Pick<Times, 'latency' | 'lateness'> {
  /** Share of all cores in use that was taken by programs that are no part of the measurement. */
  readonly others: number
}

export interface LatencyRound {
  readonly direct: Drive
  /** `cpuShare`: of one core, used by the gateway. */
  readonly through: Drive & { readonly cpuShare: number }
}

/** What a round may have at most to be believed: the generator's own p99, and `others`. */
export interface Limits {
  readonly latenessUs: number
  readonly others: number
}

export interface Spread {
  readonly median: number
  readonly least: number
  readonly most: number
}

type Shown<Value> = { readonly [name in 'p50' | 'p90' | 'p99' | 'p999']: Value }

export interface LatencySummary {
  readonly rounds: number
  /** Rounds over the limits; they are left out unless all are. */
  readonly disturbed: number
  readonly isTrusted: boolean
  readonly direct: Shown<number>
  readonly through: Shown<number>
  readonly added: Shown<Spread>
  /** p99 of the generator's own lateness. */
  readonly generator: number
  readonly others: number
  readonly cpuShare: number
}

export const percentNames: readonly ('p50' | 'p90' | 'p99' | 'p999')[]

/** Microseconds from the start at which requests are due. */
export function evenSchedule(rate: number, seconds: number): Float64Array
export function poissonSchedule(rate: number, seconds: number, seed: number): Float64Array

/**
 * @param times three for each request, in µs from the start: the earliest moment it could be sent, when it was sent, when it was answered.
 * @param skipUs requests due before are not counted.
 */
export function readTimes(due: Float64Array, times: Float64Array, skipUs: number): Times
export function summariseRounds(rounds: readonly LatencyRound[], limits: Limits): LatencySummary
export function isDisturbed(round: LatencyRound, limits: Limits): boolean
