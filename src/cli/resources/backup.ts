/**
 * `sluice backup` and `sluice restore`: a configuration file and the journal beside it as one file, private keys and history included,
 * which the Admin API never gives out.
 *
 *   {"format": "sluice-backup", "version": 1, "at", "name", "sha256", "file", "journal"}   file and journal in base64; sha256 of both
 */
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import { wallMs } from '../../base/clock.js'
import { UsageError } from '../../base/errors.js'
import { isMap } from '../../controlplane/admin/patch.js'
import { formatIssue } from '../../controlplane/load-issue.js'
import { SourceDocument } from '../../controlplane/load-source.js'
import { parseJournal } from '../../controlplane/store/journal.js'
import { dropOwnership, takeOwnership } from '../../controlplane/store/owner-lock.js'
import { stateFileOf } from '../../controlplane/validate-admin.js'
import { asksForSharedStore } from '../../controlplane/validate-store.js'
import { writeNew } from './new-file.js'

/** Writes the backup; a gateway may run and write meanwhile. Exit code 0, or 2 when the file cannot be read. */
export function runBackup(file: string, output: string): number {
  const text = readText(file)
  const journal = journalOf(file, text)
  if (journal === null) return 2
  const bytes = existsSync(journal) ? readFileSync(journal) : Buffer.alloc(0)
  // A record that is being written is not acknowledged yet.
  const { records, validBytes } = parseJournal(bytes, journal)
  const whole = bytes.subarray(0, validBytes)
  const backup = {
    format: 'sluice-backup',
    version: 1,
    at: new Date(wallMs()).toISOString(),
    name: basename(file),
    sha256: sumOf(text, whole),
    file: text.toString('base64'),
    journal: whole.toString('base64'),
  }
  writeNew(output, `${JSON.stringify(backup, null, 1)}\n`)
  process.stdout.write(`${output}: ${file} (${text.length} bytes) and its journal (${records.length} records)\n`)
  return 0
}

/** Writes file and journal back. With `force` what is there is replaced, but never the journal of a running gateway. Exit code 0 or 2. */
export async function runRestore(backup: string, file: string, force: boolean): Promise<number> {
  const { text, journal: bytes } = readBackup(backup)
  if (existsSync(file) && !force) throw new UsageError(`${file}: the file exists; expected a new name, or --force`)
  const journal = journalOf(file, text)
  if (journal === null) return 2
  if (existsSync(journal) && !force) throw new UsageError(`${journal}: the journal exists; expected none, or --force`)
  const lock = `${journal}.lock`
  const owner = await takeOwnership(lock)
  if (owner !== null) throw new UsageError(`${journal} is written by process ${owner}; expected a gateway that is stopped`)
  try {
    replace(file, text)
    if (bytes.length > 0) replace(journal, bytes)
    else rmSync(journal, { force: true })
  } finally {
    await dropOwnership(lock)
  }
  process.stdout.write(`${file} and ${journal} are as they were\n`)
  return 0
}

/** Under its name when it is complete. */
function replace(file: string, bytes: Buffer): void {
  const beside = `${file}.restored`
  rmSync(beside, { force: true })
  writeFileSync(beside, bytes, { mode: 0o600, flag: 'wx', flush: true })
  renameSync(beside, file)
}

/** Where the journal of a configuration with this text stands. Null = the text cannot be read, and that was said. */
function journalOf(file: string, text: Buffer): string | null {
  const read = SourceDocument.parse(file, text.toString('utf8'), process.env)
  if (!read.ok) {
    for (const issue of read.errors) process.stderr.write(`${formatIssue(issue)}\n`)
    return null
  }
  const root = read.source.value
  if (asksForSharedStore(root)) {
    process.stderr.write(
      'warning: resources are kept in a store that gateways share, which has backups of its own; see also sluice export\n',
    )
  }
  return stateFileOf(root, file)
}

function readText(file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (error) {
    throw new UsageError(`${file}: ${error instanceof Error ? error.message : String(error)}; expected a configuration`)
  }
}

function readBackup(file: string): { readonly text: Buffer; readonly journal: Buffer } {
  const wrong = (reason: string) => new UsageError(`${file}: ${reason}; expected a file that sluice backup wrote`)
  let content: unknown
  try {
    content = JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    throw wrong(error instanceof SyntaxError ? 'it is no backup' : String(error))
  }
  if (!isMap(content) || content['format'] !== 'sluice-backup' || content['version'] !== 1) throw wrong('it is no backup of this version')
  const text = Buffer.from(String(content['file']), 'base64')
  const journal = Buffer.from(String(content['journal']), 'base64')
  if (sumOf(text, journal) !== content['sha256']) throw wrong('it is damaged: its checksum does not fit')
  if (journal.length > 0) parseJournal(journal, file)
  return { text, journal }
}

function sumOf(text: Buffer, journal: Buffer): string {
  return createHash('sha256').update(`${text.length} `).update(text).update(journal).digest('hex')
}
