/** Side-by-side runs; see README.md in this folder. Exit codes: 0 fine, 1 a rival failed requests or answers, 2 cannot run here. */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { barChart } from './lib/charts.mjs'
import { checkAnswers, jobs, measure } from './lib/jobs.mjs'
import { benchFolder, corePair, describeMachine, requireBuild, requirePrograms, requireTwoCores } from './lib/machine.mjs'
import { count, list, runProgram } from './lib/options.mjs'
import { summarise } from './lib/parse.mjs'
import { Workshop } from './lib/processes.mjs'
import { jobRows, machineLines, markdownTable, stamp, textTable, writeResults } from './lib/report.mjs'
import { available, rivals, startUpstream } from './lib/rivals.mjs'

const usage = `native-bench/run: our gateway next to nginx, HAProxy and http-proxy, on this machine, in one run

  --rounds N        interleaved rounds, the table shows medians (3)
  --seconds N       length of one measurement (5)
  --connections N   client connections of wrk (64)
  --only A,B        rivals: ${Object.keys(rivals).join(', ')} ("sluice" means all of ours)
  --jobs A,B        jobs: ${Object.keys(jobs).join(', ')}
  --quick           1 round of 1 s, writes no results
  --out DIR         where results go (native-bench/results)
  --force           run although there is one core only`

const warmUpSeconds = 2

async function main() {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      connections: { type: 'string' },
      only: { type: 'string' },
      jobs: { type: 'string' },
      quick: { type: 'boolean', default: false },
      out: { type: 'string' },
      force: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) {
    console.log(usage)
    return 0
  }
  const settings = {
    rounds: count('--rounds', values.rounds, values.quick ? 1 : 3),
    seconds: count('--seconds', values.seconds, values.quick ? 1 : 5),
    connections: count('--connections', values.connections, 64),
  }
  const wantedJobs = list('--jobs', values.jobs, Object.keys(jobs))
  const only = list('--only', values.only, Object.keys(rivals))
  if (only.includes('sluice')) only.push('sluice-pipelining', 'sluice-plain')
  requirePrograms(['wrk', 'nginx', 'taskset'])
  if (only.some((name) => name.startsWith('sluice'))) requireBuild()
  requireTwoCores(values.force)
  const usable = available(Object.keys(rivals).filter((name) => only.includes(name)))

  const machine = describeMachine()
  console.log(machineLines(machine).join('\n'))
  const at = new Date()
  const results = await runJobs(wantedJobs, usable, settings)
  for (const [name, { summaries }] of Object.entries(results)) {
    const { head, rows } = jobRows(name, summaries)
    console.log(`\n${jobs[name].title}\n${textTable(head, rows)}`)
  }
  if (!values.quick || values.out !== undefined) {
    const folder = values.out ?? join(benchFolder, 'results')
    writeResults(folder, resultFiles({ at, machine, settings, results }))
    console.log(`\nresults: ${folder}`)
  }
  const failed = Object.values(results).some(({ summaries }) => Object.values(summaries).some((summary) => summary.failed > 0))
  if (failed) console.error('some requests failed: see the last column; such rows mean nothing')
  return failed ? 1 : 0
}

async function runJobs(wantedJobs, usable, settings) {
  const cores = corePair()
  const workshop = await new Workshop().open()
  try {
    const upstream = await startUpstream(workshop, cores.load)
    const results = {}
    for (const name of wantedJobs) {
      const taking = jobs[name].rivals.filter((rival) => usable.includes(rival))
      if (taking.length > 0) results[name] = await runJob(workshop, cores, upstream.port, name, taking, settings)
    }
    return results
  } finally {
    await workshop.close()
  }
}

/** Every round measures every rival once, so that a slow minute of the machine hits all of them alike. */
async function runJob(workshop, cores, upstreamPort, name, taking, settings) {
  const job = jobs[name]
  const gateways = []
  for (const rival of taking) {
    const gateway = { ...(await rivals[rival].start(workshop, cores.gateway, upstreamPort)), name: rival }
    await checkAnswers(gateway, job)
    gateways.push(gateway)
  }
  const rounds = Object.fromEntries(taking.map((rival) => [rival, []]))
  for (const gateway of gateways) {
    await measure(workshop, cores.load, gateway, job, { ...settings, seconds: Math.min(warmUpSeconds, settings.seconds) })
  }
  for (let round = 1; round <= settings.rounds; round++) {
    for (const gateway of gateways) {
      const measured = await measure(workshop, cores.load, gateway, job, settings)
      rounds[gateway.name].push(measured)
      const rate = `${Math.round(measured.requestsPerSecond)}/s, ${Math.round(measured.requestsPerCpuSecond)} per CPU second`
      console.error(`${name} round ${round}/${settings.rounds} ${gateway.name}: ${rate}`)
    }
  }
  for (const gateway of gateways) {
    await checkAnswers(gateway, job)
    await workshop.stop(gateway.running)
  }
  return { rounds, summaries: Object.fromEntries(taking.map((rival) => [rival, summarise(rounds[rival])])) }
}

function resultFiles({ at, machine, settings, results }) {
  const names = Object.keys(results)
  const raced = Object.keys(rivals).filter((rival) => names.some((name) => results[name].summaries[rival] !== undefined))
  const chart = barChart({
    title: 'Requests per CPU second of the gateway (more is better)',
    unit: 'requests',
    groups: names,
    series: raced.map((rival) => ({
      name: rival,
      values: names.map((name) => results[name].summaries[rival]?.requestsPerCpuSecond ?? null),
    })),
  })
  const sections = names.map((name) => {
    const { head, rows } = jobRows(name, results[name].summaries)
    return `## ${jobs[name].title}\n\n${markdownTable(head, rows)}`
  })
  const method = `Gateway on one core, load (\`wrk -t1 -c${settings.connections} -d${settings.seconds}s\`) and upstream on another, ${settings.rounds} interleaved rounds, medians. CPU from \`/proc/<pid>/stat\`; ratios compare requests per CPU second. Method and caveats: [../README.md](../README.md).`
  const readme = [
    '# Latest side-by-side run',
    `${at.toISOString()}\n\n${machineLines(machine)
      .map((line) => `- ${line}`)
      .join('\n')}`,
    method,
    '![requests per CPU second](requests-per-cpu-second.svg)',
    ...sections,
    `All rounds: [${stamp(at)}.json](${stamp(at)}.json). Written by \`native-bench/run\`.\n`,
  ].join('\n\n')
  return {
    [`${stamp(at)}.json`]: `${JSON.stringify({ at: at.toISOString(), machine, settings, results }, null, 2)}\n`,
    'README.md': readme,
    'requests-per-cpu-second.svg': chart,
  }
}

runProgram(main)
