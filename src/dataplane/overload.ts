/**
 * Sheds load before the gateway itself suffers: a worker that is late, or a process that nears its memory bound, answers 503 at once
 * instead of beginning what it could not finish. The less important a route is, the earlier its requests are refused.
 *
 *   pressure   = the larger of: lag of the event loop / max_lag, memory in use / max_memory
 *   in use     = what the engine holds + the rest of the resident memory, less what the allocator keeps of what the engine gave back: that is
 *                there for what comes next. Without this a process that was once full would refuse for ever.
 *   level 1 from 0.8 (routes of priority low), 2 from 1.0 (normal, too), 3 from 1.2 (high, too); critical is never refused
 *
 * A level is left when the pressure is a tenth below where it began. Lag is smoothed over some turns, so that one long turn sheds nothing.
 * Runs on workers; one per worker. Times and memory are handed in.
 */
import type { OverloadConfig } from '../schema/process.js'
import type { ReplyParts } from './response/reply.js'

/** Pressure at which each level begins. */
const LEVELS = [0.8, 1, 1.2] as const
const HYSTERESIS = 0.1
/** Share of the newest observation in the smoothed lag. */
const LAG_WEIGHT = 0.3
/** Pressure of memory is counted so much higher: at level 2 a tenth of the bound is left for what is in flight. */
const MEMORY_FACTOR = 1 / 0.9
/** How fast growth beyond the peak uses up what is taken to be free inside the process. */
const GROWTH_FACTOR = 4

/** Label of a route that says how important it is. */
export const PRIORITY_LABEL = 'priority'
const ranks: ReadonlyMap<string, number> = new Map([
  ['low', 0],
  ['normal', 1],
  ['high', 2],
  ['critical', 3],
])
const NORMAL = 1

/** Rank of a route: it is shed while the level is above. Other values of the label than ours mean nothing here. */
export function rankOf(labels: { readonly [key: string]: string }): number {
  return ranks.get(labels[PRIORITY_LABEL] ?? '') ?? NORMAL
}

export class Overload {
  /** 0 = nothing is shed. */
  level = 0
  readonly reply: ReplyParts
  private lagMs = 0
  private peakResident = 0
  /** Resident memory that neither the engine holds nor the allocator keeps for it, as far as is known. */
  private otherBytes = 0
  private isByMemory = false

  constructor(private readonly config: OverloadConfig) {
    this.reply = Object.freeze({
      status: 503,
      body: '{"error_msg":"the gateway is overloaded","reason":"OVERLOADED"}\n',
      headers: [['Retry-After', String(config.retryAfterSeconds)]] as const,
      contentType: 'application/json',
    })
  }

  /** Something is shed, and it is memory that is short. */
  get isShortOfMemory(): boolean {
    return this.level > 0 && this.isByMemory
  }

  /**
   * Takes one observation: how late the event loop is, the resident memory of the process, and how much of it the engine holds in all
   * workers (heaps and buffers; bytes). Returns whether the level changed.
   */
  observe(lagMs: number, residentBytes: number, heldBytes: number): boolean {
    this.lagMs += (lagMs - this.lagMs) * LAG_WEIGHT
    const pressure = this.pressure(this.inUse(residentBytes, heldBytes))
    const before = this.level
    while (this.level < LEVELS.length && pressure >= (LEVELS[this.level] as number)) this.level++
    while (this.level > 0 && pressure < (LEVELS[this.level - 1] as number) - HYSTERESIS) this.level--
    return this.level !== before
  }

  /**
   * At most all that the engine does not hold is used otherwise. It is taken to be all of it when the resident memory passes its former peak:
   * not at once, because a little growth is nothing, but several times as fast as it grows, so that it stays below the bound.
   */
  private inUse(residentBytes: number, heldBytes: number): number {
    const growth = Math.max(0, residentBytes - this.peakResident)
    this.peakResident += growth
    this.otherBytes = Math.min(this.otherBytes + GROWTH_FACTOR * growth, residentBytes - heldBytes)
    return heldBytes + this.otherBytes
  }

  private pressure(usedBytes: number): number {
    const { maxLagMs, maxMemoryBytes } = this.config
    const byLag = maxLagMs === 0 ? 0 : this.lagMs / maxLagMs
    const byMemory = maxMemoryBytes === 0 ? 0 : (usedBytes / maxMemoryBytes) * MEMORY_FACTOR
    this.isByMemory = byMemory > byLag
    return Math.max(byLag, byMemory)
  }
}
