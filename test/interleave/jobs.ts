/** What racing threads are told and what they report. Apart from racer.ts, because that one runs when it is imported. */
import type { SharedRegions } from '../../src/shared/regions.js'

export type RacerJob =
  /** Draws `picks` numbers from a rotor slot. */
  | { readonly kind: 'rotor'; readonly slot: number; readonly picks: number }
  /** Acknowledges each epoch it is told of, until epoch 0. */
  | { readonly kind: 'epochs' }
  /** Records `rounds` exchanges in its metrics slab. */
  | { readonly kind: 'metrics'; readonly rounds: number }
  /** Begins and ends `rounds` tries on a node, and leaves `left` of them in flight, as a worker that dies does. */
  | { readonly kind: 'tries'; readonly slot: number; readonly rounds: number; readonly left: number }
  /** Judges nodes 1 to `nodes` at random for `rounds` times: ejects them (the upstream has slot `nodes` + 1), finds them up and down. */
  | { readonly kind: 'judge'; readonly nodes: number; readonly rounds: number }
  /** Counts `requests` of an upstream and asks for as many retries, all in one second; reports how many it got. */
  | { readonly kind: 'budget'; readonly slot: number; readonly requests: number }
  /** Takes and gives back places of an upstream for `rounds` times; reports the most that it saw taken, and keeps `left` of them. */
  | { readonly kind: 'places'; readonly slot: number; readonly limit: number; readonly rounds: number; readonly left: number }

export interface RacerStart {
  readonly index: number
  readonly regions: SharedRegions
  /** int32[0]: 0 = wait, 1 = go. */
  readonly gate: SharedArrayBuffer
  readonly job: RacerJob
}

export type RacerReport =
  | { readonly type: 'ready' }
  | { readonly type: 'series'; readonly slot: number; readonly labels: readonly string[] }
  | { readonly type: 'drawn'; readonly numbers: Float64Array }
  | { readonly type: 'done' }

/** What every recorded round adds to its counter: both 32-bit halves of the sum change, so that a torn read would show. */
export const ROUND_AMOUNT = 2 ** 32 + 1
