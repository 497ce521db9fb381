/** Runs jobs: all rivals of a job side by side, measured in turns. */
import { goals, jobs } from '../jobs/index.mjs'
import { Fixtures, TOKENS } from './fixtures.mjs'
import { measure } from './measure.mjs'
import { pairedRatio, summarise } from './parse.mjs'
import { freePort, Workshop } from './processes.mjs'
import { available, rivals as knownRivals, startUpstream } from './rivals.mjs'

const warmUpSeconds = 2
/** A machine that needs longer for the tokens once is too busy to measure anything. */
const allTokensSecondsMax = 10

/**
 * @param names of jobs.
 * @param options `cores`, `settings` (rounds, 0 = answers are checked and nothing is timed; seconds; connections), `only` (rivals that may take
 *   part), `rivals` (by name, in place of the known ones; each takes part as our gateway does), `mayBegin` (asked with the name of each job before it begins).
 * @returns by job: `rounds` and `summaries` by contestant, `connections`, and `wrong`: why a rival was not timed, or its numbers thrown away;
 *   `right` when nothing is timed: who answered rightly.
 */
export async function runJobs(names, { cores, settings, only, rivals, mayBegin = () => true }) {
  const workshop = await new Workshop().open()
  const fixtures = new Fixtures(workshop.folder)
  try {
    const upstream = await startUpstream(workshop, cores.load)
    const results = {}
    for (const name of names) {
      const job = jobs[name]
      const contestants = rivals === undefined ? contestantsOf(job, only) : buildsOf(job, rivals)
      if (!contestants.some(({ rival }) => rival !== 'uws-empty') || !mayBegin(name)) continue
      const connections = job.connections ?? settings.connections
      const run = { workshop, fixtures, cores, upstream, known: rivals ?? knownRivals, settings: { ...settings, connections } }
      results[name] = { connections, ...(await runJob(run, name, job, contestants)) }
    }
    return results
  } finally {
    await workshop.close()
  }
}

/** Who takes part: `name` in the tables, `rival` to be started, `load`. */
function contestantsOf(job, only) {
  const all = Object.entries(job.contestants).map(([name, { of = name, load = job.load }]) => ({ name, rival: of, load }))
  const usable = available([...new Set(all.map(({ rival }) => rival))].filter((rival) => only.includes(rival)))
  return all.filter(({ rival }) => usable.includes(rival))
}

/** Several builds of our gateway. */
function buildsOf(job, rivals) {
  return Object.keys(rivals).map((name) => ({ name, rival: name, load: job.load }))
}

