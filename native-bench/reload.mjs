/** What running requests notice of a reload to 100,000 routes, or a million consumers; see README.md. Exit codes as `run`. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { clientOn, prefer, underLoad } from './lib/constant-rate.mjs'
import { manyRoutes, replaceFile, routePath } from './lib/documents.mjs'
import { corePair, describeMachine, requireBuild, requirePrograms, requireTwoCores } from './lib/machine.mjs'
import { amount, count, programValues, runProgram } from './lib/options.mjs'
import { median, percentile } from './lib/parse.mjs'
import { childrenOf, Workshop } from './lib/processes.mjs'
import { reload } from './lib/reloads.mjs'
import { machineLines, textTable } from './lib/report.mjs'
import { startSluice, startUpstream } from './lib/rivals.mjs'

const usage = `node native-bench/reload.mjs: latency at a constant rate, without and with reloads

  --routes N    routes of the configuration (100000)
  --consumers N consumers of the configuration, with two credentials each (0)
  --rate N      requests per second, sent whatever the answers do (500)
  --seconds N   length of the measurement without reloads (10)
  --reloads N   reloads that are measured (5)
  --force       run although there is one core only`

const reloadTimeoutMs = 120_000
const warmUpSeconds = 2
const settleSeconds = 1

async function main() {
  const values = programValues(usage, ['routes', 'consumers', 'rate', 'seconds', 'reloads'])
  const settings = {
    routes: count('--routes', values.routes, 100_000),
    consumers: values.consumers === undefined ? 0 : count('--consumers', values.consumers, 0),
    rate: count('--rate', values.rate, 500),
    seconds: amount('--seconds', values.seconds, 10),
    reloads: count('--reloads', values.reloads, 5),
  }
  requirePrograms(['nginx', 'taskset'])
  requireBuild()
  requireTwoCores(values.force)
  console.log(machineLines(describeMachine()).join('\n'))
  const cores = corePair()
  clientOn(cores.load)
  const phases = [
    ...(await measurePlacement('all cores', cores.all, cores, settings)),
    ...(await measurePlacement('one core', cores.gateway, cores, settings)),
  ]
  const head = [
    'gateway on',
    'phase',
    'requests',
    'p50 ms',
    'p99 ms',
    'p99.9 ms',
    'max ms',
    'client delay max ms',
    'failed',
    'reload ms',
    'peak MiB',
  ]
  console.log(textTable(head, phases.map(row)))
  return phases.some(({ failed }) => failed > 0) ? 1 : 0
}

function row({ placement, phase, latencies, clientDelayMs, failed, reloadMs, peakMiB }) {
  const at = (percent) => percentile(latencies, percent).toFixed(2)
  const reloads = reloadMs.length === 0 ? '' : `${median(reloadMs).toFixed(0)} (max ${Math.max(...reloadMs).toFixed(0)})`
  return [placement, phase, latencies.length, at(50), at(99), at(99.9), at(100), clientDelayMs.toFixed(2), failed, reloads, peakMiB]
}

async function measurePlacement(placement, gatewayCores, cores, settings) {
  const workshop = await new Workshop().open()
  try {
    const upstream = await startUpstream(workshop, cores.load)
    for (const pid of childrenOf(upstream.running.pid)) prefer(pid)
    const document = (generation) =>
      manyRoutes({ count: settings.routes, consumers: settings.consumers, upstreamPort: upstream.port, generation })
    const documents = { a: document('a'), b: document('b') }
    const file = join(workshop.folder, 'reload.json')
    await replaceFile(file, documents.a)
    const gateway = await startSluice(workshop, gatewayCores, { config: file, upstreamPort: upstream.port })
    const path = routePath(settings.routes - 1)
    const quiet = (seconds) => () => new Promise((resolve) => setTimeout(() => resolve([]), seconds * 1000))
    const reloading = async () => {
      const times = []
      for (let number = 1; number <= settings.reloads; number++) {
        const generation = number % 2 === 1 ? 'b' : 'a'
        times.push(await reload(gateway, file, { text: documents[generation], generation, timeoutMs: reloadTimeoutMs }))
        // What the change costs afterwards (first use of routes, the old configuration's memory) belongs to it.
        await quiet(settleSeconds)()
      }
      return times
    }
    await underLoad(gateway, path, settings.rate, quiet(warmUpSeconds))
    const phase = async (name, work) => {
      const { result: reloadMs, ...found } = await underLoad(gateway, path, settings.rate, work)
      return { placement, phase: name, ...found, reloadMs, peakMiB: peakMiB(gateway.running.child.pid) }
    }
    return [await phase('quiet', quiet(settings.seconds)), await phase('reloading', reloading)]
  } finally {
    await workshop.close()
  }
}

/** Most memory that the process had so far. */
function peakMiB(pid) {
  return Math.round(Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024)
}

runProgram(main)
