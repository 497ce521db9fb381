/** Side-by-side runs; see README.md in this folder. Exit codes: 0 fine, 1 a gateway failed requests or answers, 2 cannot run here. */
import { join } from 'node:path'
import { goals, jobs } from './jobs/index.mjs'
import { barChart } from './lib/charts.mjs'
import { idleRows, judgeIdle, runIdle } from './lib/idle.mjs'
import { judgeLatency, latencyGoals, latencyRows, runLatency } from './lib/latency.mjs'
import { benchFolder, corePair, describeMachine, requireBuild, requirePrograms, requireTwoCores } from './lib/machine.mjs'
import { count, list, programValues, runProgram } from './lib/options.mjs'
import { goalRows, jobRows, machineLines, markdownTable, stamp, textTable, writeResults } from './lib/report.mjs'
import { rivals } from './lib/rivals.mjs'
import { judgeSizes, measureSizes, sizeRows } from './lib/route-sizes.mjs'
import { judge, runJobs } from './lib/run-jobs.mjs'

const specialJobs = ['routes', 'idle', 'latency']
const allJobs = [...Object.keys(jobs), ...specialJobs]
/** They need most of the time of a run and change least. */
const slowRivals = ['http-proxy', 'http-proxy-default', '@fastify/http-proxy', 'fast-gateway', 'caddy', 'nginx-lua']
/** Neighbours of other jobs: left out of quick runs that do not name their jobs. */
const furtherJobs = ['plain-c16', 'plain-c256', '16k', '16k-c16', '16k-c256', '16k-c1024', 'refuse-403', 'refuse-404', 'post1k']
const idleConnections = 10_000
/** A quick run begins nothing new after this, so that it ends within five minutes on a slow machine too. */
const quickSecondsMax = 260

const usage = `native-bench/run: our gateway next to others, on this machine, in one run

  --rounds N        interleaved rounds, the table shows medians (5)
  --seconds N       length of one measurement (3)
  --connections N   client connections of wrk, where a job does not say otherwise (64)
  --only A,B        rivals: ${Object.keys(rivals).join(', ')}
  --jobs A,B        jobs: ${allJobs.join(', ')}
  --quick           1 round of 1 s, less than five minutes: what does not fit is left out, and named; writes no results.
                    Without ${slowRivals.join(', ')};
                    without the jobs
                    ${furtherJobs.join(', ')}
  --check           only checks what the gateways of each job answer (two minutes); writes no results
  --out DIR         where results go (native-bench/results)
  --force           run although there is one core only`

async function main() {
  const values = programValues(usage, ['rounds', 'seconds', 'connections', 'only', 'jobs', 'out'], ['quick', 'check'])
  const settings = {
    rounds: count('--rounds', values.rounds, values.quick ? 1 : 5),
    seconds: count('--seconds', values.seconds, values.quick ? 1 : 3),
    connections: count('--connections', values.connections, 64),
  }
  const usual = values.quick ? allJobs.filter((job) => !furtherJobs.includes(job)) : allJobs
  const wanted = values.jobs === undefined ? usual : list('--jobs', values.jobs, allJobs)
  const asked = list('--only', values.only, Object.keys(rivals))
  const only = values.quick && values.only === undefined ? asked.filter((rival) => !slowRivals.includes(rival)) : asked
  requirePrograms(['wrk', 'nginx', 'taskset', 'openssl'])
  if (only.some((name) => name.startsWith('sluice'))) requireBuild()
  requireTwoCores(values.force)
  const machine = describeMachine()
  console.log(machineLines(machine).join('\n'))
  if (values.check) return checkOnly(wanted, only, settings)
  const found = await runWanted(wanted, only, settings, values.quick)
  const sections = sectionsOf(found)
  for (const { title, head, rows, notes = [] } of sections) console.log([`\n${title}`, textTable(head, rows), ...notes].join('\n'))
  if (!values.quick || values.out !== undefined) {
    const folder = values.out ?? join(benchFolder, 'results')
    writeResults(folder, resultFiles({ at: new Date(), machine, settings, found, sections }))
    console.log(`\nresults: ${folder}`)
  }
  const failed = sections.filter(({ hasFailed }) => hasFailed)
  for (const { title } of failed) console.error(`some requests failed or were answered wrongly, such rows mean nothing: ${title}`)
  return failed.length > 0 ? 1 : 0
}

/** Starts the gateways of all jobs and checks their answers. */
async function checkOnly(wanted, only, settings) {
  const names = wanted.filter((name) => !specialJobs.includes(name))
  const results = await runJobs(names, { cores: corePair(), settings: { ...settings, rounds: 0 }, only })
  for (const [name, { right }] of Object.entries(results)) console.log(`${name}: ${right.join(', ')}`)
  return Object.values(results).some(({ wrong }) => Object.keys(wrong).length > 0) ? 1 : 0
}

