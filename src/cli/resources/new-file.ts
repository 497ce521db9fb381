/** Files that commands write for people. */
import { writeFileSync } from 'node:fs'
import { UsageError } from '../../base/errors.js'

/** Writes a file that must not exist, for the owner alone: configurations hold secrets. Throws UsageError. */
export function writeNew(file: string, text: string): void {
  try {
    writeFileSync(file, text, { flag: 'wx', mode: 0o600 })
  } catch (error) {
    const reason = error instanceof Error && 'code' in error && error.code === 'EEXIST' ? 'the file exists' : String(error)
    throw new UsageError(`--output ${file}: ${reason}; expected the name of a new file`)
  }
}
