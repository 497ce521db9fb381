/** Arithmetic of open-loop latencies: when requests are due, and what the times say that constant-rate.lua wrote down. Types are in latency-times.d.mts. */
import { build } from 'hdr-histogram-js'
import { median } from './parse.mjs'

/** Times that constant-rate.lua writes for each request. */
const timesPerRequest = 3
const longestNs = 60e9
const shownPercents = { p50: 50, p90: 90, p99: 99, p999: 99.9 }

export const percentNames = Object.keys(shownPercents)

/** Requests at equal distances. */
export function evenSchedule(rate, seconds) {
  return Float64Array.from({ length: Math.floor(rate * seconds) }, (_, index) => (index * 1e6) / rate)
}

/**
 * Independent requests (Poisson process): distances are exponential, the mean rate is the same. As many requests as an even schedule has,
 * so that both last about as long.
 */
export function poissonSchedule(rate, seconds, seed) {
  const random = mulberry32(seed)
  let at = 0
  return Float64Array.from({ length: Math.floor(rate * seconds) }, () => {
    at -= (Math.log(1 - random()) * 1e6) / rate
    return at
  })
}

/** Tommy Ettinger's mulberry32: numbers from 0 to 1 that repeat for a seed. */
function mulberry32(seed) {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** What became of a run; the requests due before `skipUs` are not counted. */
export function readTimes(due, times, skipUs) {
  if (times.length !== due.length * timesPerRequest) throw new Error(`${times.length} times of ${due.length} requests`)
  const latency = histogram()
  const lateness = histogram()
  let waited = 0
  for (let index = 0; index < due.length; index++) {
    if (due[index] < skipUs) continue
    const [ready, sent, done] = times.subarray(index * timesPerRequest, (index + 1) * timesPerRequest)
    latency.recordValue(nanoseconds(done - due[index]))
    lateness.recordValue(nanoseconds(sent - ready))
    if (ready > due[index]) waited++
  }
  return { requests: latency.totalCount, latency: percentilesOf(latency), lateness: percentilesOf(lateness), waited }
}

function histogram() {
  return build({ lowestDiscernibleValue: 1, highestTrackableValue: longestNs, numberOfSignificantValueDigits: 3 })
}

function nanoseconds(microseconds) {
  return Math.min(longestNs, Math.max(0, Math.round(microseconds * 1000)))
}

function percentilesOf(recorded) {
  const found = {}
  for (const [name, percent] of Object.entries(shownPercents)) found[name] = recorded.getValueAtPercentile(percent) / 1000
  return { ...found, max: recorded.maxValue / 1000 }
}

/** A round is disturbed when the generator did not get its core in time, or when other programs used much of the cores. */
export function isDisturbed({ direct, through }, limits) {
  return [direct, through].some(({ lateness, others }) => lateness.p99 > limits.latenessUs || others > limits.others)
}

/**
 * Rounds of one gateway as one row. What is added is taken round by round, percentile through minus percentile direct, so that a slow
 * moment of the machine hits both; then the median of the rounds is shown.
 */
export function summariseRounds(rounds, limits) {
  const clean = rounds.filter((round) => !isDisturbed(round, limits))
  const used = clean.length === 0 ? rounds : clean
  const each = (pick) => Object.fromEntries(percentNames.map((name) => [name, pick(name)]))
  const worse = (pick) => median(used.map(({ direct, through }) => Math.max(pick(direct), pick(through))))
  return {
    rounds: rounds.length,
    disturbed: rounds.length - clean.length,
    isTrusted: clean.length > 0,
    direct: each((name) => median(used.map(({ direct }) => direct.latency[name]))),
    through: each((name) => median(used.map(({ through }) => through.latency[name]))),
    added: each((name) => spread(used.map(({ direct, through }) => through.latency[name] - direct.latency[name]))),
    generator: worse(({ lateness }) => lateness.p99),
    others: worse(({ others }) => others),
    cpuShare: median(used.map(({ through }) => through.cpuShare)),
  }
}

function spread(values) {
  return { median: median(values), least: Math.min(...values), most: Math.max(...values) }
}
