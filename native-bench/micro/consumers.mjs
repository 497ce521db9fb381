/**
 * What many consumers cost: reading them from a file, keeping them, finding their credentials.
 *
 *   npm run build && node native-bench/micro/consumers.mjs [consumers]        (SLUICE_DIST: another build folder)
 *
 * A file with this many consumers (default 1,000,000), each with a key-auth and a jwt-auth credential, goes through the whole check that
 * `start`, reload and `sluice check` make. Lookups: the best of seven rounds of 500,000, by the CPU clock of the process.
 */
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const dist = process.env.SLUICE_DIST === undefined ? new URL('../../dist/', import.meta.url) : pathToFileURL(`${process.env.SLUICE_DIST}/`)
const { checkConfiguration } = await import(new URL('controlplane/check.js', dist))
const { tableBytes } = await import(new URL('shared/consumer-tables.js', dist))
const { ConsumerDirectory } = await import(new URL('dataplane/consumers/directory.js', dist))

const count = Number(process.argv[2] ?? 1_000_000)
const folder = mkdtempSync(join(tmpdir(), 'sluice-consumers-'))
try {
  const file = join(folder, 'sluice.yaml')
  writeConfiguration(file)
  const startedMs = performance.now()
  const cpu = process.cpuUsage()
  const result = await checkConfiguration(file, {})
  if (!result.ok) throw new Error(JSON.stringify(result.errors.slice(0, 3)))
  const { user, system } = process.cpuUsage(cpu)
  const { tables } = result.consumers
  line('consumers / credentials', `${tables.consumerCount} / ${tables.credentialCount}`)
  line('check of the file, wall clock', `${((performance.now() - startedMs) / 1000).toFixed(1)} s`)
  line('check of the file, CPU time of all threads', `${((user + system) / 1e6).toFixed(1)} s`)
  line('peak memory of the process', `${(process.resourceUsage().maxRSS / 1024).toFixed(0)} MiB`)
  line('shared memory per credential', `${(tableBytes(tables) / tables.credentialCount).toFixed(0)} B`)
  const plugins = new Map([
    ['key-auth', result.config.registry.get('key-auth')],
    ['jwt-auth', result.config.registry.get('jwt-auth')],
  ])
  const keys = new ConsumerDirectory(tables, plugins).credentials('key-auth')
  const few = Array.from({ length: 10_000 }, (_, index) => keyOf((index * 7_919) % count))
  const many = Array.from({ length: 500_000 }, (_, index) => keyOf((index * 7_919) % count))
  const wrong = Array.from({ length: 10_000 }, (_, index) => `${keyOf(index)}x`)
  measure('find, one of 10,000 active', keys, few)
  measure('find, one of 500,000: read from shared memory', keys, many)
  measure('find, no such key', keys, wrong)
} finally {
  rmSync(folder, { recursive: true })
}

function keyOf(index) {
  return `k-${((index * 2_654_435_761) >>> 0).toString(16).padStart(8, '0')}-${index.toString(16).padStart(8, '0')}`
}

function writeConfiguration(file) {
  const output = openSync(file, 'w')
  let text = 'routes: [{ id: 1, uri: /*, plugins: { key-auth: {} }, upstream: { nodes: { "127.0.0.1:1980": 1 } } }]\nconsumers:\n'
  for (let index = 0; index < count; index++) {
    const secret = `s-${((index * 40_503) >>> 0).toString(16).padStart(32, 'f')}`
    text += `  - username: user-${index}\n    plugins:\n      key-auth:\n        key: ${keyOf(index)}\n`
    text += `      jwt-auth:\n        key: user-${index}\n        secret: ${secret}\n`
    if (text.length < 1e6) continue
    writeSync(output, text)
    text = ''
  }
  writeSync(output, text)
  closeSync(output)
}

function measure(name, index, keys) {
  let best = Number.POSITIVE_INFINITY
  for (let round = 0; round < 7; round++) {
    const before = process.cpuUsage()
    for (let step = 0; step < 500_000; step++) index.find(keys[step % keys.length])
    const { user, system } = process.cpuUsage(before)
    best = Math.min(best, ((user + system) * 1000) / 500_000)
  }
  line(name, `${best.toFixed(0)} ns`)
}

function line(name, value) {
  console.log(`${name.padEnd(48)} ${value.padStart(18)}`)
}
