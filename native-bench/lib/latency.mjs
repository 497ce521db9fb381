/** The job `latency`: what gateways add to the time of a request at half of the load that each can carry. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { jobs } from '../jobs/index.mjs'
import { evenSchedule, isDisturbed, percentNames, poissonSchedule, readTimes, summariseRounds } from './latency-times.mjs'
import { benchFolder } from './machine.mjs'
import { measure } from './measure.mjs'
import { cpuSeconds, cpuSecondsOfAll, idleSeconds, run, Workshop } from './processes.mjs'
import { available, rivals as knownRivals, startUpstream } from './rivals.mjs'

const script = join(benchFolder, 'lib', 'constant-rate.lua')
/** Who takes part when nobody else is said to. */
export const contestants = ['sluice', 'nginx', 'haproxy']
const maximumRounds = 3
const warmUpSeconds = 3
/** At the start of a run caches are cold and the generator is not compiled yet. */
const skippedSeconds = 0.5
/** The generator's own p99 is 20 to 50 µs while the machine has nothing else to do. */
export const limits = { latenessUs: 100, others: 0.03 }
/** Rounds that something else disturbed are repeated, up to so many times the rounds asked for. */
const patience = 2

/** In microseconds, added by our gateway. */
export const latencyGoals = [
  { percentile: 'p50', most: 100 },
  { percentile: 'p99', most: 400 },
  { percentile: 'p999', most: 2000 },
]

export const shownPercentiles = { p50: 'p50', p90: 'p90', p99: 'p99', p999: 'p99.9' }

/**
 * @param options `cores`; `settings`: rounds, seconds, connections, `arrivals` (`even` or `poisson`), `share` of the maximum, or a fixed
 *   `rate` in its place; `only`: rivals that may take part; `rivals`: by name, in place of the known ones, each a build of ours.
 * @returns by gateway: `maximum` (null = not asked for) and `rate` (requests per second), `rounds`, and `summary`; or `failure`,
 *   why there is none.
 */
export async function runLatency({ cores, settings, only, rivals }) {
  const workshop = await new Workshop().open()
  try {
    const names = rivals === undefined ? available(contestants.filter((rival) => only.includes(rival))) : Object.keys(rivals)
    const upstream = await startUpstream(workshop, cores.load)
    const known = rivals ?? knownRivals
    const gateways = []
    for (const name of names) {
      const values = { UPSTREAM_PORT: upstream.port, PIPELINING: 1, WORKER_CONNECTIONS: 8192 }
      const started = await known[name].start(workshop, cores.gateway, { name, folder: jobs.plain.folder, values })
      gateways.push({ ...started, rival: rivals === undefined ? name : 'sluice' })
      await jobs.plain.check(gateways.at(-1), jobs.plain.load)
    }
    const maxima = await findMaxima(workshop, cores, gateways, settings)
    const found = {}
    for (const gateway of gateways) {
      const maximum = maxima.get(gateway.name) ?? null
      found[gateway.name] = { maximum, rate: settings.rate ?? Math.floor(maximum * settings.share), rounds: [] }
    }
    const used = [...new Set([cores.gateway, cores.load])].join(',')
    await runRounds({ workshop, cores: { ...cores, used }, upstream, settings }, gateways, found)
    for (const gateway of gateways) await attempt(found[gateway.name], () => jobs.plain.check(gateway, jobs.plain.load))
    for (const one of Object.values(found)) if (one.failure === undefined) one.summary = summariseRounds(one.rounds, limits)
    return found
  } finally {
    await workshop.close()
  }
}

/** Requests per second of a closed loop, by name: the most that was reached. With a fixed rate there is only the warm-up. */
async function findMaxima(workshop, cores, gateways, settings) {
  const turn = (gateway, seconds) => measure(workshop, cores.load, gateway, jobs.plain.load, { ...settings, seconds })
  for (const gateway of gateways) await turn(gateway, Math.min(warmUpSeconds, settings.seconds))
  if (settings.rate !== undefined) return new Map()
  const rates = new Map(gateways.map(({ name }) => [name, []]))
  for (let round = 0; round < Math.min(maximumRounds, settings.rounds); round++) {
    for (const gateway of gateways) rates.get(gateway.name).push((await turn(gateway, settings.seconds)).requestsPerSecond)
  }
  return new Map([...rates].map(([name, values]) => [name, Math.max(...values)]))
}

/** Each round measures every gateway once; who has enough undisturbed rounds is done. */
async function runRounds(bench, gateways, found) {
  const { rounds } = bench.settings
  for (let round = 1; round <= rounds * patience; round++) {
    for (const gateway of gateways) {
      const one = found[gateway.name]
      if (one.rounds.filter((measured) => !isDisturbed(measured, limits)).length < rounds) {
        await attempt(one, () => measureRound(bench, gateway, one, round))
      }
    }
  }
}

