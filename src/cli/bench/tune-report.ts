/** What a sweep found, as text for people and as plain data. */
import Table from 'cli-table3'
import { stringify } from 'yaml'
import type { TunedSettings } from './knobs.js'
import type { LatencyPoint } from './percentiles.js'
import { type Curve, drawCurves } from './picture.js'
import { describe, type Side, type Step, type SweepResult, winMargin } from './sweep.js'

/** When the same settings were so many times as fast in one round as in another, something else worked on the machine. */
const unsteady = 1.3
/** From this share on the machine has nothing left to give. */
const fullMachine = 0.9
/** A gateway whose workers have so much of a core left was not the limit. */
const idleWorker = 0.75

export interface TuneReport {
  readonly result: SweepResult
  /** What the gateway does without any of the advice: its defaults, or what the configuration of the user says. */
  readonly now: TunedSettings
  readonly cores: number
  /** Whether the configuration of the user ran, not the built-in one. */
  readonly isOwn: boolean
}

/** What is to be pasted. */
export interface Advice {
  /** Empty when no flag is needed. */
  readonly commandLine: string
  readonly yaml: string
}

/** How a step is called while a sweep runs and in the table. */
export function stepName({ knob, candidate }: Step): string {
  const { workers, pipelining, poolSize } = candidate.settings
  if (knob === 'together') return 'all together, beside the start'
  if (knob === 'workers') return workers === 1 ? '1 worker' : `${workers} workers`
  return knob === 'pipelining' ? `pipelining ${pipelining}` : `pool ${poolSize}`
}

export function stepLine(step: Step): string {
  const { best, candidate, requestsRatio, cpuRatio, outcome, reason } = step
  const rates = `${whole(best.requestsPerSecond)} → ${whole(candidate.requestsPerSecond)} requests/s (× ${requestsRatio.toFixed(2)}`
  const cpu = cpuRatio === null ? '' : `, CPU per request × ${cpuRatio.toFixed(2)}`
  return `${stepName(step)}: ${rates}${cpu}): ${outcome === 'wins' ? 'better' : 'no'}, ${reason}\n`
}

/** Table, picture, what to paste, and what the sweep could not know. Ends with a newline. */
export function renderTune(report: TuneReport, colour: boolean): string {
  return [
    tableOf(report.result, colour),
    drawCurves(tunedCurves(report.result), colour),
    `\n${headline(report)}\n`,
    pasteable(report),
    `\nWhat this could not know:\n${notes(report)
      .map((note) => `- ${note}\n`)
      .join('')}`,
  ].join('')
}

export function tunedCurves({ start, best }: SweepResult): Curve[] {
  const curves = [
    { name: start === best ? describe(start.settings) : `start: ${describe(start.settings)}`, points: start.latencies.curve() },
  ]
  if (best !== start) curves.push({ name: `best: ${describe(best.settings)}`, points: best.latencies.curve() })
  return curves
}

function tableOf({ steps, start }: SweepResult, colour: boolean): string {
  const head = ['tried', 'requests/s', 'p50 ms', 'p99 ms', 'p99.9 ms', 'CPU µs/request', '× best', 'CPU × best', 'failed', 'better']
  const table = new Table({
    head,
    colAligns: head.map((_, column) => (column === 0 || column === head.length - 1 ? 'left' : 'right')),
    ...(colour ? {} : { style: { head: [], border: [] } }),
  })
  const first = steps[0]?.best ?? start
  table.push(['the start', ...numbersOf(first), '', '', first.failed, ''])
  for (const step of steps) {
    const { candidate, requestsRatio, cpuRatio, outcome } = step
    const ratios = [requestsRatio.toFixed(2), cpuRatio === null ? '' : cpuRatio.toFixed(2)]
    table.push([stepName(step), ...numbersOf(candidate), ...ratios, candidate.failed, outcome === 'wins' ? 'yes' : 'no'])
  }
  return `${table.toString()}\n`
}

function numbersOf({ requestsPerSecond, cpuMicrosPerRequest, latencies }: Side): string[] {
  const times = [50, 99, 99.9].map((percentile) => latencies.at(percentile).toFixed(2))
  return [whole(requestsPerSecond), ...times, cpuMicrosPerRequest === null ? '' : cpuMicrosPerRequest.toFixed(1)]
}

function headline({ result: { start, best, steps } }: TuneReport): string {
  const margin = `${winMargin * 100} %`
  const decided = steps.findLast(({ candidate }) => candidate === best)
  if (decided === undefined) {
    return `Best found: the settings of the start, ${describe(start.settings)}. Nothing that was tried is better by ${margin}.`
  }
  const cpu = decided.cpuRatio === null ? '' : `, × ${decided.cpuRatio.toFixed(2)} CPU per request`
  return `Best found: ${describe(best.settings)} (× ${decided.requestsRatio.toFixed(2)} requests/s${cpu}, beside ${describe(start.settings)}).`
}

