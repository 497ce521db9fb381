/**
 * Finds good settings by measuring. Coordinate descent: one knob after the other, then once more what lies beside the best. Every candidate is
 * measured in turns with the best so far, so that a slow minute of the machine hits both, and takes its place only when it is better by a
 * stated margin. Knows nothing of gateways: `Measurer` does.
 */
import { UsageError } from '../../base/errors.js'
import type { Knob, TunedSettings } from './knobs.js'
import { Latencies } from './percentiles.js'

/** Share by which a candidate must be better than the best so far, in the median of the rounds. */
export const winMargin = 0.05
/** Share of the rounds in which it must be better at all: every one of three, all but one of five. A lucky round proves nothing. */
export const winningRounds = 0.8
/** A knob is left behind so many values in a row that are worse: behind one there may be a hill, little pipelining may cost and much give. */
export const worseMost = 2
/** A candidate whose p99 is so many times as long is no better, however many requests it answers. */
export const p99GrowthMax = 1.2

/** One measurement of one gateway. */
export interface Sample {
  readonly requests: number
  readonly seconds: number
  /** Broken connections, timeouts, and answers other than 2xx. */
  readonly failed: number
  /** CPU seconds of the gateway; null where the system does not tell. */
  readonly cpuSeconds: number | null
  /** Share of the CPU time of the whole machine that was used, by anybody; from 0 to 1. */
  readonly machineBusy: number
  readonly latencies: Latencies
}

/** A gateway that runs with some settings. */
export interface Contestant {
  measure(): Promise<Sample>
  close(): Promise<void>
}

export interface Measurer {
  /** Starts a gateway and warms it up. */
  open(settings: TunedSettings): Promise<Contestant>
}

/** What some settings came to: medians of the rounds, latencies of all of them together. */
export interface Side {
  readonly settings: TunedSettings
  readonly requestsPerSecond: number
  /** Of the slowest and of the fastest round. */
  readonly requestsPerSecondRange: readonly [number, number]
  readonly cpuMicrosPerRequest: number | null
  /** Share of the machine's CPU time that the gateway used, times the cores: how many of them it kept busy. */
  readonly gatewayCores: number | null
  readonly machineBusy: number
  readonly failed: number
  readonly latencies: Latencies
}

export type Outcome = 'wins' | 'stays' | 'worse'

export interface Judgement {
  /** Medians of the candidate ÷ the best of the same round. */
  readonly requestsRatio: number
  readonly cpuRatio: number | null
  readonly p99Ratio: number
  /** `stays`: the best so far does, because the candidate is not better by the margin. `worse`: it is worse by the margin. */
  readonly outcome: Outcome
  readonly reason: string
}

/** A candidate beside the best so far. */
export interface Step extends Judgement {
  /** `together` = the best of all, as a candidate beside the settings of the start. */
  readonly knob: Knob['name'] | 'together'
  readonly best: Side
  readonly candidate: Side
}

export interface SweepPlan {
  readonly start: TunedSettings
  readonly knobs: readonly Knob[]
  /** Measurements of each side per candidate. */
  readonly rounds: number
}

export interface SweepResult {
  /** The settings of the start, as they were measured last. */
  readonly start: Side
  /** The winner, beside `start`; the same when nothing was better. */
  readonly best: Side
  readonly steps: readonly Step[]
}

/** Most candidates that a sweep can come to. */
export function stepsMost(plan: SweepPlan): number {
  const ladders = plan.knobs.flatMap(({ ladders }) => ladders)
  return ladders.reduce((sum, ladder) => sum + ladder.length, 0) + 2 * plan.knobs.length + 1
}

/**
 * @param onStep called with every step as it is decided.
 * @throws UsageError (exit code 1) when requests fail at the settings of the start: then nothing can be compared.
 */
export async function sweep(measurer: Measurer, plan: SweepPlan, onStep: (step: Step) => void): Promise<SweepResult> {
  const run = new SweepRun(measurer, plan, onStep)
  try {
    return await run.whole()
  } finally {
    await run.close()
  }
}

interface Entrant {
  readonly settings: TunedSettings
  readonly contestant: Contestant
}

class SweepRun {
  readonly #steps: Step[] = []
  /** Pairs of settings that were compared. */
  readonly #compared = new Set<string>()
  readonly #open = new Set<Contestant>()
  #best: Entrant | null = null

  constructor(
    readonly measurer: Measurer,
    readonly plan: SweepPlan,
    readonly onStep: (step: Step) => void,
  ) {}

