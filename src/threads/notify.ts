/**
 * Readiness for systemd units of `Type=notify`. The protocol is a datagram on the Unix socket named by NOTIFY_SOCKET, which Node
 * cannot send, so the `systemd-notify` program does it; the unit needs `NotifyAccess=all` because that program is a process of its own.
 */
import { spawn } from 'node:child_process'

export type ServiceState = 'READY=1' | 'RELOADING=1' | 'STOPPING=1'

/** How the notifying program is run; tests replace it. Resolves with an error text, or null. */
export type RunNotify = (args: readonly string[]) => Promise<string | null>

const runSystemdNotify: RunNotify = (args) =>
  new Promise((resolve) => {
    const child = spawn('systemd-notify', args, { stdio: 'ignore', timeout: 5_000 })
    child.once('error', (error) => resolve(`systemd-notify could not be run: ${error.message}`))
    child.once('exit', (code, signal) => resolve(code === 0 ? null : `systemd-notify ended with ${signal ?? `status ${code}`}`))
  })

/** Tells the service manager, if there is one (NOTIFY_SOCKET set). Never fails: the reason of a failure goes to `warn`. */
export async function notifyServiceManager(
  state: ServiceState,
  warn: (message: string) => void,
  environment: NodeJS.ProcessEnv = process.env,
  run: RunNotify = runSystemdNotify,
): Promise<void> {
  if (!environment['NOTIFY_SOCKET']) return
  const problem = await run([state])
  if (problem !== null) warn(`the service manager was not told ${state}: ${problem}`)
}
