/**
 * A lock file that says which process writes a journal. It belongs to a process as long as that lives: the file names its pid and the
 * time it started, so that a pid which was given away again, as in containers, is told apart.
 */
import { readFileSync } from 'node:fs'
import { link, readFile, rm, writeFile } from 'node:fs/promises'

/** Takes the lock. Resolves with null, or with the pid of the process that has it. Rejects when the file cannot be written. */
export async function takeOwnership(file: string): Promise<number | null> {
  // Linked under its name when it is complete: nobody ever reads half of it.
  const beside = `${file}.${process.pid}`
  await writeFile(beside, `${process.pid} ${startOf(process.pid)}\n`, { mode: 0o600 })
  try {
    for (let attempt = 0; attempt < 3; attempt++) {
      if (await linked(beside, file)) return null
      const owner = await ownerOf(file)
      if (owner !== null && owner !== process.pid) return owner
      // Left behind by a process that is gone.
      await rm(file, { force: true })
    }
    throw new Error(`${file} is taken again and again by others`)
  } finally {
    await rm(beside, { force: true })
  }
}

async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to)
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false
    throw error
  }
}

/** Gives the lock back. */
export async function dropOwnership(file: string): Promise<void> {
  await rm(file, { force: true })
}

async function ownerOf(file: string): Promise<number | null> {
  let text: string
  try {
    text = await readFile(file, 'latin1')
  } catch {
    return null
  }
  const [, pid = '0', start = ''] = /^(\d+) (\S*)/.exec(text) ?? []
  const number = Number(pid)
  return number > 0 && start !== '' && startOf(number) === start ? number : null
}

/** What tells one life of a pid from the next; empty = no such process. Where there is no /proc, every living process counts. */
function startOf(pid: number): string {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // Behind the name, which may hold blanks and brackets, the start time is field 22 of the line.
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? ''
  } catch {
    return isAlive(pid) ? 'alive' : ''
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}
