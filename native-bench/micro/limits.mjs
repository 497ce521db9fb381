/**
 * One rate-limit decision, in nanoseconds: every algorithm on 1, 1,000 and 10 million keys, on one thread and on two at once; decisions
 * in Redis, exact and by leases; `rate-limiter-flexible` (memory, Redis) beside ours.
 *
 *   npm run build && node native-bench/micro/limits.mjs [--write] [--huge-pages] [--redis]     (SLUICE_DIST: another build folder; about two minutes on a quiet machine)
 *
 * --write       also as native-bench/results/limits.md (limits-huge-pages.md)
 * --huge-pages  asks the C library for huge pages (GLIBC_TUNABLES=glibc.malloc.hugetlb=1): see docs/rate-limiting.md
 * --redis       only the rows about Redis, not written
 *
 * A decision includes hashing the key. All keys are strings made before the first clock starts. 10 million keys are all alive, about 68 %
 * of the cells, and visited at random, each once: nearly every decision waits for main memory. `best` of the rounds is what the code
 * costs, `median` what it cost on this machine while other things ran; two threads report the mean of what each saw. A concurrency row
 * is two decisions, check and release. Redis: `alone` = one decision after the other, `100 at a time` = that many requests wait together,
 * `time of Redis` = what the server itself spends on one script call (`INFO commandstats`): it bounds the decisions of all gateways together.
 */
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'

const dist = process.env.SLUICE_DIST === undefined ? new URL('../../dist/', import.meta.url) : pathToFileURL(`${process.env.SLUICE_DIST}/`)
const { createLimiterRegion } = await import(new URL('shared/limiter-layout.js', dist))
const { LocalLimiterStore } = await import(new URL('shared/limiter-store.js', dist))

const million = 1_000_000
/** Short, and many: a round that nothing else interrupts is found also on a machine that does other things. */
const rounds = 200
const decisions = 2000
const manyKeys = 10 * million
/** The log keeps a chunk of 32 times for each of its keys: its memory bounds them. */
const manyLogKeys = million
const nowMs = Date.UTC(2026, 0, 2)
const windowMs = 3_600_000
const plenty = 2_000_000_000
const rules = {
  'fixed-window': { algorithm: 'fixed-window', limit: plenty, windowMs, start: 'clock' },
  'sliding-window': { algorithm: 'sliding-window', limit: plenty, windowMs },
  'token-bucket': { algorithm: 'token-bucket', rate: million, burst: plenty },
  'leaky-bucket': { algorithm: 'leaky-bucket', rate: million, burst: plenty },
  concurrency: { algorithm: 'concurrency', limit: plenty, ttlMs: windowMs },
  // Its entries are bounded: mostly refusals, which read the oldest entry.
  'sliding-log': { algorithm: 'sliding-log', limit: 100, windowMs },
}

function specOf(name, store = { kind: 'local' }) {
  return { scope: name, rules: [rules[name]], countRefused: false, dryRun: false, store }
}

