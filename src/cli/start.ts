/** `sluice start`: from flags to a running gateway, and its exit code. */
import { fileURLToPath } from 'node:url'
import { systemClock } from '../base/clock.js'
import { UsageError } from '../base/errors.js'
import { DnsResolver } from '../controlplane/dns.js'
import { loadBinding } from '../dataplane/listener/binding.js'
import { type DemoUpstreams, startDemoUpstreams } from '../demo/upstreams.js'
import type { LimitsConfig } from '../schema/process.js'
import { RotorAllocator } from '../shared/rotors.js'
import { openProcessLog, type ProcessLog } from '../telemetry/process-log.js'
import { availableCores } from '../threads/cores.js'
import { supervise } from '../threads/supervise.js'
import { setV8Flags } from '../threads/v8-flags.js'
import { resolveAccept } from './accept.js'
import { ConfigurationSource } from './configuration.js'
import type { StartFlags } from './flags.js'
import { Gateway } from './gateway.js'

/** Request line, separators and what the binding itself needs, beyond the limits that the gateway enforces. */
const headerMarginBytes = 8_192

/** Runs the gateway until it ends. Rejects with UsageError for what the user can put right. */
export async function startGateway(flags: StartFlags): Promise<number> {
  const demo = flags.demo ? await startDemoUpstreams() : null
  try {
    return await runGateway(flags, demo)
  } finally {
    await demo?.close()
  }
}

async function runGateway(flags: StartFlags, demo: DemoUpstreams | null): Promise<number> {
  const environment = { ...process.env, ...demo?.environment }
  let log: ProcessLog | null = null
  const rotors = new RotorAllocator((key, slot) => log?.warn(`no round-robin slot of its own is left for ${key}; it shares slot ${slot}`))
  const source = new ConfigurationSource(
    flags,
    environment,
    (key) => rotors.slot(key),
    (level, message) => (log === null ? process.stderr.write(`${message}\n`) : log[level](message)),
  )
  const result = await source.prepare()
  if (!result.ok) {
    await source.close()
    for (const warning of result.warnings) process.stderr.write(`warning: ${warning}\n`)
    for (const error of result.errors) process.stderr.write(`${error}\n`)
    return 2
  }
  const first = result.prepared
  const processLog = openProcessLog({ level: first.process.log.level, pretty: process.stderr.isTTY === true })
  log = processLog
  for (const warning of first.warnings) processLog.warn(warning)

  setV8Flags(first.process)
  // Read by the native code when it is loaded, in whichever thread: so it is set before any of them.
  process.env['UWS_HTTP_MAX_HEADERS_SIZE'] = String(headerBytes(first.process.limits))
  const binding = loadBuild(flags.binding)
  const accept = resolveAccept(first.process.accept, { ...binding, childApps: binding.features.childApps })
  const config = { ...first.process, workers: first.process.workers || availableCores() }
  // A reader of stdout that goes away after the ready line (a pipe to `head`) is no reason to end.
  process.stdout.on('error', (error) => processLog.warn(`stdout: ${error.message}`))
  const gateway = new Gateway({
    config,
    first,
    source,
    accept,
    binding,
    log: processLog,
    resolver: new DnsResolver({ ...config.dns, clock: systemClock, log: (level, message) => processLog[level](message) }),
    environment,
    print: (line) => process.stdout.write(`${line}\n`),
  })
  return gateway.run()
}

function headerBytes(limits: LimitsConfig): number {
  return limits.maxHeaderBytes + limits.maxTargetBytes + headerMarginBytes
}

function loadBuild(name: string): ReturnType<typeof loadBinding> {
  try {
    return loadBinding(name)
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error))
  }
}

/** Runs `sluice` with these arguments, without `--supervise`, in a child process that is restarted when it dies hard. */
export async function startSupervised(args: readonly string[]): Promise<number> {
  const log = openProcessLog({ level: 'info', pretty: process.stderr.isTTY === true })
  const main = fileURLToPath(new URL('../main.js', import.meta.url))
  const childArgs = [...process.execArgv, main, ...args.filter((argument) => argument !== '--supervise')]
  return supervise({ command: process.execPath, args: childArgs, log, clock: systemClock })
}
