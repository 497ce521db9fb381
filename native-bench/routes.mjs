/** Throughput with 1, 1,000 and 100,000 routes, first and last route; see README.md. Exit codes as `run`. */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { manyRoutes, replaceFile, routePath } from './lib/documents.mjs'
import { checkAnswers, measure } from './lib/jobs.mjs'
import { corePair, describeMachine, requireBuild, requirePrograms, requireTwoCores } from './lib/machine.mjs'
import { count, runProgram } from './lib/options.mjs'
import { summarise } from './lib/parse.mjs'
import { Workshop } from './lib/processes.mjs'
import { machineLines, textTable } from './lib/report.mjs'
import { smallBody, startSluice, startUpstream } from './lib/rivals.mjs'

const usage = `node native-bench/routes.mjs: throughput by number of routes

  --rounds N        interleaved rounds (5)
  --seconds N       length of one measurement (3)
  --connections N   client connections of wrk (64)
  --most N          the largest number of routes (100000)
  --force           run although there is one core only`

async function main() {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      connections: { type: 'string' },
      most: { type: 'string' },
      force: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) {
    console.log(usage)
    return 0
  }
  const settings = {
    rounds: count('--rounds', values.rounds, 5),
    seconds: count('--seconds', values.seconds, 3),
    connections: count('--connections', values.connections, 64),
  }
  const sizes = [...new Set([1, 1000, count('--most', values.most, 100_000)])].sort((a, b) => a - b)
  requirePrograms(['wrk', 'nginx', 'taskset'])
  requireBuild()
  requireTwoCores(values.force)
  console.log(machineLines(describeMachine()).join('\n'))
  const summaries = await measureSizes(sizes, settings)
  const base = summaries[0].summary.requestsPerCpuSecond
  const rows = summaries.map(({ label, summary }) => [
    label,
    Math.round(summary.requestsPerSecond).toLocaleString('en-US'),
    summary.p99Ms.toFixed(2),
    summary.cpuMicrosPerRequest.toFixed(1),
    Math.round(summary.requestsPerCpuSecond).toLocaleString('en-US'),
    (summary.requestsPerCpuSecond / base).toFixed(3),
    summary.failed,
  ])
  console.log(textTable(['routes', 'requests/s', 'p99 ms', 'CPU µs/request', 'requests/CPU s', '× 1 route', 'failed'], rows))
  return summaries.some(({ summary }) => summary.failed > 0) ? 1 : 0
}

async function measureSizes(sizes, settings) {
  const cores = corePair()
  const workshop = await new Workshop().open()
  try {
    const upstream = await startUpstream(workshop, cores.load)
    const points = []
    for (const size of sizes) {
      const config = join(workshop.folder, `routes-${size}.json`)
      await replaceFile(config, withEcho(manyRoutes({ count: size, upstreamPort: upstream.port })))
      const gateway = await startSluice(workshop, cores.gateway, { config, upstreamPort: upstream.port })
      const indices = size === 1 ? { only: 0 } : { first: 0, last: size - 1 }
      for (const [which, index] of Object.entries(indices)) {
        const job = { path: routePath(index), body: smallBody }
        await checkAnswers(gateway, job)
        await measure(workshop, cores.load, gateway, job, { ...settings, seconds: 2 })
        points.push({ label: `${size.toLocaleString('en-US')}, ${which}`, gateway, job, rounds: [] })
      }
    }
    for (let round = 1; round <= settings.rounds; round++) {
      for (const point of points) {
        const measured = await measure(workshop, cores.load, point.gateway, point.job, settings)
        point.rounds.push(measured)
        console.error(`round ${round}/${settings.rounds} ${point.label}: ${Math.round(measured.requestsPerCpuSecond)} per CPU second`)
      }
    }
    return points.map(({ label, rounds }) => ({ label, summary: summarise(rounds) }))
  } finally {
    await workshop.close()
  }
}

/** The check of answers looks at what reaches the upstream. */
function withEcho(text) {
  const document = JSON.parse(text)
  document.routes.push({ id: 'echo', uri: '/echo', upstream_id: 'bench' })
  return JSON.stringify(document)
}

runProgram(main)
