/**
 * `sluice backup` and `sluice restore`: a configuration file as one file with the journal beside it, private keys and history included,
 * which the Admin API never gives out; or with the resources of the store that gateways share (backup-store.ts).
 *
 *   {"format": "sluice-backup", "version": 1, "at", "name", "sha256", "file", "journal"}   file and journal in base64; sha256 of both
 *   {"format": "sluice-backup", "version": 2, "at", "name", "sha256", "file", "store"}     file and store in base64; sha256 of both
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
import { bytesOfCopy, copyOfBytes, copyStore, restoreStore, sharedStoreOf } from './backup-store.js'
import { writeNew } from './new-file.js'

/** Writes the backup; gateways may run and write meanwhile. Exit code 0, or 2 when the file cannot be read. */
export async function runBackup(file: string, output: string): Promise<number> {
  const text = readText(file)
  const place = placeOf(file, text)
  if (place === null) return 2
  if (place.isShared) return backupShared(file, text, output)
  const { journal } = place
  const bytes = existsSync(journal) ? readFileSync(journal) : Buffer.alloc(0)
  // A record that is being written is not acknowledged yet.
  const { records, validBytes } = parseJournal(bytes, journal)
  writeBackup(output, file, text, { version: 1, name: 'journal', bytes: bytes.subarray(0, validBytes) })
  process.stdout.write(`${output}: ${file} (${text.length} bytes) and its journal (${records.length} records)\n`)
  return 0
}

async function backupShared(file: string, text: Buffer, output: string): Promise<number> {
  const config = await sharedStoreOf(file)
  if (config === null) return 2
  const copy = await copyStore(config)
  writeBackup(output, file, text, { version: 2, name: 'store', bytes: bytesOfCopy(copy) })
  process.stdout.write(
    `${output}: ${file} (${text.length} bytes) and ${copy.place} (${copy.resources.length} resources at revision ${copy.revision})\n`,
  )
  return 0
}

interface BackupPart {
  readonly version: 1 | 2
  readonly name: 'journal' | 'store'
  readonly bytes: Buffer
}

function writeBackup(output: string, file: string, text: Buffer, { version, name, bytes }: BackupPart): void {
  const backup = {
    format: 'sluice-backup',
    version,
    at: new Date(wallMs()).toISOString(),
    name: basename(file),
    sha256: sumOf(text, bytes),
    file: text.toString('base64'),
    [name]: bytes.toString('base64'),
  }
  writeNew(output, `${JSON.stringify(backup, null, 1)}\n`)
}

/**
 * Writes the configuration back. With `force` what is there is replaced, but never the journal of a running gateway. Exit code 0 or 2.
 * Rejects with UsageError when something is in the way.
 */
export async function runRestore(backup: string, file: string, force: boolean): Promise<number> {
  const { text, part } = readBackup(backup)
  const isThere = existsSync(file)
  const isSame = isThere && part.version === 2 && readText(file).equals(text)
  if (isThere && !isSame && !force) throw new UsageError(`${file}: the file exists; expected a new name, or --force`)
  const place = placeOf(file, text)
  if (place === null) return 2
  if (part.version === 2) return restoreShared(file, text, part.bytes, { isThere, force, backup })
  if (place.isShared)
    throw new UsageError(`${backup}: a journal, although its file names a store that gateways share; expected a new backup`)
  const { journal } = place
  if (existsSync(journal) && !force) throw new UsageError(`${journal}: the journal exists; expected none, or --force`)
  const lock = `${journal}.lock`
  const owner = await takeOwnership(lock)
  if (owner !== null) throw new UsageError(`${journal} is written by process ${owner}; expected a gateway that is stopped`)
  try {
    replace(file, text)
    if (part.bytes.length > 0) replace(journal, part.bytes)
    else rmSync(journal, { force: true })
  } finally {
    await dropOwnership(lock)
  }
  process.stdout.write(`${file} and ${journal} are as they were\n`)
  return 0
}

/** The file says where the store is, so it comes first; a file that was not there before is taken away when the store is refused. */
async function restoreShared(
  file: string,
  text: Buffer,
  bytes: Buffer,
  { isThere, force, backup }: { readonly isThere: boolean; readonly force: boolean; readonly backup: string },
): Promise<number> {
  const copy = copyOfBytes(bytes)
  if (copy === null) throw wrongBackup(backup, 'it is no backup of this version')
  const before = isThere ? readText(file) : null
  replace(file, text)
  let done: string | null = null
  try {
    const config = await sharedStoreOf(file)
    if (config === null) return 2
    done = await restoreStore(config, copy, force)
  } finally {
    if (done === null && before !== null) replace(file, before)
    else if (done === null) rmSync(file, { force: true })
  }
  process.stdout.write(`${file} is as it was; ${done}\n`)
  return 0
}

/** Under its name when it is complete. */
function replace(file: string, bytes: Buffer): void {
  const beside = `${file}.restored`
  rmSync(beside, { force: true })
  writeFileSync(beside, bytes, { mode: 0o600, flag: 'wx', flush: true })
  renameSync(beside, file)
}

/** Where the resources of a configuration with this text are kept. Null = the text cannot be read, and that was said. */
function placeOf(file: string, text: Buffer): { readonly isShared: boolean; readonly journal: string } | null {
  const read = SourceDocument.parse(file, text.toString('utf8'), process.env)
  if (!read.ok) {
    for (const issue of read.errors) process.stderr.write(`${formatIssue(issue)}\n`)
    return null
  }
  const root = read.source.value
  return { isShared: asksForSharedStore(root), journal: stateFileOf(root, file) }
}

function readText(file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (error) {
    throw new UsageError(`${file}: ${error instanceof Error ? error.message : String(error)}; expected a configuration`)
  }
}

function wrongBackup(file: string, reason: string): UsageError {
  return new UsageError(`${file}: ${reason}; expected a file that sluice backup wrote`)
}

function readBackup(file: string): { readonly text: Buffer; readonly part: BackupPart } {
  let content: unknown
  try {
    content = JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    throw wrongBackup(file, error instanceof SyntaxError ? 'it is no backup' : String(error))
  }
  const version = isMap(content) && content['format'] === 'sluice-backup' ? content['version'] : null
  if (!isMap(content) || (version !== 1 && version !== 2)) throw wrongBackup(file, 'it is no backup of this version')
  const name = version === 1 ? 'journal' : 'store'
  const text = Buffer.from(String(content['file']), 'base64')
  const bytes = Buffer.from(String(content[name]), 'base64')
  if (sumOf(text, bytes) !== content['sha256']) throw wrongBackup(file, 'it is damaged: its checksum does not fit')
  if (version === 1 && bytes.length > 0) parseJournal(bytes, file)
  return { text, part: { version, name, bytes } }
}

function sumOf(text: Buffer, part: Buffer): string {
  return createHash('sha256').update(`${text.length} `).update(text).update(part).digest('hex')
}
