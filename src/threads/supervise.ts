/**
 * `sluice start --supervise`: a small parent that runs the gateway as a child process and starts it again after a hard death. A thread
 * that runs out of memory and a native crash take the whole process with them; only another process can bring it back.
 *
 * The child has its own process group, so that Ctrl-C reaches it once, through the parent, and not twice. It holds an IPC channel to
 * the parent for its lifetime only: when the parent is gone, the child drains.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import type { ProcessLog } from '../telemetry/process-log.js'
import { Backoff, CrashLoop } from './crash-loop.js'

/** Set in the child: it runs under a parent. Its value is the pid of the parent, which is the one to signal. */
export const supervisorVariable = 'SLUICE_SUPERVISOR_PID'

export interface SuperviseOptions {
  readonly command: string
  readonly args: readonly string[]
  readonly log: ProcessLog
  readonly clock: { nowMs(): number }
}

type Ending = { readonly code: number | null; readonly signal: NodeJS.Signals | null }

const passedOn: readonly NodeJS.Signals[] = ['SIGHUP', 'SIGTERM', 'SIGINT', 'SIGUSR1']
/** A child that lived so long did not fail to start: the next death begins with the shortest wait again. */
const healthyLifeMs = 10_000
const loopDeaths = 6
const loopWindowMs = 20_000

/** Runs until the child ends for good; resolves with its exit code, or 1 for a crash loop. */
export async function supervise(options: SuperviseOptions): Promise<number> {
  const { log, clock } = options
  const backoff = new Backoff(100, 5_000)
  const loop = new CrashLoop(loopDeaths, loopWindowMs)
  let child: ChildProcess | null = null
  let isEnding = false
  let cutWait: (() => void) | null = null
  const pass = (signal: NodeJS.Signals) => {
    if (signal === 'SIGTERM' || signal === 'SIGINT') {
      isEnding = true
      cutWait?.()
    }
    child?.kill(signal)
  }
  for (const signal of passedOn) process.on(signal, pass)
  try {
    for (;;) {
      const startedMs = clock.nowMs()
      child = startChild(options)
      const { code, signal } = await ending(child)
      child = null
      const how = signal === null ? `exit code ${code}` : `signal ${signal}`
      if (code === 0 || code === 2) return code
      if (isEnding) {
        log.error(`the gateway ended by ${how} while it was asked to end`)
        return code ?? 1
      }
      const nowMs = clock.nowMs()
      if (loop.record(nowMs)) {
        log.error(`the gateway died ${loop.count} times within ${loopWindowMs / 1000} s, the last time by ${how}: giving up`)
        return 1
      }
      if (nowMs - startedMs >= healthyLifeMs) backoff.reset()
      const waitMs = backoff.next()
      log.error(`the gateway died by ${how}; starting it again in ${waitMs} ms`, { code, signal, waitMs })
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, waitMs)
        cutWait = () => {
          clearTimeout(timer)
          resolve()
        }
      })
      cutWait = null
      if (isEnding) return 0
    }
  } finally {
    for (const signal of passedOn) process.off(signal, pass)
  }
}

function startChild(options: SuperviseOptions): ChildProcess {
  return spawn(options.command, options.args, {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    detached: true,
    env: { ...process.env, [supervisorVariable]: String(process.pid) },
  })
}

function ending(child: ChildProcess): Promise<Ending> {
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code, signal) => resolve({ code, signal }))
  })
}
