/** What a sweep turns: the settings, in which order, and which values it tries. */

export interface TunedSettings {
  /** Worker threads. */
  readonly workers: number
  /** Requests in flight on one upstream connection. */
  readonly pipelining: number
  /** Idle upstream connections kept per worker and node. */
  readonly poolSize: number
}

export const knobNames = ['workers', 'pipelining', 'pool'] as const

export type KnobName = (typeof knobNames)[number]

export interface Knob {
  readonly name: KnobName
  readonly setting: keyof TunedSettings
  /**
   * Whether as many requests for less CPU count as a win. Not for workers: with fewer of them the same requests nearly always cost less, and
   * what counts is how many more they could answer.
   */
  readonly isJudgedByCpu: boolean
  /** Values to try, from the near to the far; one list for each direction. */
  readonly ladders: readonly (readonly number[])[]
}

/** What the gateway does without any flag or option. */
export const settingDefaults = { pipelining: 1, poolSize: 320 } as const

/** Shares of the most workers that are tried. */
const workerShares = [1, 3 / 4, 1 / 2, 1 / 4, 1 / 8, 1 / 16]
const pipeliningDepths = [1, 4, 16, 64]

/**
 * The knobs in the order in which they are turned: what changes most comes first.
 *
 * @param workersMost never more of them than this.
 * @param connections of the load: a pool of more connections than can be busy at once changes nothing, so none is tried.
 */
export function knobsFor(wanted: readonly KnobName[], start: TunedSettings, workersMost: number, connections: number): Knob[] {
  const workers = [...workerShares.map((share) => Math.max(1, Math.round(workersMost * share))), 1]
  const pools = [powerOfTwoBelow(Math.min(connections, start.poolSize))]
  if (connections > start.poolSize) pools.push(powerOfTwoFrom(connections))
  const all: readonly Knob[] = [
    { name: 'workers', setting: 'workers', isJudgedByCpu: false, ladders: laddersFrom(start.workers, workers) },
    { name: 'pipelining', setting: 'pipelining', isJudgedByCpu: true, ladders: laddersFrom(start.pipelining, pipeliningDepths) },
    { name: 'pool', setting: 'poolSize', isJudgedByCpu: true, ladders: laddersFrom(start.poolSize, pools) },
  ]
  return all.filter(({ name }) => wanted.includes(name))
}

/** The values above and those below, each from the near to the far. */
function laddersFrom(start: number, values: readonly number[]): number[][] {
  const sorted = [...new Set(values)].sort((a, b) => a - b)
  const ladders = [sorted.filter((value) => value > start), sorted.filter((value) => value < start).reverse()]
  return ladders.filter((ladder) => ladder.length > 0)
}

function powerOfTwoFrom(value: number): number {
  return 2 ** Math.ceil(Math.log2(value))
}

function powerOfTwoBelow(value: number): number {
  return value <= 2 ? 1 : 2 ** (Math.ceil(Math.log2(value)) - 1)
}
