/** The command line: commands, flags, help, exit codes. Each command's code is loaded only when it runs. */
import { join } from 'node:path'
import { Command, CommanderError, Option } from 'commander'
import { UsageError } from '../base/errors.js'
import type { AcceptMode, LogConfig, RedisConfig, SocketAddress } from '../schema/process.js'
import { parseRedisUrl, redisUrlDefaults, redisUrlForm } from '../schema/redis-url.js'
import { mostWorkers, parseAddress, parseInteger, parseSeconds } from './address.js'
import type { ListenerKind } from './doctor.js'
import { chooseFile, type StartFlags } from './flags.js'
import { addBench } from './program-bench.js'
import { addResourceCommands } from './program-resources.js'
import { packageRoot, version } from './version.js'

const examples = `
Examples:
  sluice start --demo                       try it: echo, slow and failing demo services included
  sluice check ./sluice.yaml                say everything that is wrong with a configuration
  sluice start -c ./sluice.yaml             run; proxy on 9080, metrics on 127.0.0.1:9091 unless the file says otherwise
  kill -HUP <pid>                           reload the file; a bad one changes nothing
  kill -TERM <pid>                          drain: finish what is in flight, then exit 0

Exit codes: 0 fine, 1 failed while running, 2 wrong configuration or usage.`

const startExamples = `
Examples:
  sluice start -c gateway.yaml --workers 4 --listen 0.0.0.0:8080
  sluice start -c gateway.yaml --listen 127.0.0.1:0      any free port; the ready line on stdout names it
  sluice start -c gateway.yaml --supervise --pid-file /run/sluice.pid

Signals: HUP reloads, TERM and INT drain (a second one ends at once), USR1 reopens the access log.
Environment: SLUICE_ADMIN_KEY adds an admin key; \${{NAME}} in the file is replaced by the variable NAME.`

interface RawStart {
  config?: string
  workers?: number
  listen?: SocketAddress[]
  admin?: SocketAddress
  metrics?: SocketAddress
  redis?: RedisConfig
  accept?: AcceptMode
  pidFile?: string
  drainTimeout?: number
  logLevel?: LogConfig['level']
  demo: boolean
  supervise: boolean
  binding?: string
}

/** Runs the command line and resolves with the exit code. Prints errors itself; never rejects. */
export async function runCommandLine(args: readonly string[]): Promise<number> {
  let exitCode = 0
  const program = buildProgram((code) => {
    exitCode = code
  }, args)
  try {
    await program.parseAsync(args, { from: 'user' })
    return exitCode
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
    if (error instanceof UsageError) {
      process.stderr.write(`sluice: ${error.message}\n`)
      return error.exitCode
    }
    process.stderr.write(`sluice: unexpected error: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`)
    return 1
  }
}