  async whole(): Promise<SweepResult> {
    const { start, knobs } = this.plan
    this.#best = { settings: start, contestant: await this.#start(start) }
    const first = sideOf(start, [await this.#best.contestant.measure()])
    if (first.failed > 0 || first.latencies.count === 0) {
      throw new UsageError(`the gateway failed ${first.failed} requests with ${describe(start)}: nothing can be compared`, 1)
    }
    let lastTurned: Knob | null = null
    for (const knob of knobs) {
      for (const ladder of knob.ladders) if (await this.#climb(knob, ladder)) lastTurned = knob
    }
    for (const knob of knobs) {
      // What was turned last has been compared with its neighbours already, and when nothing was turned, all has.
      if (lastTurned !== null && knob !== lastTurned) await this.#tryNeighbours(knob)
    }
    return this.#conclude(first)
  }

  async close(): Promise<void> {
    await Promise.all([...this.#open].map((contestant) => contestant.close()))
    this.#open.clear()
  }

  async #climb(knob: Knob, ladder: readonly number[]): Promise<boolean> {
    let hasWon = false
    let worseInRow = 0
    for (const value of ladder) {
      const outcome = await this.#challenge(knob, value)
      worseInRow = outcome === 'worse' ? worseInRow + 1 : 0
      if (worseInRow === worseMost) break
      hasWon ||= outcome === 'wins'
    }
    return hasWon
  }

  async #tryNeighbours(knob: Knob): Promise<void> {
    const values = [...new Set([this.plan.start[knob.setting], ...knob.ladders.flat()])].sort((a, b) => a - b)
    const at = values.indexOf(this.#current().settings[knob.setting])
    for (const value of [values[at - 1], values[at + 1]]) {
      if (value !== undefined && (await this.#challenge(knob, value)) === 'wins') return
    }
  }

  /** Measures what a turn of a knob gives beside the best so far, and makes the winner the best. Null when the two have been compared before. */
  async #challenge(knob: Knob, value: number): Promise<Outcome | null> {
    const best = this.#current()
    const settings = { ...best.settings, [knob.setting]: value }
    if (this.#compared.has(pair(best.settings, settings)) || key(best.settings) === key(settings)) return null
    const candidate = { settings, contestant: await this.#start(settings) }
    const { outcome } = await this.#compare(knob.name, knob.isJudgedByCpu, best, candidate)
    const isNew = outcome === 'wins'
    await this.#stop(isNew ? best.contestant : candidate.contestant)
    if (isNew) this.#best = candidate
    return outcome
  }

  async #compare(name: Step['knob'], isJudgedByCpu: boolean, best: Entrant, candidate: Entrant): Promise<Step> {
    this.#compared.add(pair(best.settings, candidate.settings))
    const ours: Sample[] = []
    const theirs: Sample[] = []
    for (let round = 0; round < this.plan.rounds; round++) {
      const turns = [
        async () => ours.push(await best.contestant.measure()),
        async () => theirs.push(await candidate.contestant.measure()),
      ] as const
      // Who comes first changes from round to round: a machine that grows slower favours neither.
      for (const turn of round % 2 === 0 ? turns : turns.toReversed()) await turn()
    }
    const judgement = judge(ours, theirs, isJudgedByCpu)
    const step = { knob: name, best: sideOf(best.settings, ours), candidate: sideOf(candidate.settings, theirs), ...judgement }
    this.#steps.push(step)
    this.onStep(step)
    return step
  }

  /** Wins one after the other may be luck one after the other: the best has to win against the start as well, or the start stays. */
  async #conclude(first: Side): Promise<SweepResult> {
    const { start, knobs } = this.plan
    const best = this.#current()
    const resultOf = ({ outcome, best: before, candidate }: Step): SweepResult => {
      return { start: before, best: outcome === 'wins' ? candidate : before, steps: this.#steps }
    }
    if (key(best.settings) === key(start)) {
      const side = this.#steps.findLast((step) => key(step.best.settings) === key(start))?.best ?? first
      return { start: side, best: side, steps: this.#steps }
    }
    const direct = this.#steps.find((step) => key(step.best.settings) === key(start) && key(step.candidate.settings) === key(best.settings))
    if (direct !== undefined) return resultOf(direct)
    const turned = knobs.filter(({ setting }) => best.settings[setting] !== start[setting])
    const isJudgedByCpu = turned.every((knob) => knob.isJudgedByCpu)
    const starting = { settings: start, contestant: await this.#start(start) }
    return resultOf(await this.#compare('together', isJudgedByCpu, starting, best))
  }

  async #start(settings: TunedSettings): Promise<Contestant> {
    const contestant = await this.measurer.open(settings)
    this.#open.add(contestant)
    return contestant
  }

  async #stop(contestant: Contestant): Promise<void> {
    this.#open.delete(contestant)
    await contestant.close()
  }

  #current(): Entrant {
    if (this.#best === null) throw new Error('a sweep compares before it has begun')
    return this.#best
  }
}

/**
 * Whether a candidate takes the place of the best so far.
 *
 * @param best its rounds; `candidate`: those of the candidate, as many.
 */
export function judge(best: readonly Sample[], candidate: readonly Sample[], isJudgedByCpu: boolean): Judgement {
  const requests = ratiosOf(best, candidate, rateOf) ?? []
  const cpu = ratiosOf(best, candidate, cpuMicrosOf)
  const requestsRatio = median(requests) ?? 0
  const cpuRatio = cpu === null ? null : median(cpu)
  const before = merged(best).at(99)
  const after = merged(candidate).at(99)
  const p99Ratio = before > 0 ? after / before : 1
  const failed = candidate.reduce((sum, sample) => sum + sample.failed, 0)
  const decide = (outcome: Outcome, reason: string): Judgement => ({ requestsRatio, cpuRatio, p99Ratio, outcome, reason })
  const isMost = (ratios: readonly number[], isBetter: (ratio: number) => boolean): boolean =>
    ratios.filter(isBetter).length >= Math.ceil(ratios.length * winningRounds)
  const isMore = requestsRatio >= 1 + winMargin
  const isCheaper = isJudgedByCpu && cpuRatio !== null && cpuRatio <= 1 - winMargin
  if (failed > 0) return decide('worse', `${failed} requests failed`)
  if (requestsRatio <= 1 - winMargin) return decide('worse', `${percent(1 - requestsRatio)} fewer requests`)
  if (!isMore && !isCheaper) return decide('stays', `not better by ${percent(winMargin)}`)
  if (p99Ratio > p99GrowthMax) return decide('stays', `p99 grew from ${before.toFixed(2)} to ${after.toFixed(2)} ms`)
  if (isMore && isMost(requests, (ratio) => ratio > 1)) return decide('wins', `${percent(requestsRatio - 1)} more requests`)
  if (isCheaper && isMost(cpu ?? [], (ratio) => ratio < 1)) return decide('wins', `as many requests for ${percent(1 - cpuRatio)} less CPU`)
  return decide('stays', 'not better in every round')
}

function rateOf({ requests, seconds }: Sample): number {
  return seconds > 0 ? requests / seconds : 0
}

function cpuMicrosOf({ requests, cpuSeconds }: Sample): number | null {
  return cpuSeconds === null || requests === 0 ? null : (cpuSeconds * 1e6) / requests
}

/** Candidate ÷ best within each round; null when a side is unknown in one of them. */
function ratiosOf(best: readonly Sample[], candidate: readonly Sample[], of: (sample: Sample) => number | null): number[] | null {
  const ratios: number[] = []
  for (const [round, sample] of candidate.entries()) {
    const other = best[round]
    const [ours, theirs] = [other === undefined ? null : of(other), of(sample)]
    if (ours === null || theirs === null || ours === 0) return null
    ratios.push(theirs / ours)
  }
  return ratios
}

function sideOf(settings: TunedSettings, samples: readonly Sample[]): Side {
  const rates = samples.map(rateOf)
  const known = (of: (sample: Sample) => number | null): number[] => samples.map(of).filter((value) => value !== null)
  return {
    settings,
    requestsPerSecond: median(rates) ?? 0,
    requestsPerSecondRange: [Math.min(...rates), Math.max(...rates)],
    cpuMicrosPerRequest: median(known(cpuMicrosOf)),
    gatewayCores: median(known(({ cpuSeconds, seconds }) => (cpuSeconds === null || seconds === 0 ? null : cpuSeconds / seconds))),
    machineBusy: median(samples.map(({ machineBusy }) => machineBusy)) ?? 0,
    failed: samples.reduce((sum, { failed }) => sum + failed, 0),
    latencies: merged(samples),
  }
}

function merged(samples: readonly Sample[]): Latencies {
  const all = new Latencies()
  for (const { latencies } of samples) all.add(latencies)
  return all
}

/** Null without values. */
function median(values: readonly number[]): number | null {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted[sorted.length >> 1]
  const before = sorted[(sorted.length >> 1) - 1]
  if (middle === undefined) return null
  return sorted.length % 2 === 1 || before === undefined ? middle : (before + middle) / 2
}

function key({ workers, pipelining, poolSize }: TunedSettings): string {
  return `${workers} ${pipelining} ${poolSize}`
}

function pair(a: TunedSettings, b: TunedSettings): string {
  return [key(a), key(b)].sort().join(' | ')
}

/** As people read it. */
export function describe({ workers, pipelining, poolSize }: TunedSettings): string {
  return `${workers} ${workers === 1 ? 'worker' : 'workers'}, pipelining ${pipelining}, pool ${poolSize}`
}

function percent(share: number): string {
  return `${(share * 100).toFixed(share < 0.1 ? 1 : 0).replace(/\.0$/, '')} %`
}
