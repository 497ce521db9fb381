/** What threads tell each other about the published keys of issuers. */
import type { KeySetSpec } from '../schema/compiled.js'

export type { KeySetSpec } from '../schema/compiled.js'

/** Names a set in messages and tables: equal for equal specs. */
export function keySetId(spec: KeySetSpec): string {
  const { url, issuer, verifyTls, refreshMs, intervalMs, timeoutMs } = spec
  return JSON.stringify([url, issuer, verifyTls, refreshMs, intervalMs, timeoutMs])
}

/** News about a set, from the primary to all workers. */
export interface KeySetNews {
  readonly spec: KeySetSpec
  /** JSON Web Keys as published; null = the fetch failed, and what is known stays in use. */
  readonly keys: readonly object[] | null
  /** Why the fetch failed; for the log and the answer's reason. */
  readonly problem: string
  /** When this fetch began, monotonic milliseconds: who asked later may hope for the next one. */
  readonly startedMs: number
}