function limiterOf(region, member, name) {
  const store = new LocalLimiterStore(region, member, () => nowMs)
  const limiter = store.bind(specOf(name))
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

const kept = new Map()

/** Keys for every round. Where they are many, each round has its own: a second visit would find its cell in the caches. */
function samplesOf(keys, seed) {
  const name = `${keys} ${seed}`
  let samples = kept.get(name)
  if (samples === undefined) {
    const indexes = randomIndexes(keys, seed)
    const one = () => Array.from({ length: decisions }, () => keyOf(keys === 1 ? 0 : indexes.next().value))
    const first = one()
    samples = Array.from({ length: rounds }, () => (keys > decisions ? one() : first))
    kept.set(name, samples)
  }
  return samples
}

/** Nanoseconds per call of `decide(key)`: best and median round. */
function measure(keys, seed, decide) {
  const samples = samplesOf(keys, seed)
  const warmUp = samplesOf(1, seed)
  for (let round = 0; round < 20; round++) for (const key of warmUp[round]) decide(key)
  return bestAndMedian(
    samples.map((sample) => {
      const started = process.hrtime.bigint()
      for (const key of sample) decide(key)
      return Number(process.hrtime.bigint() - started) / decisions
    }),
  )
}

function bestAndMedian(times) {
  times.sort((a, b) => a - b)
  return { best: times[0], median: times[times.length >> 1] }
}

function measureOurs(region, member, name, keys) {
  const { limiter, out } = limiterOf(region, member, name)
  if (name !== 'concurrency') return measure(keys, 1 + member, (key) => limiter.check(key, 1, out))
  return measure(keys, 1 + member, (key) => {
    limiter.check(key, 1, out)
    limiter.release(out.hold)
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

function rowOf(name, keys, how, { best, median }) {
  return { limiter: name, keys: keys.toLocaleString('en'), how, 'best ns': Math.round(best), 'median ns': Math.round(median) }
}

async function measureBoth(region, name, keys) {
  const one = rowOf(name, keys, '1 thread', measureOurs(region, 0, name, keys))
  return [one, rowOf(name, keys, '2 threads', await measureTwo(region, name, keys))]
}

async function measureFew() {
  const region = createLimiterRegion({ members: 2, cells: 200_000, logEntries: 2 * million, seed: [1, 2] })
  const rows = []
  for (const name of Object.keys(rules)) for (const keys of [1, 1000]) rows.push(...(await measureBoth(region, name, keys)))
  return rows
}

/** A table of its own for each algorithm, with all keys alive. Holds in flight are few, so theirs come and go among 10 million others. */
async function measureMany(name) {
  const isLog = name === 'sliding-log'
  const keys = isLog ? manyLogKeys : manyKeys
  const region = createLimiterRegion({ members: 2, cells: keys * 1.46, logEntries: isLog ? keys * 1.5 * 32 : 1, seed: [1, 2] })
  const { limiter, out, store } = limiterOf(region, 0, name === 'concurrency' ? 'fixed-window' : name)
  for (let index = 0; index < keys; index++) limiter.check(keyOf(index), 1, out)
  const { bytes, sharedDecisions, fullDecisions } = store.stats()
  const fill = `${(bytes / keys).toFixed(1)} bytes a key, ${(store.fill() * 100).toFixed(1)} % of the cells`
  console.log(`${name}: ${keys.toLocaleString('en')} live keys, ${fill}, ${sharedDecisions} shared, ${fullDecisions} full`)
  return measureBoth(region, name, keys)
}

// ---------------------------------------------------------------- Redis

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })
}

async function withRedis(use) {
  // Not before the other rows: until our client is loaded behind it, ioredis slows all strings down (see src/base/string-prototype.ts).
  const { Redis } = await import('ioredis')
  await import(new URL('cluster/redis-store.js', dist))
  const folder = mkdtempSync(join(tmpdir(), 'sluice-micro-'))
  const port = await freePort()
  const server = spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--dir', folder, '--save', ''], { stdio: 'ignore' })
  const ended = new Promise((resolve) => server.once('exit', resolve))
  const client = new Redis({ host: '127.0.0.1', port })
  client.on('error', () => undefined)
  try {
    await client.ping()
    return await use(client, port)
  } finally {
    client.disconnect()
    server.kill('SIGTERM')
    await ended
    rmSync(folder, { recursive: true, force: true })
  }
}

const redisDecisions = 500
const redisRounds = 20
const together = 100

/** `decide()` may return a promise. */
async function measureAwaited(decide, atOnce) {
  const times = []
  for (let round = 0; round < redisRounds; round++) {
    const started = process.hrtime.bigint()
    for (let done = 0; done < redisDecisions; done += atOnce) {
      if (atOnce === 1) await decide(0)
      else await Promise.all(Array.from({ length: atOnce }, (_, index) => decide(index)))
    }
    times.push(Number(process.hrtime.bigint() - started) / redisDecisions)
  }
  return bestAndMedian(times)
}

/** Nanoseconds that the server says it spent on one call of a script; of a hold and its release the mean. */
async function measureServer(client, decide) {
  const times = []
  for (let round = 0; round < redisRounds; round++) {
    await client.config('RESETSTAT')
    for (let done = 0; done < redisDecisions; done += together) {
      await Promise.all(Array.from({ length: together }, (_, index) => decide(index)))
    }
    const stats = await client.info('commandstats')
    const [, perCall] = /cmdstat_evalsha:.*?usec_per_call=([\d.]+)/.exec(stats) ?? []
    if (perCall === undefined) throw new Error(`Redis counted no script: ${stats}`)
    times.push(Number(perCall) * 1000)
  }
  return bestAndMedian(times)
}

async function measureRedis(client, port) {
  const { RedisStore } = await import(new URL('cluster/redis-store.js', dist))
  const { systemClock } = await import(new URL('base/clock.js', dist))
  const ignore = () => undefined
  const counters = {
    called: ignore,
    failed: ignore,
    decidedByPolicy: ignore,
    leased: ignore,
    spent: ignore,
    returned: ignore,
    lost: ignore,
  }
  const local = limiterOf(createLimiterRegion({ members: 1, cells: 10_000, logEntries: 1, seed: [1, 2] }), 0, 'fixed-window').store
  const store = new RedisStore({ clock: systemClock, nodeId: 'bench', workerId: 'bench:0', workers: 1, local, counters, log: ignore })
  const connection = {
    nodes: [{ host: '127.0.0.1', port }],
    username: null,
    password: null,
    database: 0,
    tls: null,
    timeoutMs: 1000,
    sentinel: null,
  }
  const rows = []
  const both = async (name, decide) => {
    // Whoever comes first would else pay for compiling the client.
    await measureAwaited(decide, together)
    rows.push(rowOf(name, 1, 'alone', await measureAwaited(decide, 1)))
    rows.push(rowOf(name, 1, `${together} at a time`, await measureAwaited(decide, together)))
  }
  const server = async (name, decide) => rows.push(rowOf(name, 1, 'time of Redis', await measureServer(client, decide)))
  const { RateLimiterRedis } = await import('rate-limiter-flexible')
  const rival = new RateLimiterRedis({ storeClient: client, points: plenty, duration: windowMs / 1000 })
  for (const [mode, names] of Object.entries({ exact: Object.keys(rules), lease: ['fixed-window'] })) {
    for (const name of names) {
      const limiter = store.bind(specOf(name, { kind: 'redis', mode, connection, onFailure: 'refuse' }))
      const outs = Array.from({ length: together }, () => limiter.decision())
      const decide = async (index) => limiter.release((await limiter.check('10.0.0.0', 1, outs[index])).hold)
      await decide(0)
      if (name === 'fixed-window') await both(`Redis ${mode}`, (index) => limiter.check('10.0.0.0', 1, outs[index]))
      if (mode === 'exact') await server(`Redis exact, ${name}`, decide)
      if (outs[0].basis !== 'exact') throw new Error(`Redis ${mode} did not decide: ${outs[0].basis}`)
    }
  }
  await both('rate-limiter-flexible Redis', () => rival.consume('10.0.0.0'))
  await server('rate-limiter-flexible Redis', () => rival.consume('10.0.0.0'))
  await store.close()
  return rows
}

/** Its decisions are promises: awaited one by one, as a request would. */
async function measureRival() {
  const { RateLimiterMemory } = await import('rate-limiter-flexible')
  const rows = []
  for (const keys of [1, 1000]) {
    const rival = new RateLimiterMemory({ points: plenty, duration: windowMs / 1000 })
    const [sample] = samplesOf(keys, 1)
    const times = []
    for (let round = 0; round < rounds; round++) {
      const started = process.hrtime.bigint()
      for (let index = 0; index < decisions; index++) await rival.consume(sample[index])
      times.push(Number(process.hrtime.bigint() - started) / decisions)
    }
    rows.push(rowOf('rate-limiter-flexible memory', keys, '1 thread', bestAndMedian(times)))
    for (const key of new Set(sample)) await rival.delete(key)
  }
  return rows
}

async function measureAll(isHuge) {
  const rows = isHuge ? [] : await measureFew()
  for (const name of Object.keys(rules)) rows.push(...(await measureMany(name)))
  if (isHuge) return rows
  return [...rows, ...(await measureRival()), ...(await redisRows())]
}

async function redisRows() {
  if (spawnSync('redis-server', ['--version']).status === 0) return withRedis(measureRedis)
  console.log('No rows for Redis: redis-server is not installed (apt-get install redis-server).')
  return []
}

function asMarkdown(rows, isHuge) {
  const columns = Object.keys(rows[0])
  const line = (cells) => `| ${cells.join(' | ')} |`
  const table = [line(columns), line(columns.map(() => '---')), ...rows.map((row) => line(columns.map((column) => row[column])))]
  const machine = `${cpus()[0]?.model}, ${cpus().length} cores, Node ${process.version}, ${new Date().toISOString().slice(0, 10)}`
  const title = `# One rate-limit decision${isHuge ? ', with huge pages' : ''}`
  return `${title}\n\n${machine}. Method: the head of [../micro/limits.mjs](../micro/limits.mjs), which made this table; what was tried: [../notes/limits.md](../notes/limits.md).\n\n${table.join('\n')}\n`
}

async function main() {
  const isHuge = process.argv.includes('--huge-pages')
  const tunable = 'glibc.malloc.hugetlb=1'
  if (isHuge && process.env.GLIBC_TUNABLES !== tunable) {
    const again = spawn(process.execPath, process.argv.slice(1), { stdio: 'inherit', env: { ...process.env, GLIBC_TUNABLES: tunable } })
    process.exitCode = await new Promise((resolve) => again.once('exit', resolve))
    return
  }
  const isOnlyRedis = process.argv.includes('--redis')
  const rows = isOnlyRedis ? await redisRows() : await measureAll(isHuge)
  console.table(rows)
  if (isOnlyRedis || !process.argv.includes('--write')) return
  const file = fileURLToPath(new URL(`../results/limits${isHuge ? '-huge-pages' : ''}.md`, import.meta.url))
  writeFileSync(file, asMarkdown(rows, isHuge))
}

if (isMainThread) await main()
else {
  const { region, member, name, keys, gate } = workerData
  samplesOf(keys, 1 + member)
  meet(gate)
  parentPort.postMessage(measureOurs(region, member, name, keys))
}
