/** Tables on a terminal and in Markdown, and the files of a results folder. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import Table from 'cli-table3'

const columns = ['requests/s', 'p50 ms', 'p99 ms', 'CPU µs/request', 'requests/CPU s', '× nginx', '× HAProxy', 'failed']

function ratio(summaries, name, to) {
  const base = summaries[to]
  return base === undefined ? '–' : (summaries[name].requestsPerCpuSecond / base.requestsPerCpuSecond).toFixed(2)
}

function cells(summaries, name) {
  const summary = summaries[name]
  return [
    Math.round(summary.requestsPerSecond).toLocaleString('en-US'),
    summary.p50Ms.toFixed(2),
    summary.p99Ms.toFixed(2),
    summary.cpuMicrosPerRequest.toFixed(1),
    Math.round(summary.requestsPerCpuSecond).toLocaleString('en-US'),
    ratio(summaries, name, 'nginx'),
    ratio(summaries, name, 'haproxy'),
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

/** @param summaries medians by rival, in the order of the table. */
export function jobRows(title, summaries) {
  return { head: [title, ...columns], rows: Object.keys(summaries).map((name) => [name, ...cells(summaries, name)]) }
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
