/** What a test tells a node process to do, and what that reports. Jobs run side by side. */
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
      /** Goes on until a job of this name says `stop`, however many requests that are. */
      readonly untilStopped?: string
      readonly keepHolds?: boolean
    }
  | { readonly do: 'stop'; readonly name: string }
  /** Closes the store, and ends. */
  | { readonly do: 'close' }

/** One line on stdin of a node. */
export interface NodeOrder {
  readonly number: number
  readonly job: NodeJob
}

/** One line on its stdout. */
export interface NodeAnswer {
  readonly number: number
  readonly report: NodeReport
}

export interface NodeReport {
  admitted: number
  refused: number
  readonly bases: Partial<Record<Decision['basis'], number>>
  /** Of the whole life of the node. */
  readonly totals: { calls: number; failed: number; policy: number; leased: number; spent: number; returned: number; lost: number }
  /** Failed calls by reason, of the whole life of the node. */
  readonly failures: Readonly<Record<string, number>>
  readonly logged: readonly string[]
}
