import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'

/** Ends a server as a crash would, and waits until it is gone. */
export async function crash(child: ChildProcess | null): Promise<void> {
  if (child === null || child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGKILL')
  await ended
}