/** A gateway that fails once is not asked again, and the others go on. */
async function attempt(one, work) {
  if (one.failure !== undefined) return
  try {
    await work()
  } catch (error) {
    one.failure = error.message
    console.error(error.message)
  }
}

/** Direct and through the gateway, one behind the other. */
async function measureRound(bench, gateway, one, round) {
  const due = scheduleOf(bench.settings.arrivals, one.rate, bench.settings.seconds, round)
  const direct = await drive(bench, bench.upstream.port, due)
  const cpuBefore = cpuSeconds(gateway.running.pid)
  const through = await drive(bench, gateway.port, due)
  const cpuShare = (cpuSeconds(gateway.running.pid) - cpuBefore) / (bench.settings.seconds + skippedSeconds)
  const measured = { direct, through: { ...through, cpuShare } }
  one.rounds.push(measured)
  const added = percentNames.map((name) => Math.round(through.latency[name] - direct.latency[name]))
  const note = isDisturbed(measured, limits) ? ` (disturbed: ${causesOf(measured)})` : ''
  console.error(`latency round ${round} ${gateway.name} at ${one.rate}/s: adds ${added.join(', ')} µs${note}`)
}

function scheduleOf(arrivals, rate, seconds, seed) {
  const whole = seconds + skippedSeconds
  return arrivals === 'poisson' ? poissonSchedule(rate, whole, seed) : evenSchedule(rate, whole)
}

function causesOf({ direct, through }) {
  const [late, others] = [({ lateness }) => lateness.p99, ({ others }) => others].map((of) => Math.max(of(direct), of(through)))
  return `the generator itself ${micros(late)} µs late at p99, ${Math.round(others * 100)} % of the cores used by others`
}

/** One run of the generator. */
async function drive({ workshop, cores, settings }, port, due) {
  const [schedule, output] = [join(workshop.folder, 'schedule'), join(workshop.folder, 'times')]
  writeFileSync(schedule, due)
  const args = ['-t1', '-c1', '-d1s', '-s', script, `http://127.0.0.1:${port}/`, '--', schedule, output, String(settings.connections)]
  const before = { at: performance.now(), cpu: cpuSecondsOfAll(), idle: idleSeconds(cores.used) }
  await run(workshop, 'the generator', cores.load, 'wrk', args)
  const others = shareOfOthers(before, { at: performance.now(), cpu: cpuSecondsOfAll(), idle: idleSeconds(cores.used) }, cores.used)
  const bytes = readFileSync(output)
  const times = new Float64Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength))
  return { ...readTimes(due, times, skippedSeconds * 1e6), others }
}

/** Goals that can be judged: each with what was found, and whether the generator can be believed. */
export function judgeLatency(found) {
  const summary = found?.sluice?.summary
  if (summary === undefined) return []
  return latencyGoals.map((goal) => ({
    ...goal,
    name: shownPercentiles[goal.percentile],
    found: summary.added[goal.percentile],
    isTrusted: summary.isTrusted,
  }))
}

/**
 * Share of the cores that others had at most: not more than all others used together, wherever it was, and not more than these cores were
 * busy beyond what ours used, whatever it was (interrupts, or another guest of the same host).
 */
function shareOfOthers(before, after, cores) {
  const available = ((after.at - before.at) / 1000) * cores.split(',').length
  const others = after.cpu.others - before.cpu.others
  const busy = available - (after.idle - before.idle) - (after.cpu.own - before.cpu.own)
  return Math.max(0, Math.min(others, busy)) / available
}

export function latencyRows(found) {
  const head = ['µs', 'requests/s', 'CPU', ...Object.values(shownPercentiles), 'generator p99', 'others', 'rounds', 'disturbed']
  const measured = Object.entries(found).filter(([, { summary }]) => summary !== undefined)
  const rows = measured.flatMap(([name, { rate, summary }]) => {
    const one = (label, cpu, values, rest) => [
      label,
      rate.toLocaleString('en-US'),
      cpu,
      ...percentNames.map((name) => micros(values(name))),
      ...rest,
    ]
    const rest = [
      micros(summary.generator),
      `${(summary.others * 100).toFixed(1)} %`,
      String(summary.rounds),
      summary.isTrusted ? String(summary.disturbed) : 'all',
    ]
    return [
      one(`${name} adds`, `${Math.round(summary.cpuShare * 100)} %`, (percent) => summary.added[percent].median, rest),
      one(`… through ${name}`, '', (percent) => summary.through[percent], ['', '', '', '']),
      one('… direct', '', (percent) => summary.direct[percent], ['', '', '', '']),
    ]
  })
  const failed = Object.entries(found).filter(([, { failure }]) => failure !== undefined)
  return { head, rows, hasFailed: failed.length > 0, notes: failed.map(([name, { failure }]) => `${name} is left out: ${failure}`) }
}

function micros(value) {
  return Math.round(value).toLocaleString('en-US')
}
