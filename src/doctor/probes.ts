/**
 * The framing probes of `sluice doctor`, as data: bytes that two parsers are known to read differently, and what a strict reading of
 * RFC 9112 makes of them. A test holds every `expect` against an independent strict reader.
 */
import { bodyProbes } from './probes-body.js'
import { lineProbes } from './probes-lines.js'

export interface Probe {
  readonly name: string
  readonly group: ProbeGroup
  /** Latin-1 bytes, sent piece by piece on one connection. */
  readonly pieces: readonly string[]
  readonly expect: Expectation
  /** What gets through here lets one client speak for another: `sluice doctor` exits 1. */
  readonly smuggling: boolean
}

export type ProbeGroup = 'content-length' | 'transfer-encoding' | 'chunked' | 'body' | 'host' | 'header' | 'request line' | 'pipelining'

/**
 * - `refuse`: no byte may reach the upstream.
 * - `cut`: the header section is right and the body is not: the upstream may see a beginning, never a complete request.
 * - `forward`: valid; it must arrive, and as strictly read.
 * - `either`: valid, or repaired without danger; a gateway may refuse it. If it arrives, then as strictly read.
 */
export type Expectation = 'refuse' | 'cut' | 'forward' | 'either'

export const probes: readonly Probe[] = [...bodyProbes(), ...lineProbes()]
