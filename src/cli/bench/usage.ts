/** CPU time as the system counts it. */
import { readFileSync } from 'node:fs'
import { cpus } from 'node:os'

/** What the kernel counts CPU time in for programs (USER_HZ): the same on all architectures that Node.js runs on. */
const ticksPerSecond = 100

/** CPU seconds of a process so far, all threads together; null where there is no /proc, or the process is gone. */
export function processCpuSeconds(pid: number): number | null {
  try {
    return cpuSecondsOf(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return null
  }
}

/** From the text of /proc/<pid>/stat; the name in it stands in parentheses and may hold blanks and parentheses itself. Public for its test. */
export function cpuSecondsOf(stat: string): number | null {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const ticks = Number(fields[11]) + Number(fields[12])
  return Number.isFinite(ticks) ? ticks / ticksPerSecond : null
}

export interface MachineTimes {
  /** Milliseconds of all cores together. */
  readonly busy: number
  readonly all: number
}

export function machineTimes(): MachineTimes {
  let idle = 0
  let all = 0
  for (const { times } of cpus()) {
    idle += times.idle
    all += times.user + times.nice + times.sys + times.irq + times.idle
  }
  return { busy: all - idle, all }
}

/** Share of the machine's CPU time that was used between two readings, from 0 to 1. */
export function busyShare(before: MachineTimes, after: MachineTimes): number {
  const all = after.all - before.all
  return all > 0 ? Math.min(1, Math.max(0, (after.busy - before.busy) / all)) : 0
}
