/** What a test tells a node process to do, and what that reports. */
import type { Decision, LimiterSpec } from '../../src/limits/contract.js'

export interface NodeStart {
  readonly id: string
}

export type NodeJob =
  | {
      readonly do: 'check'
      readonly spec: LimiterSpec
      readonly key: string
      readonly requests: number
      readonly cost?: number
      /** Requests at a time; 8 unless told. */
      readonly lanes?: number
      readonly perSecond?: number
      readonly keepHolds?: boolean
    }
  /** Closes the store, and ends. */
  | { readonly do: 'close' }

export interface NodeReport {
  admitted: number
  refused: number
  readonly bases: Partial<Record<Decision['basis'], number>>
  /** Longest decision. */
  longestMs: number
  /** Of the whole life of the node. */
  readonly totals: { calls: number; failed: number; policy: number; leased: number; spent: number; returned: number; lost: number }
  readonly logged: readonly string[]
}
