/** Tables of a bench, as text. */
import Table from 'cli-table3'
import { type CaseResult, passed } from './measure.js'
import { percentileName, reportedPercentiles } from './percentiles.js'
import { type Curve, drawCurves } from './picture.js'

/** The results as two tables (throughput with failures, latency percentiles in milliseconds) and a picture. Ends with a newline. */
export function renderReport(results: readonly CaseResult[], colour: boolean): string {
  const style = colour ? {} : { style: { head: [], border: [] } }
  const throughput = new Table({
    head: ['suite', 'case', 'requests/s', 'MB/s', 'requests', 'errors', 'timeouts', 'non-2xx'],
    colAligns: ['left', 'left', 'right', 'right', 'right', 'right', 'right', 'right'],
    ...style,
  })
  const latency = new Table({
    head: ['latency, ms', 'mean', ...reportedPercentiles.map(percentileName)],
    colAligns: ['left', ...Array.from({ length: reportedPercentiles.length + 1 }, () => 'right' as const)],
    ...style,
  })
  for (const result of results) {
    throughput.push([
      result.suite,
      result.title,
      Math.round(result.requestsPerSecond).toLocaleString('en-US'),
      result.bytesPerSecond === null ? '' : (result.bytesPerSecond / 1e6).toFixed(1),
      result.requests.toLocaleString('en-US'),
      result.errors,
      result.timeouts,
      result.non2xx,
    ])
    latency.push([`${result.suite}: ${result.title}`, result.meanMs.toFixed(2), ...result.latencyMs.map(({ value }) => value.toFixed(2))])
  }
  return `${throughput.toString()}\n${latency.toString()}\n${drawCurves(curvesOf(results), colour)}${failureLines(results)}`
}

/** The curves of a picture, named as the lines of the tables. */
export function curvesOf(results: readonly CaseResult[]): Curve[] {
  return results.map(({ suite, title, curve }) => ({ name: `${suite}: ${title}`, points: curve }))
}

function failureLines(results: readonly CaseResult[]): string {
  return results
    .filter((result) => !passed(result))
    .map((result) => {
      const statuses = Object.entries(result.statuses).map(([status, count]) => `${count} × ${status}`)
      const seen = statuses.length === 0 ? 'no answers' : statuses.join(', ')
      return `FAILED ${result.suite}: ${result.title}: ${seen}, ${result.errors} connection errors, ${result.timeouts} timeouts\n`
    })
    .join('')
}
