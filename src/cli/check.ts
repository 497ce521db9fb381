/** `sluice check`: everything that is wrong with a configuration, by the same check as start and reload. */
import { checkConfiguration } from '../controlplane/check.js'
import { formatIssue } from '../controlplane/load-issue.js'

/** Prints errors and warnings on stderr (or all as JSON on stdout); exit code 0, or 2 when there are errors. */
export async function runCheck(file: string, asJson: boolean): Promise<number> {
  const result = await checkConfiguration(file, process.env)
  const errors = result.ok ? [] : result.errors
  if (asJson) {
    process.stdout.write(`${JSON.stringify({ ok: result.ok, errors, warnings: result.warnings }, null, 2)}\n`)
    return result.ok ? 0 : 2
  }
  for (const issue of errors) process.stderr.write(`${formatIssue(issue)}\n`)
  for (const issue of result.warnings) process.stderr.write(`warning: ${formatIssue(issue)}\n`)
  if (!result.ok) {
    process.stderr.write(`sluice: ${file}: ${count(errors.length, 'error')}, ${count(result.warnings.length, 'warning')}\n`)
    return 2
  }
  const { routes, upstreams, globalPlugins } = result.compiled
  const parts = [count(routes.length, 'route'), count(upstreams.length, 'upstream'), count(globalPlugins.length, 'global plugin')]
  const { consumerCount, credentialCount } = result.consumers.tables
  if (consumerCount > 0) parts.push(count(consumerCount, 'consumer'), count(credentialCount, 'credential'))
  process.stdout.write(`${file} is right: ${parts.join(', ')}; ${count(result.warnings.length, 'warning')}\n`)
  return 0
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}
