/** `sluice check`: everything that is wrong with a configuration, by the same check as start and reload. */
import { effectOf, leftOutText } from '../controlplane/leave-out.js'
import { formatIssue } from '../controlplane/load-issue.js'
import { asideTexts, ConfigurationSource } from './configuration.js'
import { flagsFor } from './flags.js'

/**
 * Prints errors and warnings on stderr (or all as JSON on stdout); exit code 0, or 2 when there are errors. The changes that the Admin
 * API has made over the file are part of what is checked, as at a start; so is a store that gateways share, unless `ignoresStore`. Rejects
 * with UsageError when they cannot be read.
 */
export async function runCheck(file: string, asJson: boolean, ignoresStore = false): Promise<number> {
  const source = new ConfigurationSource(flagsFor(file), process.env, () => 0, ignoresStore ? 'aside' : 'read')
  const { checked: result, leftOut, view } = await source.read()
  const store = source.placeOfResources()
  const errors = result.ok ? [] : result.errors
  const aside = asideTexts(view)
  if (asJson) {
    const changes = view === null ? null : { in_force: view.inForce, set_aside: aside }
    const left_out = leftOut.map((one) => ({ kind: one.resource.kind, id: one.resource.id, reason: one.reason, effect: effectOf(one) }))
    const report = { ok: result.ok, errors, warnings: result.warnings, changes, ...(store !== null && { store, left_out }) }
    process.stdout.write(`${JSON.stringify(report, null, 2)}\n`)
    return result.ok ? 0 : 2
  }
  for (const issue of errors) process.stderr.write(`${formatIssue(issue)}\n`)
  const said = [...result.warnings.map(formatIssue), ...aside, ...leftOut.map(leftOutText)]
  for (const warning of said) process.stderr.write(`warning: ${warning}\n`)
  const warnings = count(said.length, 'warning')
  if (!result.ok) {
    process.stderr.write(`sluice: ${file}: ${count(errors.length, 'error')}, ${warnings}\n`)
    return 2
  }
  const { routes, upstreams, globalPlugins } = result.compiled
  const parts = [count(routes.length, 'route'), count(upstreams.length, 'upstream'), count(globalPlugins.length, 'global plugin')]
  const { consumerCount, credentialCount } = result.consumers.tables
  if (consumerCount > 0) parts.push(count(consumerCount, 'consumer'), count(credentialCount, 'credential'))
  const isChanged = view !== null && view.inForce > 0
  const journal = isChanged ? ` with ${count(view.inForce, 'change')} by the Admin API` : ''
  const changes = store === null ? journal : ` with the resources of ${store}`
  process.stdout.write(`${file}${changes} is right: ${parts.join(', ')}; ${warnings}\n`)
  return 0
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}
