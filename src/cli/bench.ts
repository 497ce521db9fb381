/** `sluice bench`: the bundled load suites against a running gateway, or against one started for the purpose. */
import { SingleBar } from 'cli-progress'
import { wallMs } from '../base/clock.js'
import { UsageError } from '../base/errors.js'
import { thisMachine } from './bench/machine.js'
import { type CaseResult, load, passed, Recorder, resultOf } from './bench/measure.js'
import { curvesOf, renderReport } from './bench/report.js'
import { type SelfStarted, selfStart } from './bench/self-start.js'
import { type BenchCase, benchCases, type SuiteName, suiteNames } from './bench/suites.js'
import { svgChart, writeOutput } from './bench/svg.js'

export interface BenchOptions {
  readonly suite: SuiteName | 'all'
  /** A gateway that runs already, with the path to ask for; null = start one with a built-in upstream. */
  readonly url: string | null
  /** Targets to mix in the routes suite; only with `url`. */
  readonly paths: readonly string[]
  /** Worker threads of the self-started gateway; 0 = its default. */
  readonly workers: number
  /** Seconds for each case. */
  readonly duration: number
  readonly connections: number
  /** Requests in flight on one client connection. */
  readonly pipelining: number
  /** Further request headers. */
  readonly headers: Readonly<Record<string, string>>
  /** File for the full report as JSON; null = none. */
  readonly json: string | null
  /** File for the percentile curves as SVG; null = none. */
  readonly svg: string | null
}

export const benchDefaults: BenchOptions = {
  suite: 'all',
  url: null,
  paths: [],
  workers: 0,
  duration: 10,
  connections: 64,
  pipelining: 1,
  headers: {},
  json: null,
  svg: null,
}

/**
 * Runs the suites and prints the report on stdout.
 *
 * @returns the exit code: 0 when every case was answered with 2xx only, 1 when anything failed.
 * @throws UsageError for options that cannot be (exit code 2), or a gateway that does not come up (exit code 1).
 */
export async function runBench(options: BenchOptions): Promise<number> {
  checkOptions(options)
  const foreign = options.url === null ? null : targetOf(options.url, options.paths)
  // Which cases there are is decided before anything is started: a usage error must not cost a start.
  if (foreign !== null) benchCases(options.suite, foreign.targets)
  const chart = options.svg === null ? null : await svgChart()
  const gateway = foreign ?? (await selfStart(options.workers))
  try {
    const { origin, targets } = gateway
    const cases = benchCases(options.suite, targets)
    process.stdout.write(`${gateway.readyLine}\n`)
    process.stdout.write(`${options.connections} connections, ${options.duration} s a case, pipelining ${options.pipelining}\n`)
    const at = new Date(wallMs())
    const results = await runCases(cases, origin, options)
    process.stdout.write(renderReport(results, process.stdout.isTTY === true))
    if (options.suite === 'all' && !cases.some(({ suite }) => suite === 'routes')) {
      process.stdout.write('suite "routes" left out: with --url it needs --path, once for every route to mix\n')
    }
    if (options.json !== null) await writeReport(options.json, at, origin, options, results)
    if (options.svg !== null && chart !== null) {
      await writeOutput('--svg', options.svg, chart(`Latency, ${options.connections} connections`, curvesOf(results)))
    }
    return results.every(passed) ? 0 : 1
  } finally {
    await gateway.close()
  }
}

function checkOptions(options: BenchOptions): void {
  const whole = (name: string, value: number, least: number): void => {
    if (!Number.isInteger(value) || value < least)
      throw new UsageError(`${name}: found ${value}; expected a whole number of at least ${least}`)
  }
  if (options.suite !== 'all' && !suiteNames.includes(options.suite)) {
    throw new UsageError(`suite: found "${String(options.suite)}"; expected one of ${suiteNames.join(', ')}, all`)
  }
  whole('--connections', options.connections, 1)
  whole('--duration', options.duration, 1)
  whole('--pipelining', options.pipelining, 1)
  whole('--workers', options.workers, 0)
  if (options.url === null && options.paths.length > 0) throw new UsageError('--path: works only together with --url')
  if (options.url !== null && options.workers > 0) {
    throw new UsageError('--workers: is for a self-started gateway; with --url the gateway runs already')
  }
  for (const path of options.paths) {
    if (!path.startsWith('/')) throw new UsageError(`--path: found "${path}"; expected a target that begins with "/"`)
  }
}

/** A gateway that runs already, in the form of one of our own: closing it does nothing. */
function targetOf(text: string, paths: readonly string[]): SelfStarted {
  const url = URL.canParse(text) ? new URL(text) : null
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw new UsageError(`--url: found "${text}"; expected an address such as http://127.0.0.1:9080/path`)
  }
  const path = url.pathname + url.search
  return { origin: url.origin, targets: { path, mixedPaths: paths }, readyLine: `target ${url.origin}${path}`, close: async () => {} }
}

async function runCases(cases: readonly BenchCase[], origin: string, options: BenchOptions): Promise<CaseResult[]> {
  const bar = process.stderr.isTTY
    ? new SingleBar({ format: '{title} [{bar}] {value}/{total} s, {answers} answers', stream: process.stderr, clearOnComplete: true })
    : null
  const results: CaseResult[] = []
  let second = 0
  bar?.start(cases.length * options.duration, 0, { title: '', answers: 0 })
  try {
    for (const [index, benchCase] of cases.entries()) {
      second = index * options.duration
      const { connections, duration, pipelining, headers } = options
      const settings = { origin, connections, durationSeconds: duration, pipelining, headers }
      const onSecond = (answers: number): void => {
        second = Math.min(second + 1, (index + 1) * options.duration)
        bar?.update(second, { title: benchCase.title, answers })
      }
      const recorder = new Recorder()
      results.push(resultOf(benchCase, recorder, await load(benchCase, settings, recorder, onSecond)))
    }
  } finally {
    bar?.stop()
  }
  return results
}

async function writeReport(file: string, at: Date, origin: string, options: BenchOptions, results: readonly CaseResult[]): Promise<void> {
  const report = {
    at: at.toISOString(),
    origin,
    machine: thisMachine(),
    options: {
      suite: options.suite,
      workers: options.workers,
      durationSeconds: options.duration,
      connections: options.connections,
      pipelining: options.pipelining,
      headers: Object.keys(options.headers),
    },
    results,
  }
  await writeOutput('--json', file, `${JSON.stringify(report, null, 2)}\n`)
}
