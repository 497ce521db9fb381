/** `sluice lint`: what a valid configuration could do better, rule by rule. */
import { readFileSync } from 'node:fs'
import { wallMs } from '../base/clock.js'
import { UsageError } from '../base/errors.js'
import { leftOutText } from '../controlplane/leave-out.js'
import { CHECK_RULE, lintConfiguration, lintRules } from '../controlplane/lint/lint.js'
import { type LintFinding, type LintSeverity, lintSeverities } from '../controlplane/lint/lint-rule.js'
import { formatIssue } from '../controlplane/load-issue.js'
import { suggest } from '../controlplane/suggest.js'
import { ConfigurationSource } from './configuration.js'
import { flagsFor } from './flags.js'

export interface LintCommand {
  readonly file: string
  readonly asJson: boolean
  /** Exit code 1 from this severity on. */
  readonly failOn: LintSeverity
  readonly ignore: readonly string[]
  /** A store that gateways share is not read. */
  readonly ignoresStore: boolean
}

/** Prints the findings on stdout. Exit code 0, 1 when there are findings of severity `failOn` or worse, 2 when the file is not valid. */
export async function runLint({ file, asJson, failOn, ignore, ignoresStore }: LintCommand): Promise<number> {
  const ignored = knownRules(ignore)
  const source = new ConfigurationSource(flagsFor(file), process.env, () => 0, ignoresStore ? 'aside' : 'read')
  const { checked, leftOut } = await source.read()
  for (const one of leftOut) process.stderr.write(`warning: ${leftOutText(one)}\n`)
  if (!checked.ok) {
    if (asJson) process.stdout.write(`${JSON.stringify({ ok: false, errors: checked.errors, findings: [] }, null, 2)}\n`)
    else for (const issue of checked.errors) process.stderr.write(`${formatIssue(issue)}\n`)
    return 2
  }
  const findings = lintConfiguration(checked, { text: readFileSync(file, 'utf8'), ignored, nowMs: wallMs() })
  const fails = findings.some(({ severity }) => rank(severity) <= rank(failOn))
  if (asJson) process.stdout.write(`${JSON.stringify({ ok: !fails, errors: [], findings }, null, 2)}\n`)
  else print(file, findings)
  return fails ? 1 : 0
}

function print(file: string, findings: readonly LintFinding[]): void {
  for (const finding of findings) process.stdout.write(`${formatIssue(finding)} [${finding.severity} ${finding.rule}]\n`)
  const counts = lintSeverities.map((severity) => `${findings.filter((finding) => finding.severity === severity).length} ${severity}`)
  process.stdout.write(`${file}: ${findings.length === 0 ? 'nothing found' : counts.join(', ')}\n`)
}

function rank(severity: LintSeverity): number {
  return lintSeverities.indexOf(severity)
}

function knownRules(names: readonly string[]): ReadonlySet<string> {
  const known = [...lintRules.map(({ id }) => id), CHECK_RULE]
  for (const name of names) {
    if (known.includes(name)) continue
    const meant = suggest(name, known)
    throw new UsageError(
      `--ignore ${name}: there is no such rule${meant === undefined ? '' : `; did you mean ${meant}?`}; expected one of docs/lint.md`,
    )
  }
  return new Set(names)
}