/** @returns null when the best is what the gateway does without being told. */
export function adviceOf({ result, now }: TuneReport): Advice | null {
  const { workers, pipelining, poolSize } = result.best.settings
  const keepalive: { size?: number; pipelining?: number } = {}
  if (poolSize !== now.poolSize) keepalive.size = poolSize
  if (pipelining !== now.pipelining) keepalive.pipelining = pipelining
  const hasPool = Object.keys(keepalive).length > 0
  if (workers === now.workers && !hasPool) return null
  const document = {
    ...(workers !== now.workers && { sluice: { workers } }),
    ...(hasPool && { upstreams: [{ id: 'yours', keepalive_pool: keepalive }] }),
  }
  return { commandLine: workers === now.workers ? '' : `sluice start --workers ${workers}`, yaml: stringify(document) }
}

function pasteable(report: TuneReport): string {
  const advice = adviceOf(report)
  if (advice === null) return 'No flag and no option has to be changed.\n'
  const indented = (text: string): string => `\n  ${text.trimEnd().replaceAll('\n', '\n  ')}\n`
  const flag = advice.commandLine === '' ? '' : `As a flag:\n${indented(advice.commandLine)}\n`
  return `\n${flag}In the configuration:\n${indented(advice.yaml)}`
}

function notes({ result, cores, isOwn }: TuneReport): string[] {
  const { start, best, steps } = result
  const { gatewayCores, machineBusy } = best
  const restless = unsteadiness(result)
  const tried = steps.filter(({ knob }) => knob === 'workers').map(({ candidate }) => candidate)
  const used = gatewayCores === null ? '' : `, ${gatewayCores.toFixed(1)} of ${cores} cores by the gateway`
  const tells = [
    `${isOwn ? 'The load generators' : 'Load generators and upstream'} ran on this machine too: ${Math.round(machineBusy * 100)} % of its CPU was in use${used}. Between machines there is also a network.`,
    ...(restless === null ? [] : [restless]),
  ]
  if (tried.length > 0 && machineBusy >= fullMachine) {
    const capacities = [start, ...tried].map(capacityOf).filter((text) => text !== null)
    const alone = capacities.length === 0 ? '' : ` By its CPU time per request the gateway alone could answer ${capacities.join(', ')}.`
    tells.push(
      `The machine was full, so workers competed with load and upstream for cores. With clients and upstreams on other machines leave \`--workers\` at its default, one for each core.${alone}`,
    )
  } else if (tried.length > 0 && gatewayCores !== null && gatewayCores < best.settings.workers * idleWorker) {
    tells.push(
      'The gateway had CPU left, so the load was the limit: this cannot tell how many workers more load would need. The default, one for each core, is right then.',
    )
  }
  const latencies = 'Latencies are those of a closed loop at full load'
  if (isOwn) return [...tells, `All upstreams had the same settings; what is good for one may not be for another. ${latencies}.`]
  return [
    ...tells,
    'The built-in upstream answers about 150 bytes at once. Yours do not: with pipelining a slow answer delays those behind it on its connection, so use it for quick upstreams that allow it; a small pool costs more where opening a connection does (distance, TLS).',
    `${latencies}. \`--config\` takes your own routes, plugins and upstreams; \`sluice bench --url\` measures a gateway that runs.`,
  ]
}

/** What is to be said of a machine that was not quiet; null when the best and the start were about as fast in all of their rounds. */
function unsteadiness({ start, best, steps }: SweepResult): string | null {
  const sides = steps.flatMap((step) => [step.best, step.candidate])
  for (const { settings } of [start, best]) {
    const ranges = sides.filter((side) => describe(side.settings) === describe(settings)).map((side) => side.requestsPerSecondRange)
    const [least, most] = [Math.min(...ranges.map(([slowest]) => slowest)), Math.max(...ranges.map(([, fastest]) => fastest))]
    if (most >= least * unsteady) {
      return `The machine was not quiet: ${describe(settings)} came to ${whole(least)} requests/s in one round and to ${whole(most)} in another. Run it again when nothing else works here, with more --rounds.`
    }
  }
  return null
}

/** What all workers of a side could answer if each had a core to itself; null where CPU time is not known. */
function capacityOf({ settings, cpuMicrosPerRequest }: Side): string | null {
  if (cpuMicrosPerRequest === null || cpuMicrosPerRequest === 0) return null
  const { workers } = settings
  return `${whole((workers * 1e6) / cpuMicrosPerRequest)} requests/s with ${workers} ${workers === 1 ? 'worker' : 'workers'}`
}

interface PlainSide {
  readonly settings: TunedSettings
  readonly requestsPerSecond: number
  readonly cpuMicrosPerRequest: number | null
  readonly gatewayCores: number | null
  readonly machineBusy: number
  readonly failed: number
  readonly latencyMs: readonly LatencyPoint[]
  readonly curve: readonly LatencyPoint[]
}

/** For `--json`. */
export function tuneData(report: TuneReport): object {
  const { start, best, steps } = report.result
  return {
    margin: winMargin,
    start: plain(start),
    best: plain(best),
    advice: adviceOf(report),
    steps: steps.map((step) => ({ ...step, best: plain(step.best), candidate: plain(step.candidate) })),
    notes: notes(report),
  }
}

function plain({ latencies, ...side }: Side): PlainSide {
  return { ...side, latencyMs: latencies.reported(), curve: latencies.curve() }
}

function whole(value: number): string {
  return Math.round(value).toLocaleString('en-US')
}