async function runWanted(wanted, only, settings, isQuick) {
  const cores = corePair()
  const mayBegin = isQuick ? deadline(quickSecondsMax) : () => true
  const results = await runJobs(
    wanted.filter((name) => !specialJobs.includes(name)),
    { cores, settings, only, mayBegin },
  )
  const sizes = isQuick ? [1, 100_000] : [1, 1_000, 100_000]
  const routes =
    wanted.includes('routes') && only.includes('sluice') && mayBegin('routes') ? await measureSizes(sizes, { cores, settings }) : null
  const idle =
    wanted.includes('idle') && mayBegin('idle') ? await runIdle({ cores, only, count: idleConnections, seconds: settings.seconds }) : null
  const halfLoad = { ...settings, share: 0.5, arrivals: 'even' }
  const latency = wanted.includes('latency') && mayBegin('latency') ? await runLatency({ cores, only, settings: halfLoad }) : null
  return { results, judged: judge(results), routes, idle, latency }
}

/** Says of a job whether it may still begin; one that may not is named on stderr. */
function deadline(secondsMax) {
  const end = performance.now() + secondsMax * 1000
  return (name) => {
    if (performance.now() < end) return true
    console.error(`${name} is left out: ${secondsMax} s are over`)
    return false
  }
}

function sectionsOf({ results, judged, routes, idle, latency }) {
  const sections = []
  const goals = goalRows([...judged, ...judgeSizes(routes)], judgeIdle(idle), judgeLatency(latency))
  if (goals.rows.length > 0)
    sections.push({ title: 'Goals (requests per CPU second, ratios within a round; memory; added latency)', ...goals })
  for (const [name, result] of Object.entries(results)) {
    const hasFailed = Object.values(result.summaries).some((summary) => summary.failed > 0) || Object.keys(result.wrong).length > 0
    const notes = Object.entries(result.wrong).map(([rival, reason]) => `${rival} is left out: ${reason}`)
    sections.push({ title: jobs[name].title, ...jobRows(name, result, jobs[name]), hasFailed, notes })
  }
  if (routes !== null) {
    const hasFailed = routes.some(({ summary }) => summary.failed > 0)
    sections.push({ title: 'I: number of routes', ...sizeRows(routes), hasFailed })
  }
  if (idle !== null) {
    const hasFailed = Object.values(idle).some(({ failed }) => failed > 0)
    const title = `J: ${idleConnections.toLocaleString('en-US')} idle client connections, 16 active ones`
    sections.push({ title, ...idleRows(idle), hasFailed })
  }
  if (latency !== null) sections.push({ title: 'Added latency at half load, constant rate, plain proxy', ...latencyRows(latency) })
  return sections
}

/** One chart per kind of job: refusals are so much quicker that beside them nothing else could be read. */
const charts = {
  'proxy.svg': ['plain', 'plain-c16', 'plain-c256', 'plain-c1024', 'pipelining', 'pipelined-clients'],
  'bodies.svg': ['16k', '16k-c16', '16k-c256', '16k-c1024', 'post1k', 'post100k'],
  'gateway.svg': ['limit', 'key', 'jwt-hs256', 'jwt-rs256', 'tls', 'tls-new'],
  'refusals.svg': ['refuse-429', 'refuse-401', 'refuse-403', 'refuse-404', 'refuse-503'],
}

function chartsOf(results) {
  const files = {}
  const order = ['sluice', 'sluice, plain', ...Object.keys(rivals).slice(1)]
  for (const [file, wanted] of Object.entries(charts)) {
    const names = wanted.filter((name) => results[name] !== undefined)
    const raced = [...new Set(names.flatMap((name) => Object.keys(results[name].summaries)))]
      .filter((one) => !one.includes(' with the ') && !one.includes('alone'))
      .sort((a, b) => order.indexOf(a) - order.indexOf(b))
    if (raced.length === 0) continue
    files[file] = barChart({
      title: 'Requests per CPU second of the gateway (more is better)',
      unit: 'requests',
      groups: names,
      series: raced.map((one) => ({ name: one, values: names.map((name) => results[name].summaries[one]?.requestsPerCpuSecond ?? null) })),
    })
  }
  return files
}

function resultFiles({ at, machine, settings, found, sections }) {
  const pictures = chartsOf(found.results)
  const method = `Gateway on one core, load (\`wrk -t1 -c${settings.connections} -d${settings.seconds}s\` unless the job says otherwise) and upstream on another, ${settings.rounds} interleaved rounds, medians. CPU from \`/proc/<pid>/stat\`; ratios compare requests per CPU second, round by round. Method, jobs and caveats: [../README.md](../README.md).`
  const readme = [
    '# Latest side-by-side run',
    `${at.toISOString()}\n\n${machineLines(machine)
      .map((line) => `- ${line}`)
      .join('\n')}`,
    method,
    ...Object.keys(pictures).map((file) => `![requests per CPU second](${file})`),
    ...sections.map(({ title, head, rows, notes = [] }) => [`## ${title}`, markdownTable(head, rows), ...notes].join('\n\n')),
    `All rounds: [${stamp(at)}.json](${stamp(at)}.json). Written by \`native-bench/run\`.\n`,
  ].join('\n\n')
  return {
    [`${stamp(at)}.json`]: `${JSON.stringify({ at: at.toISOString(), machine, settings, goals, latencyGoals, ...found }, null, 2)}\n`,
    'README.md': readme,
    ...pictures,
  }
}

runProgram(main)
