/** What running requests notice of changes by the Admin API, and what the changes cost; see README.md. Exit codes as `run`. */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { setPriority } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { clientOn, underLoad } from './lib/constant-rate.mjs'
import { manyRoutes, replaceFile, routePath } from './lib/documents.mjs'
import { corePair, describeMachine, requireBuild, requirePrograms, requireTwoCores } from './lib/machine.mjs'
import { amount, count, runProgram } from './lib/options.mjs'
import { percentile } from './lib/parse.mjs'
import { freePort, Workshop } from './lib/processes.mjs'
import { machineLines, textTable } from './lib/report.mjs'
import { startSluice, startUpstream } from './lib/rivals.mjs'

const usage = `node native-bench/admin-changes.mjs: latency at a constant rate, without and with changes of routes

  --routes N     routes of the configuration (10000)
  --rate N       requests per second, sent whatever the answers do (500)
  --changes N    changes per second that are asked for (1000)
  --writers N    changes under way at a time, at most (64)
  --seconds N    length of each measurement (8)
  --workers N    worker threads (1)
  --whole N      at last, PUT a whole configuration with so many routes (100000; 0 = no)
  --force        run although there is one core only`

const key = 'bench-admin-key'
const warmUpSeconds = 2
const writer = new URL('./lib/admin-writer.mjs', import.meta.url).pathname

async function main() {
  const text = { type: 'string' }
  const options = { routes: text, rate: text, changes: text, writers: text, seconds: text, workers: text, whole: text }
  const flags = { force: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } }
  const { values } = parseArgs({ options: { ...options, ...flags } })
  if (values.help) {
    console.log(usage)
    return 0
  }
  const settings = {
    routes: count('--routes', values.routes, 10_000),
    rate: count('--rate', values.rate, 500),
    changes: count('--changes', values.changes, 1_000),
    writers: count('--writers', values.writers, 64),
    seconds: amount('--seconds', values.seconds, 8),
    workers: count('--workers', values.workers, 1),
    whole: values.whole === '0' ? 0 : count('--whole', values.whole, 100_000),
  }
  requirePrograms(['nginx', 'taskset'])
  requireBuild()
  requireTwoCores(values.force)
  console.log(machineLines(describeMachine()).join('\n'))
  const cores = corePair()
  clientOn(cores.load)
  const workshop = await new Workshop().open()
  try {
    const { phases, changes, whole } = await measure(workshop, cores, settings)
    const row = ({ phase, latencies, clientDelayMs, failed, cpu }) => {
      const at = (percent) => percentile(latencies, percent).toFixed(2)
      return [phase, latencies.length, at(50), at(99), at(99.9), at(100), clientDelayMs.toFixed(2), failed, cpu.toFixed(2)]
    }
    const head = ['phase', 'requests', 'p50 ms', 'p99 ms', 'p99.9 ms', 'max ms', 'client delay max ms', 'failed', 'primary s/s']
    console.log(textTable(head, phases.map(row)))
    const [quiet, changing] = phases
    const perChange = (((changing.cpu - quiet.cpu) * changing.seconds) / changes.done) * 1000
    console.log(
      `${(changes.done / changes.seconds).toFixed(0)} changes/s (${changes.done} done, ${changes.failed} failed), ` +
        `answered after ${changes.latencies.map((ms) => ms.toFixed(1)).join(' / ')} ms (p50 / p99 / max), ` +
        `${perChange.toFixed(3)} ms of the primary each`,
    )
    if (whole !== null) {
      const { routes, ms, peakMiB } = whole
      console.log(
        `${routes} routes by one PUT of a whole configuration: ${(ms / 1000).toFixed(1)} s until all workers ran it, peak ${peakMiB} MiB`,
      )
    }
    return phases.some(({ failed }) => failed > 0) || changes.failed > 0 ? 1 : 0
  } finally {
    await workshop.close()
  }
}

async function measure(workshop, cores, settings) {
  const upstream = await startUpstream(workshop, cores.load)
  const file = join(workshop.folder, 'admin.json')
  const adminPort = await freePort()
  const document = JSON.parse(manyRoutes({ count: settings.routes, upstreamPort: upstream.port }))
  document.sluice.admin = { listen: `127.0.0.1:${adminPort}`, keys: [{ name: 'bench', key }] }
  await replaceFile(file, JSON.stringify(document))
  const gateway = await startSluice(workshop, cores.all, { config: file, upstreamPort: upstream.port, workers: settings.workers })
  const { pid } = gateway.running.child
  const path = routePath(settings.routes - 1)
  const quiet = (seconds) => () => new Promise((resolve) => setTimeout(resolve, seconds * 1000))
  const changing = (rate, seconds) => () =>
    write([adminPort, key, settings.routes, upstream.port, rate, seconds, settings.writers].map(String))
  const phase = async (name, work) => {
    const before = primarySeconds(pid)
    const started = performance.now()
    const found = await underLoad(gateway, path, settings.rate, work)
    const seconds = (performance.now() - started) / 1000
    return { phase: name, seconds, ...found, cpu: (primarySeconds(pid) - before) / seconds }
  }
  await underLoad(gateway, path, settings.rate, quiet(warmUpSeconds))
  // The first changes build what the later ones use, and meet code that was never run.
  await underLoad(gateway, path, settings.rate, changing(settings.changes, warmUpSeconds))
  const phases = [await phase('quiet', quiet(settings.seconds)), await phase('changing', changing(settings.changes, settings.seconds))]
  const changes = phases[1].result
  if (settings.whole === 0) return { phases, changes, whole: null }
  const large = JSON.parse(manyRoutes({ count: settings.whole, upstreamPort: upstream.port }))
  const body = JSON.stringify({ routes: large.routes, upstreams: large.upstreams, routes_conf_version: 1, upstreams_conf_version: 1 })
  phases.push(await phase('whole', () => putWhole(adminPort, body)))
  return { phases, changes, whole: { routes: settings.whole, ms: phases[2].result, peakMiB: peakMiB(pid) } }
}

/** Milliseconds until the answer. */
async function putWhole(port, body) {
  const started = performance.now()
  const headers = { 'x-api-key': key, 'x-digest': 'bench', 'content-type': 'application/json' }
  const response = await fetch(`http://127.0.0.1:${port}/apisix/admin/configs`, { method: 'PUT', headers, body })
  if (response.status !== 202) throw new Error(`PUT of the whole configuration: ${response.status} ${await response.text()}`)
  return performance.now() - started
}

/** Most memory that the process had so far. */
function peakMiB(pid) {
  return Math.round(Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024)
}

function write(args) {
  const child = spawn(process.execPath, [writer, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  setPriority(child.pid, 0)
  let output = ''
  child.stdout.on('data', (chunk) => {
    output += chunk
  })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => (code === 0 ? resolve(JSON.parse(output)) : reject(new Error(`the writer ended with ${code}`))))
  })
}

/** CPU time of the primary, which is the first thread of the process. */
function primarySeconds(pid) {
  const fields = readFileSync(`/proc/${pid}/task/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}

runProgram(main)
