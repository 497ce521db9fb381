/** The pid file: written whole or not at all, replaced when stale, removed only while it is still ours. */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { UsageError } from '../base/errors.js'

/** Writes `pid` to `file`, replacing what is there. Throws UsageError when the folder cannot be written. */
export function writePidFile(file: string, pid: number): void {
  const draft = `${file}.${pid}.tmp`
  try {
    writeFileSync(draft, `${pid}\n`, { mode: 0o644 })
    renameSync(draft, file)
  } catch (error) {
    rmSync(draft, { force: true })
    throw new UsageError(`--pid-file: cannot write ${file}: ${error instanceof Error ? error.message : String(error)}`)
  }
}

/** Removes the file if it still holds `pid`: after a takeover it belongs to the new process. */
export function removePidFile(file: string, pid: number): void {
  try {
    if (readFileSync(file, 'utf8').trim() === String(pid)) rmSync(file)
  } catch {
    // Gone already, or unreadable by now: there is nothing of ours to remove.
  }
}
