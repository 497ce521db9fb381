/** Where what stands in the line of a node: drawn in shared/node-cells. For the files of this folder only. */
export const IN_FLIGHT = 0
export const STATUS = 1
export const LATENCY = 2
export const LATENCY_AT = 3
export const CONSECUTIVE = 4
export const GATEWAY = 5
export const OPENED_AT = 6
export const SUCCESSES = 7
export const FAILURES = 8
export const EJECTED_UNTIL = 9
export const EJECTIONS = 10
export const HEALTH = 11
export const SLOW = 12
export const SLOW_IN_A_ROW = 13
export const EJECTED = 14

/** Milliseconds as a cell holds them; 0 is kept free for "never". */
export function stamp(nowMs: number): number {
  return Math.floor(nowMs) | 0 || 1
}