/** Every round measures every contestant once, so that a slow minute of the machine hits all of them alike. */
async function runJob({ workshop, fixtures, cores, upstream, known, settings }, name, job, wanted) {
  const values = await valuesOf(job, fixtures, upstream.port)
  const loads = new Map()
  for (const { name: contestant, load } of wanted) loads.set(contestant, await withFields(load, job, fixtures))
  const gateways = new Map()
  const wrong = {}
  /** One that does not do the job is left out of it; the others go on. */
  const trying = async (rival, act) => {
    try {
      await act()
    } catch (error) {
      // The run is being ended by a signal.
      if (process.exitCode !== undefined) throw error
      wrong[rival] = error.message
      console.error(`${name}: ${rival} is left out: ${error.message}`)
    }
  }
  const checkAll = async (isFirst) => {
    for (const [rival, gateway] of gateways) {
      if (wrong[rival] === undefined) await trying(rival, () => job.check(gateway, loads.get(rival), { fixtures, isFirst }))
    }
  }
  for (const rival of new Set(wanted.map((contestant) => contestant.rival))) {
    await trying(rival, async () => {
      const started = await known[rival].start(workshop, cores.gateway, { name: rival, folder: job.folder, values })
      gateways.set(rival, { ...started, rival: known === knownRivals ? rival : 'sluice' })
    })
  }
  await checkAll(true)
  const contestants = wanted.filter(({ rival }) => wrong[rival] === undefined)
  if (settings.rounds === 0) {
    for (const gateway of gateways.values()) await workshop.stop(gateway.running)
    return { rounds: {}, summaries: {}, wrong, right: [...new Set(contestants.map(({ rival }) => rival))] }
  }
  const turn = (contestant, seconds) =>
    measure(workshop, cores.load, gateways.get(contestant.rival), loads.get(contestant.name), { ...settings, seconds })
  for (const contestant of contestants) {
    await trying(contestant.rival, async () => {
      await turn(contestant, Math.min(warmUpSeconds, settings.seconds))
      if (job.algorithm !== undefined) await useAllTokens(contestant, turn)
    })
  }
  const rounds = Object.fromEntries(contestants.map((contestant) => [contestant.name, []]))
  for (let round = 1; round <= settings.rounds; round++) {
    for (const contestant of contestants) {
      if (wrong[contestant.rival] !== undefined) continue
      await trying(contestant.rival, async () => {
        // Tokens have to be verified anew every minute. While the others had their turns, those of this contestant grew old all at once,
        // which under load without pauses they do one by one: the share of fresh verifications shall be that of continuous load.
        if (job.algorithm !== undefined) await useAllTokens(contestant, turn)
        const measured = await turn(contestant, settings.seconds)
        rounds[contestant.name].push(measured)
        const rate = `${Math.round(measured.requestsPerSecond)}/s, ${Math.round(measured.requestsPerCpuSecond)} per CPU second`
        console.error(`${name} round ${round}/${settings.rounds} ${contestant.name}: ${rate}`)
      })
    }
  }
  await checkAll(false)
  for (const gateway of gateways.values()) await workshop.stop(gateway.running)
  const right = contestants.filter(({ rival }) => wrong[rival] === undefined)
  return {
    rounds: Object.fromEntries(right.map((one) => [one.name, rounds[one.name]])),
    summaries: Object.fromEntries(right.map((one) => [one.name, summarise(rounds[one.name])])),
    wrong,
  }
}

async function useAllTokens(contestant, turn) {
  let used = 0
  for (let second = 0; used < TOKENS && second < allTokensSecondsMax; second++) used += (await turn(contestant, 1)).requests
}

/** What the configurations of a job have in place of their @NAMES@. */
async function valuesOf(job, fixtures, upstreamPort) {
  const values = { UPSTREAM_PORT: upstreamPort, PIPELINING: 1, WORKER_CONNECTIONS: 8192, ...job.values }
  if (job.folder === 'jwt') {
    const { secret, files } = fixtures.keys
    const { algorithm } = job
    values.ALGORITHM = algorithm
    values.VERIFICATION_KEY = algorithm === 'HS256' ? secret : files.RS256
    values.KEY_FILE = files[algorithm]
    values.JWT_CONSUMERS = fixtures.jwtConsumers(algorithm)
  }
  if (job.folder === 'key' || job.folder === 'refuse') values.KEY_CONSUMERS = fixtures.apiKeys.consumers
  // Nobody listens there.
  if (job.folder === 'refuse') values.DEAD_PORT = await freePort()
  if (job.folder === 'tls') fixtures.certificate()
  return values
}

async function withFields(load, job, fixtures) {
  if (load.fields === undefined) return load
  return { ...load, fields: load.fields === 'tokens' ? await fixtures.tokenFile(job.algorithm) : fixtures.apiKeys.file }
}

/** Goals that can be judged by these results: each with the ratio that was found. */
export function judge(results) {
  return goals.flatMap((goal) => {
    const { rounds } = results[goal.job] ?? {}
    if (rounds?.[goal.of] === undefined || rounds[goal.to] === undefined) return []
    return [{ ...goal, ratio: pairedRatio(rounds[goal.of], rounds[goal.to]) }]
  })
}
