/** The commands about resources: what a file, its changes and a running gateway hold, and how one becomes the other. */
import { type Command, Option } from 'commander'
import type { LintSeverity } from '../controlplane/lint/lint-rule.js'
import { parseInteger } from './address.js'
import { chooseFile } from './flags.js'
import type { AdminTarget } from './resources/admin-client.js'

type Done = (exitCode: number) => void

interface RawTarget {
  admin: string
  keyFile?: string
  ca?: string
}

interface RawComparison extends RawTarget {
  json: boolean
  delete: boolean
}

/** Adds them to the program. */
export function addResourceCommands(program: Command, done: Done): void {
  addLint(program, done)
  addExport(program, done)
  addDiff(program, done)
  addApply(program, done)
  addConfig(program, done)
  addBackup(program, done)
}

function withTarget(command: Command): Command {
  return command
    .option('--admin <address>', 'admin server of the gateway, host:port or a URL', '127.0.0.1:9180')
    .option('--key-file <file>', 'file that holds the key of an admin (default: the variable SLUICE_ADMIN_KEY)')
    .option('--ca <file>', 'PEM file of the authority that signed the certificate of an HTTPS admin server')
}

function targetOf(raw: RawTarget): AdminTarget {
  return { admin: raw.admin, keyFile: raw.keyFile ?? null, caFile: raw.ca ?? null }
}

function withComparison(command: Command): Command {
  return withTarget(command)
    .option('--no-delete', 'leave resources alone that the file does not have')
    .option('--json', 'print the changes as JSON', false)
}

interface RawLint {
  json: boolean
  failOn: LintSeverity
  ignore: string[]
  store: boolean
}

function addLint(program: Command, done: Done): void {
  program
    .command('lint')
    .description('say what is allowed and yet better otherwise: security, reliability, settings that mean something else elsewhere')
    .argument('[file]', 'configuration (default: ./sluice.yaml, then ./apisix.yaml)')
    .option('--json', 'print the findings as JSON on stdout', false)
    .addOption(new Option('--fail-on <severity>', 'least severity that fails').choices(['error', 'warning', 'advice']).default('warning'))
    .option('--ignore <rule>', 'leave this rule out; may repeat', (rule, earlier: string[]) => [...earlier, rule], [])
    .option('--no-store', 'the file alone: do not read the store that gateways share')
    .addHelpText('after', '\nEvery rule is explained in docs/lint.md. Exit 0, 1 with findings, 2 when the file is not valid.')
    .action(async (file: string | undefined, { json, failOn, ignore, store }: RawLint) => {
      const { runLint } = await import('./lint.js')
      done(await runLint({ file: chooseFile(file, null), asJson: json, failOn, ignore, ignoresStore: !store }))
    })
}

function addExport(program: Command, done: Done): void {
  const command = program
    .command('export')
    .description('print the resources of a running gateway, of a file with the changes of its journal, or of its shared store, as YAML')
    .argument('[file]', 'configuration whose journal stands beside it, or that names a shared store (default: ask the running gateway)')
    .option('-o, --output <file>', 'write it there, for the owner alone; an existing file is not overwritten')
    .addHelpText('after', '\nThe text holds secrets in clear; variables of the file are replaced by their values.')
  withTarget(command).action(async (file: string | undefined, raw: RawTarget & { output?: string }) => {
    const { exportFile, exportRunning } = await import('./resources/export.js')
    const output = raw.output ?? null
    done(await (file === undefined ? exportRunning(targetOf(raw), output) : exportFile(chooseFile(file, null), output)))
  })
}

function addDiff(program: Command, done: Done): void {
  const command = program
    .command('diff')
    .description('show what would have to change in a running gateway for it to be as a file says')
    .argument('<file>', 'configuration, also a Kong declarative file')
    .addHelpText('after', '\nExit 0 when nothing would change, 1 when something would, 2 when the file is wrong.')
  withComparison(command).action(async (file: string, raw: RawComparison) => {
    const { runDiff } = await import('./resources/diff.js')
    done(await runDiff({ file: chooseFile(file, null), target: targetOf(raw), keepsOthers: !raw.delete, asJson: raw.json }))
  })
}

function addApply(program: Command, done: Done): void {
  const command = program
    .command('apply')
    .description('make a running gateway what a file says, through its Admin API; without --yes only say what that would be')
    .argument('<file>', 'configuration, also a Kong declarative file')
    .option('--yes', 'do it', false)
    .option('--state <state>', 'only if this is still the state of the gateway, which diff and a run without --yes print')
    .addHelpText(
      'after',
      '\nAll changes are one: they are in force on every worker when it ends, or nothing was changed. A change by others in between is noticed.',
    )
  withComparison(command).action(async (file: string, raw: RawComparison & { yes: boolean; state?: string }) => {
    const { runApply } = await import('./resources/diff.js')
    const { yes, state } = raw
    const common = { file: chooseFile(file, null), target: targetOf(raw), keepsOthers: !raw.delete, asJson: raw.json }
    done(await runApply({ ...common, yes, state: state ?? null }))
  })
}

function addConfig(program: Command, done: Done): void {
  const config = program.command('config').description('earlier revisions of the configuration of a running gateway')
  const revision = (text: string) => parseInteger(text, 'revision', 0, Number.MAX_SAFE_INTEGER)
  withTarget(config.command('history'))
    .description('list the revisions that the store keeps, the newest first')
    .option('--json', 'print them as JSON', false)
    .action(async (raw: RawTarget & { json: boolean }) => {
      const { runHistory } = await import('./resources/history.js')
      done(await runHistory(targetOf(raw), raw.json))
    })
  withTarget(config.command('diff'))
    .description('show what has changed since a revision; exit 0 when nothing has, else 1')
    .argument('<from>', 'revision', revision)
    .argument('[to]', 'revision (default: what is in force)', revision)
    .action(async (from: number, to: number | undefined, raw: RawTarget) => {
      const { runHistoryDiff } = await import('./resources/history.js')
      done(await runHistoryDiff(targetOf(raw), from, to ?? null))
    })
  withTarget(config.command('rollback'))
    .description('make the resources what they were at a revision, as one change; without --yes only say what that would be')
    .argument('<revision>', 'revision', revision)
    .option('--yes', 'do it', false)
    .action(async (to: number, raw: RawTarget & { yes: boolean }) => {
      const { runRollback } = await import('./resources/history.js')
      done(await runRollback(targetOf(raw), to, raw.yes))
    })
}

function addBackup(program: Command, done: Done): void {
  program
    .command('backup')
    .description('write a configuration file and its journal or shared store, with all secrets, into one file')
    .argument('<file>', 'configuration')
    .requiredOption('-o, --output <file>', 'the backup, for the owner alone; an existing file is not overwritten')
    .action(async (file: string, { output }: { output: string }) => {
      const { runBackup } = await import('./resources/backup.js')
      done(await runBackup(chooseFile(file, null), output))
    })
  program
    .command('restore')
    .description('write a configuration back from a backup: file and journal of a gateway that does not run, or file and shared store')
    .argument('<backup>', 'file that backup wrote')
    .argument('<file>', 'configuration to write')
    .option('--force', 'replace what is there, a shared store that holds something else included', false)
    .action(async (backup: string, file: string, { force }: { force: boolean }) => {
      const { runRestore } = await import('./resources/backup.js')
      done(await runRestore(backup, chooseFile(file, null), force))
    })
}
