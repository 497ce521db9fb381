/** Tables on a terminal and in Markdown, and the files of a results folder. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import Table from 'cli-table3'
import { pairedRatio } from './parse.mjs'

const columns = ['requests/s', 'p50 ms', 'p99 ms', 'CPU µs/request', 'requests/CPU s']
const shownNames = { nginx: 'nginx', haproxy: 'HAProxy', 'sluice, plain': 'our own plain', 'uws-empty': 'an empty handler' }

function ratio({ rounds }, name, to) {
  return rounds[to] === undefined ? '–' : pairedRatio(rounds[name], rounds[to]).median.toFixed(2)
}

function cells(result, name, ratios, hasLatencies) {
  const summary = result.summaries[name]
  return [
    Math.round(summary.requestsPerSecond).toLocaleString('en-US'),
    hasLatencies ? summary.p50Ms.toFixed(2) : '–',
    hasLatencies ? summary.p99Ms.toFixed(2) : '–',
    summary.cpuMicrosPerRequest.toFixed(1),
    Math.round(summary.requestsPerCpuSecond).toLocaleString('en-US'),
    ...ratios.map((to) => ratio(result, name, to)),
    String(summary.failed),
  ]
}

/** Any rows as a table for the terminal; the first column is text, the others are numbers. */
export function textTable(head, rows) {
  const table = new Table({ head, colAligns: head.map((_, index) => (index === 0 ? 'left' : 'right')), style: { head: [], border: [] } })
  table.push(...rows)
  return table.toString()
}

/** The same in Markdown. */
export function markdownTable(head, rows) {
  const line = (values) => `| ${values.join(' | ')} |`
  return [line(head), line(head.map((_, index) => (index === 0 ? '---' : '---:'))), ...rows.map(line)].join('\n')
}

/** @param result rounds and summaries of a job by contestant; `ratios`: the contestants to compare with; `load`: that of the job. */
export function jobRows(name, result, { ratios = ['nginx', 'haproxy'], load }) {
  // wrk has one clock for all requests that it sends at once.
  const hasLatencies = load.depth === undefined
  const head = [name, ...columns, ...ratios.map((to) => `× ${shownNames[to] ?? to}`), 'failed']
  return { head, rows: Object.keys(result.summaries).map((one) => [one, ...cells(result, one, ratios, hasLatencies)]) }
}

/**
 * @param judged goals with their ratios.
 * @param memory goals of what a connection takes, in KB.
 * @param latencies goals of the added latency, in microseconds.
 */
export function goalRows(judged, memory = [], latencies = []) {
  const head = ['goal', 'wanted', 'found', 'from … to', 'met']
  const row = (goal, wanted, { median, least, most }, show, isMet) => [goal, wanted, show(median), `${show(least)} … ${show(most)}`, isMet]
  const yes = (isMet) => (isMet ? 'yes' : 'no')
  const fraction = (value) => value.toFixed(2)
  const micros = (value) => `${Math.round(value).toLocaleString('en-US')} µs`
  return {
    head,
    rows: [
      ...judged.map(({ job, of, to, least, ratio }) =>
        row(`${job}: ${of} ÷ ${to}`, `≥ ${fraction(least)}`, ratio, fraction, yes(ratio.median >= least)),
      ),
      ...memory.map(({ name, most, found }) => [name, `≤ ${most} KB`, `${found.toFixed(1)} KB`, '–', yes(found <= most)]),
      ...latencies.map(({ name, most, found, isTrusted }) =>
        row(`latency: added ${name}`, `≤ ${micros(most)}`, found, micros, isTrusted ? yes(found.median <= most) : 'unknown: disturbed'),
      ),
    ],
  }
}

export function machineLines(machine) {
  const versions = Object.entries(machine.versions).map(([name, version]) => `${name} ${version ?? '(not installed)'}`)
  return [
    `CPU ${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, Linux ${machine.kernel}`,
    `versions: ${versions.join(', ')}`,
  ]
}

/** Writes files (name → text) into a results folder. */
export function writeResults(folder, files) {
  mkdirSync(folder, { recursive: true })
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text)
}

/** A moment as part of a file name. */
export function stamp(date) {
  return date.toISOString().slice(0, 19).replace(/:/g, '').replace('T', '-')
}
