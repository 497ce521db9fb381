/**
 * The gateway itself at its limit: 64 connections that ask without a pause are its peak; then ten times as many do. Each has a request
 * under way all the time, so this is as much more as there are clients. More connections cost the kernel more per request, whoever serves
 * them: nginx does the same job in the same turns. Shedding by lag is on, for the case that the event loop falls behind. The median of the
 * rounds counts: the machine does other things, too.
 */
import { execFileSync } from 'node:child_process'
import { corePair } from '../lib/machine.mjs'
import { measure } from '../lib/measure.mjs'
import { median } from '../lib/parse.mjs'
import { Workshop } from '../lib/processes.mjs'
import { rivals, startUpstream } from '../lib/rivals.mjs'
import { atLeast, finding } from '../lib/scenario-kit.mjs'

export const title = '10 × overload of the gateway'

const peakConnections = 64
const factor = 10
const rounds = 3
const seconds = 1

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
  const { pid } = gateway.process
  execFileSync('taskset', ['-a', '-c', '-p', cores.gateway, String(pid)])
  const contestants = [{ name: 'sluice', port: gateway.port, running: { pid, log: '' } }]
  if (rivals.nginx.lacks() === null) {
    const job = { name: 'nginx', folder: 'plain', values: { UPSTREAM_PORT: upstream.port, WORKER_CONNECTIONS: 8192 } }
    contestants.push(await rivals.nginx.start(workshop, cores.gateway, job))
  }
  const load = async (contestant, connections) => {
    const report = await measure(workshop, cores.load, contestant, { path: '/' }, { connections, seconds })
    const good = report.requests - report.errors.non2xx
    return { ...report, good: good / report.seconds, perCpu: good / report.cpuSeconds }
  }
  const turns = contestants.map(() => [])
  for (let round = -1; round < rounds; round++) {
    for (const [index, contestant] of contestants.entries()) {
      const turn = { peak: await load(contestant, peakConnections), crowd: await load(contestant, peakConnections * factor) }
      // The first one warms up.
      if (round >= 0) turns[index].push(turn)
    }
  }
  const middle = (index, value) => median(turns[index].map(value))
  const kept = (index, key) => 100 * middle(index, ({ peak, crowd }) => crowd[key] / peak[key])
  const total = (value) => turns[0].reduce((sum, { crowd }) => sum + value(crowd), 0)
  const both = (index, key, digits) => ['peak', 'crowd'].map((name) => middle(index, (turn) => turn[name][key]).toFixed(digits)).join(', ')
  const rows = [
    atLeast('goodput, of the peak', kept(0, 'good'), 90, ' %', 1),
    finding('the same per CPU second of the gateway', `${kept(0, 'perCpu').toFixed(1)} %`),
    finding('answers/s at the peak, and with ten times as many clients; p99', `${both(0, 'good', 0)}; ${both(0, 'p99Ms', 1)} ms`),
    finding(
      'with ten times as many clients: refused; connections that broke',
      `${total(({ errors }) => errors.non2xx)}; ${total(({ errors: { read, write, connect, timeout } }) => read + write + connect + timeout)}`,
    ),
  ]
  if (contestants.length > 1) {
    rows.push(
      finding(
        'nginx: goodput, of its peak; per CPU second; answers/s; p99',
        `${kept(1, 'good').toFixed(1)} %; ${kept(1, 'perCpu').toFixed(1)} %; ${both(1, 'good', 0)}; ${both(1, 'p99Ms', 1)} ms`,
      ),
      atLeast('what is kept per CPU second, next to nginx', kept(0, 'perCpu') / kept(1, 'perCpu'), 0.9, '', 2),
    )
  }
  return rows
}
