/**
 * The gateway itself at its limit: 64 connections that ask without a pause are its peak; then ten times and thirty times as many do. Each
 * has a request under way all the time, so this is as much more as there are clients. Shedding by lag is on, for the case that its event
 * loop falls behind.
 */
import { corePair } from '../lib/machine.mjs'
import { parseWrk } from '../lib/parse.mjs'
import { run as runCommand, Workshop } from '../lib/processes.mjs'
import { startUpstream } from '../lib/rivals.mjs'
import { atLeast, finding } from '../lib/scenario-kit.mjs'

export const title = '10 × overload of the gateway'

const peakConnections = 64
const factors = [10, 30]
const seconds = 3

export async function run(kit) {
  const workshop = await new Workshop().open()
  kit.later(() => workshop.close())
  const cores = corePair()
  const upstream = await startUpstream(workshop, cores.load)
  const gateway = await kit.gateway(
    {
      routes: [{ id: 'all', uri: '/*', upstream: { nodes: { [`127.0.0.1:${upstream.port}`]: 1 } } }],
      sluice: { overload: { max_lag: 0.5 } },
    },
    { workers: 1 },
  )
  const load = async (connections, duration = seconds) => {
    const args = ['-t1', `-c${connections}`, `-d${duration}s`, '--latency', '--timeout', '5s', `http://127.0.0.1:${gateway.port}/`]
    const report = parseWrk(await runCommand(workshop, 'wrk', cores.load, 'wrk', args))
    const { read, write, connect, timeout, non2xx } = report.errors
    return {
      good: (report.requests - non2xx) / report.seconds,
      p99Ms: report.p99Ms,
      broken: read + write + connect + timeout,
      refused: non2xx,
    }
  }
  await load(peakConnections, 1)
  const rows = []
  // The peak is measured again each time: the machine does other things, too.
  for (const factor of factors) {
    const peak = await load(peakConnections)
    const crowd = await load(peakConnections * factor)
    rows.push(
      atLeast(`${factor} × as many clients: goodput, of the peak`, (100 * crowd.good) / peak.good, 90, ' %', 1),
      finding(`peak, and with ${factor} ×: answers/s`, `${peak.good.toFixed(0)}, ${crowd.good.toFixed(0)}`),
      finding(
        'p99 of both; refused; connections that broke',
        `${peak.p99Ms.toFixed(0)}, ${crowd.p99Ms.toFixed(0)} ms; ${crowd.refused}; ${crowd.broken}`,
      ),
    )
  }
  return rows
}
