/** `sluice bench --tune`: a short sweep over what can be set, on the machine of whoever asks. */
import { SingleBar } from 'cli-progress'
import { wallMs } from '../../base/clock.js'
import { UsageError } from '../../base/errors.js'
import { type KnobName, knobNames, knobsFor, settingDefaults, type TunedSettings } from './knobs.js'
import { thisMachine } from './machine.js'
import { type OwnConfig, readOwnConfig } from './own-config.js'
import { BenchProcesses } from './processes.js'
import { type BenchCase, benchCases, type SuiteName, selfStartDocument } from './suites.js'
import { svgChart, writeOutput } from './svg.js'
import { describe, type SweepPlan, type SweepResult, stepsMost, sweep, winMargin } from './sweep.js'
import { renderTune, stepLine, tuneData, tunedCurves } from './tune-report.js'
import { TunedGateways, type TunedLoad, type TunedTarget } from './tuned-gateways.js'

export interface TuneOptions {
  readonly suite: SuiteName
  readonly knobs: readonly KnobName[]
  /** Configuration of the user to run in place of the built-in one; null = none. */
  readonly config: string | null
  /** Targets to ask for, with `config`. */
  readonly paths: readonly string[]
  readonly headers: Readonly<Record<string, string>>
  /** Most worker threads, where the sweep starts; 0 = it starts at those of the configuration, else at the cores available, which are the most. */
  readonly workers: number
  /** Seconds of each measurement. */
  readonly duration: number
  /** Measurements of each side per candidate. */
  readonly rounds: number
  readonly connections: number
  /** Requests in flight on one client connection. */
  readonly pipelining: number
  readonly json: string | null
  readonly svg: string | null
}

export const tuneDefaults: TuneOptions = {
  suite: 'plain',
  knobs: knobNames,
  config: null,
  paths: [],
  headers: {},
  workers: 0,
  duration: 2,
  rounds: 3,
  connections: 64,
  pipelining: 1,
  json: null,
  svg: null,
}

/** The names of `--knobs`, separated by commas. @throws UsageError for one that is none. */
export function parseKnobs(text: string): KnobName[] {
  const names = text.split(',').map((name) => name.trim())
  for (const name of names) {
    if (!knobNames.some((known) => known === name)) {
      throw new UsageError(`--knobs: found "${name}"; expected one or more of ${knobNames.join(', ')}, separated by commas`)
    }
  }
  return knobNames.filter((known) => names.includes(known))
}

/** Enough for a started gateway to have its code compiled. */
const warmUpSecondsMost = 2
const startSeconds = 1
/**
 * Processes of load and of the built-in upstream, each as many as half of the cores: both cost more per request than the gateway, and with fewer
 * they would be the limit. No more than this, for the memory that they need.
 */
const helpersMost = 16

/**
 * Sweeps, and prints what was tried, what is best, and what could not be known.
 *
 * @returns the exit code: 0, or 1 when requests failed at the best settings.
 * @throws UsageError when a gateway does not come up or answers nothing (exit code 1), or --svg cannot be (exit code 2).
 */
export async function runTune(options: TuneOptions): Promise<number> {
  const chart = options.svg === null ? null : await svgChart()
  const machine = thisMachine()
  const own = options.config === null ? null : await readOwnConfig(options.config)
  const now: TunedSettings = own === null ? { workers: machine.cores, ...settingDefaults } : own.settings
  const start = options.workers === 0 ? now : { ...now, workers: options.workers }
  const workersMost = options.workers === 0 ? Math.max(machine.cores, now.workers) : options.workers
  const plan: SweepPlan = {
    start,
    knobs: knobsFor(options.knobs, start, workersMost, options.connections),
    rounds: options.rounds,
  }
  const at = new Date(wallMs())
  process.stdout.write(introduction(options, plan))
  const result = await measured(options, plan, own, machine.cores)
  const report = { result, now, cores: machine.cores, isOwn: own !== null }
  process.stdout.write(`\n${renderTune(report, process.stdout.isTTY === true)}`)
  if (options.json !== null) {
    const { json: _json, svg: _svg, headers, ...chosen } = options
    const data = { at: at.toISOString(), machine, options: { ...chosen, headers: Object.keys(headers) }, ...tuneData(report) }
    await writeOutput('--json', options.json, `${JSON.stringify(data, null, 2)}\n`)
  }
  if (options.svg !== null && chart !== null) {
    await writeOutput('--svg', options.svg, chart(`Latency, ${options.connections} connections`, tunedCurves(result)))
  }
  return result.best.failed === 0 ? 0 : 1
}

function introduction({ config, connections, duration, rounds, suite }: TuneOptions, plan: SweepPlan): string {
  const candidateSeconds = 2 * rounds * duration + Math.min(warmUpSecondsMost, duration) + startSeconds
  const most = stepsMost(plan)
  const minutes = Math.max(1, Math.round((most * candidateSeconds) / 60))
  return [
    `start: ${describe(plan.start)}; ${config ?? `suite ${suite}`}, ${connections} connections; each candidate beside the best so far in ${rounds} rounds of ${duration} s\n`,
    `at most ${most} candidates of about ${candidateSeconds} s, ${minutes} min; one must be better by ${winMargin * 100} % to win\n\n`,
  ].join('')
}

async function measured(options: TuneOptions, plan: SweepPlan, own: OwnConfig | null, cores: number): Promise<SweepResult> {
  const { connections, pipelining, headers, duration, rounds } = options
  const warmUpSeconds = Math.min(warmUpSecondsMost, duration)
  const load: TunedLoad = { connections, pipelining, headers, seconds: duration, warmUpSeconds }
  const bar = process.stderr.isTTY
    ? new SingleBar({ format: '[{bar}] {value}/{total} measurements', stream: process.stderr, clearOnComplete: true })
    : null
  const processes = await BenchProcesses.open()
  try {
    const helpers = Math.min(helpersMost, Math.ceil(cores / 2))
    const target = own === null ? await builtInTarget(processes, options.suite, helpers) : ownTarget(own, options.paths)
    const gateways = await TunedGateways.start(processes, target, load, helpers, () => bar?.increment())
    bar?.start(stepsMost(plan) * 2 * rounds + 1, 0)
    return await sweep(gateways, plan, (step) => process.stdout.write(stepLine(step)))
  } finally {
    bar?.stop()
    await processes.close()
  }
}

/** Starts the built-in upstream, as so many processes. */
async function builtInTarget(processes: BenchProcesses, suite: SuiteName, helpers: number): Promise<TunedTarget> {
  const port = await processes.startUpstream(helpers)
  const [benchCase] = benchCases(suite, selfStartDocument(port).targets)
  if (benchCase === undefined) throw new Error(`suite ${suite} has no case`)
  return { benchCase, document: (keepalive) => selfStartDocument(port, keepalive).document }
}

function ownTarget(own: OwnConfig, paths: readonly string[]): TunedTarget {
  const benchCase: BenchCase = { suite: 'plain', title: 'own paths', method: 'GET', paths, bodyBytes: 0, reconnect: false }
  return { benchCase, document: (keepalive) => own.document(keepalive) }
}
