/** Full load with a reload every second; see README.md. Exit codes: 0 fine, 1 something was lost or grew, 2 cannot run here. */
import { get } from 'node:http'
import { join } from 'node:path'
import { curveChart } from './lib/charts.mjs'
import { manyRoutes, replaceFile, routePath } from './lib/documents.mjs'
import { benchFolder, corePair, describeMachine, requireBuild, requirePrograms, requireTwoCores } from './lib/machine.mjs'
import { amount, count, programValues, runProgram } from './lib/options.mjs'
import { median, parseWrk } from './lib/parse.mjs'
import { residentBytes, run, Workshop } from './lib/processes.mjs'
import { reload } from './lib/reloads.mjs'
import { machineLines, stamp, textTable, writeResults } from './lib/report.mjs'
import { startSluice, startUpstream } from './lib/rivals.mjs'

const usage = `native-bench/soak: full load by wrk while the configuration is reloaded every second

  --minutes N       length of the run (10)
  --connections N   client connections of wrk (64)
  --routes N        routes in each configuration (100)
  --workers N       worker threads of the gateway (1)
  --out DIR         where results go (native-bench/results)
  --force           run although there is one core only`

const reloadEveryMs = 1000
const reloadTimeoutMs = 5000
/** Memory of the last fifth over that of the second fifth (the first warms up) that still counts as flat. */
const flatRatio = 1.1
/** In a shorter run the heap still grows to its usual size. */
const judgedSeconds = 110

async function main() {
  const values = programValues(usage, ['minutes', 'connections', 'routes', 'workers', 'out'])
  const settings = {
    seconds: Math.round(amount('--minutes', values.minutes, 10) * 60),
    connections: count('--connections', values.connections, 64),
    routes: count('--routes', values.routes, 100),
    workers: count('--workers', values.workers, 1),
  }
  requirePrograms(['wrk', 'nginx', 'taskset'])
  requireBuild()
  requireTwoCores(values.force)
  const machine = describeMachine()
  console.log(machineLines(machine).join('\n'))
  const at = new Date()
  const result = await soak(settings)
  const summary = summarise(result)
  console.log(textTable(['soak', 'value'], Object.entries(summary.rows)))
  const folder = values.out ?? join(benchFolder, 'results')
  writeResults(folder, {
    [`soak-${stamp(at)}.json`]: `${JSON.stringify({ at: at.toISOString(), machine, settings, summary: summary.rows, ...result }, null, 2)}\n`,
    'soak.svg': chart(result.samples, settings),
  })
  console.log(`results: ${folder}`)
  for (const problem of summary.problems) console.error(`FAILED: ${problem}`)
  return summary.problems.length === 0 ? 0 : 1
}

async function soak(settings) {
  const cores = corePair()
  const workshop = await new Workshop().open()
  try {
    const upstream = await startUpstream(workshop, cores.load)
    const document = (generation) => manyRoutes({ count: settings.routes, upstreamPort: upstream.port, generation })
    const documents = { a: document('a'), b: document('b') }
    const file = join(workshop.folder, 'soak.json')
    await replaceFile(file, documents.a)
    const gateway = await startSluice(workshop, cores.gateway, { config: file, upstreamPort: upstream.port, workers: settings.workers })
    const url = `http://127.0.0.1:${gateway.port}${routePath(0)}`
    const load = run(workshop, 'wrk', cores.load, 'wrk', ['-t1', `-c${settings.connections}`, `-d${settings.seconds}s`, '--latency', url])
    const [output, { samples, reloads }] = await Promise.all([
      load,
      drive({ gateway, file, documents, upstreamPort: upstream.port, settings }),
    ])
    return { load: parseWrk(output), reloads, samples }
  } finally {
    await workshop.close()
  }
}