function buildProgram(done: (exitCode: number) => void, args: readonly string[]): Command {
  const program = new Command('sluice')
  program
    .description('API gateway: routes, protects and measures HTTP services. Reads APISIX configuration.')
    .version(version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .showHelpAfterError('(run with --help to see what is possible)')
    .exitOverride()
    .addHelpText('after', examples)
  addStart(program, done, args)
  addCheck(program, done)
  addConvert(program, done)
  addResourceCommands(program, done)
  addHealth(program, done)
  addDoctor(program, done)
  addBench(program, done)
  addGen(program, done)
  return program
}

function addStart(program: Command, done: (exitCode: number) => void, args: readonly string[]): void {
  const collect = (text: string, earlier: SocketAddress[] | undefined) => [...(earlier ?? []), parseAddress(text, '--listen')]
  program
    .command('start')
    .description('run the gateway')
    .option('-c, --config <file>', 'configuration (default: ./sluice.yaml, then ./apisix.yaml)')
    .option('--workers <n>', 'worker threads (default: the cores available)', (text) => parseInteger(text, '--workers', 1, mostWorkers))
    .option('--listen <host:port>', 'plain HTTP listener instead of those of the file; may repeat (default: 0.0.0.0:9080)', collect)
    .option('--admin <host:port>', 'admin server: status and reload, needs a key (default: 127.0.0.1:9180 if the file has keys)', (text) =>
      parseAddress(text, '--admin'),
    )
    .option('--metrics <host:port>', 'metrics and status server (default: 127.0.0.1:9091)', (text) => parseAddress(text, '--metrics'))
    .option('--redis <url>', 'Redis that counts for all gateways, for limits whose options name none', parseRedis)
    .addOption(
      new Option('--accept <mode>', 'who accepts connections: every worker (kernel) or the primary thread (default: auto)').choices([
        'auto',
        'primary',
        'kernel',
      ]),
    )
    .option('--demo', 'run demo services inside the process; without -c also with the demo configuration', false)
    .option('--supervise', 'run under a small parent process that restarts the gateway after a hard death', false)
    .option('--pid-file <file>', 'write the process id here once ready; removed at exit')
    .option('--drain-timeout <seconds>', 'longest wait for requests in flight at the end (default: 30)', (text) =>
      parseSeconds(text, '--drain-timeout'),
    )
    .addOption(
      new Option('--log-level <level>', 'process log on stderr (default: info)').choices(['debug', 'info', 'warn', 'error', 'silent']),
    )
    .addOption(new Option('--binding <package>', 'package of the uWebSockets.js build').hideHelp())
    .addHelpText('after', startExamples)
    .action(async (raw: RawStart) => {
      const flags = startFlags(raw)
      const { startGateway, startSupervised } = await import('./start.js')
      done(await (raw.supervise ? startSupervised(args) : startGateway(flags)))
    })
}

function startFlags(raw: RawStart): StartFlags {
  return {
    file: chooseFile(raw.config, raw.demo ? join(packageRoot, 'config', 'demo.yaml') : null),
    listen: raw.listen ?? [],
    demo: raw.demo,
    binding: raw.binding ?? (process.env['SLUICE_BINDING'] || 'uWebSockets.js'),
    ...(raw.workers !== undefined && { workers: raw.workers }),
    ...(raw.admin !== undefined && { admin: raw.admin }),
    ...(raw.metrics !== undefined && { metrics: raw.metrics }),
    ...(raw.accept !== undefined && { accept: raw.accept }),
    ...(raw.pidFile !== undefined && { pidFile: raw.pidFile }),
    ...(raw.drainTimeout !== undefined && { drainTimeoutMs: raw.drainTimeout }),
    ...(raw.logLevel !== undefined && { logLevel: raw.logLevel }),
    ...(raw.redis !== undefined && { redis: raw.redis }),
  }
}

function parseRedis(url: string): RedisConfig {
  const parsed = parseRedisUrl(url, redisUrlDefaults)
  if (typeof parsed === 'string') throw new UsageError(`--redis: ${parsed}; expected ${redisUrlForm}`)
  return parsed
}

function addCheck(program: Command, done: (exitCode: number) => void): void {
  program
    .command('check')
    .description('check a configuration exactly as start and reload do')
    .argument('[file]', 'configuration (default: ./sluice.yaml, then ./apisix.yaml)')
    .option('-c, --config <file>', 'the same, as a flag')
    .option('--json', 'print the issues as JSON on stdout', false)
    .option('--no-store', 'the file alone: do not read the store that gateways share')
    .addHelpText('after', '\nPrints every error as file:line:col: path: what was found; what would be right. Exit 0, or 2 with errors.')
    .action(async (file: string | undefined, options: { config?: string; json: boolean; store: boolean }) => {
      const { runCheck } = await import('./check.js')
      done(await runCheck(chooseFile(file ?? options.config, null), options.json, !options.store))
    })
}

function addConvert(program: Command, done: (exitCode: number) => void): void {
  program
    .command('convert')
    .description('print a Kong declarative file in the form of this gateway')
    .argument('<file>', 'Kong declarative file (kong.yml)')
    .option('-o, --output <file>', 'write it there instead of to stdout; an existing file is not overwritten')
    .addHelpText('after', '\nThe result is checked as `sluice check` does. Exit 0, or 2 with errors; warnings go to stderr.')
    .action(async (file: string, options: { output?: string }) => {
      const { runConvert } = await import('./convert.js')
      done(await runConvert(file, options.output ?? null))
    })
}

function addHealth(program: Command, done: (exitCode: number) => void): void {
  program
    .command('health')
    .description('ask a running gateway whether it is ready: exit 0 or 1')
    .option('--metrics <host:port>', 'its metrics and status server (default: that of KONG_STATUS_LISTEN, else 127.0.0.1:9091)', (text) =>
      parseAddress(text, '--metrics'),
    )
    .action(async (options: { metrics?: SocketAddress }) => {
      const { runHealth, statusAddress } = await import('./health.js')
      done(await runHealth(options.metrics ?? statusAddress(process.env['KONG_STATUS_LISTEN'])))
    })
}

function addDoctor(program: Command, done: (exitCode: number) => void): void {
  program
    .command('doctor')
    .description('send malformed requests to a listener and look at the machine; exit 1 if one gets through')
    .option('--json', 'print the report as JSON', false)
    .addOption(
      new Option('--listener <kind>', 'kind of the listener to probe (default: what serves plain HTTP here)').choices([
        'tcp',
        'uws',
        'node',
      ]),
    )
    .addOption(new Option('--binding <package>', 'package of the uWebSockets.js build').hideHelp())
    .action(async ({ json, listener, binding }: { json: boolean; listener?: ListenerKind; binding?: string }) => {
      const { runDoctor } = await import('./doctor.js')
      done(await runDoctor({ json, ...(listener !== undefined && { listener }), ...(binding !== undefined && { binding }) }))
    })
}

function addGen(program: Command, done: (exitCode: number) => void): void {
  program
    .command('gen')
    .description('write the reference pages and the editor schema (config/reference, config/schema)')
    .option('--root <folder>', 'folder of the project', packageRoot)
    .action(async (options: { root: string }) => {
      const { generateReference } = await import('./gen.js')
      await generateReference(options.root)
      done(0)
    })
}
