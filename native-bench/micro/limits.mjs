/**
 * One rate-limit decision, in nanoseconds: every algorithm on 1, 1,000 and 10 million keys, on one thread and on two at once;
 * rate-limiter-flexible (memory) beside ours.
 *
 *   npm run build && node native-bench/micro/limits.mjs        (SLUICE_DIST: another build folder; about a minute)
 *
 * A decision includes hashing the key. Keys are strings made before the clock starts. 10 million keys are all alive, about 68 % of the cells,
 * and visited at random: nearly every decision waits for main memory. `best` of the rounds is what the code costs, `median` what it cost
 * on this machine while other things ran; two threads report the mean of what each saw.
 */
import { pathToFileURL } from 'node:url'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { RateLimiterMemory } from 'rate-limiter-flexible'

const dist = process.env.SLUICE_DIST === undefined ? new URL('../../dist/', import.meta.url) : pathToFileURL(`${process.env.SLUICE_DIST}/`)
const { createLimiterRegion } = await import(new URL('shared/limiter-layout.js', dist))
const { LocalLimiterStore } = await import(new URL('shared/limiter-store.js', dist))

const million = 1_000_000
const rounds = 25
const decisions = 100_000
const sampleSize = 20_000
const nowMs = Date.UTC(2026, 0, 2)
const windowMs = 3_600_000
const rules = {
  'fixed-window': { algorithm: 'fixed-window', limit: 2_000_000_000, windowMs, start: 'clock' },
  'sliding-window': { algorithm: 'sliding-window', limit: 2_000_000_000, windowMs },
  'token-bucket': { algorithm: 'token-bucket', rate: million, burst: 2_000_000_000 },
  'leaky-bucket': { algorithm: 'leaky-bucket', rate: million, burst: 2_000_000_000 },
  concurrency: { algorithm: 'concurrency', limit: 2_000_000_000, ttlMs: windowMs },
  // Its entries are bounded: mostly refusals, which read the oldest entry.
  'sliding-log': { algorithm: 'sliding-log', limit: 100, windowMs },
}

function limiterOf(region, member, name) {
  const store = new LocalLimiterStore(region, member, () => nowMs)
  const limiter = store.bind({ scope: name, rules: [rules[name]], countRefused: false, dryRun: false, store: { kind: 'local' } })
  return { store, limiter, out: limiter.decision() }
}

/** Linear congruential generator with a fixed seed: the same keys in every run. */
function* randomIndexes(count, seed) {
  let state = seed
  for (;;) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    yield Math.floor((state / 2 ** 32) * count)
  }
}

/** A flat string, as a parser makes it: not a rope that the first reader would have to flatten. */
function keyOf(index) {
  return Buffer.from(`10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`).toString('latin1')
}

function sampleOf(keys, indexes) {
  return Array.from({ length: sampleSize }, () => keyOf(keys === 1 ? 0 : indexes.next().value))
}

/** Nanoseconds per call of `decide(key)`: best and median round. Each round has a sample of its own. */
function measure(keys, seed, decide) {
  const indexes = randomIndexes(keys, seed)
  const times = []
  for (let round = 0; round < rounds; round++) {
    const sample = sampleOf(keys, indexes)
    const started = process.hrtime.bigint()
    for (let index = 0; index < decisions; index++) {
      // A round visits every key of its sample once where keys are many: a second visit would find it in the caches.
      if (index === sampleSize && keys > sampleSize) break
      decide(sample[index % sampleSize])
    }
    times.push(Number(process.hrtime.bigint() - started) / (keys > sampleSize ? sampleSize : decisions))
  }
  times.sort((a, b) => a - b)
  return { best: times[0], median: times[rounds >> 1] }
}

function measureOurs(region, member, name, keys) {
  const { limiter, out } = limiterOf(region, member, name)
  const releases = name === 'concurrency'
  return measure(keys, 1 + member, (key) => {
    limiter.check(key, 1, out)
    if (releases) limiter.release(out.hold)
  })
}

/** Both threads at once on one region; each reports, the means are returned. */
async function measureTwo(region, name, keys) {
  const gate = new SharedArrayBuffer(4)
  const workers = [0, 1].map((member) => new Worker(new URL(import.meta.url), { workerData: { region, member, name, keys, gate } }))
  const results = await Promise.all(
    workers.map((worker) => new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))),
  )
  return { best: (results[0].best + results[1].best) / 2, median: (results[0].median + results[1].median) / 2 }
}

/** Stands at the gate until both threads do. */
function meet(gate) {
  const cells = new Int32Array(gate)
  if (Atomics.add(cells, 0, 1) === 0) Atomics.wait(cells, 0, 1)
  else Atomics.notify(cells, 0)
}

function rowOf(name, keys, threads, { best, median }) {
  return { limiter: name, keys, threads, 'best ns': Math.round(best), 'median ns': Math.round(median) }
}

async function measureAll() {
  const rows = []
  const small = createLimiterRegion({ members: 2, cells: 200_000, logEntries: 2 * million, seed: [1, 2] })
  for (const name of Object.keys(rules)) {
    for (const keys of [1, 1000]) {
      rows.push(rowOf(name, keys, 1, measureOurs(small, 0, name, keys)))
      rows.push(rowOf(name, keys, 2, await measureTwo(small, name, keys)))
    }
  }
  const keys = 10 * million
  const large = createLimiterRegion({ members: 2, cells: 14.6 * million, logEntries: 1, seed: [1, 2] })
  const { limiter, out, store } = limiterOf(large, 0, 'fixed-window')
  for (let index = 0; index < keys; index++) limiter.check(keyOf(index), 1, out)
  rows.push(rowOf('fixed-window', keys, 1, measureOurs(large, 0, 'fixed-window', keys)))
  rows.push(rowOf('fixed-window', keys, 2, await measureTwo(large, 'fixed-window', keys)))
  const { bytes, sharedDecisions } = store.stats()
  console.log(
    `10 million live keys: ${(bytes / keys).toFixed(1)} bytes a key, ${(store.fill() * 100).toFixed(1)} % of the cells, ${sharedDecisions} shared`,
  )
  rows.push(...(await measureRival()))
  console.table(rows)
}

/** Its decisions are promises: awaited one by one, as a request would. */
async function measureRival() {
  const rows = []
  for (const keys of [1, 1000]) {
    const rival = new RateLimiterMemory({ points: 2_000_000_000, duration: windowMs / 1000 })
    const times = []
    const sample = sampleOf(keys, randomIndexes(keys, 1))
    for (let round = 0; round < rounds; round++) {
      const started = process.hrtime.bigint()
      for (let index = 0; index < decisions; index++) await rival.consume(sample[index % sampleSize])
      times.push(Number(process.hrtime.bigint() - started) / decisions)
    }
    times.sort((a, b) => a - b)
    rows.push(rowOf('rate-limiter-flexible', keys, 1, { best: times[0], median: times[rounds >> 1] }))
    for (const key of new Set(sample)) await rival.delete(key)
  }
  return rows
}

if (isMainThread) await measureAll()
else {
  const { region, member, name, keys, gate } = workerData
  meet(gate)
  parentPort.postMessage(measureOurs(region, member, name, keys))
}
