/** Pure reading of what wrk and /proc print, and the arithmetic of a report. Types are in parse.d.mts. */

const timeUnits = { us: 0.001, ms: 1, s: 1000, m: 60_000, h: 3_600_000 }

export function durationMs(text) {
  const match = /^([\d.]+)(us|ms|s|m|h)$/.exec(text)
  if (match === null) throw new Error(`not a duration of wrk: ${text}`)
  return Number(match[1]) * timeUnits[match[2]]
}

export function parseWrk(output) {
  const total = /(\d+) requests in ([\d.]+(?:us|ms|s|m|h)),/.exec(output)
  const p50 = /^\s+50%\s+(\S+)/m.exec(output)
  const p99 = /^\s+99%\s+(\S+)/m.exec(output)
  const longest = /^\s+Latency\s+\S+\s+\S+\s+(\S+)/m.exec(output)
  if (total === null || p50 === null || p99 === null || longest === null) throw new Error(`wrk printed no report:\n${output}`)
  const socket = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(output)
  const [connect = 0, read = 0, write = 0, timeout = 0] = socket === null ? [] : socket.slice(1).map(Number)
  const non2xx = Number(/Non-2xx or 3xx responses: (\d+)/.exec(output)?.[1] ?? 0)
  const requests = Number(total[1])
  const seconds = durationMs(total[2]) / 1000
  return {
    requests,
    seconds,
    requestsPerSecond: requests / seconds,
    p50Ms: durationMs(p50[1]),
    p99Ms: durationMs(p99[1]),
    maxMs: durationMs(longest[1]),
    errors: { connect, read, write, timeout, non2xx },
    failed: connect + read + write + timeout + non2xx,
  }
}

/** The name in /proc/<pid>/stat is in parentheses and may hold blanks and parentheses itself. */
export function parseProcStat(text) {
  const open = text.indexOf('(')
  const close = text.lastIndexOf(')')
  const fields = text
    .slice(close + 2)
    .trim()
    .split(' ')
  return {
    pid: Number(text.slice(0, open)),
    name: text.slice(open + 1, close),
    state: fields[0],
    parent: Number(fields[1]),
    cpuTicks: Number(fields[11]) + Number(fields[12]),
    endedChildrenTicks: Number(fields[13]) + Number(fields[14]),
  }
}

/** Ticks in which some cores had nothing to do, out of /proc/stat: idle, and waiting for disks. */
export function parseIdleTicks(text, cores) {
  let ticks = 0
  for (const core of cores) {
    const line = new RegExp(`^cpu${core} \\d+ \\d+ \\d+ (\\d+) (\\d+)`, 'm').exec(text)
    if (line === null) throw new Error(`/proc/stat has no core ${core}`)
    ticks += Number(line[1]) + Number(line[2])
  }
  return ticks
}

/**
 * Ticks of the process `root` and everything it started, and of all others. Time of ended children counts where they were waited for, so that
 * nothing is lost, nor counted twice, when a process ends between two looks.
 */
export function divideByDescent(processes, root) {
  const parents = new Map(processes.map(({ pid, parent }) => [pid, parent]))
  const isOwn = (pid) => pid === root || (parents.has(pid) && isOwn(parents.get(pid)))
  const divided = { own: 0, others: 0 }
  for (const { pid, cpuTicks, endedChildrenTicks } of processes) divided[isOwn(pid) ? 'own' : 'others'] += cpuTicks + endedChildrenTicks
  return divided
}

export function median(values) {
  if (values.length === 0) throw new Error('no values to take a median of')
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** The value below which `percent` of the sorted values lie (nearest rank). */
export function percentile(sorted, percent) {
  if (sorted.length === 0) throw new Error('no values to take a percentile of')
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1))]
}

/** Medians of the rounds of one rival in one job. */
export function summarise(rounds) {
  const of = (pick) => median(rounds.map(pick))
  return {
    requestsPerSecond: of((round) => round.requestsPerSecond),
    p50Ms: of((round) => round.p50Ms),
    p99Ms: of((round) => round.p99Ms),
    cpuMicrosPerRequest: of((round) => round.cpuMicrosPerRequest),
    requestsPerCpuSecond: of((round) => round.requestsPerCpuSecond),
    failed: rounds.reduce((sum, round) => sum + round.failed, 0),
  }
}

/**
 * How much more requests per CPU second `rounds` had than `base`, round by round: what the machine did in a round hits both.
 *
 * @returns median, least and greatest of the ratios.
 */
export function pairedRatio(rounds, base) {
  const ratios = rounds.map((round, index) => round.requestsPerCpuSecond / base[index].requestsPerCpuSecond)
  return { median: median(ratios), least: Math.min(...ratios), most: Math.max(...ratios) }
}

/**
 * Whether `rounds` are better than `base`: the median of the ratios differs from 1 by `noise` or more, and all rounds but one in five lie on
 * its side. A single lucky round proves nothing, and neither do many that agree on next to nothing.
 */
export function compared(rounds, base, noise) {
  const ratio = pairedRatio(rounds, base)
  const isMore = ratio.median > 1
  const agreeing = rounds.filter((round, index) => round.requestsPerCpuSecond > base[index].requestsPerCpuSecond === isMore).length
  const isProven = Math.abs(ratio.median - 1) >= noise && agreeing >= Math.ceil(rounds.length * 0.8)
  return { ...ratio, verdict: !isProven ? 'nothing' : isMore ? 'better' : 'worse' }
}
