export interface WrkReport {
  readonly requests: number
  readonly seconds: number
  readonly requestsPerSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly maxMs: number
  readonly errors: {
    readonly connect: number
    readonly read: number
    readonly write: number
    readonly timeout: number
    readonly non2xx: number
  }
  /** All errors together. */
  readonly failed: number
}

export interface Round {
  readonly requestsPerSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly cpuMicrosPerRequest: number
  readonly requestsPerCpuSecond: number
  readonly failed: number
}

export interface ProcStat {
  readonly pid: number
  readonly name: string
  readonly state: string
  readonly parent: number
  /** User and system time of all threads, in clock ticks. */
  readonly cpuTicks: number
  /** The same of its children that have ended and were waited for. */
  readonly endedChildrenTicks: number
}

export function durationMs(text: string): number
export function parseWrk(output: string): WrkReport
export function parseProcStat(text: string): ProcStat
export function parseIdleTicks(text: string, cores: readonly number[]): number
export function divideByDescent(processes: readonly ProcStat[], root: number): { readonly own: number; readonly others: number }
export function median(values: readonly number[]): number
export function percentile(sorted: readonly number[], percent: number): number
export function summarise(rounds: readonly Round[]): Round

export interface Ratio {
  readonly median: number
  readonly least: number
  readonly most: number
}

/** Of requests per CPU second, round by round; as many rounds of the one as of the other. */
export function pairedRatio(rounds: readonly Round[], base: readonly Round[]): Ratio

export interface Comparison extends Ratio {
  readonly verdict: 'better' | 'worse' | 'nothing'
}

/** @param noise share by which the median of the ratios has to differ from 1. */
export function compared(rounds: readonly Round[], base: readonly Round[], noise: number): Comparison
