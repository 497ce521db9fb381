/**
 * One route lookup: ours against find-my-way, on the same table, in nanoseconds.
 *
 *   npm run build && node native-bench/micro/router.mjs        (SLUICE_DIST: another build folder)
 *
 * The table: half exact paths, half prefixes, all with the method GET. `random` walks through 4,096 different paths, so that at
 * 100,000 routes most lookups find nothing in the processor's caches. Each number is the median of seven rounds.
 */
import { pathToFileURL } from 'node:url'
import findMyWay from 'find-my-way'

const dist = process.env.SLUICE_DIST === undefined ? new URL('../../dist/', import.meta.url) : pathToFileURL(`${process.env.SLUICE_DIST}/`)
const { compileRouterTables } = await import(new URL('controlplane/router-index.js', dist))
const { Router } = await import(new URL('dataplane/router/router.js', dist))

const options = {
  mode: 'radixtree_host_uri',
  path: { encodedSlash: 'keep', doubleSlash: 'merge', deleteTailSlash: false, servlet: false },
}
const rounds = 7
const lookups = 200_000
const sampleSize = 4096

function tableOf(count) {
  return Array.from({ length: count }, (_, index) => (index % 2 === 0 ? `/svc${index}/v1/items` : `/svc${index}/files/*`))
}

function routeOf(uri, index) {
  return {
    id: String(index),
    name: '',
    uris: [uri],
    hosts: [],
    methods: ['GET'],
    remoteAddrs: [],
    vars: null,
    priority: 0,
    serviceId: '',
    serviceName: '',
    labels: {},
    plugins: [],
    upstream: -1,
    timeout: null,
    websocket: false,
  }
}

/** A request path for a pattern, as a string of its own. */
function pathOf(uri) {
  return uri.replace('*', 'a/b.txt')
}

/** Linear congruential generator with a fixed seed: the same paths in every run. */
function* randomIndexes(count) {
  let state = 20_240_701
  for (;;) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    yield state % count
  }
}

function samplesOf(table, kind) {
  if (kind === 'first') return [pathOf(table[0])]
  if (kind === 'last') return [pathOf(table.at(-1))]
  const indexes = randomIndexes(table.length)
  return Array.from({ length: sampleSize }, () => pathOf(table[indexes.next().value]))
}

/** Nanoseconds per call of `look(sample)`; every result is checked, so that nothing is optimised away. */
function measure(samples, look) {
  const times = []
  for (let round = 0; round < rounds; round++) {
    let found = 0
    const started = process.hrtime.bigint()
    for (let index = 0; index < lookups; index++) if (look(samples[index % samples.length])) found++
    times.push(Number(process.hrtime.bigint() - started) / lookups)
    if (found !== lookups) throw new Error(`${lookups - found} of ${lookups} lookups found no route`)
  }
  return times.sort((a, b) => a - b)[rounds >> 1]
}

/** An exchange has far more fields; the router reads these. */
function exchangeOf(path) {
  return { method: 'GET', host: 'example.test', hostHeader: 'example.test', path, clientAddress: '127.0.0.1', uriParams: null }
}

const rows = []
for (const count of [1, 1000, 100_000]) {
  const table = tableOf(count)
  const startedOurs = process.hrtime.bigint()
  const tables = compileRouterTables(table.map(routeOf), options)
  const compileMs = Number(process.hrtime.bigint() - startedOurs) / 1e6
  const router = new Router(tables, () => null)
  const bytes = tables.shards.buffer.byteLength + tables.pages.buffer.byteLength
  const startedTheirs = process.hrtime.bigint()
  const rival = findMyWay()
  for (const uri of table) rival.on('GET', uri, () => undefined)
  const rivalMs = Number(process.hrtime.bigint() - startedTheirs) / 1e6
  for (const kind of ['first', 'last', 'random']) {
    const paths = samplesOf(table, kind)
    const ours = measure(paths.map(exchangeOf), (exchange) => router.match(exchange) >= 0)
    const theirs = measure(paths, (path) => rival.find('GET', path) !== null)
    rows.push({
      routes: count,
      lookup: kind,
      'sluice ns': Math.round(ours),
      'find-my-way ns': Math.round(theirs),
      'sluice build ms': Math.round(compileMs),
      'find-my-way build ms': Math.round(rivalMs),
      'table KiB': Math.round(bytes / 1024),
    })
  }
}
console.table(rows)
