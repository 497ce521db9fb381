/**
 * `sluice doctor`: checks the machine, then starts a gateway on a loopback port in front of a recording upstream and sends it the
 * framing probes.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import Table from 'cli-table3'
import { loadBinding } from '../dataplane/listener/binding.js'
import { rawSockets } from '../dataplane/tcp/handle.js'
import { canSharePorts } from '../dataplane/tcp/shared-port.js'
import { buildLimits } from '../doctor/build-limits.js'
import { GatewayProcess } from '../doctor/gateway-process.js'
import { type MachineCheck, machineChecks, readTextFile } from '../doctor/machine-checks.js'
import { RecordingUpstream } from '../doctor/recording-upstream.js'
import { type ProbeReport, runProbes } from '../doctor/run-probes.js'
import { availableCores } from '../threads/cores.js'

export interface DoctorOptions {
  /** Print one JSON document instead of tables. */
  readonly json?: boolean
  /** uWebSockets.js package to probe. Default `uWebSockets.js`. */
  readonly binding?: string
  /** Kind of the listener to probe. Default: what serves plain HTTP here. */
  readonly listener?: ListenerKind
}

export type ListenerKind = 'tcp' | 'uws' | 'node'

const DEFAULT_BINDING = 'uWebSockets.js'

/** Resolves with the exit code: 0, or 1 when a smuggling probe got through that the build limits do not name. Rejects when no gateway can be started. */
export async function runDoctor(options: DoctorOptions): Promise<number> {
  const bindingName = options.binding ?? DEFAULT_BINDING
  const checks = checkMachine(bindingName)
  if (options.json !== true) await print(machineTable(checks))
  const kind = options.listener ?? (bindingName === DEFAULT_BINDING && canServeTcp() ? 'tcp' : 'uws')
  const reports = await probeGateway(bindingName, kind)
  const open = reports.filter((report) => report.probe.smuggling && report.verdict === 'leak')
  if (options.json === true)
    await print(JSON.stringify({ machine: checks, probes: reports.map(reportJson), smuggling: open.length }, null, 2))
  else await print(probeTable(reports), summary(reports, open.length, kind))
  return open.length === 0 ? 0 : 1
}

function checkMachine(bindingName: string): MachineCheck[] {
  const { name, version, features } = loadBinding(bindingName)
  return machineChecks({
    nodeVersion: process.versions.node,
    parallelism: availableParallelism(),
    cores: availableCores(),
    binding: { name, version, childApps: features.childApps, tls: name === DEFAULT_BINDING },
    readText: readTextFile,
  })
}

function canServeTcp(): boolean {
  return rawSockets() !== null && canSharePorts()
}

async function probeGateway(binding: string, kind: ListenerKind): Promise<ProbeReport[]> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-doctor-'))
  const upstream = await RecordingUpstream.start()
  try {
    const file = join(folder, 'sluice.yaml')
    const route = { id: 'doctor', uri: '/*', upstream: { nodes: { [`127.0.0.1:${upstream.port}`]: 1 } } }
    const listeners = [{ listen: '127.0.0.1:0', kind }]
    const limits = { max_header_count: 100 }
    await writeFile(file, JSON.stringify({ routes: [route], sluice: { listeners, limits, log: { level: 'error' } } }))
    const entry = fileURLToPath(new URL('../main.js', import.meta.url))
    const gateway = await GatewayProcess.start({ entry, file, workers: 1, listen: null, binding })
    try {
      return await runProbes({ host: '127.0.0.1', port: gateway.port, upstream, limits: buildLimits(kind === 'uws' ? binding : kind) })
    } finally {
      await gateway.stop()
    }
  } finally {
    await upstream.close()
    await rm(folder, { recursive: true, force: true })
  }
}

function machineTable(checks: readonly MachineCheck[]): string {
  const table = new Table({
    head: ['machine', '', 'found', 'advice'],
    style: { head: [], border: [] },
    wordWrap: true,
    colWidths: [26, 9, 40, 60],
  })
  for (const check of checks) table.push([check.name, check.level, check.found, check.advice])
  return table.toString()
}

function probeTable(reports: readonly ProbeReport[]): string {
  const head = ['probe', 'sent', 'what happened', 'verdict']
  const table = new Table({ head, style: { head: [], border: [] }, wordWrap: true, colWidths: [40, 46, 44, 14] })
  for (const report of reports) {
    const { probe } = report
    table.push([`${probe.group}: ${probe.name}`, shown(probe.pieces.join('')), happened(report), report.verdict])
  }
  return table.toString()
}

/** The interesting part of the bytes, printable: everything behind the fixed beginning, at most 80 characters. */
function shown(bytes: string): string {
  const text = JSON.stringify(bytes.replace('Host: doctor.sluice.test\r\n', '').slice(0, 80)).slice(1, -1)
  return bytes.length > 110 ? `${text}… (${bytes.length} bytes)` : text
}

function happened(report: ProbeReport): string {
  const answer = report.statuses.length === 0 ? 'no answer' : report.statuses.join(', ')
  const connection = report.closed ? 'closed' : 'kept open'
  const upstream = report.upstreamText === '' ? 'nothing upstream' : `${report.upstreamText.length} bytes upstream`
  return [`${answer}, ${connection}, ${upstream}`, ...report.faults].join('; ')
}

function summary(reports: readonly ProbeReport[], open: number, kind: ListenerKind): string {
  const covered = reports.filter((report) => report.verdict === 'covered').length
  const rest = reports
    .filter((report) => report.verdict !== 'covered')
    .map((report) => `  ${report.probe.group}: ${report.probe.name} (${report.verdict})`)
  const limits = reports.filter((report) => report.verdict === 'build limit').length
  const decided = `${limits} are decided inside ${kind === 'node' ? 'llhttp' : 'the uWebSockets.js build (kind tcp and kind node read strictly)'}`
  const line =
    open > 0
      ? `${open} smuggling probes got through`
      : `no smuggling probe got past the ${kind} listener${kind === 'tcp' ? '' : `; ${decided}`}`
  return [`${covered} of ${reports.length} probes covered; ${line}`, ...rest].join('\n')
}

function reportJson({ probe, verdict, statuses, closed, faults, upstreamText }: ProbeReport): object {
  const { group, name, expect, smuggling, pieces } = probe
  return { group, name, expect, smuggling, sent: pieces.join(''), verdict, statuses, closed, faults, upstream: upstreamText }
}

/** Resolves when stdout has it: the process ends right behind the report, and a pipe takes it in pieces. */
function print(...blocks: string[]): Promise<void> {
  return new Promise((resolve) => process.stdout.write(`${blocks.join('\n')}\n`, () => resolve()))
}
