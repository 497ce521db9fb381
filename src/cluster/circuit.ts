/**
 * The circuit around one Redis server: after some failures in a row it is not asked for a short time, so that a dead or paused
 * Redis costs each request nothing instead of one deadline.
 *
 *   closed ──failures in a row──▶ open ──pause over, next call──▶ probing (one background call) ──answered──▶ closed
 *                                  ▲                                   │
 *                                  └──────────────failed───────────────┘
 *
 * While it is open or probing every call is turned away at once: no request ever waits for a probe.
 */

export const CIRCUIT_FAILURES = 5
export const CIRCUIT_PAUSE_MS = 500

export class Circuit {
  private failures = 0
  private openUntilMs = 0
  private state: 'closed' | 'open' | 'probing' = 'closed'

  /** `probe`: this call is turned away, and the caller starts one probe and reports its end. */
  admit(nowMs: number): 'call' | 'refuse' | 'probe' {
    if (this.state === 'closed') return 'call'
    if (this.state === 'probing' || nowMs < this.openUntilMs) return 'refuse'
    this.state = 'probing'
    return 'probe'
  }

  /** A call was answered. Closes nothing: a late answer to an old call is no proof that the server answers now; the probe is. */
  succeeded(): void {
    this.failures = 0
  }

  /** A call failed. True when this opened the circuit. */
  failed(nowMs: number): boolean {
    if (this.state !== 'closed') return false
    this.failures++
    if (this.failures < CIRCUIT_FAILURES) return false
    this.open(nowMs)
    return true
  }

  /** The probe ended. True when this closed the circuit. */
  probed(answered: boolean, nowMs: number): boolean {
    if (this.state !== 'probing') return false
    if (!answered) {
      this.open(nowMs)
      return false
    }
    this.state = 'closed'
    this.failures = 0
    return true
  }

  get closed(): boolean {
    return this.state === 'closed'
  }

  private open(nowMs: number): void {
    this.state = 'open'
    this.openUntilMs = nowMs + CIRCUIT_PAUSE_MS
  }
}
