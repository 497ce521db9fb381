/** The command line of `sluice bench`: its flags, what they exclude, and help. */
import type { Command } from 'commander'
import { UsageError } from '../base/errors.js'
import { mostWorkers, parseInteger } from './address.js'
import type { BenchOptions } from './bench.js'

interface RawBench {
  url?: string
  config?: string
  path: string[]
  header: { [name: string]: string }
  workers: number
  duration?: number
  connections: number
  pipelining: number
  json?: string
  svg?: string
  tune: boolean
  rounds?: number
  knobs?: string
}

const tuneHelp = `
--tune finds flags for this machine: it starts gateways of its own and a built-in upstream, and measures, in turns with the best so far, fewer
workers, upstream pipelining and the size of the upstream pool. A candidate must win by 5 %, else the simpler setting stays. Prints what was tried,
what to paste, and what it could not know. --workers is then where it starts, --duration the length of one measurement. With --config it runs a copy
of your file without its ports, logs and stores: the load goes to the upstreams of the file, and limits in Redis count there.

Examples:
  sluice bench                                       every suite, against a gateway started for the purpose
  sluice bench plain --url http://127.0.0.1:9080/    a gateway that runs
  sluice bench --tune                                two to three minutes
  sluice bench --tune --knobs pipelining,pool --svg latency.svg
  sluice bench --tune -c sluice.yaml --path /orders --header "apikey: jack"`

/** `sluice bench`. `done` gets the exit code. */
export function addBench(program: Command, done: (exitCode: number) => void): void {
  const integer = (flag: string, least: number, most: number) => (text: string) => parseInteger(text, flag, least, most)
  program
    .command('bench')
    .description('load a running gateway, or one started for the purpose, and print a report')
    .addArgument(program.createArgument('[suite]', 'what to send').choices(['plain', 'keepalive', 'post', 'routes', 'all']).default('all'))
    .option('--url <url>', 'a running gateway with the path to ask for (default: start one with a built-in upstream)')
    .option(
      '--path <target>',
      'further target for the routes suite with --url, target to ask for with --config; may repeat',
      (text, earlier: string[] | undefined) => [...(earlier ?? []), text],
    )
    .option('--header <field>', 'request header as "Name: value", such as a key; may repeat', parseHeader)
    .option('--workers <n>', 'worker threads of the started gateway (default: the cores available)', integer('--workers', 1, mostWorkers))
    .option('--duration <seconds>', 'length of each case (default: 10, with --tune 2)', integer('--duration', 1, 3600))
    .option('--connections <n>', 'client connections', integer('--connections', 1, 100_000), 64)
    .option('--pipelining <n>', 'requests in flight on a client connection', integer('--pipelining', 1, 1000), 1)
    .option('--json <file>', 'also write the results here')
    .option('--svg <file>', 'also draw the percentile curves here, as SVG (needs the package echarts)')
    .option('--tune', 'find the best flags for this machine by a short sweep')
    .option('-c, --config <file>', 'with --tune: your configuration, with its upstreams, instead of the built-in one; needs --path')
    .option('--knobs <names>', 'what --tune turns (default: workers,pipelining,pool)')
    .option('--rounds <n>', 'measurements of each candidate with --tune (default: 3)', integer('--rounds', 1, 100))
    .addHelpText('after', tuneHelp)
    .action(async (suite: BenchOptions['suite'], given: Partial<RawBench>) => {
      // Not as defaults of the options, which help would print.
      const raw = { path: [], header: {}, workers: 0, connections: 64, pipelining: 1, tune: false, ...given }
      done(await (raw.tune ? tune(suite, raw) : bench(suite, raw)))
    })
}

function parseHeader(text: string, earlier: { [name: string]: string } = {}): { [name: string]: string } {
  const [, name, value] = /^([!#$%&'*+.^_`|~\w-]+): *([\t\x20-\x7e]*)$/.exec(text) ?? []
  if (name === undefined || value === undefined) throw new UsageError(`--header: found "${text}"; expected "Name: value"`)
  return { ...earlier, [name]: value }
}

async function bench(suite: BenchOptions['suite'], { url, path, json, svg, duration, ...raw }: RawBench): Promise<number> {
  if (raw.config !== undefined) throw new UsageError('--config: works only together with --tune; measure a gateway that runs with --url')
  if (raw.knobs !== undefined) throw new UsageError('--knobs: works only together with --tune')
  if (raw.rounds !== undefined) throw new UsageError('--rounds: works only together with --tune')
  const { benchDefaults, runBench } = await import('./bench.js')
  const { workers, connections, pipelining } = raw
  const numbers = { workers, connections, pipelining, headers: raw.header, duration: duration ?? benchDefaults.duration }
  return runBench({ suite, url: url ?? null, paths: path, json: json ?? null, svg: svg ?? null, ...numbers })
}

async function tune(suite: BenchOptions['suite'], raw: RawBench): Promise<number> {
  if (raw.url !== undefined) throw new UsageError('--url: a gateway that runs cannot be given other flags; --tune starts its own')
  checkTarget(raw)
  if (suite !== 'all' && suite !== 'plain' && suite !== 'routes') {
    throw new UsageError(`suite "${suite}": --tune compares one number per candidate; expected plain (the default) or routes`)
  }
  if (raw.config !== undefined && suite === 'routes') throw new UsageError('suite "routes": with --config, --path says what is asked for')
  const { parseKnobs, runTune, tuneDefaults } = await import('./bench/tune.js')
  const { workers, connections, pipelining } = raw
  return runTune({
    suite: suite === 'all' ? tuneDefaults.suite : suite,
    knobs: raw.knobs === undefined ? tuneDefaults.knobs : parseKnobs(raw.knobs),
    duration: raw.duration ?? tuneDefaults.duration,
    rounds: raw.rounds ?? tuneDefaults.rounds,
    config: raw.config ?? null,
    paths: raw.path,
    headers: raw.header,
    workers,
    connections,
    pipelining,
    json: raw.json ?? null,
    svg: raw.svg ?? null,
  })
}

function checkTarget({ config, path }: RawBench): void {
  if (config === undefined && path.length > 0) throw new UsageError('--path: works only together with --url or --config')
  if (config !== undefined && path.length === 0) throw new UsageError('--config: needs --path, once for every target to ask for')
  const wrong = path.find((target) => !target.startsWith('/'))
  if (wrong !== undefined) throw new UsageError(`--path: found "${wrong}"; expected a target that begins with "/"`)
}