/** Reloads and samples once a second, for as long as the load runs. */
async function drive({ gateway, file, documents, upstreamPort, settings }) {
  const samples = []
  const reloads = []
  const started = performance.now()
  let before = { at: started, requests: await upstreamRequests(upstreamPort) }
  for (let second = 1; second < settings.seconds; second++) {
    await until(started + second * reloadEveryMs)
    const now = { at: performance.now(), requests: await upstreamRequests(upstreamPort) }
    // The question for the count is itself one request.
    const requestsPerSecond = (now.requests - before.requests - 1) / ((now.at - before.at) / 1000)
    samples.push({
      second: Math.round((now.at - started) / 100) / 10,
      requestsPerSecond: Math.round(requestsPerSecond),
      residentMiB: Math.round((residentBytes(gateway.running.pid) / 2 ** 20) * 10) / 10,
    })
    before = now
    const generation = second % 2 === 1 ? 'b' : 'a'
    const effectMs = await reload(gateway, file, { text: documents[generation], generation, timeoutMs: reloadTimeoutMs })
    reloads.push(Math.round(effectMs * 10) / 10)
    if (second % 30 === 0) {
      const sample = samples.at(-1)
      console.error(`${second} s: ${sample.requestsPerSecond} requests/s, ${sample.residentMiB} MiB, ${reloads.length} reloads`)
    }
  }
  return { samples, reloads }
}

function until(time) {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, time - performance.now())))
}

/** Requests that the upstream has answered since its start. */
function upstreamRequests(port) {
  return new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', port, path: '/upstream-status', timeout: 10_000 }, (response) => {
      let text = ''
      response.on('data', (chunk) => {
        text += chunk
      })
      response.on('end', () => {
        const counts = /^\s*(\d+)\s+(\d+)\s+(\d+)\s*$/m.exec(text)
        if (counts === null) reject(new Error(`the upstream's status page holds no counts: ${text}`))
        else resolve(Number(counts[3]))
      })
    }).once('error', reject)
  })
}

function summarise({ load, reloads, samples }) {
  if (samples.length < 5) throw new Error(`${samples.length} samples are too few to judge; run for at least 6 seconds`)
  const fifth = Math.floor(samples.length / 5)
  const memory = (from, to) => Number(median(samples.slice(from, to).map((sample) => sample.residentMiB)).toFixed(1))
  const early = memory(fifth, 2 * fifth)
  const late = memory(samples.length - fifth, samples.length)
  const problems = []
  if (load.failed > 0) problems.push(`${load.failed} of ${load.requests} requests failed: ${JSON.stringify(load.errors)}`)
  const judged = samples.length >= judgedSeconds
  if (judged && late > early * flatRatio) problems.push(`memory grew from ${early} MiB to ${late} MiB`)
  const rows = {
    requests: load.requests.toLocaleString('en-US'),
    'failed requests': load.failed,
    'requests/s': Math.round(load.requestsPerSecond).toLocaleString('en-US'),
    'slowest second, requests/s': Math.min(...samples.map((sample) => sample.requestsPerSecond)).toLocaleString('en-US'),
    'p50 / p99 / max, ms': `${load.p50Ms} / ${load.p99Ms} / ${load.maxMs}`,
    reloads: reloads.length,
    'reload to first answer, median / max, ms': `${median(reloads)} / ${Math.max(...reloads)}`,
    'memory, second fifth / last fifth, MiB': `${early} / ${late}${judged ? '' : ' (too short to judge)'}`,
    'memory, highest, MiB': Math.max(...samples.map((sample) => sample.residentMiB)),
  }
  return { rows, problems }
}

function chart(samples, settings) {
  const highest = (values) => Math.ceil((Math.max(...values) * 1.2) / 50) * 50
  const rates = samples.map((sample) => sample.requestsPerSecond)
  const memory = samples.map((sample) => sample.residentMiB)
  return curveChart({
    title: `Full load, a reload every second, ${settings.routes} routes, ${settings.workers} worker${settings.workers === 1 ? '' : 's'}`,
    xName: 'seconds',
    x: samples.map((sample) => Math.round(sample.second)),
    curves: [
      { name: 'requests/s', unit: 'requests/s', values: rates, scale: highest(rates) },
      { name: 'resident memory', unit: 'MiB', values: memory, scale: highest(memory) },
    ],
  })
}

runProgram(main)
